"""Jets or images: their data sets and loaders, and the arguments of a network."""

from __future__ import annotations

from typing import Any, TypeAlias

import awkward as ak

from pcloud.batch import JetDataset, JetLoader, batch_arguments
from pcloud.errors import InputError
from pcloud.features import FeatureSet
from pcloud.images.image_set import ImageBatch, ImageDataset, ImageFormat, ImageLoader, ImageSet
from pcloud.io.files import Paths
from pcloud.io.read import COLUMNS, SchemaLike, column_names
from pcloud.particle_types import PARTICLE_TYPES, available_columns

__all__ = [
    "Dataset",
    "Inputs",
    "Sample",
    "check_columns",
    "columns_to_read",
    "inputs_from_dict",
    "make_dataset",
    "make_loader",
    "network_inputs",
]

Sample: TypeAlias = ak.Array | ImageSet
"""Jets or images as read from a file."""

Inputs: TypeAlias = FeatureSet | ImageFormat
"""Features of jets, or format of images."""

Dataset: TypeAlias = JetDataset | ImageDataset
"""Data set of jets or images with their inputs."""


def columns_to_read(inputs: Inputs, path: Paths, schema: SchemaLike) -> list[str]:
    """Extra columns of a file that a network with these inputs uses.

    Stored angles take the place of computed ones, and particle types are computed from ``pid``.
    """
    types = ["pid"] if set(inputs.columns) & set(PARTICLE_TYPES) else []
    needed = {*inputs.columns, "deta", "dphi", *types}
    return [name for name in column_names(path, schema) if name in needed]


def inputs_from_dict(values: dict[str, Any]) -> Inputs:
    """Make inputs from the values of their method `to_dict`."""
    return (ImageFormat if "images" in values else FeatureSet).from_dict(values)


def make_dataset(sample: Sample, inputs: Inputs) -> Dataset:
    """Make a data set of a sample for a network with these inputs.

    Raises
    ------
    InputError
        If the sample are images and the network takes jets, or the reverse, or if the images have
        another size.
    """
    if isinstance(sample, ImageSet) and isinstance(inputs, ImageFormat):
        return ImageDataset(sample, inputs)
    if isinstance(sample, ImageSet) or isinstance(inputs, ImageFormat):
        found, wanted = ("images", "jets") if isinstance(sample, ImageSet) else ("jets", "images")
        raise InputError(f"this network takes {wanted}, and these are {found}")
    return JetDataset(sample, inputs)


def make_loader(data: Dataset, *arguments: Any, **options: Any) -> JetLoader:
    """Make a loader of batches of jets or images."""
    kind: Any = ImageLoader if isinstance(data, ImageDataset) else JetLoader
    return kind(data, *arguments, **options)


def network_inputs(batch: Any) -> tuple[Any, ...]:
    """Arguments of a network for a batch of jets or images."""
    if isinstance(batch, ImageBatch):
        return (batch.images,)
    return batch_arguments(batch)


def check_columns(sample: Sample, inputs: Inputs, whose: str) -> None:
    """Check that jets have the columns that the features need.

    Raises
    ------
    InputError
        If columns are missing; the message names all of them.
    """
    needed = (*inputs.columns, *inputs.jet_columns)
    available = available_columns(sample.fields)
    missing = [column for column in needed if column not in available]
    if missing:
        raise InputError(
            f"the features need {', '.join(missing)}, which {whose} do not have; "
            f"they have {', '.join(sample.attrs.get(COLUMNS, sample.fields))}"
        )
