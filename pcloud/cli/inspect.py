"""``pcloud inspect``: columns of a file of jets or of a table, and a schema that may fit."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pcloud.cli.command import Argument, Command, Flag, Options
from pcloud.cli.options import OverwriteOption
from pcloud.cli.output import print_rows, say, suggest
from pcloud.errors import InputError
from pcloud.training.config import NumJets
from pcloud.words import number_of


@dataclass(frozen=True, kw_only=True)
class InspectOptions(OverwriteOption):
    """Inspection."""

    file: Argument
    """File of any format that pcloud reads."""
    tree: str | None = None
    """ROOT tree, HDF5 group or pandas key; by default the one with the most rows."""
    rows: NumJets = 2000
    """Number of rows that are read."""
    out: Annotated[str | None, Flag(short="-o")] = None
    """File for the proposed schema (YAML)."""


def execute(options: Options) -> None:
    """Print the columns and the proposed schema, and write it if a file is given."""
    from pcloud.io.files import new_file
    from pcloud.io.inspect import inspect_file, summary
    from pcloud.tables.files import is_text

    if is_text(options["file"]):
        _inspect_table(options)
        return

    contents = inspect_file(options["file"], options["tree"], rows=options["rows"])
    print_rows(contents.rows())
    for name, reason in contents.unreadable.items():
        say(f"{name} cannot be read: {reason}")
    say(summary(contents))
    text = contents.schema_text()
    say("")
    for line in ["# proposed schema", *text.splitlines()]:
        say(line)
    if options["out"] is not None:
        with new_file(Path(options["out"]), options["overwrite"]) as part:
            part.write_text(text, encoding="utf-8")
        say(f"written to {options['out']}")
    schema = [] if options["out"] is None else ["--schema", options["out"]]
    suggest("train", "--data", options["file"], *schema, "--out", "runs/first")


def _inspect_table(options: Options) -> None:
    """Print the columns of a table, and the command that trains on it."""
    from pcloud.tables.inspect import inspect_table

    for name in ("tree", "out"):
        if options[name] is not None:
            raise InputError(f"{options['file']}: a table in text has no use for --{name}")
    contents = inspect_table(options["file"])
    print_rows(contents.rows())
    say(f"{number_of(contents.num_rows, 'event')}; -999 counts as missing, see --schema.missing")
    schema = [word for option in contents.options().items() for word in option]
    words = ["--data", options["file"], "--model", "mlp", *schema, "--out", "runs/first"]
    say(f"train a network: {shlex.join(['pcloud', 'train', *words])}")


COMMAND = Command(
    "inspect", "Show the columns of a file, and propose a schema.", execute, (InspectOptions,)
)
