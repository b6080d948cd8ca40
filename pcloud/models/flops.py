"""How much arithmetic a model does."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["count_flops"]


@torch.no_grad()
def count_flops(model: nn.Module, *inputs: Tensor) -> int:
    """Floating-point operations of the matrix products and convolutions in one forward pass.

    A multiplication and an addition count as two. All else, such as norms and activations, is bound
    by memory and does not count.

    Parameters
    ----------
    model : torch.nn.Module
        Any model; it runs in evaluation mode and is left as it was.
    *inputs : Tensor
        What it takes: ``x, p4, batch``.

    Returns
    -------
    int
        Operations for all jets of the batch together.
    """
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    formulas = _PRODUCTS | flop_registry
    total = 0

    class Counter(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            nonlocal total
            result = func(*args, **(kwargs or {}))
            if func.overloadpacket in formulas:
                total += formulas[func.overloadpacket](*args, **(kwargs or {}), out_val=result)
            return result

    was_training = model.training
    with Counter():
        model.eval()(*inputs)
    model.train(was_training)
    return total


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
