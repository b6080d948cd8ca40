"""The neighbour search against brute force, and where clouds are small or degenerate."""

from __future__ import annotations

import pytest
import torch

from pcloud.errors import MissingExtraError, UnknownNameError
from pcloud.nn import RaggedLayout, knn, knn_graph
from pcloud.nn import neighbor_keys as keys_module
from pcloud.nn import neighbors as module


def cloud(counts: list[int], dim: int = 2, seed: int = 0, offset: float = 0.0):
    generator = torch.Generator().manual_seed(seed)
    pos = torch.randn(sum(counts), dim, generator=generator) + offset
    return pos, RaggedLayout.from_ptr(torch.tensor([0, *counts]).cumsum(0))


def brute_force(pos: torch.Tensor, layout: RaggedLayout, i: int) -> list[tuple[float, int]]:
    """Distances to all others of the same jet, in float64, sorted."""
    same = (layout.batch == layout.batch[i]).nonzero().flatten().tolist()
    return sorted(((pos[i] - pos[j]).double().norm().item(), j) for j in same if j != i)


@pytest.fixture(params=["torch", "k-d tree", "torch_cluster"])
def backend(request, monkeypatch):
    if request.param == "torch_cluster":
        pytest.importorskip("torch_cluster", reason="extra 'ext' is not installed")
    if request.param == "k-d tree":
        monkeypatch.setattr(module, "_LONG", 0)
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
    for i, row in enumerate(found.tolist()):
        expected = brute_force(pos, layout, i)[:k]
        distances = [(pos[i] - pos[j]).double().norm().item() for j in row if j < len(pos)]
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
    monkeypatch.setattr(module, "_PAIRS", 300 * 7)
    assert torch.equal(knn(pos, layout, 6), whole)


def test_a_long_cloud_is_searched_in_little_memory(monkeypatch):
    pos, layout = cloud([3000, 4])
    by_tree = knn(pos, layout, 6)
    monkeypatch.setattr(torch, "cdist", None)
    assert torch.equal(
        knn(pos[:3000], RaggedLayout.from_ptr(torch.tensor([0, 3000])), 6), by_tree[:3000]
    )
    monkeypatch.undo()
    monkeypatch.setattr(module, "_LONG", 4000)
    assert torch.equal(knn(pos, layout, 6), by_tree)


def test_a_long_cloud_with_infinite_positions_is_searched_without_tree(monkeypatch):
    monkeypatch.setattr(module, "_LONG", 0)
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
    with pytest.raises(MissingExtraError, match=r"pip install 'pcloud\[ext\]'"):
        knn(pos, layout, 3, backend="torch_cluster")


def all_sorted(pos, layout, k):
    """Slots of the nearest in each jet by a stable sort of distances in float64, self first."""
    found = []
    for jet in pos.double().split(layout.counts.tolist()):
        squares = (jet.unsqueeze(1) - jet).square().sum(-1).fill_diagonal_(-1)
        found.append(squares.sort(dim=-1, stable=True).indices[:, :k])
    return found


@pytest.mark.parametrize("limit", [2**17, 1000, 1])
@pytest.mark.parametrize("dim", [1, 2, 3, 9, 32])
def test_keys_find_what_a_stable_sort_finds(monkeypatch, limit, dim):
    monkeypatch.setattr(keys_module, "_KEYS", limit)
    monkeypatch.setattr(keys_module, "_ROWS", 3)
    monkeypatch.setattr(keys_module, "_WHOLE", 60)  # the longer jet is parted, not sorted
    pos = torch.randint(4, (57 + 9 + 9 + 79, dim)).float()  # many distances agree
    layout = RaggedLayout.from_ptr(torch.tensor([0, 57, 66, 75, 154]))
    found = knn(pos, layout, 5, loop=True).split(layout.counts.tolist())
    for jet, expected, first in zip(found, all_sorted(pos, layout, 5), layout.ptr, strict=False):
        assert torch.equal(jet - first, expected)


@pytest.mark.parametrize("dim", [2, 20])
def test_neighbours_by_keys_are_those_by_topk(monkeypatch, dim):
    pos, layout = cloud([3, 57, 1, 79], dim)
    by_keys = knn(pos, layout, 5)
    monkeypatch.setattr(module, "_suits_keys", lambda pos: False)
    assert torch.equal(by_keys, knn(pos, layout, 5))


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
