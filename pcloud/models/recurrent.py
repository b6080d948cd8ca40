"""Recurrent networks over the particles of a jet, in the order of pT or of clustering."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from pcloud.errors import UnknownNameError
from pcloud.models.head import mlp_head, with_jet_features
from pcloud.models.registry import register_model
from pcloud.models.sequence_options import layer_widths
from pcloud.nn.layout import RaggedLayout, as_layout
from pcloud.nn.numerics.precision import without_autocast
from pcloud.nn.sequences import by_clustering, by_pt, last_states

__all__ = ["RecurrentTagger", "gru", "lstm", "rnn"]

ORDERS: dict[str, Callable[[Tensor, RaggedLayout], Tensor]] = {
    "pt": by_pt,
    "clustering": by_clustering,
}
"""Orders of the particles by name: functions ``order(p4, layout) -> indices (N,)``."""


class RecurrentTagger(nn.Module):
    """Recurrent network over the particles of each jet, whose last state goes to the head.

    The particles are packed: a jet has as many steps as particles, so that its score does not depend
    on the other jets of a batch.

    Parameters
    ----------
    cell : callable
        ``torch.nn.RNN``, ``GRU`` or ``LSTM``.
    in_features : int
        Features per particle F.
    num_outputs : int
        Number of outputs, one for each class (C).
    order : {"pt", "clustering"}
        Order of the particles: by decreasing pT, or that of the leaves of the Cambridge/Aachen
        tree, the branch of larger pT first.
    width : int
        Width of the state.
    num_layers : int
        Number of recurrent layers.
    head_widths : sequence of int
        Widths of the hidden layers of the head.
    dropout : float
        Dropout probability between recurrent layers, and after each hidden layer of the head.
    num_jet_features : int
        Number of features of jets G, which the head gets beside the last state.

    Raises
    ------
    UnknownNameError
        If there is no such order.
    """

    def __init__(
        self,
        cell: Callable[..., nn.RNNBase],
        in_features: int,
        num_outputs: int = 2,
        *,
        order: str = "pt",
        width: int = 128,
        num_layers: int = 1,
        head_widths: Sequence[int] = (128,),
        dropout: float = 0.0,
        num_jet_features: int = 0,
    ) -> None:
        super().__init__()
        if order not in ORDERS:
            raise UnknownNameError("order of particles", order, ORDERS)
        self.order = ORDERS[order]
        self.num_jet_features = num_jet_features
        between: dict[str, Any] = {"dropout": dropout if num_layers > 1 else 0.0}
        self.recurrent = cell(in_features, width, num_layers, **between)
        widths = [width + num_jet_features, *layer_widths("head_widths", head_widths)]
        self.head = mlp_head(widths, num_outputs, dropout)

    def forward(
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None = None,
        layout: RaggedLayout | None = None,
        *,
        u: Tensor | None = None,
    ) -> Tensor:
        """Logits (B, C) from ``x (N, F)``, ``p4 (N, 4)`` in GeV, ``batch (N,)`` and ``u (B, G)``."""
        layout = as_layout(batch, layout, x)
        x = x[self.order(p4, layout)]
        with without_autocast(x):  # rounding errors would add up over the particles
            x = x.to(next(self.recurrent.parameters()).dtype)
            last = last_states(self.recurrent, x, layout)  # (B, D)
        return self.head(with_jet_features(last, layout, u, self.num_jet_features))


@register_model(
    "rnn", paper="1607.08633", year=2016, use="a simple recurrent baseline", inputs="x and p4"
)
def rnn(in_features: int, num_outputs: int = 2, **options: Any) -> RecurrentTagger:
    """Simple recurrent network over ordered particles.

    Parameters
    ----------
    in_features : int
        Features per particle F.
    num_outputs : int
        Number of outputs, one for each class (C).
    **options
        Options of :class:`RecurrentTagger`.

    References
    ----------
    Guest et al., Jet Flavor Classification in High-Energy Physics with Deep Neural Networks,
    https://arxiv.org/abs/1607.08633.
    """
    return RecurrentTagger(nn.RNN, in_features, num_outputs, **options)


@register_model(
    "gru", paper="1406.1078", year=2014, use="recurrent, fewer weights than LSTM", inputs="x and p4"
)
def gru(in_features: int, num_outputs: int = 2, **options: Any) -> RecurrentTagger:
    """Gated recurrent units over ordered particles.

    Parameters
    ----------
    in_features : int
        Features per particle F.
    num_outputs : int
        Number of outputs, one for each class (C).
    **options
        Options of :class:`RecurrentTagger`.

    References
    ----------
    Cho et al., Learning Phrase Representations using RNN Encoder-Decoder,
    https://arxiv.org/abs/1406.1078.
    """
    return RecurrentTagger(nn.GRU, in_features, num_outputs, **options)


@register_model(
    "lstm", paper="1711.09059", year=2017, use="recurrent network over ordered particles",
    inputs="x and p4",
)  # fmt: skip
def lstm(in_features: int, num_outputs: int = 2, **options: Any) -> RecurrentTagger:
    """Long short-term memory over ordered particles.

    Parameters
    ----------
    in_features : int
        Features per particle F.
    num_outputs : int
        Number of outputs, one for each class (C).
    **options
        Options of :class:`RecurrentTagger`.

    References
    ----------
    Egan et al., Long Short-Term Memory (LSTM) networks with jet constituents for boosted top tagging
    at the LHC, https://arxiv.org/abs/1711.09059.
    """
    return RecurrentTagger(nn.LSTM, in_features, num_outputs, **options)
