"""Study of the robustness of a run: modified jets, dependence on kinematics, mass sculpting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from pcloud.errors import InputError
from pcloud.evaluation.dependence import Dependence, dependence_of_scores
from pcloud.evaluation.robustness import Robustness, measure_robustness
from pcloud.evaluation.robustness_transformations import TRANSFORMATIONS
from pcloud.evaluation.scores import Scores, weights_of_jets
from pcloud.evaluation.sculpting import Sculpting, sculpting_of_scores
from pcloud.evaluation.tasks import check_signal_named, class_names, signal_scores
from pcloud.evaluation.working_points import efficiency_threshold
from pcloud.io.jets import FlatJets
from pcloud.observables import jet_observables
from pcloud.run_files import ROBUSTNESS_FILE, Advance, StoredResult, ignore_progress
from pcloud.stored_values import Name
from pcloud.studies.budget import jets_within_budget
from pcloud.training.run_folder import RunFolder
from pcloud.training.run_sample import load_run_sample
from pcloud.validation import checked

__all__ = ["StoredRobustness", "read_robustness", "robustness_run"]

_JETS = 2000
_PASSING_BACKGROUND = 25  # jets, which know a rejection to 20 %
_OBSERVABLES = ("pt", "mass", "multiplicity")
_SIMULATIONS: dict[str, dict[str, Any]] = {
    "with multi-parton interactions": {"mpi": True},
    "tune 4C, with multi-parton interactions": {"tune": 5, "mpi": True},
}


@dataclass(frozen=True)
class StoredRobustness(StoredResult):
    """Robustness of a run to modified jets, and its dependence on the kinematics of jets.

    Parameters
    ----------
    robustness : Robustness
        Effects of modifications of the jets.
    dependence : list of Dependence
        Efficiency and mistag rate of a cut against pT, mass and multiplicity.
    sculpting : list of Sculpting
        Mass of the background after cuts.
    signal, background : str
        Names of the classes.
    """

    file = ROBUSTNESS_FILE
    what = "robustness"
    command = "pcloud evaluate --robustness"

    robustness: Robustness
    dependence: list[Dependence]
    sculpting: list[Sculpting]
    signal: Name
    background: Name

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "robustness": self.robustness.to_dict(),
            "dependence": [d.to_dict() for d in self.dependence],
            "sculpting": [s.to_dict() for s in self.sculpting],
            "signal": self.signal,
            "background": self.background,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> StoredRobustness:
        """Inverse of `to_dict`."""
        return checked(cls, values)

    def rows(self) -> list[list[str]]:
        """Table of the changes of the jets, a row for each."""
        return self.robustness.rows()

    def sculpting_rows(self) -> list[list[str]]:
        """A table of the mass sculpting, a row for each cut."""
        rows = [[f"{self.signal} kept", f"{self.background} left", "distance", "of random draws"]]
        for cut in self.sculpting:
            noise = str(cut.noise)
            rows.append([f"{cut.efficiency:g}", f"{cut.jets:,}", str(cut.distance), noise])
        return rows


def robustness_run(
    run: RunFolder,
    *,
    jets: int | None = None,
    efficiency: float = 0.5,
    signal: str | None = None,
    background: str | None = None,
    checkpoint: str = "best",
    batch_size: int = 512,
    simulations: int = 0,
    workers: int = 1,
    scores: np.ndarray | None = None,
    seed: int = 0,
    advance: Advance = ignore_progress,
) -> StoredRobustness:
    """Measure the robustness of a run to modified jets, and its dependence on kinematics.

    The result is written to ``robustness.json`` in its folder.

    Parameters
    ----------
    run : RunFolder
        The trained tagger.
    jets : int, optional
        Number of test jets to modify; by default 2000, or as many more as leave 25 background jets
        beyond the cut, or as many as the network passes in some minutes. All test jets are scored
        once for dependence and sculpting.
    efficiency : float
        Signal efficiency of the cut.
    signal, background : str, optional
        As for :func:`pcloud.evaluate`; of more than two classes the signal must be named.
    checkpoint, batch_size
        As for :meth:`~pcloud.Run.predict`.
    simulations : int
        Number of jets to simulate with each of some other settings (extra ``sim``); 0 for none.
    workers : int
        Number of processes that simulate; with more than one the calling script needs the guard
        ``if __name__ == "__main__":``.
    scores : ndarray, shape (B, C), optional
        Scores of all test jets, if they are known.
    seed : int
        Seed of the random modifications and of the simulation.
    advance : callable
        Progress callback, called with the part of the whole work done.

    Raises
    ------
    InputError
        If there are no labels, or of more than two classes no signal is named.
    MissingExtraError
        If jets are to be simulated and Pythia is not installed.
    """
    if jets is not None and jets < 2:
        raise InputError(f"robustness needs at least 2 jets, got {jets}")
    modality = run.tagger(checkpoint).modality
    if not modality.has_momenta:
        raise InputError(f"robustness is for networks on jets, and this one takes {modality.noun}")
    run.check_classes("robustness")
    check_signal_named(run.classes, signal)
    run.check_writable()
    num_settings = 1 + len(_SIMULATIONS) if simulations else 0
    num_scorings = _num_scorings() + num_settings
    part = 1 / (num_scorings + num_settings)  # of the whole work, for a scoring or a simulation
    others = _simulated(run, simulations, seed, workers, lambda: advance(part))
    test = load_run_sample(run, "test")
    options: dict[str, Any] = {"signal": signal, "background": background}

    def predict(some: ak.Array) -> np.ndarray:
        return run.predict(some, checkpoint=checkpoint, batch_size=batch_size)

    if scores is None:
        scores = predict(test)
    sample = Scores.from_arrays(np.asarray(test.label), scores, run.classes, weights_of_jets(test))
    if jets is None:
        most = _jets_with_passing_background(sample, efficiency, signal, background)
        passes = _num_scorings()
        jets = jets_within_budget(run, test, passes=passes, most=most, checkpoint=checkpoint)
    robustness = measure_robustness(
        predict,
        test[:jets],
        classes=run.classes,
        efficiency=efficiency,
        others=others,
        seed=seed,
        advance=lambda done: advance(done * num_scorings * part),
        **options,
    )
    observables = jet_observables(FlatJets.from_awkward(test))
    dependence = dependence_of_scores(
        sample,
        {name: observables[name] for name in _OBSERVABLES},
        efficiency=efficiency,
        **options,
    )
    sculpting = sculpting_of_scores(sample, observables["mass"], seed=seed, **options)
    names = class_names(sample, signal, background)
    stored = StoredRobustness(robustness, dependence, sculpting, *names)
    stored.write(run.out)
    return stored


def _jets_with_passing_background(
    sample: Scores, efficiency: float, signal: str | None, background: str | None
) -> int:
    """Number of jets, of which enough background passes the cut for errors to be drawn from."""
    values, is_signal, is_background = signal_scores(sample, signal, background)
    passed = is_background & (values >= efficiency_threshold(values[is_signal], efficiency))
    return max(_JETS, int(np.searchsorted(np.cumsum(passed), _PASSING_BACKGROUND)) + 1)


def _num_scorings() -> int:
    """Number of times that jets are scored: unchanged, and with every change."""
    return 1 + sum(len(t.strengths) for t in TRANSFORMATIONS.values())


def read_robustness(folder: str | Path) -> StoredRobustness:
    """Read the ``robustness.json`` of a run folder.

    Raises as :meth:`StoredRobustness.read`.
    """
    return StoredRobustness.read(folder)


def _simulated(
    run: RunFolder, number: int, seed: int, workers: int, advance: Callable[[], Any]
) -> dict[str, ak.Array]:
    """Jets of other simulations, and of the recipe itself with as many jets."""
    if not number:
        return {}
    from pcloud.simulate import simulate_jets
    from pcloud.simulate.sample import CLASSES

    if list(CLASSES) != list(run.classes):
        raise InputError(
            f"simulated jets are {', '.join(CLASSES)}, the run knows {', '.join(run.classes)}: "
            f"leave --simulations out"
        )
    if further := [part.name for part in getattr(run.feature_set, "collections", ())]:
        raise InputError(
            f"simulated jets have no {', '.join(further)}, which the network takes: leave "
            "--simulations out"
        )
    settings: dict[str, dict[str, Any]] = {"the recipe again": {}, **_SIMULATIONS}
    found = {}
    for name, options in settings.items():
        jets = simulate_jets(number, seed=1000 + seed, workers=workers, progress=False, **options)
        advance()
        needed = (*run.feature_set.columns, *run.feature_set.jet_columns)
        found[name] = jets[[*needed, "p4", "label"]]
    return found
