"""The head of a network: hidden layers, and the last map to the outputs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from pcloud.errors import InputError
from pcloud.nn.layout import RaggedLayout
from pcloud.words import number_of

__all__ = ["Head", "is_last_map", "mlp_head", "output_layer", "with_jet_features"]

_RULE = "head.output"


class Head(nn.Sequential):
    """Hidden layers, then the linear map `output` to the outputs of the network.

    Parameters
    ----------
    hidden : iterable of Module
        Layers before the last map, none for a linear head.
    width : int
        Number of inputs of the last map.
    num_outputs : int
        Number of outputs of the network.
    """

    output: nn.Linear

    def __init__(self, hidden: Iterable[nn.Module], width: int, num_outputs: int) -> None:
        super().__init__(*hidden)
        self.output = nn.Linear(width, num_outputs)


def mlp_head(widths: Sequence[int], num_outputs: int, dropout: float, *, bias: bool = True) -> Head:
    """Head whose hidden layers are linear maps, each followed by ReLU and dropout.

    Parameters
    ----------
    widths : sequence of int
        Number of inputs, then the widths of the hidden layers.
    num_outputs : int
        Number of outputs of the network.
    dropout : float
        Dropout probability.
    bias : bool
        Hidden layers with a constant term; the last map always has one.
    """
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b, bias), nn.ReLU(), nn.Dropout(dropout)]
    return Head(layers, widths[-1], num_outputs)


def with_jet_features(
    pooled: Tensor, layout: RaggedLayout, u: Tensor | None, num_jet_features: int
) -> Tensor:
    """Input of a head: the pooled particles (B, D) and the features of the jets ``u (B, G)``.

    Parameters
    ----------
    pooled : Tensor, shape (B, D)
        One row for each jet.
    layout : RaggedLayout
        Layout of the batch, which can carry `u`.
    u : Tensor, shape (B, G), or None
        Features of the jets.
    num_jet_features : int
        G; with 0, `pooled` is returned.

    Raises
    ------
    InputError
        If `u` is absent or has another number of features.
    """
    if num_jet_features == 0:
        return pooled
    u = layout.u if u is None else u
    found = 0 if u is None else u.shape[-1]
    if u is None or found != num_jet_features:
        raise InputError(
            f"this network takes {number_of(num_jet_features, 'feature')} of jets, u, and got {found}"
        )
    return torch.cat([pooled, u.to(pooled.dtype)], dim=-1)


def is_last_map(name: str) -> bool:
    """Return whether a layer of a network is its last map by its name, ``head.output``."""
    return f".{name}".endswith(f".{_RULE}")


def output_layer(model: nn.Module, num_outputs: int) -> tuple[str, nn.Module] | None:
    """Find the last map of a network.

    In the networks of this library it is ``head.output``, inside a wrapper with the name of the
    wrapped network before it. Of any other network it is the layer defined last that has one row
    of weights for each output.

    Parameters
    ----------
    model : torch.nn.Module
        Any network.
    num_outputs : int
        Number of its outputs.

    Returns
    -------
    tuple of str and Module, or None
        Name and layer; None if there is no such layer.
    """
    layers = list(model.named_modules())
    by_rule = [(name, layer) for name, layer in layers if is_last_map(name)]
    by_size = [(name, layer) for name, layer in layers if _rows(layer) == num_outputs]
    found = by_rule or by_size
    return found[-1] if found else None


def _rows(layer: nn.Module) -> int | None:
    weight = getattr(layer, "weight", None)
    return len(weight) if isinstance(weight, Tensor) and weight.dim() > 1 else None
