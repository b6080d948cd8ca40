"""Export of a run to an ONNX file, which is written only if it agrees with PyTorch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import awkward as ak
import numpy as np

from pcloud.errors import InputError
from pcloud.export.atlas import AtlasSource
from pcloud.export.cms import CmsSource
from pcloud.export.graph import WithNeighbors
from pcloud.export.options import ExportOptions
from pcloud.export.package import check_compiler, write_package
from pcloud.export.packages import check_packages
from pcloud.export.parity import Graph, Parity, compare
from pcloud.export.precision import Loss, loss_of, outputs_of, with_precision
from pcloud.export.record import Session, operators, record, with_metadata, without_outputs
from pcloud.export.source import CloudSource, ImageSource, Source
from pcloud.export.uniform import SeriesSource, TableSource
from pcloud.io.files import check_new_file
from pcloud.modality import Sample
from pcloud.run_files import write_atomic, write_json
from pcloud.studies.evaluate import labels_of_run
from pcloud.text_tables import aligned
from pcloud.training.run_folder import RunFolder
from pcloud.training.run_sample import iter_run_sample

__all__ = ["ExportedFile", "export_run"]

PACKAGE = ".pt2"
"""End of the name of a package of AOTInductor."""

PREPROCESS_FILE = "preprocess.json"
"""Description of the inputs of the form of CMS, beside the file."""


@dataclass(frozen=True)
class ExportedFile:
    """A file that was written.

    Attributes
    ----------
    path : Path
        The file.
    parity : Parity
        Differences from PyTorch.
    num_bytes : int
        Size of the file.
    operators : sequence of str
        Operators of the graph.
    metadata : dict
        Description of the network in the file.
    loss : Loss, optional
        Differences of lower precision from float32, whose parity is the other one.
    """

    path: Path
    parity: Parity
    num_bytes: int
    operators: Sequence[str]
    metadata: dict[str, Any] = field(repr=False)
    loss: Loss | None = None

    def __str__(self) -> str:
        return aligned(self.rows())

    def rows(self) -> list[list[str]]:
        """Table of the file and of the differences."""
        inputs = ", ".join(_described(entry) for entry in self.metadata["inputs"])
        return [
            *self.parity.rows(),
            *([] if self.loss is None else [[self.metadata["precision"], ""], *self.loss.rows()]),
            ["inputs", inputs],
            ["outputs", ", ".join(self.metadata["outputs"])],
            ["size", f"{self.num_bytes / 1000:,.0f} kB"],
            *(
                [["operators", f"{len(self.operators)}, all of the ONNX standard"]]
                * bool(self.operators)
            ),
        ]


def _described(entry: dict[str, Any]) -> str:
    return f"{entry['name']} ({', '.join(map(str, entry['shape']))})"


def export_run(
    run: RunFolder,
    path: str | Path,
    *,
    overwrite: bool = False,
    options: ExportOptions | None = None,
) -> ExportedFile:
    """Write a run as an ONNX file from four-momenta to probabilities.

    The graph is compared with the run, in ONNX Runtime, on jets of the test split and on synthetic
    ones. Where it differs, no file is written.

    Parameters
    ----------
    run : RunFolder
        The trained tagger.
    path : path
        File to write, which ends in ``.onnx``, or in ``.pt2`` for a package of AOTInductor.
    overwrite : bool
        Replace an existing file.
    options : ExportOptions, optional
        Form of the graph.

    Raises
    ------
    InputError
        If the network cannot be exported, or the graph differs from it.
    MissingExtraError
        If the extra ``onnx`` is not installed.
    """
    path = Path(path)
    if path.suffix not in (".onnx", PACKAGE):
        raise InputError(
            f"an exported network is an ONNX file or a package: {path} must end in .onnx or {PACKAGE}"
        )
    options = options or ExportOptions()
    if path.suffix == PACKAGE:
        if options.precision != "float32":
            raise InputError(f"{options.precision} is for ONNX: {path} must end in .onnx")
        check_compiler()
    else:
        check_packages()
    check_new_file(path, overwrite)
    preprocess = path.with_name(PREPROCESS_FILE) if options.form == "cms" else None
    if preprocess is not None:
        check_new_file(preprocess, overwrite)
    run.checksum(options.checkpoint)
    sample = sample_of_test(run, options.jets)
    source = source_of(run, options, sample)
    if path.suffix == PACKAGE:
        parity, metadata = write_package(source, path, _labels(run, sample))
        return ExportedFile(path, parity, path.stat().st_size, [], metadata)
    labels = _labels(run, sample)
    model, parity = checked_model(source, labels)
    metadata = source.metadata() | {"parity": parity.to_dict()}
    loss = None
    if options.precision != "float32":
        feeds = calibration_feeds(run, options) if options.int8 == "static" else ()
        model = with_precision(model, options.precision, feeds)
        reference = source.reference()
        found = outputs_of(Session(model), source.batches(), reference)
        loss = loss_of(found, reference, labels, list(run.classes))
        metadata["loss"] = loss.to_dict()
    described = with_metadata(model, metadata)
    for name, text in source.further_metadata().items():
        entry = described.metadata_props.add()
        entry.key, entry.value = name, text
    content = described.SerializeToString()
    if preprocess is not None:
        write_json(preprocess, metadata["preprocess"])
    write_atomic(path, lambda file: file.write(content))
    return ExportedFile(path, parity, len(content), operators(model), metadata, loss)


def source_of(run: RunFolder, options: ExportOptions, sample: Sample) -> Source:
    """Source of an export of a run, with jets or images of its test split."""
    kind = run.modality.kind
    others: dict[str, Callable[[RunFolder, ExportOptions, Any], Source]] = {
        "image": ImageSource,
        "table": TableSource,
        "series": SeriesSource,
    }
    if kind in others:
        return others[kind](run, options, sample)
    if kind != "cloud":
        raise InputError(
            f"networks on jets, images, tables and series can be exported, not on {run.modality.noun}"
        )
    sources = {"plain": CloudSource, "cms": CmsSource, "atlas": AtlasSource}
    return sources[options.form](run, options, sample)


def sample_of_test(run: RunFolder, number: int) -> Sample:
    """First jets or images of the test split."""
    sample = next(iter(iter_run_sample(run, "test", number)))
    if len(sample) == 0:
        raise InputError(f"the test split of {run.path} is empty: there is nothing to check with")
    return sample


def calibration_feeds(run: RunFolder, options: ExportOptions) -> Iterator[dict[str, np.ndarray]]:
    """Inputs of a session for the first jets or images of the validation split."""
    sample = next(iter(iter_run_sample(run, "val", options.jets)))
    if len(sample) == 0:
        raise InputError(f"the validation split of {run.path} is empty: use --int8 dynamic")
    source = source_of(run, options, sample).of_sample()
    return (feed for _, feed in source.batches())


def _labels(run: RunFolder, sample: Sample) -> np.ndarray | None:
    if not run.classes:
        return None
    if isinstance(sample, ak.Array) and "label" not in sample.fields:
        return None
    return np.asarray(labels_of_run(sample, run.classes, "test jets"))


def checked_model(source: Source, labels: np.ndarray | None) -> tuple[Any, Parity]:
    """Record the graph of a source, and compare it with the run.

    Raises
    ------
    InputError
        If they differ.
    """
    graph = source.graph()
    names = source.output_names()
    if not source.searches_features:
        model = record(graph, source.example(), source.shapes(), names)
        parity = compare(
            Session(model),
            source.reference(),
            source.batches(),
            source.num_synthetic,
            labels=labels,
        )
        parity.check()
        return model, parity
    assert isinstance(source, CloudSource)
    searches = [f"neighbors_{i}" for i in range(len(source.searches))]
    whole = record(WithNeighbors(graph), source.example(), source.shapes(), [*names, *searches])
    parity = compare(
        Session(whole),
        source.reference(),
        source.batches(),
        source.num_synthetic,
        graph=cast(Graph, graph),
        labels=labels,
    )
    parity.check()
    model = without_outputs(whole, len(names))
    _check_same(model, whole, source, names)
    return model, parity


def _check_same(model: Any, whole: Any, source: Source, names: Sequence[str]) -> None:
    """Check that a model without its further outputs still gives the others."""
    sessions = Session(model), Session(whole)
    for _, feed in itertools.islice(source.batches(), 3):
        a, b = (session(feed) for session in sessions)
        for name in names:
            if not np.allclose(a[name], b[name], atol=1e-3, equal_nan=True):
                raise InputError(f"output {name} changes with the neighbours as further outputs")
