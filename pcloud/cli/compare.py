"""``pcloud compare``: test whether the jets of two files differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le

from pcloud.cli.command import Argument, Command, Flag, Options, Switch
from pcloud.cli.options import ReadingOptions, TrustOption, reading
from pcloud.cli.output import print_rows, say
from pcloud.training.config import NumJets, Seed


@dataclass(frozen=True, kw_only=True)
class CompareOptions(TrustOption):
    """Comparison."""

    first: Argument
    """File of jets, or a glob."""
    second: Argument
    """File of the jets to compare with, or a glob."""
    classifier: str = "boosting"
    """Classifier between the two samples: boosting or logistic on observables of the jets, or the
    name of a model, on their particles."""
    max_jets: NumJets = 20_000
    """Maximum number of jets of each sample."""
    permutations: Annotated[int, Ge(1), Le(10**7)] = 1000
    """Number of permutations for the p-value."""
    seed: Seed = 0
    """Seed of all random numbers."""
    identifiers: Switch = False
    """Compare identifiers too, such as event and run, which differ between any two samples."""
    run: str | None = None
    """Folder of a run, whose scores are compared too and whose report shows the result."""
    out: Annotated[str | None, Flag(short="-o")] = None
    """Folder for the result as JSON and figure, with --run for its folder shift."""


def execute(options: Options) -> None:
    """Print how well the two samples are separated, and by which observables."""
    from pcloud.studies.compare import compare_files
    from pcloud.training.run_folder import RunFolder

    run = options["run"]
    found, files = compare_files(
        options["first"],
        options["second"],
        run=None if run is None else RunFolder(run, trust_code=options["trust_code"]),
        out=options["out"],
        classifier=options["classifier"],
        max_jets=options["max_jets"],
        permutations=options["permutations"],
        seed=options["seed"],
        identifiers=options["identifiers"],
        **reading(options),
    )
    from pcloud.evaluation.shift import summary

    print_rows(found.rows())
    say(summary(found))
    for file in files:
        say(f"written to {file}")


COMMAND = Command("compare", "Test whether jets differ.", execute, (CompareOptions, ReadingOptions))
