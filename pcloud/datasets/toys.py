"""Toy samples in the plane, and a curve, as data sets of tables."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from pcloud.datasets.info import DatasetInfo, Split

_SEEDS = {"train": 1, "val": 2, "test": 3}
_DESCRIPTIONS = {
    "gaussians": "Two Gaussians in the plane, which a straight line separates best",
    "moons": "Two half circles in the plane that interlock",
    "circles": "A circle inside a larger one, in the plane",
    "spirals": "Two spirals in the plane",
    "xor": "Four quadrants of the plane, opposite ones of one class",
    "curve": "A curve with noise: a regression of one variable, --objective y:squared",
}


def _loader(name: str) -> Callable[..., Any]:
    def load(split: str, **options: Any) -> Any:
        make = getattr(import_module("pcloud.tables.toys"), name)
        seed = 10 * options.pop("seed", 0) + _SEEDS[split]
        return make(seed=seed, **options)

    return load


INFOS = [
    DatasetInfo(
        name=name,
        description=text,
        splits={split: Split(()) for split in _SEEDS},
        classes=() if name == "curve" else ("background", "signal"),
        load=_loader(name),
        kind="table",
    )
    for name, text in _DESCRIPTIONS.items()
]
