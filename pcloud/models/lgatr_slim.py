"""L-GATr-slim: transformer on four-vectors and scalars."""

from __future__ import annotations

from torch import Tensor, nn

from pcloud.models.lgatr import joined_token, take_output_layer
from pcloud.models.registry import register_model
from pcloud.nn.attention.lgatr_backend import attend_within, check_backend, keep_constants
from pcloud.nn.layout import RaggedLayout, as_layout
from pcloud.nn.lorentz.minkowski import MassTreatment
from pcloud.nn.lorentz.tokens import SpacetimeTokens
from pcloud.nn.representation import Representation

__all__ = ["LGATrSlim", "ScalarHead"]


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
    :class:`~pcloud.models.lgatr.LGATr`. The invariance includes parity and time reversal, because
    there are no bivectors. The logits are scalars of the class token.

    Parameters
    ----------
    vector_width, scalar_width : int
        Number of four-vector and scalar channels of all layers.
    beams : {"lightlike", "spacelike", "timelike", "none"}
        Two reference vectors that define the beam axis.
    in_features, num_outputs, num_layers, num_heads, mass, scalars, time, scale
        See :class:`~pcloud.models.lgatr.LGATr`.

    References
    ----------
    Petitjean et al., Economical Jet Taggers: Equivariant, Slim, and Quantized,
    https://arxiv.org/abs/2512.17011.

    Notes
    -----
    The `lgatr` package is required in version 2.0 or later, whose networks may differ slightly from
    the published ones, as described in :class:`~pcloud.models.lgatr.LGATr`.

    Examples
    --------
    >>> model = LGATrSlim(in_features=7, num_layers=1).eval()
    >>> p4 = torch.tensor([[5.0, 3.0, 0.0, 4.0], [5.0, 0.0, 4.0, 3.0], [3.0, 2.0, 1.0, 2.0]])
    >>> model(torch.randn(3, 7), p4, torch.tensor([0, 0, 1])).shape
    torch.Size([2, 2])
    """

    def __init__(
        self,
        in_features: int,
        num_outputs: int = 2,
        *,
        num_layers: int = 12,
        vector_width: int = 32,
        scalar_width: int = 96,
        num_heads: int = 8,
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
        self.num_heads = num_heads
        self.tokens = SpacetimeTokens(
            in_features, mass=mass, scalars=scalars, beams=beams, time=time, scale=scale
        )
        self.net = Network(
            num_blocks=num_layers,
            in_v_channels=1,
            out_v_channels=0,
            hidden_v_channels=vector_width,
            in_s_channels=self.tokens.num_scalars,
            out_s_channels=num_outputs,
            hidden_s_channels=scalar_width,
            num_heads=num_heads,
            mlp_ratio=4,
        )
        keep_constants(self.net)
        self.particle_width = scalar_width
        self.head = ScalarHead(take_output_layer(self.net), vector_width)

    def forward(
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None = None,
        layout: RaggedLayout | None = None,
    ) -> Tensor:
        """Logits (B, C) from ``x (N, F)``, ``p4 (N, 4)`` in GeV and ``batch (N,)``."""
        return self.head(self.pool(self.particles(x, p4, batch, layout)))

    def particles(
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None = None,
        layout: RaggedLayout | None = None,
    ) -> Representation:
        """Representation of each particle, from the arguments of `forward`."""
        layout = as_layout(batch, layout, x)
        tokens, scalars, nodes = self.tokens(x, p4, layout)
        dtype = self.net.linear_in.weight_v.dtype
        vectors, scalars = tokens[:, None, 1:5].to(dtype), scalars.to(dtype)
        vectors, scalars = attend_within(self.net, vectors, scalars, nodes, self.num_heads)
        return Representation(scalars, nodes, self.tokens.num_added, vectors)

    def pool(self, h: Representation) -> Tensor:
        """Input (B, D) of the head."""
        return joined_token(h)


class ScalarHead(nn.Module):
    """Head whose outputs are scalars.

    Parameters
    ----------
    output : Module
        Last map of a slim network of `lgatr`.
    num_vectors : int
        Number of four-vectors V of its input.
    """

    def __init__(self, output: nn.Module, num_vectors: int) -> None:
        super().__init__()
        self.output = output
        self.num_vectors = num_vectors

    def forward(self, token: Tensor) -> Tensor:
        """Logits (B, C) from the components of V four-vectors, and scalars, (B, 4 V + S)."""
        components = 4 * self.num_vectors
        vectors = token[:, :components].unflatten(1, (self.num_vectors, 4))
        _, out = self.output(vectors.transpose(-2, -1), token[:, components:])
        return out
