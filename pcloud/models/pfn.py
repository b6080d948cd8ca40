"""Particle flow network: a function of a sum over particles."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from pcloud.models.head import Head, with_jet_features
from pcloud.models.registry import register_model
from pcloud.models.sequence_options import layer_widths
from pcloud.nn.dense import dense_layers
from pcloud.nn.layout import RaggedLayout, as_layout
from pcloud.nn.pooling import sum_pool
from pcloud.nn.representation import Representation

__all__ = ["PFN"]


@register_model("pfn", paper="1810.05165", year=2018, use="the simplest network on particles")
class PFN(nn.Module):
    """Particle flow network (DeepSets): ``F(sum_i Phi(x_i))``; `head` is F.

    Parameters
    ----------
    in_features : int
        Features per particle F.
    num_outputs : int
        Number of outputs, one for each class (C).
    phi_widths : sequence of int
        Widths of the layers of Phi, applied to each particle; (100, 100, 256) in the top-tagging
        comparison.
    head_widths : sequence of int
        Widths of the hidden layers of F; (100, 100, 100) in the top-tagging comparison.
    dropout : float
        Dropout probability after each hidden layer of F.

    num_jet_features : int
        Number of features of jets G, which the head gets beside the pooled particles.

    References
    ----------
    Komiske, Metodiev and Thaler, Energy Flow Networks, https://arxiv.org/abs/1810.05165;
    Zaheer et al., Deep Sets, https://arxiv.org/abs/1703.06114.

    Examples
    --------
    >>> model = PFN(in_features=7).eval()
    >>> p4 = torch.tensor([[5.0, 3.0, 0.0, 4.0], [5.0, 0.0, 4.0, 3.0], [3.0, 2.0, 1.0, 2.0]])
    >>> model(torch.randn(3, 7), p4, torch.tensor([0, 0, 1])).shape
    torch.Size([2, 2])
    """

    def __init__(
        self,
        in_features: int,
        num_outputs: int = 2,
        *,
        phi_widths: Sequence[int] = (128, 128, 128),
        head_widths: Sequence[int] = (128, 128, 128),
        dropout: float = 0.0,
        num_jet_features: int = 0,
    ) -> None:
        super().__init__()
        phi = [in_features, *layer_widths("phi_widths", phi_widths)]
        self.num_jet_features = num_jet_features
        head = [phi[-1] + num_jet_features, *layer_widths("head_widths", head_widths)]
        self.phi = dense_layers(phi)
        self.particle_width = phi[-1]
        self.head = Head(dense_layers(head, dropout), head[-1], num_outputs)

    def forward(
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None = None,
        layout: RaggedLayout | None = None,
        *,
        u: Tensor | None = None,
    ) -> Tensor:
        """Logits (B, C) from ``x (N, F)``, ``batch (N,)`` and ``u (B, G)``; `p4` is not used."""
        return self.head(self.pool(self.particles(x, p4, batch, layout, u=u)))

    def particles(
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None = None,
        layout: RaggedLayout | None = None,
        *,
        u: Tensor | None = None,
    ) -> Representation:
        """Representation of each particle, from the arguments of `forward`."""
        layout = as_layout(batch, layout, x).with_u(u)
        return Representation(self.phi(x), layout)

    def pool(self, h: Representation) -> Tensor:
        """Input (B, D) of the head."""
        return with_jet_features(sum_pool(h.rows, h.layout), h.layout, None, self.num_jet_features)
