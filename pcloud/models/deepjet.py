"""DeepJet of CMS: 1x1 convolutions and a recurrent layer for each collection of a jet."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pcloud.errors import InputError
from pcloud.models.head import mlp_head, with_jet_features
from pcloud.models.registry import register_model
from pcloud.models.sequence_options import layer_widths, nested_widths
from pcloud.nn.collections import normalise_rows
from pcloud.nn.layout import RaggedLayout, as_layout
from pcloud.nn.numerics.precision import without_autocast
from pcloud.nn.numerics.ranks import is_spread
from pcloud.nn.sequences import last_states, soft_to_hard

__all__ = ["DeepJet"]


class RowMLP(nn.Module):
    """The same layers for each row: linear, ReLU, batch normalisation, dropout; the last without both.

    A convolution of kernel size 1 along the rows is this.
    """

    def __init__(self, in_features: int, widths: Sequence[int], dropout: float) -> None:
        super().__init__()
        pairs = list(itertools.pairwise([in_features, *widths]))
        self.norms = nn.ModuleList(nn.BatchNorm1d(before) for before, _ in pairs)
        self.linears = nn.ModuleList(nn.Linear(before, after) for before, after in pairs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Rows (N, D) from ``x (N, F)``."""
        for i, (norm, linear) in enumerate(zip(self.norms, self.linears, strict=True)):
            x = normalise_rows(norm, x)
            x = linear(self.dropout(x) if i else x).relu()
        return x


class Branch(nn.Module):
    """One collection: layers of each row, then an LSTM from the softest row to the hardest."""

    def __init__(
        self, in_features: int, widths: Sequence[int], state_width: int, dropout: float
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.rows = RowMLP(in_features, widths, dropout)
        self.recurrent = nn.LSTM(widths[-1], state_width)

    def forward(self, x: Tensor, p4: Tensor, layout: RaggedLayout, own: Tensor | None) -> Tensor:
        """Last state (B, D) of the rows ``x (N, F)`` of this collection; 0 without any.

        ``own (N,)`` is True for rows of this collection, and None if all are.
        """
        order, counts = soft_to_hard(p4, layout, own)
        h = self._rows(x[:, : self.in_features], own)
        with without_autocast(h):  # rounding errors would add up over the particles
            h = h.to(next(self.recurrent.parameters()).dtype)
            return last_states(self.recurrent, h[order], layout, counts)

    def _rows(self, x: Tensor, own: Tensor | None) -> Tensor:
        """Features (N, D) of the own rows, any of the others."""
        if own is None or torch.compiler.is_compiling():  # a graph has no lists of unknown length
            return self.rows(x)
        index = own.nonzero().flatten()
        h = x.new_zeros(x.shape[0], self.recurrent.input_size)
        if not len(index) and not is_spread():
            return h
        found = self.rows(x.index_select(0, index))  # other rows would enter the statistics
        return h.to(found.dtype).index_copy(0, index, found)


@register_model(
    "deepjet", paper="2008.10519", year=2020, use="particles and vertices, recurrent", inputs="x and p4"
)  # fmt: skip
class DeepJet(nn.Module):
    """DeepJet: layers of each row and an LSTM for each collection, joined with the features of jets.

    The rows of a collection go into its LSTM by increasing pT, so that the hardest come last. Unlike
    the network of the reference, the number of rows is not limited, and the dense layers have no
    batch normalisation.

    Parameters
    ----------
    in_features : int
        Features of a row F, the number of the widest collection.
    num_outputs : int
        Number of outputs, one for each class (C).
    collections : sequence of int, optional
        Number of features of each collection, the largest of which is F; by default one collection.
    widths : sequence of sequence of int
        Widths of the layers of the rows, for each collection; the last ones are those of all further
        collections. The reference has ``[[64, 32, 32, 8], [32, 16, 4], [64, 32, 32, 8]]`` for charged
        and neutral particles and secondary vertices.
    lstm_widths : sequence of int
        Width of the state of each LSTM; the last one is that of all further collections.
    head_widths : sequence of int
        Widths of the hidden layers of the head.
    dropout : float
        Dropout probability after each layer.
    num_jet_features : int
        Number of features of jets G, which the head gets beside the states.

    Raises
    ------
    InputError
        If the collections do not fit the features.

    References
    ----------
    Bols et al., Jet Flavour Classification Using DeepJet, https://arxiv.org/abs/2008.10519.
    """

    def __init__(
        self,
        in_features: int,
        num_outputs: int = 2,
        *,
        collections: Sequence[int] | None = None,
        widths: Sequence[Sequence[int]] = ((64, 32, 32, 8),),
        lstm_widths: Sequence[int] = (150, 50),
        head_widths: Sequence[int] = (200, 100, 100, 100, 100, 100, 100, 100),
        dropout: float = 0.1,
        num_jet_features: int = 0,
    ) -> None:
        super().__init__()
        widths = nested_widths("widths", widths)
        lstm_widths = layer_widths("lstm_widths", lstm_widths, required=True)
        sizes = layer_widths("collections", (in_features,) if collections is None else collections)
        if max(sizes) != in_features:
            raise InputError(
                f"the widest of the collections has {in_features} features, and collections are "
                f"{list(sizes)}"
            )
        if not widths:
            raise InputError("widths needs the layers of at least one collection")
        states = [lstm_widths[min(i, len(lstm_widths) - 1)] for i in range(len(sizes))]
        self.branches = nn.ModuleList(
            Branch(size, widths[min(i, len(widths) - 1)], state, dropout)
            for i, (size, state) in enumerate(zip(sizes, states, strict=True))
        )
        self.num_jet_features = num_jet_features
        head_widths = layer_widths("head_widths", head_widths)
        self.head = mlp_head([sum(states) + num_jet_features, *head_widths], num_outputs, dropout)
        for layer in self.head:
            if (
                isinstance(layer, nn.Linear) and layer is not self.head.output
            ):  # eight layers would lose the signal otherwise
                nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def forward(
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None = None,
        layout: RaggedLayout | None = None,
        *,
        u: Tensor | None = None,
        collection: Tensor | None = None,
    ) -> Tensor:
        """Logits (B, C) from ``x (N, F)``, ``p4 (N, 4)`` in GeV and ``batch (N,)``.

        Parameters
        ----------
        x : Tensor, shape (N, F)
            Features of all rows; those of narrower collections end in zeros.
        p4 : Tensor, shape (N, 4)
            Four-momenta in GeV, by which the rows of a collection are sorted. Rows without momenta,
            all of which are zero, keep their order.
        batch : Tensor, shape (N,), optional
            Jet of each row.
        layout : RaggedLayout, optional
            Layout of the batch, which can carry `u` and `collection`.
        u : Tensor, shape (B, G), optional
            Features of the jets.
        collection : Tensor, shape (N,), optional
            Collection of each row.
        """
        layout = as_layout(batch, layout, x)
        collection = layout.collection if collection is None else collection
        states = []
        for i, branch in enumerate(self.branches):
            own = None if collection is None and i == 0 else _is(collection, i, x)
            states.append(branch(x, p4, layout, own))
        joined = with_jet_features(torch.cat(states, dim=-1), layout, u, self.num_jet_features)
        return self.head(joined)


def _is(collection: Tensor | None, number: int, x: Tensor) -> Tensor:
    """True (N,) for the rows of a collection; without `collection` all rows are of the first."""
    if collection is None:
        return torch.zeros(x.shape[0], dtype=torch.bool, device=x.device)
    return collection == number
