"""Jets of a generator as a kind of data: clouds whose inputs can be inverted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import awkward as ak
import numpy as np
import torch
from torch import nn

from pcloud.batch import JetDataset
from pcloud.clouds import Clouds
from pcloud.errors import InputError
from pcloud.features import FeatureSet
from pcloud.generative.coordinates import CloudCoordinates
from pcloud.modality import DataOptions, register_modality
from pcloud.models.registry import build_model
from pcloud.nn.layout import RaggedLayout
from pcloud.storage import MEMORY, Storage

__all__ = ["GeneratedClouds"]


class GeneratedClouds(Clouds):
    """Jets from data sets by name, or from files, for a generator."""

    kind = "generator"
    first_argument = "generated"  # no class of a file is taken for a generator
    gives_scores = False

    def check_network(self, name: str, options: DataOptions) -> None:
        """Refuse options of the inputs, which are those of the generator."""
        given = {"features": options.features not in ("kin", ["kin"])}
        given["jet_features"] = bool(options.jet_features)
        given["collections"] = options.collections not in (None, "none")
        for option, is_given in given.items():
            if is_given:
                raise InputError(
                    f"{option} is not for a generator: its inputs are the momenta of the particles"
                )

    def _features(self, options: DataOptions, available: Sequence[str] = ()) -> FeatureSet:
        """Coordinates without standardisation: they need no columns."""
        return CloudCoordinates()

    def fit_inputs(self, sample: ak.Array, options: DataOptions) -> CloudCoordinates:
        """Coordinates with the standardisation and the classes of the training jets."""
        return CloudCoordinates.fit(sample, _classes(sample))

    def inputs_for(self, model: str, inputs: FeatureSet, options: DataOptions) -> FeatureSet:
        """Return the inputs as they are."""
        return inputs

    def check_inputs(self, data: JetDataset, whose: str, *, is_training: bool = True) -> None:
        """Check the labels, which are a condition."""
        known = data.feature_set.classes  # type: ignore[attr-defined]
        if not known:
            return
        if data.y is None:
            raise InputError(f"{whose} have no labels, and the training jets have")
        outside = (data.y < 0) | (data.y >= len(known))
        if bool(outside.any()):
            raise InputError(
                f"{int(outside.sum())} of {whose} have labels outside 0 to {len(known) - 1}, the "
                f"classes {', '.join(known)}"
            )

    def describe_inputs(self, inputs: FeatureSet, options: DataOptions) -> list[str]:
        """Line with the conditions."""
        classes = inputs.classes  # type: ignore[attr-defined]
        kinds = f"class ({', '.join(classes)}), " if classes else ""
        return [f"condition: {kinds}pT, mass and number of particles"]

    def inputs_from_dict(self, values: dict[str, Any]) -> CloudCoordinates:
        """Inverse of ``coordinates.to_dict()``."""
        return CloudCoordinates.from_dict(values)

    def model_options(self, name: str, inputs: FeatureSet) -> dict[str, Any]:
        """Numbers of variables of jets, of classes and of particles."""
        assert isinstance(inputs, CloudCoordinates)
        return {
            "num_jet_features": len(inputs.jet_features),
            "num_labels": len(inputs.classes),
            "max_particles": inputs.max_particles,
        }

    def network(
        self, name: str, inputs: FeatureSet, num_outputs: int, options: dict[str, Any]
    ) -> nn.Module:
        """Network with random weights."""
        return build_model(name, len(inputs), num_outputs, **options)

    def dataset(
        self, sample: ak.Array, inputs: FeatureSet, storage: Storage = MEMORY
    ) -> JetDataset:
        """Jets with their coordinates.

        Raises
        ------
        InputError
            If their classes are not those of the training jets.
        """
        names = list(sample.attrs.get("classes") or ())
        known = list(inputs.classes)  # type: ignore[attr-defined]
        if names and known and names != known:
            raise InputError(f"jets of the classes {', '.join(names)}, not {', '.join(known)}")
        return super().dataset(sample, inputs, storage)

    def arguments(self, batch: Any) -> tuple[Any, ...]:
        """Coordinates, variables of jets, labels, layout."""
        layout = batch.layout if "layout" in batch else RaggedLayout.from_ptr(batch.ptr)
        label = batch.y if "y" in batch else torch.zeros_like(layout.counts)
        return batch.x, batch.u, label, layout


def _classes(sample: ak.Array) -> list[str]:
    """Names of the classes of labelled jets; none without labels."""
    if "label" not in sample.fields:
        return []
    names = list(sample.attrs.get("classes") or ())
    return names or [str(i) for i in range(int(np.max(np.asarray(sample.label), initial=0)) + 1)]


register_modality(GeneratedClouds())
