"""``pcloud convert``: convert a file of jets to another format."""

from __future__ import annotations

from dataclasses import dataclass

from pcloud.cli.command import Arguments, Command, Options
from pcloud.cli.options import (
    ChunkOption,
    OutputArgument,
    OverwriteOption,
    ProgressOption,
    ReadingOptions,
    reading,
)
from pcloud.cli.output import say, shows_progress
from pcloud.training.config import NumJets
from pcloud.words import number_of


@dataclass(frozen=True, kw_only=True)
class InputArgument:
    """Input."""

    input: Arguments
    """Files of jets, or globs; several become one file."""


@dataclass(frozen=True, kw_only=True)
class ConvertOptions(ProgressOption, OverwriteOption, ChunkOption, OutputArgument, InputArgument):
    """Conversion."""

    chunk_size: NumJets = 20_000
    """Number of jets held in memory at a time."""


def execute(options: Options) -> None:
    """Convert the file, one chunk at a time."""
    from pcloud.io import convert

    number = convert(
        options["input"],
        options["output"],
        chunk_size=options["chunk_size"],
        overwrite=options["overwrite"],
        progress=shows_progress(quiet=options["quiet"]),
        **reading(options),
    )
    say(f"{number_of(number, 'jet')}: {options['output']}")


COMMAND = Command("convert", "Convert a file of jets.", execute, (ConvertOptions, ReadingOptions))
