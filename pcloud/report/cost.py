"""Parameters and operations of the network of a run."""

from __future__ import annotations

from typing import Any

import torch

from pcloud.errors import InputError
from pcloud.models.flops import count_flops, flops_per_jet
from pcloud.training.run_folder import RunFolder

__all__ = ["PARTICLES", "run_cost"]

PARTICLES = 50
"""Number of particles of the jet whose operations are counted."""


def run_cost(run: RunFolder) -> tuple[int | None, int | None]:
    """Number of parameters of a network, and of its operations for one event.

    A jet has 50 particles. None for what cannot be counted, such as a network that may not be built
    since its code is not trusted, or operations of a network on several collections.
    """
    try:
        model = run.model().cpu()
        inputs: Any = run.feature_set
    except (InputError, FileNotFoundError):
        return None, None
    number = sum(p.numel() for p in model.parameters())
    shape = {
        "image": lambda: (inputs.channels, inputs.height, inputs.width),
        "series": lambda: (len(inputs), inputs.length),
        "table": lambda: (len(inputs),),
    }.get(inputs.kind)
    try:
        if shape is None:
            return number, flops_per_jet(model, len(inputs), PARTICLES)
        return number, count_flops(model, torch.zeros(1, *shape()))
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return number, None
