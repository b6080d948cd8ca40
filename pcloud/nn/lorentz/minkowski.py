"""Minkowski products and masses, shared by the Lorentz-equivariant networks.

In float32, E^2 - p^2 of a light particle of 500 GeV has no correct digit. Therefore products of
four-momenta are computed in float64 and then rounded. Linear combinations of momenta are computed
in float64 for the same reason. Their coefficients are invariants and can be float32: an error of a
coefficient is the same in every frame.
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
"""Two beam particles of LorentzNet, of mass 1 GeV, which define the beam axis."""

MassTreatment = Callable[[Tensor, RaggedLayout], tuple[Tensor, Tensor]]
"""``(p4 (N, 4), layout) -> p4 (N, 4), mass (N,)``, both in GeV and float64."""

_MIN_MASS = 5e-3  # GeV, ten times the mass of the electron
_ROUNDING_NOISE = 2.0  # largest error of m^2 in units of eps E^2 if E and p are rounded once
_RESOLUTION_RANGE = (2.0, 4.0)  # m^2 in units of the noise, where a mass becomes resolved


def psi(x: Tensor) -> Tensor:
    """``sign(x) log(1 + |x|)``, which compresses products over many orders of magnitude."""
    return x.detach().sign() * x.abs().log1p()  # detached: the derivative of the sign is 0


def stored_mass(p4: Tensor, layout: RaggedLayout | None = None) -> tuple[Tensor, Tensor]:
    """Stored momenta and masses, including rounding errors, as official weights need them.

    The mass is the square root of the absolute value of E^2 - p^2.
    """
    p4 = p4.double()
    return p4, kinematics.safe_sqrt(kinematics.mass2(p4).abs())


def zero_mass(p4: Tensor, layout: RaggedLayout | None = None) -> tuple[Tensor, Tensor]:
    """Massless particles with the stored three-momenta; the energies follow from these.

    For massive particles, the result depends on the frame.
    """
    p4 = p4.double()
    return _on_shell(p4, torch.zeros_like(p4[:, 0])), torch.zeros_like(p4[:, 0])


def regulated_mass(p4: Tensor, layout: RaggedLayout | None = None) -> tuple[Tensor, Tensor]:
    """Masses for jets in which the precision of `p4` resolves a mass; other jets are massless.

    Rounding of energy and momentum changes m^2 by at most ``2 eps E^2``, where `eps` is the
    precision of `p4`. This is the noise of m^2. If a particle has ``m^2 < -2 eps E^2``, the noise
    of its jet is larger, because no mass is imaginary. This happens if the momenta were computed in
    float32, or boosted after rounding.

    A mass is resolved if m^2 is above the noise; the transition is smooth from 2 to 4 times the
    noise. In float32 a pion is resolved up to an energy of 140 to 200 GeV. If no mass of a jet is
    resolved, all its particles are massless. In other jets all masses are the stored ones, with
    negative m^2 set to 0. A separate decision for each particle would break the Lorentz symmetry
    more: the same particle would be massive in one frame and massless in a frame in which its
    energy is larger.

    Energies are computed from momenta and masses. A minimum of 5 MeV is added to the mass in
    quadrature, which bounds its derivative.

    Parameters
    ----------
    p4 : Tensor, shape (N, 4)
        Four-momenta in GeV, with the precision in which they were stored.
    layout : RaggedLayout, optional
        Jets of the batch; without it, all particles belong to one jet.

    Returns
    -------
    Tensor, shape (N, 4)
        Four-momenta in GeV and float64, with the energies of the regulated masses.
    Tensor, shape (N,)
        Masses in GeV and float64, at least 5 MeV.
    """
    if layout is None:
        layout = RaggedLayout.from_ptr(torch.tensor([0, len(p4)], device=p4.device))
    rounding = torch.finfo(p4.dtype).eps
    p4 = p4.double()
    m2 = kinematics.mass2(p4)
    ratio = m2 / (rounding * p4[:, 0] ** 2 + torch.finfo(torch.float32).tiny)
    noise = max_pool(-ratio.unsqueeze(-1), layout).clamp(min=_ROUNDING_NOISE)
    ratio = ratio.clamp(min=0) / noise.squeeze(-1)[layout.batch]
    low, high = _RESOLUTION_RANGE
    resolved = _smooth_step((ratio - low) / (high - low))
    massive = sum_pool(resolved.unsqueeze(-1), layout).clamp(max=1).squeeze(-1)[layout.batch]
    m2 = massive * m2.clamp(min=0)
    return _on_shell(p4, m2), (m2 + _MIN_MASS**2).sqrt()


def _smooth_step(x: Tensor) -> Tensor:
    """Cubic step from 0 at 0 to 1 at 1."""
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)


def _on_shell(p4: Tensor, m2: Tensor) -> Tensor:
    """Momenta `p4` with the energy of particles of squared mass `m2`."""
    momentum = p4[:, 1:]
    energy = kinematics.safe_sqrt((momentum**2).sum(-1) + m2)
    return torch.cat([energy.unsqueeze(-1), momentum], dim=-1)


def mass_treatment(name: str | MassTreatment) -> MassTreatment:
    """Mass treatment of the given name; a function is returned as it is.

    Raises
    ------
    UnknownNameError
        If there is no treatment of this name.

    Examples
    --------
    >>> mass_treatment("regulated") is mass_treatment(mass_treatment("regulated"))
    True
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
    """``(p_i - p_j)^2`` and ``<p_i, p_j>`` of all pairs in GeV^2, in the precision of `p4`.

    Parameters
    ----------
    p4 : Tensor, shape (S, 4)
        Momenta of the slots in GeV.
    pairs : PairBlocks
        Pairs of the particles.

    Returns
    -------
    Tensor, shape (M, 2)
    """
    energy = p4[:, :1]
    momentum = p4[:, 1:]
    square = energy.square() - momentum.square().sum(-1, keepdim=True)
    one = torch.ones_like(square)
    lowered = torch.cat([energy, -momentum], dim=-1)
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
        Momenta of the slots in GeV.
    weight : Tensor, shape (M,)
        Weights of the pairs, zero for empty slots.
    pairs : PairBlocks
        Pairs of the particles.
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
    """Layout with `count` reference vectors before the particles of every jet.

    There is no synchronisation. An empty jet becomes a jet of `count` particles.

    Parameters
    ----------
    layout : RaggedLayout
        Layout of the N particles.
    count : int
        Number of reference vectors per jet.

    Returns
    -------
    RaggedLayout
        Layout of the N + `count` B particles and references.
    Tensor, shape (N + count B,)
        Index of each of them in the concatenation of the particles and the references of all jets:
        ``torch.cat([p4, references.repeat(B, 1)])[order]``.
    """
    n = layout.num_particles
    total = n + count * layout.num_jets
    device = layout.batch.device
    if count == 0:
        return layout, torch.arange(n, device=device)
    if layout.row_length is not None:
        return _padded_with_references(layout, count)
    slot = torch.arange(count, device=device)
    jet = torch.arange(layout.num_jets + 1, device=device)
    ptr = layout.ptr + count * jet
    counts = layout.counts + count
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


def _padded_with_references(layout: RaggedLayout, count: int) -> tuple[RaggedLayout, Tensor]:
    """Padded jets with references before the particles; the padding gets none."""
    assert layout.row_length is not None
    counts = layout.counts[:-1]
    rows = layout.row_length
    nodes = RaggedLayout.of_padded(counts + count, rows + count, layout.spare_slots)
    jet = torch.arange(counts.shape[0], device=counts.device).unsqueeze(1)
    reference = layout.num_particles + count * jet + torch.arange(count, device=counts.device)
    row = rows * jet + torch.arange(rows, device=counts.device)
    return nodes, torch.cat([reference, row], dim=1).flatten()


def _with_references(block: DenseBlock, ptr: Tensor, slot: Tensor) -> DenseBlock:
    count = slot.shape[0]
    jets = block.jets.unsqueeze(1)
    index = torch.cat([ptr[jets] + slot, block.index + count * (jets + 1)], dim=1)
    mask = F.pad(block.mask, (count, 0), value=True)
    return DenseBlock(block.jets, index, mask, block.full)
