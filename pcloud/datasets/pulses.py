"""Synthetic detector pulses as a data set."""

from __future__ import annotations

from typing import Any

from pcloud.datasets.info import DatasetInfo, Split

_SEEDS = {"train": 1, "val": 2, "test": 3}


def _load(split: str, *, seed: int = 0, **options: Any) -> Any:
    from pcloud.series.pulses import simulate_pulses

    return simulate_pulses(seed=10 * seed + _SEEDS[split], **options)


INFO = DatasetInfo(
    name="pulses",
    description="Synthetic pulses of a cryogenic detector, of which half have an artefact",
    splits={name: Split(()) for name in _SEEDS},
    classes=("artefact", "pulse"),
    load=_load,
    kind="series",
)
