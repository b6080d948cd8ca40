"""``pcloud evaluate``: measure a run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser

from pcloud.cli.command import Command, Options
from pcloud.cli.options import add_network, add_reading, add_run, reading
from pcloud.cli.output import console, print_rows, progress_bar, say
from pcloud.errors import InputError

if TYPE_CHECKING:
    from pcloud.run import Run


def add_options(parser: ArgumentParser) -> None:
    """Which jets, which numbers, and whether robustness too."""
    add_run(parser)
    parser.add_argument(
        "--data",
        type=str,
        nargs="+",
        help="Other jets than the run's: a data set by name, or files. The results go to "
        "evaluations/ in the folder of the run.",
    )
    parser.add_argument(
        "--split", type=str, default="test", help="Split of the run's data or the data set."
    )
    parser.add_argument(
        "--name", type=str, help="Name of the evaluation; by default that of the first file."
    )
    parser.add_argument("--data-root", type=str, help="Folder of the public data sets.")
    add_reading(parser)
    add_network(parser)
    _add_numbers(parser)
    _add_robustness(parser)


def _add_numbers(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--efficiencies",
        type=float,
        nargs="+",
        default=[0.3, 0.5],
        help="Signal efficiencies at which to give the background rejection.",
    )
    parser.add_argument(
        "--signal", type=str, help="Signal class; by default the second of two, or each in turn."
    )
    parser.add_argument(
        "--background", type=str, help="One class against which to rank each other class."
    )
    parser.add_argument(
        "--bootstrap", type=int, default=200, help="Resamplings for the bootstrap errors."
    )
    parser.add_argument("--seed", type=int, default=0, help="Seed of the resamplings.")


def _add_robustness(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--robustness",
        action="store_true",
        help="Change the run's test jets too (energies, particles, angles), measure what that does, "
        "what passes a cut against pT, mass and multiplicity, and the sculpting of the mass.",
    )
    parser.add_argument(
        "--robustness-jets",
        type=int,
        help="Jets to change; by default 2000, more where less than 25 background jets of them "
        "pass the cut, or what the network passes in some minutes.",
    )
    parser.add_argument(
        "--simulations",
        type=int,
        default=0,
        help="With --robustness, jets to simulate with each of some other settings of Pythia.",
    )


def execute(options: Options) -> None:
    """Print the table of metrics and write it to the folder of the run."""
    from pcloud.run import Run

    run = Run(options["run"])
    if options["robustness"] and options["data"]:
        raise InputError("--robustness is about the run's own test jets: leave --data out")
    from pcloud.studies.evaluate import evaluation_folder

    how = reading(options)
    if options["data_root"] is not None:
        how["data_root"] = options["data_root"]
    data = options["data"]
    if data and len(data) == 1:
        data = data[0]
    place = {"split": options["split"], "name": options["name"]}
    table = run.evaluate(
        data,
        **place,
        checkpoint=options["checkpoint"],
        batch_size=options["batch_size"],
        efficiencies=options["efficiencies"],
        signal=options["signal"],
        background=options["background"],
        num_bootstrap=options["bootstrap"],
        seed=options["seed"],
        **how,
    )
    console().print(table)
    say(f"written to {evaluation_folder(run, data, **place)}")
    if not run.finished:
        say("the training of this run is not finished")
    if options["robustness"]:
        _evaluate_robustness(run, options)


def _evaluate_robustness(run: Run, options: Options) -> None:
    from pcloud.evaluation import read_scores
    from pcloud.run_files import ROBUSTNESS_FILE, SCORES_FILE

    names = ("signal", "background", "checkpoint", "batch_size", "simulations", "seed")
    chosen = {name: options[name] for name in names}
    if options["split"] == "test" and options["name"] is None:  # just scored
        chosen["scores"] = read_scores(run.path / SCORES_FILE).values
    chosen["workers"] = os.cpu_count() or 1
    with progress_bar("modifications", 1) as advance:
        stored = run.robustness(jets=options["robustness_jets"], advance=advance, **chosen)
    print_rows(stored.rows())
    print_rows(stored.sculpting_rows())
    say(f"written to {run.path / ROBUSTNESS_FILE}")


COMMAND = Command("evaluate", "Measure a trained tagger.", add_options, execute)
