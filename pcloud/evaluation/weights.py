"""Sums of weights and effective numbers of jets of a sample."""

from __future__ import annotations

from typing import Any

import numpy as np

from pcloud.evaluation.influence import effective_size
from pcloud.evaluation.scores import Scores

__all__ = ["weights_note", "weights_of_classes"]


def weights_of_classes(sample: Scores) -> dict[str, Any]:
    """Sum of weights and effective number of jets of each class, as plain values.

    Keys are ``sum`` and ``effective``, with one number per class each, and ``negative``, the number
    of jets with a negative weight.
    """
    assert sample.weights is not None
    members = [sample.weights[sample.labels == c] for c in range(len(sample.classes))]
    return {
        "sum": [float(weights.sum()) for weights in members],
        "effective": [effective_size(weights) for weights in members],
        "negative": int(np.sum(sample.weights < 0)),
    }


def weights_note(sample: Scores) -> str:
    """Sentences that say that numbers are weighted, with sums of weights and effective sizes."""
    assert sample.weights is not None
    facts = weights_of_classes(sample)
    sums = ", ".join(f"{s:.5g} {c}" for c, s in zip(sample.classes, facts["sum"], strict=True))
    sizes = ", ".join(
        f"{n:,.0f} {c}" for c, n in zip(sample.classes, facts["effective"], strict=True)
    )
    text = (
        f"Weighted: the sum of weights is {sample.weights.sum():.5g} ({sums}), the effective sample "
        f"size {effective_size(sample.weights):,.0f} {sample.noun} ({sizes})."
    )
    if facts["negative"]:
        text += f" Negative weights: {sample.number_of(facts['negative'])}."
    return text
