"""``pcloud models``: list the models."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from pcloud.cli.command import Command, Options, Switch
from pcloud.cli.output import columns, print_whole, say, suggest


@dataclass(frozen=True, kw_only=True)
class ModelsOptions:
    """Output."""

    markdown: Switch = False
    """Print the complete table, with the operations per jet, as Markdown."""


def execute(options: Options) -> None:
    """Print the table of models."""
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
