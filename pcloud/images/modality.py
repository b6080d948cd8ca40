"""Images as a kind of data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from pcloud.datasets import dataset_info, list_datasets, load_dataset
from pcloud.datasets.downloads import sample_path
from pcloud.datasets.sources import IMAGE_SAMPLES
from pcloud.errors import InputError
from pcloud.images.build import size_option
from pcloud.images.digits import scatter, turn_at_random
from pcloud.images.files import image_splits, read_images
from pcloud.images.image_set import (
    ImageBatch,
    ImageDataset,
    ImageFormat,
    ImageLoader,
    ImageSet,
    ScaledNetwork,
)
from pcloud.keys import Keys, row_keys
from pcloud.modality import (
    DataOptions,
    Indices,
    Modality,
    Source,
    random_parts,
    register_modality,
)

__all__ = ["Images", "stratified_parts"]

_SPLITS = ("train", "val", "test")  # in the order of their seeds


class Images(Modality[ImageSet, ImageFormat, ImageDataset]):
    """Images of one file or folder, divided with the same fractions of each class."""

    kind = "image"
    noun = "images"
    first_argument = "images"
    sample_type = ImageSet

    def own_splits(self, source: Source) -> list[str]:
        """Splits that the data set, file or folder contains."""
        if _is_dataset(source):
            return list(dataset_info(str(source)).splits)
        return image_splits(_path(source))

    def check_options(self, options: DataOptions) -> None:
        """Accept the options of images."""

    def load(
        self, source: Source, split: str, options: DataOptions, limit: int | None = None
    ) -> ImageSet:
        """Read the images of a file, or its split where it has splits, and place and rotate them."""
        images = _modified(_read(source, split), split, options)
        return self.subsample(images, limit, options.split_seed)

    def keys(self, sample: ImageSet) -> Keys:
        """Keys from the pixels."""
        return row_keys(sample.images.numpy())

    def stream(
        self, source: Source, *, chunk_size: int, inputs: ImageFormat, **reading: Any
    ) -> tuple[int, Iterable[ImageSet]]:
        """Number of images of files, or of their test splits, and the images in chunks."""
        files = [source] if isinstance(source, str) else list(source)
        samples = (_read(file, "test") for file in files)
        chunks = (
            images[start : start + chunk_size]
            for images in samples
            for start in range(0, len(images), chunk_size)
        )
        return sum(len(_read(file, "test")) for file in files), chunks

    def split(
        self, sample: ImageSet, fractions: Mapping[str, float], seed: int
    ) -> dict[str, Indices]:
        """Divide images at random into parts with the same fractions of classes, none empty.

        So were the images of runs divided before splits by keys.
        """
        if sample.labels is None:
            raise InputError("the training images have no labels")
        parts = stratified_parts(sample.labels.numpy(), fractions, seed)
        for name, part in parts.items():
            if len(part) == 0:
                raise InputError(
                    f"{len(sample)} images are too few to take {name} images from them"
                )
        return parts

    def fit_inputs(self, sample: ImageSet, options: DataOptions) -> ImageFormat:
        """Size and scale of the training images."""
        return ImageFormat.fit(sample.images)

    def inputs_from_dict(self, values: dict[str, Any]) -> ImageFormat:
        """Inverse of ``image_format.to_dict()``."""
        return ImageFormat.from_dict(values)

    def dataset(self, sample: ImageSet, inputs: ImageFormat) -> ImageDataset:
        """Images with their scale."""
        return ImageDataset(sample, inputs)

    def loader(self, data: ImageDataset, batch_size: int = 512, **options: Any) -> ImageLoader:
        """Loader of scaled images."""
        return ImageLoader(data, batch_size, **options)  # type: ignore[arg-type]

    def arguments(self, batch: ImageBatch) -> tuple[Tensor]:
        """Images (B, C, H, W)."""
        return (batch.images,)

    def model_options(self, name: str, inputs: ImageFormat) -> dict[str, Any]:
        """Size of the images, for networks with an argument `size`."""
        return size_option(name, (inputs.height, inputs.width))

    def stored_network(self, network: nn.Module, inputs: ImageFormat) -> nn.Module:
        """Network with the scale of its inputs."""
        return ScaledNetwork(network, inputs).eval()

    def pixels(self, sample: ImageSet, inputs: ImageFormat) -> Tensor:
        """Scaled images."""
        return inputs(sample.images)


def stratified_parts(
    labels: NDArray[np.integer], fractions: Mapping[str, float], seed: int
) -> dict[str, Indices]:
    """Divide indices so that each part has the same fractions of classes, up to one of each.

    Parameters
    ----------
    labels : ndarray of int, shape (B,)
        True classes.
    fractions : mapping of str to float
        Fraction of each part; their sum is 1.
    seed : int
        Seed of the random division.

    Returns
    -------
    dict of str to ndarray
        Sorted indices of each part.
    """
    rng = np.random.default_rng(seed)
    parts: dict[str, list[Indices]] = {name: [] for name in fractions}
    for label in np.unique(labels):
        for name, part in random_parts(np.flatnonzero(labels == label), fractions, rng):
            parts[name].append(part)
    return {name: np.sort(np.concatenate(part)) for name, part in parts.items()}


def _modified(images: ImageSet, split: str, options: DataOptions) -> ImageSet:
    """Images at the random positions and with the random rotations that the options name."""
    seed = 2 * (len(_SPLITS) * options.split_seed + _SPLITS.index(split))
    if options.turned is not None:
        images = turn_at_random(images, seed, angles=options.turned)
    if options.canvas is not None:
        images = scatter(images, options.canvas, seed + 1)
    return images


def _is_dataset(source: Source) -> bool:
    """True for the name of a data set of images; an error for that of another data set."""
    if not isinstance(source, str) or source not in list_datasets() or Path(source).exists():
        return False
    kind = dataset_info(source).kind
    if kind != "image":
        hint = "; as_images makes images of jets" if kind == "cloud" else ""
        raise InputError(f"data set {source!r} is of kind {kind}, the network takes images{hint}")
    return True


def _read(source: Source, split: str) -> ImageSet:
    """Images of a data set or file, or of its split where it has splits."""
    if _is_dataset(source):
        return load_dataset(str(source), split)
    path = _path(source)
    return read_images(path, split if image_splits(path) else None)


def _path(source: Source) -> str:
    if isinstance(source, Mapping):
        raise InputError("files by class are files of jets; images come from one file or folder")
    if isinstance(source, str):
        is_name = source in IMAGE_SAMPLES and not Path(source).exists()
        return str(sample_path(source)) if is_name else source
    if len(source) != 1:
        raise InputError(f"images come from one file or folder, not {len(source)}")
    return source[0]


register_modality(Images())
