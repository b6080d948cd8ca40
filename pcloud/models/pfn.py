"""Particle flow network: a function of a sum over particles."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from pcloud.models.registry import register_model
from pcloud.nn.dense import dense_layers
from pcloud.nn.layout import RaggedLayout, as_layout
from pcloud.nn.pooling import sum_pool

__all__ = ["PFN"]


@register_model("pfn", paper="1810.05165", year=2018, use="the simplest network on particles")
class PFN(nn.Module):
    """Particle flow network (DeepSets): ``F(sum_i Phi(x_i))``.

    Parameters
    ----------
    in_features : int
        Features per particle F.
    num_classes : int
        Classes C.
    phi : sequence of int
        Widths of the per-particle network Phi; (100, 100, 256) on the top landscape.
    f : sequence of int
        Widths of the jet network F; (100, 100, 100) on the top landscape.
    dropout : float
        After every layer of F.

    References
    ----------
    Komiske, Metodiev and Thaler, Energy Flow Networks, https://arxiv.org/abs/1810.05165;
    Zaheer et al., Deep Sets, https://arxiv.org/abs/1703.06114.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int = 2,
        *,
        phi: Sequence[int] = (128, 128, 128),
        f: Sequence[int] = (128, 128, 128),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.phi = dense_layers([in_features, *phi])
        self.f = dense_layers([phi[-1], *f], dropout)
        self.classify = nn.Linear(f[-1], num_classes)

    def forward(
        self, x: Tensor, p4: Tensor, batch: Tensor, layout: RaggedLayout | None = None
    ) -> Tensor:
        """Logits (B, C) from ``x (N, F)`` and ``batch (N,)``; `p4` is not used."""
        layout = as_layout(batch, layout)
        return self.classify(self.f(sum_pool(self.phi(x), layout)))
