"""``pcloud predict``: compute the scores of a file of jets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pcloud.cli.command import Arguments, Command, Flag, Options, Switch
from pcloud.cli.options import (
    ChunkOption,
    NetworkOptions,
    OverwriteOption,
    ProgressOption,
    ReadingOptions,
    RunArgument,
    reading,
)
from pcloud.cli.output import progress_bar, say
from pcloud.words import number_of


@dataclass(frozen=True, kw_only=True)
class PredictOptions(ProgressOption, ChunkOption, OverwriteOption, RunArgument):
    """Prediction."""

    file: Arguments
    """Files of jets, or globs; labels are not needed. The scores are in the order of the files."""
    out: Annotated[str, Flag(short="-o")] = "scores.parquet"
    """Parquet file to write, or a folder for predictions.parquet, whose calibration goes before that
    of the run."""
    calibrated: Switch = False
    """Write calibrated probabilities; needs pcloud calibrate first."""


def execute(options: Options) -> None:
    """Write the scores of all jets, one chunk at a time."""
    from pcloud.run import Run

    run = Run(options["run"], trust_code=options["trust_code"])
    with progress_bar("jets", 1, quiet=options["quiet"]) as advance:
        found = run.predict_file(
            options["file"],
            options["out"],
            overwrite=options["overwrite"],
            checkpoint=options["checkpoint"],
            batch_size=options["batch_size"],
            chunk_size=options["chunk_size"],
            calibrated=options["calibrated"],
            advance=advance,
            **reading(options),
        )
    dropped = f", {found.dropped:,} dropped" if found.dropped else ""
    say(f"scores of {number_of(found.jets, 'jet')}{dropped}: {found.path}")


COMMAND = Command(
    "predict",
    "Compute the scores of the jets of a file.",
    execute,
    (PredictOptions, ReadingOptions, NetworkOptions),
)
