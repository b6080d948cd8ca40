"""``pcloud report``: a run as figures and a page."""

from __future__ import annotations

from pcloud.cli.command import Command, Options
from pcloud.cli.options import add_run
from pcloud.cli.output import say


def execute(options: Options) -> None:
    """Write the report and print where it is."""
    from pcloud.report import write_report

    say(str(write_report(options["run"])))


COMMAND = Command("report", "Make figures and a page of a run.", add_run, execute)
