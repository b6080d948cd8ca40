"""L-GATr: transformer on multivectors of the geometric algebra of space-time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pcloud.models.registry import register_model
from pcloud.nn.attention.lgatr_backend import attend_within, check_backend, keep_constants
from pcloud.nn.layout import RaggedLayout, as_layout
from pcloud.nn.lorentz.minkowski import MassTreatment
from pcloud.nn.lorentz.tokens import SpacetimeTokens
from pcloud.nn.representation import Representation

__all__ = ["LGATr", "MultivectorHead", "joined_token", "take_output_layer"]


@register_model(
    "lgatr",
    paper="2405.14806",
    year=2024,
    use="momenta alone, many training jets",
    inputs="p4",
    symmetries=("permutation", "Lorentz"),
)
class LGATr(nn.Module):
    """L-GATr: attention among multivectors, mixed by products of the geometric algebra.

    The network is that of the `lgatr` package. A class token, whose scalars are the logits, and
    reference vectors are added to the particles of every jet. A token attends to those of its own
    jet only, so that the score of a jet does not depend on the batch.

    The score is invariant under a proper orthochronous Lorentz transformation of the jets together
    with the references, the buffers ``beams`` and ``time`` of ``tokens``. For fixed references, the
    symmetry of the score depends on them: rotations about the beam axis for both of them, in
    addition boosts along this axis for the transverse plane only, the full group without
    references. Momenta are prepared in float64 in a frame in which neither the jet nor the
    references have large components, which reduces rounding errors of float32 in the network: see
    :func:`pcloud.nn.lorentz.tokens.midway_frame`.

    Parameters
    ----------
    in_features : int
        Features per particle F, not used unless `scalars` is ``"features"``.
    num_outputs : int
        Number of outputs, one for each class (C).
    num_layers : int
        Number of blocks.
    multivector_width, scalar_width : int
        Number of multivector and scalar channels of all layers.
    num_heads : int
        Number of attention heads.
    mass : {"regulated", "stored", "zero"} or callable
        Treatment of the particle masses, see :mod:`pcloud.nn.lorentz.minkowski`.
    scalars : {"none", "features"}
        Scalar inputs of a particle beside its momentum: none, or the features `x`. The score is then
        invariant under those transformations only that leave the features unchanged.
    beams : {"plane", "lightlike", "spacelike", "timelike", "none"}
        References that define the beam axis: the transverse plane, or two beams.
    time : bool
        Add the direction of time as a reference, so that the network can use energies.
    scale : float
        Unit of momenta in the network in GeV.

    References
    ----------
    Spinner et al., Lorentz-Equivariant Geometric Algebra Transformers for High-Energy Physics,
    https://arxiv.org/abs/2405.14806; Brehmer et al., A Lorentz-Equivariant Transformer for All of
    the LHC, https://arxiv.org/abs/2411.00446. The results that are quoted for this network (AUC
    0.9870) are those of the second paper.

    Notes
    -----
    `lgatr` 2.0 and later has a network slightly different from the published one: with the same
    arguments it has 1 264 289 parameters, where that of the papers has 1 264 673.
    """

    def __init__(
        self,
        in_features: int,
        num_outputs: int = 2,
        *,
        num_layers: int = 12,
        multivector_width: int = 16,
        scalar_width: int = 32,
        num_heads: int = 8,
        mass: MassTreatment | str = "regulated",
        scalars: str = "none",
        beams: str = "plane",
        time: bool = True,
        scale: float = 20.0,
    ) -> None:
        from lgatr import LGATr as Network

        check_backend()
        super().__init__()
        self.num_heads = num_heads
        self.tokens = SpacetimeTokens(
            in_features, mass=mass, scalars=scalars, beams=beams, time=time, scale=scale
        )
        self.net = Network(
            num_blocks=num_layers,
            in_mv_channels=1,
            out_mv_channels=num_outputs,
            hidden_mv_channels=multivector_width,
            in_s_channels=self.tokens.num_scalars,
            out_s_channels=0,
            hidden_s_channels=scalar_width,
            attention={"num_heads": num_heads, "attn_ratio": 2, "head_scale": True},
            mlp={"mlp_ratio": 2},
            # On a CPU, the dense product is 1.6 times as fast, the linear map by grades 1.3 times.
            primitives={"sparse_gp": False, "sparse_linear": True},
        )
        # The multivectors of the tokens have no scalar components.
        self.net.linear_in.mvs2s.weight.requires_grad_(False)
        keep_constants(self.net)
        self.particle_width = scalar_width
        self.head = MultivectorHead(take_output_layer(self.net), multivector_width)

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
        dtype = self.net.linear_in.weight.dtype
        tokens, scalars = tokens.to(dtype).unsqueeze(1), scalars.to(dtype)
        tokens, scalars = attend_within(self.net, tokens, scalars, nodes, self.num_heads)
        return Representation(scalars, nodes, self.tokens.num_added, tokens)

    def pool(self, h: Representation) -> Tensor:
        """Input (B, D) of the head."""
        return joined_token(h)


class MultivectorHead(nn.Module):
    """Head whose outputs are the scalar components of multivectors.

    Parameters
    ----------
    output : Module
        Last map of a network of `lgatr`.
    num_multivectors : int
        Number of multivectors M of its input.
    """

    def __init__(self, output: nn.Module, num_multivectors: int) -> None:
        super().__init__()
        self.output = output
        self.num_multivectors = num_multivectors

    @torch.compiler.disable  # the maps of lgatr have cached constants, which a compiler cannot trace
    def forward(self, token: Tensor) -> Tensor:
        """Logits (B, C) from the components of M multivectors, and scalars, (B, 16 M + S)."""
        components = 16 * self.num_multivectors
        multivectors = token[:, :components].unflatten(1, (self.num_multivectors, 16))
        scalars = token[:, components:]
        out, _ = self.output(multivectors, scalars=scalars)  # (B, C, 16)
        return out[..., 0]


def joined_token(h: Representation) -> Tensor:
    """Vectors and scalars of the first token of each jet, the class token, in one row (B, D)."""
    assert h.vectors is not None
    first = h.layout.ptr[:-1]
    return torch.cat([h.vectors[first].flatten(1), h.rows[first]], dim=1)


def take_output_layer(net: nn.Module) -> nn.Module:
    """Take the last map out of a network of `lgatr`, which then returns the features before it."""
    layer = net.linear_out
    net.linear_out = _Unchanged()
    return layer  # type: ignore[return-value]


class _Unchanged(nn.Module):
    def forward(self, x: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        return x, scalars
