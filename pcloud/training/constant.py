"""Warning of a training that has not improved on a constant output."""

from __future__ import annotations

from pcloud.objectives.constant import ConstantScore

__all__ = ["ConstantScore", "NothingLearnedWarning"]


class NothingLearnedWarning(UserWarning):
    """A finished training whose network is not better than a constant score."""
