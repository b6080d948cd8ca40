"""Vertices: groups of particles of one jet, found by pairs, and compared with the true ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pcloud.typing import Booleans, Integers

__all__ = ["NO_VERTEX", "VertexCounts", "groups_of_pairs", "match_vertices"]

NO_VERTEX = -1
"""Number of the vertex of a particle that is in none."""


def groups_of_pairs(
    first: Integers, second: Integers, joined: Booleans, counts: Integers
) -> Integers:
    """Number (N,) of the vertex of each particle: the union of the pairs that are joined.

    Parameters
    ----------
    first, second : array of int, shape (P,)
        Particles of each pair.
    joined : array of bool, shape (P,)
        True for pairs of one vertex.
    counts : array of int, shape (B,)
        Number of particles of each jet, of N in total.

    Returns
    -------
    array of int, shape (N,)
        Numbers from 0 in each jet, in the order of the first particle of each vertex; `NO_VERTEX`
        for particles that are joined to no other.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    number = int(counts.sum())
    if number == 0:
        return np.empty(0, dtype=np.int64)
    edges = np.ones(int(joined.sum()), dtype=np.int8)
    graph = coo_array((edges, (first[joined], second[joined])), shape=(number, number))
    _, group = connected_components(graph, directed=False)
    return _numbered(group, np.repeat(np.arange(len(counts)), counts), len(counts))


def _numbered(group: Integers, jet: Integers, num_jets: int) -> Integers:
    """Groups of two or more particles, numbered in each jet by their first particle."""
    _, start, inverse, size = np.unique(
        group, return_index=True, return_inverse=True, return_counts=True
    )
    is_vertex = size > 1
    order = np.argsort(start[is_vertex])  # of the vertices, jet by jet
    of_jet = jet[start[is_vertex]][order]
    place = np.arange(len(order)) - np.searchsorted(of_jet, of_jet)
    numbers = np.full(len(size), NO_VERTEX, dtype=np.int64)
    numbers[np.flatnonzero(is_vertex)[order]] = place
    return numbers[inverse]


@dataclass(frozen=True)
class VertexCounts:
    """Numbers of vertices in each jet.

    Parameters
    ----------
    true, predicted, matched : array of int, shape (B,)
        Number of true and of predicted vertices, and of pairs of both that match.
    """

    true: Integers
    predicted: Integers
    matched: Integers


def match_vertices(
    true: Integers, predicted: Integers, known: Booleans, jet: Integers, num_jets: int
) -> VertexCounts:
    """Compare predicted with true vertices.

    A vertex is two or more particles of a jet with the same number. A predicted vertex matches a
    true one if it has more than half of its particles, and these are more than half of its own: there
    is at most one for each. Particles without a known vertex do not count.

    Parameters
    ----------
    true, predicted : array of int, shape (N,)
        Number of the vertex of each particle; negative for none.
    known : array of bool, shape (N,)
        True for particles whose true vertex, or the absence of it, is known.
    jet : array of int, shape (N,)
        Jet of each particle.
    num_jets : int
        Number of jets B.
    """
    jet = jet[known]
    t, size_t = _vertices(true[known], jet)
    p, size_p = _vertices(predicted[known], jet)
    in_both = (t >= 0) & (p >= 0)
    t_both, p_both = t[in_both], p[in_both]
    _, start, shared = np.unique(_joint(t_both, p_both), return_index=True, return_counts=True)
    matches = (2 * shared > size_t[t_both[start]]) & (2 * shared > size_p[p_both[start]])
    matched = np.bincount(jet[in_both][start[matches]], minlength=num_jets)
    return VertexCounts(_per_jet(t, jet, num_jets), _per_jet(p, jet, num_jets), matched)


def _vertices(number: Integers, jet: Integers) -> tuple[Integers, Integers]:
    """Index (N,) of the vertex of each particle, negative for none, and their sizes (V,)."""
    keys = _joint(jet, np.maximum(number, NO_VERTEX) - NO_VERTEX)
    _, inverse, size = np.unique(keys, return_inverse=True, return_counts=True)
    is_vertex = (number >= 0) & (size[inverse] > 1)
    return np.where(is_vertex, inverse, NO_VERTEX), size


def _joint(a: Integers, b: Integers) -> Integers:
    """Number for each pair of numbers that are not negative."""
    return a.astype(np.int64) * (int(b.max(initial=0)) + 1) + b


def _per_jet(vertex: Integers, jet: Integers, num_jets: int) -> Integers:
    """Number (B,) of the vertices of each jet."""
    _, start = np.unique(vertex, return_index=True)
    first = start[vertex[start] >= 0]
    return np.bincount(jet[first], minlength=num_jets)
