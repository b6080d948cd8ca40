"""The neighbour search against brute force, and where clouds are small or degenerate."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache, partial

import pytest
import torch

from pcloud.errors import MissingExtraError, UnknownNameError
from pcloud.nn import RaggedLayout, knn, knn_graph
from pcloud.nn.graph import knn as module
from pcloud.nn.graph import knn_by_candidates as candidates_module
from pcloud.nn.graph import knn_by_sorting as keys_module
from pcloud.nn.graph.distances import distances_by_products

pytestmark = pytest.mark.rounding


def cloud(counts: list[int], dim: int = 2, seed: int = 0, offset: float = 0.0):
    generator = torch.Generator().manual_seed(seed)
    pos = torch.randn(sum(counts), dim, generator=generator) + offset
    return pos, RaggedLayout.from_ptr(torch.tensor([0, *counts]).cumsum(0))


def brute_force(pos: torch.Tensor, layout: RaggedLayout) -> list[list[tuple[float, int]]]:
    """For each particle, the distances to all others of its jet, in float64, sorted."""
    found = []
    for jet, start in zip(pos.split(layout.counts.tolist()), layout.ptr.tolist(), strict=False):
        distances = (jet[:, None] - jet).double().norm(dim=-1).tolist()
        found += [
            sorted((d, start + j) for j, d in enumerate(row) if j != i)
            for i, row in enumerate(distances)
        ]
    return found


@pytest.fixture(params=["torch", "k-d tree", "candidates", "torch_cluster"])
def backend(request, monkeypatch):
    if request.param == "torch_cluster":
        pytest.importorskip("torch_cluster", reason="extra 'ext' is not installed")
    if request.param == "k-d tree":
        monkeypatch.setattr(module, "_MIN_TREE_POINTS", 0)
        return "torch"
    if request.param == "candidates":
        monkeypatch.setattr(module, "_MIN_CANDIDATE_POINTS", 0)
        monkeypatch.setattr(candidates_module, "_SAMPLE_POINTS", 5)
        monkeypatch.setattr(candidates_module, "_ROWS", 16)
        monkeypatch.setattr(candidates_module, "_COLUMNS", 7)
        return "torch"
    return request.param


COUNTS = [1, 2, 7, 8, 9, 40, 130, 17, 3]


@pytest.mark.parametrize("dim", [2, 64])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_neighbours_are_those_of_brute_force(backend, dim, offset):
    pos, layout = cloud(COUNTS, dim, offset=offset)
    k = 8
    found = knn(pos, layout, k, backend=backend)
    assert found.shape == (len(pos), k)
    everyone = brute_force(pos, layout)
    assert len(everyone) == len(pos)
    for i, row in enumerate(found.tolist()):
        expected = everyone[i][:k]
        to = {j: d for d, j in everyone[i]}
        distances = [to[j] for j in row if j < len(pos)]
        assert row.count(len(pos)) == k - len(expected)
        assert len(set(row) - {len(pos)}) == len(expected)
        assert distances == pytest.approx([d for d, _ in expected], rel=1e-5, abs=1e-6)


def test_coinciding_particles_are_neighbours_and_never_self(backend):
    pos, layout = cloud([6, 12])
    pos[1] = pos[0]
    pos[6:] = pos[6]  # a jet of twelve particles in one place
    found = knn(pos, layout, 4, backend=backend)
    assert found[0, 0] == 1
    assert found[1, 0] == 0
    for i, row in enumerate(found.tolist()):
        assert i not in row
        assert len(set(row)) == 4
        assert all(layout.batch[j] == layout.batch[i] for j in row)


def test_self_comes_first_with_loop(backend):
    pos, layout = cloud(COUNTS)
    pos[-1] = pos[-2]
    found = knn(pos, layout, 5, loop=True, backend=backend)
    assert torch.equal(found[:, 0], torch.arange(len(pos)))


def test_neighbours_do_not_depend_on_the_batch(backend):
    pos, layout = cloud(COUNTS, dim=3)
    together = knn(pos, layout, 4, backend=backend)
    for start, stop in zip(layout.ptr[:-1].tolist(), layout.ptr[1:].tolist(), strict=True):
        n = stop - start
        alone = knn(
            pos[start:stop], RaggedLayout.from_ptr(torch.tensor([0, n])), 4, backend=backend
        )
        shifted = torch.where(alone == n, len(pos), alone + start)
        assert torch.equal(shifted, together[start:stop])


def test_a_cloud_too_large_for_one_block_is_searched_in_rows(monkeypatch):
    pos, layout = cloud([300, 5])
    whole = knn(pos, layout, 6)
    monkeypatch.setattr(module, "_MAX_PAIRS", 300 * 7)
    assert torch.equal(knn(pos, layout, 6), whole)


def test_a_long_cloud_is_searched_in_little_memory(monkeypatch, fast_passes):
    pos, layout = cloud([3000, 4])
    by_tree = knn(pos, layout, 6)
    monkeypatch.setattr(torch, "cdist", None)
    assert torch.equal(
        knn(pos[:3000], RaggedLayout.from_ptr(torch.tensor([0, 3000])), 6), by_tree[:3000]
    )
    monkeypatch.undo()
    monkeypatch.setattr(module, "_MIN_TREE_POINTS", 4000)
    assert torch.equal(knn(pos, layout, 6), by_tree)


@pytest.mark.usefixtures("fast_passes")
@pytest.mark.parametrize(
    "grid", [0.0, 0.5, 4.0]
)  # with ties, and so many that they are all compared
def test_a_large_cloud_in_many_dimensions_is_searched_as_all_pairs(monkeypatch, grid):
    pos, layout = cloud([1500, 4], dim=12, offset=3.0)
    if grid:
        pos = (pos / grid).round() * grid
    expected = knn(pos, layout, 6)
    monkeypatch.setattr(module, "_MIN_CANDIDATE_POINTS", 1000)
    monkeypatch.setattr(candidates_module, "_SAMPLE_POINTS", 200)
    monkeypatch.setattr(candidates_module, "_COLUMNS", 400)
    monkeypatch.setattr(candidates_module, "_MAX_ORDERED", 40)
    assert torch.equal(knn(pos, layout, 6), expected)


def test_a_long_cloud_with_infinite_positions_is_searched_without_tree(monkeypatch):
    monkeypatch.setattr(module, "_MIN_TREE_POINTS", 0)
    pos, layout = cloud([20])
    pos[3] = torch.inf
    found = knn(pos, layout, 4)
    assert (found != torch.arange(20).unsqueeze(1)).all()


def test_half_precision_positions_are_compared_in_single():
    pos, layout = cloud([50], offset=4.0)
    half = pos.bfloat16()
    assert torch.equal(knn(half, layout, 5), knn(half.float(), layout, 5))


def test_the_edge_list_leaves_out_missing_neighbours(backend):
    pos, layout = cloud([1, 2, 5])
    source, target = knn_graph(pos, layout.batch, 3, backend=backend)
    assert len(source) == 0 + 2 * 1 + 5 * 3
    assert (layout.batch[source] == layout.batch[target]).all()
    assert (source != target).all()


def test_an_empty_batch_has_no_neighbours(backend):
    pos, layout = cloud([0])
    assert knn(pos, layout, 3, backend=backend).shape == (0, 3)


def test_arguments_are_checked(monkeypatch):
    pos, layout = cloud([5])
    with pytest.raises(ValueError, match="at least 1, got 0"):
        knn(pos, layout, 0)
    with pytest.raises(UnknownNameError, match="did you mean 'torch_cluster'"):
        knn(pos, layout, 3, backend="torch_clutser")
    monkeypatch.setitem(__import__("sys").modules, "torch_cluster", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'pcloud-hep\[ext\]'"):
        knn(pos, layout, 3, backend="torch_cluster")


SIZES = [17, 9, 4, 29, 5]


def by_the_rule(pos, layout, k):
    """Slots of the nearest: by exact distance, rounded to 24 digits, then by slot; self first."""
    found = []
    for jet in pos.split(layout.counts.tolist()):
        points = [[Fraction(x) for x in point] for point in jet.tolist()]
        unit = max(x.denominator for point in points for x in point)  # a power of 2, as all are
        points = [[int(x * unit) for x in point] for point in points]  # much faster, and exact
        for i, a in enumerate(points):
            squares = [sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) for b in points]
            digits = [to_24_digits(s / unit**2) for s in squares]  # the division rounds once
            keys = [(-1.0 if j == i else d, j) for j, d in enumerate(digits)]
            found.append([j for _, j in sorted(keys)[:k]] + [len(points)] * (k - len(points)))
    return torch.tensor(found)


def to_24_digits(square: float) -> float:
    mantissa, exponent = math.frexp(square)
    return math.ldexp(round(mantissa * 2**24), exponent - 24)


def lattice(dim):
    generator = torch.Generator().manual_seed(dim)
    return torch.randint(4, (sum(SIZES), dim), generator=generator).double()  # many distances agree


def offset_lattice(dim):
    return lattice(dim) * 0.125 + 1000  # the product loses the digits of the distances


def crowd(dim):
    return lattice(dim).fill_(0.1)


def clusters(dim):
    generator = torch.Generator().manual_seed(dim)
    return lattice(dim) + 2.0**-20 * torch.randint(9, (sum(SIZES), dim), generator=generator)


def gaussian(dim):
    return (
        torch.randn(sum(SIZES), dim, generator=torch.Generator().manual_seed(dim)).float().double()
    )


def of_all_sizes(dim):
    generator = torch.Generator().manual_seed(dim)
    return (
        gaussian(dim) * 10.0 ** torch.randint(-20, 15, (sum(SIZES), 1), generator=generator).float()
    )


CLOUDS = [lattice, offset_lattice, crowd, clusters, gaussian, of_all_sizes]


def by_keys(monkeypatch):
    return knn


def by_topk(monkeypatch):
    monkeypatch.setattr(module, "_can_sort_keys", lambda pos: False)
    return knn


def by_trees(monkeypatch):
    monkeypatch.setattr(module, "_MIN_TREE_POINTS", 0)
    return knn


def by_compiled_formula(monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    monkeypatch.setattr(torch.compiler, "is_dynamo_compiling", lambda: True)
    return knn


def by_recorded_formula(monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    return knn


def by_recorded_products(monkeypatch):
    def search(*arguments, **options):
        with distances_by_products():
            return by_recorded_formula(monkeypatch)(*arguments, **options)

    return search


SEARCHES = [by_keys, by_topk, by_trees, by_compiled_formula, by_recorded_formula]
SEARCHES += [by_recorded_products]


@pytest.mark.parametrize("make", CLOUDS)
@pytest.mark.parametrize("dim", [1, 2, 3, 9, 32])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("search", SEARCHES)
def test_every_search_follows_the_rule(monkeypatch, search, dtype, dim, make):
    if search is by_recorded_products and make is of_all_sizes and dim > 4:
        pytest.skip("matrix products need points of similar size")
    pos = make(dim).to(dtype)
    expected = expected_neighbours(make, dim, dtype)
    layout = RaggedLayout.from_ptr(torch.tensor([0, *SIZES]).cumsum(0))
    found = search(monkeypatch)(pos, layout, 5, loop=True)
    first, n = layout.ptr[:-1][layout.batch].unsqueeze(1), len(pos)
    assert torch.equal(
        torch.where(found == n, layout.counts[layout.batch].unsqueeze(1), found - first), expected
    )


@cache
def expected_neighbours(make, dim, dtype):
    layout = RaggedLayout.from_ptr(torch.tensor([0, *SIZES]).cumsum(0))
    return by_the_rule(make(dim).to(dtype), layout, 5)


@pytest.mark.parametrize("limit", [2**17, 1000, 1])
@pytest.mark.parametrize("make", [lattice, offset_lattice])
@pytest.mark.parametrize("dim", [2, 9])
def test_chunks_and_partitions_do_not_matter(monkeypatch, limit, make, dim):
    monkeypatch.setattr(keys_module, "_CHUNK_KEYS", limit)
    monkeypatch.setattr(keys_module, "_MIN_CHUNK_ROWS", 3)
    monkeypatch.setattr(keys_module, "_MAX_SORTED_KEYS", 20)  # the longer jet is partitioned first
    monkeypatch.setattr(keys_module, "_CHUNK_PAIRS", 7)
    test_every_search_follows_the_rule(monkeypatch, by_keys, torch.float32, dim, make)


def test_a_tree_that_meets_many_ties_measures_all_pairs(monkeypatch):
    monkeypatch.setattr(module, "_MAX_TREE_NEIGHBORS", 8)
    for make in (lattice, crowd, gaussian):
        test_every_search_follows_the_rule(monkeypatch, by_trees, torch.float32, 2, make)


def test_a_compiled_search_follows_the_rule():
    torch._dynamo.reset()
    search = partial(knn, k=5, loop=True)
    captured = partial(module._searched, k=5, loop=True)  # as in an exported network
    compiled = torch.compile(captured, backend="aot_eager", fullgraph=True)
    layout = RaggedLayout.from_ptr(torch.tensor([0, *SIZES]).cumsum(0))
    for make in (lattice, offset_lattice, gaussian):
        assert torch.equal(compiled(make(9), layout), search(make(9), layout))


@pytest.mark.parametrize("dim", [2, 20])
@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_a_position_that_is_not_finite_disturbs_no_others(value, dim):
    pos, layout = cloud([21, 20, 19], dim)  # 19 and 20 stand beside empty slots
    others = torch.arange(60) != 25
    before = knn(pos, layout, 4, loop=True)
    pos[25] = value
    after = knn(pos, layout, 4, loop=True)
    assert torch.equal(after[:, 0], torch.arange(60))
    assert (after[others] != 25).all()
    untouched = (before != 25).all(1)
    assert untouched.sum() > 40
    assert torch.equal(after[untouched], before[untouched])


def test_neighbours_on_a_grid_do_not_depend_on_the_other_jets():
    grid = torch.cartesian_prod(torch.arange(5.0), torch.arange(5.0))  # distances agree
    alone = knn(grid, RaggedLayout.from_ptr(torch.tensor([0, 25])), 6)
    others, layout = cloud([25, 29, 300])
    among = knn(torch.cat([grid, others[25:]]), layout, 6)[:25]
    assert torch.equal(alone, among)


def test_a_search_can_be_watched_and_replaced():
    pos = torch.randn(6, 2)
    layout = RaggedLayout.from_ptr(torch.tensor([0, 2, 6]))
    expected = knn(pos, layout, 3)
    seen = []

    def watch(pos, layout, k, search):
        seen.append(k)
        return search(pos, layout, k) + 1

    with module.watched_searches(watch):
        assert torch.equal(knn(pos, layout, 3), expected + 1)
    assert seen == [3]
    assert torch.equal(knn(pos, layout, 3), expected)
