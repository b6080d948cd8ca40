"""What there is to tell apart in a sample: which jets are signal, which background."""

from __future__ import annotations

from dataclasses import dataclass

from pcloud.errors import InputError
from pcloud.evaluation.ranking import Ranking
from pcloud.evaluation.scores import Scores


@dataclass(frozen=True)
class Task:
    """One signal against one background, or against all other classes.

    Parameters
    ----------
    name : str
        What a table writes beside the values: ``"Hbb"`` (against the rest), ``"Hbb vs QCD"``,
        or nothing for the only task of two classes.
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
    def smaller_class(self) -> int:
        """Number of jets of signal or background, whichever is smaller."""
        return min(len(self.ranking.signal_jets), len(self.ranking.background_jets))


def discrimination_tasks(
    sample: Scores, signal: str | int | None = None, background: str | int | None = None
) -> list[Task]:
    """Tasks of a sample; the options are those of `evaluate`.

    Of two classes there is one task. Of more, each class with at least two jets against the
    rest, then each of them against the `background` if one is named.
    """
    names = sample.classes
    if len(names) == 2:
        target = binary_signal(sample, signal, background)
        return [Task("", names[target], _rank(sample, target, 1 - target))]
    present = [c for c, number in enumerate(sample.counts) if number > 1]
    wanted = present if signal is None else [sample.index(signal)]
    tasks = [Task(names[c], names[c], _rank(sample, c)) for c in wanted]
    if background is not None:
        against = sample.index(background)
        tasks += [
            Task(f"{names[c]} vs {names[against]}", names[c], _rank(sample, c, against))
            for c in wanted
            if c != against
        ]
    return tasks


def binary_signal(
    sample: Scores, signal: str | int | None = None, background: str | int | None = None
) -> int:
    """Index of the signal of two classes: the second, if neither class is named."""
    if signal is None:
        return 1 if background is None else 1 - sample.index(background)
    target = sample.index(signal)
    if background is not None and sample.index(background) == target:
        raise InputError(f"{sample.classes[target]!r} cannot be both signal and background")
    return target


def _rank(sample: Scores, signal: int, background: int | None = None) -> Ranking:
    for index in (signal, background):
        if index is not None and sample.counts[index] < 2:
            raise InputError(
                f"too few jets of class {sample.classes[index]!r} ({sample.counts[index]}): "
                "a measurement with an error needs two"
            )
    labels = sample.labels
    others = labels != signal if background is None else labels == background
    return Ranking(sample.discriminant(signal, background), labels == signal, others)
