"""``pcloud weak``: measure weakly supervised taggers against the fraction of signal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Interval

from pcloud.cli.command import Command, Options
from pcloud.cli.options import ProgressOption, TrustOption
from pcloud.cli.output import print_rows, say
from pcloud.cli.parser import complete
from pcloud.cli.train import with_file
from pcloud.training.config import STAGES, Fraction, Share
from pcloud.validation import hints


@dataclass(frozen=True, kw_only=True)
class WeakOptions(ProgressOption, TrustOption):
    """Weak supervision."""

    fractions: list[Fraction] = field(default_factory=lambda: [0.01, 0.03, 0.1, 0.3, 0.9])
    """Fractions of the second class in the second of two mixed samples, which are told apart in
    place of the classes."""
    first_fraction: Share = 0.0
    """Fraction of the second class in the first sample: 0 is signal injected into one of two
    samples of background; with more, both samples are impure (CWoLa)."""
    seeds: Annotated[int, Interval(ge=2, le=1000)] = 3
    """Number of seeds, of the draws of both samples and of the weights, for each fraction."""
    config: str | None = None
    """YAML file with any of the options of the groups below; options on the command line override
    it."""


def execute(options: Options) -> None:
    """Train on mixed samples, print the areas, and draw them."""
    command = {name: options.pop(name) for name in hints(WeakOptions) if name in options}
    command = complete([WeakOptions], command)
    training = with_file(command["config"], options)
    from pcloud.studies.weak import weak_supervision

    found, files = weak_supervision(
        training,
        command["fractions"],
        first_fraction=command["first_fraction"],
        seeds=command["seeds"],
        trust_code=command["trust_code"],
        tell=(lambda text: None) if command["quiet"] else say,
    )
    print_rows(found.rows())
    for file in files:
        say(f"written to {file}")


COMMAND = Command(
    "weak",
    "Measure weak supervision against the fraction of signal.",
    execute,
    (WeakOptions, *STAGES.values()),
    complete=False,
)
