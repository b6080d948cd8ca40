"""Discrimination tasks of a sample: the signal class and the background class or classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pcloud.errors import InputError
from pcloud.evaluation.ranking import Ranking
from pcloud.evaluation.scores import Scores

__all__ = [
    "Task",
    "binary_signal",
    "check_signal_named",
    "class_names",
    "discrimination_tasks",
    "signal_and_background",
    "signal_scores",
]


@dataclass(frozen=True)
class Task:
    """One signal against one background, or against all other classes.

    Parameters
    ----------
    name : str
        Suffix of the quantities in a table: ``"Hbb"`` (against the rest), ``"Hbb vs QCD"``, or
        empty for the only task of two classes.
    signal : str
        Name of the signal class.
    ranking : Ranking
        The jets in order of score.
    """

    name: str
    signal: str
    ranking: Ranking

    def key(self, quantity: str) -> str:
        """Name of a quantity of this task in a table."""
        return f"{quantity}[{self.name}]" if self.name else quantity

    @property
    def smaller_class(self) -> float:
        """Effective number of jets of signal or background, whichever is smaller."""
        return min(self.ranking.signal_size, self.ranking.background_size)


def discrimination_tasks(
    sample: Scores, signal: str | int | None = None, background: str | int | None = None
) -> list[Task]:
    """Tasks of a sample; the options are those of `evaluate`.

    Two classes form one task. With more classes, each class with at least two jets is ranked
    against all others and then, if `background` is given, against that class.
    """
    names = sample.classes
    if len(names) == 2:
        target = binary_signal(sample, signal, background)
        return [Task("", names[target], _rank(sample, target, 1 - target))]
    present = [c for c, number in enumerate(sample.counts) if number > 1]
    signals = present if signal is None else [sample.index(signal)]
    tasks = [Task(names[c], names[c], _rank(sample, c)) for c in signals]
    if background is not None:
        against = sample.index(background)
        tasks += [
            Task(f"{names[c]} vs {names[against]}", names[c], _rank(sample, c, against))
            for c in signals
            if c != against
        ]
    return tasks


def binary_signal(
    sample: Scores, signal: str | int | None = None, background: str | int | None = None
) -> int:
    """Index of the signal of two classes; the second class by default.

    Raises
    ------
    InputError
        If the same class is named as signal and background.
    """
    if signal is None:
        return 1 if background is None else 1 - sample.index(background)
    target = sample.index(signal)
    if background is not None and sample.index(background) == target:
        raise InputError(f"{sample.classes[target]!r} cannot be both signal and background")
    return target


def check_signal_named(classes: Sequence[str], signal: str | int | None) -> None:
    """Check that the signal is named where there are more than two classes.

    Raises
    ------
    InputError
        If it is not.
    """
    if len(classes) > 2 and signal is None:
        raise InputError(f"name the signal: which of {', '.join(classes)} is it?")


def signal_and_background(
    sample: Scores, signal: str | int | None = None, background: str | int | None = None
) -> tuple[int, int | None]:
    """Indices of the signal class and of the background class.

    Two classes: the signal is the second one by default, the background is the other class.
    More classes: the background is None, which stands for all other classes, unless it is named.

    Raises
    ------
    InputError
        If there are more than two classes and the signal is not named, or if the same class is
        named as signal and background.
    """
    check_signal_named(sample.classes, signal)
    target = binary_signal(sample, signal, background)
    if len(sample.classes) == 2:
        return target, 1 - target
    return target, None if background is None else sample.index(background)


def signal_scores(
    sample: Scores, signal: str | int | None = None, background: str | int | None = None
) -> tuple[NDArray[np.floating], NDArray[np.bool_], NDArray[np.bool_]]:
    """Score for the signal, mask of the signal jets and mask of the background jets, (B,) each.

    Raises
    ------
    InputError
        As for :func:`signal_and_background`.
    """
    target, against = signal_and_background(sample, signal, background)
    is_signal = sample.labels == target
    is_background = ~is_signal if against is None else sample.labels == against
    return sample.discriminant(target, against), is_signal, is_background


def class_names(
    sample: Scores, signal: str | int | None = None, background: str | int | None = None
) -> tuple[str, str]:
    """Names of the signal and of the background, which is ``"the rest"`` for all other classes."""
    target, against = signal_and_background(sample, signal, background)
    return sample.classes[target], "the rest" if against is None else sample.classes[against]


def _rank(sample: Scores, signal: int, background: int | None = None) -> Ranking:
    for index in (signal, background):
        if index is not None and sample.counts[index] < 2:
            raise InputError(
                f"too few jets of class {sample.classes[index]!r} ({sample.counts[index]}): "
                "a measurement with an error needs at least two"
            )
    labels = sample.labels
    is_background = labels != signal if background is None else labels == background
    scores = sample.discriminant(signal, background)
    return Ranking(scores, labels == signal, is_background, sample.weights)
