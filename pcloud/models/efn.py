"""Energy flow network: an infrared- and collinear-safe function of a sum over particles."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from pcloud import kinematics
from pcloud.models.registry import register_model
from pcloud.nn.dense import dense_layers, he_uniform_
from pcloud.nn.graph.coordinates import eta_phi
from pcloud.nn.layout import RaggedLayout, as_layout
from pcloud.nn.pooling import sum_pool

__all__ = ["EFN"]


@register_model(
    "efn",
    paper="1810.05165",
    year=2018,
    use="infrared- and collinear-safe scores",
    inputs="p4",
    symmetries=("permutation", "infrared", "collinear"),
)
class EFN(nn.Module):
    """Energy flow network: ``F(sum_i z_i Phi(deta_i, dphi_i))``.

    z is the fraction of a particle in the scalar sum of pT; deta and dphi are taken from the axis of
    the jet, the vector sum. The score does not change when a particle is split in two of the same
    direction, or when one of no energy is added.

    Parameters
    ----------
    in_features : int
        Features per particle F, not used: anything but the momentum would break the safety.
    num_classes : int
        Classes C.
    phi : sequence of int
        Widths of the per-particle network Phi.
    f : sequence of int
        Widths of the jet network F.
    dropout : float
        After every layer of F.

    References
    ----------
    Komiske, Metodiev and Thaler, Energy Flow Networks, https://arxiv.org/abs/1810.05165.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int = 2,
        *,
        phi: Sequence[int] = (100, 100, 256),
        f: Sequence[int] = (100, 100, 100),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.phi = dense_layers([2, *phi])
        self.f = dense_layers([phi[-1], *f], dropout)
        self.classify = nn.Linear(f[-1], num_classes)
        he_uniform_(self)

    def forward(
        self, x: Tensor, p4: Tensor, batch: Tensor, layout: RaggedLayout | None = None
    ) -> Tensor:
        """Logits (B, C) from ``p4 (N, 4)`` in GeV and ``batch (N,)``; `x` is not used."""
        layout = as_layout(batch, layout)
        dtype = self.classify.weight.dtype
        pt = kinematics.pt(p4)
        z = (pt / sum_pool(pt, layout).clamp(min=kinematics.MIN_GEV)[layout.batch]).to(dtype)
        angles = eta_phi(p4, layout).clamp(-kinematics.MAX_ETA, kinematics.MAX_ETA).to(dtype)
        return self.classify(self.f(sum_pool(z.unsqueeze(-1) * self.phi(angles), layout)))
