"""``pcloud compare``: whether jets of two files differ."""

from __future__ import annotations

from jsonargparse import ArgumentParser

from pcloud.cli.command import Command, Options
from pcloud.cli.options import add_reading, reading
from pcloud.cli.output import print_rows, say


def add_options(parser: ArgumentParser) -> None:
    """Which jets, and what is to tell them apart."""
    parser.add_argument("first", type=str, help="File of jets, or a glob.")
    parser.add_argument("second", type=str, help="Other jets.")
    add_reading(parser)
    parser.add_argument(
        "--classifier",
        type=str,
        default="boosting",
        help="What is to tell them apart: boosting or logistic on observables of the jets, or a "
        "model by name, on their particles.",
    )
    parser.add_argument("--max-jets", type=int, default=20_000, help="Jets of each to look at.")
    parser.add_argument("--permutations", type=int, default=1000, help="For the p-value.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of all that is random.")
    parser.add_argument(
        "--run",
        type=str,
        help="Folder of a run: its scores are compared too, and its report shows the result.",
    )
    parser.add_argument("-o", "--out", type=str, help="Folder for the result as JSON and figure.")


def execute(options: Options) -> None:
    """Print how far the two can be told apart, and by what."""
    from pcloud.studies.compare import compare_files

    found, files = compare_files(
        options["first"],
        options["second"],
        run=options["run"],
        out=options["out"],
        classifier=options["classifier"],
        max_jets=options["max_jets"],
        permutations=options["permutations"],
        seed=options["seed"],
        **reading(options),
    )
    from pcloud.evaluation.shift import summary

    print_rows(found.rows())
    say(summary(found))
    for file in files:
        say(f"written to {file}")


COMMAND = Command("compare", "Test whether jets differ.", add_options, execute)
