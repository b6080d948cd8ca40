"""``pcloud simulate``: simulate jets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le

from pcloud.cli.command import Command, Flag, Options, Switch
from pcloud.cli.options import OutputArgument, OverwriteOption, ProgressOption
from pcloud.cli.output import say, shows_progress, suggest
from pcloud.training.config import NumJets
from pcloud.words import number_of


@dataclass(frozen=True, kw_only=True)
class SimulateOptions(ProgressOption, OverwriteOption, OutputArgument):
    """Simulation."""

    jets: Annotated[NumJets, Flag(short="-n")] = 10_000
    """Number of jets."""
    process: Literal["both", "top", "qcd", "w", "w_qcd"] = "both"
    """Process: hadronic top pairs (top), QCD dijets (qcd), or half of each (both); pairs of hadronic W
    bosons (w), or these and QCD dijets, half of each (w_qcd)."""
    seed: Annotated[int, Ge(0)] = 1
    """Seed of the simulation; the jets do not depend on the number of workers."""
    workers: Annotated[int, Ge(1), Le(1000)] | None = None
    """Number of processes; by default one per processor."""
    mpi: Switch = False
    """Simulate multi-parton interactions, which the Landscape sample does not have."""
    tune: Annotated[int, Ge(0)] = 14
    """Number of Pythia's pp tune; 14 is Monash 2013."""


def execute(options: Options) -> None:
    """Simulate the jets, one block at a time."""
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
    say(f"{number_of(options['jets'], 'jet')}: {path}")
    suggest("train", "--data", path, "--out", "runs/first")


COMMAND = Command("simulate", "Simulate top, W and QCD jets.", execute, (SimulateOptions,))
