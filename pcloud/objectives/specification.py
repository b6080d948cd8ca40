"""Objectives as a user names them: ``class``, ``pt:gaussian``, ``mass:quantile:0.1,0.5,0.9``.

No other module of the package is imported: the command line reads the names for its help.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pcloud.errors import InputError, UnknownNameError

__all__ = [
    "ANOMALY",
    "CLASS",
    "CLASS_LOSSES",
    "DEFAULT_LEVELS",
    "GENERATE",
    "KINDS",
    "MASKED",
    "PARTICLE_KINDS",
    "TRANSFORMS",
    "Specification",
    "check_levels",
    "parse_objectives",
]

CLASS = "class"
"""Objective of the classes of the labels."""

ANOMALY = "anomaly"
"""Objective of an anomaly detector, which learns the first class alone."""

GENERATE = "generate"
"""Objective of a generator, which makes new jets."""

MASKED = "masked"
"""Objective of hidden particles, which needs no labels."""

_WITHOUT_TARGET = (CLASS, ANOMALY, GENERATE, MASKED)  # kinds without a target, whose name they take

CLASS_LOSSES = ("cross_entropy", "l1", "l2", "focal")
"""Names of the losses of classes."""

KINDS = {
    "squared": "mean, by the squared difference",
    "absolute": "median, by the absolute difference",
    "huber": "robust mean, by the Huber loss",
    "logcosh": "robust mean, by the logarithm of the hyperbolic cosine",
    "gaussian": "mean and sigma, by the Gaussian likelihood",
    "quantile": "quantiles that do not cross, by the pinball loss",
    "binary": "probability of a label that is 0 or 1, by the cross-entropy",
    "classes": "classes of each particle, by the cross-entropy",
    "pairs": "pairs of particles with the same label, such as a vertex, by the cross-entropy",
}
"""Kinds of objectives of a target, with what each gives."""

PARTICLE_KINDS = ("classes", "pairs")
"""Kinds of objectives of a label of particles."""

TRANSFORMS = ("none", "log")
"""Functions of a target that is learned in place of its value."""

DEFAULT_LEVELS = (0.025, 0.16, 0.5, 0.84, 0.975)
"""Levels of quantiles, with the central 68 % and 95 % intervals."""

_OPTIONS = ("target", "kind", "levels", "delta", "transform", "widths", "threshold", "fraction")
_MASKED_WIDTHS = (128, 128)
_MAX_LEVELS = 1000
_MAX_WIDTH = 10**6


@dataclass(frozen=True)
class Specification:
    """Objective as a user names it.

    Parameters
    ----------
    kind : str
        ``"class"``, ``"anomaly"``, ``"generate"``, ``"masked"``, or one of `KINDS`.
    target : str
        Name of the target; the kind itself for the classes, an anomaly detector, a generator, and hidden
        particles.
    levels : tuple of float
        Levels of the quantiles.
    delta : float
        Difference, in spreads of the target, from which the Huber loss is linear.
    transform : str, optional
        Learned function of the target, one of `TRANSFORMS`; by default that of the schema.
    widths : tuple of int
        Widths of the hidden layers for labels of particles.
    threshold : float
        Probability above which a pair joins two particles.
    fraction : float
        Hidden fraction of the particles.
    """

    kind: str
    target: str
    levels: tuple[float, ...] = DEFAULT_LEVELS
    delta: float = 1.0
    transform: str | None = None
    widths: tuple[int, ...] = (64,)
    threshold: float = 0.5
    fraction: float = 1 / 3

    def __post_init__(self) -> None:
        if not 0 < self.fraction < 1:
            raise InputError(
                f"objective {self.target!r}: the hidden fraction must be between 0 and 1, got "
                f"{self.fraction:g}"
            )
        if not 0 < self.threshold < 1:
            raise InputError(
                f"objective {self.target!r}: threshold must be between 0 and 1, got "
                f"{self.threshold:g}"
            )
        if not self.widths or not all(1 <= width <= _MAX_WIDTH for width in self.widths):
            raise InputError(
                f"objective {self.target!r}: widths must be positive integers, got "
                f"{list(self.widths)}"
            )
        if self.kind not in _WITHOUT_TARGET and self.kind not in KINDS:
            raise UnknownNameError("kind of objective", self.kind, KINDS, repr(self.target))
        check_levels(self.levels, self.target)
        if not 0 < self.delta < math.inf:
            raise InputError(
                f"objective {self.target!r}: delta must be positive, got {self.delta:g}"
            )
        if self.transform is not None and self.transform not in TRANSFORMS:
            raise UnknownNameError("transform", self.transform, TRANSFORMS, repr(self.target))

    @property
    def learns_classes(self) -> bool:
        """True for the classes of the labels, False for a target."""
        return self.kind in (CLASS, ANOMALY)

    @property
    def detects_anomalies(self) -> bool:
        """True for an anomaly detector."""
        return self.kind == ANOMALY

    @property
    def generates(self) -> bool:
        """True for a generator."""
        return self.kind == GENERATE

    @property
    def learns_masked(self) -> bool:
        """True for hidden particles."""
        return self.kind == MASKED

    @property
    def learns_particles(self) -> bool:
        """True for a label of particles."""
        return self.kind in PARTICLE_KINDS

    @property
    def learns_particle_classes(self) -> bool:
        """True for the class of each particle."""
        return self.kind == "classes"

    @property
    def learns_label(self) -> bool:
        """True for a label that is 0 or 1."""
        return self.kind == "binary"

    @classmethod
    def parse(cls, value: str | Mapping[str, Any]) -> Specification:
        """Objective from a text, or from a mapping with the fields of this class.

        Raises
        ------
        InputError
            If it cannot be used; `UnknownNameError` for a kind or field that does not exist.
        """
        if isinstance(value, Mapping):
            return cls._from_mapping(value)
        if value in (CLASS, ANOMALY, GENERATE):
            return cls(value, value)
        if value == MASKED or value.startswith(f"{MASKED}:"):
            return cls._masked(value)
        target, _, rest = value.partition(":")
        kind, _, argument = rest.partition(":")
        if not target or not kind:
            raise InputError(
                f"objective {value!r} must be class, anomaly, generate, or a target and its kind, such as "
                f"{target or 'mass'}:gaussian; kinds: {', '.join(KINDS)}"
            )
        if not argument:
            return cls(kind, target)
        if kind == "quantile":
            return cls(kind, target, levels=tuple(_numbers(value, argument)))
        if kind == "huber":
            return cls(kind, target, delta=_numbers(value, argument)[0])
        raise InputError(f"objective {value!r}: the kind {kind} takes no numbers")

    @classmethod
    def _masked(cls, value: str) -> Specification:
        argument = value.partition(":")[2]
        fraction = _number(MASKED, argument) if argument else cls.fraction
        return cls(MASKED, MASKED, widths=_MASKED_WIDTHS, fraction=fraction)

    @classmethod
    def _from_mapping(cls, values: Mapping[str, Any]) -> Specification:
        for name in values:
            if name not in _OPTIONS:
                raise UnknownNameError("field of an objective", str(name), _OPTIONS)
        kind = values.get("kind")
        target = values.get("target", kind if kind in _WITHOUT_TARGET else None)
        if not isinstance(target, str) or not isinstance(values.get("kind"), str):
            raise InputError(f"an objective needs target and kind, got {dict(values)}")
        given = dict(values) | {"target": target}
        if "levels" in given:
            levels = given["levels"]
            listed = (
                levels if isinstance(levels, Sequence) and not isinstance(levels, str) else [levels]
            )
            given["levels"] = tuple(_number(target, level) for level in listed)
        for name in ("delta", "threshold", "fraction"):
            if name in given:
                given[name] = _number(target, given[name])
        if kind == MASKED:
            if target != MASKED:
                raise InputError(f"hidden particles are no target: leave out {target!r}")
            given = {"widths": list(_MASKED_WIDTHS)} | given
        if "widths" in given:
            given["widths"] = _widths(target, given["widths"])
        return cls(**given)


def parse_objectives(values: str | Sequence[str | Mapping[str, Any]]) -> list[Specification]:
    """Objectives that are learned at once, whose targets must differ.

    Raises
    ------
    InputError
        If one cannot be used, or a target is learned twice.
    """
    listed = [values] if isinstance(values, str | Mapping) else list(values)
    if not listed:
        raise InputError("objective must be class or at least one target, got none")
    found = [Specification.parse(value) for value in listed]
    names = [part.target for part in found]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"objective {name!r} is given twice: a target has one kind")
    for part in found:
        if len(found) > 1 and (part.generates or part.detects_anomalies):
            raise InputError(f"{part.kind} is learned alone: leave out the other objectives")
    if MASKED in names and len(names) > 1:
        others = ", ".join(name for name in names if name != MASKED)
        raise InputError(f"objective masked stands alone: {others} would see only a part of a jet")
    return found


def check_levels(levels: Sequence[float], target: str) -> None:
    """Check the levels of quantiles.

    Raises
    ------
    InputError
        If there are none, or one is outside (0, 1), or they are repeated or not sorted.
    """
    shown = ", ".join(f"{level:g}" for level in levels)
    if not 0 < len(levels) <= _MAX_LEVELS:
        raise InputError(
            f"quantiles of {target!r}: {len(levels)} levels, expected 1 to {_MAX_LEVELS}"
        )
    for level in levels:
        if not 0 < level < 1:
            raise InputError(f"quantiles of {target!r}: level {level:g} is not between 0 and 1")
    if len(set(levels)) < len(levels):
        raise InputError(f"quantiles of {target!r}: levels {shown} repeat")
    if sorted(levels) != list(levels):
        raise InputError(f"quantiles of {target!r}: levels {shown} are not in increasing order")


def _numbers(value: str, text: str) -> list[float]:
    return [_number(value, word) for word in text.split(",")]


def _widths(target: str, values: Any) -> tuple[int, ...]:
    listed = [values] if isinstance(values, int) else values
    is_list = isinstance(listed, Sequence) and not isinstance(listed, str)
    if not is_list or not all(type(width) is int for width in listed):
        raise InputError(f"objective {target!r}: widths must be positive integers, got {values!r}")
    return tuple(listed)


def _number(whose: str, value: Any) -> float:
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise InputError(f"objective {whose!r}: {value!r} is not a number") from None
