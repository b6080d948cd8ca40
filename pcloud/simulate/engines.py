"""Pythia 8 and FastJet behind numpy arrays: the only file that imports the extra ``sim``."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

import awkward as ak
import numpy as np

from pcloud.errors import MissingExtraError
from pcloud.simulate.detector import Particles
from pcloud.simulate.recipe import CENTRE_OF_MASS, PT_MIN, RADIUS, Process

try:
    import fastjet
    import pythia8mc
except ImportError as error:
    raise MissingExtraError("simulating jets", "pythia8mc and fastjet", "sim") from error

QUIET = (
    "Print:quiet = on",
    "Next:numberShowInfo = 0",
    "Next:numberShowProcess = 0",
    "Next:numberShowEvent = 0",
)


class EventGenerator:
    """Events of one process, from Pythia 8.

    Parameters
    ----------
    process : Process
        The hard process.
    seed : int
        Seed of Pythia, from 1 to 900 000 000.
    mpi : bool, default False
        Whether there are multi-parton interactions.
    tune : int, default 14
        Number of the pp tune of Pythia; 14 is Monash 2013.
    """

    def __init__(self, process: Process, seed: int, *, mpi: bool = False, tune: int = 14) -> None:
        self.pythia = pythia8mc.Pythia("", False)
        for setting in (
            *QUIET,
            f"Tune:pp = {tune}",
            f"Beams:eCM = {CENTRE_OF_MASS}",
            f"PartonLevel:MPI = {'on' if mpi else 'off'}",
            f"PhaseSpace:pTHatMin = {process.pt_hat[0]}",
            f"PhaseSpace:pTHatMax = {process.pt_hat[1]}",
            "Random:setSeed = on",
            f"Random:seed = {seed}",
            *process.settings,
        ):
            if not self.pythia.readString(setting):
                raise RuntimeError(f"Pythia does not know the setting {setting!r}")
        if not self.pythia.init():
            raise RuntimeError("Pythia could not be initialised")

    def events(self, count: int) -> tuple[int, Particles, np.ndarray]:
        """Generate events.

        Parameters
        ----------
        count : int
            Number of events to try.

        Returns
        -------
        count : int
            Number of events made; Pythia gives up on a few.
        particles : Particles
            Their stable particles.
        decays : ndarray, shape (count, T, 4, 4)
            Momenta ``(E, px, py, pz)`` in GeV of each top before its decay, its down-type quark
            and the two quarks of its W; T = 2 for top pairs and 0 without tops.
        """
        record = self.pythia.nextBatch(count).prt
        sizes = ak.to_numpy(ak.num(record))
        flat = ak.flatten(record)
        pid, status = ak.to_numpy(flat.id), ak.to_numpy(flat.status)
        p4 = np.stack([ak.to_numpy(flat.p[name]) for name in ("e", "px", "py", "pz")], axis=1)
        event = np.repeat(np.arange(len(record)), sizes)
        stable = status > 0
        particles = Particles(event[stable], pid[stable], self._charge(pid[stable]), p4[stable])
        daughters = np.stack([ak.to_numpy(flat.daughter1), ak.to_numpy(flat.daughter2)], axis=1)
        daughters = daughters + (np.cumsum(sizes) - sizes)[event, None]  # rows of `flat`
        tops = np.flatnonzero((np.abs(pid) == 6) & (np.abs(status) == 62))
        chains = _top_decays(tops, pid, daughters)  # (tops, 4)
        return len(record), particles, p4[chains].reshape(len(record), -1, 4, 4)

    def _charge(self, pid: np.ndarray) -> np.ndarray:
        codes, index = np.unique(pid, return_inverse=True)
        data = self.pythia.particleData
        return np.array([data.charge(int(code)) for code in codes])[index]


def _top_decays(tops: np.ndarray, pid: np.ndarray, daughters: np.ndarray) -> np.ndarray:
    """Rows of the top, its down-type quark and the two quarks of its W, shape (tops, 4)."""
    pair = daughters[tops]
    first_is_w = np.abs(pid[pair[:, 0]]) == 24
    w = np.where(first_is_w, pair[:, 0], pair[:, 1])
    quark = np.where(first_is_w, pair[:, 1], pair[:, 0])
    while (copied := pid[daughters[w, 0]] == pid[w]).any():  # recoil makes copies of the W
        w = np.where(copied, daughters[w, 0], w)
    return np.stack([tops, quark, daughters[w, 0], daughters[w, 1]], axis=1)


def leading_jets(
    event: np.ndarray, p4: np.ndarray, count: int, radius: float = RADIUS, pt_min: float = PT_MIN
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the hardest anti-kT jet of each event.

    Parameters
    ----------
    event : ndarray of int, shape (N,)
        Index of the event of each constituent, sorted.
    p4 : ndarray, shape (N, 4)
        Momenta ``(E, px, py, pz)`` in GeV.
    count : int
        Number of events.
    radius : float, default 0.8
        Radius parameter of the jets.
    pt_min : float, default 550
        Events without a jet above this pT, in GeV, are left out.

    Returns
    -------
    which : ndarray of int, shape (B,)
        Events with a jet.
    counts : ndarray of int, shape (B,)
        Number of constituents of each of these jets.
    index : ndarray of int, shape (counts.sum(),)
        Rows of `p4` that are the constituents of the jets.
    """
    per_event = np.bincount(event, minlength=count)
    array = ak.unflatten(
        ak.zip(
            {name: p4[:, i] for i, name in enumerate(("E", "px", "py", "pz"))},
            with_name="Momentum4D",
        ),
        per_event,
    )
    definition = fastjet.JetDefinition(fastjet.antikt_algorithm, radius)
    with _quiet_banner():
        clusters = fastjet.ClusterSequence(array, definition)
        jets = clusters.inclusive_jets(pt_min)
        rows = clusters.constituent_index(pt_min)
    leading = ak.argmax(jets.px**2 + jets.py**2, axis=1, keepdims=True)
    which = np.flatnonzero(ak.num(jets) > 0)
    rows = rows[leading][which, 0]
    counts = np.asarray(ak.num(rows))
    starts = np.cumsum(per_event) - per_event
    return which, counts, np.asarray(ak.flatten(rows)) + np.repeat(starts[which], counts)


@contextlib.contextmanager
def _quiet_banner() -> Iterator[None]:
    """Keep the banner that FastJet prints from C++ at its first clustering off the screen."""
    sys.stdout.flush()
    screen, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(screen, 1)
        os.close(screen)
        os.close(nowhere)
