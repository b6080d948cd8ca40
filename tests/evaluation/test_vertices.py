from __future__ import annotations

import itertools

import numpy as np
import pytest

from pcloud.evaluation.vertices import groups_of_pairs, match_vertices


def jets_with_vertices(number: int, seed: int):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 9, number)
    jet = np.repeat(np.arange(number), counts)
    return counts, jet, rng.integers(-2, 3, len(jet)), rng.integers(-1, 3, len(jet)), rng


def union(particles: range, pairs: list[tuple[int, int]]) -> list[set[int]]:
    """Groups of particles that are connected by pairs, by brute force."""
    groups = [{i} for i in particles]
    for i, j in pairs:
        a, b = (next(group for group in groups if k in group) for k in (i, j))
        if a is not b:
            groups.remove(b)
            a |= b
    return [group for group in groups if len(group) > 1]


def test_groups_are_the_union_of_joined_pairs():
    counts, _, _, _, rng = jets_with_vertices(200, seed=0)
    starts = np.cumsum(counts) - counts
    pairs = [
        pair
        for start, n in zip(starts, counts, strict=True)
        for pair in itertools.combinations(range(start, start + n), 2)
    ]
    first, second = np.array(pairs).T
    joined = rng.random(len(pairs)) < 0.2
    found = groups_of_pairs(first, second, joined, counts)
    for start, n in zip(starts, counts, strict=True):
        own = range(start, start + n)
        mine = [p for p, is_joined in zip(pairs, joined, strict=True) if is_joined and p[0] in own]
        expected = np.full(n, -1)
        for number, group in enumerate(sorted(union(own, mine), key=min)):
            expected[[i - start for i in group]] = number
        assert found[start : start + n].tolist() == expected.tolist()


def vertices(numbers: np.ndarray) -> list[set[int]]:
    groups = [set(np.flatnonzero(numbers == v).tolist()) for v in np.unique(numbers[numbers >= 0])]
    return [group for group in groups if len(group) > 1]


def test_vertices_match_by_more_than_half_of_both():
    counts, jet, true, predicted, rng = jets_with_vertices(300, seed=1)
    known = rng.random(len(jet)) < 0.9
    found = match_vertices(true, predicted, known, jet, len(counts))
    for i in range(len(counts)):
        own = (jet == i) & known
        a, b = vertices(true[own]), vertices(predicted[own])
        matched = sum(
            2 * len(t & p) > len(t) and 2 * len(t & p) > len(p) for t, p in itertools.product(a, b)
        )
        assert (found.true[i], found.predicted[i], found.matched[i]) == (len(a), len(b), matched)
    assert found.matched.sum() > 10


@pytest.mark.parametrize("number", [0, 3])
def test_jets_without_particles_or_vertices_have_none(number):
    counts = np.zeros(number, dtype=np.int64)
    none = np.empty(0, dtype=np.int64)
    assert len(groups_of_pairs(none, none, none.astype(bool), counts)) == 0
    found = match_vertices(none, none, none.astype(bool), none, number)
    assert found.true.tolist() == found.matched.tolist() == [0] * number
