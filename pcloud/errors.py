"""Errors caused by the input of a user, with messages that say what to do.

The command line prints these errors in one line and exits with code 2. Any other exception is a bug
of this package and is shown with its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Error in the input of the user; the message says what is wrong and what to do."""


class UnknownNameError(InputError, KeyError):
    """Error for a name that does not exist; the message suggests the most similar known name.

    Parameters
    ----------
    kind : str
        Kind of object, such as ``"model"`` or ``"branch"``.
    name : str
        Name that does not exist.
    known : iterable of str
        Names that exist.
    where : str, optional
        Place of the known names, such as a file name.
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
        return self.message  # KeyError would print the repr


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most similar to `name`, or None where none is similar."""
    folded = {other.lower(): other for other in known}  # 'gev' is 'GeV' rather than 'eV'
    near = difflib.get_close_matches(name.lower(), folded, n=1)
    return folded[near[0]] if near else None


class MissingExtraError(ImportError):
    """Error for an optional dependency that is not installed; the message has the pip command."""

    def __init__(self, doing: str, packages: str, extra: str) -> None:
        super().__init__(f"{doing} needs {packages}: pip install 'pcloud-hep[{extra}]'")


class OldNameWarning(DeprecationWarning):
    """Something is used under a name that it had in an earlier version."""


class UnreadableFileWarning(UserWarning):
    """A file that cannot be read and is left out; the message says what to do about it."""
