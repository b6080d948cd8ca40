"""L-GATr-slim: a transformer whose tokens are four-vectors and scalars."""

from __future__ import annotations

from torch import Tensor, nn

from pcloud.models.registry import register_model
from pcloud.nn.attention.lgatr_backend import attend_within, check_backend, keep_constants
from pcloud.nn.layout import RaggedLayout, as_layout
from pcloud.nn.lorentz.minkowski import MassTreatment
from pcloud.nn.lorentz.tokens import SpacetimeTokens

__all__ = ["LGATrSlim"]


@register_model(
    "lgatr_slim",
    paper="2512.17011",
    year=2025,
    use="momenta alone, faster than lgatr",
    inputs="p4",
    symmetries=("permutation", "Lorentz"),
)
class LGATrSlim(nn.Module):
    """L-GATr-slim: attention among four-vectors and scalars, mixed by Minkowski products.

    The network is that of the `lgatr` package. Tokens, references and invariance are those of
    :class:`~pcloud.models.lgatr.LGATr`, parity and time reversal included, as there are no
    bivectors; the logits are scalars of the class token.

    Parameters
    ----------
    vectors, scalar_channels : int
        Width of all layers.
    beams : {"lightlike", "spacelike", "timelike", "none"}
        Which two vectors tell the network the beam axis.
    in_features, num_classes, blocks, heads, mass, scalars, time, scale
        As of :class:`~pcloud.models.lgatr.LGATr`.

    References
    ----------
    Petitjean et al., Economical Jet Taggers: Equivariant, Slim, and Quantized,
    https://arxiv.org/abs/2512.17011.

    Notes
    -----
    The `lgatr` package is required in version 2.0 or later, whose networks may differ slightly from
    the published ones, as described in :class:`~pcloud.models.lgatr.LGATr`.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int = 2,
        *,
        blocks: int = 12,
        vectors: int = 32,
        scalar_channels: int = 96,
        heads: int = 8,
        mass: MassTreatment | str = "regulated",
        scalars: str = "none",
        beams: str = "lightlike",
        time: bool = True,
        scale: float = 20.0,
    ) -> None:
        from lgatr import LGATrSlim as Network

        check_backend()
        super().__init__()
        if beams == "plane":
            raise ValueError("L-GATr-slim has no bivectors: beams='plane' is for lgatr")
        self.heads = heads
        self.tokens = SpacetimeTokens(
            in_features, mass=mass, scalars=scalars, beams=beams, time=time, scale=scale
        )
        self.net = Network(
            num_blocks=blocks,
            in_v_channels=1,
            out_v_channels=0,
            hidden_v_channels=vectors,
            in_s_channels=self.tokens.num_scalars,
            out_s_channels=num_classes,
            hidden_s_channels=scalar_channels,
            num_heads=heads,
            mlp_ratio=4,
        )
        keep_constants(self.net)

    def forward(
        self, x: Tensor, p4: Tensor, batch: Tensor, layout: RaggedLayout | None = None
    ) -> Tensor:
        """Logits (B, C) from ``x (N, F)``, ``p4 (N, 4)`` in GeV and ``batch (N,)``."""
        multivectors, scalars, nodes = self.tokens(x, p4, as_layout(batch, layout))
        dtype = self.net.linear_in.weight_v.dtype
        vectors, scalars = multivectors[:, None, 1:5].to(dtype), scalars.to(dtype)
        _, out = attend_within(self.net, vectors, scalars, nodes, self.heads)  # (N', C)
        return out[nodes.ptr[:-1]]
