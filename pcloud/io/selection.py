"""Jets that a schema leaves out, and the values of its classes, with their numbers."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from pcloud.io.labels import NO_CLASS, Sorted

__all__ = ["Selection", "SelectionWarning"]

_MAX_SHOWN_VALUES = 8


class SelectionWarning(UserWarning):
    """Warning that jets were left out, or classes merged, because the schema says so."""


@dataclass
class Selection:
    """Numbers of jets that a schema takes and leaves out.

    Attributes
    ----------
    num_jets : int
        Number of jets in the files.
    num_rejected : int
        Number of jets for which the selection is false.
    classes : Counter
        Numbers of the other jets by class and value of the label.
    """

    num_jets: int = 0
    num_rejected: int = 0
    classes: Counter[Sorted] = field(default_factory=Counter)

    def add(self, other: Selection) -> None:
        """Add the numbers of other jets."""
        self.num_jets += other.num_jets
        self.num_rejected += other.num_rejected
        self.classes.update(other.classes)

    def messages(self, select: str | None, label: str, names: Sequence[str]) -> list[str]:
        """Sentences about what is left out and merged, each of one line.

        Parameters
        ----------
        select : str, optional
            Expression of the selection.
        label : str
            Column of the label.
        names : sequence of str
            Names of the classes.
        """
        messages = []
        if self.num_rejected:
            messages.append(
                f"select {select!r} leaves out {self.num_rejected:,} of {self.num_jets:,} jets"
            )
        without = self._of(NO_CLASS)
        merged = [name for i, name in enumerate(names) if len(self._of(i)) > 1]
        if without or merged:
            messages.append(self._describe_classes(label, names))
        return messages

    def _describe_classes(self, label: str, names: Sequence[str]) -> str:
        parts = [_describe(name, self._of(i)) for i, name in enumerate(names)]
        without = self._of(NO_CLASS)
        text = f"classes of {label}: {', '.join(parts)}"
        if without:
            number = sum(without.values())
            values = _list({value: n for value, n in without.items() if value})
            text += f"; {number:,} jets are in no class and are left out" + (
                f" ({values})" if values else ""
            )
        return text

    def _of(self, index: int) -> dict[str, int]:
        """Numbers of jets of each value of a class."""
        return {value: number for (i, value), number in self.classes.items() if i == index}

    def warn(self, where: str, select: str | None, label: str, names: Sequence[str]) -> None:
        """Warn of what is left out and merged."""
        for message in self.messages(select, label, names):
            warnings.warn(f"{where}: {message}", SelectionWarning, stacklevel=3)


def _describe(name: str, values: dict[str, int]) -> str:
    total = f"{name} {sum(values.values()):,}"
    return f"{total} ({_list(values)})" if len(values) > 1 else total


def _list(values: dict[str, int]) -> str:
    largest = sorted(values.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{value}: {number:,}" for value, number in largest[:_MAX_SHOWN_VALUES])
    return f"{shown}, ..." if len(largest) > _MAX_SHOWN_VALUES else shown
