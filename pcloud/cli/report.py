"""``pcloud report``: write the report of a run."""

from __future__ import annotations

from pcloud.cli.command import Command, Options
from pcloud.cli.options import ResultOptions
from pcloud.cli.output import say, suggest


def execute(options: Options) -> None:
    """Write the report and print its path."""
    from pcloud.report import write_report

    say(str(write_report(options["run"], options["out"])))
    suggest("predict", options["run"], "FILE", "-o", "scores.parquet")


COMMAND = Command("report", "Write the report of a run, with figures.", execute, (ResultOptions,))
