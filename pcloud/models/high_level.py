"""Taggers on high-level observables: one cut, logistic regression, a small network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from pcloud.errors import UnknownNameError
from pcloud.models.head import Head
from pcloud.models.registry import register_model
from pcloud.models.sequence_options import layer_widths, names
from pcloud.nn.dense import dense_layers
from pcloud.nn.layout import RaggedLayout, as_layout
from pcloud.nn.numerics.precision import without_autocast
from pcloud.observables import OBSERVABLES, compute_observables

__all__ = ["HighLevelTagger", "hl_logistic", "one_cut"]


INPUTS = tuple(name for name in OBSERVABLES if name not in ("eta", "leading_share"))
"""Observables that distinguish kinds of jets."""


@register_model("hl_mlp", paper="1704.08249", year=2017, use="baseline on observables", inputs="p4")
class HighLevelTagger(nn.Module):
    """A network on mass, pT, multiplicity, N-subjettiness and other observables of the jet.

    The observables are standardised by their mean and variance over the training jets, which are
    buffers of the model.

    Parameters
    ----------
    in_features : int
        Features per particle F, not used.
    num_outputs : int
        Number of outputs, one for each class (C).
    observables : sequence of str
        Names from :data:`pcloud.observables.OBSERVABLES`.
    widths : sequence of int
        Widths of the hidden layers; without any, the network is a logistic regression.
    dropout : float
        Dropout probability after each hidden layer.
    radius : float
        Jet radius R, in which N-subjettiness measures distances.

    References
    ----------
    Datta and Larkoski, How Much Information is in a Jet?, https://arxiv.org/abs/1704.08249.

    Examples
    --------
    >>> model = HighLevelTagger(in_features=7).eval()
    >>> p4 = torch.tensor([[5.0, 3.0, 0.0, 4.0], [5.0, 0.0, 4.0, 3.0], [3.0, 2.0, 1.0, 2.0]])
    >>> model(torch.randn(3, 7), p4, torch.tensor([0, 0, 1])).shape
    torch.Size([2, 2])
    """

    def __init__(
        self,
        in_features: int,
        num_outputs: int = 2,
        *,
        observables: Sequence[str] = INPUTS,
        widths: Sequence[int] = (64, 64),
        dropout: float = 0.0,
        radius: float = 0.8,
    ) -> None:
        super().__init__()
        self.observables = names("observables", observables)
        for name in self.observables:
            if name not in OBSERVABLES:
                raise UnknownNameError("observable", name, OBSERVABLES)
        self.radius = radius
        self.norm = nn.BatchNorm1d(len(self.observables), affine=False)
        widths = [len(self.observables), *layer_widths("widths", widths)]
        self.head = Head(dense_layers(widths, dropout), widths[-1], num_outputs)

    def forward(
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None = None,
        layout: RaggedLayout | None = None,
    ) -> Tensor:
        """Logits (B, C) from ``p4 (N, 4)`` in GeV and ``batch (N,)``; `x` is not used."""
        with without_autocast(p4):
            values = compute_observables(
                p4, as_layout(batch, layout, p4), self.observables, radius=self.radius
            )
        return self.head(self.norm(values.to(self.head.output.weight.dtype)))


@register_model("hl_logistic", paper="1704.08249", year=2017, use="linear baseline", inputs="p4")
def hl_logistic(in_features: int, num_outputs: int = 2, **options: Any) -> HighLevelTagger:
    """Logistic regression on the observables.

    Examples
    --------
    >>> model = hl_logistic(in_features=7).eval()
    >>> p4 = torch.tensor([[5.0, 3.0, 0.0, 4.0], [5.0, 0.0, 4.0, 3.0], [3.0, 2.0, 1.0, 2.0]])
    >>> model(torch.randn(3, 7), p4, torch.tensor([0, 0, 1])).shape
    torch.Size([2, 2])
    """
    linear: dict[str, Any] = {"widths": ()}
    return HighLevelTagger(in_features, num_outputs, **linear | options)


@register_model("one_cut", paper="1011.2268", year=2010, use="cut baseline", inputs="p4")
def one_cut(
    in_features: int, num_outputs: int = 2, *, observable: str = "tau32", radius: float = 0.8
) -> HighLevelTagger:
    """Cut on one observable: the score is a monotone function of it, by default of tau_3 / tau_2.

    Examples
    --------
    >>> model = one_cut(in_features=7).eval()
    >>> p4 = torch.tensor([[5.0, 3.0, 0.0, 4.0], [5.0, 0.0, 4.0, 3.0], [3.0, 2.0, 1.0, 2.0]])
    >>> model(torch.randn(3, 7), p4, torch.tensor([0, 0, 1])).shape
    torch.Size([2, 2])
    """
    return HighLevelTagger(
        in_features, num_outputs, observables=(observable,), widths=(), radius=radius
    )
