"""Study of what a network responds to: Taylor coefficients on the test jets of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import awkward as ak
import numpy as np
import torch
from annotated_types import Interval, Len
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import NotRequired, TypedDict

from pcloud import kinematics
from pcloud.batch import JetDataset, batch_arguments, collate
from pcloud.errors import InputError
from pcloud.evaluation.measured import Measured
from pcloud.features import FeatureSet
from pcloud.interpret.methods import refuse_embedded
from pcloud.interpret.response import check_momenta, sees_features
from pcloud.interpret.taylor import mean_in_plane, taylor_coefficients
from pcloud.interpret.taylor_cloud import CloudTaylor, cloud_taylor
from pcloud.modality import Sample
from pcloud.nn.numerics.derivatives import frozen
from pcloud.run_files import TAYLOR_FILE, Advance, StoredResult, ignore_progress
from pcloud.stored_values import Count, Name, NumberArray
from pcloud.studies.budget import jets_within_budget
from pcloud.studies.signals import explained_signals
from pcloud.studies.stored_mean import stored_mean
from pcloud.training.run_sample import load_run_sample
from pcloud.validation import Checked, Converted, checked

if TYPE_CHECKING:
    from pcloud.training.run_folder import RunFolder

__all__ = [
    "PLANE_EDGES",
    "ClassExpansion",
    "StoredTaylor",
    "coefficient_planes",
    "read_taylor",
    "taylor_course",
    "taylor_run",
]

_PLANE = np.linspace(-0.8, 0.8, 33)  # of the map, in eta and phi about the jet axis
PLANE_EDGES = np.linspace(-3, 3, 33)
"""Edges of the cells of maps in the plane of two columns, in their standard deviations."""

_JETS, _PAIR_JETS, _COURSE_JETS = 2000, 20, 300
_ROWS = 10_000  # events of a table, which take a second

Coefficients = dict[str, Measured]
_StoredCoefficients = dict[Name, Annotated[Measured, Converted(stored_mean)]]


class _Parts(TypedDict):
    """Coefficients by part in ``taylor.json``."""

    all: _StoredCoefficients
    alone: NotRequired[_StoredCoefficients]
    same: NotRequired[_StoredCoefficients]
    rest: NotRequired[_StoredCoefficients]


class _Map(TypedDict):
    """Map in ``taylor.json``."""

    input: Name
    values: NumberArray


class _Expansion(TypedDict):
    """Expansion of a class in ``taylor.json``."""

    parts: _Parts
    course: dict[Annotated[int, Interval(ge=0, le=10**6)], _StoredCoefficients]
    pair_jets: Count
    map: NotRequired[_Map]


@dataclass(frozen=True)
class ClassExpansion:
    """Taylor coefficients of the probability of one class.

    Parameters
    ----------
    parts : dict of str to dict of str to Measured
        Mean absolute coefficients over the jets: ``"all"``, in shifts common to all particles of a
        jet, or of the columns of a table; for jets ``"alone"``, sums of the absolute values of single particles; and, of second order in
        `pair_jets` jets, ``"same"`` and ``"rest"``, pairs on one particle and on two.
    course : dict of int to dict of str to Measured
        Coefficients ``"all"`` after each epoch that a checkpoint was kept of.
    pair_jets : int
        Number of jets of ``"same"`` and ``"rest"``.
    map_input : str
        Input whose gradient is mapped: the one with the largest coefficient.
    map : ndarray, shape (eta, phi), optional
        Mean absolute gradient in it, in the plane around the jet axis; NaN where there are too few
        particles. None for tables.
    """

    parts: dict[str, Coefficients]
    course: dict[int, Coefficients]
    pair_jets: int
    map_input: str
    map: NDArray[np.floating] | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        values: dict[str, Any] = {
            "parts": {part: _plain(values) for part, values in self.parts.items()},
            "pair_jets": self.pair_jets,
            "course": {str(epoch): _plain(values) for epoch, values in self.course.items()},
        }
        if self.map is not None:
            cells = [[None if np.isnan(v) else float(v) for v in row] for row in self.map]
            values["map"] = {"input": self.map_input, "values": cells}
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ClassExpansion:
        """Inverse of `to_dict`."""
        return cls._of(checked(_Expansion, values))

    @classmethod
    def _of(cls, found: _Expansion) -> ClassExpansion:
        """Make the expansion of checked values."""
        known: dict[str, Coefficients] = {**found["parts"]}  # type: ignore[dict-item]
        parts = {name: known[name] for name in _part_names(known)}
        alone = parts.get("alone", parts["all"])
        if not alone or alone.keys() - parts["all"].keys():
            raise InputError("parts: the coefficients of alone are not among those of all")
        if "same" in parts and parts["rest"].keys() - parts["same"].keys():
            raise InputError("parts: the coefficients of rest are not those of same")
        last = max(found["course"], default=0)
        for epoch, coefficients in found["course"].items():
            if found["course"][last].keys() - coefficients.keys():
                raise InputError(f"course: epoch {epoch} does not have all coefficients")
        drawn = found.get("map")
        most = next(iter(alone)) if drawn is None else drawn["input"]
        cells = None if drawn is None else drawn["values"]
        return cls(parts, found["course"], found["pair_jets"], most, cells)


def _expansion(values: Any) -> ClassExpansion:
    return values if isinstance(values, ClassExpansion) else ClassExpansion.from_dict(values)


@dataclass(frozen=True)
class StoredTaylor(StoredResult):
    """Taylor coefficients of the response of a run.

    Parameters
    ----------
    classes : dict of str to ClassExpansion
        Expansion of the probability of each explained class.
    jets : int
        Number of test jets.
    checkpoint : str
        Name of the checkpoint.
    variables : str
        ``"features"`` or ``"momenta"``, or ``"columns"`` of a table.
    """

    file = TAYLOR_FILE
    what = "Taylor coefficients"
    command = "pcloud explain"

    classes: Annotated[dict[Name, Annotated[ClassExpansion, Checked(_expansion)]], Len(1)]
    jets: Count
    checkpoint: Name = "best"
    variables: Name = "features"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "checkpoint": self.checkpoint,
            "classes": {name: expansion.to_dict() for name, expansion in self.classes.items()},
            "variables": self.variables,
            "jets": self.jets,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> StoredTaylor:
        """Inverse of `to_dict`."""
        return checked(cls, values)

    def class_rows(self, name: str, number: int = 15) -> list[list[str]]:
        """Table of the largest coefficients of a class."""
        coefficients = list(self.classes[name].parts["all"].items())[:number]
        header = ["Taylor coefficient", f"mean |t|, {name}"]
        return [header, *([key, str(value)] for key, value in coefficients)]

    def rows(self) -> list[list[str]]:
        """Table of the largest coefficients of each class."""
        body = [[name, *row] for name in self.classes for row in self.class_rows(name)[1:]]
        return [["class", "Taylor coefficient", "mean |t|"], *body]


def taylor_run(
    run: RunFolder,
    *,
    signal: str | None = None,
    jets: int | None = None,
    pair_jets: int | None = None,
    checkpoint: str = "best",
    advance: Advance = ignore_progress,
) -> StoredTaylor:
    """Expand the response of a run around its test jets, and write ``taylor.json``.

    Parameters
    ----------
    run : RunFolder
        The trained tagger. If it kept checkpoints, the coefficients after each epoch are given too.
    signal : str, optional
        Class whose probability is expanded; by default the second of two, or each in turn.
    jets : int, optional
        Number of test jets; by default 2000, or as many as the network passes in some minutes.
    pair_jets : int, optional
        Number of jets in which pairs on one particle are separated from those on two; by default
        20, or as many as the network passes in some minutes.
    checkpoint : str
        ``"best"`` or ``"last"``.
    advance : callable
        Progress callback, called with the part of the whole work done.

    Returns
    -------
    StoredTaylor
        For each class mean absolute coefficients by part, their course over the epochs, and the map
        of the first order in the plane around the axis of the jet.

    Raises
    ------
    InputError
        If the network takes images or series, or cannot be differentiated twice.
    UnknownNameError
        If there is no such class.
    """
    tagger = run.tagger(checkpoint)
    if not tagger.modality.has_momenta:
        run.check_writable()
        events = load_run_sample(run, "test")
        if tagger.modality.rows(events[:1], tagger.feature_set) is not None:
            return _taylor_of_rows(run, events, signal, jets, checkpoint, advance)
        raise InputError(
            "Taylor coefficients are for networks on jets or tables, and this one takes "
            f"{tagger.modality.noun}: pcloud explain {run.path} --method occlusion draws heatmaps"
        )
    features = cast(FeatureSet, tagger.feature_set)  # of data with momenta
    run.check_classes("a Taylor expansion")
    refuse_embedded(features, "Taylor coefficients")
    signals = explained_signals(run.classes, signal)
    run.check_writable()
    loaded = load_run_sample(run, "test")
    test: ak.Array = loaded
    variables = _variables(run.model(checkpoint), test, features)
    if variables == "momenta":
        check_momenta(run.model(checkpoint))
    # 1 + inputs backward passes through the first derivative, each as long as 8 forward passes
    inputs = 3 if variables == "momenta" else len(features.names)
    passes = 8.0 * (1 + inputs) * len(signals)
    within_budget = partial(jets_within_budget, run, test, checkpoint=checkpoint)
    if jets is None:
        jets = within_budget(passes=passes, most=_JETS)
    if pair_jets is None:
        passes *= float(np.mean(ak.num(test.p4)))
        pair_jets = within_budget(passes=passes, most=_PAIR_JETS, least=1)
    data = JetDataset(test[:jets], features)
    # all epochs together take no longer than the last one did
    course_jets = min(_COURSE_JETS, max(len(data) // max(len(run.kept_epochs), 1), 20))
    classes = {}
    for name in signals:
        options: dict[str, Any] = {"variables": variables, "target": run.classes.index(name)}
        expansion = cloud_taylor(
            run.model(checkpoint),
            data,
            pair_jets=pair_jets,
            advance=lambda part: advance(part / len(signals)),
            **options,
        )
        course = taylor_course(run, data, order=2, jets=course_jets, **options)
        classes[name] = _class_expansion(expansion, data, course)
    stored = StoredTaylor(classes, len(data), checkpoint, variables)
    stored.write(run.out)
    return stored


def _taylor_of_rows(
    run: RunFolder,
    test: Sample,
    signal: str | None,
    jets: int | None,
    checkpoint: str,
    advance: Advance,
) -> StoredTaylor:
    """Expand the response in the columns of a table, and write ``taylor.json``."""
    run.check_classes("a Taylor expansion")
    signals = explained_signals(run.classes, signal)
    inputs = run.tagger(checkpoint).feature_set
    x = run.modality.rows(test[: jets or _ROWS], inputs)
    assert x is not None
    classes = {}
    for name in signals:
        target = run.classes.index(name)
        found = _coefficients_of_rows(run.network(checkpoint), x, inputs.names, target)
        course = {
            epoch: _coefficients_of_rows(
                run.network(f"epoch_{epoch}"), x[:_COURSE_JETS], inputs.names, target
            )
            for epoch in run.kept_epochs
        }
        first = next(n for n in found if n in inputs.names)
        classes[name] = ClassExpansion({"all": found}, course, 0, first, None)
        advance(1 / len(signals))
    stored = StoredTaylor(classes, len(x), checkpoint, "columns")
    stored.write(run.out)
    return stored


def _coefficients_of_rows(
    network: nn.Module, x: Tensor, names: Sequence[str], target: int
) -> Coefficients:
    network = network.cpu()
    with frozen(network):
        return taylor_coefficients(_probability(network, target), x, names=names).mean_absolute()


def coefficient_planes(
    run: RunFolder, inputs: Sequence[str], epochs: Sequence[int], *, target: int = 1
) -> dict[int, NDArray[np.floating]]:
    """Taylor coefficient of one or two columns in the plane of a run on two columns, by epoch.

    Parameters
    ----------
    run : RunFolder
        Run on a table with two columns, trained with ``keep_checkpoints=True``.
    inputs : sequence of str
        One name, for a coefficient of first order, or two.
    epochs : sequence of int
        Epochs whose weights are used.
    target : int
        Index of the class whose probability is expanded.

    Returns
    -------
    dict of int to ndarray, shape (32, 32)
        Coefficients by epoch at the centres of the cells between :data:`PLANE_EDGES`, first column
        first, in standard deviations of the columns.

    Raises
    ------
    InputError
        If the run has other columns, or did not keep an epoch.
    """
    names = run.feature_set.names
    if len(names) != 2:
        raise InputError(f"a map in the plane needs two columns, not {len(names)}")
    if absent := [str(epoch) for epoch in epochs if epoch not in run.kept_epochs]:
        kept = run.kept_epochs
        known = f"{kept[0]} to {kept[-1]}" if kept else "none: train with --keep-checkpoints"
        raise InputError(f"{run.path} has no weights of epoch {', '.join(absent)}; it has {known}")
    centres = torch.from_numpy((PLANE_EDGES[1:] + PLANE_EDGES[:-1]) / 2).float()
    x = torch.cartesian_prod(centres, centres)
    found = {}
    for epoch in epochs:
        network = run.network(f"epoch_{epoch}").cpu()
        with frozen(network):
            expansion = taylor_coefficients(_probability(network, target), x, names=names)
        found[epoch] = expansion.of(*inputs).reshape(len(centres), -1)
    return found


def _probability(network: nn.Module, target: int) -> Callable[[Tensor], Tensor]:
    return lambda rows: network(rows).softmax(dim=-1)[:, target]


def read_taylor(folder: str | Path) -> StoredTaylor:
    """Read the ``taylor.json`` of a run folder.

    Raises as :meth:`StoredTaylor.read`.
    """
    return StoredTaylor.read(folder)


def taylor_course(
    run: RunFolder,
    data: JetDataset,
    *,
    target: int = 1,
    order: int = 1,
    jets: int = 500,
    **options: Any,
) -> dict[int, Coefficients]:
    """Mean absolute coefficients after each epoch whose checkpoint the run kept.

    Parameters
    ----------
    run : RunFolder
        Trained with ``keep_checkpoints=True``.
    data : JetDataset
        Jets to expand around.
    target, order, jets, **options
        Options of :func:`~pcloud.interpret.taylor_cloud.cloud_taylor`.

    Returns
    -------
    dict of int to dict of str to Measured
        By epoch; empty if no checkpoints were kept.
    """
    course = {}
    for epoch in run.kept_epochs:
        model = run.model(f"epoch_{epoch}")
        found = cloud_taylor(model, data, target=target, order=order, jets=jets, **options)
        course[epoch] = found.coefficients.mean_absolute()
    return course


def _class_expansion(
    expansion: CloudTaylor, data: JetDataset, course: dict[int, Coefficients]
) -> ClassExpansion:
    coefficients = expansion.coefficients
    names = ["all", "alone"] + (["same", "rest"] if coefficients.same is not None else [])
    parts = {part: coefficients.mean_absolute(part) for part in names}
    largest = next(iter(parts["alone"]))
    pair_jets = 0 if coefficients.same is None else len(coefficients.same)
    cells = _map(expansion, data, coefficients.names.index(largest))
    return ClassExpansion(parts, course, pair_jets, largest, cells)


def _map(expansion: CloudTaylor, data: JetDataset, feature: int) -> NDArray[np.floating]:
    """Mean absolute gradient in one feature, in cells of the plane around the jet axis."""
    batch = collate(data, torch.from_numpy(expansion.jets))
    total = batch.p4.new_zeros(len(expansion.jets), 4).index_add(0, batch.batch, batch.p4)
    axis = total[batch.batch]
    eta = (kinematics.eta(batch.p4).clamp(-10, 10) - kinematics.eta(axis)).numpy()
    phi = kinematics.delta_phi(batch.p4, axis).numpy()
    size = np.abs(expansion.gradients[:, feature])
    mean, number = mean_in_plane(eta, phi, size, (_PLANE, _PLANE))
    mean[number < 5] = np.nan
    return mean


def _variables(model: nn.Module, jets: ak.Array, features: FeatureSet) -> str:
    """Name of the inputs to vary: the features, unless the network does not depend on them."""
    batch = collate(JetDataset(jets[:1], features), torch.arange(1))
    return "features" if sees_features(model, *batch_arguments(batch)) else "momenta"


def _part_names(parts: dict[str, Any]) -> list[str]:
    """Names of the parts in their order; ``"all"`` must be there."""
    return [name for name in ("all", "alone", "same", "rest") if name in parts]


def _plain(values: Coefficients) -> dict[str, dict[str, Any]]:
    return {name: entry.to_dict() for name, entry in values.items()}


def _measured(values: dict[str, Any]) -> Coefficients:
    return {name: stored_mean(entry) for name, entry in values.items()}
