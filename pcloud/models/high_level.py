"""Taggers on high-level observables: one cut, logistic regression, a small network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from pcloud.errors import UnknownNameError
from pcloud.models.registry import register_model
from pcloud.nn.dense import dense_layers
from pcloud.nn.layout import RaggedLayout, as_layout
from pcloud.nn.numerics.precision import without_autocast
from pcloud.observables import OBSERVABLES, compute_observables

__all__ = ["HighLevelTagger", "hl_logistic", "one_cut"]


INPUTS = tuple(name for name in OBSERVABLES if name not in ("eta", "leading_share"))
"""The observables that tell kinds of jets apart."""


@register_model("hl_mlp", paper="1704.08249", year=2017, use="how far observables go", inputs="p4")
class HighLevelTagger(nn.Module):
    """A network on mass, pT, multiplicity, N-subjettiness and other observables of the jet.

    The observables are standardised by the mean and variance over the jets of the training, which
    are buffers of the model.

    Parameters
    ----------
    in_features : int
        Features per particle F, not used.
    num_classes : int
        Classes C.
    observables : sequence of str
        Names from :data:`pcloud.observables.OBSERVABLES`.
    hidden : sequence of int
        Widths of the hidden layers; none at all make it a logistic regression.
    dropout : float
        After every hidden layer.
    radius : float
        Radius of the jets, the unit of N-subjettiness.

    References
    ----------
    Datta and Larkoski, How Much Information is in a Jet?, https://arxiv.org/abs/1704.08249.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int = 2,
        *,
        observables: Sequence[str] = INPUTS,
        hidden: Sequence[int] = (64, 64),
        dropout: float = 0.0,
        radius: float = 0.8,
    ) -> None:
        super().__init__()
        for name in observables:
            if name not in OBSERVABLES:
                raise UnknownNameError("observable", name, OBSERVABLES)
        self.observables = tuple(observables)
        self.radius = radius
        self.norm = nn.BatchNorm1d(len(self.observables), affine=False)
        widths = [len(self.observables), *hidden]
        self.hidden = dense_layers(widths, dropout)
        self.classify = nn.Linear(widths[-1], num_classes)

    def forward(
        self, x: Tensor, p4: Tensor, batch: Tensor, layout: RaggedLayout | None = None
    ) -> Tensor:
        """Logits (B, C) from ``p4 (N, 4)`` in GeV and ``batch (N,)``; `x` is not used."""
        with without_autocast(p4):
            values = compute_observables(
                p4, as_layout(batch, layout), self.observables, radius=self.radius
            )
        values = self.norm(values.to(self.classify.weight.dtype))
        return self.classify(self.hidden(values))


@register_model("hl_logistic", paper="1704.08249", year=2017, use="a linear yardstick", inputs="p4")
def hl_logistic(in_features: int, num_classes: int = 2, **options: Any) -> HighLevelTagger:
    """Logistic regression on the observables."""
    linear: dict[str, Any] = {"hidden": ()}
    return HighLevelTagger(in_features, num_classes, **linear | options)


@register_model("one_cut", paper="1011.2268", year=2010, use="cut baseline", inputs="p4")
def one_cut(
    in_features: int, num_classes: int = 2, *, observable: str = "tau32", radius: float = 0.8
) -> HighLevelTagger:
    """A cut on one observable: the score is a monotone function of tau_3 / tau_2, or another."""
    return HighLevelTagger(
        in_features, num_classes, observables=(observable,), hidden=(), radius=radius
    )
