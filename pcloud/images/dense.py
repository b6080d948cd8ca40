"""Network with hidden layers on whole images, and the same with rotated filters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from pcloud.errors import InputError
from pcloud.images.layers import PLAIN, Layers, group_layers
from pcloud.models.head import Head
from pcloud.models.registry import register_model
from pcloud.models.sequence_options import layer_widths, sides
from pcloud.nn.activations import activation_named, hidden_layers

__all__ = ["Dense", "rotated_dense"]


@register_model(
    "dense", paper="", year=1986, use="a baseline without convolutions", kind="image", symmetries=()
)
class Dense(nn.Module):
    """Hidden layers on all pixels, by default one.

    Parameters
    ----------
    in_channels : int
        Number of channels of the images.
    num_outputs : int
        Number of outputs, one for each class (C).
    size : (int, int)
        Height and width of the images.
    width : int
        Number of filters, each as large as the image.
    head_widths : sequence of int
        Widths of further hidden layers.
    activation : {"relu", "sigmoid", "tanh", "linear", "leaky_relu", "elu", "gelu"}
        Activation function after each hidden layer.
    dropout : float
        Dropout probability after each hidden layer.
    invariant : bool
        Use only the largest activation of each filter over its orientations.
    layers : Layers
        Ordinary layers, or layers with each filter in several orientations.

    Raises
    ------
    InputError
        If the images are not square.
    UnknownNameError
        If there is no such activation.

    Examples
    --------
    >>> Dense(1, 10, size=(8, 8))(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        in_channels: int,
        num_outputs: int,
        *,
        size: tuple[int, int],
        width: int = 100,
        head_widths: Sequence[int] = (),
        activation: str = "relu",
        dropout: float = 0.0,
        invariant: bool = False,
        layers: Layers = PLAIN,
    ) -> None:
        super().__init__()
        height, breadth = sides("size", size)
        if height != breadth:
            raise InputError(f"this network takes square images, not {height}x{breadth}")
        orientations = 1 if invariant else layers.order
        self.hidden = nn.Sequential(
            layers.lift(in_channels, width, height),
            activation_named(activation)(),
            layers.pool() if invariant else nn.Identity(),
            nn.Flatten(),
            nn.Dropout(dropout),
        )
        widths = [width * orientations, *layer_widths("head_widths", head_widths)]
        self.head = Head(hidden_layers(widths, activation, dropout), widths[-1], num_outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of ``images (B, in_channels, H, W)``."""
        return self.head(self.hidden(images))


@register_model(
    "rotated_dense",
    paper="1602.07576",
    year=2016,
    use="a baseline with rotated filters",
    kind="image",
    symmetries=(),
)
def rotated_dense(
    in_channels: int, num_outputs: int, *, size: tuple[int, int], group: str = "p4", **options: Any
) -> Dense:
    """One hidden layer with each filter in several orientations, which share their weights.

    Parameters
    ----------
    in_channels, num_outputs, size
        As for :class:`Dense`.
    group : {"p4", "p4m", "c8", "d8"}
        Rotations by 90 degrees without and with reflections, rotations by 45 degrees without and
        with reflections.
    **options
        Options of :class:`Dense`. With ``invariant=True`` the score does not change under
        rotations of the image.
    """
    return Dense(in_channels, num_outputs, size=size, layers=group_layers(group), **options)
