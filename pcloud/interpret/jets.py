"""Jets in the eta-phi plane: particles, mean images, and a choice of jets to draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pcloud import kinematics
from pcloud.io.jets import FlatJets
from pcloud.nn.layout import RaggedLayout
from pcloud.nn.pooling import sum_pool
from pcloud.typing import Floats

__all__ = ["Plane", "mean_image", "most_misclassified", "worst_and_typical"]

_ETA_MAX = 20.0  # bound on pseudorapidities, which are infinite along the beam
_MIN_PT = 1e-12  # GeV, for jets without transverse momentum


@dataclass(frozen=True)
class Plane:
    """Particles relative to the axis of their jet.

    Attributes
    ----------
    deta, dphi : ndarray, shape (N,)
        Pseudorapidity and azimuth (rad) relative to those of the vector sum.
    share : ndarray, shape (N,)
        Fraction of the scalar sum of pT.
    """

    deta: Floats
    dphi: Floats
    share: Floats

    @classmethod
    def of(cls, jets: FlatJets) -> Plane:
        """Compute the positions of the particles of all jets."""
        p4 = torch.from_numpy(np.stack(jets.p4, axis=-1).astype(np.float64))
        layout = RaggedLayout.from_ptr(torch.from_numpy(np.array(jets.offsets)))
        axis = sum_pool(p4, layout)[layout.batch]
        eta, axis_eta = (kinematics.eta(p).clamp(-_ETA_MAX, _ETA_MAX) for p in (p4, axis))
        dphi = kinematics.delta_phi(p4, axis)
        pt = kinematics.pt(p4)
        total = sum_pool(pt, layout)[layout.batch]
        share = pt / total.clamp(min=_MIN_PT)
        return cls((eta - axis_eta).numpy(), dphi.numpy(), share.numpy())


def mean_image(
    plane: Plane, number: int, *, weights: Floats | None = None, pixels: int = 33, size: float = 0.8
) -> Floats:
    """Mean image of jets, (pixels, pixels), with phi along the first axis.

    Parameters
    ----------
    plane : Plane
        Particles of the jets.
    number : int
        Number of jets.
    weights : ndarray, shape (N,), optional
        Values that are summed in each pixel, such as an attribution; by default the share of pT.
    pixels : int
        Number of pixels on each side.
    size : float
        Half-width of the image in delta eta and delta phi (rad).
    """
    edges = np.linspace(-size, size, pixels + 1)
    values = plane.share if weights is None else weights
    image, _, _ = np.histogram2d(plane.dphi, plane.deta, (edges, edges), weights=values)
    return image / max(number, 1)


def most_misclassified(
    labels: NDArray[np.integer], scores: Floats, number: int = 3
) -> dict[int, NDArray[np.integer]]:
    """Indices of the jets with the smallest probability of their true class, for each class.

    Parameters
    ----------
    labels : ndarray of int, shape (B,)
        True class of each jet.
    scores : ndarray, shape (B, C)
        Probability of each class.
    number : int
        Number of jets of each class.
    """
    own = scores[np.arange(len(labels)), labels]
    found: dict[int, NDArray[np.integer]] = {}
    for label in np.unique(labels).tolist():
        members = np.flatnonzero(labels == label)
        found[label] = members[np.argsort(own[members], kind="stable")[:number]]
    return found


def worst_and_typical(
    labels: NDArray[np.integer], scores: Floats, number: int = 2
) -> list[tuple[int, str]]:
    """Choose jets to draw: of each class those most misclassified and one of median probability.

    Parameters
    ----------
    labels : ndarray of int, shape (B,)
        True class of each jet.
    scores : ndarray, shape (B, C)
        Probability of each class.
    number : int
        Number of most misclassified jets of each class.

    Returns
    -------
    list of (int, str)
        Index of each jet, and ``"worst"`` or ``"typical"``.
    """
    chosen = []
    own = scores[np.arange(len(labels)), labels]
    for label, worst in most_misclassified(labels, scores, number).items():
        members = np.flatnonzero(labels == label)
        middle = members[np.argsort(own[members])[len(members) // 2]]
        chosen += [(int(i), "worst") for i in worst] + [(int(middle), "typical")]
    return chosen
