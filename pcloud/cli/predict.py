"""``pcloud predict``: scores of a file of jets."""

from __future__ import annotations

from jsonargparse import ArgumentParser

from pcloud.cli.command import Command, Options
from pcloud.cli.options import (
    add_chunk_size,
    add_network,
    add_overwrite,
    add_quiet,
    add_reading,
    add_run,
    reading,
)
from pcloud.cli.output import progress_bar, say


def add_options(parser: ArgumentParser) -> None:
    """Which jets, and where the scores go."""
    add_run(parser)
    parser.add_argument("file", type=str, help="File of jets, or a glob; labels are not needed.")
    parser.add_argument(
        "-o", "--out", type=str, default="scores.parquet", help="Parquet file to write."
    )
    add_overwrite(parser)
    add_reading(parser)
    add_network(parser)
    add_chunk_size(parser, 50_000)
    parser.add_argument(
        "--calibrated",
        action="store_true",
        help="Write calibrated probabilities; pcloud calibrate goes before.",
    )
    add_quiet(parser)


def execute(options: Options) -> None:
    """Write the scores of all jets, a chunk at a time."""
    from pcloud.run import Run

    run = Run(options["run"])
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
    say(f"scores of {found.jets:,} jets{dropped}: {options['out']}")


COMMAND = Command("predict", "Score the jets of a file.", add_options, execute)
