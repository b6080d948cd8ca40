"""Jets for tests: on a calorimeter grid, and in another order."""

from __future__ import annotations

import awkward as ak
import numpy as np

from pcloud.io.jets import MOMENTUM

__all__ = ["on_a_grid", "shuffled"]


def on_a_grid(jets: ak.Array, step: float = 0.1) -> ak.Array:
    """The same jets as a calorimeter of square cells sees them, before cells are summed."""
    p4 = jets.p4
    pt = np.hypot(p4.px, p4.py)
    eta = np.round(np.arcsinh(p4.pz / pt) / step) * step
    phi = np.round(np.arctan2(p4.py, p4.px) / step) * step
    columns = [pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)]
    cells = ak.zip(dict(zip(MOMENTUM, columns, strict=True)), with_name="Momentum4D")
    return ak.with_field(jets, ak.values_astype(cells, np.float32), "p4")


def shuffled(jets: ak.Array, seed: int) -> tuple[ak.Array, ak.Array]:
    """The jets with their particles in another order, and that order."""
    counts = ak.num(jets.p4, axis=1)
    random = np.random.default_rng(seed).random(int(ak.sum(counts)))
    order = ak.argsort(ak.unflatten(random, counts), axis=1)
    columns = {
        name: jets[name][order] if jets[name].ndim == 2 else jets[name] for name in jets.fields
    }
    return ak.Array(ak.zip(columns, depth_limit=1), attrs=jets.attrs), order
