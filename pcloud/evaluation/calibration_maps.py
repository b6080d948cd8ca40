"""Calibration maps of probabilities: temperature, vector and isotonic scaling."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import Interval, Len
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp, softmax

from pcloud.errors import InputError, UnknownNameError
from pcloud.evaluation.calibration import probabilities
from pcloud.evaluation.influence import effective_size
from pcloud.evaluation.measured import Measured
from pcloud.evaluation.scores import Scores
from pcloud.stored_values import Float, Fraction
from pcloud.typing import Floats
from pcloud.validation import checked

__all__ = [
    "CALIBRATIONS",
    "CalibrationMap",
    "Isotonic",
    "Scaling",
    "calibration_from_dict",
    "calibration_map_of_scores",
    "fit_calibration",
    "fit_isotonic",
    "fit_temperature",
    "fit_vector",
]


_MIN_PROBABILITY = 1e-300  # lower bound on probabilities in logarithms
_RIDGE = 1e-3  # keeps the fit finite where no jet of a class is misclassified
_WEIGHT_RANGE = (1e-6, 1e6)  # range of the inverse temperature
_MAX_NEWTON_STEPS = 200


class CalibrationMap(ABC):
    """A map from the probabilities of a network to calibrated ones."""

    @abstractmethod
    def __call__(self, p: Floats) -> Floats:
        """Calibrated probabilities (B, C) of ``p (B, C)``."""

    @abstractmethod
    def describe(self) -> str:
        """Fitted parameters in a few words."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"kind": type(self).__name__, **asdict(self)}  # type: ignore[call-overload]


_Weight = Annotated[float, Interval(ge=-1e9, le=1e9)]
_Knots = Annotated[tuple[Fraction, ...], Len(1, 10**7)]


@dataclass(frozen=True)
class Scaling(CalibrationMap):
    """``softmax(weights log p + biases)``: temperature and vector scaling.

    Parameters
    ----------
    weights, biases : tuple of float
        One number per class. If the weights are equal and the biases 0, the weight is an inverse
        temperature: the most probable class of each jet and, for two classes, the order of the
        jets do not change.
    errors : tuple of float
        Standard errors of the weights, from the curvature of the likelihood.
    """

    weights: tuple[_Weight, ...]
    biases: tuple[_Weight, ...]
    errors: tuple[Float, ...]

    def __post_init__(self) -> None:
        if not self.weights or {len(self.biases), len(self.errors)} != {len(self.weights)}:
            raise InputError("weights, biases and errors must be one number per class each")

    def __call__(self, p: Floats) -> Floats:
        """Calibrated probabilities (B, C)."""
        return softmax(_log(p) * np.array(self.weights) + np.array(self.biases), axis=1)

    def describe(self) -> str:
        """Inverse temperature, or the weights."""
        pairs = zip(self.weights, self.errors, strict=True)
        if len(set(self.weights)) == 1 and not any(self.biases):
            return f"inverse temperature {Measured(self.weights[0], self.errors[0])}"
        return "weights " + ", ".join(str(Measured(w, e)) for w, e in pairs)

    def __repr__(self) -> str:
        """Kind and parameters."""
        return f"Scaling({self.describe()})"


@dataclass(frozen=True)
class Isotonic(CalibrationMap):
    """Monotonic function of the probability of each class, normalised over the classes.

    Parameters
    ----------
    knots : tuple of (tuple of float, tuple of float)
        Probabilities before and after the map, interpolated linearly: one pair for the second of
        two classes, or one pair for each class.
    """

    knots: Annotated[tuple[tuple[_Knots, _Knots], ...], Len(1, 10_000)]

    def __post_init__(self) -> None:
        for before, after in self.knots:
            if len(before) != len(after) or np.any(np.diff(before) < 0):
                raise InputError("knots must be increasing, with one value after the map for each")

    def __call__(self, p: Floats) -> Floats:
        """Calibrated probabilities (B, C)."""
        if len(self.knots) == 1:
            signal = np.interp(p[:, 1], *self.knots[0])
            return np.stack([1 - signal, signal], axis=1)
        columns = [np.interp(p[:, c], *knots) for c, knots in enumerate(self.knots)]
        mapped = np.stack(columns, axis=1)
        return mapped / mapped.sum(axis=1, keepdims=True)

    def describe(self) -> str:
        """Number of knots."""
        return f"{' + '.join(str(len(x)) for x, _ in self.knots)} knots"

    def __repr__(self) -> str:
        """Kind and number of knots."""
        return f"Isotonic({self.describe()})"


def fit_temperature(
    p: Floats, labels: NDArray[np.integer], weights: Floats | None = None
) -> Scaling:
    """Fit one inverse temperature by maximum likelihood.

    The loss is convex in the inverse temperature, so that its slope has one root. The root is
    bracketed, because a Newton step fails where all scores are saturated and the loss has no
    curvature at 1. The inverse temperature is positive: probabilities that are worse than chance
    become nearly equal for all classes. With weights, which may be negative, each jet contributes
    its weight over the mean weight, and the error is that of the influence function.

    References
    ----------
    Guo et al., On Calibration of Modern Neural Networks, https://arxiv.org/abs/1706.04599.
    """
    from scipy.optimize import brentq

    classes = p.shape[1]
    logs = _log(p)
    logs_of_truth = logs[np.arange(len(p)), labels]
    shares = None if weights is None else weights / weights.mean()

    def slope(log_weight: float) -> float:
        weight = np.exp(log_weight)
        mean_logs = (softmax(weight * logs, axis=1) * logs).sum(axis=1)
        return float(_sum(mean_logs - logs_of_truth, shares) + _RIDGE * (weight - 1))

    low, high = np.log(_WEIGHT_RANGE)
    if slope(low) >= 0:
        best = low
    elif slope(high) <= 0:
        best = high
    else:
        best = brentq(slope, low, high, xtol=1e-12)
    weight = float(np.exp(best))
    q = softmax(weight * logs, axis=1)
    mean_logs = (q * logs).sum(axis=1)
    curvature = float(_sum((q * logs**2).sum(axis=1) - mean_logs**2, shares)) + _RIDGE
    error = curvature**-0.5 if shares is None else abs(curvature) ** -1
    if shares is not None:
        error *= float(np.linalg.norm(shares * (mean_logs - logs_of_truth)))
    return Scaling((weight,) * classes, (0.0,) * classes, (error,) * classes)


def fit_vector(p: Floats, labels: NDArray[np.integer], weights: Floats | None = None) -> Scaling:
    """Fit a weight and a bias per class by maximum likelihood (vector scaling).

    The map acts on the logarithms of the probabilities. Logits would be ambiguous, since the
    softmax does not change if a constant is added to all of them. For two classes this is beta
    calibration. The fit starts from the best temperature. Parameters that the jets do not
    constrain, such as those of an absent class, stay close to this start. Weights are used as in
    :func:`fit_temperature`.

    References
    ----------
    Guo et al., https://arxiv.org/abs/1706.04599; Kull, Silva Filho and Flach, Beta calibration,
    AISTATS 2017.
    """
    classes = p.shape[1]
    temperature = fit_temperature(p, labels, weights)
    start = np.concatenate([temperature.weights, temperature.biases])
    shares = None if weights is None else weights / weights.mean()
    theta, covariance = _minimise(_log(p), np.eye(classes)[labels], start, shares)
    scales, biases = np.split(theta, 2)
    errors = np.sqrt(np.diag(covariance)[:classes])
    return Scaling(tuple(scales.tolist()), tuple(biases.tolist()), tuple(errors.tolist()))


def fit_isotonic(p: Floats, labels: NDArray[np.integer], weights: Floats | None = None) -> Isotonic:
    """Fit the monotonic function of least squares (isotonic regression).

    Jets whose order the validation jets do not support get the same probability. No probability
    is closer to 0 or 1 than ``1 / (n + 2)``, the resolution of n validation jets. With weights, n is
    the effective number of jets.

    Raises
    ------
    InputError
        If a weight is negative.

    References
    ----------
    Zadrozny and Elkan, KDD 2002.
    """
    from sklearn.isotonic import IsotonicRegression

    if weights is not None and (weights < 0).any():
        raise InputError("isotonic calibration needs weights that are not negative")
    bound = 1 / ((len(p) if weights is None else effective_size(weights)) + 2)
    knots = []
    for c in [1] if p.shape[1] == 2 else range(p.shape[1]):
        regression = IsotonicRegression(y_min=bound, y_max=1 - bound)
        fit = regression.fit(p[:, c], labels == c, sample_weight=weights)
        knots.append((tuple(fit.X_thresholds_.tolist()), tuple(fit.y_thresholds_.tolist())))
    return Isotonic(tuple(knots))


CALIBRATIONS: dict[str, Callable[..., CalibrationMap]] = {
    "temperature": fit_temperature,
    "vector": fit_vector,
    "isotonic": fit_isotonic,
}
"""Calibration methods by name. Each takes probabilities (B, C), labels (B,) and weights (B,)."""


def fit_calibration(
    labels: ArrayLike,
    scores: ArrayLike,
    method: str = "temperature",
    *,
    weights: ArrayLike | None = None,
) -> CalibrationMap:
    """Fit a calibration map on jets that were not used in the training.

    Parameters
    ----------
    labels : array_like of int, shape (B,)
        True class of each jet.
    scores : array_like, shape (B,) or (B, C)
        Probability of the second of two classes, or of each class.
    method : str
        Calibration method: ``"temperature"``, ``"vector"`` or ``"isotonic"``.
    weights : array_like, shape (B,), optional
        Weights of the jets. Isotonic calibration refuses negative ones.

    Raises
    ------
    UnknownNameError
        If there is no such method.
    InputError
        If the arrays cannot be used.

    Examples
    --------
    >>> calibration = fit_calibration([0, 1, 0, 1], [0.1, 0.9, 0.8, 0.7])
    >>> calibration(np.array([[0.2, 0.8]])).round(2)
    array([[0.26, 0.74]])
    """
    sample = Scores.from_arrays(labels, scores, weights=weights)
    return calibration_map_of_scores(sample, method)


def calibration_map_of_scores(sample: Scores, method: str = "temperature") -> CalibrationMap:
    """Fit as :func:`fit_calibration`, from `Scores` that are already checked."""
    if method not in CALIBRATIONS:
        raise UnknownNameError("calibration", method, CALIBRATIONS)
    if method == "isotonic":
        sample.refuse_negative_weights("isotonic calibration")
    if sample.weights is None:
        return CALIBRATIONS[method](probabilities(sample), sample.labels)
    return CALIBRATIONS[method](probabilities(sample), sample.labels, sample.weights)


def calibration_from_dict(values: dict[str, Any]) -> CalibrationMap:
    """Inverse of :meth:`CalibrationMap.to_dict`.

    Raises
    ------
    InputError
        If the kind of map is unknown.
    """
    kinds = {"Scaling": Scaling, "Isotonic": Isotonic}
    kind = values.get("kind") if isinstance(values, dict) else values
    if not isinstance(kind, str) or kind not in kinds:
        raise InputError(f"no calibration of kind {kind!r}")
    return checked(kinds[kind], values)


def _log(p: Floats) -> Floats:
    return np.log(np.maximum(p, _MIN_PROBABILITY))


def _sum(values: Floats, shares: Floats | None) -> Any:
    return values.sum() if shares is None else shares @ values


def _minimise(
    logs: Floats, truth: Floats, start: Floats, shares: Floats | None = None
) -> tuple[Floats, Floats]:
    """Weights and biases (2 C,) by Newton's method, and their covariance: the loss is convex.

    With the ``shares (B,)`` of the jets, their weights over the mean weight, the covariance is that of
    the influence functions.
    """

    def loss(theta: Floats) -> float:
        w, b = np.split(theta, 2)
        z = logs * w + b
        distance = theta - start
        cross_entropy = logsumexp(z, axis=1) - (z * truth).sum(axis=1)
        return float(_sum(cross_entropy, shares) + _RIDGE / 2 * distance @ distance)

    theta = start
    for _ in range(_MAX_NEWTON_STEPS):
        w, b = np.split(theta, 2)
        gradient, hessian = _derivatives(logs, softmax(logs * w + b, axis=1), truth, shares)
        gradient = gradient + _RIDGE * (theta - start)
        hessian = hessian + _RIDGE * np.eye(len(theta))
        step = np.linalg.solve(hessian, gradient)
        before = loss(theta)
        decrease = float(gradient @ step)
        if decrease < 1e-10:
            break
        length = 1.0
        while loss(theta - length * step) > before - 1e-4 * length * decrease and length > 1e-9:
            length /= 2
        theta = theta - length * step
    inverse = np.linalg.inv(hessian)
    if shares is None:
        return theta, inverse
    w, b = np.split(theta, 2)
    residual = softmax(logs * w + b, axis=1) - truth
    scores = np.concatenate([logs * residual, residual], axis=1) * shares[:, None]
    return theta, inverse @ (scores.T @ scores) @ inverse


def _derivatives(
    logs: Floats, q: Floats, truth: Floats, shares: Floats | None
) -> tuple[Floats, Floats]:
    """Gradient (2 C,) and Hessian (2 C, 2 C) of the summed loss in weights and biases."""
    lq = logs * q
    of_jets = np.concatenate([logs * (q - truth), q - truth], axis=1)
    gradient = of_jets.sum(0) if shares is None else shares @ of_jets
    left, left_q = (lq, q) if shares is None else (lq * shares[:, None], q * shares[:, None])
    ww = np.diag((logs * left).sum(0)) - left.T @ lq
    wb = np.diag(left.sum(0)) - left.T @ q
    bb = np.diag(left_q.sum(0)) - left_q.T @ q
    return gradient, np.block([[ww, wb], [wb.T, bb]])
