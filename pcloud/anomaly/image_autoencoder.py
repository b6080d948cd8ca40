"""Convolutional autoencoder on images, and on the images of jets."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.anomaly.detector import Detector, anomaly_logits
from pcloud.errors import InputError
from pcloud.images.jet_images import JetImages
from pcloud.models.registry import register_model
from pcloud.models.sequence_options import sides
from pcloud.nn.layout import RaggedLayout, as_layout
from pcloud.nn.numerics.precision import without_autocast

__all__ = ["ImageAutoencoder", "JetImageAutoencoder"]

_SHRINK = 4  # two poolings over 2x2 pixels
_TINY = 1e-12


@register_model(
    "image_autoencoder",
    paper="1808.08992",
    year=2018,
    use="anomalies among images, denoising",
    kind="anomalous_image",
)
class ImageAutoencoder(Detector):
    """Autoencoder of images with convolutions and a small code between them.

    The score is the squared difference between an image and its reconstruction, divided by the sum of
    the variances of all pixels of the training images: it is 1 on average for a network that gives the
    mean image for all of them.

    Parameters
    ----------
    in_channels : int
        Number of channels of the images.
    num_outputs : int
        Number of classes C, the learned one first.
    size : (int, int)
        Height and width of the images.
    code_size : int
        Number of values of the code.
    width : int
        Number of channels of the first convolution; the second has twice as many.
    hidden : int
        Width of the dense layer before and after the code.
    input_noise : float
        Noise added to the pixels in training, in root mean squares of their variances. The network
        learns to remove it.

    References
    ----------
    Farina, Nakai and Shih, Searching for New Physics with Deep Autoencoders,
    https://arxiv.org/abs/1808.08992; Heimel, Kasieczka, Plehn and Thompson, QCD or What?,
    https://arxiv.org/abs/1808.08979.

    Examples
    --------
    >>> network = ImageAutoencoder(1, size=(8, 8), code_size=3)
    >>> images = torch.rand(2, 1, 8, 8)
    >>> network.code(images).shape, network.reconstruct(images).shape, network(images).shape
    (torch.Size([2, 3]), torch.Size([2, 1, 8, 8]), torch.Size([2, 2]))
    """

    least_gain = 0.05
    mean: Tensor
    second: Tensor
    seen: Tensor

    def __init__(
        self,
        in_channels: int,
        num_outputs: int = 2,
        *,
        size: tuple[int, int],
        code_size: int = 8,
        width: int = 8,
        hidden: int = 64,
        input_noise: float = 0.0,
    ) -> None:
        super().__init__(num_outputs)
        if min(code_size, width, hidden) < 1 or not input_noise >= 0:
            raise InputError(
                "code_size, width and hidden must be positive, and input_noise at least 0"
            )
        self.size = sides("size", size)
        self.input_noise = input_noise
        low = [-(-side // _SHRINK) for side in self.size]
        self.encoder = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1),
            nn.ELU(),
            nn.AvgPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ELU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * width * low[0] * low[1], hidden),
            nn.ELU(),
            nn.Linear(hidden, code_size),
        )
        self.decoder = nn.Sequential(
            nn.Linear(code_size, hidden),
            nn.ELU(),
            nn.Linear(hidden, 2 * width * low[0] * low[1]),
            nn.ELU(),
            nn.Unflatten(1, (2 * width, *low)),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(2 * width, width, 3, padding=1),
            nn.ELU(),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(width, in_channels, 3, padding=1),
        )
        self.register_buffer("mean", torch.zeros(in_channels, *self.size))
        self.register_buffer("second", torch.ones(in_channels, *self.size))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of ``images (B, in_channels, H, W)``, see :func:`anomaly_logits`."""
        return anomaly_logits(self.scores(images), self.num_outputs)

    def scores(self, images: Tensor) -> Tensor:
        """Errors (B,) of the reconstruction, in units of the variance of the training images."""
        if self.training:
            self._update(images)
        return self._error(images, self.code(self._noisy(images)))

    def trivial_scores(self, images: Tensor) -> Tensor:
        """Errors (B,) of reconstructions from the codes of other images."""
        return self._error(images, self.code(images).roll(1, 0))

    def code(self, images: Tensor) -> Tensor:
        """Codes (B, code_size)."""
        right, below = (-side % _SHRINK for side in reversed(self.size))
        return self.encoder(F.pad(images - self.mean, (0, right, 0, below)))

    def reconstruct(self, images: Tensor) -> Tensor:
        """Images (B, in_channels, H, W) from the codes of images."""
        return self.decode(self.code(images))

    def decode(self, code: Tensor) -> Tensor:
        """Images (B, in_channels, H, W) of codes."""
        height, width = self.size
        return self.mean + self.decoder(code)[..., :height, :width]

    def _error(self, images: Tensor, code: Tensor) -> Tensor:
        difference = (self.decode(code) - images).float().square().sum((1, 2, 3))
        return difference / self._variance().sum().clamp(min=_TINY)

    def _noisy(self, images: Tensor) -> Tensor:
        if not (self.training and self.input_noise):
            return images
        return images + self.input_noise * self._variance().mean().sqrt() * torch.randn_like(images)

    def _variance(self) -> Tensor:
        return (self.second - self.mean**2).clamp(min=0)

    @torch.no_grad()
    def _update(self, images: Tensor) -> None:
        """Add a batch to the means of pixels and of their squares."""
        self.seen += 1
        self.mean += (images.float().mean(0) - self.mean) / self.seen
        self.second += (images.float().square().mean(0) - self.second) / self.seen


@register_model(
    "jet_image_autoencoder",
    paper="1808.08979",
    year=2018,
    use="anomalies among jet images",
    inputs="p4",
    kind="anomalous_cloud",
)
class JetImageAutoencoder(Detector):
    """Autoencoder on the images of jets, which are centred, turned and flipped.

    Parameters
    ----------
    in_features : int
        Features per particle F, not used.
    num_outputs : int
        Number of classes C, the learned one first.
    pixels : int
        Number of pixels on a side.
    half_width : float
        Half-width of the image in pseudorapidity and azimuth (rad).
    power : float
        Power to which the pixels, fractions of pT, are raised. A small one lets soft particles count,
        without which the score follows the complexity of a jet.
    **options
        `code_size`, `width`, `hidden` and `input_noise` of :class:`ImageAutoencoder`.

    References
    ----------
    Finke, Kraemer, Morandini, Mueck and Oleksiyuk, Autoencoders for unsupervised anomaly detection in
    high energy physics, https://arxiv.org/abs/2104.09051, for the power and the failure without it.
    """

    least_gain = 0.05

    def __init__(
        self,
        in_features: int,
        num_outputs: int = 2,
        *,
        pixels: int = 32,
        half_width: float = 0.8,
        power: float = 0.5,
        **options: Any,
    ) -> None:
        super().__init__(num_outputs)
        if not 0 < power <= 1:
            raise InputError(f"power must be above 0 and at most 1, got {power:g}")
        self.images = JetImages(("pt",), pixels=pixels, half_width=half_width)
        self.power = power
        self.network = ImageAutoencoder(1, num_outputs, size=(pixels, pixels), **options)

    def forward(
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None = None,
        layout: RaggedLayout | None = None,
    ) -> Tensor:
        """Logits (B, C) from ``p4 (N, 4)`` in GeV and ``batch (N,)``; `x` is not used."""
        return anomaly_logits(self.scores(x, p4, batch, layout), self.num_outputs)

    def scores(
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None = None,
        layout: RaggedLayout | None = None,
    ) -> Tensor:
        """Errors (B,) of the reconstruction."""
        return self.network.scores(self.pictures(x, p4, batch, layout))

    def trivial_scores(
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None = None,
        layout: RaggedLayout | None = None,
    ) -> Tensor:
        """Errors (B,) of reconstructions from the codes of other jets."""
        return self.network.trivial_scores(self.pictures(x, p4, batch, layout))

    def pictures(
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None = None,
        layout: RaggedLayout | None = None,
    ) -> Tensor:
        """Images (B, 1, pixels, pixels) that the autoencoder takes."""
        with without_autocast(p4):  # bfloat16 would move particles to wrong pixels
            images = self.images(x, p4, as_layout(batch, layout, p4))
            filled = torch.where(images > 0, images.clamp(min=_TINY) ** self.power, 0.0)
        return filled.to(self.network.mean.dtype)
