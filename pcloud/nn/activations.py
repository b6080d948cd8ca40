"""Activation functions by name, and hidden layers with their own initialisation and dropout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn

from pcloud.errors import UnknownNameError

__all__ = ["ACTIVATIONS", "Maxout", "activation_named", "hidden_layers"]

_PIECES = 2  # linear maps whose maximum a maxout layer takes, as in its paper


class Maxout(nn.Module):
    """Maximum of several linear maps.

    Parameters
    ----------
    in_features, out_features : int
        Numbers of inputs and outputs.
    pieces : int
        Number of linear maps.

    References
    ----------
    Goodfellow et al., Maxout Networks, https://arxiv.org/abs/1302.4389.
    """

    def __init__(self, in_features: int, out_features: int, pieces: int = _PIECES) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, pieces * out_features)
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (..., out_features) of ``x (..., in_features)``."""
        return self.linear(x).unflatten(-1, (self.pieces, -1)).amax(-2)


ACTIVATIONS: dict[str, Callable[[], nn.Module] | None] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "linear": nn.Identity,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "maxout": None,
}
"""Activation functions by name; maxout has none behind its linear maps."""


def activation_named(name: str) -> Callable[[], nn.Module]:
    """Constructor of an activation function of one number, such as those between convolutions.

    ``maxout``, which has maps of its own, and ``selu``, which has its own initialisation and dropout,
    are none.

    Raises
    ------
    UnknownNameError
        If there is no such function.
    """
    known = {n: make for n, make in ACTIVATIONS.items() if make is not None and n != "selu"}
    if name not in known:
        raise UnknownNameError("activation", name, known)
    return known[name]


def hidden_layers(
    widths: Sequence[int], activation: str = "relu", dropout: float = 0.0, *, norm: bool = False
) -> list[nn.Module]:
    """Linear maps, each followed by a normalisation, an activation and dropout.

    With ``selu`` the weights have the variance 1 / inputs and dropout is `AlphaDropout`, which
    together keep mean 0 and variance 1 from layer to layer.

    Parameters
    ----------
    widths : sequence of int
        Number of inputs, then the widths of the layers.
    activation : str
        Name in `ACTIVATIONS`.
    dropout : float
        Dropout probability after each layer; no layer for 0.
    norm : bool
        Batch normalisation before each activation.

    Raises
    ------
    UnknownNameError
        If there is no such activation.

    References
    ----------
    Klambauer et al., Self-Normalizing Neural Networks, https://arxiv.org/abs/1706.02515.
    """
    if activation not in ACTIVATIONS:
        raise UnknownNameError("activation", activation, ACTIVATIONS)
    function = ACTIVATIONS[activation]
    is_selu = activation == "selu"
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        linear: nn.Module = Maxout(a, b) if function is None else nn.Linear(a, b)
        if is_selu and isinstance(linear, nn.Linear):
            nn.init.kaiming_normal_(linear.weight, nonlinearity="linear")
            nn.init.zeros_(linear.bias)
        layers += [linear, *([nn.BatchNorm1d(b)] if norm else [])]
        layers += [] if function is None else [function()]
        if dropout:
            layers.append(nn.AlphaDropout(dropout) if is_selu else nn.Dropout(dropout))
    return layers
