"""``pcloud datasets``: list the data sets."""

from __future__ import annotations

from pcloud.cli.command import Command, Options
from pcloud.cli.output import columns, print_whole, suggest


def execute(options: Options) -> None:
    """Print the table of data sets."""
    from rich.table import Table

    from pcloud.datasets import dataset_info, list_datasets

    table = Table(*columns("data set", "splits", "classes", ""), box=None)
    for name in list_datasets():
        info = dataset_info(name)
        table.add_row(name, ", ".join(info.splits), ", ".join(info.classes), info.description)
    print_whole(table)
    suggest("train", "--data", "simulated", "--out", "runs/first")


COMMAND = Command("datasets", "List the data sets.", execute)
