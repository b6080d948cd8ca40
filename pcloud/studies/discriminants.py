"""Study of the discriminants of a run: rejection of each background class at working points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import Len

from pcloud.errors import InputError
from pcloud.evaluation.discriminants import (
    EFFICIENCIES,
    MISTAG_RATES,
    Discriminant,
    auc_matrix,
    efficiencies_at_mistag_rates,
    fraction_scan,
    rejections,
    rejections_in_bins,
)
from pcloud.evaluation.measured import Measured
from pcloud.evaluation.scores import Scores, read_scores
from pcloud.io.jets import FlatJets
from pcloud.observables import jet_observables
from pcloud.run_files import DISCRIMINANTS_FILE, SCORES_FILE, StoredResult
from pcloud.stored_values import Float, Fraction, Name
from pcloud.training.run_folder import SCORED_JETS, RunFolder
from pcloud.training.run_sample import iter_run_sample
from pcloud.typing import Floats
from pcloud.validation import checked

__all__ = ["Bins", "Scan", "StoredDiscriminants", "discriminants_run", "parse_fractions"]

_EFFICIENCY = 0.7  # of the scan and of the bins
_OBSERVABLES = ("pt", "eta")


@dataclass(frozen=True)
class Scan:
    """Rejections of two background classes for all fractions of them in the discriminant.

    Parameters
    ----------
    first, second : str
        Names of the classes.
    shares : list of float
        Share of the first class in the sum of both fractions.
    rejections_first, rejections_second : list of Measured
        Rejection of each of them.
    chosen : float
        Share that the discriminant uses.
    """

    first: Name
    second: Name
    shares: list[Fraction]
    rejections_first: list[Measured]
    rejections_second: list[Measured]
    chosen: Fraction

    def __post_init__(self) -> None:
        if {len(self.rejections_first), len(self.rejections_second)} != {len(self.shares)}:
            raise InputError("rejections must be one number for each share")


@dataclass(frozen=True)
class Bins:
    """Signal efficiency and rejections at one cut in bins of an observable.

    Parameters
    ----------
    observable : str
        Name of the observable.
    edges : list of float
        Edges of the bins.
    values : dict of str to list of Measured or None
        Efficiency of the signal and rejection of the other classes in each bin.
    """

    observable: Name
    edges: Annotated[list[Float], Len(2, 10_000)]
    values: dict[Name, list[Measured | None]]

    def __post_init__(self) -> None:
        if any(len(entries) != len(self.edges) - 1 for entries in self.values.values()):
            raise InputError("values must be one number for each bin")


@dataclass(frozen=True)
class StoredDiscriminants(StoredResult):
    """Rejection of each background class by the discriminant of a signal.

    Parameters
    ----------
    signal : str
        Name of the signal.
    formula : str
        Formula of the discriminant.
    fractions : dict of str to float
        Fraction of each background class in the discriminant.
    efficiencies : list of float
        Signal efficiencies of `rejections`.
    rejections : dict of str to list of Measured
        Rejection of each background class.
    mistag_rates : list of float
        Mistag rates of `signal_efficiencies`.
    signal_efficiencies : dict of str to list of Measured
        Signal efficiency at the mistag rates of each background class.
    efficiency : float
        Signal efficiency of the scan and of the bins.
    scan : Scan or None
        Scan of the fractions of the first two background classes; None with fewer.
    bins : list of Bins
        Rejections in bins of observables.
    classes : list of str
        Names of the classes.
    areas : list of list of Measured or None
        AUC of each class against each other class.
    """

    file = DISCRIMINANTS_FILE
    what = "discriminants"
    command = "pcloud evaluate --fractions"

    signal: Name
    formula: Name
    fractions: dict[Name, Fraction]
    efficiencies: list[Fraction]
    rejections: dict[Name, list[Measured]]
    mistag_rates: list[Fraction]
    signal_efficiencies: dict[Name, list[Measured]]
    efficiency: Fraction
    scan: Scan | None
    bins: list[Bins]
    classes: list[Name]
    areas: list[list[Measured | None]]

    @classmethod
    def of(
        cls,
        sample: Scores,
        signal: str,
        fractions: Mapping[str, float] | None = None,
        observables: Mapping[str, Floats] | None = None,
    ) -> StoredDiscriminants:
        """Measure the discriminant of a signal on jets with their observables (B,) by name."""
        discriminant = Discriminant.of(sample.classes, signal, fractions)
        shares = dict(zip(sample.classes, discriminant.fractions, strict=True))
        of_signal = rejections(sample, discriminant, EFFICIENCIES)
        scan = None
        if len(of_signal) > 1:
            second, *_, first = of_signal
            total = shares[first] + shares[second]
            chosen = shares[first] / total if total else 0.5
            scan = Scan(
                first,
                second,
                *fraction_scan(sample, discriminant, first, second, _EFFICIENCY),
                chosen,
            )
        return cls(
            signal,
            str(discriminant),
            {name: shares[name] for name in discriminant.backgrounds},
            list(EFFICIENCIES),
            of_signal,
            list(MISTAG_RATES),
            efficiencies_at_mistag_rates(sample, discriminant, MISTAG_RATES),
            _EFFICIENCY,
            scan,
            [
                Bins(name, *rejections_in_bins(sample, discriminant, values, _EFFICIENCY))
                for name, values in (observables or {}).items()
            ],
            list(sample.classes),
            auc_matrix(sample),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> StoredDiscriminants:
        """Inverse of `to_dict`."""
        return checked(cls, values)

    def rows(self) -> list[list[str]]:
        """Table of the rejections, a row for each signal efficiency."""
        rows = [[f"{self.signal} efficiency", *(f"rejection of {n}" for n in self.rejections)]]
        for i, efficiency in enumerate(self.efficiencies):
            rows.append([f"{efficiency:.0%}", *(str(v[i]) for v in self.rejections.values())])
        return rows

    def mistag_rows(self) -> list[list[str]]:
        """Table of the signal efficiencies, a row for each mistag rate."""
        names = self.signal_efficiencies
        rows = [["mistag rate", *(f"{self.signal} efficiency against {n}" for n in names)]]
        for i, rate in enumerate(self.mistag_rates):
            rows.append([f"{100 * rate:g} %", *(str(values[i]) for values in names.values())])
        return rows

    def area_rows(self) -> list[list[str]]:
        """Table of the AUC of each pair of classes."""
        rows = [["AUC", *self.classes]]
        for name, entries in zip(self.classes, self.areas, strict=True):
            rows.append([name, *("" if entry is None else str(entry) for entry in entries)])
        return rows


def discriminants_run(
    run: RunFolder, signal: str | None, fractions: Mapping[str, float] | None = None
) -> StoredDiscriminants:
    """Measure the discriminant of a run on its test jets, whose scores are stored.

    The result is written to ``discriminants.json`` in its folder.

    Parameters
    ----------
    run : RunFolder
        The evaluated run.
    signal : str, optional
        Name of the signal; it is needed with more than two classes.
    fractions : mapping of str to float, optional
        Fractions of background classes, see :meth:`Discriminant.of`.

    Raises
    ------
    InputError
        If the signal is not named, the fractions cannot be used, or the scores are not those of the
        test jets.
    FileNotFoundError
        If the run was not evaluated.
    """
    run.check_classes("a discriminant")
    if signal is None and len(run.classes) > 2:
        raise InputError(f"name the signal: which of {', '.join(run.classes)} is it?")
    signal = run.classes[1] if signal is None else signal
    Discriminant.of(run.classes, signal, fractions)  # raises before the jets are read
    sample = read_scores(run.stored(SCORES_FILE))
    observables: dict[str, Floats] = {}
    if run.modality.has_momenta:
        observables = _observables(run)
        if len(observables["pt"]) != len(sample.labels):
            raise InputError(
                f"{run.stored(SCORES_FILE)} has {len(sample.labels):,} jets, and the test jets of the "
                f"run are {len(observables['pt']):,}: pcloud evaluate {run.path} scores them"
            )
    stored = StoredDiscriminants.of(sample, signal, fractions, observables)
    stored.write(run.out)
    return stored


def parse_fractions(texts: list[str]) -> dict[str, float]:
    """Fractions by name, from texts such as ``"c=0.2"``.

    Raises
    ------
    InputError
        If a text is not of this form.
    """
    found = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        try:
            found[name] = float(value)
        except ValueError:
            name = ""
        if not name:
            raise InputError(f"a fraction is given as class=0.2, got {text!r}")
    return found


def _observables(run: RunFolder) -> dict[str, Floats]:
    parts: dict[str, list[Floats]] = {name: [] for name in _OBSERVABLES}
    for jets in iter_run_sample(run, "test", SCORED_JETS, run.config):
        of_jets = jet_observables(FlatJets.from_awkward(jets), _OBSERVABLES)
        for name, values in of_jets.items():
            parts[name].append(values)
        del jets  # before the next chunk is read
    return {name: np.concatenate(values) for name, values in parts.items()}
