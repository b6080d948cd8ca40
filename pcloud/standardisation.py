"""Standardisation of features from the training jets, and checks of features before a training."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import awkward as ak
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcloud.batch import JetDataset
from pcloud.errors import InputError
from pcloud.feature import Feature, is_flag, is_official, one_hot_features
from pcloud.features import FeatureSet
from pcloud.words import number_of

__all__ = [
    "FeatureWarning",
    "check_features",
    "describe",
    "fit_categories",
    "fit_standardisation",
    "needs_standardisation",
    "standardised_as",
]

_FITTED_JETS = 10_000  # determine a median to 0.01 of the spread with one particle each
_ROWS = 100_000  # from which the spread is estimated for the check
_CHECKED_ROWS = 1_000_000  # whose distances from the median are in memory at a time
_OUTLIER_SPREADS = 100
_ONE_SIGMA = (15.865525393145708, 84.1344746068543)  # per cent
_DIGITS = 6
_MAX_CATEGORIES = 64
_ANY = (Feature("log_pt"),)


class FeatureWarning(UserWarning):
    """Warning of a feature with values far away from all others."""


@dataclass(frozen=True)
class _Spread:
    """Median of values, and half the width of the central 68 % of them.

    The standard deviation takes the place of the width where most values are equal, as of flags.
    """

    median: float
    width: float

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> _Spread:
        low, median, high = np.percentile(values, (_ONE_SIGMA[0], 50.0, _ONE_SIGMA[1]))
        width = (high - low) / 2 or values.std()
        return cls(float(median), float(width))


def needs_standardisation(features: FeatureSet) -> list[Feature]:
    """Features that have no official standardisation, and are not given another one."""
    every = (*features.features, *features.jet_features)
    return [f for f in every if f == Feature(f.name) and not is_official(f)]


def fit_categories(features: FeatureSet, jets: ak.Array) -> FeatureSet:
    """Feature set in which the categories of all columns of categories are known.

    Those that are not named are the values in the training jets, in increasing order. One-hot
    features take the place of their column.

    Parameters
    ----------
    features : FeatureSet
        Features.
    jets : awkward.Array
        Training jets.

    Returns
    -------
    FeatureSet
        The same features, of known categories.

    Raises
    ------
    InputError
        If a column has one value, or too many to be categories, or NaN.
    """
    parts = (*features.parts, features.jet_features)
    if not any(f.is_category and not f.categories for part in parts for f in part):
        return features
    collections = ["", *(part.name for part in features.collections), ""]
    particles, *further, of_jets = (
        tuple(found for f in part for found in _with_categories(f, name, features, jets))
        for part, name in zip(parts, collections, strict=True)
    )
    known = zip(features.collections, further, strict=True)
    return replace(
        features,
        features=particles,
        jet_features=of_jets,
        collections=tuple(replace(part, features=new) for part, new in known),
    )


def _with_categories(
    feature: Feature, collection: str, features: FeatureSet, jets: ak.Array
) -> Sequence[Feature]:
    """Feature with its categories from jets, or the one-hot features that it stands for."""
    if not feature.is_category or feature.categories:
        return [feature]
    columns = jets[collection] if collection else jets
    if feature.name in columns.fields:
        values = ak.to_numpy(ak.flatten(columns[feature.name], axis=None)).astype(np.float64)
    else:
        values = _values_of([Feature(feature.name)], collection, features, jets)[0].numpy()
    name = _place(feature.name, collection)
    if np.isnan(values).any():
        raise InputError(f"feature {name} is NaN in some training jets, and no category: fill it")
    found = np.unique(values)
    if len(found) > _MAX_CATEGORIES:
        raise InputError(
            f"feature {name} has {len(found):,} different values in the training jets: is it a "
            f"category? At most {_MAX_CATEGORIES} are found; categories names others"
        )
    if len(found) < 2:
        raise InputError(f"feature {name} is constant in the training jets: leave it out")
    categories = tuple(found.tolist())
    if feature.one_hot:
        return one_hot_features(feature.name, categories)
    return [replace(feature, categories=categories)]


def fit_standardisation(features: FeatureSet, jets: ak.Array) -> FeatureSet:
    """Feature set in which shift and scale of some features follow from jets.

    The shift is the median, and the scale the inverse of half the width of the central 68 % of the
    values, which tails do not change. This concerns the features of :func:`needs_standardisation`
    and all features of further collections that are not given a standardisation. They are rounded to
    six digits.

    Parameters
    ----------
    features : FeatureSet
        Features.
    jets : awkward.Array
        Training jets, of which at most 10 000 are used, in equal steps.

    Returns
    -------
    FeatureSet
        The same features, with the standardisation.
    """
    if len(jets) == 0:
        return features
    few = jets[:: -(-len(jets) // _FITTED_JETS)]
    fitted = _fitted(needs_standardisation(features), "", features, few)
    parts = (features.features, features.jet_features)
    new, of_jets = (tuple(fitted.get(f.name, f) for f in part) for part in parts)
    further = []
    for part in features.collections:
        plain = [f for f in part.features if f == Feature(f.name)]
        found = _fitted(plain, part.name, features, few)
        further.append(replace(part, features=tuple(found.get(f.name, f) for f in part.features)))
    return replace(features, features=new, jet_features=of_jets, collections=tuple(further))


def standardised_as(features: FeatureSet, fitted: FeatureSet, known: FeatureSet) -> FeatureSet:
    """Feature set with the standardisation of trained weights, where it is not given.

    Parameters
    ----------
    features : FeatureSet
        Features as they are asked for.
    fitted : FeatureSet
        The same features with the standardisation of the training jets.
    known : FeatureSet
        Features of the weights; those of the same name replace fitted ones.

    Returns
    -------
    FeatureSet
    """
    open_names = {feature.name for feature in needs_standardisation(features)}
    of_weights = {f.name: f for f in (*known.features, *known.jet_features) if f.name in open_names}
    own, of_jets = (
        tuple(of_weights.get(f.name, f) for f in part)
        for part in (fitted.features, fitted.jet_features)
    )
    return replace(fitted, features=own, jet_features=of_jets)


def _fitted(
    wanted: Sequence[Feature], collection: str, features: FeatureSet, jets: ak.Array
) -> dict[str, Feature]:
    """Features of the particles, or of a collection, with their standardisation, by name."""
    if not wanted:
        return {}
    columns = _values_of(wanted, collection, features, jets)
    return {
        feature.name: _standardised(feature, values.double().numpy())
        for feature, values in zip(wanted, columns, strict=True)
    }


def _values_of(
    wanted: Sequence[Feature], collection: str, features: FeatureSet, jets: ak.Array
) -> Sequence[Tensor]:
    """Values of features of the particles, or of a collection, in some jets."""
    if not collection:
        plain = replace(features, features=tuple(wanted), jet_features=(), collections=())
        return JetDataset(jets, plain).x.unbind(-1)
    part = next(part for part in features.collections if part.name == collection)
    part = replace(part, features=tuple(wanted))
    one = replace(features, features=_ANY, jet_features=(), collections=(part,))
    data = JetDataset(jets, one)
    assert data.collection is not None
    return data.x[data.collection == 1][:, : len(wanted)].unbind(-1)


def _place(name: str, collection: str) -> str:
    return f"{name!r} of collection {collection!r}" if collection else repr(name)


def _standardised(feature: Feature, values: NDArray[np.float64]) -> Feature:
    finite = values[np.isfinite(values)]
    spread = _Spread.of(finite) if len(finite) else _Spread(0.0, 0.0)
    if spread.width == 0:
        return feature  # constant, which `check_features` says
    return replace(feature, shift=_rounded(spread.median), scale=_rounded(1 / spread.width))


def _rounded(number: float) -> float:
    return float(f"{number:.{_DIGITS}g}")


def check_features(data: JetDataset, whose: str, *, is_training: bool = True) -> None:
    """Check that the features of jets can be learned from.

    Parameters
    ----------
    data : JetDataset
        Training or validation jets.
    whose : str
        Name of the jets in messages, such as ``"the training jets"``.
    is_training : bool
        True for training jets; others need not have all categories of one-hot features, and few or
        no entries of a collection.

    Raises
    ------
    InputError
        If a feature is NaN or infinite, or if a feature that is not one of the official sets is
        constant, or if a collection has no entries in any jet.

    Warns
    -----
    FeatureWarning
        If such a feature has values beyond 100 times its spread.
    """
    for feature, values, where in _inputs(data):
        name = _place(feature.name, where.collection)
        if len(values) == 0 and is_training:
            raise InputError(
                f"collection {where.collection!r} is empty in all of {whose}: leave it out"
            )
        if not bool(values.isfinite().all()):
            raise InputError(_not_finite(values, feature, where, whose, len(data)))
        is_rare = is_flag(feature) or bool(where.collection)
        if is_official(feature) or (is_rare and not is_training):
            continue
        if bool((values == values[0]).all()):
            raise InputError(
                f"feature {name} is constant in {whose}, {float(values[0]):g}: leave it out"
            )
        if not feature.is_category:
            _warn_of_outliers(values, name, whose)


@dataclass(frozen=True)
class _Rows:
    """Collection of the values of a feature, empty for particles and jets, and their jets."""

    collection: str
    jet: Callable[[], Tensor]


def _inputs(data: JetDataset) -> Iterator[tuple[Feature, Tensor, _Rows]]:
    """Features of a data set with their values."""
    counts = data.ptr.diff()
    numbers = torch.arange(len(counts))
    names = ["", *(part.name for part in data.feature_set.collections)]
    for i, (name, part) in enumerate(zip(names, data.feature_set.parts, strict=True)):
        chosen = slice(None) if data.collection is None else data.collection == i

        def jet(chosen: Any = chosen) -> Tensor:
            return torch.repeat_interleave(numbers, counts)[chosen]

        values, where = data.x[chosen], _Rows(name, jet)
        yield from ((f, values[:, k], where) for k, f in enumerate(part))
    if data.u is not None:
        where = _Rows("", lambda: numbers)
        of_jets = zip(data.feature_set.jet_features, data.u.unbind(-1), strict=True)
        yield from ((feature, values, where) for feature, values in of_jets)


def _not_finite(values: Tensor, feature: Feature, where: _Rows, whose: str, number: int) -> str:
    jets = where.jet()[~values.isfinite()].unique()
    name = _place(feature.name, where.collection)
    return (
        f"feature {name} is NaN or infinite in "
        f"{len(jets)} of {number} of {whose}, the first is jet {int(jets[0])}: fill the column, or "
        f"take where(isfinite({feature.name}), {feature.name}, 0)"
    )


def _warn_of_outliers(values: Tensor, name: str, whose: str) -> None:
    rows = values[:: -(-len(values) // _ROWS)].double().numpy()
    spread = _Spread.of(rows)
    if not spread.width:
        return
    number, worst = 0, 0.0
    for part in values.split(_CHECKED_ROWS):
        distance = (part.double() - spread.median).abs() / spread.width
        far = distance[distance > _OUTLIER_SPREADS]
        number += len(far)
        worst = max(worst, float(far.max())) if len(far) else worst
    if number:
        warnings.warn(
            f"feature {name} of {whose} is beyond 100 times its spread for "
            f"{number_of(number, 'value')}, up to {worst:.3g} times: are these values of "
            "padding or of missing ones? low and high of a feature clip it",
            FeatureWarning,
            stacklevel=2,
        )


def describe(features: Sequence[Feature]) -> str:
    """Line that tells the standardisation of some features."""
    shown = ", ".join(f"{f.name} (shift {f.shift:g}, scale {f.scale:g})" for f in features)
    return f"standardised by median and spread of the training jets: {shown}"
