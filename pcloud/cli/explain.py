"""``pcloud explain``: attribution and Taylor coefficients of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser

from pcloud.cli.command import Command, Options
from pcloud.cli.options import add_checkpoint, add_quiet, add_run
from pcloud.cli.output import print_rows, progress_bar, say

if TYPE_CHECKING:
    from pcloud.run import Run


def add_options(parser: ArgumentParser) -> None:
    """Which methods, on how many jets."""
    add_run(parser)
    parser.add_argument(
        "--method",
        type=str,
        nargs="+",
        default=["taylor"],
        choices=["taylor", "saliency", "integrated_gradients", "smoothgrad", "occlusion"],
        help="taylor: coefficients of the response. The others: which particles and features each "
        "decision rests on, drawn on jets; all but occlusion need captum.",
    )
    parser.add_argument(
        "--jets",
        type=int,
        help="Test jets to look at; by default 2000 for taylor and 200 for the others, or what the "
        "network passes in some minutes.",
    )
    parser.add_argument(
        "--pair-jets",
        type=int,
        help="Of these, jets in which to tell pairs of features on one particle from pairs on two, "
        "which takes long; by default up to 20.",
    )
    parser.add_argument(
        "--signal", type=str, help="Class to explain; by default the second of two, or all."
    )
    add_checkpoint(parser)
    add_quiet(parser)


def execute(options: Options) -> None:
    """Explain by each of the methods."""
    from pcloud.run import Run

    run = Run(options["run"])
    attribution = [method for method in options["method"] if method != "taylor"]
    if attribution:
        _explain_attribution(run, attribution, options)
    if "taylor" in options["method"]:
        _explain_taylor(run, options)


def _explain_attribution(run: Run, methods: list[str], options: Options) -> None:
    from pcloud.studies.attribution import attribute_run

    what = ", ".join(methods).replace("_", " ")
    with progress_bar(what, 1, quiet=options["quiet"]) as advance:
        stored = attribute_run(run, methods, **_shared(options), advance=advance)
    for found in stored.classes:
        say(f"log-odds of {found.signal}:")
        if rows := found.rows():
            print_rows(rows)
        if path := found.integrated_gradients:
            say(
                f"integrated gradients leave {path['gap']:.2g} of a change of the log-odds of "
                f"{path['change']:.2f} unexplained"
            )
    say(f"{stored.classes[0].jets:,} test jets; written to {run.path / stored.file}")


def _explain_taylor(run: Run, options: Options) -> None:
    from pcloud.studies.taylor import taylor_run

    with progress_bar("Taylor coefficients", 1, quiet=options["quiet"]) as advance:
        shared, pair_jets = _shared(options), options["pair_jets"]
        stored = taylor_run(run, **shared, pair_jets=pair_jets, advance=advance)
    for name in stored.classes:
        print_rows(stored.class_rows(name))
    say(f"{stored.jets:,} test jets; written to {run.path / stored.file}")


def _shared(options: Options) -> Options:
    return {name: options[name] for name in ("signal", "jets", "checkpoint")}


COMMAND = Command("explain", "Rank what a tagger looks at.", add_options, execute)
