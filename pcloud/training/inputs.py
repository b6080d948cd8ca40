"""Jets or images: what a training takes of either, and how a network is called with it."""

from __future__ import annotations

from typing import Any, TypeAlias

import awkward as ak

from pcloud.batch import JetDataset, JetLoader, batch_arguments
from pcloud.errors import InputError
from pcloud.features import FeatureSet
from pcloud.images.image_set import ImageBatch, ImageDataset, ImageFormat, ImageLoader, ImageSet
from pcloud.particle_types import available_columns

__all__ = [
    "Dataset",
    "Inputs",
    "Sample",
    "check_columns",
    "inputs_from_dict",
    "make_dataset",
    "make_loader",
    "network_inputs",
]

Sample: TypeAlias = ak.Array | ImageSet
"""Jets or images as they are read."""

Inputs: TypeAlias = FeatureSet | ImageFormat
"""What a network sees of them."""

Dataset: TypeAlias = JetDataset | ImageDataset
"""Both together."""


def inputs_from_dict(values: dict[str, Any]) -> Inputs:
    """Inverse of the method `to_dict` of either."""
    return (ImageFormat if "images" in values else FeatureSet).from_dict(values)


def make_dataset(sample: Sample, inputs: Inputs) -> Dataset:
    """Samples as a network with these inputs sees them.

    Raises
    ------
    InputError
        If they are images for a network on jets, the other way round, or of another size.
    """
    if isinstance(sample, ImageSet) and isinstance(inputs, ImageFormat):
        return ImageDataset(sample, inputs)
    if isinstance(sample, ImageSet) or isinstance(inputs, ImageFormat):
        found, wanted = ("images", "jets") if isinstance(sample, ImageSet) else ("jets", "images")
        raise InputError(f"this network takes {wanted}, and these are {found}")
    return JetDataset(sample, inputs)


def make_loader(data: Dataset, *arguments: Any, **options: Any) -> JetLoader:
    """Batches of either."""
    kind: Any = ImageLoader if isinstance(data, ImageDataset) else JetLoader
    return kind(data, *arguments, **options)


def network_inputs(batch: Any) -> tuple[Any, ...]:
    """The arguments of a network for a batch of either."""
    if isinstance(batch, ImageBatch):
        return (batch.images,)
    return batch_arguments(batch)


def check_columns(sample: Sample, inputs: Inputs, whose: str) -> None:
    """Make sure that jets have what features need.

    Raises
    ------
    InputError
        If a column is absent; the message names all that are.
    """
    needed = (*inputs.columns, *inputs.jet_columns)
    available = available_columns(sample.fields)
    missing = [column for column in needed if column not in available]
    if missing:
        raise InputError(
            f"the features need {', '.join(missing)}, which {whose} do not have; "
            f"they have {', '.join(sample.fields)}"
        )
