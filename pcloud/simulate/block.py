"""A block of jets: the unit of work of a process, a pure function of its seed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pcloud.simulate.detector import Detector, energy_flow
from pcloud.simulate.recipe import MAX_CONSTITUENTS, PROCESSES, contained, in_window

#: Jets in a block: five seconds of work, of which starting Pythia takes a third of a second.
BLOCK_SIZE = 250
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
        Number of the pp tune of Pythia.
    """

    seed: int
    detector: Detector = field(default_factory=Detector)
    mpi: bool = False
    tune: int = 14


@dataclass(frozen=True)
class Jets:
    """Jets as flat arrays, which travel between processes and files.

    Parameters
    ----------
    counts : ndarray of int, shape (B,)
        Number of constituents of each jet.
    p4 : ndarray of float32, shape (N, 4)
        Constituents ``(E, px, py, pz)`` in GeV, ordered by pT in each jet.
    truth : ndarray of float32, shape (B, 4)
        Top momentum; zero for QCD jets.
    """

    counts: np.ndarray
    p4: np.ndarray
    truth: np.ndarray


def make_block(process: str, index: int, settings: Settings) -> Jets:
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
    Jets
        Exactly `BLOCK_SIZE` jets.
    """
    from pcloud.simulate.engines import EventGenerator

    label = PROCESSES[process].label
    root = np.random.SeedSequence(settings.seed, spawn_key=(label,))
    pythia_seed = (int(root.generate_state(1, np.uint64)[0]) + index) % PYTHIA_SEEDS + 1
    rng = np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=(label, index)))
    generator = EventGenerator(
        PROCESSES[process], pythia_seed, mpi=settings.mpi, tune=settings.tune
    )
    batches: list[Jets] = []
    made, tried = 0, 0
    while made < BLOCK_SIZE:
        missing = BLOCK_SIZE - made
        efficiency = max(made, 10) / tried if tried else 0.25
        events = int(np.clip(1.05 * missing / efficiency, 20, 250))
        batches.append(_select(generator, events, settings.detector, rng))
        made += len(batches[-1].counts)
        tried += events
    return _first(BLOCK_SIZE, *batches)


def _select(
    generator: EventGenerator, events: int, detector: Detector, rng: np.random.Generator
) -> Jets:
    """Make events and keep their leading jets that pass the selection."""
    from pcloud.simulate.engines import leading_jets

    made, particles, decays = generator.events(events)
    event, p4 = energy_flow(particles, detector, rng)
    which, counts, index = leading_jets(event, p4, made)
    p4 = p4[index]
    jet = np.repeat(np.arange(len(which)), counts)
    axis = np.stack([np.bincount(jet, p4[:, i], minlength=len(which)) for i in range(4)], axis=1)
    keep = in_window(axis)
    truth = np.zeros((len(which), 4))
    if decays.shape[1]:
        matched = contained(axis, decays[which])
        keep &= matched.any(axis=1)
        truth = decays[which, matched.argmax(axis=1), 0]
    kept = keep[jet]
    jet, p4 = jet[kept], p4[kept]
    order = np.lexsort((-np.hypot(p4[:, 1], p4[:, 2]), jet))
    jet, p4 = jet[order], p4[order]
    rank = np.arange(len(jet)) - np.searchsorted(jet, jet)
    p4 = p4[rank < MAX_CONSTITUENTS]
    return Jets(
        np.minimum(counts[keep], MAX_CONSTITUENTS),
        p4.astype(np.float32),
        truth[keep].astype(np.float32),
    )


def _first(number: int, *parts: Jets) -> Jets:
    """Join jets and keep the first `number`."""
    counts = np.concatenate([part.counts for part in parts])[:number]
    p4 = np.concatenate([part.p4 for part in parts])[: counts.sum()]
    return Jets(counts, p4, np.concatenate([part.truth for part in parts])[:number])
