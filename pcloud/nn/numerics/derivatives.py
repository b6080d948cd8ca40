"""Choice between plain formula and kernel, and derivatives of higher order.

Each layer is written as its plain formula. Some layers also have a faster kernel. The plain formula
supports everything: it can be compiled, exported, transformed by `torch.func` and differentiated
any number of times. The kernel is used where :func:`kernel_allowed` returns True.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch._C import _functorch
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from pcloud.errors import InputError

__all__ = [
    "first_derivative",
    "frozen",
    "higher_derivatives",
    "is_recorded",
    "kernel_allowed",
    "outside_transforms",
    "through_relu",
]

P = ParamSpec("P")
T = TypeVar("T")

_HIGHER_DERIVATIVES = ContextVar("higher_derivatives", default=False)


@contextmanager
def higher_derivatives() -> Iterator[None]:
    """Context in which every layer uses its plain formula, which has derivatives of any order.

    Compute both the forward pass and the derivatives inside it::

        with higher_derivatives():
            (slope,) = torch.autograd.grad(model(x, p4, batch).sum(), x, create_graph=True)
            slope.square().sum().backward()

    Examples
    --------
    >>> with higher_derivatives():
    ...     kernel_allowed(torch.ones(1))
    False
    """
    token = _HIGHER_DERIVATIVES.set(True)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        _HIGHER_DERIVATIVES.reset(token)


def is_recorded() -> bool:
    """Return True while :func:`torch.export.export` records a network, not while it is compiled."""
    return torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling()


def kernel_allowed(*tensors: Tensor) -> bool:
    """Return True where a layer may use its kernel instead of its plain formula.

    A kernel works on the memory of ordinary tensors and has a first derivative only. It is not
    allowed

    - while a graph is captured: `torch.compile`, `torch.export`, `torch.onnx`, `torch.jit.trace`;
    - under a transform of `torch.func` or in forward-mode differentiation;
    - inside :func:`higher_derivatives`;
    - for tensors without memory (fake, meta), other subclasses of Tensor, and empty tensors.

    Parameters
    ----------
    *tensors : Tensor
        Inputs of the kernel.

    Examples
    --------
    >>> kernel_allowed(torch.ones(0, 4))  # nothing to compute
    False
    """
    # This test comes first: a compiler cannot trace the following ones.
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or torch.onnx.is_in_onnx_export():
        return False
    if _HIGHER_DERIVATIVES.get() or _transforming():
        return False
    return all(_has_values(tensor) for tensor in tensors)


def _transforming() -> bool:
    """Return True under `torch.func` or inside a level of forward-mode differentiation.

    This is a property of the process, not of the inputs: parameters can be wrapped, too.
    """
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def _has_values(tensor: Tensor) -> bool:
    """Return True for an ordinary tensor that is not empty and whose values can be read."""
    ordinary = type(tensor) in (Tensor, nn.Parameter) and not tensor.is_meta
    return ordinary and tensor.numel() > 0 and not _functorch.is_legacy_batchedtensor(tensor)


def outside_transforms(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function of indices so that it runs outside all transforms of `torch.func`.

    Inside a transform, every result of an operation is wrapped, and the values of a wrapped tensor
    cannot be read on the host. Indices have no derivatives, so no derivative is lost.

    Raises
    ------
    InputError
        If an argument is batched by `torch.func.vmap`.
    """

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> T:
        if not torch._C._are_functorch_transforms_active():
            return function(*args, **kwargs)
        values = [_unwrapped(value, function) for value in args]
        options = {name: _unwrapped(value, function) for name, value in kwargs.items()}
        with torch._C._DisableFuncTorch():
            return function(*values, **options)

    return called


def _unwrapped(value: Any, function: Callable[..., Any]) -> Any:
    while isinstance(value, Tensor) and _functorch.is_functorch_wrapped_tensor(value):
        if _functorch.is_batchedtensor(value):
            raise InputError(
                f"{function.__qualname__} computes the structure of a batch of jets, which "
                "torch.func.vmap cannot vary: it must be the same for all"
            )
        value = _functorch.get_unwrapped(value)
    return value


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Disable weight gradients, about half the cost of a backward pass."""
    free = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in free:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in free:
            parameter.requires_grad_(True)


def first_derivative(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate the backward pass of an autograd function that has a first derivative only.

    Such a pass works in chunks, in place and on saved intermediate results: autograd cannot record
    it. The decorated pass raises a `RuntimeError` where the gradient is to be differentiated again
    (``create_graph=True``) or where several gradients are computed at once
    (``is_grads_batched=True``).

    PyTorch's ``once_differentiable`` raises an error only if the second backward pass reaches its
    node. This node has no inputs, so that no path connects it to a parameter or an input.
    ``torch.autograd.grad(..., inputs)`` skips it, and the terms of the second derivative that pass
    through the layer are missing without an error.
    """

    @wraps(backward)
    def checked(ctx: Any, *gradients: Any) -> Any:
        batched = any(map(_functorch.is_legacy_batchedtensor, gradients))
        if torch.is_grad_enabled() or _transforming() or batched:
            raise RuntimeError(
                "the kernel of this layer has a first derivative only: compute the forward pass "
                "and all derivatives inside pcloud.nn.numerics.derivatives.higher_derivatives()"
            )
        return backward(ctx, *gradients)

    return checked


def through_relu(grad: Tensor, h: Tensor, out: Tensor) -> None:
    """Write the gradient of the input of a ReLU to `out`.

    Parameters
    ----------
    grad : Tensor
        Gradient of the output.
    h : Tensor
        Output of the ReLU.
    out : Tensor
        Gradient of the input; may be `grad` itself.
    """
    torch.ops.aten.threshold_backward.grad_input(grad, h, 0, grad_input=out)
