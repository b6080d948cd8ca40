"""Handwritten digits of scikit-learn, enlarged, as a data set of images."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from pcloud.datasets.info import DatasetInfo, Split

_SPLITS = ("train", "test")


def _load(split: str, **options: Any) -> Any:
    return import_module("pcloud.images.digits").bundled_digits(split, **options)


INFO = DatasetInfo(
    name="digits",
    description="1,797 handwritten digits of 8x8 pixels, enlarged to 28x28, in scikit-learn",
    splits={name: Split(()) for name in _SPLITS},
    classes=tuple(str(digit) for digit in range(10)),
    load=_load,
    reference="https://archive.ics.uci.edu/dataset/80",
    kind="image",
)
