"""CNN of Cohen and Welling for rotated digits, with ordinary and with equivariant layers."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import Tensor, nn

from pcloud.images.layers import PLAIN, Layers, group_layers
from pcloud.models.registry import register_model

__all__ = ["DigitCNN", "p4cnn"]


@register_model("z2cnn", paper="1602.07576", year=2016, use="digits", kind="image", symmetries=())
class DigitCNN(nn.Module):
    """Six 3x3 convolutions and a 4x4 convolution, with max-pooling after the second.

    The output for an image of 28x28 pixels is one pixel. Larger images have several output
    pixels, which are averaged.

    Parameters
    ----------
    in_channels : int
        Number of channels of the images.
    num_outputs : int
        Number of outputs, one for each class (C).
    width : int
        Width of each convolution but the last.
    dropout : float
        Dropout probability after each convolution except the last one.
    layers : Layers
        Ordinary or equivariant layers.

    References
    ----------
    Cohen and Welling, Group equivariant convolutional networks,
    https://arxiv.org/abs/1602.07576.

    Examples
    --------
    >>> DigitCNN(1, 10).eval()(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        in_channels: int,
        num_outputs: int,
        *,
        width: int = 20,
        dropout: float = 0.3,
        layers: Layers = PLAIN,
    ) -> None:
        super().__init__()

        def block(convolution: nn.Module) -> nn.Sequential:
            after = (layers.norm(width), nn.ReLU(), nn.Dropout(dropout))
            return nn.Sequential(convolution, *after)

        self.features = nn.Sequential(
            block(layers.lift(in_channels, width, 3)),
            block(layers.conv(width, width, 3)),
            layers.max_pool(2, 2),
            *(block(layers.conv(width, width, 3)) for _ in range(4)),
        )
        output = layers.conv(width, num_outputs, 4)
        self.head = nn.Sequential(OrderedDict(output=output, pool=layers.pool()))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of ``images (B, in_channels, H, W)`` with sides of at least 28."""
        return self.head(self.features(images)).mean(dim=(-2, -1))


@register_model(
    "p4cnn",
    paper="1602.07576",
    year=2016,
    use="digits without a preferred direction",
    kind="image",
    symmetries=("rotation",),
)
def p4cnn(in_channels: int, num_outputs: int, *, group: str = "p4", **options: Any) -> DigitCNN:
    """P4CNN: seven convolutions on the group of rotations by 90 degrees.

    Parameters
    ----------
    in_channels, num_outputs
        As for :class:`DigitCNN`.
    group : {"p4", "p4m", "c8", "d8"}
        Rotations by 90 degrees without and with reflections, rotations by 45 degrees without and
        with reflections.
    **options
        Options of :class:`DigitCNN`. By default there are about as many weights as with 20
        ordinary channels.
    """
    layers = group_layers(group)
    return DigitCNN(
        in_channels, num_outputs, layers=layers, **{"width": layers.width(20)} | options
    )
