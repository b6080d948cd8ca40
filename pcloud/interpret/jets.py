"""What jets look like in the plane of eta and phi: one by one, on average, and the worst ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pcloud.io.jets import FlatJets
from pcloud.typing import Floats

__all__ = ["Plane", "mean_image", "most_misclassified", "worst_and_typical"]


@dataclass(frozen=True)
class Plane:
    """Particles relative to the axis of their jet.

    Attributes
    ----------
    deta, dphi : ndarray, shape (N,)
        Pseudorapidity and azimuth (rad) less those of the vector sum.
    share : ndarray, shape (N,)
        Part of the scalar sum of pT.
    """

    deta: Floats
    dphi: Floats
    share: Floats

    @classmethod
    def of(cls, jets: FlatJets) -> Plane:
        """The particles of all jets."""
        jet = np.repeat(np.arange(len(jets)), jets.counts)
        _, px, py, pz = (component.astype(np.float64) for component in jets.p4)
        x, y, z, total = (
            np.bincount(jet, values, len(jets)) for values in (px, py, pz, np.hypot(px, py))
        )
        pt, axis_pt = np.maximum(np.hypot(px, py), 1e-12), np.maximum(np.hypot(x, y), 1e-12)
        deta = np.arcsinh(pz / pt) - np.arcsinh(z / axis_pt)[jet]
        angle = np.arctan2(py, px) - np.arctan2(y, x)[jet]
        dphi = np.remainder(angle + np.pi, 2 * np.pi) - np.pi
        return cls(deta, dphi, pt / np.maximum(total, 1e-12)[jet])


def mean_image(
    plane: Plane, number: int, *, weights: Floats | None = None, pixels: int = 33, size: float = 0.8
) -> Floats:
    """Mean over jets of what lies in each pixel, (pixels, pixels), phi along the first axis.

    Parameters
    ----------
    plane : Plane
        Particles of the jets.
    number : int
        How many jets they are from.
    weights : ndarray, shape (N,), optional
        What is added up, such as an attribution; by default the share of pT.
    pixels : int
        Along each side.
    size : float
        Half of the side.
    """
    edges = np.linspace(-size, size, pixels + 1)
    values = plane.share if weights is None else weights
    image, _, _ = np.histogram2d(plane.dphi, plane.deta, (edges, edges), weights=values)
    return image / max(number, 1)


def most_misclassified(
    labels: NDArray[np.integer], scores: Floats, number: int = 3
) -> dict[int, NDArray[np.integer]]:
    """Jets of each class with the smallest probability of their class, the worst first.

    Parameters
    ----------
    labels : ndarray of int, shape (B,)
        True class.
    scores : ndarray, shape (B, C)
        Probability of each class.
    number : int
        Jets of each class.
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
    """Jets to draw, and why: of each class the worst ones, and one of median probability."""
    chosen = []
    own = scores[np.arange(len(labels)), labels]
    for label, worst in most_misclassified(labels, scores, number).items():
        members = np.flatnonzero(labels == label)
        middle = members[np.argsort(own[members])[len(members) // 2]]
        chosen += [(int(i), "worst") for i in worst] + [(int(middle), "typical")]
    return chosen
