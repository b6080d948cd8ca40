"""Numbers with their nouns in messages."""

from __future__ import annotations

__all__ = ["number_of"]


def number_of(number: int, noun: str, plural: str | None = None) -> str:
    """A number and its noun: ``"1 jet"``, ``"1,200 jets"``, ``"3 classes"``.

    Parameters
    ----------
    number : int
        The number.
    noun : str
        Noun in the singular.
    plural : str, optional
        Its plural; by default with an ``s``.
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
