"""``pcloud uncertainty``: uncertainties of the scores of the test jets of a run."""

from __future__ import annotations

from jsonargparse import ArgumentParser

from pcloud.cli.command import Command, Options
from pcloud.cli.options import add_network, add_quiet, add_run
from pcloud.cli.output import print_rows, progress_bar, say


def add_options(parser: ArgumentParser) -> None:
    """Where opinions come from, and how many."""
    add_run(parser, "Folder of the run, or of an ensemble.")
    parser.add_argument(
        "--method",
        type=str,
        choices=["ensemble", "dropout", "laplace", "variational"],
        help="Where several opinions come from: members of an ensemble, dropout switched on, or "
        "weights of the last layer drawn from their Laplace approximation or from trained "
        "Gaussians; by default ensemble or else laplace.",
    )
    parser.add_argument("--samples", type=int, default=50, help="Opinions, where they are drawn.")
    parser.add_argument(
        "--jets",
        type=int,
        help="Test jets to look at; by default all, or what the network passes in some minutes.",
    )
    parser.add_argument("--seed", type=int, default=0, help="Seed of what is drawn.")
    add_network(parser)
    add_quiet(parser)


def execute(options: Options) -> None:
    """Write the uncertainties of each test jet, and print their means."""
    from pcloud.run import Run
    from pcloud.run_files import UNCERTAINTY_TABLE

    run = Run(options.pop("run"))
    with progress_bar("uncertainty", 1, quiet=options.pop("quiet")) as advance:
        stored = run.uncertainty(**options, advance=advance)
    print_rows(stored.rows())
    facts = ", ".join(
        f"{name.replace('_', ' ')} {value:.3g}"
        if isinstance(value, float)
        else f"{name.replace('_', ' ')} {value}"
        for name, value in stored.facts.items()
    )
    say(f"{facts}; entropies in nats")
    table = run.path / UNCERTAINTY_TABLE
    say(f"written to {table}, a row for each of {len(stored.labels):,} test jets")


COMMAND = Command("uncertainty", "Say how sure a tagger is.", add_options, execute)
