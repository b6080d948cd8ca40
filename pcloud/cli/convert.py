"""``pcloud convert``: jets from one format to another."""

from __future__ import annotations

from jsonargparse import ArgumentParser

from pcloud.cli.command import Command, Options
from pcloud.cli.options import (
    add_chunk_size,
    add_jet_file,
    add_overwrite,
    add_quiet,
    add_reading,
    reading,
)
from pcloud.cli.output import say, shows_progress


def add_options(parser: ArgumentParser) -> None:
    """From where to where."""
    parser.add_argument("input", type=str, help="File of jets, or a glob.")
    add_jet_file(parser)
    add_reading(parser)
    add_chunk_size(parser, 20_000)
    add_overwrite(parser)
    add_quiet(parser)


def execute(options: Options) -> None:
    """Convert a chunk at a time."""
    from pcloud.io import convert

    number = convert(
        options["input"],
        options["output"],
        chunk_size=options["chunk_size"],
        overwrite=options["overwrite"],
        progress=shows_progress(quiet=options["quiet"]),
        **reading(options),
    )
    say(f"{number:,} jets: {options['output']}")


COMMAND = Command("convert", "Convert a file of jets.", add_options, execute)
