"""Several opinions on a jet in a few numbers: mean, and what is uncertain and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike

from pcloud.errors import InputError
from pcloud.typing import Floats

__all__ = ["Uncertainty"]


@dataclass(frozen=True)
class Uncertainty:
    """Scores and uncertainties of each jet, entropies in nats.

    Parameters
    ----------
    mean : ndarray, shape (B, C)
        Mean probability over the opinions: the score to use.
    total : ndarray, shape (B,)
        Entropy of the mean: how open the question is.
    aleatoric : ndarray, shape (B,)
        Mean entropy of the opinions: how open each of them leaves it. More training jets would not
        change it.
    epistemic : ndarray, shape (B,)
        Total minus aleatoric, the mutual information of class and opinion: how far the opinions
        differ. It is large where the training jets said little, and falls with their number.
    logit_spread : ndarray, shape (B,)
        Standard deviation over the opinions of the log-odds of the mean's most probable class.
    """

    mean: Floats
    total: Floats
    aleatoric: Floats
    epistemic: Floats
    logit_spread: Floats

    @classmethod
    def of(cls, logits: ArrayLike) -> Uncertainty:
        """Sum up opinions given as ``logits (M, B, C)``, M of them.

        Raises
        ------
        InputError
            If there are fewer than two opinions, or the shape is another.
        """
        z = np.asarray(logits, dtype=np.float64)
        if z.ndim != 3 or len(z) < 2 or z.shape[2] < 2:
            raise InputError(
                f"opinions must have shape (M, B, C) with M and C of 2 or more, not {z.shape}"
            )
        log_p = z - np.logaddexp.reduce(z, axis=2, keepdims=True)
        p = np.exp(log_p)
        mean = p.mean(axis=0)
        total = _entropy(mean)
        aleatoric = -(p * log_p).sum(axis=2).mean(axis=0)
        best = mean.argmax(axis=1)
        jets = np.arange(len(best))
        # against all other classes together, from logits: 1 - p would have lost its digits
        others = z.copy()
        others[:, jets, best] = -np.inf
        odds = z[:, jets, best] - np.logaddexp.reduce(others, axis=2)
        epistemic = np.maximum(total - aleatoric, 0.0)  # rounding; it is never negative
        return cls(mean, total, aleatoric, epistemic, odds.std(axis=0, ddof=1))

    @classmethod
    def join(cls, parts: Sequence[Uncertainty]) -> Uncertainty:
        """Jets of several parts, in their order."""
        names = [field.name for field in fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _entropy(p: Floats) -> Floats:
    return -(p * np.log(np.where(p > 0, p, 1.0))).sum(axis=1)
