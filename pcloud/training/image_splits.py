"""Images of a run: reading, stratified splits and subsampling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from pcloud.errors import InputError
from pcloud.images.files import image_splits, read_images
from pcloud.images.image_set import ImageSet

if TYPE_CHECKING:
    from pcloud.training.config import DataConfig

__all__ = ["load_image_splits", "load_images", "stratified_parts"]


def load_images(source: str | Sequence[str], split: str = "train") -> ImageSet:
    """Images of a file, or of its part `split` where it has parts.

    Raises
    ------
    InputError
        If there are several files.
    """
    if not isinstance(source, str):
        if len(source) != 1:
            raise InputError(f"images come from one file or folder, not {len(source)}")
        source = source[0]
    return read_images(source, split if image_splits(source) else None)


def load_image_splits(config: DataConfig, *splits: str) -> list[ImageSet]:
    """Images of splits of a configuration: ``"train"``, ``"val"`` or ``"test"``.

    A split without a file is the part of that name of the training file. Where there is no such
    part, the same fraction of each class is drawn from the training images with `split_seed`.

    Raises
    ------
    InputError
        If the configuration has no such split, or a class has too few images to be split.
    """
    own = image_splits(config.data if isinstance(config.data, str) else config.data[0])
    fractions = {"train": 1.0}
    if config.val is None and "val" not in own:
        fractions["val"] = config.val_fraction
        if config.test is None and "test" not in own:
            fractions["test"] = config.test_fraction
    fractions["train"] -= sum(fractions.values()) - 1
    limits = {"train": config.max_jets, "val": config.max_val_jets}
    drawn = dict(_draw_parts(config, fractions)) if set(splits) & set(fractions) else {}
    found = []
    for split in splits:
        other = getattr(config, split) if split in ("val", "test") else None
        if split in drawn:
            images = drawn[split]
        elif other is not None:
            images = load_images(other, split)
        elif split in own:
            images = load_images(config.data, split)
        else:
            raise InputError(f"the run has no {split} images: name a file")
        found.append(_at_most(images, limits.get(split), config.split_seed))
    return found


def stratified_parts(
    labels: NDArray[np.integer], fractions: Mapping[str, float], seed: int
) -> dict[str, NDArray[np.integer]]:
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
    parts: dict[str, list[NDArray[np.integer]]] = {name: [] for name in fractions}
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        bounds = np.rint(np.cumsum(list(fractions.values()))[:-1] * len(members)).astype(int)
        for name, part in zip(fractions, np.split(members, bounds), strict=True):
            parts[name].append(part)
    return {name: np.sort(np.concatenate(part)) for name, part in parts.items()}


def _draw_parts(
    config: DataConfig, fractions: Mapping[str, float]
) -> Iterator[tuple[str, ImageSet]]:
    images = load_images(config.data)
    if len(fractions) == 1:
        yield "train", images
        return
    if images.labels is None:
        raise InputError("the training images have no labels")
    for name, part in stratified_parts(images.labels.numpy(), fractions, config.split_seed).items():
        if len(part) == 0:
            raise InputError(f"{len(images)} images are too few to take {name} images from them")
        yield name, images[torch.from_numpy(part)]


def _at_most(images: ImageSet, number: int | None, seed: int) -> ImageSet:
    if number is None or len(images) <= number:
        return images
    chosen = np.random.default_rng(seed).permutation(len(images))[:number]
    return images[torch.from_numpy(np.sort(chosen))]
