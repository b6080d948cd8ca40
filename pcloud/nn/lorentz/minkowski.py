"""Minkowski geometry of particle clouds: what Lorentz-equivariant networks have in common.

E^2 - p^2 of a particle of 500 GeV cancels to its last digit in float32: products of four-momenta
are taken in float64 and only then rounded. Combinations of momenta stay in float64 for the same
reason, whereas their coefficients, which are invariants, may be float32: an error in a coefficient
is the same in every frame.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from pcloud import kinematics
from pcloud.errors import UnknownNameError
from pcloud.nn.layout import DenseBlock, RaggedLayout
from pcloud.nn.numerics.derivatives import outside_transforms
from pcloud.nn.pairs.blocks import PairBlocks
from pcloud.nn.pairs.products import pairwise_dot, sum_senders
from pcloud.nn.pooling import max_pool, sum_pool

__all__ = [
    "BEAMS",
    "MassTreatment",
    "mass_treatment",
    "pair_products",
    "psi",
    "regulated_mass",
    "stored_mass",
    "sum_differences",
    "with_references",
    "zero_mass",
]

BEAMS = ((2**0.5, 0.0, 0.0, 1.0), (2**0.5, 0.0, 0.0, -1.0))
"""The two beam particles of LorentzNet, of mass 1 GeV: they tell the network the beam axis."""

MassTreatment = Callable[[Tensor, RaggedLayout], tuple[Tensor, Tensor]]
"""``p4 (N, 4), layout -> p4 (N, 4), mass (N,)``, both in GeV and float64."""

_FLOOR = 5e-3  # GeV, about half the mass of the lightest quarks, the electron's times ten
_MAX_NOISE = 2.0  # largest error of m^2 in units of eps E^2 where E and p are rounded once
_RESOLVED = (2.0, 4.0)  # m^2 in units of the noise, between which a mass becomes resolved


def psi(x: Tensor) -> Tensor:
    """``sign(x) log(1 + |x|)``: brings products over many orders of magnitude to a few units."""
    return x.detach().sign() * x.abs().log1p()  # the sign has no derivative to spend time on


def stored_mass(p4: Tensor, layout: RaggedLayout | None = None) -> tuple[Tensor, Tensor]:
    """Momenta and masses as stored, rounding noise included: for official weights.

    A mass is the square root of the magnitude of E^2 - p^2.
    """
    p4 = p4.double()
    return p4, kinematics.safe_sqrt(kinematics.mass2(p4).abs())


def zero_mass(p4: Tensor, layout: RaggedLayout | None = None) -> tuple[Tensor, Tensor]:
    """All particles massless, their energy the magnitude of their momentum.

    For massive particles this depends on the frame.
    """
    p4 = p4.double()
    return _on_shell(p4, torch.zeros_like(p4[:, 0])), torch.zeros_like(p4[:, 0])


def regulated_mass(p4: Tensor, layout: RaggedLayout | None = None) -> tuple[Tensor, Tensor]:
    """Masses in jets where the precision of `p4` resolves a mass, none in other jets.

    Rounding of energy and momentum changes m^2 by at most ``2 eps E^2``, where `eps` is the
    precision of `p4`. This is the noise, unless a particle of the jet has ``m^2 < -2 eps E^2``:
    no mass is imaginary, so the noise of this jet is larger, for instance because its momenta were
    computed in float32, or boosted after they had been rounded.

    A mass is resolved where m^2 is above the noise, gradually from 2 to 4 times the noise. A pion
    in float32 is resolved up to an energy of 140 to 200 GeV. The particles of a jet without any
    resolved mass are massless. In other jets all masses are those stored, with negative m^2 set
    to 0. A decision for each particle by itself would break the Lorentz symmetry more: the same
    particle would have its mass in one frame, and none in another where it has more energy.

    Energies are computed from momenta and masses. A floor of 5 MeV is added to the mass in
    quadrature, which bounds its derivative.

    Parameters
    ----------
    p4 : Tensor, shape (N, 4)
        Four-momenta in GeV, in the precision in which they were stored.
    layout : RaggedLayout, optional
        Jets of the batch; without it, all particles belong to one jet.

    Returns
    -------
    Tensor, shape (N, 4)
        Four-momenta in GeV and float64, of particles with the regulated mass.
    Tensor, shape (N,)
        Masses in GeV and float64, at least 5 MeV.
    """
    if layout is None:
        layout = RaggedLayout.from_ptr(torch.tensor([0, len(p4)], device=p4.device))
    rounding = torch.finfo(p4.dtype).eps
    p4 = p4.double()
    m2 = kinematics.mass2(p4)
    ratio = m2 / (rounding * p4[:, 0] ** 2 + torch.finfo(torch.float32).tiny)
    noise = max_pool(-ratio.unsqueeze(-1), layout).clamp(min=_MAX_NOISE)
    ratio = ratio.clamp(min=0) / noise.squeeze(-1)[layout.batch]
    low, high = _RESOLVED
    resolved = _smooth_step((ratio - low) / (high - low))
    massive = sum_pool(resolved.unsqueeze(-1), layout).clamp(max=1).squeeze(-1)[layout.batch]
    m2 = massive * m2.clamp(min=0)
    return _on_shell(p4, m2), (m2 + _FLOOR**2).sqrt()


def _smooth_step(x: Tensor) -> Tensor:
    """Cubic step from 0 at 0 to 1 at 1."""
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)


def _on_shell(p4: Tensor, m2: Tensor) -> Tensor:
    momentum = p4[:, 1:]
    energy = kinematics.safe_sqrt((momentum**2).sum(-1) + m2)
    return torch.cat([energy.unsqueeze(-1), momentum], dim=-1)


def mass_treatment(name: str | MassTreatment) -> MassTreatment:
    """The treatment of that name, or `name` itself where it is a function already.

    Raises
    ------
    UnknownNameError
        If there is none of that name.
    """
    if callable(name):
        return name
    known: dict[str, MassTreatment] = {
        "stored": stored_mass,
        "zero": zero_mass,
        "regulated": regulated_mass,
    }
    if name not in known:
        raise UnknownNameError("mass treatment", name, known)
    return known[name]


def pair_products(p4: Tensor, pairs: PairBlocks) -> Tensor:
    """``|p_i - p_j|^2`` and ``<p_i, p_j>`` in GeV^2, shape (M, 2), of momenta ``p4 (S, 4)`` in slots.

    In the precision of `p4`.
    """
    energy, momentum = p4[:, :1], p4[:, 1:]
    square = energy.square() - momentum.square().sum(-1, keepdim=True)
    one, lowered = torch.ones_like(square), torch.cat([energy, -momentum], dim=-1)
    receiver = torch.cat([square, one, lowered], dim=-1)
    distance = torch.cat([one, square, -2 * p4], dim=-1)  # p_i^2 + p_j^2 - 2 <p_i, p_j>
    dot = F.pad(p4, (2, 0))
    return pairwise_dot(receiver, torch.stack([distance, dot], dim=1), pairs)


def sum_differences(
    p4: Tensor, weight: Tensor, pairs: PairBlocks, limit: float | None = None
) -> Tensor:
    """``sum_j weight_ij (p_i - p_j)``, shape (S, 4).

    Parameters
    ----------
    p4 : Tensor, shape (S, 4)
        In GeV, in slots.
    weight : Tensor, shape (M,)
        Zero for a pair that does not count.
    pairs : PairBlocks
    limit : float, optional
        Bound in GeV for each component of each term. It breaks the Lorentz symmetry.
    """
    weight = weight.to(p4.dtype)
    if limit is None:
        sums = sum_senders(weight.unsqueeze(1), F.pad(p4, (0, 1), value=1.0).unsqueeze(1), pairs)
        return sums[:, 4:] * p4 - sums[:, :4]
    momenta, weights = pairs.by_block(p4), pairs.pairs_by_block(weight)
    terms = [
        (w.unsqueeze(-1) * (p.unsqueeze(2) - p.unsqueeze(1))).clamp(-limit, limit).sum(2)
        for p, w in zip(momenta, weights, strict=True)
    ]
    return torch.cat([p4[:0], *(t.flatten(0, 1) for t in terms)])


@torch.compiler.disable
@outside_transforms
def with_references(layout: RaggedLayout, count: int) -> tuple[RaggedLayout, Tensor]:
    """Layout in which `count` reference vectors stand before the particles of every jet.

    Without a synchronisation. An empty jet becomes one of `count` particles.

    Returns
    -------
    RaggedLayout
        Of the N + `count` B particles.
    Tensor, shape (N + count B,)
        Where each of them is found in the N particles followed by those of jet 0, of jet 1, ...:
        ``torch.cat([p4, references.repeat(B, 1)])[order]``.
    """
    n, total = layout.num_particles, layout.num_particles + count * layout.num_jets
    device = layout.batch.device
    if count == 0:
        return layout, torch.arange(n, device=device)
    slot = torch.arange(count, device=device)
    jet = torch.arange(layout.num_jets + 1, device=device)
    ptr, counts = layout.ptr + count * jet, layout.counts + count
    batch = torch.repeat_interleave(jet[:-1], counts, output_size=total)

    order = batch.new_empty(total)
    particles = torch.arange(n, device=device)
    order[particles + count * (layout.batch + 1)] = particles
    order[(ptr[:-1, None] + slot).flatten()] = torch.arange(n, total, device=device)

    blocks = [_with_references(block, ptr, slot) for block in layout.blocks]
    empty = layout.num_jets - sum(len(block.jets) for block in blocks)
    if empty:
        jets = layout.counts.argsort()[:empty]
        index = ptr[jets, None] + slot
        blocks.append(DenseBlock(jets, index, torch.ones_like(index, dtype=torch.bool), True))
    slots = [torch.where(b.mask, b.index, total).flatten() for b in blocks]
    position = batch.new_empty(total + 1)
    position[torch.cat(slots)] = torch.arange(sum(s.shape[0] for s in slots), device=device)
    pairs = layout.num_pairs + count * n + layout.num_jets * count * (count + 1) // 2
    return RaggedLayout(batch, ptr, counts, tuple(blocks), position[:total], pairs), order


def _with_references(block: DenseBlock, ptr: Tensor, slot: Tensor) -> DenseBlock:
    count = slot.shape[0]
    jets = block.jets.unsqueeze(1)
    index = torch.cat([ptr[jets] + slot, block.index + count * (jets + 1)], dim=1)
    mask = F.pad(block.mask, (count, 0), value=True)
    return DenseBlock(block.jets, index, mask, block.full)
