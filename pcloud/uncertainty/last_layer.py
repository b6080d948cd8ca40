"""Split of a network into its last linear layer and the features in front of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pcloud.errors import InputError

__all__ = ["HeadSplit"]


class HeadSplit:
    """Last linear layer of a network, and its inputs.

    It is the linear layer whose output is the output of the network, found by a forward pass.

    Parameters
    ----------
    model : torch.nn.Module
        Network that ends in a linear layer, in evaluation mode.
    inputs : tuple
        Arguments of a forward pass, such as those of a batch.

    Attributes
    ----------
    head : torch.nn.Linear
        The last linear layer.

    Raises
    ------
    InputError
        If the network does not end in a linear layer.
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
                "the last layer of this model is not linear, as a Laplace approximation or a "
                "variational head requires"
            )
        self.head = heads[-1]

    @property
    def weight(self) -> Tensor:
        """Weights with the bias (0 if there is none) as last column, (C, K + 1), float64."""
        weight = self.head.weight.detach().double().cpu()
        bias = weight.new_zeros(len(weight)) if self.head.bias is None else self.head.bias.detach()
        return torch.cat([weight, bias.double().cpu().unsqueeze(1)], dim=1)

    @torch.no_grad()
    def features(self, *inputs: Any) -> Tensor:
        """Inputs of the head with a column of ones, (B, K + 1), float64, for one batch."""
        recorded: list[Tensor] = []
        handle = self.head.register_forward_pre_hook(lambda _, args: recorded.append(args[0]))
        try:
            self.model(*inputs)
        finally:
            handle.remove()
        x = recorded[-1].double().cpu()
        return torch.cat([x, x.new_ones(len(x), 1)], dim=1)


def _collect(found: list[tuple[nn.Linear, Tensor]]) -> Callable[..., None]:
    def hook(layer: nn.Linear, arguments: Any, out: Tensor) -> None:
        found.append((layer, out))

    return hook


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)
