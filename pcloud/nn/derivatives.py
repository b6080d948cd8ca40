"""Derivatives by inputs alone, and higher ones where a fast backward pass knows the first only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

__all__ = [
    "first_derivative",
    "frozen",
    "higher_derivatives",
    "through_relu",
    "wants_higher_derivatives",
]

_WANTED = ContextVar("higher_derivatives", default=False)


@contextmanager
def higher_derivatives() -> Iterator[None]:
    """Context in which every layer can be differentiated again and again, and is slower.

    For the forward pass and all derivatives.
    """
    token = _WANTED.set(True)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        _WANTED.reset(token)


def wants_higher_derivatives() -> bool:
    """Whether a layer must take its plain path."""
    return _WANTED.get()


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Context in which no gradients of the weights are computed, which are half of a way back."""
    free = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in free:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in free:
            parameter.requires_grad_(True)


def first_derivative(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Backward pass of an autograd function that refuses to be differentiated itself.

    PyTorch's ``once_differentiable`` does not do so reliably: the node that raises its error has no
    inputs, so that ``torch.autograd.grad(..., inputs)`` walks around it, and the second derivative
    silently lacks a part.
    """

    @wraps(backward)
    def checked(ctx: Any, *gradients: Any) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "this layer has a first derivative only: take higher ones inside "
                "pcloud.nn.derivatives.higher_derivatives()"
            )
        return backward(ctx, *gradients)

    return checked


def through_relu(grad: Tensor, h: Tensor, out: Tensor) -> None:
    """`grad` from behind a ReLU that gave `h` to before it, into `out`, which may be `grad`."""
    torch.ops.aten.threshold_backward.grad_input(grad, h, 0, grad_input=out)
