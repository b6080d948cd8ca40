"""Learning-rate schedules: pure functions of the progress of a run.

Progress grows from 0 at the first step to 1 at the last one; a schedule returns the factor on the
peak learning rate. The curve is scaled to the length of the run, and a continued run needs only
its step number to follow it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["SCHEDULES", "Schedule", "constant", "cosine", "flat_decay", "one_cycle", "restarts"]

Schedule = Callable[[float], float]


def constant(progress: float) -> float:
    """Factor 1 throughout."""
    return 1.0


def flat_decay(progress: float) -> float:
    """Factor 1 for the first 70 % of the run, then exponential decay to 1 %.

    weaver lowers the rate once per epoch; here it decreases at every step.
    """
    return 0.01 ** max(0.0, (progress - 0.7) / 0.3)


def one_cycle(progress: float) -> float:
    """Linear increase from 0.1 to 1 in 40 % of the run, decrease to 0.1 in 40 %, then to 1/6000.

    The cycle of 8 + 8 + 4 epochs of the ParticleNet paper (3e-4, 3e-3, 3e-4, 5e-7).
    """
    epoch = 20 * progress
    if epoch <= 8:
        return 0.1 + 0.9 * epoch / 8
    if epoch <= 16:
        return 1 - 0.9 * (epoch - 8) / 8
    return 0.1 + (1 / 6000 - 0.1) * (epoch - 16) / 4


def cosine(progress: float) -> float:
    """Half a period of a cosine, from 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def restarts(progress: float) -> float:
    """Linear warm-up, cosine periods of doubling length, then halving.

    The 35 epochs of LorentzNet: 5 epochs of warm-up, cosine periods of 4, 8 and 16 epochs, and
    from epoch 31, within the last period, a factor 1/2 per epoch.
    """
    epoch = 35 * progress
    if epoch < 5:
        return epoch / 5
    if epoch > 31:
        return cosine(14 / 16) * 0.5 ** (epoch - 31)
    start, period = 5, 4
    while epoch >= start + period:
        start, period = start + period, 2 * period
    return cosine((epoch - start) / period)


SCHEDULES: dict[str, Schedule] = {
    "constant": constant,
    "flat_decay": flat_decay,
    "one_cycle": one_cycle,
    "restarts": restarts,
    "cosine": cosine,
}
"""The schedules by name; one added here can be named in a configuration."""
