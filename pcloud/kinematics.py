"""Kinematics of four-momenta: pure, differentiable functions of ``p4 (..., 4)``.

Four-momenta are ``(E, px, py, pz)`` in GeV along the last axis. Names and conventions follow
scikit-hep's ``vector``. All functions have finite gradients everywhere, also at rest, along the
beam and for coinciding particles, where the textbook formula divides by zero.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = [
    "MAX_ETA",
    "MIN_GEV",
    "angle_between",
    "asinh",
    "atan2",
    "boost",
    "delta_phi",
    "delta_r",
    "energy",
    "eta",
    "finite_eta",
    "from_pt_eta_phi_mass",
    "from_pt_rapidity_phi_mass",
    "mass",
    "mass2",
    "minkowski_dot",
    "momentum",
    "phi",
    "pt",
    "pt2",
    "rapidity",
    "rotate_z",
    "safe_log",
    "safe_sqrt",
    "transverse",
    "wrap_phi",
]

MAX_ETA = 10.0
"""Bound of :func:`finite_eta`: calorimeters end at 5, and eta is infinite along the beam."""

MIN_GEV = 1e-8
"""Lower bound in GeV of momenta and energies in a logarithm or in a denominator."""


def safe_sqrt(x: Tensor) -> Tensor:
    """Square root of ``x (...)`` with gradient 0 at 0; 0 for negative `x`, which is rounding error.

    Examples
    --------
    >>> x = torch.tensor([0.0, 4.0], requires_grad=True)
    >>> safe_sqrt(x).sum().backward()
    >>> x.grad
    tensor([0.0000, 0.2500])
    """
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1.0).sqrt(), 0.0)


def safe_log(x: Tensor) -> Tensor:
    """Logarithm of ``x (...)`` in GeV, at least that of `MIN_GEV`.

    Examples
    --------
    >>> safe_log(torch.tensor([1.0, 100.0]))
    tensor([0.0000, 4.6052])
    >>> bool(safe_log(torch.tensor(0.0)).isfinite())
    True
    """
    return x.clamp(min=MIN_GEV).log()


def energy(p4: Tensor) -> Tensor:
    """Energy in GeV, shape (...).

    Examples
    --------
    >>> energy(torch.tensor([6.0, 3.0, 4.0, 2.0]))
    tensor(6.)
    """
    return p4[..., 0]


def pt2(p4: Tensor) -> Tensor:
    """Squared transverse momentum in GeV^2, shape (...).

    Examples
    --------
    >>> pt2(torch.tensor([6.0, 3.0, 4.0, 2.0]))
    tensor(25.)
    """
    return p4[..., 1] ** 2 + p4[..., 2] ** 2


def pt(p4: Tensor) -> Tensor:
    """Transverse momentum in GeV, shape (...); gradient 0 along the beam.

    Examples
    --------
    >>> pt(torch.tensor([6.0, 3.0, 4.0, 2.0]))
    tensor(5.)
    """
    return safe_sqrt(pt2(p4))


def momentum(p4: Tensor) -> Tensor:
    """Magnitude of the three-momentum in GeV, shape (...).

    Examples
    --------
    >>> momentum(torch.tensor([5.0, 2.0, 1.0, 2.0]))
    tensor(3.)
    """
    return safe_sqrt(pt2(p4) + p4[..., 3] ** 2)


def phi(p4: Tensor) -> Tensor:
    """Azimuth in rad in [-pi, pi], shape (...); 0 along the beam.

    Examples
    --------
    >>> phi(torch.tensor([2.0, 0.0, 1.0, 1.0]))
    tensor(1.5708)
    """
    px, py = transverse(p4)
    return atan2(py, px)


def atan2(y: Tensor, x: Tensor) -> Tensor:
    """Angle of the point (x, y) in rad, shape (...), also in a graph for ONNX in float64.

    Examples
    --------
    >>> atan2(torch.tensor(1.0), torch.tensor(1.0))
    tensor(0.7854)
    """
    if not torch.onnx.is_in_onnx_export() or y.dtype != torch.float64:
        return torch.atan2(y, x)
    # ONNX Runtime supports only float32: an angle near the result, then the rest of the rotation,
    # whose tangent and arc are equal to 1e-20.
    scale = torch.maximum(x.abs(), y.abs()).clamp(min=1e-30)
    x, y = x / scale, y / scale
    near = torch.atan2(y.float(), x.float()).to(y.dtype)
    # earlier versions have no cosine in float64 either
    cos, sin = 1 - 2 * (near / 2).sin().square(), near.sin()
    rest = (y * cos - x * sin) / (x * cos + y * sin)
    return near + torch.where((x == 0) & (y == 0), 0.0, rest)


def asinh(x: Tensor) -> Tensor:
    """Inverse hyperbolic sine, shape (...), also in a graph for ONNX in float64.

    Examples
    --------
    >>> asinh(torch.tensor([0.0, 1.0]))
    tensor([0.0000, 0.8814])
    """
    if not torch.onnx.is_in_onnx_export():
        return torch.asinh(x)
    magnitude = x.abs()  # ONNX Runtime supports asinh only in float32
    return x.sign() * (magnitude + (magnitude.square() + 1).sqrt()).log()


def eta(p4: Tensor, pt: Tensor | None = None) -> Tensor:
    """Pseudorapidity, shape (...); +-inf along the beam and 0 at rest, as in ``vector``.

    The gradient along the beam and at rest is 0. The transverse momentum `pt` is computed if it is
    not given.

    Examples
    --------
    >>> eta(torch.tensor([2.0, 1.0, 0.0, 1.0]))
    tensor(0.8814)
    """
    transverse = safe_sqrt(pt2(p4)) if pt is None else pt
    pz = p4[..., 3]
    beam = transverse == 0
    inside = asinh(pz / torch.where(beam, 1.0, transverse))
    return torch.where(beam, _along_beam(pz), inside)


def finite_eta(p4: Tensor, pt: Tensor | None = None) -> Tensor:
    """Pseudorapidity clamped to ``[-MAX_ETA, MAX_ETA]``, shape (...); arguments as of :func:`eta`.

    Examples
    --------
    >>> along_the_beam = torch.tensor([1.0, 0.0, 0.0, 1.0])
    >>> bool(finite_eta(along_the_beam) == MAX_ETA)
    True
    """
    return eta(p4, pt).clamp(-MAX_ETA, MAX_ETA)


def _along_beam(pz: Tensor) -> Tensor:
    """Pseudorapidity along the beam, +-inf, or 0 at rest; without `copysign`, which ONNX lacks."""
    infinite = torch.where(pz > 0, math.inf, -math.inf)
    return torch.where(pz == 0, 0.0, infinite).to(pz.dtype)


def rapidity(p4: Tensor) -> Tensor:
    """Rapidity 0.5 ln((E + pz) / (E - pz)), shape (...); +-inf for massless particles along the beam.

    Computed as asinh(pz / mT), which is accurate at large pz. Where the transverse mass is below
    the rounding error of E^2 - pz^2, it is replaced by pT.

    Examples
    --------
    >>> rapidity(torch.tensor([5.0, 0.0, 0.0, 3.0]))
    tensor(0.6931)
    """
    e, pz = p4[..., 0], p4[..., 3]
    mt2 = (e - pz) * (e + pz)
    mt2 = torch.maximum(mt2, pt2(p4))  # E^2 >= p^2 up to rounding
    beam = mt2 <= 0
    inside = asinh(pz / torch.where(beam, 1.0, mt2).sqrt())
    return torch.where(beam, _along_beam(pz), inside)


def mass2(p4: Tensor) -> Tensor:
    """Squared invariant mass in GeV^2, shape (...); negative for spacelike vectors or by rounding.

    Examples
    --------
    >>> mass2(torch.tensor([5.0, 0.0, 0.0, 3.0]))
    tensor(16.)
    """
    e, pz = p4[..., 0], p4[..., 3]
    return (e - pz) * (e + pz) - pt2(p4)


def mass(p4: Tensor) -> Tensor:
    """Invariant mass in GeV, shape (...); -sqrt(-m^2) for spacelike vectors, as in ``vector``.

    Examples
    --------
    >>> mass(torch.tensor([5.0, 0.0, 0.0, 3.0]))
    tensor(4.)
    """
    m2 = mass2(p4)
    return torch.where(m2 >= 0, safe_sqrt(m2), -safe_sqrt(-m2))


def wrap_phi(angle: Tensor) -> Tensor:
    """Wrap `angle` in rad to [-pi, pi); the gradient is 1.

    Examples
    --------
    >>> wrap_phi(torch.tensor([4.0, -1.0]))
    tensor([-2.2832, -1.0000])
    """
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


def delta_phi(a: Tensor, b: Tensor) -> Tensor:
    """Azimuth of `a` minus azimuth of `b` in rad, in [-pi, pi), shape (...).

    Examples
    --------
    >>> delta_phi(torch.tensor([1.0, 0.0, 1.0, 0.0]), torch.tensor([1.0, 1.0, 0.0, 0.0]))
    tensor(1.5708)
    """
    return angle_between(transverse(a), transverse(b))


def angle_between(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> Tensor:
    """Angle from `b` to `a` in rad, in [-pi, pi), of components as :func:`transverse` gives them.

    Examples
    --------
    >>> x, y = (torch.tensor(1.0), torch.tensor(0.0)), (torch.tensor(0.0), torch.tensor(1.0))
    >>> angle_between(y, x)
    tensor(1.5708)
    """
    (ax, ay), (bx, by) = a, b
    # More accurate than the difference of two azimuths.
    angle = atan2(ay * bx - ax * by, ax * bx + ay * by)
    return torch.where(angle < math.pi, angle, angle - 2 * math.pi)


def transverse(p4: Tensor) -> tuple[Tensor, Tensor]:
    """Transverse components in GeV; (1, 0), that is azimuth 0, along the beam.

    Examples
    --------
    >>> transverse(torch.tensor([5.0, 0.0, 0.0, 5.0]))
    (tensor(1.), tensor(0.))
    """
    px, py = p4[..., 1], p4[..., 2]
    beam = (px == 0) & (py == 0)
    return torch.where(beam, 1.0, px), py


def delta_r(a: Tensor, b: Tensor) -> Tensor:
    """Distance sqrt(deta^2 + dphi^2) in the eta-phi plane, shape (...); gradient 0 at 0.

    Examples
    --------
    >>> a, b = from_pt_eta_phi_mass(torch.ones(2), torch.tensor([0.0, 0.3]), torch.tensor([0.0, 0.4]))
    >>> delta_r(a, b)
    tensor(0.5000)
    """
    return safe_sqrt((eta(a) - eta(b)) ** 2 + delta_phi(a, b) ** 2)


def minkowski_dot(a: Tensor, b: Tensor) -> Tensor:
    """Product E_a E_b - p_a . p_b in GeV^2, shape (...); the metric is (+, -, -, -).

    Examples
    --------
    >>> minkowski_dot(torch.tensor([5.0, 0.0, 0.0, 3.0]), torch.tensor([2.0, 1.0, 0.0, 1.0]))
    tensor(7.)
    """
    return a[..., 0] * b[..., 0] - (a[..., 1:] * b[..., 1:]).sum(-1)


def from_pt_eta_phi_mass(
    pt: Tensor, eta: Tensor, phi: Tensor, mass: Tensor | float = 0.0
) -> Tensor:
    """Four-momenta (..., 4) from pT (GeV), pseudorapidity, azimuth (rad) and mass (GeV).

    Examples
    --------
    >>> pt, eta, phi = torch.tensor([3.0, 0.0, 0.0])
    >>> from_pt_eta_phi_mass(pt, eta, phi, mass=4.0)
    tensor([5., 3., 0., 0.])
    """
    px, py, pz = pt * phi.cos(), pt * phi.sin(), pt * eta.sinh()
    e = safe_sqrt((pt * eta.cosh()) ** 2 + mass**2)
    return torch.stack([e, px, py, pz], dim=-1)


def from_pt_rapidity_phi_mass(
    pt: Tensor, rapidity: Tensor, phi: Tensor, mass: Tensor | float = 0.0
) -> Tensor:
    """Four-momenta (..., 4) from pT (GeV), rapidity, azimuth (rad) and mass (GeV).

    Examples
    --------
    >>> pt, rapidity, phi = torch.tensor([3.0, 0.0, 0.0])
    >>> from_pt_rapidity_phi_mass(pt, rapidity, phi, mass=4.0)
    tensor([5., 3., 0., 0.])
    """
    mt = safe_sqrt(pt**2 + mass**2)
    return torch.stack(
        [mt * rapidity.cosh(), pt * phi.cos(), pt * phi.sin(), mt * rapidity.sinh()], dim=-1
    )


def boost(p4: Tensor, beta: Tensor) -> Tensor:
    """Active Lorentz boost of `p4` by velocity `beta`.

    Parameters
    ----------
    p4 : Tensor, shape (..., 4)
        Four-momenta in GeV.
    beta : Tensor, shape (..., 3)
        Velocity in units of c, with magnitude below 1; broadcast against `p4`.

    Returns
    -------
    Tensor, shape (..., 4)
        Boosted momenta: a particle at rest gets the velocity `beta`.

    Raises
    ------
    ValueError
        If the last axis of `beta` does not have three components.

    Examples
    --------
    >>> at_rest = torch.tensor([4.0, 0.0, 0.0, 0.0])
    >>> boost(at_rest, torch.tensor([0.0, 0.0, 0.6]))
    tensor([5., 0., 0., 3.])
    """
    if beta.shape[-1] != 3:
        raise ValueError(f"beta must have shape (..., 3), got {tuple(beta.shape)}")
    beta2 = (beta**2).sum(-1, keepdim=True)
    gamma = (1 - beta2).rsqrt()
    e, p = p4[..., :1], p4[..., 1:]
    along = (p * beta).sum(-1, keepdim=True)
    # gamma^2 / (1 + gamma) equals (gamma - 1) / beta^2, but is not 0/0 at rest.
    p = p + (gamma**2 / (1 + gamma) * along + gamma * e) * beta
    return torch.cat([gamma * (e + along), p], dim=-1)


def rotate_z(p4: Tensor, angle: Tensor | float) -> Tensor:
    """Rotate ``p4 (..., 4)`` about the beam axis by `angle` in rad.

    Examples
    --------
    >>> p4 = torch.tensor([2.0, 1.0, 0.0, 1.0])
    >>> phi(rotate_z(p4, 0.5))
    tensor(0.5000)
    """
    angle = torch.as_tensor(angle, dtype=p4.dtype, device=p4.device)
    cos, sin = angle.cos(), angle.sin()
    e, px, py, pz = p4.unbind(-1)
    return torch.stack([e, cos * px - sin * py, sin * px + cos * py, pz], dim=-1)
