"""Simple detector simulation: energy-flow constituents from stable particles.

The detector has tracks with an efficiency and a resolution, and cells for photons and hadrons with an
energy resolution. The energy-flow algorithm counts a charged particle once: as a track if it is
reconstructed, else in the cell that it hits. All functions process flat numpy arrays of many events
at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pcloud.errors import InputError

#: Absolute PDG codes of particles that deposit no energy.
INVISIBLE = (12, 14, 16)
MUON = 13
#: Absolute PDG codes of particles that deposit all their energy in the photon cells.
ELECTROMAGNETIC = (11, 22)


@dataclass(frozen=True)
class Resolution:
    """Energy resolution of a calorimeter, sigma^2 = (constant E)^2 + stochastic^2 E + noise^2.

    Parameters
    ----------
    eta_max : float
        Upper end of the region in ``|eta|``; it starts at the end of the previous region.
    constant : float
        Dimensionless constant term.
    stochastic : float
        Sampling term in GeV^(1/2).
    noise : float
        Noise term in GeV.

    Examples
    --------
    >>> Resolution(eta_max=1.7, constant=0.03, stochastic=0.5).noise
    0.0
    """

    eta_max: float
    constant: float
    stochastic: float
    noise: float = 0.0


@dataclass(frozen=True)
class TrackRegion:
    """Tracking efficiency and resolution in a region of ``|eta|``.

    Parameters
    ----------
    eta_max : float
        Upper end of the region in ``|eta|``; it starts at the end of the previous region.
    efficiency_soft, efficiency : float
        Probability to reconstruct a charged particle with pT below and above 1 GeV.
    constant : float
        Relative pT resolution of soft tracks.
    slope : float
        Increase of the relative pT resolution with pT, in 1/GeV, added in quadrature.

    Examples
    --------
    >>> TrackRegion(eta_max=0.5, efficiency_soft=0.7, efficiency=0.95, constant=0.06, slope=0.0013).eta_max
    0.5
    """

    eta_max: float
    efficiency_soft: float
    efficiency: float
    constant: float
    slope: float


@dataclass(frozen=True)
class Calorimeter:
    """Cells of one calorimeter.

    Parameters
    ----------
    cell : float
        Size of a cell in eta and in phi (rad); the latter is rounded to a fraction of 2 pi.
    regions : tuple of Resolution
        Energy resolution, ordered by ``|eta|``; there are no cells beyond the last region.
    energy_min : float
        Threshold in GeV for the energy of a cell, before and after the subtraction of tracks.
    significance_min : float
        Threshold for the same energies in standard deviations of the resolution.
    """

    cell: float
    regions: tuple[Resolution, ...]
    energy_min: float
    significance_min: float


@dataclass(frozen=True)
class Detector:
    """Parameters of the detector, which can be varied with `dataclasses.replace`.

    The defaults are those of the ATLAS card of Delphes, ``cards/delphes_card_ATLAS.tcl``
    [1]_ [2]_, with which the Landscape sample was produced [3]_: field and radius, tracking
    efficiency and resolution (those of charged hadrons, also used for leptons), calorimeter
    resolutions and thresholds. There are two deliberate differences. Cells have the size 0.025 for
    photons and 0.1 for hadrons at all ``|eta|``; in the card they have 0.0174 and 0.1 x 0.175, and
    are larger in the forward region. All long-lived neutral hadrons except K0L and neutron decay in
    the generator.

    Parameters
    ----------
    field : float
        Magnetic field in T.
    radius : float
        Radius of the calorimeter in m, up to which tracks are bent.
    track_pt_min : float
        Smallest pT of a track in GeV.
    tracks : tuple of TrackRegion
        Tracking, ordered by ``|eta|``; there are no tracks beyond the last region.
    photon_cells, hadron_cells : Calorimeter
        Cells of the two calorimeters.

    Raises
    ------
    InputError
        If a parameter is out of range.

    References
    ----------
    .. [1] https://github.com/delphes/delphes/blob/master/cards/delphes_card_ATLAS.tcl
    .. [2] DELPHES 3, https://arxiv.org/abs/1307.6346
    .. [3] The Machine Learning Landscape of Top Taggers, https://arxiv.org/abs/1902.09914

    Examples
    --------
    >>> import dataclasses
    >>> dataclasses.replace(Detector(), field=3.8).field
    3.8
    """

    field: float = 2.0
    radius: float = 1.15
    track_pt_min: float = 0.1
    tracks: tuple[TrackRegion, ...] = (
        TrackRegion(0.5, 0.70, 0.95, 0.06, 1.3e-3),
        TrackRegion(1.5, 0.70, 0.95, 0.10, 1.7e-3),
        TrackRegion(2.5, 0.60, 0.85, 0.25, 3.1e-3),
    )
    photon_cells: Calorimeter = Calorimeter(
        cell=0.025,
        regions=(Resolution(3.2, 0.0017, 0.101), Resolution(4.9, 0.0350, 0.285)),
        energy_min=0.5,
        significance_min=2.0,
    )
    hadron_cells: Calorimeter = Calorimeter(
        cell=0.1,
        regions=(
            Resolution(1.7, 0.0302, 0.5205, 1.59),
            Resolution(3.2, 0.0500, 0.706),
            Resolution(4.9, 0.0942, 1.00),
        ),
        energy_min=1.0,
        significance_min=2.0,
    )

    def __post_init__(self) -> None:
        for name in ("field", "track_pt_min"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.radius <= 0:
            raise InputError(f"radius must be positive, got {self.radius}")
        for name in ("photon_cells", "hadron_cells"):
            cell = getattr(self, name).cell
            if not 0.001 <= cell <= 1:
                raise InputError(f"{name}: cell must be between 0.001 and 1, got {cell}")
        for region in self.tracks:
            for efficiency in (region.efficiency_soft, region.efficiency):
                if not 0 <= efficiency <= 1:
                    raise InputError(f"a tracking efficiency must be in [0, 1], got {efficiency}")


def _coarse(cells: Calorimeter) -> Calorimeter:
    return replace(cells, cell=0.132, significance_min=1.0)


#: Detectors by name. ``coarse`` has the towers of older ATLAS cards of Delphes: 0.1 times 10
#: degrees for photons and for hadrons (here squares of the same area), with thresholds of one
#: standard deviation. Its jets are more similar to those of the Landscape sample: for the twelve
#: hardest constituents of a QCD (top) jet, 29 (16) % of the pairs are closer than 0.05; in the
#: Landscape sample there are 26 (16) %, with ``fine`` 43 (24) %.
DETECTORS = {
    "fine": Detector(),
    "coarse": Detector(
        photon_cells=_coarse(Detector().photon_cells),
        hadron_cells=_coarse(Detector().hadron_cells),
    ),
}


@dataclass(frozen=True)
class Particles:
    """Particles of many events in flat arrays.

    Parameters
    ----------
    event : ndarray of int, shape (N,)
        Index of the event of each particle, sorted.
    pid : ndarray of int, shape (N,)
        PDG code.
    charge : ndarray, shape (N,)
        Charge in units of e.
    p4 : ndarray, shape (N, 4)
        ``(E, px, py, pz)`` in GeV.
    """

    event: np.ndarray
    pid: np.ndarray
    charge: np.ndarray
    p4: np.ndarray

    def __getitem__(self, keep: np.ndarray) -> Particles:
        return Particles(self.event[keep], self.pid[keep], self.charge[keep], self.p4[keep])


def energy_flow(
    particles: Particles, detector: Detector, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Constituents that the detector reconstructs from stable particles.

    The energy-flow algorithm is that of Delphes. Each reconstructed track is a constituent with the
    direction of the particle at the vertex. The energy of a cell is the sum over the particles that
    hit it, smeared by the resolution. If it exceeds the energy of the tracks that hit the cell
    significantly, the excess is another constituent, at a random position in the cell.

    Parameters
    ----------
    particles : Particles
        Stable particles of any number of events.
    detector : Detector
        Parameters of the detector.
    rng : numpy.random.Generator
        Random number generator.

    Returns
    -------
    event : ndarray of int, shape (M,)
        Index of the event of each constituent, sorted.
    p4 : ndarray, shape (M, 4)
        Massless four-momenta ``(E, px, py, pz)`` in GeV.
    """
    code = np.abs(particles.pid)
    particles = particles[~np.isin(code, INVISIBLE)]
    code = np.abs(particles.pid)
    pt = np.hypot(particles.p4[:, 1], particles.p4[:, 2])
    eta = np.arcsinh(particles.p4[:, 3] / np.maximum(pt, 1e-12))
    phi = np.arctan2(particles.p4[:, 2], particles.p4[:, 1])

    track, track_pt = _tracks(pt, eta, particles.charge, detector, rng)
    hit_eta, hit_phi, hits = _propagate(pt, eta, phi, particles.charge, detector)
    track_energy = np.where(track, track_pt * np.cosh(eta), 0.0)
    electromagnetic = np.isin(code, ELECTROMAGNETIC)

    parts = [(particles.event[track], track_pt[track], eta[track], phi[track])]
    for cells, in_cells in (
        (detector.photon_cells, electromagnetic & hits),
        (detector.hadron_cells, ~electromagnetic & (code != MUON) & hits),
    ):
        parts.append(
            _neutral_excess(
                particles.event[in_cells],
                particles.p4[in_cells, 0],
                track_energy[in_cells],
                hit_eta[in_cells],
                hit_phi[in_cells],
                cells,
                rng,
            )
        )
    event, pt, eta, phi = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.argsort(event, kind="stable")
    event, pt, eta, phi = event[order], pt[order], eta[order], phi[order]
    p4 = np.stack(
        [pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], axis=1
    )
    return event, p4


def _tracks(
    pt: np.ndarray,
    eta: np.ndarray,
    charge: np.ndarray,
    detector: Detector,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Mask of the particles that are reconstructed as tracks, and the measured pT, each (N,)."""
    region = np.searchsorted([r.eta_max for r in detector.tracks], np.abs(eta))
    soft = np.array([r.efficiency_soft for r in detector.tracks] + [0.0])[region]
    hard = np.array([r.efficiency for r in detector.tracks] + [0.0])[region]
    constant = np.array([r.constant for r in detector.tracks] + [0.0])[region]
    slope = np.array([r.slope for r in detector.tracks] + [0.0])[region]
    is_track = rng.random(len(pt)) < np.where(pt > 1.0, hard, soft)
    is_track &= (charge != 0) & (pt > detector.track_pt_min)
    return is_track, _log_normal(pt, pt * np.hypot(constant, slope * pt), rng)


def _propagate(
    pt: np.ndarray, eta: np.ndarray, phi: np.ndarray, charge: np.ndarray, detector: Detector
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eta and phi at which particles from the origin hit the calorimeter.

    A helix of curvature radius r = pt / (0.3 B q) reaches the cylinder of radius R after the
    turning angle 2 asin(R / 2r). The azimuth of this point differs by half of this angle from the
    initial direction.

    Returns
    -------
    eta, phi : ndarray, shape (N,)
        Position on the calorimeter.
    reaches : ndarray of bool, shape (N,)
        True for particles that reach the calorimeter.
    """
    sine = 0.15 * detector.field * detector.radius * charge / np.maximum(pt, 1e-12)
    reaches = np.abs(sine) < 1.0
    half_turn = np.arcsin(np.where(reaches, sine, 0.0))
    stretch = np.where(half_turn == 0, 1.0, half_turn / np.where(half_turn == 0, 1.0, sine))
    hit_eta = np.arcsinh(np.sinh(np.clip(eta, -20, 20)) * stretch)
    return hit_eta, phi - half_turn, reaches


def _neutral_excess(
    event: np.ndarray,
    energy: np.ndarray,
    track_energy: np.ndarray,
    eta: np.ndarray,
    phi: np.ndarray,
    cells: Calorimeter,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Event, pt, eta and phi of cells whose energy exceeds that of their tracks significantly."""
    columns = round(2 * np.pi / cells.cell)
    phi_side = 2 * np.pi / columns
    eta_max = cells.regions[-1].eta_max
    rows = int(np.ceil(2 * eta_max / cells.cell))
    inside = np.abs(eta) < eta_max
    row = ((eta[inside] + eta_max) / cells.cell).astype(np.int64)
    column = (phi[inside] % (2 * np.pi) / phi_side).astype(np.int64) % columns
    key, index = np.unique(
        (event[inside] * rows + row) * columns + column, return_inverse=True
    )  # one key per hit cell
    total = np.bincount(index, energy[inside], minlength=len(key))
    charged = np.bincount(index, track_energy[inside], minlength=len(key))

    cell_event, cell = np.divmod(key, rows * columns)
    row, column = np.divmod(cell, columns)
    cell_eta = (row + 0.5) * cells.cell - eta_max
    measured = _log_normal(total, _sigma(total, cell_eta, cells), rng)
    sigma = _sigma(measured, cell_eta, cells)
    excess = measured - charged
    is_significant = (measured > cells.energy_min) & (measured > cells.significance_min * sigma)
    is_significant &= (excess > cells.energy_min) & (excess > cells.significance_min * sigma)

    cell_eta = cell_eta + (rng.random(len(key)) - 0.5) * cells.cell
    cell_phi = (column + rng.random(len(key))) * phi_side
    pt = excess / np.cosh(cell_eta)
    return (
        cell_event[is_significant],
        pt[is_significant],
        cell_eta[is_significant],
        cell_phi[is_significant],
    )


def _sigma(energy: np.ndarray, eta: np.ndarray, cells: Calorimeter) -> np.ndarray:
    """Energy resolution of cells in GeV."""
    edges = [r.eta_max for r in cells.regions]
    region = np.minimum(np.searchsorted(edges, np.abs(eta)), len(edges) - 1)
    constant = np.array([r.constant for r in cells.regions])[region]
    stochastic = np.array([r.stochastic for r in cells.regions])[region]
    noise = np.array([r.noise for r in cells.regions])[region]
    return np.sqrt((constant * energy) ** 2 + stochastic**2 * energy + noise**2)


def _log_normal(mean: np.ndarray, sigma: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Log-normal random numbers with the given mean and standard deviation."""
    variance = np.log1p((sigma / np.maximum(mean, 1e-12)) ** 2)
    return mean * np.exp(np.sqrt(variance) * rng.standard_normal(len(mean)) - variance / 2)
