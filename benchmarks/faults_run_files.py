"""Files of a run with one changed value, or with changed bytes: each ends in one line or is read.

    python benchmarks/faults_run_files.py --number 3000 --bytes 1000 --seed 0

A run is trained with all studies. Then one value of one of its files is replaced, removed or added,
or a few bytes are, and the commands that read this file are executed in a copy of the folder. Counted
are cases that are read, that end in an input error or a warning of one line, in a traceback, by the
death of the process, or not at all within the time limit. The last three are faults of pcloud.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import csv
import io
import json
import math
import os
import shutil
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from faults_files import TooLongError, time_limit
from matplotlib.figure import Figure

import pcloud
from pcloud.cli.errors import USER_ERRORS, message
from pcloud.evaluation import EvaluationTable, read_scores
from pcloud.evaluation.calibration_file import StoredCalibration
from pcloud.evaluation.shift import ShiftTest
from pcloud.report import attribution, contents, page, robustness, sections, trust
from pcloud.report.figures import inline_svg
from pcloud.studies.attribution import StoredAttribution
from pcloud.studies.robustness import StoredRobustness
from pcloud.studies.taylor import StoredTaylor
from pcloud.studies.uncertainty import StoredUncertainty
from pcloud.training import callbacks
from pcloud.training.checkpoint import (
    Tagger,
    checkpoint_errors,
    checkpoint_path,
    read_checkpoint,
    read_tagger,
)
from pcloud.training.environment import read_environment
from pcloud.training.history import History
from pcloud.training.state import check_random_state

_SECONDS = 30.0  # of the processor, limit per case
_GIGABYTES = 4.0  # limit of the memory of a case, beyond that of the process before it
_JETS = 240
_OPTIONS: dict[str, Any] = {
    "batch_size": 16,
    "deterministic": True,
    "keep_checkpoints": True,
    "progress": False,
}
_MODEL_OPTIONS: dict[str, dict[str, Any]] = {  # of small networks
    "part": {"embed_widths": [8], "num_heads": 2, "num_layers": 1, "pair_widths": [4]},
    "pfn": {"phi_widths": [8], "head_widths": [8]},
}


@dataclass
class Found:
    """Numbers of cases by outcome, and a line for each fault.

    Attributes
    ----------
    counts : Counter
        Number of cases by outcome: ``"read"``, ``"one line"``, ``"traceback"``, ``"hang"``,
        ``"crash"``; ``"unnamed"`` is the number of lines that do not name the file.
    faults : list of str
        Description of each fault.
    """

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def add(self, case: str, outcome: str, line: str) -> None:
        """Count a case."""
        self.counts[outcome] += 1
        if outcome in ("traceback", "hang", "crash", "unnamed"):
            self.faults.append(f"{outcome}: {case}: {line}")


# The run


def make_run(folder: Path, model: str = "part", **options: Any) -> Path:
    """Train a run in ``folder/run`` with all studies, and an interrupted one in ``folder/half``."""
    jets = folder / "jets.parquet"
    pcloud.write_jets(pcloud.load_dataset("simulated", "test")[:_JETS], jets)
    options = {"model_options": _MODEL_OPTIONS.get(model, {}), **_OPTIONS, **options}
    options = {"data": str(jets), "epochs": 2, "model": model, **options}
    if options.get("ensemble", 1) == 1:
        with _kept_half(folder / "half"):
            run = pcloud.train(out=str(folder / "run"), **options)
    else:
        run = pcloud.train(out=str(folder / "run"), **options)
    run.evaluate(num_bootstrap=0)
    run.evaluate(str(jets), name="other", num_bootstrap=0)
    run.uncertainty(samples=3)
    if options.get("ensemble", 1) == 1:
        run.calibrate()
        run.explain(jets=20, pair_jets=2)
        run.explain(["occlusion", "saliency"], jets=20)
        run.robustness(jets=60)
    run.compare(str(jets), str(jets), permutations=10)
    return run.path


@contextlib.contextmanager
def _kept_half(folder: Path) -> Iterator[None]:
    """Copy the folder of a run when its second epoch has begun."""
    save = callbacks.RunCheckpoint._save
    step = callbacks.RunCheckpoint.on_train_batch_end

    def stepped(self: Any, trainer: Any, *arguments: Any) -> None:
        step(self, trainer, *arguments)
        if self.state.epoch == 1 and self.state.next_batch == 2 and not folder.exists():
            save(self, trainer)
            shutil.copytree(self.folder, folder)

    callbacks.RunCheckpoint.on_train_batch_end = stepped
    try:
        yield
    finally:
        callbacks.RunCheckpoint.on_train_batch_end = step


# The readers


class Figures:
    """Draws the figures of a section without saving them."""

    def add(self, name: str, figure: Figure, caption: str) -> str:
        """Draw a figure as the report does."""
        figure.set_layout_engine("none")
        return inline_svg(figure, name, caption)


def _section(make: Callable[..., Any], folder: Path) -> None:
    found = contents.RunContents.read(folder)
    page.render(found, [sections.drawn_section(make, found, Figures())])


def _describe(folder: Path) -> None:
    run = pcloud.Run(folder)
    _ = repr(run), run._repr_html_(), run.finished


def _predict(folder: Path, jets: Any, *, calibrated: bool = False) -> None:
    run = pcloud.Run(folder)
    run.predict(jets, calibrated=calibrated)


def _resume(folder: Path) -> None:
    config = pcloud.training.TrainConfig.from_file(folder / "config.yaml", out=str(folder))
    pcloud.train(config, progress=False)


def _evaluate(folder: Path) -> None:
    pcloud.Run(folder).evaluate(num_bootstrap=0)


def _last_checkpoint(folder: Path) -> None:
    path = checkpoint_path(folder, "last")
    content = read_checkpoint(path, resumable=True)
    with checkpoint_errors(path):
        Tagger.from_dict(content["tagger"])
        check_random_state(content["run"]["random"])


def _quick_readers() -> dict[str, list[Reader]]:
    """Readers of each file of a run that draw and score nothing."""
    return {
        "config.yaml": [pcloud.training.TrainConfig.from_run],
        "metrics.csv": [History.read],
        "metrics.json": [EvaluationTable.read],
        "scores.parquet": [lambda folder: read_scores(folder / "scores.parquet")],
        "calibration.json": [StoredCalibration.read],
        "uncertainty.json": [StoredUncertainty.read],
        "uncertainty.parquet": [StoredUncertainty.read],
        "taylor.json": [StoredTaylor.read],
        "attribution.json": [StoredAttribution.read],
        "robustness.json": [StoredRobustness.read],
        "shift/jets_jets.json": [lambda folder: ShiftTest.read(folder / "shift/jets_jets.json")],
        "environment.json": [read_environment],
        "checkpoints/best.ckpt": [lambda folder: read_tagger(checkpoint_path(folder, "best"))],
        "checkpoints/last.ckpt": [_last_checkpoint],
    }


def _shift(folder: Path) -> None:
    for file in (folder / "shift").glob("*.json"):
        str(ShiftTest.read(file).rows())
    _section(attribution.shift, folder)


Reader = Callable[[Path], Any]


def _readers(jets: Any) -> dict[str, list[Reader]]:
    """Readers of each file of a run."""
    predict = partial(_predict, jets=jets)
    return {
        "config.yaml": [_describe, partial(_section, sections.reproduction), predict, _resume],
        "metrics.csv": [_describe, partial(_section, sections.training)],
        "metrics.json": [
            partial(_section, sections.results),
            partial(_section, sections.discrimination),
            partial(_section, sections.confusion),
        ],
        "evaluations/other/metrics.json": [partial(_section, sections.other_samples)],
        "scores.parquet": [
            partial(_section, sections.discrimination),
            partial(_section, sections.confusion),
        ],
        "calibration.json": [
            partial(_predict, jets=jets, calibrated=True),
            partial(_section, trust.calibration),
        ],
        "uncertainty.json": [partial(_section, trust.uncertainty)],
        "uncertainty.parquet": [partial(_section, trust.uncertainty)],
        "taylor.json": [partial(_section, trust.taylor)],
        "attribution.json": [partial(_section, attribution.attribution)],
        "robustness.json": [partial(_section, robustness.robustness)],
        "shift/jets_jets.json": [_shift],
        "environment.json": [_describe, partial(_section, sections.reproduction), _resume],
        "checkpoints/best.ckpt": [predict],
        "checkpoints/last.ckpt": [_describe, _resume],
    }


# The changes

_ABSENT = object()
_REPLACEMENTS: tuple[Any, ...] = (
    None, math.nan, math.inf, -1, 0, 1e308, 2**63, 10**30, "", "x", "a\nb\0", "x" * 10_000, [], {},
    [None], {"x": 1}, True, 0.5, -1e300, 1e-320, _ABSENT, "new key", "deep", "long list",
)  # fmt: skip


def _replaced(value: Any, new: Any) -> Any:
    if isinstance(new, str) and new == "deep":
        for _ in range(300):
            value = [value]
        return value
    return [value] * 1000 if isinstance(new, str) and new == "long list" else new


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to all values; of long lists, to the first and the last two."""
    yield path
    if isinstance(value, dict):
        keys = list(value)
    elif isinstance(value, list | tuple):
        keys = sorted({*range(len(value))[:2], *range(len(value))[-2:]})
    else:
        return
    for key in keys:
        yield from _leaves(value[key], (*path, key))


def _with(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy of plain values with another value at a path."""
    if not path:
        return _replaced(value, None if new is _ABSENT else new)
    key, *rest = path
    changed = copy.copy(value)
    if isinstance(changed, tuple):
        changed = list(changed)
    if rest:
        changed[key] = _with(value[key], tuple(rest), new)
    elif new is _ABSENT:
        del changed[key]
    elif isinstance(new, str) and new == "new key":
        if isinstance(changed, dict):
            changed["new key"] = 1
        else:
            changed.append(1)
    else:
        changed[key] = _replaced(value[key], new)
    return tuple(changed) if isinstance(value, tuple) else changed


def _tensors(tensor: torch.Tensor) -> list[Any]:
    """Replacements of a tensor in a checkpoint."""
    if tensor.is_floating_point() and tensor.numel():
        spoiled = tensor.clone()
        spoiled.flatten()[0] = math.nan
    else:
        spoiled = torch.zeros_like(tensor) - 1
    return [
        spoiled,
        tensor.double() * 1e300,
        tensor.flatten()[:-1],
        tensor.reshape(1, *tensor.shape),
        tensor.to(torch.complex64),
        tensor.to(torch.int8),
        tensor > 0,
        torch.zeros(1).expand(10**12),
        torch.zeros(0),
        tensor.to_sparse() if tensor.ndim else tensor,
        torch.empty(tensor.shape, device="meta"),
    ]


def _read(path: Path) -> Any:
    if path.suffix == ".json":
        return json.loads(path.read_text())
    if path.suffix == ".yaml":
        return yaml.safe_load(path.read_text())
    if path.suffix == ".csv":
        return list(csv.reader(path.read_text().splitlines()))
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        classes = (table.schema.metadata or {}).get(b"classes", b"null")
        return {"columns": table.to_pydict(), "classes": json.loads(classes)}
    return torch.load(path, weights_only=True)


def _write(path: Path, value: Any) -> None:
    if path.suffix == ".json":
        path.write_text(json.dumps(value))
    elif path.suffix == ".yaml":
        path.write_text(yaml.safe_dump(value))
    elif path.suffix == ".csv":
        text = io.StringIO()
        rows = value if isinstance(value, list) else [value]
        csv.writer(text).writerows(r if isinstance(r, list) else [str(r)] for r in rows)
        path.write_text(text.getvalue())
    elif path.suffix == ".parquet":
        table = pa.table(value["columns"])
        metadata = {b"classes": json.dumps(value["classes"]).encode()}
        pq.write_table(table.replace_schema_metadata(metadata), path)
    else:
        torch.save(value, path)


@dataclass(frozen=True)
class Case:
    """One changed file of a run."""

    file: str
    name: str
    change: Callable[[Path], None]


def _value_cases(run: Path, file: str) -> list[Case]:
    """All single changes of the values of a file."""
    value = _read(run / file)
    cases = []
    for path in _leaves(value):
        place = ".".join(map(str, path))
        old = value
        for key in path:
            old = old[key]
        tensors = _tensors(old) if isinstance(old, torch.Tensor) else []
        for new in [*_REPLACEMENTS, *tensors]:
            text = "removed" if new is _ABSENT else repr(new).replace("\n", " ")[:40]
            if isinstance(new, torch.Tensor):
                text = f"{new.dtype} {tuple(new.shape)} {new.layout}"
            cases.append(Case(file, f"{place} := {text}", partial(_change, value, path, new)))
    return cases


def _change(value: Any, path: tuple[Any, ...], new: Any, file: Path) -> None:
    _write(file, _with(value, path, new))


def _byte_case(file: str, size: int, rng: np.random.Generator) -> Case:
    """Some bytes replaced, a part removed, inserted or repeated."""
    number = int(rng.integers(1, 5))
    places = rng.integers(0, size, number)
    kind = ["replaced", "cut", "removed", "inserted", "zeroed"][int(rng.integers(0, 5))]
    bits = rng.integers(0, 256, 40)

    def change(path: Path) -> None:
        content = bytearray(path.read_bytes())
        first = int(places[0])
        if kind == "replaced":
            for place, bit in zip(places, bits, strict=False):
                content[place] = bit
        elif kind == "cut":
            del content[first:]
        elif kind == "removed":
            del content[first : first + number]
        elif kind == "inserted":
            content[first:first] = bytes(bits.tolist())
        else:
            content[first : first + 64] = bytes(64)
        path.write_bytes(content)

    return Case(file, f"{kind} {number} bytes at {places[0]}", change)


def _inputs(folder: Path, file: str) -> Path:
    """Folder whose file is changed: the interrupted run for the state of a training."""
    half = folder / "half"
    in_half = file == "checkpoints/last.ckpt" or file == "environment.json"
    return half if in_half and half.exists() else folder / "run"


# The campaign


def changed_run_files(
    folder: Path,
    seed: int,
    number: int,
    *,
    num_bytes: int = 0,
    files: list[str] | None = None,
    isolated: bool = False,
    quick: bool = False,
) -> Found:
    """Change files of the run that :func:`make_run` made, and read them.

    Parameters
    ----------
    folder : Path
        Folder of the runs.
    seed : int
        Seed of the choice of the changes.
    number : int
        Number of changed values; 0 for all.
    num_bytes : int
        Number of cases of changed bytes.
    files : list of str, optional
        Files to change; by default all.
    isolated : bool
        Whether cases are executed in forked processes, with a limit of the memory.
    quick : bool
        Whether the files are only read, without figures, scores and trainings.
    """
    jets = pcloud.read_jets(folder / "jets.parquet")[:20]
    readers = _quick_readers() if quick else _readers(jets)
    present = [f for f in files or readers if (_inputs(folder, f) / f).exists()]
    rng = np.random.default_rng(seed)
    by_file = {file: _value_cases(_inputs(folder, file), file) for file in present}
    if number:  # as many of each file
        chosen = []
        for i in range(number):
            cases = by_file[present[i % len(present)]]
            chosen.append(cases[int(rng.integers(len(cases)))])
    else:
        chosen = [case for cases in by_file.values() for case in cases]
    for _ in range(num_bytes):
        file = present[int(rng.integers(len(present)))]
        chosen.append(_byte_case(file, (_inputs(folder, file) / file).stat().st_size, rng))
    found = Found()
    with tempfile.TemporaryDirectory() as scratch:
        work = partial(_attempt, folder, Path(scratch), readers)
        for case, outcomes in _isolated(work, chosen) if isolated else _direct(work, chosen):
            for outcome, line in outcomes:
                found.add(f"{case.file}: {case.name}", outcome, line)
    return found


Outcomes = list[tuple[str, str]]


def _attempt(folder: Path, scratch: Path, readers: dict[str, list[Reader]], case: Case) -> Outcomes:
    """Outcome of each reader of a changed file."""
    outcomes: Outcomes = []
    for reader in readers[case.file]:
        copied = scratch / "run"
        shutil.rmtree(copied, ignore_errors=True)
        shutil.copytree(_inputs(folder, case.file), copied)
        try:
            case.change(copied / case.file)
        except Exception:  # the format cannot hold this value
            return [("not written", "")]
        outcomes.append(_outcome(partial(reader, copied), case))
    return outcomes


def _outcome(work: Callable[[], Any], case: Case) -> tuple[str, str]:
    name = Path(case.file).name
    with (
        warnings.catch_warnings(record=True) as caught,
        time_limit(_SECONDS),
        torch.random.fork_rng(),
    ):
        warnings.simplefilter("ignore")
        warnings.filterwarnings("always", category=pcloud.errors.UnreadableFileWarning)
        with contextlib.redirect_stderr(io.StringIO()):
            try:
                work()
            except USER_ERRORS as error:
                line = message(error)
                named = name in line or not isinstance(error, pcloud.errors.InputError)
                return ("one line" if named and len(line) < 600 else "unnamed"), line[:700]
            except TooLongError:
                return "hang", ""
            except BaseException as error:
                where = traceback.extract_tb(error.__traceback__)
                own = [f for f in where if f"{os.sep}pcloud{os.sep}" in f.filename] or list(where)
                at = f"{Path(own[-1].filename).name}:{own[-1].lineno}"
                return "traceback", f"{type(error).__name__} at {at}: {str(error)[:150]}"
    return ("one line", str(caught[0].message)) if caught else ("read", "")


def _direct(work: Callable[[Case], Outcomes], cases: list[Case]) -> Iterator[tuple[Case, Outcomes]]:
    for case in cases:
        yield case, work(case)


def _isolated(
    work: Callable[[Case], Outcomes], cases: list[Case]
) -> Iterator[tuple[Case, Outcomes]]:
    """Execute cases in forked processes, the next one continues after one that has died."""
    import resource

    done = 0
    while done < len(cases):
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read_end)
            used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            limit = used + int(_GIGABYTES * 2**30)
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            with os.fdopen(write_end, "w") as pipe:
                for case in cases[done : done + 50]:
                    pipe.write(json.dumps(work(case)) + "\n")
                    pipe.flush()
            os._exit(0)
        os.close(write_end)
        with os.fdopen(read_end) as pipe:
            for line in pipe:
                yield cases[done], json.loads(line)
                done += 1
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status != 0:
            yield cases[done], [("crash", f"exit status {status}")]
            done += 1


def main() -> None:
    """Train the run, change its files and print the outcomes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--number", type=int, default=3000, help="changed values; 0 for all")
    parser.add_argument("--bytes", type=int, default=1000, help="cases of changed bytes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--files", nargs="*", help="files to change; by default all")
    parser.add_argument("--model", default="part")
    parser.add_argument("--folder", type=Path, help="keep the runs here, and take those there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        if not (folder / "run").exists():
            folder.mkdir(parents=True, exist_ok=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                make_run(folder.resolve(), options.model)
        found = changed_run_files(
            folder.resolve(), options.seed, options.number, num_bytes=options.bytes,
            files=options.files, isolated=True,
        )  # fmt: skip
    print("\n".join(found.faults))
    print("; ".join(f"{outcome} {number}" for outcome, number in sorted(found.counts.items())))
    faults = sum(found.counts[kind] for kind in ("traceback", "hang", "crash"))
    sys.exit(f"{faults} faults" if faults else 0)


if __name__ == "__main__":
    main()
