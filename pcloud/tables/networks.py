"""Networks on rows of a table: the multilayer perceptron and logistic regression."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from pcloud.models.head import Head
from pcloud.models.registry import register_model
from pcloud.models.sequence_options import layer_widths
from pcloud.nn.activations import hidden_layers

__all__ = ["MLP", "Logistic"]


@register_model(
    "mlp", paper="", year=1986, use="a first network on tables", kind="table", symmetries=()
)
class MLP(nn.Module):
    """Multilayer perceptron on the columns of an event.

    Parameters
    ----------
    in_features : int
        Number of columns F.
    num_outputs : int
        Number of outputs, one for each class (C).
    widths : sequence of int
        Widths of the hidden layers; none for a linear network.
    activation : {"relu", "sigmoid", "tanh", "linear", "leaky_relu", "elu", "selu", "gelu", "maxout"}
        Activation function, see :data:`pcloud.nn.activations.ACTIVATIONS`. ``"selu"`` has its own
        initialisation and dropout.
    dropout : float
        Dropout probability after each hidden layer.
    batch_norm : bool
        Use batch normalisation before each activation.

    Raises
    ------
    UnknownNameError
        If there is no such activation.

    Examples
    --------
    >>> MLP(in_features=5, widths=(16,))(torch.zeros(3, 5)).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        in_features: int,
        num_outputs: int = 2,
        *,
        widths: Sequence[int] = (100, 100),
        activation: str = "relu",
        dropout: float = 0.0,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        sizes = [in_features, *layer_widths("widths", widths)]
        hidden = hidden_layers(sizes, activation, dropout, norm=batch_norm)
        self.head = Head(hidden, sizes[-1], num_outputs)

    def forward(self, rows: Tensor) -> Tensor:
        """Logits (B, C) of ``rows (B, in_features)``."""
        return self.head(rows)


@register_model(
    "logistic", paper="", year=1958, use="a linear boundary", kind="table", symmetries=()
)
class Logistic(nn.Module):
    """Logistic regression: one linear map.

    Parameters
    ----------
    in_features : int
        Number of columns F.
    num_outputs : int
        Number of outputs, one for each class (C).

    Examples
    --------
    >>> Logistic(in_features=5)(torch.zeros(3, 5)).shape
    torch.Size([3, 2])
    """

    def __init__(self, in_features: int, num_outputs: int = 2) -> None:
        super().__init__()
        self.head = Head([], in_features, num_outputs)

    def forward(self, rows: Tensor) -> Tensor:
        """Logits (B, C) of ``rows (B, in_features)``."""
        return self.head(rows)
