"""Check of an exported file: its metrics, and its differences from a run."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from pcloud.errors import InputError
from pcloud.evaluation import EvaluationTable, evaluate
from pcloud.export.graph import PROBABILITIES, Outputs
from pcloud.export.inputs import CloudInputs, JetArrays
from pcloud.export.parity import Batch, Parity, compare, feeds, hardest
from pcloud.export.parity import Outputs as Values
from pcloud.export.record import Session
from pcloud.io import iter_jets
from pcloud.io.files import expand_paths
from pcloud.studies.evaluate import labels_of_run
from pcloud.training.run_folder import RunFolder
from pcloud.training.run_sample import iter_run_sample

__all__ = ["ExportedTagger", "LongJetWarning", "check_parity", "compare_file", "measure_file"]


_DIFFERS = "it is not a file of this run, or runs differently here; pcloud export writes it again"


class LongJetWarning(UserWarning):
    """Jets have more particles than an exported file takes."""


class ExportedTagger:
    """An exported file on jets, in ONNX Runtime.

    Parameters
    ----------
    path : path
        File of :meth:`pcloud.Run.export`.

    Attributes
    ----------
    metadata : dict
        Description of the network in the file.

    Raises
    ------
    InputError
        If it is not a file of an exported tagger of jets.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"no file {self.path}")
        try:
            self.session = Session(str(self.path))
        except InputError as error:
            raise InputError(f"{self.path} is not an ONNX file that can be run: {error}") from error
        self.metadata = self.session.metadata
        if "inputs" not in self.metadata:
            raise InputError(f"{self.path} was not written by pcloud export")
        if self.metadata.get("form") in ("cms", "atlas"):
            raise InputError(
                f"{self.path} has the form of an experiment, whose programs compute its inputs"
            )
        if self.metadata["kind"] != "cloud":
            raise InputError(f"{self.path} is a network on images, not on jets")
        self.inputs = CloudInputs.from_metadata(self.metadata["inputs"])
        self.classes: list[str] = self.metadata["classes"]

    def batches(self, arrays: Sequence[JetArrays]) -> Iterator[Batch]:
        """Inputs of the session for jets."""
        limit = self.metadata["max_particles"]
        number = sum(limit is not None and len(jet["p4"]) > limit for jet in arrays)
        if number:
            effect = {
                "drop": "the softest were removed",
                "refuse": "their outputs are NaN",
            }[self.metadata["on_long_jet"]]
            warnings.warn(
                f"{number} of {len(arrays)} jets have more than {limit} particles: {effect}",
                LongJetWarning,
                stacklevel=3,
            )
        return feeds(self.inputs, arrays, layout=self.metadata["form"])

    def __call__(self, jets: ak.Array) -> Values:
        """Outputs (B, ...) by name for jets.

        Raises
        ------
        UnknownNameError
            If the jets lack a column that the file needs.
        """
        arrays = self.inputs.arrays(jets)
        rows: dict[str, dict[int, np.ndarray]] = {name: {} for name in self.session.outputs}
        for places, feed in self.batches(arrays):
            for name, values in self.session(feed).items():
                whole = values[None] if np.ndim(places) == 0 else values
                rows[name] |= dict(zip(np.atleast_1d(places).tolist(), whole, strict=True))
        return {name: np.stack([v[i] for i in range(len(arrays))]) for name, v in rows.items()}


def measure_file(
    path: str | Path, data: str | Sequence[str] | None, max_jets: int = 100_000, **reading: Any
) -> tuple[EvaluationTable, int]:
    """Metrics of an exported file on labelled jets, and their number.

    Parameters
    ----------
    path : path
        Exported file.
    data : str or sequence of str
        Files of labelled jets.
    max_jets : int
        Largest number of jets.
    **reading
        Options of :func:`pcloud.read_jets`.

    Raises
    ------
    InputError
        If there are no files or labels, or the file predicts no classes.
    """
    tagger = ExportedTagger(path)
    if not tagger.classes:
        raise InputError(f"{path} predicts no classes, only {', '.join(tagger.session.outputs)}")
    jets = _read(data, max_jets, reading)
    if "label" not in jets.fields:
        raise InputError("these jets have no labels: a schema names their column")
    labels = labels_of_run(jets, tagger.classes)
    outputs = tagger(jets)
    table = evaluate(labels, outputs[PROBABILITIES].astype(np.float64), classes=tagger.classes)
    return table, len(jets)


def compare_file(
    path: str | Path,
    run: RunFolder,
    data: str | Sequence[str] | None = None,
    max_jets: int = 100_000,
    **reading: Any,
) -> tuple[Parity, dict[str, Any]]:
    """Differences of an exported file from a run, and the metadata of the file.

    Parameters
    ----------
    path : path
        Exported file.
    run : RunFolder
        Run.
    data : str or sequence of str, optional
        Files of jets; by default the test jets of the run.
    max_jets : int
        Largest number of jets.
    **reading
        Options of :func:`pcloud.read_jets`.

    Raises
    ------
    InputError
        If the run has other classes than the file.
    """
    tagger = ExportedTagger(path)
    if list(run.classes) != tagger.classes:
        raise InputError(
            f"{path} has the classes {', '.join(tagger.classes)}, and {run.path} "
            f"{', '.join(run.classes)}"
        )
    jets = next(iter_run_sample(run, "test", max_jets)) if data is None else None
    jets = _read(data, max_jets, reading) if jets is None else jets
    arrays = tagger.inputs.arrays(jets)
    limit = tagger.metadata["max_particles"]
    lengths = np.array([len(jet["p4"]) for jet in arrays])
    kept = arrays if limit is None else [hardest(jet, tagger.inputs, limit) for jet in arrays]
    checkpoint = tagger.metadata.get("checkpoint", "best")
    found = run.predictions(tagger.inputs.jets(kept), checkpoint=checkpoint)
    plain = Outputs([run.objective]).values(found)
    reference = {name: values.numpy() for name, values in plain.items()}
    if tagger.metadata["calibrated"]:
        reference[PROBABILITIES] = run.calibration(checkpoint).map(reference[PROBABILITIES])
    if limit is not None and tagger.metadata["on_long_jet"] == "refuse":
        for values in reference.values():
            values[lengths > limit] = np.nan
    labels = labels_of_run(jets, run.classes) if run.classes and "label" in jets.fields else None
    return compare(
        tagger.session, reference, tagger.batches(arrays), labels=labels
    ), tagger.metadata


def check_parity(parity: Parity, metadata: Mapping[str, Any]) -> None:
    """Check differences by the rules of the export that wrote a file, given its metadata.

    A network that searches neighbours in features must agree for most jets. One of lower precision
    has no limit: the change of its AUC is among the differences.

    Raises
    ------
    InputError
        If the differences are too large.
    """
    if metadata.get("precision", "float32") != "float32":
        return
    searches_features = len(metadata.get("neighbors", ())) > metadata.get("members", 1)
    parity.check(needs_all=not searches_features, consequence=_DIFFERS)


def _read(data: str | Sequence[str] | None, max_jets: int, reading: dict[str, Any]) -> ak.Array:
    """First jets of files."""
    if not data:
        raise InputError(
            "jets are missing: --data names files, or --run the run with its test jets"
        )
    files = [str(file) for file in expand_paths(data)]
    return next(iter_jets(files, chunk_size=max_jets, stop=max_jets, **reading))
