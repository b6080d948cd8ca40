"""Labelled images, their scaling for a network, and batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from annotated_types import Interval
from torch import Tensor, nn
from typing_extensions import TypedDict

from pcloud.batch import JetLoader
from pcloud.errors import InputError
from pcloud.text import for_terminal
from pcloud.validation import checked
from pcloud.words import number_of

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
    """Images of one size, with optional labels.

    It can be indexed by slices, index arrays and masks, and has the attributes `fields`, `label`
    and `attrs` of an array of jets, which the training uses.

    Parameters
    ----------
    images : Tensor, shape (B, C, H, W)
        Images, uint8 or float.
    labels : Tensor, shape (B,), int64, optional
        True classes.
    classes : sequence of str, optional
        Names of the classes.

    Examples
    --------
    >>> ImageSet(torch.zeros(3, 1, 8, 8), torch.tensor([0, 1, 1]), ["a", "b"]).classes
    ['a', 'b']
    """

    images: Tensor
    labels: Tensor | None = None
    classes: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        """Number, size and classes of the images."""
        number, channels, height, width = self.images.shape
        classes = f" of classes {', '.join(self.classes)}" if self.classes else ""
        size = f"{channels}x{height}x{width}"
        images = number_of(number, "image")
        return for_terminal(f"ImageSet of {images}, {size} pixels{classes}")

    def __getitem__(self, index: Any) -> ImageSet:
        labels = None if self.labels is None else self.labels[index]
        return replace(self, images=self.images[index], labels=labels)

    @property
    def fields(self) -> list[str]:
        """Names of the available fields."""
        return ["image"] if self.labels is None else ["image", "label"]

    @property
    def label(self) -> Any:
        """Labels as a NumPy array; None without labels."""
        return None if self.labels is None else self.labels.numpy()

    @property
    def attrs(self) -> dict[str, Any]:
        """Names of the classes, if they are known."""
        return {} if self.classes is None else {"classes": list(self.classes)}


_Size = Annotated[int, Interval(ge=1, le=10**5)]


class _StoredFormat(TypedDict):
    """Plain values of an image format."""

    images: tuple[_Size, _Size, _Size]
    scale: tuple[Annotated[float, Interval(gt=0, le=1e30)], ...]


@dataclass(frozen=True)
class ImageFormat:
    """Size and number of channels of the images of a network, and the scale of each channel.

    The inputs of the network are the pixels divided by `scale`, which gives the training images a
    root mean square of 1. No mean is subtracted, so that black is zero, the value that padding and
    rotations insert at the borders.

    Parameters
    ----------
    channels, height, width : int
        Shape of the images.
    scale : tuple of float
        Scale of each channel.
    """

    kind: ClassVar[str] = "image"

    channels: int
    height: int
    width: int
    scale: tuple[float, ...]

    @classmethod
    def fit(cls, images: Tensor) -> ImageFormat:
        """Determine the format of training images (B, C, H, W)."""
        squares = [float(images[:, c].double().square().mean()) for c in range(images.shape[1])]
        channels, height, width = images.shape[1:]
        return cls(channels, height, width, tuple(s**0.5 if s else 1.0 for s in squares))

    def __len__(self) -> int:
        """Number of channels, the input features of a network."""
        return self.channels

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of required columns: none, since images have only pixels."""
        return ()

    jet_columns = columns
    names = columns  # colours have no names

    @property
    def standardisation(self) -> ImageFormat:
        """The format: images have their own units."""
        return self

    def __call__(self, images: Tensor) -> Tensor:
        """Scale images (B, C, H, W) to the float32 inputs of a network."""
        scale = torch.tensor(self.scale, device=images.device).view(-1, 1, 1)
        return images.float() / scale

    def check(self, images: Tensor) -> None:
        """Check that images have this format.

        Raises
        ------
        InputError
            If the number of channels, the height or the width is different.
        """
        found = tuple(images.shape[1:])
        expected = (self.channels, self.height, self.width)
        if found != expected:
            raise InputError(
                f"these images have (channels, height, width) = {found}, the network takes "
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
        found = checked(_StoredFormat, values)
        channels, height, width = found["images"]
        if len(found["scale"]) != channels:
            raise InputError(f"scale: not one for each of {channels} channels")
        return cls(channels, height, width, found["scale"])


class ScaledNetwork(nn.Module):
    """Trained network with the scale of its inputs, which takes stored images.

    Parameters
    ----------
    network : torch.nn.Module
        Network ``network(images) -> logits (B, C)`` of scaled images.
    image_format : ImageFormat
        Format with the scale.
    """

    def __init__(self, network: nn.Module, image_format: ImageFormat) -> None:
        super().__init__()
        self.network = network
        self.image_format = image_format

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of stored images (B, C, H, W), uint8 or float."""
        return self.network(self.image_format(images))


def check_scale(model: nn.Module, images: Tensor) -> None:
    """Check that a network contains the scale of its inputs if the images are integers.

    Raises
    ------
    InputError
        If the images are integers and the network does not contain their scale.
    """
    scaled = any(isinstance(module, ScaledNetwork) for module in model.modules())
    if not images.is_floating_point() and not scaled:
        raise InputError(
            f"a network without the scale of its inputs takes scaled floating-point images, not "
            f"{images.dtype}: use the model() of a run, or pcloud.images.ScaledNetwork(network, "
            "image_format), or scaled images"
        )


def as_floating(images: Tensor) -> Tensor:
    """Convert images (B, C, H, W) of any type to floating-point numbers of the same values."""
    return images if images.is_floating_point() else images.float()


@dataclass
class ImageBatch:
    """Scaled images ``images (B, C, H, W)``, and their labels ``y (B,)``.

    ``teacher (B, C)`` are the logits of another network for distillation, if given.
    """

    images: Tensor
    y: Tensor | None
    teacher: Tensor | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ImageBatch:
        """Copy the batch to a device."""
        return self._apply(lambda t: t.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> ImageBatch:
        """Copy the batch to page-locked memory."""
        return self._apply(lambda t: t.pin_memory())

    def _apply(self, change: Any) -> ImageBatch:
        known = [None if t is None else change(t) for t in (self.y, self.teacher)]
        return ImageBatch(change(self.images), *known)


class ImageDataset:
    """Images in memory for a training, the counterpart of :class:`pcloud.JetDataset`.

    Parameters
    ----------
    sample : ImageSet
        Images with labels.
    image_format : ImageFormat, optional
        Format and scale of the images; by default fitted to them.

    Attributes
    ----------
    images : Tensor, shape (B, C, H, W)
        Stored images.
    y : Tensor or None, shape (B,), int64
        Labels.
    feature_set : ImageFormat
        Format and scale of the images.
    teacher : Tensor or None, shape (B, C)
        Logits of another network, for distillation.
    targets : None
        Images have no targets besides their class.
    """

    def __init__(self, sample: ImageSet, image_format: ImageFormat | None = None) -> None:
        self.images = sample.images
        self.y = sample.labels
        self.teacher: Tensor | None = None
        self.targets: Tensor | None = None
        self.feature_set = image_format or ImageFormat.fit(sample.images)
        self.feature_set.check(sample.images)

    def __len__(self) -> int:
        return len(self.images)

    def indices(self) -> range:
        """Indices of the images."""
        return range(len(self))

    def set_targets(self, targets: Tensor) -> None:
        """Set the targets (B, T), which no batch has yet."""
        self.targets = targets

    def to_bytes(self) -> bytes:
        """Content of the data set as bytes, for a checksum."""
        labels = b"" if self.y is None else self.y.numpy().tobytes()
        return np.ascontiguousarray(self.images.numpy()).tobytes() + labels


class ImageLoader(JetLoader):
    """Loader of batches of an :class:`ImageDataset`, the counterpart of `JetLoader`."""

    data: ImageDataset  # type: ignore[assignment]

    def as_dataset(self, data: Any) -> Any:
        """Return the data set."""
        return data

    def collate(self, index: Tensor) -> ImageBatch:
        """Return the batch of the images with these indices."""
        images = self.data.feature_set(self.data.images[index])
        known = [None if t is None else t[index] for t in (self.data.y, self.data.teacher)]
        return ImageBatch(images, *known)
