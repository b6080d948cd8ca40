"""Comparison of an exported graph with the network that it was made from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from pcloud import kinematics
from pcloud.errors import InputError
from pcloud.export.graph import PROBABILITIES, Neighbors
from pcloud.export.inputs import JET_P4, CloudInputs, JetArrays
from pcloud.nn.graph.distances import squared_distances
from pcloud.nn.graph.knn import Search, watched_searches
from pcloud.nn.layout import RaggedLayout
from pcloud.nn.numerics.derivatives import higher_derivatives

__all__ = ["MovedJet", "Parity", "compare", "feeds", "hardest", "synthetic_jets"]

MAX_DIFFERENCE = 1e-4
"""Largest difference of a probability of the file and of PyTorch."""

MAX_WITH_NEIGHBORS = 1e-5
"""Largest difference where both have the same neighbours."""

MIN_SHARE = 0.98
"""Smallest share of jets within `MAX_DIFFERENCE`, for networks that search neighbours in features."""

_BATCH_JETS = 64
_BATCH_PAIRS = 2**18  # of particles, which bounds the memory of networks on pairs
_SYNTHETIC_SIZES = (0, 1, 2, 200)
_SYNTHETIC_GEV = (20.0, 5000.0)

Outputs = dict[str, np.ndarray]
"""Outputs (B, ...) by name."""


class Runnable(Protocol):
    """Exported graph that can be run."""

    outputs: list[str]

    def __call__(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name, from inputs by name."""


class Graph(Protocol):
    """Graph in PyTorch."""

    @property
    def names(self) -> Sequence[str]:
        """Names of the inputs."""

    @property
    def padded(self) -> bool:
        """True for batches of jets."""

    def predict(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs by name, from inputs by name."""

    def of_jet(self, feed: Mapping[str, np.ndarray], place: int) -> dict[str, np.ndarray]:
        """Inputs of one jet of a batch."""


Batch = tuple[Any, dict[str, np.ndarray]]
"""Index or indices of jets, and the inputs of a session for them."""


@dataclass(frozen=True)
class MovedJet:
    """Jet whose probabilities in the file and in PyTorch differ.

    Attributes
    ----------
    jet : int
        Index among the jets of the check; synthetic jets follow those of the test split.
    difference : float
        Largest difference of a probability.
    gap : float
        Smallest relative difference between the squared distances of the k-th and of the (k+1)-th
        neighbour of a particle.
    """

    jet: int
    difference: float
    gap: float


@dataclass(frozen=True)
class Parity:
    """Differences between a file and the network.

    Attributes
    ----------
    jets : int
        Number of jets of the test split.
    synthetic : int
        Number of further jets, see :func:`synthetic_jets`.
    difference : float
        Largest difference of a probability, or of another output relative to 1 plus its size.
    share : float
        Share of jets with a difference below :data:`MAX_DIFFERENCE`.
    with_neighbors : float or None
        Largest difference with the neighbours of the file handed over to the network; None for
        networks that do not search neighbours in features.
    auc_change : float or None
        Change of the AUC of the jets of the test split; None without two classes of jets.
    moved : tuple of MovedJet
        Jets with larger differences.
    """

    jets: int
    synthetic: int
    difference: float
    share: float
    with_neighbors: float | None = None
    auc_change: float | None = None
    moved: tuple[MovedJet, ...] = ()

    def rows(self) -> list[list[str]]:
        """Table of the differences."""
        rows = [
            ["parity", ""],
            ["jets", f"{self.jets:,} of the test split, {self.synthetic} synthetic"],
            ["largest difference", f"{self.difference:.1e}"],
            [f"jets below {MAX_DIFFERENCE:g}", f"{100 * self.share:.2f} %"],
        ]
        if self.with_neighbors is not None:
            rows.append(["with the same neighbours", f"{self.with_neighbors:.1e}"])
        if self.auc_change is not None:
            rows.append(["change of AUC", f"{self.auc_change:+.1e}"])
        rows += [
            [f"jet {jet.jet}", f"{jet.difference:.1e}, distances differ by {jet.gap:.1e}"]
            for jet in self.moved
        ]
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the metadata of the file."""
        values = {
            "jets": self.jets,
            "synthetic": self.synthetic,
            "difference": self.difference,
            "share": self.share,
        }
        if self.with_neighbors is not None:
            values["with_neighbors"] = self.with_neighbors
        if self.auc_change is not None:
            values["auc_change"] = self.auc_change
        return values

    def check(self, *, needs_all: bool = True, consequence: str = "no file is written") -> None:
        """Check that the file may be used.

        Parameters
        ----------
        needs_all : bool
            If False, only :data:`MIN_SHARE` of the jets must agree: for networks that search
            neighbours in features, where these are not handed over.
        consequence : str
            End of the message of the error.

        Raises
        ------
        InputError
            If the differences are too large.
        """
        if self.with_neighbors is None and needs_all:
            if not self.difference < MAX_DIFFERENCE:
                raise InputError(
                    f"the exported network differs from PyTorch by {self.difference:.1e}, more than "
                    f"{MAX_DIFFERENCE:g}: {consequence}"
                )
            return
        if self.with_neighbors is not None and not self.with_neighbors < MAX_WITH_NEIGHBORS:
            raise InputError(
                f"the exported network differs from PyTorch by {self.with_neighbors:.1e} with the "
                f"same neighbours, more than {MAX_WITH_NEIGHBORS:g}: {consequence}"
            )
        if not self.share >= MIN_SHARE:
            raise InputError(
                f"only {100 * self.share:.1f} % of the jets of the exported network are within "
                f"{MAX_DIFFERENCE:g} of PyTorch, {100 * MIN_SHARE:g} % are needed: {consequence}"
            )


def compare(
    session: Runnable,
    reference: Outputs,
    batches: Iterable[Batch],
    num_synthetic: int = 0,
    *,
    graph: Graph | None = None,
    labels: np.ndarray | None = None,
) -> Parity:
    """Compare the outputs of a session with those of PyTorch.

    Parameters
    ----------
    session : Runnable
        Graph in ONNX Runtime, or compiled; of a network that searches neighbours in features with the
        neighbours as further outputs.
    reference : dict of str to array
        Outputs of PyTorch.
    batches : iterable of Batch
        Inputs of the session, see :func:`feeds`.
    num_synthetic : int
        Number of synthetic jets, which are the last.
    graph : Graph, optional
        Graph in PyTorch, to which neighbours are handed over.
    labels : array of int, optional
        Classes of the jets that are not synthetic.
    """
    number = next(iter(reference.values())).shape[0]
    found: dict[str, np.ndarray] = {
        name: np.empty(values.shape, dtype=np.float32) for name, values in reference.items()
    }
    same = 0.0 if graph is not None else None
    kept: dict[int, dict[str, np.ndarray]] = {}
    places: dict[int, int | None] = {}
    for jets, feed in batches:
        outputs = session(feed)
        for name in reference:
            found[name][jets] = outputs[name]
        if graph is not None and same is not None:
            neighbors = [outputs[name] for name in session.outputs[len(reference) :]]
            again = _with_neighbors(graph, feed, neighbors)
            here = {name: np.atleast_1d(outputs[name]) for name in reference}
            again = {name: np.atleast_1d(values) for name, values in again.items()}
            same = max(same, float(difference(here, again).max(initial=0.0)))
            for place, jet in enumerate(np.atleast_1d(jets).tolist()):
                kept[jet] = feed
                places[jet] = place if graph.padded else None
    differences = difference(found, reference)
    moved = []
    if graph is not None:
        for jet in np.flatnonzero(~(differences < MAX_DIFFERENCE)):
            gap = _smallest_gap(graph, _of_jet(graph, kept[int(jet)], places[int(jet)]))
            moved.append(MovedJet(int(jet), float(differences[jet]), gap))
    return Parity(
        number - num_synthetic,
        num_synthetic,
        float(differences.max(initial=0.0)),
        float((differences < MAX_DIFFERENCE).mean()),
        same,
        _auc_change(found, reference, labels),
        tuple(moved),
    )


def difference(found: Outputs, reference: Outputs) -> np.ndarray:
    """Largest difference (B,) of the outputs of each jet; inf where only one is NaN.

    Probabilities are compared as they are, other outputs relative to 1 plus their size.
    """
    number = next(iter(reference.values())).shape[0]
    largest = np.zeros(number)
    for name, expected in reference.items():
        values = np.asarray(found[name], dtype=np.float64).reshape(number, -1)
        expected = np.asarray(expected, dtype=np.float64).reshape(number, -1)
        scale = 1.0 if name == PROBABILITIES else 1 + np.abs(expected)
        distance = np.abs(values - expected) / scale
        both = np.isnan(values) & np.isnan(expected)
        distance = np.where(both, 0.0, np.nan_to_num(distance, nan=np.inf))
        largest = np.maximum(largest, distance.max(axis=1))
    return largest


def feeds(inputs: CloudInputs, arrays: Sequence[JetArrays], *, layout: str) -> Iterator[Batch]:
    """Inputs of a session, and the indices of the jets that they are of."""
    if layout == "one jet":
        for i, jet in enumerate(arrays):
            yield i, dict(jet)
        return
    lengths = np.array([len(jet["p4"]) for jet in arrays])
    order = np.argsort(-lengths, kind="stable")
    first = 0
    while first < len(order):
        longest = max(1, lengths[order[first]])
        jets = order[first : first + max(1, min(_BATCH_JETS, _BATCH_PAIRS // longest**2))]
        batch = [arrays[i] for i in jets]
        yield jets, inputs.ragged(batch) if layout == "ragged" else inputs.padded(batch)
        first += len(jets)


@torch.no_grad()
def _with_neighbors(
    graph: Graph, feed: dict[str, np.ndarray], neighbors: Sequence[np.ndarray]
) -> Outputs:
    """Outputs of PyTorch with given neighbours."""
    given = Neighbors([torch.from_numpy(n) for n in neighbors])
    with higher_derivatives(), watched_searches(given):
        outputs = graph.predict({name: torch.from_numpy(feed[name]) for name in graph.names})
    return {name: values.numpy() for name, values in outputs.items()}


def _of_jet(graph: Graph, feed: dict[str, np.ndarray], place: int | None) -> dict[str, np.ndarray]:
    """Inputs of one jet of a batch; of one jet, its inputs."""
    return feed if place is None else graph.of_jet(feed, place)


@torch.no_grad()
def _smallest_gap(graph: Graph, feed: dict[str, np.ndarray]) -> float:
    """Smallest relative difference of the k-th and (k+1)-th squared distance of the jets."""
    gaps = [np.inf]

    def measure(pos: Tensor, layout: RaggedLayout, k: int, search: Search) -> Tensor:
        for jet in range(layout.num_jets - 1):
            points = pos[layout.batch == jet].double().unsqueeze(0)
            if points.shape[1] > k + 1:
                squares = squared_distances(points, points)[0]
                nearest = squares.sort(dim=1).values[:, k : k + 2]  # the particle itself is first
                gaps.append(float(((nearest[:, 1] - nearest[:, 0]) / nearest[:, 1]).min()))
        return search(pos, layout, k)

    with higher_derivatives(), watched_searches(measure):
        graph.predict({name: torch.from_numpy(feed[name]) for name in graph.names})
    return float(min(gaps))


def _auc_change(found: Outputs, reference: Outputs, labels: np.ndarray | None) -> float | None:
    """Change of the AUC, averaged over the classes against the rest if there are more than two."""
    from sklearn.metrics import roc_auc_score

    if labels is None or PROBABILITIES not in reference or len(np.unique(labels)) < 2:
        return None
    number = reference[PROBABILITIES].shape[1]
    classes = [1] if number == 2 else [c for c in range(number) if (labels == c).any()]

    def auc(outputs: Outputs) -> float:
        p = outputs[PROBABILITIES][: len(labels)]
        return float(np.mean([roc_auc_score(labels == c, p[:, c]) for c in classes]))

    return auc(found) - auc(reference)


def hardest(jet: JetArrays, inputs: CloudInputs, number: int) -> JetArrays:
    """Jet with its hardest particles only, at most `number`."""
    p4 = jet["p4"]
    pt2 = p4[:, 1].astype(np.float64) ** 2 + p4[:, 2].astype(np.float64) ** 2
    rows = np.sort(np.argsort(-pt2, kind="stable")[:number])
    of_particles = set(inputs.collections[0].names)
    return {name: values[rows] if name in of_particles else values for name, values in jet.items()}


def synthetic_jets(
    inputs: CloudInputs, arrays: Sequence[JetArrays], neighbors: int, seed: int = 0
) -> list[JetArrays]:
    """Jets that test the ends of the range: few and many particles, ties, soft and hard jets.

    They have 0, 1, 2, k, k + 1 and 200 particles, coinciding particles, and momenta of 20 GeV and
    5 TeV. Further columns are those of particles of given jets.

    Parameters
    ----------
    inputs : CloudInputs
        Inputs.
    arrays : sequence of JetArrays
        Jets from which columns are drawn.
    neighbors : int
        Number of neighbours k of the network; 0 if it searches none.
    seed : int
        Seed of the random numbers.
    """
    rng = np.random.default_rng(seed)
    sizes = [*_SYNTHETIC_SIZES, *([neighbors, neighbors + 1] if neighbors else [])]
    jets = [_made(inputs, arrays, size, 500.0, rng) for size in sizes]
    for gev in _SYNTHETIC_GEV:
        jets.append(_made(inputs, arrays, 40, gev, rng))
    coinciding = dict(_made(inputs, arrays, 40, 500.0, rng))
    for name in inputs.collections[0].names:
        coinciding[name] = coinciding[name][np.arange(40) // 2]
    jets.append(coinciding)
    return jets


def _made(
    inputs: CloudInputs,
    arrays: Sequence[JetArrays],
    size: int,
    gev: float,
    rng: np.random.Generator,
) -> JetArrays:
    """Jet of `size` massless particles with a scalar sum of pT of `gev`."""
    like = arrays[int(rng.integers(len(arrays)))]
    jet = dict(like)
    share = rng.exponential(size=size) ** 2
    pt = gev * share / max(share.sum(), 1e-9)
    axis = rng.uniform(-2, 2), rng.uniform(-np.pi, np.pi)
    eta, phi = (rng.normal(centre, 0.2, size) for centre in axis)
    columns = [torch.from_numpy(column) for column in (pt, eta, phi)]
    jet["p4"] = kinematics.from_pt_eta_phi_mass(*columns).float().numpy().reshape(size, 4)
    pool = [a for a in arrays if len(a["p4"])]
    for name in inputs.collections[0].columns:
        values = np.concatenate([a[name] for a in pool])
        jet[name] = values[rng.integers(len(values), size=size)]
    if inputs.has_jet_p4 and size:
        jet[JET_P4] = jet["p4"].sum(axis=0)
    return jet
