"""``pcloud simulate``: new jets."""

from __future__ import annotations

from jsonargparse import ArgumentParser

from pcloud.cli.command import Command, Options
from pcloud.cli.options import add_jet_file, add_overwrite, add_quiet
from pcloud.cli.output import say, shows_progress


def add_options(parser: ArgumentParser) -> None:
    """Which jets, how many, and by how many processes."""
    add_jet_file(parser)
    parser.add_argument("-n", "--jets", type=int, default=10_000, help="Number of jets.")
    parser.add_argument(
        "--process",
        type=str,
        default="both",
        choices=["both", "top", "qcd"],
        help="Hadronic top pairs, QCD dijets, or half each.",
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="Seed; the jets depend on it, not on the workers."
    )
    parser.add_argument("--workers", type=int, help="Processes; by default one for each processor.")
    parser.add_argument(
        "--mpi", action="store_true", help="With multi-parton interactions, unlike the Landscape."
    )
    parser.add_argument("--tune", type=int, default=14, help="Pythia's pp tune; 14 is Monash 2013.")
    add_overwrite(parser)
    add_quiet(parser)


def execute(options: Options) -> None:
    """Simulate, a block at a time."""
    from pcloud.simulate import simulate

    path = simulate(
        options["output"],
        options["jets"],
        process=options["process"],
        seed=options["seed"],
        workers=options["workers"],
        mpi=options["mpi"],
        tune=options["tune"],
        progress=shows_progress(quiet=options["quiet"]),
        overwrite=options["overwrite"],
    )
    say(f"{options['jets']:,} jets: {path}")


COMMAND = Command("simulate", "Simulate top and QCD jets.", add_options, execute)
