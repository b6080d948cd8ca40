"""Taylor coefficients of a run: what ``pcloud explain`` computes and leaves in its folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np
import torch
from torch import nn

from pcloud import kinematics
from pcloud.batch import JetDataset, collate
from pcloud.errors import InputError, UnknownNameError
from pcloud.evaluation.measured import Measured
from pcloud.features import FeatureSet
from pcloud.interpret.response import check_momenta, sees_features
from pcloud.interpret.taylor import mean_in_plane
from pcloud.interpret.taylor_cloud import CloudTaylor, cloud_taylor, taylor_course

if TYPE_CHECKING:
    from pcloud.training import Run

__all__ = ["TAYLOR_FILE", "explain_run", "read_taylor"]

TAYLOR_FILE = "taylor.json"

_PLANE = np.linspace(-0.8, 0.8, 33)  # of the map, in eta and phi about the jet axis
_JETS, _PAIR_JETS, _COURSE_JETS = 2000, 20, 300


def explain_run(
    run: Run,
    *,
    signal: str | None = None,
    jets: int | None = None,
    pair_jets: int | None = None,
    checkpoint: str = "best",
    advance: Callable[[float], Any] = lambda part: None,
) -> dict[str, Any]:
    """Expand the response of a run around its test jets, and write ``taylor.json``.

    Parameters
    ----------
    run : Run
        The trained tagger. Where it kept checkpoints, their coefficients are followed too.
    signal : str, optional
        Class whose probability is expanded; by default the second of two, or each in turn.
    jets : int, optional
        How many test jets; by default 2000, or what the network passes in some minutes.
    pair_jets : int, optional
        For how many of them pairs on one particle are told apart from those on two; by default 20,
        or what the network passes in some minutes.
    checkpoint : str
        ``"best"`` or ``"last"``.
    advance : callable
        Called with the part of the whole work that was done.

    Returns
    -------
    dict
        As in the file: for each class mean absolute coefficients by part, their course over the
        epochs, and the map of the first order in the plane around the axis of the jet.
    """
    from pcloud.studies.budget import jets_within_budget
    from pcloud.training.data import load_splits

    tagger = run.tagger(checkpoint)
    features = tagger.feature_set
    if not isinstance(features, FeatureSet):
        raise InputError("Taylor coefficients are for networks on jets, and this one takes images")
    if signal is not None and signal not in run.classes:
        raise UnknownNameError("class", signal, run.classes)
    signals = [signal] if signal else run.classes[1:] if len(run.classes) == 2 else run.classes
    (loaded,) = load_splits(run.config, "test")
    test: ak.Array = loaded
    options: dict[str, Any] = {"variables": _variables(run.model(checkpoint), test, features)}
    if options["variables"] == "momenta":
        check_momenta(run.model(checkpoint))
    # 1 + inputs ways back through the first derivative, each of which costs about eight ways forth
    inputs = 3 if options["variables"] == "momenta" else len(features.names)
    passes = 8.0 * (1 + inputs) * len(signals)
    affordable = partial(jets_within_budget, run, test, checkpoint=checkpoint)
    if jets is None:
        jets = affordable(passes=passes, most=_JETS)
    if pair_jets is None:
        passes *= float(np.mean(ak.num(test.p4)))
        pair_jets = affordable(passes=passes, most=_PAIR_JETS, least=1)
    data = JetDataset(test[:jets], features)
    found: dict[str, Any] = {"checkpoint": checkpoint, "classes": {}, **options}
    batches = (len(data) + min(pair_jets, len(data))) * len(signals)
    for name in signals:
        options["target"] = run.classes.index(name)
        expansion = cloud_taylor(
            run.model(checkpoint),
            data,
            pair_jets=pair_jets,
            advance=lambda number: advance(number / batches),
            **options,
        )
        # all epochs together take no longer than the last one did
        few = min(_COURSE_JETS, max(len(data) // max(len(run.kept_epochs), 1), 20))
        course = taylor_course(run, data, order=2, jets=few, **options)
        found["classes"][name] = _summary(expansion, data) | {
            "course": {epoch: _plain(values) for epoch, values in course.items()}
        }
    found["jets"] = len(data)
    path = run.path / TAYLOR_FILE
    path.write_text(json.dumps(found) + "\n", encoding="utf-8")
    return read_taylor(run.path)


def read_taylor(folder: str | Path) -> dict[str, Any]:
    """Read the ``taylor.json`` of a run folder, with numbers as :class:`Measured`.

    Raises
    ------
    InputError
        If it is not what ``pcloud explain`` writes.
    """
    path = Path(folder) / TAYLOR_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        for values in found["classes"].values():
            values["parts"] = {part: _measured(v) for part, v in values["parts"].items()}
            values["course"] = {int(e): _measured(v) for e, v in values["course"].items()}
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} holds no Taylor coefficients ({error}): write it anew with pcloud explain"
        ) from None
    return found


def _summary(expansion: CloudTaylor, data: JetDataset) -> dict[str, Any]:
    coefficients = expansion.coefficients
    parts = ["all", "alone"] + (["same", "rest"] if coefficients.same is not None else [])
    most = next(iter(coefficients.mean_absolute("alone")))
    return {
        "parts": {part: _plain(coefficients.mean_absolute(part)) for part in parts},
        "pair_jets": 0 if coefficients.same is None else len(coefficients.same),
        "map": {"input": most, "values": _map(expansion, data, coefficients.names.index(most))},
    }


def _map(expansion: CloudTaylor, data: JetDataset, feature: int) -> list[list[float | None]]:
    """Mean size of the gradient in one feature of particles at a place about the jet axis."""
    batch = collate(data, torch.from_numpy(expansion.jets))
    total = batch.p4.new_zeros(len(expansion.jets), 4).index_add(0, batch.batch, batch.p4)
    axis = total[batch.batch]
    eta = (kinematics.eta(batch.p4).clamp(-10, 10) - kinematics.eta(axis)).numpy()
    phi = kinematics.delta_phi(batch.p4, axis).numpy()
    size = np.abs(expansion.gradients[:, feature])
    mean, number = mean_in_plane(eta, phi, size, (_PLANE, _PLANE))
    mean[number < 5] = np.nan
    return [[None if np.isnan(v) else float(v) for v in row] for row in mean]


def _variables(model: nn.Module, jets: ak.Array, features: FeatureSet) -> str:
    """The inputs to vary: the features, unless the network does not see them."""
    batch = collate(JetDataset(jets[:1], features), torch.arange(1))
    return "features" if sees_features(model, batch.x, batch.p4, batch.batch) else "momenta"


def _plain(values: Any) -> dict[str, dict[str, Any]]:
    return {name: entry.to_dict() for name, entry in values.items()}


def _measured(values: dict[str, Any]) -> dict[str, Measured]:
    return {name: _stored_mean(entry) for name, entry in values.items()}


def _stored_mean(entry: dict[str, Any] | list[float]) -> Measured:
    """A mean as it is written, or value and error as older files have them."""
    if isinstance(entry, list):
        value, error = entry
        return Measured(value, error, "mean over jets")
    return Measured.from_dict(entry)
