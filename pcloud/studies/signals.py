"""Classes that a study explains."""

from __future__ import annotations

from collections.abc import Sequence

from pcloud.errors import UnknownNameError

__all__ = ["explained_signals"]


def explained_signals(classes: Sequence[str], signal: str | None) -> list[str]:
    """Names of the classes to explain: `signal`, or the second of two, or each of more.

    Raises
    ------
    UnknownNameError
        If there is no class `signal`.
    """
    if signal is None:
        return list(classes[1:] if len(classes) == 2 else classes)
    if signal not in classes:
        raise UnknownNameError("class", signal, classes)
    return [signal]
