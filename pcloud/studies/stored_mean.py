"""Stored means with errors, also those of earlier versions."""

from __future__ import annotations

from typing import Any

from pcloud.evaluation.measured import Measured

__all__ = ["stored_mean"]


def stored_mean(entry: dict[str, Any] | list[float]) -> Measured:
    """Mean from a result file, where older files hold the list of value and error."""
    if isinstance(entry, list):
        value, error = entry
        return Measured(value, error, "mean over jets")
    return Measured.from_dict(entry)
