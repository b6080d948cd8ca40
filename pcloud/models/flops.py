"""Number of operations of a model, the same on every machine."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from pcloud.nn.layout import RaggedLayout
from pcloud.nn.numerics.derivatives import higher_derivatives
from pcloud.nn.numerics.operations import OperationCounter, counting

__all__ = ["count_flops", "flops_per_jet"]


def count_flops(model: nn.Module, *inputs: Any) -> int:
    """Floating-point operations of the matrix products and convolutions in one forward pass.

    A multiplication and an addition count as two operations. Other layers, such as norms and
    activations, are limited by memory bandwidth and not counted. A neighbour search counts as the
    products of all pairs of a jet, 2 D for a pair in D dimensions, whichever method finds the
    neighbours.

    The number follows from the formulas of the model on jets without padding. It depends neither on
    the processor and the number of threads nor on the other jets of the batch. It is counted on
    tensors without values (device ``meta``), so that nothing is computed. A model that depends on
    values, for instance to cluster jets, runs on its own device instead.

    Parameters
    ----------
    model : torch.nn.Module
        Any model. It is counted in evaluation mode, and its mode is restored.
    *inputs : Tensor
        Arguments of the model: ``x, p4, batch``, or images.

    Returns
    -------
    int
        Number of operations for all jets of the batch.
    """
    inputs = _without_padding(model, inputs)
    with torch.no_grad():
        try:  # layers use their plain formula on tensors without values
            return _count(copy.deepcopy(model).to("meta"), *map(_to_meta, inputs))
        except (RuntimeError, TypeError):  # the model needs values, or cannot be copied
            with higher_derivatives():  # plain formulas here, too
                return _count(model, *inputs)


def flops_per_jet(model: nn.Module, in_features: int = 7, num_particles: int = 50) -> int:
    """Number of operations of a tagger for one jet, see :func:`count_flops`.

    It depends on the number of particles and not on their momenta.

    Parameters
    ----------
    model : torch.nn.Module
        Tagger, ``model(x, p4, batch)``.
    in_features : int
        Features per particle F.
    num_particles : int
        Number of particles of the jet.
    """
    particle = torch.arange(num_particles, dtype=torch.float64)
    pt = 100 / (1 + particle)
    eta = 0.4 * torch.sin(particle)
    phi = 0.4 * torch.cos(2.4 * particle)
    p4 = torch.stack([pt * eta.cosh(), pt * phi.cos(), pt * phi.sin(), pt * eta.sinh()], dim=-1)
    batch = torch.zeros(num_particles, dtype=torch.long)
    return count_flops(model, torch.zeros(num_particles, in_features), p4, batch)


def _count(model: nn.Module, *inputs: Any) -> int:
    training = [module for module in model.modules() if module.training]
    try:
        with counting() as counter, _Products(counter):
            model.eval()(*inputs)
    finally:
        for module in training:
            module.training = True
    return counter.total


class _Products(TorchDispatchMode):
    """Dispatch mode that adds the operations of every product to a counter."""

    def __init__(self, counter: OperationCounter) -> None:
        super().__init__()
        self.counter = counter
        self.formulas = _PRODUCTS | flop_registry

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        formula = self.formulas.get(func.overloadpacket)
        if formula is not None:
            self.counter.add(formula(*args, **kwargs, out_val=result))
        return result


def _without_padding(model: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Add a layout without empty slots to the inputs of a model of clouds."""
    if len(inputs) != 3 or "layout" not in inspect.signature(model.forward).parameters:
        return inputs
    ptr = RaggedLayout.from_batch(inputs[2]).ptr
    return *inputs, RaggedLayout.from_ptr(ptr, spread=1.0, short=1)


def _to_meta(value: Any) -> Any:
    return value.to("meta") if isinstance(value, Tensor | RaggedLayout) else value


def _product(a: Tensor, b: Tensor, **_: Any) -> int:
    return 2 * a.numel() * (b.shape[-1] if b.dim() > 1 else 1)


def _added(_: Tensor, a: Tensor, b: Tensor, **options: Any) -> int:
    return _product(a, b)


# Products that torch's own counter does not count.
_PRODUCTS: dict[Any, Any] = {
    torch.ops.aten.mv: _product,
    torch.ops.aten.addmv: _added,
    torch.ops.aten.addmv_: _added,
    torch.ops.aten.addmm_: _added,
    torch.ops.aten.baddbmm_: _added,
}
