"""A run as the source of an export: its networks, its inputs, and its jets to check a file with."""

from __future__ import annotations

import copy
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import awkward as ak
import numpy as np
import torch
from torch import Tensor, nn

import pcloud
from pcloud.errors import InputError
from pcloud.evaluation.calibration_maps import Scaling
from pcloud.evaluation.table import EvaluationTable
from pcloud.export.folding import with_folded_norms
from pcloud.export.graph import (
    PROBABILITIES,
    CloudGraph,
    CompactGraph,
    Neighbors,
    Outputs,
    RaggedGraph,
)
from pcloud.export.inputs import OFFSETS, CloudInputs, JetArrays
from pcloud.export.options import OPTIONS_FOR_JETS, ExportOptions
from pcloud.export.parity import Batch, feeds, hardest, synthetic_jets
from pcloud.export.parity import Outputs as Values
from pcloud.features import FeatureSet
from pcloud.modality import Sample
from pcloud.nn.attention.pair_bias import PairBias
from pcloud.nn.graph.knn import watched_searches
from pcloud.nn.numerics.derivatives import higher_derivatives
from pcloud.run_files import METRICS_FILE
from pcloud.training.checkpoint import Tagger
from pcloud.training.run_folder import RunFolder

__all__ = ["CloudSource", "ImageSource", "Source", "features_of"]

_ORDER = (
    "any; inside, particles are sorted by decreasing pT, then by E, px, py, pz, then by the columns"
)
_BATCH_IMAGES = 64


class Source(ABC):
    """Networks of a run, the inputs of the graph, and jets to compare with.

    Parameters
    ----------
    run : RunFolder
        The trained tagger.
    options : ExportOptions
        Form of the graph.
    """

    num_synthetic = 0
    searches_features = False

    def __init__(self, run: RunFolder, options: ExportOptions) -> None:
        self.run = run
        self.options = options
        members = run.members if run.config.ensemble > 1 else [run]
        self.taggers: list[Tagger] = [member.tagger(options.checkpoint) for member in members]
        for tagger in self.taggers:
            tagger.model.eval()
        self.outputs = Outputs([tagger.objective for tagger in self.taggers], self._scaling())

    def _scaling(self) -> Scaling | None:
        """Calibration map, if it is asked for."""
        if not self.options.calibrated:
            return None
        found = self.run.calibration(self.options.checkpoint).map
        if not isinstance(found, Scaling):
            raise InputError(
                "an exported network can be calibrated by temperature or vector, not by "
                f"{type(found).__name__.lower()} maps: pcloud calibrate --method temperature"
            )
        return found

    @abstractmethod
    def shapes(self) -> dict[str, list[str | int]]:
        """Shape of each input by name; free axes are names."""

    @abstractmethod
    def example(self) -> list[Tensor]:
        """Inputs with which the graph is recorded."""

    @abstractmethod
    def graph(self) -> nn.Module:
        """Function of the inputs."""

    @abstractmethod
    def batches(self) -> Iterator[Batch]:
        """Inputs of a session for the jets of the check."""

    @abstractmethod
    def reference(self) -> Values:
        """Outputs of PyTorch for the jets of the check."""

    def of_sample(self) -> Source:
        """Return the source of the jets of the sample only, without synthetic ones."""
        return self

    def _values(self, sample: Sample) -> Values:
        """Outputs of the run by its own methods."""
        checkpoint = self.options.checkpoint
        found = self.run.predictions(sample, checkpoint=checkpoint)
        plain = Outputs([tagger.objective for tagger in self.taggers])
        values = {name: tensor.numpy() for name, tensor in plain.values(found).items()}
        if self.options.calibrated:
            calibration = self.run.calibration(checkpoint).map
            values[PROBABILITIES] = calibration(values[PROBABILITIES])
        return values

    def output_names(self) -> list[str]:
        """Names of the outputs of the graph."""
        return self.outputs.names()

    def further_metadata(self) -> dict[str, str]:
        """Entries of the metadata for other programs, as text."""
        return {}

    @abstractmethod
    def described_inputs(self) -> list[dict[str, Any]]:
        """Name, shape, type, unit and range of each input, for the metadata."""

    def metadata(self) -> dict[str, Any]:
        """Entries of the metadata of the file."""
        tagger = self.taggers[0]
        return {
            "version": pcloud.__version__,
            "torch": str(torch.__version__),
            "model": tagger.name,
            "members": len(self.taggers),
            "kind": self.run.modality.kind,
            "classes": list(self.run.classes),
            "inputs": self.described_inputs(),
            "outputs": self.output_names(),
            "calibrated": self.options.calibrated,
            "checkpoint": self.options.checkpoint,
            "precision": self.options.precision,
            "weights": weights_hash(self.taggers),
            "metrics": self._metrics(),
        }

    def _metrics(self) -> dict[str, Any]:
        """Metrics of the test jets with errors, where the run is evaluated."""
        path = self.run.stored(METRICS_FILE)
        if self.options.checkpoint != "best" or not path.exists():
            return {}
        table = EvaluationTable.read(path.parent)
        return {
            name: {"value": entry.value, "low": entry.low, "high": entry.high}
            for name, entry in table.entries.items()
            if np.isfinite([entry.value, entry.low, entry.high]).all()
        }


class CloudSource(Source):
    """Run on jets.

    Parameters
    ----------
    run : RunFolder
        The trained tagger.
    options : ExportOptions
        Form of the graph.
    jets : awkward.Array
        Jets of the test split.
    """

    def __init__(self, run: RunFolder, options: ExportOptions, jets: ak.Array) -> None:
        super().__init__(run, options)
        self.features = features_of(run)
        self.inputs = CloudInputs.of(self.features, jets)
        arrays = self.inputs.arrays(jets)
        self.searches: list[int] = []  # not known for the graph that counts them
        self.searches = self._count_neighbors(arrays)
        self.searches_features = len(self.searches) > len(self.taggers)  # not only in positions
        synthetic = synthetic_jets(self.inputs, arrays, max(self.searches, default=0))
        self.arrays = [*arrays, *synthetic]
        self.num_synthetic = len(synthetic)

    def _count_neighbors(self, arrays: Sequence[JetArrays]) -> list[int]:
        """Number of neighbours of each search of the networks, from one jet."""
        searches = Neighbors()
        graph = self._graph(empty_slots=1000, padded=True)
        feed = self.inputs.padded(list(arrays[:2]))
        try:
            with torch.no_grad(), higher_derivatives(), watched_searches(searches):
                graph.predict({name: torch.from_numpy(feed[name]) for name in graph.names})
        except Exception as error:  # of any network, also one of the user
            raise InputError(
                f"model {self.taggers[0].name!r} cannot be exported: {' '.join(str(error).split())}"
            ) from error
        return searches.k

    @property
    def is_compact(self) -> bool:
        """True for networks with edges or pairs of one collection, of which padding is left out."""
        modules = [m for tagger in self.taggers for m in tagger.model.modules()]
        has_pairs = any(isinstance(module, PairBias) for module in modules)
        return (has_pairs or bool(self.searches)) and not self.inputs.collections[1:]

    def graph(self) -> nn.Module:
        """Function from momenta and columns to predictions."""
        if self.options.ragged:
            slots = max(self.searches, default=0)
            shared = (self.networks, self.features, self.inputs, self.outputs)
            return RaggedGraph(*shared, empty_slots=slots).eval()
        return self.plain_graph()

    def plain_graph(self) -> CloudGraph:
        """Function from momenta and columns by name, in the form that the options name."""
        return self._graph(max(self.searches, default=0), self.options.padded, self.networks)

    @property
    def networks(self) -> list[nn.Module]:
        """Networks as they are exported."""
        return [with_folded_norms(tagger.model) for tagger in self.taggers]

    def _graph(
        self, empty_slots: int, padded: bool, networks: Sequence[nn.Module] | None = None
    ) -> CloudGraph:
        form = CompactGraph if padded and self.is_compact else CloudGraph
        return form(
            networks or [tagger.model for tagger in self.taggers],
            self.features,
            self.inputs,
            self.outputs,
            padded=padded,
            empty_slots=max(empty_slots, int(form is CompactGraph)),  # which then has a block
            max_particles=self.options.max_particles,
            refuse_long=self.options.on_long_jet == "refuse",
        ).eval()

    def shapes(self) -> dict[str, list[str | int]]:
        """Shape of each input by name; free axes are names."""
        padded = self.options.padded
        names = self.inputs.names(padded=padded)
        shapes = {name: self.inputs.shape(name, padded=padded) for name in names}
        if self.options.ragged:
            per_jet = {n: self.inputs.shape(n, padded=True) for n in self.inputs.per_jet}
            shapes |= per_jet | {OFFSETS: ["num_offsets"]}
        return shapes

    def example(self) -> list[Tensor]:
        """Inputs with which the graph is recorded."""
        if not self.options.ragged:
            return self.inputs.example(padded=self.options.padded)
        names = self.inputs.names(padded=False)
        jet = dict(zip(names, self.inputs.example(padded=False), strict=True))
        batch = self.inputs.ragged([{n: v.numpy() for n, v in jet.items()}] * 5)
        return [torch.from_numpy(batch[name]) for name in self.shapes()]

    def batches(self) -> Iterator[Batch]:
        """Inputs of a session for the jets of the test split and synthetic ones."""
        return feeds(self.inputs, self.arrays, layout=self.options.layout)

    @torch.no_grad()
    def reference(self) -> Values:
        """Outputs of the run for these jets.

        Jets without particles, which a data set refuses, are given to the networks directly.
        """
        limit, arrays = self.options.max_particles, list(self.arrays)
        lengths = np.array([len(jet["p4"]) for jet in arrays])
        if limit is not None:
            arrays = [hardest(jet, self.inputs, limit) for jet in arrays]
        full = np.flatnonzero(lengths > 0)
        found = self._values(self.inputs.jets([arrays[i] for i in full]))
        empty = self.inputs.padded([arrays[i] for i in np.flatnonzero(lengths == 0)])
        graph = self._graph(max(self.searches, default=0), padded=True)
        with higher_derivatives():
            alone = graph.predict({name: torch.from_numpy(empty[name]) for name in graph.names})
        joined = {}
        for name, values in found.items():
            whole = np.empty((len(arrays), *values.shape[1:]))
            whole[full] = values
            whole[lengths == 0] = alone[name].numpy()
            if limit is not None and self.options.on_long_jet == "refuse":
                whole[lengths > limit] = np.nan
            joined[name] = whole
        return joined

    def of_sample(self) -> CloudSource:
        """Return the source of the jets of the sample only, without synthetic ones."""
        source = copy.copy(self)
        source.arrays = self.arrays[: len(self.arrays) - self.num_synthetic]
        source.num_synthetic = 0
        return source

    def described_inputs(self) -> list[dict[str, Any]]:
        """Name, shape, type, unit and range of each input."""
        described = []
        for name, shape in self.shapes().items():
            is_mask = name.rpartition(".")[2] == "mask"
            entry: dict[str, Any] = {"name": name, "shape": shape}
            entry["type"] = "bool" if is_mask else "int64" if name == OFFSETS else "float32"
            if name == OFFSETS:
                entry["meaning"] = "jet i has the rows from offsets[i] to before offsets[i + 1]"
            elif is_mask:
                entry["meaning"] = "true for entries, false for padding"
            else:
                entry["unit"] = self.inputs.unit(name)
                entry |= self._range(name)
            if name.rpartition(".")[2] in ("p4", "jet_p4"):
                entry["components"] = ["E", "px", "py", "pz"]
            described.append(entry)
        return described

    def _range(self, name: str) -> dict[str, float]:
        """Smallest and largest value in the jets of the test split."""
        jets = self.arrays[: len(self.arrays) - self.num_synthetic]
        values = np.concatenate([np.ravel(jet[name]) for jet in jets])
        return {"low": float(values.min()), "high": float(values.max())} if len(values) else {}

    def metadata(self) -> dict[str, Any]:
        """Entries of the metadata of the file."""
        return super().metadata() | {
            "form": self.options.layout,
            "particle_order": _ORDER,
            "max_particles": self.options.max_particles,
            "on_long_jet": self.options.on_long_jet,
            "features": self.features.describe(),
            "neighbors": self.searches,
        }


class ImageSource(Source):
    """Run on images.

    Parameters
    ----------
    run : RunFolder
        The trained tagger.
    options : ExportOptions
        Form of the graph.
    images : ImageSet
        Images of the test split.
    """

    def __init__(self, run: RunFolder, options: ExportOptions, images: Sample) -> None:
        super().__init__(run, options)
        if options.is_for_jets:
            raise InputError(f"{OPTIONS_FOR_JETS} are for jets, not for images")
        self.sample = images
        self.pixels = images.images.float().numpy()

    def shapes(self) -> dict[str, list[str | int]]:
        """Shape of the images: their number is free."""
        return {"pixels": ["num_images", *self.pixels.shape[1:]]}

    def example(self) -> list[Tensor]:
        """Images with which the graph is recorded."""
        return [torch.from_numpy(self.pixels[:3])]

    def graph(self) -> nn.Module:
        """Function from stored images to predictions."""
        modality, inputs = self.run.modality, self.run.feature_set
        networks = [modality.stored_network(tagger.model, inputs) for tagger in self.taggers]
        return ImageGraph(networks, self.outputs).eval()

    def batches(self) -> Iterator[Batch]:
        """Images in batches."""
        for first in range(0, len(self.pixels), _BATCH_IMAGES):
            rows = np.arange(first, min(first + _BATCH_IMAGES, len(self.pixels)))
            yield rows, {"pixels": self.pixels[rows]}

    def reference(self) -> Values:
        """Outputs of the run for the images."""
        return self._values(self.sample)

    def described_inputs(self) -> list[dict[str, Any]]:
        """Shape and range of the images."""
        low, high = float(self.pixels.min()), float(self.pixels.max())
        shape = self.shapes()["pixels"]
        unit = "as stored in the training images"
        return [
            {
                "name": "pixels",
                "shape": shape,
                "type": "float32",
                "unit": unit,
                "low": low,
                "high": high,
            }
        ]


class ImageGraph(nn.Module):
    """Predictions from stored images.

    Parameters
    ----------
    networks : sequence of Module
        Networks of stored images.
    outputs : Outputs
        Predictions from their outputs.
    """

    def __init__(self, networks: Sequence[nn.Module], outputs: Outputs) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.outputs = outputs

    @torch.no_grad()
    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Outputs from one tensor, images (B, C, H, W)."""
        (pixels,) = tensors
        found = [network(pixels) for network in self.networks]
        return tuple(self.outputs(found).values())


def features_of(run: RunFolder) -> FeatureSet:
    """Features of a run on jets."""
    features = run.feature_set
    assert isinstance(features, FeatureSet)
    return features


def weights_hash(taggers: Sequence[Tagger]) -> str:
    """SHA-256 of the weights and features of all networks, as hexadecimal digits."""
    digest = hashlib.sha256()
    for tagger in taggers:
        for name, value in sorted(tagger.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        digest.update(json.dumps(tagger.feature_set.to_dict(), sort_keys=True).encode())
    return digest.hexdigest()
