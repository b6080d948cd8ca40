"""``pcloud report``: write the report of a run, or a comparison of several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pcloud.cli.command import Arguments, Command, Flag, Options
from pcloud.cli.options import TrustOption
from pcloud.cli.output import say, suggest
from pcloud.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ReportOptions(TrustOption):
    """Report."""

    run: Arguments
    """Folder of the run; several folders are compared on one page."""
    out: Annotated[str | None, Flag(short="-o")] = None
    """Folder for the page and the figures, by default that of the run; of several runs the page
    itself, by default compare.html."""
    signal: str | None = None
    """Signal class of several runs; by default the second of two."""
    background: str | None = None
    """Background class of several runs, of more than two classes; by default all others."""
    label: str | None = None
    """Text above every figure, such as "CMS Simulation Preliminary"."""


def execute(options: Options) -> None:
    """Write the page and print its path."""
    runs = options["run"]
    chosen = {name: options[name] for name in ("signal", "background", "label", "trust_code")}
    if len(runs) > 1:
        from pcloud.report.comparison import write_comparison

        say(str(write_comparison(runs, options["out"] or "compare.html", **chosen)))
        return
    for name in ("signal", "background"):
        if options[name] is not None:
            raise InputError(f"--{name} is for a comparison of several runs")
    from pcloud.report import write_report

    say(str(write_report(runs[0], options["out"], label=options["label"])))
    suggest("predict", runs[0], "FILE", "-o", "scores.parquet")


COMMAND = Command(
    "report", "Write the report of a run, or compare several.", execute, (ReportOptions,)
)
