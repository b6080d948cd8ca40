"""Interface to Pythia 8 and FastJet; the only module that imports the extra ``sim``."""

from __future__ import annotations

import awkward as ak
import numpy as np

from pcloud.errors import MissingExtraError
from pcloud.native_output import hidden_output
from pcloud.simulate.detector import INVISIBLE, Particles
from pcloud.simulate.recipe import CENTRE_OF_MASS, PT_MIN, RADIUS, Process

try:
    import fastjet
    import pythia8mc
except ImportError as error:
    raise MissingExtraError("simulating jets", "pythia8mc and fastjet", "sim") from error

_PARTICLE_LEVEL_PT_MIN = 100.0  # GeV, far below that of the reconstructed jets

QUIET = (
    "Print:quiet = on",
    "Next:numberShowInfo = 0",
    "Next:numberShowProcess = 0",
    "Next:numberShowEvent = 0",
)


class EventGenerator:
    """Generator of events of one process with Pythia 8.

    Parameters
    ----------
    process : Process
        Hard process.
    seed : int
        Seed of Pythia, from 1 to 900 000 000.
    mpi : bool, default False
        If True, multi-parton interactions are simulated.
    tune : int, default 14
        Number of the pp tune of Pythia; 14 is Monash 2013.
    """

    def __init__(self, process: Process, seed: int, *, mpi: bool = False, tune: int = 14) -> None:
        self.resonance = process.resonance
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
            Number of events to generate.

        Returns
        -------
        count : int
            Number of generated events; it can be smaller, because Pythia fails for a few events.
        particles : Particles
            Stable particles of these events.
        decays : ndarray, shape (count, T, D, 4)
            Momenta ``(E, px, py, pz)`` in GeV of each top quark before its decay, of its down-type
            quark, and of the two quarks from its W boson (D = 4); of W pairs those of each W boson and
            its two quarks (D = 3). T is 2, and 0 without a resonance of the process.
        """
        record = self.pythia.nextBatch(count).prt
        sizes = ak.to_numpy(ak.num(record))
        flat = ak.flatten(record)
        pid = ak.to_numpy(flat.id)
        status = ak.to_numpy(flat.status)
        p4 = np.stack([ak.to_numpy(flat.p[name]) for name in ("e", "px", "py", "pz")], axis=1)
        event = np.repeat(np.arange(len(record)), sizes)
        stable = status > 0
        particles = Particles(event[stable], pid[stable], self._charge(pid[stable]), p4[stable])
        daughters = np.stack([ak.to_numpy(flat.daughter1), ak.to_numpy(flat.daughter2)], axis=1)
        daughters = daughters + (np.cumsum(sizes) - sizes)[event, None]  # rows of `flat`
        is_last = np.abs(status) == 62  # with the recoil of all radiation, before the decay
        found = np.flatnonzero((np.abs(pid) == self.resonance) & is_last)
        chains = (_w_decays if self.resonance == 24 else _top_decays)(found, pid, daughters)
        shape = (len(record), -1 if len(found) else 0, chains.shape[1], 4)
        return len(record), particles, p4[chains].reshape(shape)

    def _charge(self, pid: np.ndarray) -> np.ndarray:
        codes, index = np.unique(pid, return_inverse=True)
        data = self.pythia.particleData
        return np.array([data.charge(int(code)) for code in codes])[index]


def _w_decays(bosons: np.ndarray, pid: np.ndarray, daughters: np.ndarray) -> np.ndarray:
    """Rows of each W boson and of its two quarks, (bosons, 3)."""
    return np.concatenate([bosons[:, None], daughters[bosons]], axis=1)


def _top_decays(tops: np.ndarray, pid: np.ndarray, daughters: np.ndarray) -> np.ndarray:
    """Rows of each top, its down-type quark and the two quarks from its W boson, (tops, 4)."""
    pair = daughters[tops]
    first_is_w = np.abs(pid[pair[:, 0]]) == 24
    w = np.where(first_is_w, pair[:, 0], pair[:, 1])
    quark = np.where(first_is_w, pair[:, 1], pair[:, 0])
    while (copied := pid[daughters[w, 0]] == pid[w]).any():  # copies of the W boson after recoil
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
        Smallest pT of a jet in GeV; events without such a jet are omitted.

    Returns
    -------
    which : ndarray of int, shape (B,)
        Indices of the events with a jet.
    counts : ndarray of int, shape (B,)
        Number of constituents of each jet.
    index : ndarray of int, shape (counts.sum(),)
        Rows in `p4` of the constituents of the jets.
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
    with hidden_output():
        clusters = fastjet.ClusterSequence(array, definition)
        jets = clusters.inclusive_jets(pt_min)
        rows = clusters.constituent_index(pt_min)
    leading = ak.argmax(jets.px**2 + jets.py**2, axis=1, keepdims=True)
    which = np.flatnonzero(ak.num(jets) > 0)
    rows = rows[leading][which, 0]
    counts = np.asarray(ak.num(rows))
    starts = np.cumsum(per_event) - per_event
    return which, counts, np.asarray(ak.flatten(rows)) + np.repeat(starts[which], counts)


def particle_level_jets(
    particles: Particles, events: np.ndarray, axis: np.ndarray, radius: float = RADIUS
) -> np.ndarray:
    """Find the jets of stable visible particles nearest to reconstructed ones.

    Parameters
    ----------
    particles : Particles
        Stable particles of all events.
    events : ndarray of int, shape (B,)
        Indices of the events, in increasing order, one jet each.
    axis : ndarray, shape (B, 4)
        Momenta ``(E, px, py, pz)`` of the reconstructed jets in GeV.
    radius : float, default 0.8
        Radius parameter of the jets, and largest distance of a match.

    Returns
    -------
    ndarray, shape (B, 2)
        pT and mass in GeV; NaN if no jet is inside the radius.
    """
    if len(events) == 0:
        return np.empty((0, 2))
    chosen = np.isin(particles.event, events) & ~np.isin(np.abs(particles.pid), INVISIBLE)
    counts = np.bincount(np.searchsorted(events, particles.event[chosen]), minlength=len(events))
    columns = zip(("E", "px", "py", "pz"), particles.p4[chosen].T, strict=True)
    array = ak.unflatten(ak.zip(dict(columns), with_name="Momentum4D"), counts)
    definition = fastjet.JetDefinition(fastjet.antikt_algorithm, radius)
    with hidden_output():
        jets = fastjet.ClusterSequence(array, definition).inclusive_jets(_PARTICLE_LEVEL_PT_MIN)
    p4 = {name: jets[name] for name in ("E", "px", "py", "pz")}
    pt = np.hypot(p4["px"], p4["py"])
    eta, phi = np.arcsinh(p4["pz"] / pt), np.arctan2(p4["py"], p4["px"])
    axis_pt = np.hypot(axis[:, 1], axis[:, 2])
    dphi = (phi - np.arctan2(axis[:, 2], axis[:, 1]) + np.pi) % (2 * np.pi) - np.pi
    distance = np.hypot(eta - np.arcsinh(axis[:, 3] / axis_pt), dphi)
    square = p4["E"] ** 2 - pt**2 - p4["pz"] ** 2
    mass = np.sqrt(ak.where(square > 0, square, 0.0))
    nearest = ak.argmin(distance, axis=1, keepdims=True)
    found = [ak.fill_none(ak.firsts(column[nearest]), np.nan) for column in (pt, mass, distance)]
    values = np.stack([ak.to_numpy(column) for column in found], axis=1)
    values[~(values[:, 2] < radius)] = np.nan
    return values[:, :2]
