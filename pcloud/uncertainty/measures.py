"""Uncertainty measures of predictive samples: entropies, mutual information, logit spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike

from pcloud.errors import InputError
from pcloud.evaluation.measured import Measured
from pcloud.text_tables import html_table
from pcloud.typing import Floats
from pcloud.words import number_of

__all__ = ["Uncertainty"]


@dataclass(frozen=True)
class Uncertainty:
    """Scores and uncertainties of each jet, with entropies in nats.

    Parameters
    ----------
    mean : ndarray, shape (B, C)
        Mean probability over the predictive samples, which is the score to use.
    total : ndarray, shape (B,)
        Total uncertainty: entropy of the mean probability.
    aleatoric : ndarray, shape (B,)
        Aleatoric uncertainty: mean entropy of the predictive samples. More training jets do not
        reduce it.
    epistemic : ndarray, shape (B,)
        Epistemic uncertainty: total minus aleatoric, the mutual information of the class and the
        predictive sample. It is large where the training jets do not constrain the network, and
        decreases with their number.
    logit_spread : ndarray, shape (B,)
        Standard deviation over the predictive samples of the log-odds of the class with the
        largest mean probability.
    """

    mean: Floats
    total: Floats
    aleatoric: Floats
    epistemic: Floats
    logit_spread: Floats

    @classmethod
    def of(cls, logits: ArrayLike) -> Uncertainty:
        """Compute the measures from M predictive samples ``logits (M, B, C)``.

        Raises
        ------
        InputError
            If there are fewer than two predictive samples, or the shape is wrong.
        """
        z = np.asarray(logits, dtype=np.float64)
        if z.ndim != 3 or len(z) < 2 or z.shape[2] < 2:
            raise InputError(
                "predictive samples must have shape (M, B, C) with M and C of 2 or more, "
                f"not {z.shape}"
            )
        log_p = z - np.logaddexp.reduce(z, axis=2, keepdims=True)
        p = np.exp(log_p)
        mean = p.mean(axis=0)
        total = _entropy(mean)
        aleatoric = -(p * log_p).sum(axis=2).mean(axis=0)
        best = mean.argmax(axis=1)
        jets = np.arange(len(best))
        # log-odds against all other classes, from logits: 1 - p would be rounded to 0
        others = z.copy()
        others[:, jets, best] = -np.inf
        odds = z[:, jets, best] - np.logaddexp.reduce(others, axis=2)
        epistemic = np.maximum(total - aleatoric, 0.0)  # negative by rounding only
        return cls(mean, total, aleatoric, epistemic, odds.std(axis=0, ddof=1))

    @classmethod
    def join(cls, parts: Sequence[Uncertainty]) -> Uncertainty:
        """Concatenate the jets of several parts, in their order."""
        names = [field.name for field in fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def rows(self) -> list[list[str]]:
        """Rows of a table with the mean over jets of each uncertainty."""
        titles = {
            "total": "total (nat)",
            "aleatoric": "aleatoric (nat)",
            "epistemic": "epistemic (nat)",
            "logit_spread": "logit spread",
        }
        means = {title: Measured.mean(getattr(self, name)) for name, title in titles.items()}
        return [["uncertainty", "mean"], *([title, str(mean)] for title, mean in means.items())]

    def __repr__(self) -> str:
        """Number of jets and mean uncertainties."""
        means = [f"{title} {mean}" for title, mean in self.rows()[1:]]
        return f"Uncertainty of {number_of(len(self.mean), 'jet')}, means: {', '.join(means)}"

    def _repr_html_(self) -> str:
        return html_table(self.rows(), caption=f"Uncertainty of {number_of(len(self.mean), 'jet')}")


def _entropy(p: Floats) -> Floats:
    return -(p * np.log(np.where(p > 0, p, 1.0))).sum(axis=1)
