"""``pcloud check``: measure an exported file."""

from __future__ import annotations

from dataclasses import dataclass

from pcloud.cli.command import Argument, Command, Options
from pcloud.cli.options import ReadingOptions, TrustOption, reading
from pcloud.cli.output import print_rows, say
from pcloud.training.config import NumJets
from pcloud.words import number_of


@dataclass(frozen=True, kw_only=True)
class CheckOptions(TrustOption):
    """Check."""

    file: Argument
    """Exported file."""
    data: list[str] | None = None
    """Files of jets; by default the test jets of --run."""
    run: str | None = None
    """Run with which the file is compared; by default its metrics are measured alone, on labelled
    jets."""
    max_jets: NumJets = 100_000
    """Largest number of jets."""


def execute(options: Options) -> None:
    """Print the differences from a run, or the metrics of the file."""
    from pcloud.export.check import check_parity, compare_file, measure_file

    names = ("data", "max_jets")
    given = {name: options[name] for name in names} | reading(options)
    if options["run"] is None:
        table, jets = measure_file(options["file"], **given)
        print_rows(table.overall())
        say(f"measured on {number_of(jets, 'jet')}")
        return
    from pcloud.run import Run

    run = Run(options["run"], trust_code=options["trust_code"])
    parity, metadata = compare_file(options["file"], run, **given)
    print_rows(parity.rows())
    check_parity(parity, metadata)


COMMAND = Command(
    "check",
    "Measure an exported file, or compare it with a run.",
    execute,
    (CheckOptions, ReadingOptions),
)
