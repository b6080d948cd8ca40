"""Small CNN with ordinary or equivariant layers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor, nn

from pcloud.errors import InputError
from pcloud.images.layers import PLAIN, Layers, group_layers
from pcloud.models.head import Head
from pcloud.models.registry import register_model
from pcloud.models.sequence_options import for_each_layer, layer_widths, sides
from pcloud.nn.activations import activation_named

__all__ = ["SmallCNN", "group_cnn"]


@register_model("cnn", paper="", year=1998, use="a first network on images", kind="image")
class SmallCNN(nn.Module):
    """Convolutions with activations and pooling, then an MLP; by default with two layers each.

    The first hidden layer on all pixels of the maps is computed as an equivalent convolution with
    filters as large as the maps. It can therefore have orientations, too.

    By default the first two convolutions have no padding. A further one is padded by half the side of
    its filters where nothing would be left of its maps otherwise, and maps of one pixel are not pooled,
    so that there may be any number of convolutions.

    LeNet-5 for images of 28x28 pixels, with a full second convolution, has ``widths=[6, 16]``,
    ``padding=[2, 0]``, ``pooling="average"``, ``activation="tanh"`` and ``head_widths=[120, 84]``.

    Parameters
    ----------
    in_channels : int
        Number of channels of the images.
    num_outputs : int
        Number of outputs, one for each class (C).
    size : (int, int)
        Height and width of the images.
    widths : sequence of int
        Widths of the convolutions; at least one.
    head_widths : sequence of int
        Widths of the hidden layers; at least one.
    kernel_size : int or sequence of int
        Side of the filters in pixels, of all convolutions or of each.
    stride : int or sequence of int
        Step of the filters in pixels, of all convolutions or of each.
    padding : int or sequence of int, optional
        Rows of zeros around the maps, of all convolutions or of each; by default as above.
    activation : {"relu", "sigmoid", "tanh", "linear", "leaky_relu", "elu", "gelu"}
        Activation function after each layer.
    pooling : {"max", "average", "none"}
        Pooling over 2x2 pixels after each convolution.
    batch_norm : bool
        Use batch normalisation after each convolution.
    dropout : float
        Dropout probability before each hidden layer.
    layers : Layers
        Ordinary or equivariant layers.

    Raises
    ------
    InputError
        If there is no convolution or no hidden layer, an option has another number of values than
        there are convolutions, or the images are not square or too small.
    UnknownNameError
        If there is no such activation.

    References
    ----------
    LeCun et al., Gradient-based learning applied to document recognition,
    https://doi.org/10.1109/5.726791.

    Examples
    --------
    >>> model = SmallCNN(1, 10, size=(28, 28))
    >>> model(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        in_channels: int,
        num_outputs: int,
        *,
        size: tuple[int, int],
        widths: Sequence[int] = (8, 16),
        head_widths: Sequence[int] = (64, 32),
        kernel_size: int | Sequence[int] = 5,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | None = None,
        activation: str = "relu",
        pooling: Literal["max", "average", "none"] = "max",
        batch_norm: bool = False,
        dropout: float = 0.0,
        layers: Layers = PLAIN,
    ) -> None:
        super().__init__()
        widths = layer_widths("widths", widths, required=True)
        head_widths = layer_widths("head_widths", head_widths, required=True)
        plan = _plan(
            sides("size", size),
            for_each_layer("kernel_size", kernel_size, len(widths)),
            for_each_layer("stride", stride, len(widths)),
            None if padding is None else for_each_layer("padding", padding, len(widths), least=0),
            pooled=pooling != "none",
        )
        function = activation_named(activation)
        norm = layers.norm if batch_norm else _nothing
        pool = {"max": layers.max_pool, "average": layers.average_pool, "none": _nothing}[pooling]
        parts: list[nn.Module] = []
        for i, (before, width) in enumerate(itertools.pairwise([in_channels, *widths])):
            convolve = layers.conv if i else layers.lift
            window = (plan.kernels[i], plan.strides[i], plan.paddings[i])
            parts += [convolve(before, width, *window), norm(width), function()]
            parts += [pool(2, 2) if plan.pooled[i] else nn.Identity()]
        self.features = nn.Sequential(*parts)
        self.drop = nn.Dropout(dropout)
        first_hidden = layers.full(widths[-1], head_widths[0], plan.side)
        self.hidden = nn.Sequential(first_hidden, function(), layers.pool())
        further = [(nn.Linear(a, b), function()) for a, b in itertools.pairwise(head_widths)]
        hidden = [nn.Flatten(), nn.Dropout(dropout), *itertools.chain.from_iterable(further)]
        self.head = Head(hidden, head_widths[-1], num_outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of ``images (B, in_channels, H, W)``."""
        return self.head(self.hidden(self.drop(self.features(images))))


@register_model(
    "group_cnn",
    paper="1602.07576",
    year=2016,
    use="images without a preferred direction",
    kind="image",
    symmetries=("rotation",),
)
def group_cnn(
    in_channels: int, num_outputs: int, *, size: tuple[int, int], group: str = "p4", **options: Any
) -> SmallCNN:
    """Small CNN with a score that is invariant under a group of rotations and reflections.

    Parameters
    ----------
    in_channels, num_outputs, size
        As for :class:`SmallCNN`.
    group : {"p4", "p4m", "c8", "d8"}
        Rotations by 90 degrees without and with reflections, rotations by 45 degrees without and
        with reflections.
    **options
        Options of :class:`SmallCNN`. The default widths give about as many weights as in the
        ordinary network.

    Examples
    --------
    >>> model = group_cnn(1, 10, size=(28, 28), group="p4").eval()
    >>> image = torch.rand(1, 1, 28, 28)
    >>> turned = image.rot90(1, dims=(2, 3))
    >>> torch.allclose(model(image), model(turned), atol=1e-4)
    True
    """
    layers = group_layers(group)
    usual: dict[str, Any] = {
        "widths": [layers.width(c) for c in (8, 16)],
        "head_widths": [layers.width(64), 32],
    }
    return SmallCNN(in_channels, num_outputs, size=size, layers=layers, **usual | options)


def _nothing(*_: int) -> nn.Module:
    return nn.Identity()


@dataclass(frozen=True)
class _Plan:
    """Windows of the convolutions, whether their maps are pooled, and the side of the last maps."""

    kernels: list[int]
    strides: list[int]
    paddings: list[int]
    pooled: list[bool]
    side: int


def _plan(
    size: tuple[int, int],
    kernels: list[int],
    strides: list[int],
    paddings: list[int] | None,
    *,
    pooled: bool,
) -> _Plan:
    """Choose padding, where it is not given, and pooling so that the convolutions fit the images.

    The first two convolutions are never padded by this. A further one is padded where nothing would
    be left of its maps without, and maps of one pixel are then not pooled.

    Raises
    ------
    InputError
        If the images are too small, or not square.
    """
    sides = list(size)
    plan = _Plan(kernels, strides, [], [], 0)
    for i, (kernel, stride) in enumerate(zip(kernels, strides, strict=True)):
        is_short = i >= 2 and min(sides) < kernel + pooled
        padding = paddings[i] if paddings else is_short * (kernel // 2)
        sides = [(side - kernel + 2 * padding) // stride + 1 for side in sides]
        plan.paddings.append(padding)
        plan.pooled.append(pooled and (min(sides) > 1 or not padding))
        if plan.pooled[-1]:
            sides = [side // 2 for side in sides]
        if min(sides) < 1:
            raise InputError(
                f"images of {size[0]}x{size[1]} are too small for this CNN: nothing is left after "
                f"convolution {i + 1} of {kernel}x{kernel} pixels with stride {stride} and padding "
                f"{padding}{' and its pooling' if plan.pooled[-1] else ''}; more padding, smaller "
                "filters or pooling none may help"
            )
    if sides[0] != sides[1]:
        raise InputError(f"this CNN takes square images, not {size[0]}x{size[1]}")
    return replace(plan, side=sides[0])
