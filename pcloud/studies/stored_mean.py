"""Stored means with errors, also those of earlier versions."""

from __future__ import annotations

from typing import Any

from pcloud.evaluation.measured import Measured

__all__ = ["stored_mean"]


def stored_mean(entry: Any) -> Measured:
    """Mean from a result file, where older files hold the list of value and error."""
    if isinstance(entry, Measured):
        return entry
    if isinstance(entry, list):
        names = ("value", "error")[: len(entry)]
        entry = {**dict(zip(names, entry, strict=False)), "method": "mean over jets"}
    return Measured.from_dict(entry)
