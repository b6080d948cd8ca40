"""The canonical order of particles: a score is the same in whichever order they are stored."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest
import torch

import pcloud
from pcloud.batch import JetDataset, JetLoader
from pcloud.interpret.attribution import attribute
from pcloud.io.jets import MOMENTUM
from pcloud.order import (
    canonical_order,
    canonical_order_of_one_jet,
    canonical_order_of_padded,
    stable_order,
)
from tests.jets import on_a_grid, shuffled

pytestmark = pytest.mark.rounding


@pytest.fixture(scope="module", params=["as measured", "on a grid", "with coinciding particles"])
def jets(request):
    jets = pcloud.load_dataset("simulated", "test")[:500]
    counts = ak.num(jets.p4, axis=1)
    charge = np.random.default_rng(0).integers(-1, 2, int(ak.sum(counts)))
    jets = ak.with_field(jets, ak.unflatten(charge, counts), "charge")
    if request.param == "as measured":
        return jets
    grid = on_a_grid(jets)
    if request.param == "on a grid":
        return grid
    twice = {name: ak.concatenate([grid[name]] * 2, axis=1) for name in ("p4", "charge")}
    return ak.Array(ak.zip({**twice, "label": grid.label}, depth_limit=1), attrs=jets.attrs)


def test_a_data_set_does_not_depend_on_the_order_of_particles(jets):
    features = ["log_pt", "log_energy_rel", "delta_r", "deta", "dphi", "charge"]
    expected = JetDataset(jets, features)
    for seed in range(3):
        data = JetDataset(shuffled(jets, seed)[0], features)
        assert torch.equal(data.x, expected.x)
        assert torch.equal(data.p4, expected.p4)
        assert data.order is not None


def test_the_order_is_by_pt_then_momentum_then_columns(jets):
    mixed, _ = shuffled(jets[:50], 0)
    p4 = torch.tensor(np.stack([ak.flatten(mixed.p4[c]).to_numpy() for c in MOMENTUM], 1))
    charge = torch.tensor(ak.flatten(mixed.charge).to_numpy())
    ptr = torch.tensor(np.cumsum([0, *ak.num(mixed.p4)]))
    order = canonical_order(p4, ptr, [charge])
    rows = torch.cat([p4.double(), charge.double().unsqueeze(1)], 1).tolist()
    for first, last in zip(ptr[:-1].tolist(), ptr[1:].tolist(), strict=True):
        keys = [(-(r[1] ** 2 + r[2] ** 2), *r) for r in rows[first:last]]
        assert [keys[i - first] for i in order[first:last].tolist()] == sorted(keys)
        one = canonical_order_of_one_jet(p4[first:last], charge[first:last].unsqueeze(1))
        assert [keys[i] for i in one.tolist()] == sorted(keys)


def test_jets_in_canonical_order_are_not_sorted_again(jets):
    data = JetDataset(shuffled(jets[:50], 0)[0])
    counts = data.ptr.diff().numpy()
    columns = {c: ak.unflatten(data.p4[:, i].numpy(), counts) for i, c in enumerate(MOMENTUM)}
    again = JetDataset(ak.zip({"p4": ak.zip(columns)}, depth_limit=1))
    assert torch.equal(again.p4, data.p4)
    ties = (data.p4[1:, 1:3] == data.p4[:-1, 1:3]).all(1).any()
    assert again.order is None or ties


def test_values_of_particles_return_to_the_order_of_the_input(jets):
    mixed, _ = shuffled(jets[:50], 0)
    data = JetDataset(mixed)
    px = torch.tensor(ak.flatten(mixed.p4.px).to_numpy())
    assert torch.equal(data.in_input_order(data.p4[:, 1]), px)
    assert torch.equal(data.in_order(px), data.p4[:, 1])


@pytest.mark.parametrize("method", ["saliency", "occlusion"])
def test_an_attribution_is_in_the_order_of_the_input(method):
    if method == "saliency":
        pytest.importorskip("captum", reason="extra 'trust' is not installed")
    torch.manual_seed(0)
    model = pcloud.build_model("pfn", 7).eval()
    jets = pcloud.load_dataset("simulated", "test")[:5]
    mixed, order = shuffled(jets, 0)
    counts = ak.num(jets.p4)
    here = ak.unflatten(attribute(model, jets, method).per_particle, counts)
    there = ak.unflatten(attribute(model, mixed, method).per_particle, counts)
    np.testing.assert_allclose(ak.flatten(there), ak.flatten(here[order]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["particlenet_lite", "dgcnn"])
@torch.no_grad()
def test_scores_on_a_grid_do_not_depend_on_the_batch(name):
    torch.manual_seed(0)
    model = pcloud.build_model(name, 7).eval()
    data = JetDataset(on_a_grid(pcloud.load_dataset("simulated", "test")[:200]))
    few, many = (
        torch.cat([model(b.x, b.p4, b.batch) for b in JetLoader(data, size)]) for size in (7, 200)
    )
    different = (few.softmax(1) - many.softmax(1)).abs().amax(1) > 1e-4
    assert different.sum() <= 1  # a feature that rounds otherwise may change a neighbour


def test_padded_jets_have_the_same_order_wherever_their_padding_stands(jets):
    p4 = torch.from_numpy(np.stack([ak.flatten(jets.p4[name]).to_numpy() for name in MOMENTUM], -1))
    charge = torch.from_numpy(ak.flatten(jets.charge).to_numpy().astype(np.float32))
    counts = torch.from_numpy(ak.num(jets.p4, axis=1).to_numpy())
    ptr = torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)])
    order = canonical_order(p4, ptr, [charge])
    rows = p4 if order is None else p4[order]
    mask = torch.arange(int(counts.max()) + 3) < counts.unsqueeze(1)
    slots = torch.stack([torch.randperm(mask.shape[1]) for _ in counts])
    mask = mask.gather(1, slots)
    dense = torch.full((*mask.shape, 4), 7.0, dtype=p4.dtype)
    dense[mask] = p4
    columns = torch.zeros(mask.shape).masked_scatter(mask, charge)
    found = canonical_order_of_padded(dense, mask, [columns])
    ordered = dense.gather(1, found.unsqueeze(-1).expand(-1, -1, 4))
    first = torch.arange(mask.shape[1]) < counts.unsqueeze(1)
    assert torch.equal(ordered[first], rows)
    assert torch.equal(mask.gather(1, found), first)


def test_several_keys_sort_as_in_numpy():
    keys = torch.randint(3, (3, 5, 40))
    expected = np.stack([np.lexsort(keys[:, i].flip(0).numpy()) for i in range(5)])
    assert np.array_equal(stable_order([*keys]).numpy(), expected)
    with pytest.raises(ValueError, match="at least one key"):
        stable_order([])


@pytest.mark.parametrize("num_jets", [1, 2, 40, 5000])
@pytest.mark.parametrize("kind", ["any", "equal", "last bits", "tiny"])
def test_the_integer_key_sorts_as_all_keys_do(num_jets, kind):
    """Also pT that differ only in bits for which the key has no room."""
    generator = torch.Generator().manual_seed(num_jets)
    counts = torch.randint(0, 9, (num_jets,), generator=generator)
    ptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    p4 = torch.randn(int(ptr[-1]), 4, generator=generator, dtype=torch.float64)
    if kind == "last bits":
        p4[:, 1:3] = 1 + 1e-15 * p4[:, 1:3]
    elif kind != "any":
        p4[:, 1:3] *= {"equal": 0.0, "tiny": 1e-160}[kind]
    jet = np.repeat(np.arange(num_jets), counts)
    pt2 = (p4[:, 1] ** 2 + p4[:, 2] ** 2).numpy()
    expected = np.lexsort((*p4.numpy().T[::-1], -pt2, jet))
    order = canonical_order(p4, ptr)
    found = np.arange(len(p4)) if order is None else order.numpy()
    assert np.array_equal(found, expected)


def test_a_momentum_that_is_no_number_stays_in_its_jet():
    p4 = torch.arange(24.0, dtype=torch.float64).view(6, 4)
    p4[1, 1] = -torch.tensor(float("nan"))
    order = canonical_order(p4, torch.tensor([0, 3, 6]))
    assert order is not None
    assert set(order[:3].tolist()) == {0, 1, 2}
