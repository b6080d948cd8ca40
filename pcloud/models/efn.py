"""Energy flow network: an infrared- and collinear-safe function of a sum over particles."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from pcloud import kinematics
from pcloud.models.head import Head
from pcloud.models.registry import register_model
from pcloud.models.sequence_options import layer_widths
from pcloud.nn.dense import dense_layers, he_uniform_
from pcloud.nn.graph.coordinates import eta_phi
from pcloud.nn.layout import RaggedLayout, as_layout
from pcloud.nn.pooling import sum_pool
from pcloud.nn.representation import Representation

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
    """Energy flow network: ``F(sum_i z_i Phi(deta_i, dphi_i))``; `head` is F.

    z is the fraction of the scalar sum of pT that a particle carries; deta and dphi are relative to
    the jet axis, the direction of the vector sum. The score does not change when a particle is split
    into two collinear ones, or when a particle of zero energy is added.

    Parameters
    ----------
    in_features : int
        Features per particle F, not used: other inputs than the momenta would break the safety.
    num_outputs : int
        Number of outputs, one for each class (C).
    phi_widths : sequence of int
        Widths of the layers of Phi, applied to each particle.
    head_widths : sequence of int
        Widths of the hidden layers of F.
    dropout : float
        Dropout probability after each hidden layer of F.

    References
    ----------
    Komiske, Metodiev and Thaler, Energy Flow Networks, https://arxiv.org/abs/1810.05165.

    Examples
    --------
    >>> model = EFN(in_features=7).eval()
    >>> p4 = torch.tensor([[5.0, 3.0, 0.0, 4.0], [5.0, 0.0, 4.0, 3.0], [3.0, 2.0, 1.0, 2.0]])
    >>> model(torch.randn(3, 7), p4, torch.tensor([0, 0, 1])).shape
    torch.Size([2, 2])
    """

    def __init__(
        self,
        in_features: int,
        num_outputs: int = 2,
        *,
        phi_widths: Sequence[int] = (100, 100, 256),
        head_widths: Sequence[int] = (100, 100, 100),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        phi = [2, *layer_widths("phi_widths", phi_widths)]
        head = [phi[-1], *layer_widths("head_widths", head_widths)]
        self.phi = dense_layers(phi)
        self.particle_width = phi[-1]
        self.head = Head(dense_layers(head, dropout), head[-1], num_outputs)
        he_uniform_(self)

    def forward(
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None = None,
        layout: RaggedLayout | None = None,
    ) -> Tensor:
        """Logits (B, C) from ``p4 (N, 4)`` in GeV and ``batch (N,)``; `x` is not used."""
        return self.head(self.pool(self.particles(x, p4, batch, layout)))

    def particles(
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None = None,
        layout: RaggedLayout | None = None,
    ) -> Representation:
        """Representation of each particle, from the arguments of `forward`."""
        layout = as_layout(batch, layout, p4)
        z, angles = self.fractions_and_angles(p4, layout)
        return Representation(z * self.phi(angles), layout)

    def pool(self, h: Representation) -> Tensor:
        """Input (B, D) of the head."""
        return sum_pool(h.rows, h.layout)

    def fractions_and_angles(self, p4: Tensor, layout: RaggedLayout) -> tuple[Tensor, Tensor]:
        """Fractions z (N, 1) of the scalar sum of pT, and angles (N, 2) from the jet axis."""
        dtype = self.head.output.weight.dtype
        pt = kinematics.pt(p4)
        z = pt / sum_pool(pt, layout).clamp(min=kinematics.MIN_GEV)[layout.batch]
        angles = eta_phi(p4, layout).clamp(-kinematics.MAX_ETA, kinematics.MAX_ETA)
        return z.to(dtype).unsqueeze(-1), angles.to(dtype)
