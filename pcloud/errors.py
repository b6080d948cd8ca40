"""Errors that a user can cause, each saying what to do about it.

The command line prints these as one line and exits with code 2; anything else is a bug of
ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something the user gave cannot be used; the message says what and what to do."""


class UnknownNameError(InputError, KeyError):
    """A name that does not exist, with the nearest one that does.

    Parameters
    ----------
    kind : str
        What the name stands for, such as ``"model"`` or ``"branch"``.
    name : str
        The name that was asked for.
    known : iterable of str
        The names that exist.
    where : str, optional
        Where it was looked for, such as a file name.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], where: str = "") -> None:
        known = sorted(known)
        place = f" in {where}" if where else ""
        if near := nearest(name, known):
            hint = f"did you mean {near!r}?"
        elif len(known) > 12:
            hint = f"there are {len(known)}: {', '.join(known[:12])}, ..."
        else:
            hint = f"known: {', '.join(known) or 'none'}"
        self.message = f"no {kind} named {name!r}{place}; {hint}"
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message  # KeyError would print its repr


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most similar to `name`, or None where none is similar."""
    folded = {other.lower(): other for other in known}  # 'gev' is 'GeV' rather than 'eV'
    near = difflib.get_close_matches(name.lower(), folded, n=1)
    return folded[near[0]] if near else None


class MissingExtraError(ImportError):
    """An optional dependency is absent; the message names the pip command."""

    def __init__(self, doing: str, packages: str, extra: str) -> None:
        super().__init__(f"{doing} needs {packages}: pip install 'pcloud-hep[{extra}]'")
