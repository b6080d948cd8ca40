"""A network in two: what makes features of a jet, and the linear map from them to logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pcloud.errors import InputError

__all__ = ["HeadSplit"]


class HeadSplit:
    """The last linear layer of a network, and its inputs.

    It is found by looking: the layer whose output is the network's.

    Parameters
    ----------
    model : torch.nn.Module
        Any network that ends in a linear layer, in evaluation mode.
    inputs : tuple
        A batch to call it with.

    Attributes
    ----------
    head : torch.nn.Linear
        The layer.

    Raises
    ------
    InputError
        If no linear layer gives the logits.
    """

    def __init__(self, model: nn.Module, *inputs: Any) -> None:
        self.model = model
        found: list[tuple[nn.Linear, Tensor]] = []
        handles = [
            module.register_forward_hook(_collect(found))
            for module in model.modules()
            if isinstance(module, nn.Linear)
        ]
        try:
            with torch.no_grad():
                logits = model(*inputs)
        finally:
            for handle in handles:
                handle.remove()
        heads = [layer for layer, out in found if out is logits or _same(out, logits)]
        if not heads:
            raise InputError(
                "the last layer of this model is not linear: a Laplace approximation or a "
                "variational head has nothing to stand on"
            )
        self.head = heads[-1]

    @property
    def weight(self) -> Tensor:
        """Weights with the bias, 0 where there is none, as last column, (C, K + 1), float64."""
        weight = self.head.weight.detach().double().cpu()
        bias = weight.new_zeros(len(weight)) if self.head.bias is None else self.head.bias.detach()
        return torch.cat([weight, bias.double().cpu().unsqueeze(1)], dim=1)

    @torch.no_grad()
    def features(self, *inputs: Any) -> Tensor:
        """Inputs of the head with a column of ones, (B, K + 1), float64, of a batch."""
        kept: list[Tensor] = []
        handle = self.head.register_forward_pre_hook(lambda _, args: kept.append(args[0]))
        try:
            self.model(*inputs)
        finally:
            handle.remove()
        x = kept[-1].double().cpu()
        return torch.cat([x, x.new_ones(len(x), 1)], dim=1)


def _collect(found: list[tuple[nn.Linear, Tensor]]) -> Callable[..., None]:
    def hook(layer: nn.Linear, arguments: Any, out: Tensor) -> None:
        found.append((layer, out))

    return hook


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)
