"""Integration of a velocity field from noise to a sample."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from pcloud.errors import InputError, UnknownNameError

__all__ = ["METHODS", "integrate", "num_passes"]

Velocity = Callable[[Tensor, float], Tensor]
Step = Callable[[Velocity, Tensor, float, float], Tensor]


def midpoint(velocity: Velocity, x: Tensor, time: float, step: float) -> Tensor:
    """Step of the midpoint rule: the velocity in the middle of the step."""
    middle = x + 0.5 * step * velocity(x, time)
    return x + step * velocity(middle, time + 0.5 * step)


def heun(velocity: Velocity, x: Tensor, time: float, step: float) -> Tensor:
    """Step of Heun's rule: the mean of the velocities at both ends of the step."""
    first = velocity(x, time)
    second = velocity(x + step * first, time + step)
    return x + 0.5 * step * (first + second)


METHODS: dict[str, Step] = {"midpoint": midpoint, "heun": heun}
"""Rules of second order by name, each with two passes through the network in a step."""


def num_passes(steps: int) -> int:
    """Number of passes through the network for `steps` steps."""
    return 2 * steps


def integrate(velocity: Velocity, x: Tensor, steps: int, method: str = "midpoint") -> Tensor:
    """Integrate ``dx/dt = velocity(x, t)`` from t = 0 to t = 1 in equal steps.

    Parameters
    ----------
    velocity : callable
        ``velocity(x, t)`` of the shape of `x`, for a time t.
    x : Tensor
        Value at t = 0.
    steps : int
        Number of steps.
    method : {"midpoint", "heun"}
        Rule of a step.

    Returns
    -------
    Tensor
        Value at t = 1.

    Raises
    ------
    InputError
        If `steps` is not positive; `UnknownNameError` if there is no such method.

    Examples
    --------
    >>> import torch
    >>> round(float(integrate(lambda x, t: x, torch.ones(()), steps=100)), 3)
    2.718
    """
    if method not in METHODS:
        raise UnknownNameError("method", method, METHODS)
    if steps < 1:
        raise InputError(f"steps must be at least 1, got {steps}")
    for i in range(steps):
        x = METHODS[method](velocity, x, i / steps, 1 / steps)
    return x
