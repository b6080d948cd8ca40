"""``pcloud convert``: convert a file of jets to another format."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Le

from pcloud.cli.command import Argument, Arguments, Command, Options, Switch
from pcloud.cli.options import (
    ChunkOption,
    OutputArgument,
    OverwriteOption,
    ProgressOption,
    ReadingOptions,
    SchedulerAddress,
    reading,
)
from pcloud.cli.output import progress_bar, say, shows_progress, suggest
from pcloud.errors import InputError
from pcloud.training.config import NumJets, Seed
from pcloud.words import number_of


@dataclass(frozen=True, kw_only=True)
class InputArgument:
    """Input."""

    input: Arguments
    """Files of jets, or globs; several become one file, or with --each one each."""


@dataclass(frozen=True, kw_only=True)
class OutputFiles(OutputArgument):
    """Output."""

    output: Argument
    """File to write: .parquet, .npz, or .h5 (Landscape layout); with --each or --files a folder."""


@dataclass(frozen=True, kw_only=True)
class ConvertOptions(ProgressOption, OverwriteOption, ChunkOption, OutputFiles, InputArgument):
    """Conversion."""

    chunk_size: NumJets = 20_000
    """Number of jets held in memory at a time; ten times as many with --shuffle."""
    row_group: NumJets | None = None
    """Number of jets of a row group of a Parquet file, by default those of a million particles.
    A stream of jets for training needs less memory with smaller ones, such as 2000."""
    shuffle: Switch = False
    """Write the jets in random order, by two passes over them."""
    each: Switch = False
    """Convert each file of jets by itself, to a Parquet file in the folder of the output. Those that
    are there already stay."""
    files: Annotated[int | None, Ge(1), Le(100_000)] = None
    """Number of Parquet files in the folder of the output, with equal numbers of jets."""
    seed: Seed = 0
    """Seed of the random order."""
    scheduler: SchedulerAddress = None
    """Processes for --each: local:N for N of this machine, or the address of a scheduler of Dask, such
    as tcp://node01:8786 (extra dask)."""


def execute(options: Options) -> None:
    """Convert the file, one chunk at a time."""
    from pcloud.io import convert

    out = Path(options["output"])
    names = ("chunk_size", "overwrite", "row_group")
    common = {name: options[name] for name in names} | reading(options)
    if options["each"]:
        if options["shuffle"] or options["files"]:
            raise InputError("--each converts each file by itself, without --shuffle and --files")
        _convert_each(options, common)
        suggest("train", "--data", out, "--out", "runs/first")
        return
    if options["scheduler"]:
        raise InputError("--scheduler needs --each: every file is converted by itself")
    number = convert(
        options["input"],
        out,
        progress=shows_progress(quiet=options["quiet"]),
        **{name: options[name] for name in ("shuffle", "files", "seed")},
        **common,
    )
    say(f"{number_of(number, 'jet')}: {out}")
    suggest("train", "--data", out, "--out", "runs/first")


def _convert_each(options: Options, common: Options) -> None:
    """Convert each file to one of its own in a folder."""
    from pcloud.io import convert_files

    bar = progress_bar("files", 1, quiet=options["quiet"])
    if options["scheduler"]:
        from pcloud.scheduler import connected

        with connected(options["scheduler"]) as scheduler, bar as advance:
            run = partial(scheduler.run, advance=advance)
            found = convert_files(options["input"], options["output"], run=run, **common)
    else:
        found = convert_files(options["input"], options["output"], **common)
    text = (
        f"{number_of(sum(part.jets for part in found), 'jet')} in {number_of(len(found), 'file')}"
    )
    if old := sum(part.is_old for part in found):
        text += f", {old} done before"
    say(f"{text}: {options['output']}")


COMMAND = Command("convert", "Convert a file of jets.", execute, (ConvertOptions, ReadingOptions))
