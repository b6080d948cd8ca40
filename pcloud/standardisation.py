"""Standardisation of features from the training jets, and checks of features before a training."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import awkward as ak
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pcloud.batch import JetDataset
from pcloud.errors import InputError
from pcloud.features import Feature, FeatureSet, is_official
from pcloud.words import number_of

__all__ = [
    "FeatureWarning",
    "check_features",
    "describe",
    "fit_standardisation",
    "needs_standardisation",
]

_FITTED_JETS = 10_000  # determine a median to 0.01 of the spread with one particle each
_ROWS = 100_000  # from which the spread is estimated for the check
_OUTLIER_SPREADS = 100
_ONE_SIGMA = (15.865525393145708, 84.1344746068543)  # per cent
_DIGITS = 6


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


def fit_standardisation(features: FeatureSet, jets: ak.Array) -> FeatureSet:
    """Feature set in which shift and scale of some features follow from jets.

    The shift is the median, and the scale the inverse of half the width of the central 68 % of the
    values, which tails do not change. This concerns the features of :func:`needs_standardisation`.
    They are rounded to six digits.

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
    wanted = needs_standardisation(features)
    if not wanted or len(jets) == 0:
        return features
    few = jets[:: -(-len(jets) // _FITTED_JETS)]
    plain = replace(features, features=tuple(wanted), jet_features=())
    values = JetDataset(few, plain).x.double().numpy()
    fitted = {
        feature.name: _standardised(feature, column)
        for feature, column in zip(wanted, values.T, strict=True)
    }
    parts = (features.features, features.jet_features)
    new, of_jets = (tuple(fitted.get(f.name, f) for f in part) for part in parts)
    return replace(features, features=new, jet_features=of_jets)


def _standardised(feature: Feature, values: NDArray[np.float64]) -> Feature:
    finite = values[np.isfinite(values)]
    spread = _Spread.of(finite) if len(finite) else _Spread(0.0, 0.0)
    if spread.width == 0:
        return feature  # constant, which `check_features` says
    return replace(feature, shift=_rounded(spread.median), scale=_rounded(1 / spread.width))


def _rounded(number: float) -> float:
    return float(f"{number:.{_DIGITS}g}")


def check_features(data: JetDataset, whose: str) -> None:
    """Check that the features of jets can be learned from.

    Parameters
    ----------
    data : JetDataset
        Training or validation jets.
    whose : str
        Name of the jets in messages, such as ``"the training jets"``.

    Raises
    ------
    InputError
        If a feature is NaN or infinite, or if a feature that is not one of the official sets is
        constant.

    Warns
    -----
    FeatureWarning
        If such a feature has values beyond 100 times its spread.
    """
    found = [*zip(data.feature_set.features, data.x.unbind(-1), strict=True)]
    if data.u is not None:
        found += zip(data.feature_set.jet_features, data.u.unbind(-1), strict=True)
    for feature, values in found:
        if not bool(values.isfinite().all()):
            raise InputError(_not_finite(data, values, feature, whose))
        if is_official(feature):
            continue
        if bool((values == values[0]).all()):
            raise InputError(
                f"feature {feature.name!r} is constant in {whose}, {float(values[0]):g}: leave it out"
            )
        _warn_of_outliers(values, feature, whose)


def _not_finite(data: JetDataset, values: Tensor, feature: Feature, whose: str) -> str:
    jets = (~values.isfinite()).nonzero().flatten().numpy()
    if len(values) == len(data.x):
        jets = np.unique(np.searchsorted(data.ptr.numpy(), jets, side="right") - 1)
    return (
        f"feature {feature.name!r} is NaN or infinite in "
        f"{len(jets)} of {len(data)} of {whose}, the first is jet {jets[0]}: fill the column, or "
        f"take where(isfinite({feature.name}), {feature.name}, 0)"
    )


def _warn_of_outliers(values: Tensor, feature: Feature, whose: str) -> None:
    rows = values[:: -(-len(values) // _ROWS)].double().numpy()
    spread = _Spread.of(rows)
    far = (values.double() - spread.median).abs() > _OUTLIER_SPREADS * spread.width
    if spread.width and bool(far.any()):
        worst = float((values[far].double() - spread.median).abs().max()) / spread.width
        warnings.warn(
            f"feature {feature.name!r} of {whose} is beyond 100 times its spread for "
            f"{number_of(int(far.sum()), 'value')}, up to {worst:.3g} times: are these values of "
            "padding or of missing ones? low and high of a feature clip it",
            FeatureWarning,
            stacklevel=2,
        )


def describe(features: Sequence[Feature]) -> str:
    """Line that tells the standardisation of some features."""
    shown = ", ".join(f"{f.name} (shift {f.shift:g}, scale {f.scale:g})" for f in features)
    return f"standardised by median and spread of the training jets: {shown}"
