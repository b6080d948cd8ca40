"""The form of ATLAS: variables of one jet and of its tracks, described in the metadata."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import awkward as ak
import numpy as np
import torch
from torch import Tensor, nn

from pcloud.errors import InputError
from pcloud.export.graph import PROBABILITIES, CloudGraph
from pcloud.export.inputs import JET_P4, JetArrays
from pcloud.export.options import ExportOptions
from pcloud.export.parity import Batch
from pcloud.export.source import CloudSource, features_of
from pcloud.training.run_folder import RunFolder

__all__ = ["AtlasGraph", "AtlasSource"]

JETS = "jet_features"
TRACKS = "track_features"

_MOMENTUM = ("E", "px", "py", "pz")
_GEV_PER_MEV = 1e-3  # momenta of ATLAS are in MeV
_NO_VARIABLE = "pt"  # of networks that need nothing of the jet, whose value is not read


class AtlasGraph(nn.Module):
    """Probabilities, one number per class, from variables of one jet and of its tracks.

    Parameters
    ----------
    tagger : CloudGraph
        Graph of one jet.
    classes : sequence of str
        Names of the classes.
    """

    padded = False
    names = (JETS, TRACKS)

    def __init__(self, tagger: CloudGraph, classes: list[str]) -> None:
        super().__init__()
        self.tagger = tagger
        self.classes = classes

    @torch.no_grad()
    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Outputs () from ``jet_features (1, G)`` and ``track_features (P, F)``."""
        return tuple(self.predict(dict(zip(self.names, tensors, strict=True))).values())

    def predict(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs by name, from inputs by name."""
        inputs = self.tagger.inputs
        tracks, jet = given[TRACKS], given[JETS]
        values = {"p4": tracks[:, :4]}
        for i, name in enumerate(inputs.collections[0].columns, 4):
            values[name] = tracks[:, i]
        first = 0
        if inputs.has_jet_p4:
            values[JET_P4] = jet[0, :4]
            first = 4
        for i, name in enumerate(inputs.jet_columns, first):
            values[name] = jet[0, i : i + 1]
        return _by_class(self.tagger.predict(values), self.classes)


def _by_class(outputs: Mapping[str, Any], classes: list[str]) -> dict[str, Any]:
    """Outputs with one for each class in the place of all probabilities."""
    named: dict[str, Any] = {}
    for name, values in outputs.items():
        if name == PROBABILITIES:
            named |= {output_name(c): values[..., i] for i, c in enumerate(classes)}
        else:
            named[name] = values
    return named


def output_name(class_name: str) -> str:
    """Name of the output of a class, such as ``pb`` for ``bjets``; without characters like dashes."""
    return "p" + re.sub(r"\W", "_", class_name.removesuffix("jets") or class_name)


class AtlasSource(CloudSource):
    """Run on jets in the form of ATLAS.

    Parameters
    ----------
    run : RunFolder
        The trained tagger.
    options : ExportOptions
        Form of the graph.
    jets : awkward.Array
        Jets of the test split.

    Raises
    ------
    InputError
        If the network takes further collections, or two outputs would have the same name.
    """

    def __init__(self, run: RunFolder, options: ExportOptions, jets: ak.Array) -> None:
        further = features_of(run).collections
        if further:
            names = ", ".join(part.name for part in further)
            raise InputError(
                f"the form of ATLAS has no further collections ({names}): use --form plain"
            )
        super().__init__(run, options, jets)
        if len(set(self.output_names())) < len(self.output_names()):
            raise InputError(f"outputs of the same name: {', '.join(self.output_names())}")

    def graph(self) -> AtlasGraph:
        """Function from variables of a jet and its tracks to probabilities."""
        return AtlasGraph(self.plain_graph(), self.run.classes).eval()

    @property
    def track_variables(self) -> list[str]:
        """Names of the columns of ``track_features``."""
        return [*_MOMENTUM, *self.inputs.collections[0].columns]

    @property
    def jet_variables(self) -> list[str]:
        """Names of the columns of ``jet_features``."""
        momentum = list(_MOMENTUM) if self.inputs.has_jet_p4 else []
        return [*momentum, *self.inputs.jet_columns] or [_NO_VARIABLE]

    def shapes(self) -> dict[str, list[str | int]]:
        """Shape of each input by name; the number of tracks is free."""
        return {
            JETS: [1, len(self.jet_variables)],
            TRACKS: ["n_tracks", len(self.track_variables)],
        }

    def example(self) -> list[Tensor]:
        """Inputs with which the graph is recorded."""
        generator = torch.Generator().manual_seed(0)
        return [
            torch.rand([n if isinstance(n, int) else 11 for n in shape], generator=generator) + 1
            for shape in self.shapes().values()
        ]

    def batches(self) -> Iterator[Batch]:
        """Inputs of a session for each jet."""
        for i, jet in enumerate(self.arrays):
            yield i, self._feed(jet)

    def _feed(self, jet: JetArrays) -> dict[str, np.ndarray]:
        columns = [jet[name][:, None] for name in self.inputs.collections[0].columns]
        of_jet = [jet[name] for name in self.inputs.per_jet] or [np.zeros(1, dtype=np.float32)]
        return {
            TRACKS: np.concatenate([jet["p4"], *columns], axis=1),
            JETS: np.concatenate(of_jet)[None].astype(np.float32),
        }

    def reference(self) -> dict[str, np.ndarray]:
        """Outputs of the run by name, (B,)."""
        return _by_class(super().reference(), self.run.classes)

    def output_names(self) -> list[str]:
        """Names of the outputs: one for each class, then the targets."""
        targets = [name for name in self.outputs.names() if name != PROBABILITIES]
        return [*map(output_name, self.run.classes), *targets]

    def described_inputs(self) -> list[dict[str, Any]]:
        """Name, shape, type and variables of each input."""
        variables = {JETS: self.jet_variables, TRACKS: self.track_variables}
        return [
            {"name": name, "shape": shape, "type": "float32", "variables": variables[name]}
            for name, shape in self.shapes().items()
        ]

    def metadata(self) -> dict[str, Any]:
        """Entries of the metadata of the file."""
        return super().metadata() | {"form": "atlas"}

    def further_metadata(self) -> dict[str, str]:
        """Entry ``gnn_config``, in which Athena finds the variables, offset and scale."""
        config = {
            "inputs": [{"name": "jet_var", "variables": _described(self.jet_variables)}],
            "input_sequences": [
                {
                    "name": "tracks_all_sd0sort",
                    "variables": _described(self.track_variables),
                }
            ],
            "outputs": {"pcloud": {"labels": self.output_names(), "node_index": 0}},
            "onnx_model_version": "v1",
        }
        return {"gnn_config": json.dumps(config)}


def _described(variables: list[str]) -> list[dict[str, Any]]:
    """Variables whose values in the file are ``(x + offset) * scale`` of those of ATLAS."""
    return [
        {"name": name, "offset": 0.0, "scale": _GEV_PER_MEV if name in _MOMENTUM else 1.0}
        for name in variables
    ]
