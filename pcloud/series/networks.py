"""Networks on records of samples: dense, convolutional and recurrent."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.errors import InputError
from pcloud.models.head import Head
from pcloud.models.registry import register_model
from pcloud.models.sequence_options import layer_widths
from pcloud.nn.activations import hidden_layers

__all__ = ["SeriesCNN", "SeriesDense", "SeriesLSTM"]


@register_model(
    "series_dense",
    paper="",
    year=1986,
    use="a baseline on records of samples",
    kind="series",
    symmetries=(),
)
class SeriesDense(nn.Module):
    """Hidden layers on all samples; by default one of 100 units.

    Parameters
    ----------
    in_features : int
        Number of channels F.
    num_outputs : int
        Number of outputs, one for each class (C).
    length : int
        Number of samples T of a record.
    widths : sequence of int
        Widths of the hidden layers.
    activation : str
        Name of the activation function, see :data:`pcloud.nn.activations.ACTIVATIONS`.
    dropout : float
        Dropout probability after each hidden layer.

    Examples
    --------
    >>> SeriesDense(in_features=1, length=512)(torch.zeros(3, 1, 512)).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        in_features: int,
        num_outputs: int = 2,
        *,
        length: int,
        widths: Sequence[int] = (100,),
        activation: str = "relu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        sizes = [in_features * length, *layer_widths("widths", widths)]
        self.head = Head(hidden_layers(sizes, activation, dropout), sizes[-1], num_outputs)

    def forward(self, records: Tensor) -> Tensor:
        """Logits (B, C) of ``records (B, F, T)``."""
        return self.head(records.flatten(1))


@register_model(
    "series_cnn",
    paper="",
    year=1989,
    use="records with pulses at any time",
    kind="series",
    symmetries=(),
)
class SeriesCNN(nn.Module):
    """Strided convolutions along the samples, then the mean and the maximum over time.

    Parameters
    ----------
    in_features : int
        Number of channels F.
    num_outputs : int
        Number of outputs, one for each class (C).
    widths : sequence of int
        Widths of the convolutions; each has batch normalisation and ReLU.
    kernel_size, stride : int
        Number of samples of a filter, and between its positions.
    head_widths : sequence of int
        Widths of the hidden layers.
    dropout : float
        Dropout probability after each hidden layer.

    Raises
    ------
    InputError
        If kernel or stride is not positive.

    Examples
    --------
    >>> SeriesCNN(in_features=1)(torch.zeros(3, 1, 512)).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        in_features: int,
        num_outputs: int = 2,
        *,
        widths: Sequence[int] = (16, 32, 64),
        kernel_size: int = 9,
        stride: int = 4,
        head_widths: Sequence[int] = (64,),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if min(kernel_size, stride) < 1:
            raise InputError(
                f"kernel_size and stride must be positive, got {kernel_size}, {stride}"
            )
        widths = layer_widths("widths", widths, required=True)
        layers: list[nn.Module] = []
        for a, b in pairwise([in_features, *widths]):
            convolve = nn.Conv1d(a, b, kernel_size, stride, padding=kernel_size // 2, bias=False)
            layers += [convolve, nn.BatchNorm1d(b), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        sizes = [2 * widths[-1], *layer_widths("head_widths", head_widths)]
        self.head = Head(hidden_layers(sizes, dropout=dropout), sizes[-1], num_outputs)

    def forward(self, records: Tensor) -> Tensor:
        """Logits (B, C) of ``records (B, F, T)``."""
        maps = self.features(records)  # (B, D, T')
        return self.head(torch.cat([maps.mean(-1), maps.amax(-1)], dim=-1))


@register_model(
    "series_lstm",
    paper="",
    year=1997,
    use="records whose order in time matters",
    kind="series",
    symmetries=(),
)
class SeriesLSTM(nn.Module):
    """LSTM along a record, whose samples are cut into blocks that are embedded first.

    A record of 16 384 samples is too long for a recurrent network that takes them one by one.

    Parameters
    ----------
    in_features : int
        Number of channels F.
    num_outputs : int
        Number of outputs, one for each class (C).
    block : int
        Number of samples of a block; the end of a record is filled with zeros.
    width : int
        Width of the state.
    num_layers : int
        Number of LSTM layers.
    dropout : float
        Dropout probability between the layers and before the last map.

    Raises
    ------
    InputError
        If a size is not positive.

    Examples
    --------
    >>> SeriesLSTM(in_features=1)(torch.zeros(3, 1, 512)).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        in_features: int,
        num_outputs: int = 2,
        *,
        block: int = 32,
        width: int = 64,
        num_layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if min(block, width, num_layers) < 1:
            raise InputError("block, width and num_layers must be positive")
        self.block = block
        between = dropout if num_layers > 1 else 0.0
        self.embed = nn.Sequential(nn.Linear(in_features * block, width), nn.ReLU())
        self.lstm = nn.LSTM(width, width, num_layers, batch_first=True, dropout=between)
        self.head = Head([nn.Dropout(dropout)] if dropout else [], width, num_outputs)

    def forward(self, records: Tensor) -> Tensor:
        """Logits (B, C) of ``records (B, F, T)``."""
        records = F.pad(records, (0, -records.shape[-1] % self.block))
        blocks = records.unflatten(-1, (-1, self.block))  # (B, F, S, block)
        states, _ = self.lstm(self.embed(blocks.transpose(1, 2).flatten(2)))  # (B, S, D)
        return self.head(states[:, -1])
