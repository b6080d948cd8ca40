"""Two-sample tests of the hypothesis that two samples of jets have one distribution."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from pcloud.errors import InputError
from pcloud.evaluation.estimates import area_or_limit
from pcloud.evaluation.measured import Measured
from pcloud.evaluation.ranking import Ranking
from pcloud.evaluation.resampling import counting_error
from pcloud.evaluation.shift_classifiers import Classifier, classifier_named
from pcloud.identifiers import is_identifier
from pcloud.io.jets import FlatJets
from pcloud.keys import SPLIT_KEY
from pcloud.observables import jet_observables
from pcloud.run_files import make_folder, read_json, write_json
from pcloud.stored_values import Count, Fraction, Text
from pcloud.text_tables import html_table
from pcloud.typing import Floats
from pcloud.validation import checked
from pcloud.words import number_of

__all__ = ["Difference", "ShiftTest", "compare_jets", "differences", "jet_columns", "summary"]


_SIGNIFICANCE = 0.01  # p-value below which samples are said to differ
_MIN_JETS = 20


@dataclass(frozen=True)
class Difference:
    """Difference of one observable between two samples.

    Parameters
    ----------
    observable : str
        Name of the observable.
    first, second : Measured
        Means in the two samples, with counting errors.
    distance : float
        Kolmogorov-Smirnov distance: largest difference of the cumulative distributions.
    p_value : float
        Probability of a distance at least as large between samples of one distribution.
    corrected : float
        P-value after the correction of Holm for the number of observables.
    """

    observable: Text
    first: Measured
    second: Measured
    distance: Fraction
    p_value: Fraction
    corrected: Fraction

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Difference:
        """Inverse of `dataclasses.asdict`."""
        return checked(cls, fields)

    def __repr__(self) -> str:
        """Observable, means and p-value."""
        return (
            f"Difference of {self.observable}: mean {self.first} and {self.second}, "
            f"KS distance {self.distance:.3f}, corrected p-value {self.corrected:.2g}"
        )


@dataclass(frozen=True)
class ShiftTest:
    """Result of a classifier two-sample test.

    Parameters
    ----------
    classifier : str
        Name of the classifier trained to separate the samples.
    auc : Measured
        AUC of its scores on jets not used in the training; 0.5 for samples of one distribution.
    p_value : float
        Probability of an area at least as large between samples of one distribution, from
        permutations.
    jets : tuple of int
        Number of jets of each sample.
    differences : list of Difference
        Observables, the most significant difference first.
    inputs : dict, optional
        Files and options, if they are known.
    identifiers : list of str
        Columns that were left out as identifiers.
    """

    classifier: Text
    auc: Measured
    p_value: Fraction
    jets: tuple[Count, Count]
    differences: list[Difference]
    inputs: dict[str, Any] = field(default_factory=dict)
    identifiers: list[Text] = field(default_factory=list)

    def rows(self) -> list[list[str]]:
        """Rows of a table of the observables."""
        rows = [["observable", "first", "second", "KS distance", "p, corrected"]]
        for d in self.differences:
            values = [str(d.first), str(d.second), f"{d.distance:.3f}", f"{d.corrected:.2g}"]
            rows.append([d.observable.replace("_", " "), *values])
        return rows

    def __repr__(self) -> str:
        """Numbers of jets, and the result in a sentence."""
        return (
            f"ShiftTest of {self.jets[0]:,} and {number_of(self.jets[1], 'jet')}. {summary(self)}"
        )

    def _repr_html_(self) -> str:
        return html_table(self.rows(), caption=repr(self))

    def write(self, path: Path) -> Path:
        """Write as JSON."""
        make_folder(path.parent)
        write_json(path, asdict(self))
        return path

    @classmethod
    def read(cls, path: Path) -> ShiftTest:
        """Inverse of `write`.

        Raises
        ------
        InputError
            If the file was not written by `write`.
        """
        remedy = "remove it, or write it anew with pcloud compare"
        return read_json(path, "comparison of samples", remedy, cls._from_dict)

    @classmethod
    def _from_dict(cls, values: dict[str, Any]) -> ShiftTest:
        return checked(cls, values)


def compare_jets(
    first: ak.Array,
    second: ak.Array,
    *,
    classifier: str | Classifier = "boosting",
    scores: Callable[[ak.Array], Floats] | None = None,
    permutations: int = 1000,
    seed: int = 0,
    identifiers: bool = False,
) -> ShiftTest:
    """Test whether two samples of jets come from the same distribution.

    A classifier is trained on half of the jets to separate the samples, and scores the other half.
    If both samples come from one distribution, the area under the ROC curve has the distribution
    that permuted labels give. The p-value is therefore exact for any classifier.

    Parameters
    ----------
    first, second : awkward.Array
        The samples, of independent jets. Labels are not used.
    classifier : str or callable
        ``"boosting"`` (gradient-boosted trees) or ``"logistic"`` on observables of the jets, or a
        :data:`~pcloud.evaluation.shift_classifiers.Classifier`, such as
        :func:`~pcloud.studies.compare.network_classifier`.
    scores : callable, optional
        Function ``scores(jets) -> (B, C)`` of a tagger. The log-odds of its classes are used as
        further observables.
    permutations : int
        Number of permutations; the smallest p-value is 1 / (permutations + 1).
    seed : int
        Seed of the halves, the training and the permutations.
    identifiers : bool
        Compare columns such as ``event`` and ``run``, too; see :mod:`pcloud.identifiers`. They
        differ between any two samples.

    Returns
    -------
    ShiftTest

    Raises
    ------
    InputError
        If a sample has fewer than 20 jets.
    UnknownNameError
        If there is no such classifier.

    References
    ----------
    Lopez-Paz and Oquab, Revisiting Classifier Two-Sample Tests, https://arxiv.org/abs/1610.06545.
    """
    for name, jets in (("first", first), ("second", second)):
        if len(jets) < _MIN_JETS:
            raise InputError(
                f"the {name} sample has {number_of(len(jets), 'jet')}, a comparison needs {_MIN_JETS}"
            )
    if permutations < 1:
        raise InputError(f"permutations must be at least 1, got {permutations}")
    train = classifier_named(classifier)
    columns = [jet_columns(jets) for jets in (first, second)]
    left_out = [] if identifiers else _identifiers((first, second), columns)
    columns = [{n: v for n, v in c.items() if n not in left_out} for c in columns]
    if scores is not None:
        for known, jets in zip(columns, (first, second), strict=True):
            p = np.clip(scores(jets), 1e-12, 1 - 1e-12)
            known |= {
                f"log_odds_{c}": np.log(p[:, c] / (1 - p[:, c])) for c in range(1, p.shape[1])
            }
    names = [name for name in columns[0] if name in columns[1]]
    table = np.concatenate([np.stack([c[n] for n in names], axis=1) for c in columns])
    is_second = np.repeat([False, True], [len(first), len(second)])
    generator = np.random.default_rng(seed)
    in_test = _half(is_second, generator)
    found = train(_Samples(first, second, table), is_second, in_test, seed)
    auc, p_value = _area(found, is_second[in_test], permutations, generator)
    label = classifier if isinstance(classifier, str) else getattr(classifier, "__name__", "own")
    one, other = (
        {name: table[chosen, i] for i, name in enumerate(names)}
        for chosen in (~is_second, is_second)
    )
    found_differences = differences(one, other)
    numbers = (len(first), len(second))
    return ShiftTest(label, auc, p_value, numbers, found_differences, identifiers=left_out)


@dataclass(frozen=True)
class _Samples:
    """Two samples, one after the other, as observables and as particles."""

    first: ak.Array
    second: ak.Array
    table: Floats  # (B, observables)

    def jets(self) -> ak.Array:
        """The particles of all jets."""
        shared = [name for name in self.first.fields if name in self.second.fields]
        return ak.concatenate([self.first[shared], self.second[shared]])


def differences(first: Mapping[str, Floats], second: Mapping[str, Floats]) -> list[Difference]:
    """Compare the columns of two samples one by one, the most significant difference first.

    The p-values are those of the Kolmogorov-Smirnov test, asymptotic and conservative for tied
    values. They are corrected for the number of columns by the method of Holm.
    """
    from scipy.stats import ks_2samp

    names = list(first)
    tests = [ks_2samp(first[name], second[name], method="asymp") for name in names]
    p = np.array([test.pvalue for test in tests])
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    factors = len(p) - np.arange(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    found = [
        Difference(
            name,
            _mean(first[name]),
            _mean(second[name]),
            float(t.statistic),
            float(t.pvalue),
            float(c),
        )
        for name, t, c in zip(names, tests, corrected, strict=True)
    ]
    return sorted(found, key=lambda d: (d.corrected, -d.distance))


def jet_columns(jets: ak.Array) -> dict[str, Floats]:
    """Observables of jets, their own columns, and means of the columns of their particles."""
    flat = FlatJets.from_awkward(jets)
    found = jet_observables(flat)
    jet = np.repeat(np.arange(len(flat)), flat.counts)
    counts = np.maximum(flat.counts, 1)
    for name, values in flat.particle.items():
        total = np.bincount(jet, values.astype(np.float64), len(flat))
        found[f"mean_{name}"] = total / counts
    no_observables = ("label", SPLIT_KEY)
    own = {name: v.astype(np.float64) for name, v in flat.jet.items() if name not in no_observables}
    found |= own
    return {name: values for name, values in found.items() if np.isfinite(values).all()}


def _identifiers(samples: Sequence[ak.Array], columns: Sequence[Mapping[str, Floats]]) -> list[str]:
    """Columns of the jets that are identifiers in one of the samples."""
    return [
        name
        for name in columns[0]
        if any(
            name in jets.fields and name in known and is_identifier(name, known[name])
            for jets, known in zip(samples, columns, strict=True)
        )
    ]


def _mean(values: Floats) -> Measured:
    return Measured.mean(values, "counting")


def _half(is_second: NDArray[np.bool_], generator: np.random.Generator) -> NDArray[np.bool_]:
    """Mask of a random half of the jets of each sample."""
    chosen = np.zeros(len(is_second), dtype=bool)
    for kind in (False, True):
        members = np.flatnonzero(is_second == kind)
        chosen[generator.permutation(members)[: len(members) // 2]] = True
    return chosen


def _area(
    scores: Floats, is_second: NDArray[np.bool_], permutations: int, generator: np.random.Generator
) -> tuple[Measured, float]:
    from scipy.stats import rankdata

    ranking = Ranking(scores, is_second, ~is_second)
    error = counting_error(ranking.auc_influence(), is_second.astype(np.int64))
    value = ranking.counts.auc()
    ranks = rankdata(scores)  # the area is a linear function of the sum of ranks
    total = ranks[is_second].sum()
    sums = np.array([ranks[generator.permutation(is_second)].sum() for _ in range(permutations)])
    p_value = (1 + np.sum(sums >= total - 1e-9)) / (permutations + 1)
    smaller = int(min(is_second.sum(), (~is_second).sum()))
    return area_or_limit(value, error, None, "DeLong", smaller), float(p_value)


def summary(found: ShiftTest) -> str:
    """Result of the test in a sentence."""
    number = f"p = {found.p_value:.2g}"
    result = f"AUC {found.auc} ({number}).{_left_out(found.identifiers)}"
    if found.p_value < _SIGNIFICANCE:
        return (
            f"The samples differ: the classifier {found.classifier!r} separates them with {result}"
        )
    return f"No significant difference: the classifier {found.classifier!r} has {result}"


def _left_out(identifiers: Sequence[str]) -> str:
    if not identifiers:
        return ""
    are = "is an identifier" if len(identifiers) == 1 else "are identifiers"
    names = ", ".join(identifiers)
    return f" Not compared: {names}, which {are} (identifiers=True, --identifiers compares them)."
