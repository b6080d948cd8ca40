"""Networks on jet images with the contract of networks on clouds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pcloud.images.build import build_network
from pcloud.images.jet_images import JetImages
from pcloud.images.resnet import Bottleneck, ResNet
from pcloud.models.head import Head
from pcloud.models.registry import register_model
from pcloud.nn.layout import RaggedLayout, as_layout
from pcloud.nn.numerics.precision import without_autocast

__all__ = ["JetImageTagger", "image_cnn", "image_resnext", "jet_images"]


class JetImageTagger(nn.Module):
    """Network on the image of a jet.

    The pixels are fractions of a jet that is spread over about a thousand pixels. They are
    multiplied by the number of pixels on a side, so that the inputs of the network are of order 1.

    Parameters
    ----------
    images : JetImages
        Module that computes the images.
    network : torch.nn.Module
        Network ``network(images) -> logits (B, C)``.
    """

    def __init__(self, images: JetImages, network: nn.Module) -> None:
        super().__init__()
        self.images = images
        self.network = network

    def forward(
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None = None,
        layout: RaggedLayout | None = None,
    ) -> Tensor:
        """Logits (B, C) from ``p4 (N, 4)`` in GeV; only the charge is used of `x`."""
        layout = as_layout(batch, layout, p4)
        with without_autocast(p4):  # bfloat16 would move particles to wrong pixels
            images = self.images(x, p4, layout) * self.images.pixels
        return self.network(images.to(_dtype(self.network)))


@register_model(
    "image_cnn", paper="1701.08784", year=2017, use="a baseline on jet images", inputs="p4"
)
def image_cnn(
    in_features: int,
    num_outputs: int = 2,
    *,
    channels: Sequence[str] = ("pt", "count"),
    charge: int | None = None,
    pixels: int = 37,
    half_width: float = 0.8,
    width: int = 32,
    dropout: float = 0.1,
) -> JetImageTagger:
    """Plain CNN on jet images: four convolutions with batch normalisation, two max-pools.

    Unlike the network of the reference, it has batch normalisation, and it is smaller.

    Parameters
    ----------
    in_features : int
        Features per particle F; only the charge is used.
    num_outputs : int
        Number of outputs, one for each class (C).
    channels, charge, pixels, half_width
        As for :class:`~pcloud.images.JetImages`.
    width : int
        Number of channels of the first two convolutions; the others have twice as many.
    dropout : float
        Dropout probability before the last layer.

    References
    ----------
    Kasieczka et al., Deep-learning top taggers or the end of QCD?,
    https://arxiv.org/abs/1701.08784.
    """
    images = JetImages(channels, pixels=pixels, half_width=half_width, charge=charge)
    return JetImageTagger(images, _cnn(len(images.channels), num_outputs, width, dropout))


@register_model(
    "image_resnext", paper="1902.08570", year=2019, use="the best of jet images", inputs="p4"
)
def image_resnext(
    in_features: int,
    num_outputs: int = 2,
    *,
    channels: Sequence[str] = ("pt",),
    charge: int | None = None,
    pixels: int = 64,
    half_width: float = 0.8,
    dropout: float = 0.5,
    **options: Any,
) -> JetImageTagger:
    """ResNeXt-50 on jet images, with a quarter of the usual channels.

    Parameters
    ----------
    in_features : int
        Features per particle F; only the charge is used.
    num_outputs : int
        Number of outputs, one for each class (C).
    channels, charge, pixels, half_width
        As for :class:`~pcloud.images.JetImages`.
    dropout : float
        Dropout probability before the last layer.
    **options
        Options of :class:`~pcloud.images.ResNet`, such as ``num_blocks``.

    References
    ----------
    Xie et al., https://arxiv.org/abs/1611.05431; in the form of Qu and Gouskos,
    https://arxiv.org/abs/1902.08570.
    """
    images = JetImages(channels, pixels=pixels, half_width=half_width, charge=charge)
    usual: dict[str, Any] = {"width": 16, "block": Bottleneck, "cardinality": 32, "inner_width": 32}
    network = ResNet(len(images.channels), num_outputs, dropout=dropout, **usual | options)
    return JetImageTagger(images, network)


@register_model(
    "jet_images", paper="1407.5675", year=2014, use="any network on images of jets", inputs="p4"
)
def jet_images(
    in_features: int,
    num_outputs: int = 2,
    *,
    network: str = "cnn",
    channels: Sequence[str] = ("pt", "count"),
    charge: int | None = None,
    pixels: int = 37,
    half_width: float = 0.8,
    **options: Any,
) -> JetImageTagger:
    """Any network on images, by its name, on the images of jets.

    Parameters
    ----------
    in_features : int
        Features per particle F; only the charge is used.
    num_outputs : int
        Number of outputs, one for each class (C).
    network : str
        Name of a network on images, such as ``"group_cnn"``.
    channels, charge, pixels, half_width
        As for :class:`~pcloud.images.JetImages`.
    **options
        Options of the network.

    References
    ----------
    Cogan et al., Jet-images: computer vision inspired techniques for jet tagging,
    https://arxiv.org/abs/1407.5675.
    """
    images = JetImages(channels, pixels=pixels, half_width=half_width, charge=charge)
    size = (images.pixels, images.pixels)
    built = build_network(network, len(images.channels), num_outputs, size, **options)
    return JetImageTagger(images, built)


def _cnn(in_channels: int, num_outputs: int, width: int, dropout: float) -> nn.Sequential:
    def block(before: int, after: int) -> tuple[nn.Module, ...]:
        conv = nn.Conv2d(before, after, 3, padding=1, bias=False)
        return conv, nn.BatchNorm2d(after), nn.ReLU()

    network = nn.Sequential(
        *block(in_channels, width),
        *block(width, width),
        nn.MaxPool2d(2),
        *block(width, 2 * width),
        *block(2 * width, 2 * width),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(3),
        nn.Flatten(),
    )
    network.add_module("head", Head([nn.Dropout(dropout)], 9 * 2 * width, num_outputs))
    return network


def _dtype(network: nn.Module) -> torch.dtype:
    return next(network.parameters()).dtype
