"""Images with their labels, and how a network gets to see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pcloud.batch import JetLoader
from pcloud.errors import InputError

__all__ = [
    "ImageBatch",
    "ImageDataset",
    "ImageFormat",
    "ImageLoader",
    "ImageSet",
    "ScaledNetwork",
    "as_floating",
    "check_scale",
]


@dataclass(frozen=True)
class ImageSet:
    """Images of one size, with labels where they are known.

    Takes slices, index arrays and masks, and has the attributes of an array of jets that a
    training looks at: `fields`, `label`, `attrs`.

    Parameters
    ----------
    images : Tensor, shape (B, C, H, W)
        uint8 or float.
    labels : Tensor, shape (B,), int64, optional
        True classes.
    classes : sequence of str, optional
        Their names.
    """

    images: Tensor
    labels: Tensor | None = None
    classes: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> ImageSet:
        labels = None if self.labels is None else self.labels[index]
        return replace(self, images=self.images[index], labels=labels)

    @property
    def fields(self) -> list[str]:
        """What is known of each image."""
        return ["image"] if self.labels is None else ["image", "label"]

    @property
    def label(self) -> Any:
        """The labels as a NumPy array."""
        return None if self.labels is None else self.labels.numpy()

    @property
    def attrs(self) -> dict[str, Any]:
        """The names of the classes, where they are known."""
        return {} if self.classes is None else {"classes": list(self.classes)}


@dataclass(frozen=True)
class ImageFormat:
    """Size and colours of the images of a network, and the unit of each colour.

    A network sees the values divided by `scale`, in which the training images have a root mean
    square of 1. Nothing is subtracted: black stays zero, which is what padding and turning bring
    in at the borders.

    Parameters
    ----------
    channels, height, width : int
        Shape of the images.
    scale : tuple of float
        One for each colour.
    """

    channels: int
    height: int
    width: int
    scale: tuple[float, ...]

    @classmethod
    def fit(cls, images: Tensor) -> ImageFormat:
        """The format of the training images (B, C, H, W)."""
        squares = [float(images[:, c].double().square().mean()) for c in range(images.shape[1])]
        channels, height, width = images.shape[1:]
        return cls(channels, height, width, tuple(s**0.5 if s else 1.0 for s in squares))

    def __len__(self) -> int:
        """Number of colours: the input features of a network."""
        return self.channels

    @property
    def columns(self) -> tuple[str, ...]:
        """What images must have beside their pixels: nothing."""
        return ()

    jet_columns = columns

    def __call__(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) as a network sees them, float32."""
        scale = torch.tensor(self.scale, device=images.device).view(-1, 1, 1)
        return images.float() / scale

    def check(self, images: Tensor) -> None:
        """Make sure that images have this format.

        Raises
        ------
        InputError
            If they are larger, smaller or of other colours.
        """
        found, expected = tuple(images.shape[1:]), (self.channels, self.height, self.width)
        if found != expected:
            raise InputError(
                f"these images have (colours, height, width) = {found}, the network takes "
                f"{expected}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in a checkpoint."""
        return {
            "images": [self.channels, self.height, self.width],
            "scale": list(self.scale),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ImageFormat:
        """Inverse of `to_dict`."""
        channels, height, width = values["images"]
        return cls(channels, height, width, tuple(values["scale"]))


class ScaledNetwork(nn.Module):
    """A trained network that takes images as they are stored, the scale of its inputs included.

    Parameters
    ----------
    network : torch.nn.Module
        ``network(images) -> logits (B, C)`` of images in the units of its training.
    image_format : ImageFormat
        The units.
    """

    def __init__(self, network: nn.Module, image_format: ImageFormat) -> None:
        super().__init__()
        self.network = network
        self.image_format = image_format

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of stored images (B, C, H, W), uint8 or float."""
        return self.network(self.image_format(images))


def check_scale(model: nn.Module, images: Tensor) -> None:
    """Make sure that a network takes images of integers.

    Raises
    ------
    InputError
        If they are integers, and the scale that belongs to them is not part of the network.
    """
    scaled = any(isinstance(module, ScaledNetwork) for module in model.modules())
    if not images.is_floating_point() and not scaled:
        raise InputError(
            f"a network without a scale of its inputs takes floating-point images, not "
            f"{images.dtype}: give the model() of a run, or pcloud.images.ScaledNetwork(network, "
            "image_format), or images in the units of the network"
        )


def as_floating(images: Tensor) -> Tensor:
    """Images (B, C, H, W) of any type as floating-point numbers of the same values."""
    return images if images.is_floating_point() else images.float()


@dataclass
class ImageBatch:
    """Images as a network sees them, ``images (B, C, H, W)``, and their labels ``y (B,)``.

    With ``teacher (B, C)`` where there are logits of another network to learn from.
    """

    images: Tensor
    y: Tensor | None
    teacher: Tensor | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ImageBatch:
        """The same on a device."""
        return self._apply(lambda t: t.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> ImageBatch:
        """The same in page-locked memory."""
        return self._apply(lambda t: t.pin_memory())

    def _apply(self, change: Any) -> ImageBatch:
        known = [None if t is None else change(t) for t in (self.y, self.teacher)]
        return ImageBatch(change(self.images), *known)


class ImageDataset:
    """Images in memory as a training takes them: what :class:`pcloud.JetDataset` is for jets.

    Parameters
    ----------
    sample : ImageSet
        The images.
    image_format : ImageFormat, optional
        By default fitted to them.

    Attributes
    ----------
    images : Tensor, shape (B, C, H, W)
        As they were stored.
    y : Tensor or None, shape (B,), int64
        Labels.
    feature_set : ImageFormat
        How a network sees them.
    teacher : Tensor or None, shape (B, C)
        Logits of another network, to learn from.
    """

    def __init__(self, sample: ImageSet, image_format: ImageFormat | None = None) -> None:
        self.images = sample.images
        self.y = sample.labels
        self.teacher: Tensor | None = None
        self.feature_set = image_format or ImageFormat.fit(sample.images)
        self.feature_set.check(sample.images)

    def __len__(self) -> int:
        return len(self.images)

    def indices(self) -> range:
        """Numbers of the images."""
        return range(len(self))

    def to_bytes(self) -> bytes:
        """What a checksum is taken of."""
        labels = b"" if self.y is None else self.y.numpy().tobytes()
        return np.ascontiguousarray(self.images.numpy()).tobytes() + labels


class ImageLoader(JetLoader):
    """Batches of an :class:`ImageDataset`: `JetLoader` for images."""

    data: ImageDataset  # type: ignore[assignment]

    def _as_jets(self, data: Any) -> Any:
        return data

    def collate(self, index: Tensor) -> ImageBatch:
        """The batch of some images."""
        images = self.data.feature_set(self.data.images[index])
        known = [None if t is None else t[index] for t in (self.data.y, self.data.teacher)]
        return ImageBatch(images, *known)
