"""Plain multilayer perceptrons."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import nn

__all__ = ["dense_layers", "he_uniform_"]


def dense_layers(widths: Sequence[int], dropout: float = 0.0) -> nn.Sequential:
    """Linear layers of the given `widths`, each followed by ReLU and dropout.

    Examples
    --------
    >>> [type(layer).__name__ for layer in dense_layers([4, 8, 2])]
    ['Linear', 'ReLU', 'Linear', 'ReLU']
    """
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


def he_uniform_(module: nn.Module) -> None:
    """Initialise all linear layers for ReLU (``he_uniform`` of Keras), with biases of zero.

    If the inputs are few and small, such as two angles, the default initialisation of PyTorch
    reduces the signal in every layer, until the scores of all jets agree to four digits.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
