"""Residual networks of ordinary or equivariant layers, with the parameter names of torchvision."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pcloud.errors import InputError
from pcloud.images.layers import PLAIN, Layers, group_layers
from pcloud.models.official.state_dict import read_state_dict
from pcloud.models.old_names import accept_old_names
from pcloud.models.registry import register_model
from pcloud.models.sequence_options import layer_widths

__all__ = ["BasicBlock", "Bottleneck", "ResNet", "group_resnet34", "load_pretrained", "resnet34"]


class BasicBlock(nn.Module):
    """Residual block of two 3x3 convolutions and a shortcut.

    Parameters
    ----------
    in_channels : int
        Number of input channels.
    width : int
        Number of channels of the convolutions, and of output channels.
    stride : int
        Stride of the first convolution.
    layers : Layers
        Ordinary or equivariant layers.
    """

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, layers: Layers) -> None:
        super().__init__()
        self.conv1 = layers.conv(in_channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = layers.norm(width)
        self.relu = nn.ReLU()
        self.conv2 = layers.conv(width, width, 3, padding=1, bias=False)
        self.bn2 = layers.norm(width)
        self.downsample = _shortcut(in_channels, width, stride, layers)

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps of feature maps `x`, smaller by the stride."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + self.downsample(x))


class Bottleneck(nn.Module):
    """Residual block of 1x1, grouped 3x3 and 1x1 convolutions and a shortcut (ResNeXt).

    Parameters
    ----------
    in_channels : int
        Number of input channels.
    width : int
        Number of output channels divided by four.
    stride : int
        Stride of the 3x3 convolution.
    layers : Layers
        Ordinary layers; equivariant convolutions have no groups of channels.
    cardinality : int
        Number of groups of channels of the 3x3 convolution.
    inner_width : int
        Number of channels of the 3x3 convolution.
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int,
        layers: Layers,
        *,
        cardinality: int,
        inner_width: int,
    ) -> None:
        super().__init__()
        out = width * self.expansion
        self.conv1 = layers.conv(in_channels, inner_width, 1, bias=False)
        self.bn1 = layers.norm(inner_width)
        self.conv2 = layers.conv(
            inner_width, inner_width, 3, stride=stride, padding=1, bias=False, groups=cardinality
        )
        self.bn2 = layers.norm(inner_width)
        self.conv3 = layers.conv(inner_width, out, 1, bias=False)
        self.bn3 = layers.norm(out)
        self.relu = nn.ReLU()
        self.downsample = _shortcut(in_channels, out, stride, layers)

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps of feature maps `x`, smaller by the stride."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + self.downsample(x))


@partial(accept_old_names, "resnet34")
class ResNet(nn.Module):
    """Residual network: a 7x7 convolution, stages of residual blocks, the mean over pixels.

    Parameters
    ----------
    in_channels : int
        Number of channels of the images.
    num_outputs : int
        Number of outputs, one for each class (C).
    num_blocks : sequence of int
        Number of blocks in each stage.
    width : int
        Number of channels of the first stage, doubled in each further stage.
    block : type
        Type of the blocks, :class:`BasicBlock` or :class:`Bottleneck`.
    cardinality, inner_width : int
        Options of :class:`Bottleneck`; `inner_width` is that of the first stage.
    dropout : float
        Dropout probability before the last layer.
    layers : Layers
        Ordinary or equivariant layers.

    References
    ----------
    He et al., Deep residual learning for image recognition, https://arxiv.org/abs/1512.03385;
    Xie et al., Aggregated residual transformations, https://arxiv.org/abs/1611.05431.
    """

    def __init__(
        self,
        in_channels: int,
        num_outputs: int,
        *,
        num_blocks: Sequence[int] = (3, 4, 6, 3),
        width: int = 64,
        block: type[BasicBlock | Bottleneck] = BasicBlock,
        cardinality: int = 1,
        inner_width: int = 0,
        dropout: float = 0.0,
        layers: Layers = PLAIN,
    ) -> None:
        super().__init__()
        num_blocks = layer_widths("num_blocks", num_blocks)
        self.conv1 = layers.lift(in_channels, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = layers.norm(width)
        self.relu = nn.ReLU()
        self.maxpool = layers.max_pool(3, 2, 1)
        before = width
        for i, number in enumerate(num_blocks):
            options: dict[str, int] = {}
            if inner_width:
                options = {"cardinality": cardinality, "inner_width": inner_width * 2**i}
            stage = []
            for j in range(number):
                stride = 2 if i > 0 and j == 0 else 1
                stage.append(block(before, width * 2**i, stride, layers, **options))
                before = width * 2**i * block.expansion
            self.add_module(f"layer{i + 1}", nn.Sequential(*stage))
        self.pool = layers.pool()
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(before, num_outputs)
        self.stages = [f"layer{i + 1}" for i in range(len(num_blocks))]
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of ``images (B, in_channels, H, W)``."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for stage in self.stages:
            x = self.get_submodule(stage)(x)
        return self.fc(self.dropout(self.pool(x).mean(dim=(-2, -1))))


@register_model(
    "resnet34", paper="1512.03385", year=2015, use="photographs", kind="image", symmetries=()
)
def resnet34(in_channels: int, num_outputs: int, **options: Any) -> ResNet:
    """ResNet-34, with the parameter names of torchvision."""
    return ResNet(in_channels, num_outputs, **options)


@register_model(
    "group_resnet34",
    paper="1602.07576",
    year=2016,
    use="photographs without a preferred direction",
    kind="image",
    symmetries=("rotation",),
)
def group_resnet34(
    in_channels: int, num_outputs: int, *, group: str = "p4", **options: Any
) -> ResNet:
    """ResNet-34 with a score that is invariant under a group of rotations and reflections.

    Parameters
    ----------
    in_channels, num_outputs
        As for :class:`ResNet`.
    group : {"p4", "p4m", "c8", "d8"}
        Rotations by 90 degrees without and with reflections, rotations by 45 degrees without and
        with reflections.
    **options
        Options of :class:`ResNet`. By default there are about as many weights as with 64 ordinary
        channels. With ``width=64 / G`` for G orientations the computing time is about that of the
        ordinary network.
    """
    layers = group_layers(group)
    return ResNet(in_channels, num_outputs, layers=layers, **{"width": layers.width(64)} | options)


def load_pretrained(model: ResNet, path: str | PathLike[str]) -> None:
    """Load pretrained weights, such as those of torchvision, into a network.

    The last layer is loaded only if it has the same shape, so that the number of classes may
    differ. The number of channels of the images must be the same.

    Parameters
    ----------
    model : ResNet
        Network whose weights are replaced.
    path : path
        State dict, saved by ``torch.save``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    InputError
        If it is no state dict, or the weights are not those of this architecture.

    Examples
    --------
    >>> model = resnet34(in_channels=3, num_classes=10)  # doctest: +SKIP
    >>> load_pretrained(model, "resnet34-b627a593.pth")  # doctest: +SKIP
    """
    weights = read_state_dict(Path(path))
    own = model.state_dict()
    kept = {
        name: value
        for name, value in weights.items()
        if not (name.startswith("fc.") and name in own and own[name].shape != value.shape)
    }
    wrong = [
        name
        for name in own.keys() | kept.keys()
        if not name.startswith("fc.")
        and (name not in own or name not in kept or own[name].shape != kept[name].shape)
    ]
    if wrong:
        raise InputError(
            f"{path} does not hold the weights of this network: {len(wrong)} do not fit, such as "
            f"{min(wrong)}"
        )
    model.load_state_dict(own | kept)


def _shortcut(in_channels: int, out_channels: int, stride: int, layers: Layers) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(
        layers.conv(in_channels, out_channels, 1, stride=stride, bias=False),
        layers.norm(out_channels),
    )


def _initialise(model: nn.Module) -> None:
    """Initialise after He, with the fan-in including orientations (torchvision uses the fan-out)."""
    for name, parameter in model.named_parameters():
        if parameter.ndim > 2:
            nn.init.kaiming_normal_(parameter, nonlinearity="relu")
            assert "conv" in name or "downsample" in name
