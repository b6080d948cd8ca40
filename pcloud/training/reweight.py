"""Weights that give the training jets of all classes the same spectra of some observables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, cast

import numpy as np
from annotated_types import Len
from numpy.typing import NDArray

from pcloud.batch import JetDataset, JetStream
from pcloud.errors import InputError, UnknownNameError
from pcloud.evaluation.influence import effective_size
from pcloud.observables import OBSERVABLES, compute_observables
from pcloud.run_files import REWEIGHT_FILE, StoredResult
from pcloud.stored_values import Count, Float, Name
from pcloud.training.data import TrainingData
from pcloud.typing import Floats
from pcloud.validation import checked

__all__ = ["Reweighting", "Spectra", "flattening_weights", "observable_names", "reweight"]

_JETS_PER_BIN = 20  # of the smallest class, on average
_MAX_BINS = 40  # per observable
_MAX_OBSERVABLES = 3
_FIGURE_BINS = 30
_FIGURE_RANGE = (0.005, 0.995)  # quantiles of the observable that a figure shows

_Numbers = Annotated[list[Float], Len(1, 10_000)]
_Ratios = Annotated[list[Float], Len(1, _MAX_BINS**_MAX_OBSERVABLES)]


@dataclass(frozen=True)
class Spectra:
    """Normalised spectra of an observable of the training jets of each class.

    Parameters
    ----------
    observable : str
        Name of the observable.
    edges : list of float
        Edges of the K bins.
    before, after : list of list of float
        Fraction of the weight of each class in each bin, without and with the new weights.
    errors : list of list of float
        Standard errors of `after`.
    """

    observable: Name
    edges: _Numbers
    before: list[_Numbers]
    after: list[_Numbers]
    errors: list[_Numbers]

    def __post_init__(self) -> None:
        for name in ("before", "after", "errors"):
            if any(len(values) != len(self.edges) - 1 for values in getattr(self, name)):
                raise InputError(f"{name} must be one number for each bin")

    def distances(self, values: list[list[float]]) -> float:
        """Largest total-variation distance of two classes: 0 for equal spectra, 1 for disjoint."""
        spectra = [np.asarray(of_class) for of_class in values]
        pairs = [(a, b) for i, a in enumerate(spectra) for b in spectra[:i]]
        return max(float(np.abs(a - b).sum()) / 2 for a, b in pairs)


@dataclass(frozen=True)
class Reweighting(StoredResult):
    """Weights of the training jets that equalise spectra, and the spectra before and after.

    Parameters
    ----------
    observables : list of str
        Names of the D observables.
    edges : list of list of float
        Edges of the bins of each observable; jets beyond the last edge are in the last bin.
    ratios : list of list of float
        Factor of each class in each bin of the D-dimensional histogram, flattened.
    classes : list of str
        Names of the classes.
    jets : list of int
        Number of training jets of each class.
    size_before, size_after : list of float
        Effective number of training jets of each class.
    maximum : float
        Largest factor.
    num_capped, num_lost : int
        Number of jets whose factor was reduced to the maximum, and number of jets with the weight 0,
        in bins where another class has no jets.
    spectra : list of Spectra
        Spectra of each observable.
    """

    file = REWEIGHT_FILE
    what = "reweighting"
    command = "pcloud train --reweight"

    observables: list[Name]
    edges: list[_Numbers]
    ratios: list[_Ratios]
    classes: list[Name]
    jets: list[Count]
    size_before: list[Float]
    size_after: list[Float]
    maximum: Float
    num_capped: Count
    num_lost: Count
    spectra: list[Spectra]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Reweighting:
        """Inverse of `to_dict`."""
        return checked(cls, values)

    def rows(self) -> list[list[str]]:
        """Table of the effective sample sizes, a row for each class."""
        rows = [["class", "training jets", "effective size before", "effective size after"]]
        columns = (self.classes, self.jets, self.size_before, self.size_after)
        for name, jets, before, after in zip(*columns, strict=True):
            rows.append([str(name), f"{jets:,}", f"{before:,.0f}", f"{after:,.0f}"])
        return rows

    def closure_rows(self) -> list[list[str]]:
        """Table of the distances between the spectra of the classes, a row for each observable."""
        rows = [["observable", "distance before", "distance after"]]
        for found in self.spectra:
            distances = (found.distances(found.before), found.distances(found.after))
            rows.append([found.observable, *(f"{distance:.3f}" for distance in distances)])
        return rows


def observable_names(text: str) -> list[str]:
    """Names of observables in a list such as ``"pt,mass"``.

    Raises
    ------
    UnknownNameError
        If there is no such observable.
    InputError
        If there are none, more than three, or one twice.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in OBSERVABLES:
            raise UnknownNameError("observable", name, OBSERVABLES)
    if not 1 <= len(names) <= _MAX_OBSERVABLES or len(set(names)) < len(names):
        raise InputError(f"reweight takes one to three different observables, got {text!r}")
    return names


def flattening_weights(
    values: Floats,
    labels: NDArray[np.integer],
    num_classes: int,
    weights: Floats | None = None,
    *,
    maximum: float = 20.0,
) -> tuple[Floats, list[Floats], Floats, int]:
    """Weights with which the spectra of all classes are the same.

    The common spectrum is the harmonic mean of those of the classes, which is large only where all
    classes have jets. No jet can then get a weight above the number of classes times the mean, as it
    would in the tail of its class if the common spectrum were that of another class. Each class keeps
    its sum of weights.

    Parameters
    ----------
    values : ndarray, shape (B, D)
        Observables of the jets.
    labels : ndarray of int, shape (B,)
        Classes of the jets.
    num_classes : int
        Number of classes C.
    weights : ndarray, shape (B,), optional
        Weights that the jets have already; they may be negative.
    maximum : float
        Largest factor, relative to the mean of its class.

    Returns
    -------
    weights : ndarray, shape (B,)
        Weights of the jets.
    edges : list of ndarray
        Edges of the bins of each observable, quantiles of the jets. There are about 20 jets of the
        smallest class in a bin of the D-dimensional histogram, on average.
    ratios : ndarray, shape (C, K)
        Factor of each class in each bin.
    num_capped : int
        Number of jets whose factor was reduced to `maximum`.

    Raises
    ------
    InputError
        If a class has no jets, or no bin has jets of all classes.
    """
    w = np.ones(len(labels)) if weights is None else weights
    counts = np.bincount(labels, minlength=num_classes)
    if counts.min() == 0:
        raise InputError("reweight needs training jets of every class")
    dimensions = values.shape[1]
    number = int(np.clip((counts.min() / _JETS_PER_BIN) ** (1 / dimensions), 2, _MAX_BINS))
    edges = [_edges(values[:, d], labels, counts, number) for d in range(dimensions)]
    place = np.zeros(len(labels), dtype=np.int64)
    size = 1
    for d, of_observable in enumerate(edges):
        bins = len(of_observable) - 1
        place = place * bins + np.searchsorted(of_observable[1:-1], values[:, d], side="right")
        size *= bins
    spectra = np.stack(
        [np.bincount(place[labels == c], w[labels == c], size) for c in range(num_classes)]
    )
    sums = spectra.sum(axis=1, keepdims=True)
    if sums.min() <= 0:
        raise InputError("reweight needs a positive sum of weights in every class")
    spectra = spectra / sums
    inverse = np.divide(1, spectra, out=np.full(spectra.shape, np.inf), where=spectra > 0)
    common = num_classes / inverse.sum(axis=0)  # 0 where a class has no jets
    if not common.sum() > 0:
        raise InputError("reweight needs a range of the observables with jets of every class")
    ratios = np.divide(
        common / common.sum(), spectra, out=np.zeros(spectra.shape), where=spectra > 0
    )
    num_capped = int(np.sum(ratios[labels, place] > maximum))
    ratios = np.minimum(ratios, maximum)
    ratios = ratios / (ratios * spectra).sum(axis=1, keepdims=True)
    return w * ratios[labels, place], edges, ratios, num_capped


def reweight(
    jets: TrainingData, names: Sequence[str], maximum: float
) -> tuple[NDArray[np.float32], Reweighting]:
    """Weights (B,) of the training jets that equalise spectra, and what is stored of them.

    Raises
    ------
    InputError
        As for :func:`flattening_weights`, or if the data are not jets.
    """
    if not jets.modality.has_momenta:
        raise InputError(f"reweight is for jets: {jets.modality.noun} have no observables")
    data = cast(JetDataset | JetStream, jets.train)
    assert data.y is not None
    if isinstance(data, JetStream):
        groups = (data.load(i) for i in range(len(data.groups)))
        values = np.concatenate([_values(group, names) for group in groups])
    else:
        values = _values(data, names)
    labels = data.y.numpy()
    number = len(jets.classes)
    before = np.ones(len(labels)) if data.weight is None else data.weight.double().numpy()
    after, edges, ratios, num_capped = flattening_weights(
        values, labels, number, before, maximum=maximum
    )
    members = [labels == c for c in range(number)]
    found = Reweighting(
        list(names),
        [of_observable.tolist() for of_observable in edges],
        ratios.tolist(),
        list(jets.classes),
        [int(of_class.sum()) for of_class in members],
        [effective_size(before[of_class]) for of_class in members],
        [effective_size(after[of_class]) for of_class in members],
        maximum,
        num_capped,
        int(np.sum((after == 0) & (before != 0))),
        [_spectra(name, values[:, d], members, before, after) for d, name in enumerate(names)],
    )
    return after.astype(np.float32), found


def _values(data: JetDataset, names: Sequence[str]) -> Floats:
    """Observables (B, D) of jets."""
    p4, layout = data.particles()
    if data.jet_p4 is not None:
        layout = layout.with_jet_p4(data.jet_p4)
    return compute_observables(p4, layout, names).numpy()


def _edges(
    values: Floats, labels: NDArray[np.integer], counts: NDArray[np.integer], number: int
) -> Floats:
    """Quantiles of the jets, with the same weight for all classes."""
    order = np.argsort(values, kind="stable")
    level = np.cumsum(1 / counts[labels[order]])
    inner = np.searchsorted(level, level[-1] * np.arange(1, number) / number)
    edges = np.unique(np.concatenate([values[order][[0, -1]], values[order][inner]]))
    return edges if len(edges) > 1 else np.repeat(edges, 2)


def _spectra(
    name: str, values: Floats, members: list[NDArray[np.bool_]], before: Floats, after: Floats
) -> Spectra:
    low, high = (float(end) for end in np.quantile(values, _FIGURE_RANGE))
    edges = np.linspace(low, high, _FIGURE_BINS + 1)
    if not edges[-1] > edges[0]:
        edges = np.array([edges[0] - 0.5, edges[0] + 0.5])

    def histogram(jets: NDArray[np.bool_], weights: Floats, total: float) -> list[float]:
        counts, _ = np.histogram(values[jets], edges, weights=weights[jets])
        return (counts / total).tolist()

    return Spectra(
        name,
        edges.tolist(),
        [histogram(jets, before, before[jets].sum()) for jets in members],
        [histogram(jets, after, after[jets].sum()) for jets in members],
        [np.sqrt(histogram(jets, after**2, after[jets].sum() ** 2)).tolist() for jets in members],
    )
