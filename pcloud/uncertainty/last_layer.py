"""Split of a network into its last linear layer and the features in front of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pcloud.errors import InputError
from pcloud.models.head import output_layer

__all__ = ["HeadSplit"]


class HeadSplit:
    """Last linear layer of a network, and its inputs.

    The layer is that of :func:`~pcloud.models.head.output_layer`.

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
        If the last layer is not linear, or its outputs are not the logits.
    """

    def __init__(self, model: nn.Module, *inputs: Any) -> None:
        self.model = model
        with torch.no_grad():
            logits = model(*inputs)
        _, layer = output_layer(model, logits.shape[-1]) or ("", None)
        if not isinstance(layer, nn.Linear) or not _gives(layer, logits, model, inputs):
            raise InputError(
                "the last layer of this model is not linear, as a Laplace approximation or a "
                "variational head requires"
            )
        self.head = layer

    @property
    def weight(self) -> Tensor:
        """Weights with the bias (0 if there is none) as last column, (C, K + 1), float64."""
        weight = self.head.weight.detach().double().cpu()
        bias = weight.new_zeros(len(weight)) if self.head.bias is None else self.head.bias.detach()
        return torch.cat([weight, bias.double().cpu().unsqueeze(1)], dim=1)

    @torch.no_grad()
    def features(self, *inputs: Any) -> Tensor:
        """Inputs of the head with a column of ones, (B, K + 1), float64, of a batch."""
        x = _calls(self.head, self.model, inputs)[-1][0].double().cpu()
        return torch.cat([x, x.new_ones(len(x), 1)], dim=1)


@torch.no_grad()
def _gives(layer: nn.Module, logits: Tensor, model: nn.Module, inputs: tuple[Any, ...]) -> bool:
    """Return True if the outputs of `layer` are the `logits` of a network."""
    calls = _calls(layer, model, inputs)
    return bool(calls) and torch.equal(calls[-1][1], logits)


def _calls(
    layer: nn.Module, model: nn.Module, inputs: tuple[Any, ...]
) -> list[tuple[Tensor, Tensor]]:
    """Input and output of each call of `layer` in a forward pass of a network."""
    calls: list[tuple[Tensor, Tensor]] = []
    handle = layer.register_forward_hook(lambda _, args, out: calls.append((args[0], out)))
    try:
        model(*inputs)
    finally:
        handle.remove()
    return calls
