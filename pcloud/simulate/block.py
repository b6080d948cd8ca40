"""A block of jets: the unit of work of a process, a pure function of its seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pcloud.io.jets import FlatJets, as_offsets
from pcloud.simulate.detector import Detector, energy_flow
from pcloud.simulate.recipe import MAX_CONSTITUENTS, PROCESSES, contained, in_window

if TYPE_CHECKING:
    from pcloud.simulate.engines import EventGenerator

#: Number of seeds that Pythia knows.
PYTHIA_SEEDS = 900_000_000


@dataclass(frozen=True)
class Settings:
    """What decides the jets of a process, apart from how many there are.

    Parameters
    ----------
    seed : int
        Seed of the whole sample.
    detector : Detector
        Numbers of the detector.
    mpi : bool
        Whether there are multi-parton interactions.
    tune : int
        Number of the pp tune of Pythia; 14 is Monash 2013, its default.
    block_size : int
        Number of jets in a block. 250 are some seven seconds of work, of which starting Pythia
        takes a third of one.
    """

    seed: int = 1
    detector: Detector = field(default_factory=Detector)
    mpi: bool = False
    tune: int = 14
    block_size: int = 250


def make_block(process: str, index: int, settings: Settings) -> FlatJets:
    """Make the jets of one block.

    Parameters
    ----------
    process : str
        ``"top"`` or ``"qcd"``.
    index : int
        Number of the block. Blocks of the same process have Pythia seeds that follow each
        other, so none comes twice within the 9e8 that Pythia has.
    settings : Settings
        Seed, detector and physics.

    Returns
    -------
    FlatJets
        Exactly ``settings.block_size`` jets in float32, with ``label`` and the momentum of the top,
        ``truth_E`` to ``truth_pz``, which is zero for QCD jets.
    """
    from pcloud.simulate.engines import EventGenerator

    label = PROCESSES[process].label
    root = np.random.SeedSequence(settings.seed, spawn_key=(label,))
    pythia_seed = (int(root.generate_state(1, np.uint64)[0]) + index) % PYTHIA_SEEDS + 1
    rng = np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=(label, index)))
    generator = EventGenerator(
        PROCESSES[process], pythia_seed, mpi=settings.mpi, tune=settings.tune
    )
    batches: list[FlatJets] = []
    made = tried = 0
    while made < settings.block_size:
        efficiency = max(made, 10) / tried if tried else 0.2
        events = int(np.clip(1.05 * (settings.block_size - made) / efficiency, 20, 250))
        batches.append(_select(generator, label, events, settings.detector, rng))
        made += len(batches[-1])
        tried += events
    return FlatJets.concatenate(batches).slice(0, settings.block_size)


def _select(
    generator: EventGenerator,
    label: int,
    events: int,
    detector: Detector,
    rng: np.random.Generator,
) -> FlatJets:
    """Make events and keep their leading jets that pass the selection."""
    from pcloud.simulate.engines import leading_jets

    made, particles, decays = generator.events(events)
    event, p4 = energy_flow(particles, detector, rng)
    which, counts, index = leading_jets(event, p4, made)
    jet = np.repeat(np.arange(len(which)), counts)
    p4 = p4[index]
    axis = np.stack([np.bincount(jet, p, minlength=len(which)) for p in p4.T], axis=1)
    keep = in_window(axis)
    truth = np.zeros((len(which), 4))
    if decays.shape[1]:  # there are tops
        matched = contained(axis, decays[which])
        keep &= matched.any(axis=1)
        truth = decays[which, matched.argmax(axis=1), 0]
    order = np.lexsort((-np.hypot(p4[:, 1], p4[:, 2]), jet))
    rank = np.arange(len(jet)) - np.repeat(np.cumsum(counts) - counts, counts)
    order = order[keep[jet] & (rank < MAX_CONSTITUENTS)]
    names = ("truth_E", "truth_px", "truth_py", "truth_pz")
    return FlatJets(
        as_offsets(np.minimum(counts[keep], MAX_CONSTITUENTS)),
        tuple(p4[order].astype(np.float32).T.copy()),
        jet={
            **dict(zip(names, truth[keep].astype(np.float32).T.copy(), strict=True)),
            "label": np.full(keep.sum(), label, dtype=np.int64),
        },
    )
