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
from pcloud.nn.numerics.operations import OperationCounter, counting

__all__ = ["count_flops", "flops_per_jet"]


def count_flops(model: nn.Module, *inputs: Any) -> int:
    """Floating-point operations of the matrix products and convolutions in one forward pass.

    A multiplication and an addition count as two. All else, such as norms and activations, is bound
    by memory and does not count. A neighbour search counts as the products of all pairs of a jet,
    2 D for a pair in D dimensions, however neighbours are found.

    The number is that of the formulas of the model on jets without padding: it depends neither on
    the processor and the number of threads nor on the other jets of the batch. It is counted on
    tensors without values (device ``meta``), so that nothing is computed. A model that looks at
    values, for instance to cluster jets, is run on its device instead.

    Parameters
    ----------
    model : torch.nn.Module
        Any model; it is counted in evaluation mode and is left as it was.
    *inputs : Tensor
        Arguments of the model: ``x, p4, batch``, or images.

    Returns
    -------
    int
        Operations for all jets of the batch together.
    """
    inputs = _without_padding(model, inputs)
    with torch.no_grad():
        try:  # on tensors without values, layers take their plain form
            return _count(copy.deepcopy(model).to("meta"), *map(_to_meta, inputs))
        except (RuntimeError, TypeError):  # it needs values, or cannot be copied
            return _count(model, *inputs)


def flops_per_jet(model: nn.Module, in_features: int = 7, num_particles: int = 50) -> int:
    """Operations of a tagger for one jet, see :func:`count_flops`.

    They depend on the number of particles and not on their momenta.

    Parameters
    ----------
    model : torch.nn.Module
        Tagger, ``model(x, p4, batch)``.
    in_features : int
        Features per particle that it takes.
    num_particles : int
        Particles of the jet.
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
    """Adds the operations of every product to a counter."""

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
    """`inputs` of a model of clouds, the fourth one a layout without empty slots."""
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


# Products that torch's own counter does not know.
_PRODUCTS: dict[Any, Any] = {
    torch.ops.aten.mv: _product,
    torch.ops.aten.addmv: _added,
    torch.ops.aten.addmv_: _added,
    torch.ops.aten.addmm_: _added,
    torch.ops.aten.baddbmm_: _added,
}
