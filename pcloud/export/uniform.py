"""Runs on tables and series as sources of an export: entries of one size, without order or padding."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pcloud.errors import InputError
from pcloud.export.graph import Outputs
from pcloud.export.options import OPTIONS_FOR_JETS, ExportOptions
from pcloud.export.parity import Batch
from pcloud.export.parity import Outputs as Values
from pcloud.export.source import Source
from pcloud.modality import Sample
from pcloud.training.run_folder import RunFolder

__all__ = ["SeriesSource", "TableSource"]

_BATCH_ENTRIES = 256


class _UniformSource(Source):
    """Run on entries of one size.

    Parameters
    ----------
    run : RunFolder
        The trained network.
    options : ExportOptions
        Form of the graph.
    sample : Sample
        Entries of the test split.
    """

    def __init__(self, run: RunFolder, options: ExportOptions, sample: Sample) -> None:
        super().__init__(run, options)
        if options.is_for_jets:
            raise InputError(f"{OPTIONS_FOR_JETS} are for jets, not for {run.modality.noun}")
        self.sample = sample
        self.arrays = self._arrays()

    @abstractmethod
    def _arrays(self) -> dict[str, np.ndarray]:
        """Values (B, ...) of each input of the test split by name."""

    @abstractmethod
    def _standardise(self) -> nn.Module:
        """Module from the inputs to those of the network."""

    def shapes(self) -> dict[str, list[str | int]]:
        """Shape of each input by name; the number of entries is free."""
        return {name: ["num_entries", *a.shape[1:]] for name, a in self.arrays.items()}

    def example(self) -> list[Tensor]:
        """Entries with which the graph is recorded."""
        return [torch.from_numpy(np.resize(a, (3, *a.shape[1:]))) for a in self.arrays.values()]

    def graph(self) -> nn.Module:
        """Function from stored entries to predictions."""
        networks = [tagger.model for tagger in self.taggers]
        return _UniformGraph(self._standardise(), networks, self.outputs).eval()

    def batches(self) -> Iterator[Batch]:
        """Entries in batches, the first one alone."""
        number = len(self.sample)
        edges = sorted({0, min(1, number), *range(_BATCH_ENTRIES, number, _BATCH_ENTRIES), number})
        for first, last in itertools.pairwise(edges):
            yield np.arange(first, last), {n: a[first:last] for n, a in self.arrays.items()}

    def reference(self) -> Values:
        """Outputs of the run for the entries."""
        return self._values(self.sample)

    def described_inputs(self) -> list[dict[str, Any]]:
        """Shape and range of each input."""
        return [
            {
                "name": name,
                "shape": self.shapes()[name],
                "type": str(values.dtype),
                "unit": f"as in the training {self.run.modality.noun}",
                **_range(values),
            }
            for name, values in self.arrays.items()
        ]


class TableSource(_UniformSource):
    """Run on a table, whose columns are the inputs: float64, NaN where a value is missing."""

    def _arrays(self) -> dict[str, np.ndarray]:
        names = self.run.feature_set.columns
        return dict(zip(names, np.array(self.sample.matrix(names).T), strict=True))

    def _standardise(self) -> nn.Module:
        return _Columns(self.run.feature_set.standardisation)


class SeriesSource(_UniformSource):
    """Run on series, whose input is ``records (B, F, T)``."""

    def _arrays(self) -> dict[str, np.ndarray]:
        return {"records": np.ascontiguousarray(self.sample.records)}

    def _standardise(self) -> nn.Module:
        return _Records(self.run.feature_set.standardisation)


class _UniformGraph(nn.Module):
    """Predictions from stored entries."""

    def __init__(
        self, standardise: nn.Module, networks: Sequence[nn.Module], outputs: Outputs
    ) -> None:
        super().__init__()
        self.standardise = standardise
        self.networks = nn.ModuleList(networks)
        self.outputs = outputs

    @torch.no_grad()
    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Outputs from the inputs in order."""
        x = self.standardise(*tensors)
        return tuple(self.outputs([network(x) for network in self.networks]).values())


class _Columns(nn.Module):
    """Rows (B, F) of a network on tables, from columns (B,)."""

    shift: Tensor
    scale: Tensor

    def __init__(self, standardisation: Sequence[tuple[float, float]]) -> None:
        super().__init__()
        shift, scale = torch.tensor(standardisation, dtype=torch.float64).T.clone()
        self.register_buffer("shift", shift)
        self.register_buffer("scale", scale)

    def forward(self, *columns: Tensor) -> Tensor:
        """Standardised columns, 0 for a missing value."""
        x = (torch.stack(columns, dim=1) - self.shift) / self.scale
        return torch.where(x.isnan(), 0.0, x).float()


class _Records(nn.Module):
    """Records (B, F, T) of a network on series, from stored ones."""

    shift: Tensor
    scale: Tensor

    def __init__(self, form: Any) -> None:
        super().__init__()
        self.register_buffer("shift", torch.tensor(form.shift).view(-1, 1))
        self.register_buffer("scale", torch.tensor(form.scale).view(-1, 1))

    def forward(self, records: Tensor) -> Tensor:
        """Standardised records."""
        return (records - self.shift) / self.scale


def _range(values: np.ndarray) -> dict[str, float]:
    """Smallest and largest finite value."""
    finite = values[np.isfinite(values)]
    return {"low": float(finite.min()), "high": float(finite.max())} if finite.size else {}
