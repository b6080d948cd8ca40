"""``pcloud predict``: compute the scores of a file of jets."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pcloud.cli.command import Arguments, Command, Flag, Options, Switch
from pcloud.cli.options import (
    ChunkOption,
    NetworkOptions,
    OverwriteOption,
    ProgressOption,
    ReadingOptions,
    RunArgument,
    SchedulerAddress,
    reading,
)
from pcloud.cli.output import progress_bar, say
from pcloud.errors import InputError
from pcloud.words import number_of


@dataclass(frozen=True, kw_only=True)
class PredictOptions(ProgressOption, ChunkOption, OverwriteOption, RunArgument):
    """Prediction."""

    file: Arguments
    """Files of jets, globs or folders; labels are not needed. In one Parquet file, the scores are in
    the order of the files."""
    out: Annotated[str, Flag(short="-o")] = "scores.parquet"
    """Parquet file to write; or a folder for one Parquet file per file of jets, with its name."""
    scheduler: SchedulerAddress = None
    """Processes that score the files, with a folder as --out: local:N for N of this machine, or the
    address of a scheduler of Dask, such as tcp://node01:8786 (extra dask)."""
    calibrated: Switch = False
    """Write calibrated probabilities; needs pcloud calibrate first."""


def execute(options: Options) -> None:
    """Write the scores of all jets, one chunk at a time."""
    from pcloud.run import Run
    from pcloud.scheduler import connected
    from pcloud.studies.predict import Prediction

    run = Run(options["run"], trust_code=options["trust_code"])
    out = Path(options["out"])
    is_folder = out.is_dir() or not out.suffix
    names = ("overwrite", "checkpoint", "batch_size", "chunk_size", "calibrated")
    if options["scheduler"] and not is_folder:
        raise InputError("--scheduler needs a folder for the scores: --out FOLDER")
    with ExitStack() as stack:
        more = {}
        if options["scheduler"]:
            more["scheduler"] = stack.enter_context(connected(options["scheduler"]))
        advance = stack.enter_context(progress_bar(run.modality.noun, 1, quiet=options["quiet"]))
        score = run.predict_files if is_folder else run.predict_file
        found = score(
            options["file"],
            out,
            advance=advance,
            **more,
            **{name: options[name] for name in names},
            **reading(options),
        )
    predictions = [found] if isinstance(found, Prediction) else found
    jets = sum(prediction.jets for prediction in predictions)
    dropped = sum(prediction.dropped for prediction in predictions)
    details = [f"{dropped:,} dropped"] * bool(dropped)
    if old := sum(prediction.is_old for prediction in predictions):
        details.append(f"{number_of(old, 'file')} of {len(predictions)} done before")
    say(", ".join([f"scores of {run.modality.number_of(jets)}", *details]) + f": {out}")


COMMAND = Command(
    "predict",
    "Compute the scores of the jets of a file.",
    execute,
    (PredictOptions, ReadingOptions, NetworkOptions),
)
