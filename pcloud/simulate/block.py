"""Production of a block of jets, which depends only on its seed; the unit of work of a process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pcloud.io.jets import TARGETS, FlatJets, as_offsets
from pcloud.simulate.detector import Detector, energy_flow
from pcloud.simulate.recipe import MAX_CONSTITUENTS, PROCESSES, contained, in_window

if TYPE_CHECKING:
    from pcloud.simulate.engines import EventGenerator

#: Number of different seeds of Pythia.
PYTHIA_SEEDS = 900_000_000


@dataclass(frozen=True)
class Settings:
    """Settings that determine the jets of a sample, except for their number.

    Parameters
    ----------
    seed : int
        Seed of the sample.
    detector : Detector
        Parameters of the detector.
    mpi : bool
        If True, multi-parton interactions are simulated.
    tune : int
        Number of the pp tune of Pythia; 14 is Monash 2013, the default of Pythia.
    block_size : int
        Number of jets in a block. 250 jets take about seven seconds, of which the start of Pythia
        takes 0.3 seconds.
    """

    seed: int = 1
    detector: Detector = field(default_factory=Detector)
    mpi: bool = False
    tune: int = 14
    block_size: int = 250


def make_block(process: str, index: int, settings: Settings) -> FlatJets:
    """Simulate the jets of a block.

    Parameters
    ----------
    process : str
        Name of the process, ``"top"``, ``"qcd"`` or ``"w"``.
    index : int
        Number of the block. Blocks of the same process have consecutive seeds of Pythia, so that no
        seed is used twice in up to 9e8 blocks.
    settings : Settings
        Seed, detector and physics.

    Returns
    -------
    FlatJets
        ``settings.block_size`` jets in float32, with ``label``, the momentum of the top quark or W boson,
        ``truth_E`` to ``truth_pz``, which is zero for QCD jets, and the targets ``pt`` and ``mass``
        in GeV: those of the jet of the stable visible particles before the detector that is nearest
        to the jet, NaN if none is inside its radius.
    """
    from pcloud.simulate.engines import EventGenerator

    label, key = PROCESSES[process].label, PROCESSES[process].seed_key
    root = np.random.SeedSequence(settings.seed, spawn_key=(key,))
    pythia_seed = (int(root.generate_state(1, np.uint64)[0]) + index) % PYTHIA_SEEDS + 1
    rng = np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=(key, index)))
    generator = EventGenerator(
        PROCESSES[process], pythia_seed, mpi=settings.mpi, tune=settings.tune
    )
    batches: list[FlatJets] = []
    num_jets = num_events = 0
    while num_jets < settings.block_size:
        efficiency = max(num_jets, 10) / num_events if num_events else 0.2
        events = int(np.clip(1.05 * (settings.block_size - num_jets) / efficiency, 20, 250))
        batches.append(_select(generator, label, events, settings.detector, rng))
        num_jets += len(batches[-1])
        num_events += events
    return FlatJets.concatenate(batches).slice(0, settings.block_size)


def _select(
    generator: EventGenerator,
    label: int,
    events: int,
    detector: Detector,
    rng: np.random.Generator,
) -> FlatJets:
    """Simulate events and select their leading jets."""
    from pcloud.simulate.engines import leading_jets, particle_level_jets

    num_events, particles, decays = generator.events(events)
    event, p4 = energy_flow(particles, detector, rng)
    which, counts, index = leading_jets(event, p4, num_events)
    jet = np.repeat(np.arange(len(which)), counts)
    p4 = p4[index]
    axis = np.stack([np.bincount(jet, p, minlength=len(which)) for p in p4.T], axis=1)
    keep = in_window(axis)
    truth = np.zeros((len(which), 4))
    if decays.shape[1]:  # events with top quarks or W bosons
        matched = contained(axis, decays[which])
        keep &= matched.any(axis=1)
        truth = decays[which, matched.argmax(axis=1), 0]
    before = particle_level_jets(particles, which[keep], axis[keep])
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
            f"{TARGETS}pt": before[:, 0],
            f"{TARGETS}mass": before[:, 1],
        },
    )
