"""``pcloud models``: list the models."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated

from pcloud.cli.command import Command, Flag, Options, Switch
from pcloud.cli.output import columns, print_rows, print_whole, say, suggest


@dataclass(frozen=True, kw_only=True)
class ModelsOptions:
    """Output."""

    model: Annotated[str | None, Flag(positional=True)] = None
    """Name of a model, whose layers are listed with output shape, parameters, MFLOP and, for networks
    on images, receptive field; for 7 inputs, 2 classes and a jet of 50 particles."""
    size: list[int] | None = None
    """Height and width of the images, or length of the records, of this model; by default 28 28 and
    512."""

    markdown: Switch = False
    """Print the complete table, with the operations per jet, as Markdown."""


def execute(options: Options) -> None:
    """Print the table of models."""
    if options["model"] is not None:
        from pcloud.models.summary import model_summary

        print_rows(model_summary(options["model"], options["size"]))
        return
    from rich.table import Table

    from pcloud.cli.model_table import model_table, to_markdown
    from pcloud.modality import find_modality, list_modalities
    from pcloud.models.registry import list_models

    if options["markdown"]:
        sys.stdout.write(to_markdown(model_table(flops=True)) + "\n")
        return
    shown = ("model", "paper", "year", "parameters", "good for")
    header, *rows = model_table()
    table = Table(*columns(*shown), box=None)
    for row in rows:
        cells = dict(zip(header, row, strict=True))
        table.add_row(*(cells[name] for name in shown))
    print_whole(table)
    say("parameters: with 7 inputs and 2 classes")
    for kind in list_modalities():
        if kind != "cloud":
            say(f"on {find_modality(kind).noun}: {', '.join(list_models(kind))}")
    suggest("train", "--data", "simulated", "--model", "particlenet_lite", "--out", "runs/first")


COMMAND = Command("models", "List the models.", execute, (ModelsOptions,))
