"""Energy flow polynomials: a basis of the energies and pairwise angles of a jet."""

from __future__ import annotations

import itertools
from collections import Counter
from functools import cache

import torch
from torch import Tensor

from pcloud import kinematics
from pcloud.errors import InputError
from pcloud.nn.layout import RaggedLayout
from pcloud.nn.pooling import sum_pool

__all__ = ["connected_multigraphs", "energy_flow_polynomials"]

Graph = tuple[tuple[int, int], ...]
"""Edges (k, l) of a multigraph with k < l, sorted; its vertices are 0, 1, ..."""

_MAX_DEGREE = 5  # the sums of more edges may need three free indices


@cache
def connected_multigraphs(max_degree: int) -> tuple[Graph, ...]:
    """Connected multigraphs without loops of 1 to `max_degree` edges, one of each isomorphism class.

    Examples
    --------
    >>> connected_multigraphs(2)
    (((0, 1),), ((0, 1), (0, 1)), ((0, 1), (0, 2)))
    """
    if not 1 <= max_degree <= _MAX_DEGREE:
        raise InputError(f"the degree must be between 1 and {_MAX_DEGREE}, got {max_degree}")
    found: list[Graph] = [((0, 1),)]
    last = set(found)
    for _ in range(max_degree - 1):
        last = {_canonical((*graph, edge)) for graph in last for edge in _further_edges(graph)}
        found += sorted(last)
    return tuple(found)


def _further_edges(graph: Graph) -> list[tuple[int, int]]:
    """Edges that leave a graph connected: between two of its vertices, or to a new one."""
    number = max(vertex for edge in graph for vertex in edge) + 1
    old = list(itertools.combinations(range(number), 2))
    return old + [(vertex, number) for vertex in range(number)]


def _canonical(graph: Graph) -> Graph:
    """Smallest list of edges over all numberings of the vertices."""
    number = max(vertex for edge in graph for vertex in edge) + 1
    return min(
        tuple(sorted(tuple(sorted((p[a], p[b]))) for a, b in graph))  # type: ignore[misc]
        for p in itertools.permutations(range(number))
    )


@torch.no_grad()
def energy_flow_polynomials(
    p4: Tensor, layout: RaggedLayout, max_degree: int = 4, *, composite: bool = True
) -> Tensor:
    """Energy flow polynomials of all multigraphs of 1 to `max_degree` edges, shape (B, E), float64.

    The polynomial of a multigraph G with V vertices is
    ``sum_{i1} ... sum_{iV} z_{i1} ... z_{iV} prod_{(k, l) in G} dR_{ik il}`` with the pT fractions z
    and the distances dR in rapidity and azimuth. That of a graph of several parts is the product of
    those of its parts.

    Parameters
    ----------
    p4 : Tensor, shape (N, 4)
        Four-momenta in GeV.
    layout : RaggedLayout
        Jets of the batch.
    max_degree : int
        Largest number of edges, at most 5.
    composite : bool
        Include the products of connected graphs, 35 polynomials of degree 4 in place of 20.

    References
    ----------
    Komiske, Metodiev and Thaler, Energy flow polynomials, https://arxiv.org/abs/1712.07124.
    """
    p4 = p4.double()
    pt = kinematics.pt(p4)
    total = sum_pool(pt, layout).clamp(min=kinematics.MIN_GEV)
    z = pt / total[layout.batch]
    plane = torch.stack([kinematics.rapidity(p4), kinematics.phi(p4)], dim=-1)
    graphs = connected_multigraphs(max_degree)
    found = p4.new_zeros(layout.num_jets, len(graphs))
    for block in layout.blocks:
        weight = block.gather(z) * block.mask
        slots = block.gather(plane)
        deta = slots[:, :, None, 0] - slots[:, None, :, 0]
        dphi = kinematics.wrap_phi(slots[:, :, None, 1] - slots[:, None, :, 1])
        distance = (deta.square() + dphi.square()).sqrt()
        values = [_polynomial(graph, weight, distance) for graph in graphs]
        found[block.jets] = torch.stack(values, dim=-1)
    return torch.cat([found, _products(found, graphs, max_degree)], -1) if composite else found


def _polynomial(graph: Graph, weight: Tensor, distance: Tensor) -> Tensor:
    """Polynomial (b,) of a graph for weights (b, P) and distances (b, P, P).

    The sum over a vertex with few neighbours is done first: it leaves a factor of its neighbours.
    """
    edges = {pair: distance**number for pair, number in Counter(graph).items()}
    vertices = {vertex: weight for edge in graph for vertex in edge}
    while True:
        near = {v: [pair for pair in edges if v in pair] for v in vertices}
        vertex = min(vertices, key=lambda v: len(near[v]))
        own = vertices.pop(vertex)
        pairs = near[vertex]
        factors = [edges.pop(pair) for pair in pairs]  # symmetric
        others = [a if b == vertex else b for a, b in pairs]
        if not others:
            return own.sum(-1)
        if len(others) == 1:
            (other,) = others
            message = (factors[0] @ own.unsqueeze(-1)).squeeze(-1)
            vertices[other] = vertices[other] * message
        else:  # two: more need a graph of at least six edges
            pair = (min(others), max(others))
            between = (factors[0] * own.unsqueeze(1)) @ factors[1]
            between = between if others[0] < others[1] else between.transpose(1, 2)
            edges[pair] = edges[pair] * between if pair in edges else between


def _products(found: Tensor, graphs: tuple[Graph, ...], max_degree: int) -> Tensor:
    """Products (B, K) of two and more connected graphs with at most `max_degree` edges together."""
    columns = []
    for number in range(2, max_degree + 1):
        for parts in itertools.combinations_with_replacement(range(len(graphs)), number):
            if sum(len(graphs[i]) for i in parts) <= max_degree:
                columns.append(found[:, list(parts)].prod(-1))
    return torch.stack(columns, dim=-1) if columns else found[:, :0]
