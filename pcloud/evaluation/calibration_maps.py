"""Maps from a network's probabilities to calibrated ones: temperature, vector, isotonic scaling."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcloud.errors import InputError, UnknownNameError
from pcloud.evaluation.calibration import probabilities
from pcloud.evaluation.measured import Measured
from pcloud.evaluation.scores import Scores
from pcloud.typing import Floats

__all__ = [
    "CALIBRATIONS",
    "CalibrationMap",
    "Isotonic",
    "Scaling",
    "calibration_from_dict",
    "fit_calibration",
    "fit_isotonic",
    "fit_temperature",
    "fit_vector",
]

_SMALLEST = 1e-300  # a probability below it counts as this in a logarithm
_RIDGE = 1e-3  # keeps a fit finite where a class is predicted without a failure; nothing else
_WEIGHT_RANGE = (1e-6, 1e6)  # of an inverse temperature


class CalibrationMap(ABC):
    """A map from the probabilities of a network to calibrated ones."""

    @abstractmethod
    def __call__(self, p: Floats) -> Floats:
        """Calibrated probabilities (B, C) of ``p (B, C)``."""

    @abstractmethod
    def describe(self) -> str:
        """What was fitted, in a few words."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"kind": type(self).__name__, **asdict(self)}  # type: ignore[call-overload]


@dataclass(frozen=True)
class Scaling(CalibrationMap):
    """``softmax(weights log p + biases)``: temperature and vector scaling.

    Parameters
    ----------
    weights, biases : tuple of float
        A number per class. Equal weights are an inverse temperature and leave the order of jets
        and the most probable class as they are; log-sum-exp becomes the maximum as they grow.
    errors : tuple of float
        Standard errors of the weights, from the curvature of the likelihood.
    """

    weights: tuple[float, ...]
    biases: tuple[float, ...]
    errors: tuple[float, ...]

    def __call__(self, p: Floats) -> Floats:
        """Calibrated probabilities (B, C)."""
        return _softmax(_log(p) * np.array(self.weights) + np.array(self.biases))

    def describe(self) -> str:
        """The weights, or the inverse temperature."""
        pairs = zip(self.weights, self.errors, strict=True)
        if len(set(self.weights)) == 1 and not any(self.biases):
            return f"inverse temperature {Measured(self.weights[0], self.errors[0])}"
        return "weights " + ", ".join(str(Measured(w, e)) for w, e in pairs)


@dataclass(frozen=True)
class Isotonic(CalibrationMap):
    """A rising step function for each class, normalised over classes if there are several.

    Parameters
    ----------
    knots : tuple of (tuple of float, tuple of float)
        Probabilities and what they are mapped to, linear between them: one pair for the second of
        two classes, or one for each class.
    """

    knots: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]

    def __call__(self, p: Floats) -> Floats:
        """Calibrated probabilities (B, C)."""
        if len(self.knots) == 1:
            signal = np.interp(p[:, 1], *self.knots[0])
            return np.stack([1 - signal, signal], axis=1)
        columns = [np.interp(p[:, c], *knots) for c, knots in enumerate(self.knots)]
        mapped = np.stack(columns, axis=1)
        return mapped / mapped.sum(axis=1, keepdims=True)

    def describe(self) -> str:
        """How many steps."""
        return f"{' + '.join(str(len(x)) for x, _ in self.knots)} knots"


def fit_temperature(p: Floats, labels: NDArray[np.integer]) -> Scaling:
    """Temperature scaling: one inverse temperature, by maximum likelihood.

    The loss is convex in it, so that its slope has one root, which is bracketed and found whatever
    the scores: where all are saturated the loss has no curvature at 1 for a Newton step. It stays
    positive: scores that are worse than chance become equal for all classes.

    References
    ----------
    Guo et al., On Calibration of Modern Neural Networks, https://arxiv.org/abs/1706.04599.
    """
    from scipy.optimize import brentq

    classes = p.shape[1]
    logs = _log(p)
    logs_of_truth = logs[np.arange(len(p)), labels]

    def slope(log_weight: float) -> float:
        weight = np.exp(log_weight)
        mean_logs = (_softmax(weight * logs) * logs).sum(axis=1)
        return float((mean_logs - logs_of_truth).sum() + _RIDGE * (weight - 1))

    low, high = np.log(_WEIGHT_RANGE)
    if slope(low) >= 0:
        best = low
    elif slope(high) <= 0:
        best = high
    else:
        best = brentq(slope, low, high, xtol=1e-12)
    weight = float(np.exp(best))
    q = _softmax(weight * logs)
    curvature = float(((q * logs**2).sum(axis=1) - (q * logs).sum(axis=1) ** 2).sum()) + _RIDGE
    return Scaling((weight,) * classes, (0.0,) * classes, (curvature**-0.5,) * classes)


def fit_vector(p: Floats, labels: NDArray[np.integer]) -> Scaling:
    """Vector scaling: a weight and a bias per class, by maximum likelihood.

    It acts on the logarithms of the probabilities, not on logits, which the softmax knows up to a
    constant only: for two classes this is beta calibration. The fit begins at the best temperature,
    and stays close to it where the jets say nothing, as of a class that is absent.

    References
    ----------
    Guo et al., https://arxiv.org/abs/1706.04599; Kull, Silva Filho and Flach, Beta calibration,
    AISTATS 2017.
    """
    classes = p.shape[1]
    temperature = fit_temperature(p, labels)
    start = np.concatenate([temperature.weights, temperature.biases])
    theta, covariance = _minimise(_log(p), np.eye(classes)[labels], start)
    weights, biases = np.split(theta, 2)
    errors = np.sqrt(np.diag(covariance)[:classes])
    return Scaling(tuple(weights.tolist()), tuple(biases.tolist()), tuple(errors.tolist()))


def fit_isotonic(p: Floats, labels: NDArray[np.integer]) -> Isotonic:
    """Isotonic scaling: the monotonic function that fits best.

    It ties jets whose order the validation jets cannot tell. No jet is mapped closer to 0 or 1
    than ``1 / (n + 2)``: n validation jets do not know more.

    References
    ----------
    Zadrozny and Elkan, KDD 2002.
    """
    from sklearn.isotonic import IsotonicRegression

    least = 1 / (len(p) + 2)
    knots = []
    for c in [1] if p.shape[1] == 2 else range(p.shape[1]):
        fit = IsotonicRegression(y_min=least, y_max=1 - least).fit(p[:, c], labels == c)
        knots.append((tuple(fit.X_thresholds_.tolist()), tuple(fit.y_thresholds_.tolist())))
    return Isotonic(tuple(knots))


CALIBRATIONS: dict[str, Callable[[Floats, NDArray[np.integer]], CalibrationMap]] = {
    "temperature": fit_temperature,
    "vector": fit_vector,
    "isotonic": fit_isotonic,
}
"""The methods by name; each takes probabilities (B, C) and labels (B,)."""


def fit_calibration(
    labels: ArrayLike, scores: ArrayLike, method: str = "temperature"
) -> CalibrationMap:
    """Fit a calibration on jets that the network was not trained on.

    Parameters
    ----------
    labels : array_like of int, shape (B,)
        True class of each jet.
    scores : array_like, shape (B,) or (B, C)
        Probabilities.
    method : str
        ``"temperature"``, ``"vector"`` or ``"isotonic"``.

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
    if method not in CALIBRATIONS:
        raise UnknownNameError("calibration", method, CALIBRATIONS)
    sample = Scores.from_arrays(labels, scores)
    return CALIBRATIONS[method](probabilities(sample), sample.labels)


def calibration_from_dict(values: dict[str, Any]) -> CalibrationMap:
    """The map that :meth:`CalibrationMap.to_dict` described."""
    kinds = {"Scaling": Scaling, "Isotonic": Isotonic}
    fields = {name: _tuples(value) for name, value in values.items() if name != "kind"}
    if values.get("kind") not in kinds:
        raise InputError(f"no calibration of kind {values.get('kind')!r}")
    return kinds[values["kind"]](**fields)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def _log(p: Floats) -> Floats:
    return np.log(np.maximum(p, _SMALLEST))


def _softmax(z: Floats) -> Floats:
    z = np.exp(z - z.max(axis=1, keepdims=True))
    return z / z.sum(axis=1, keepdims=True)


def _minimise(
    logs: Floats, truth: Floats, start: Floats, steps: int = 200
) -> tuple[Floats, Floats]:
    """Newton's method for weights and biases (2 C,), and their covariance: convex in both."""

    def loss(theta: Floats) -> float:
        w, b = np.split(theta, 2)
        z = logs * w + b
        top = z.max(axis=1)
        sums = np.log(np.exp(z - top[:, None]).sum(axis=1)) + top
        distance = theta - start
        return float((sums - (z * truth).sum(axis=1)).sum() + _RIDGE / 2 * distance @ distance)

    theta = start
    for _ in range(steps):
        w, b = np.split(theta, 2)
        gradient, hessian = _derivatives(logs, _softmax(logs * w + b), truth)
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
    return theta, np.linalg.inv(hessian)


def _derivatives(logs: Floats, q: Floats, truth: Floats) -> tuple[Floats, Floats]:
    """Gradient (2 C,) and Hessian (2 C, 2 C) of the summed loss in weights and biases."""
    lq = logs * q
    gradient = np.concatenate([(logs * (q - truth)).sum(0), (q - truth).sum(0)])
    ww = np.diag((logs * lq).sum(0)) - lq.T @ lq
    wb = np.diag(lq.sum(0)) - lq.T @ q
    bb = np.diag(q.sum(0)) - q.T @ q
    return gradient, np.block([[ww, wb], [wb.T, bb]])
