"""Data set and loader: what PyG itself makes of the same jets, in the order promised."""

from __future__ import annotations

import os
import subprocess
import sys

import awkward as ak
import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, random_split
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader

import pcloud
from pcloud.batch import JetDataset, JetLoader
from pcloud.errors import InputError, UnknownNameError
from pcloud.features import FeatureSet, feature_set


def make_jets(counts, seed: int = 0, label: bool = True) -> ak.Array:
    rng = np.random.default_rng(seed)
    p = rng.normal(size=(sum(counts), 3)).astype(np.float32) * 20
    columns = {"E": np.linalg.norm(p, axis=1), "px": p[:, 0], "py": p[:, 1], "pz": p[:, 2]}
    fields = {"p4": ak.unflatten(ak.zip(columns, with_name="Momentum4D"), counts)}
    if label:
        fields["label"] = rng.integers(0, 2, len(counts))
    return ak.Array(ak.zip(fields, depth_limit=1), attrs={"classes": ["qcd", "top"]})


COUNTS = [3, 1, 40, 7, 12, 5, 2, 9, 30, 4]


def test_items_are_pyg_data():
    jets = make_jets(COUNTS)
    data = JetDataset(jets)
    assert len(data) == 10
    assert data.classes == ["qcd", "top"]
    item = data[2]
    assert isinstance(item, Data)
    assert item.x.shape == (40, 7)
    assert item.y.tolist() == [jets.label[2]]
    by_pt = ak.argsort(-np.hypot(jets.p4[2].px, jets.p4[2].py))
    np.testing.assert_array_equal(item.p4[:, 1], jets.p4[2].px[by_pt])
    assert data[-1].x.shape == (4, 7)


def test_our_batches_equal_those_of_pyg():
    data = JetDataset(make_jets(COUNTS))
    for ours, pyg in zip(JetLoader(data, 4), DataLoader(data, 4), strict=True):
        assert isinstance(ours, Batch)
        assert ours.num_graphs == pyg.num_graphs
        for key in ("x", "p4", "y", "batch", "ptr"):
            assert torch.equal(ours[key], pyg[key]), key


def test_batches_split_into_their_jets():
    data = JetDataset(make_jets(COUNTS))
    items = [item for batch in JetLoader(data, 4) for item in batch.to_data_list()]
    assert len(items) == 10
    for item, expected in zip(items, data, strict=True):
        assert item.keys() == expected.keys()
        assert torch.equal(item.x, expected.x)
        assert torch.equal(item.y, expected.y)
    batch = next(iter(JetLoader(data, 4)))
    assert torch.equal(batch[2].p4, data[2].p4)


def test_every_epoch_holds_every_jet_once_in_another_order():
    data = JetDataset(make_jets(COUNTS))
    loader = JetLoader(data, 3, shuffle=True, seed=5)
    epochs = [torch.cat([b.x[b.ptr[:-1], 0] for b in loader]).tolist() for _ in range(3)]
    everything = sorted(data.x[data.ptr[:-1], 0].tolist())
    assert all(sorted(epoch) == everything for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    again = JetLoader(data, 3, shuffle=True, seed=5)
    assert torch.cat([b.x[b.ptr[:-1], 0] for b in again]).tolist() == epochs[0]
    other = JetLoader(data, 3, shuffle=True, seed=6)
    assert torch.cat([b.x[b.ptr[:-1], 0] for b in other]).tolist() != epochs[0]


def test_a_loader_continues_in_the_middle_of_an_epoch():
    data = JetDataset(make_jets(COUNTS))
    loader = JetLoader(data, 3, shuffle=True, seed=5)
    list(loader)
    stream = iter(loader)
    next(stream)
    state = loader.state_dict()
    rest = [batch.y for batch in stream]
    other = JetLoader(data, 3, shuffle=True, seed=5)
    other.load_state_dict(state)
    continued = [batch.y for batch in other]
    assert len(continued) == 3
    assert all(torch.equal(a, b) for a, b in zip(rest, continued, strict=True))
    assert other.state_dict() == loader.state_dict() == {"epoch": 2, "next": 0}


def test_an_abandoned_epoch_starts_anew():
    loader = JetLoader(JetDataset(make_jets(COUNTS)), 3)
    for _ in loader:
        break
    assert len(list(loader)) == len(loader) == 4


def test_lengths():
    data = JetDataset(make_jets(COUNTS))
    assert len(JetLoader(data, 4)) == 3
    assert (
        len(JetLoader(data, 4, drop_last=True))
        == 2
        == len(list(JetLoader(data, 4, drop_last=True)))
    )
    assert len(list(JetLoader(data[:5], 4))) == 2
    assert torch.cat([b.y for b in JetLoader(data[5:], 4)]).tolist() == data.y[5:].tolist()


def test_unlabelled_jets_have_no_y():
    data = JetDataset(make_jets(COUNTS, label=False))
    assert data.y is None
    batch = next(iter(JetLoader(data, 4)))
    assert "y" not in batch
    assert len(batch.to_data_list()) == 4


def test_double_precision_momenta_are_kept():
    jets = make_jets(COUNTS)
    double = ak.with_field(jets, ak.values_astype(jets.p4, np.float64), "p4")
    data = JetDataset(double)
    assert data.p4.dtype == torch.float64
    assert data.x.dtype == torch.float32


def test_stored_angles_take_the_place_of_computed_ones():
    jets = make_jets(COUNTS)
    jets["stored_deta"] = ak.zeros_like(jets.p4.px) + 0.25
    assert (JetDataset(jets).x[:, 5] == 0.25).all()


def test_columns_called_deta_are_used_by_feature_sets_of_older_versions_only():
    jets = make_jets(COUNTS)
    computed = JetDataset(jets).x
    jets["deta"] = ak.zeros_like(jets.p4.px) + 0.25
    assert torch.equal(JetDataset(jets).x, computed)
    stored = feature_set("kin").to_dict()
    assert FeatureSet.from_dict(stored) == feature_set("kin")
    del stored["angles"]
    assert (JetDataset(jets, FeatureSet.from_dict(stored)).x[:, 5] == 0.25).all()


def test_bad_jets_are_refused():
    with pytest.raises(InputError, match="1 of 3 jets have no particles, the first is jet 1"):
        JetDataset(make_jets([3, 0, 2]))
    with pytest.raises(InputError, match="no jets"):
        JetDataset(make_jets([3])[:0])
    with pytest.raises(UnknownNameError, match="'charge'"):
        JetDataset(make_jets([3]), features="kinpid")
    with pytest.raises(InputError, match="at least 1, got 0"):
        JetLoader(JetDataset(make_jets([3])), 0)


def test_attributes_of_a_part_are_those_of_its_jets():
    data = JetDataset(make_jets(COUNTS))
    data.teacher = torch.randn(10, 2)
    mask = torch.tensor([True, False] * 5)
    for part in (data.shuffle(), data[[7, 2, 5]], data[:4], data[mask], data[3:][1:4], data.copy()):
        items = [part[i] for i in range(len(part))]
        assert torch.equal(part.y, torch.cat([item.y for item in items]))
        assert torch.equal(part.x, torch.cat([item.x for item in items]))
        assert part.ptr.diff().tolist() == [len(item.x) for item in items]
        assert len(part.teacher) == len(part)
        loaded = list(JetLoader(part, 3))
        assert torch.equal(part.p4, torch.cat([batch.p4 for batch in loaded]))
        assert torch.equal(part.teacher, torch.cat([batch.teacher for batch in loaded]))
    assert torch.equal(
        data[[7, 2]].in_order(data[[7, 2]].in_input_order(data[[7, 2]].x)), data[[7, 2]].x
    )


def test_parts_made_by_pytorch_are_loaded():
    data = JetDataset(make_jets(COUNTS))
    first, second = random_split(data, [6, 4], generator=torch.Generator().manual_seed(0))
    labels = torch.cat([batch.y for batch in JetLoader(first, 4)])
    assert torch.equal(labels, data.y[torch.tensor(first.indices)])
    both = JetLoader(ConcatDataset([first, second]), 10)
    (batch,) = both
    indices = torch.tensor([*first.indices, *second.indices])
    assert torch.equal(batch.y, data.y[indices])
    assert torch.equal(batch.x, data[indices].x)
    with pytest.raises(InputError, match=r"takes a JetDataset, .* not list"):
        JetLoader([1, 2])
    with pytest.raises(InputError, match="only some of the data sets have y"):
        JetLoader(ConcatDataset([data, JetDataset(make_jets(COUNTS, label=False))]))


def test_a_data_set_and_its_loader_say_what_they_are():
    data = JetDataset(make_jets(COUNTS))
    number = int((data.y == 0).sum())
    assert "10, 1 to 40 particles, mean 11.3" in repr(data)
    assert f"{number} qcd, {10 - number} top" in repr(data)
    assert "log_pt_rel" in repr(data.feature_set)
    assert "<td>relative" not in data._repr_html_()
    assert "relative to the sum of the particles" in data.feature_set._repr_html_()
    loader = JetLoader(data[:8], batch_size=4, shuffle=True, seed=3)
    assert "<td>shuffled with seed 3</td>" in loader._repr_html_()
    next(iter(loader))
    assert repr(loader) == (
        "JetLoader(2 batches of 4 jets out of 8, shuffled with seed 3; at epoch 0, batch 1)"
    )
    assert "classes" not in repr(JetDataset(make_jets([2], label=False)))


@pytest.mark.parametrize("chunk", [1, 3, 4, 100])
def test_a_data_set_does_not_depend_on_the_chunks_it_is_made_in(monkeypatch, chunk):
    jets = make_jets(COUNTS)
    pid = np.resize([22, 211, -11, 130, 13], sum(COUNTS)).astype(np.int32)
    jets = ak.with_field(jets, ak.unflatten(pid, COUNTS), "pid")
    whole = JetDataset(jets, "kinpid")
    monkeypatch.setattr("pcloud.batch.dataset._CHUNK_JETS", chunk)
    made = JetDataset(jets, "kinpid")
    for name in ("x", "p4", "y", "ptr", "order"):
        assert torch.equal(getattr(made, name), getattr(whole, name))


def test_sorted_jets_have_no_order_whatever_the_chunks(monkeypatch):
    jets = make_jets(COUNTS)
    order = ak.argsort(-np.hypot(jets.p4.px, jets.p4.py), axis=1)
    jets = ak.with_field(jets, jets.p4[order], "p4")
    assert JetDataset(jets).order is None
    monkeypatch.setattr("pcloud.batch.dataset._CHUNK_JETS", 3)
    assert JetDataset(jets).order is None
    mixed = ak.concatenate([jets, make_jets(COUNTS, seed=1)])
    order = JetDataset(mixed).order
    assert torch.equal(order[: sum(COUNTS)], torch.arange(sum(COUNTS)))


def test_parts_are_selected_in_every_way():
    data = JetDataset(make_jets(COUNTS))
    mask = np.arange(10) % 3 == 0
    expected = [0, 3, 6, 9]
    for index in (mask, torch.from_numpy(mask), np.flatnonzero(mask), expected, slice(0, 10, 3)):
        part = data[index]
        assert len(part) == 4
        assert torch.equal(part.y, data.y[expected])
    assert torch.equal(data[np.array([-1, 0])].y, data.y[[-1, 0]])
    assert torch.equal(data[::-1].y, data.y.flip(0))
    assert torch.equal(data[:0.5].y, data.y[:5])
    assert len(data[np.array([])]) == len(data[torch.zeros(0, dtype=torch.bool)[:0]]) == 0
    with pytest.raises(IndexError):
        data[np.array([10])]


_MEMORY = """
import re, sys
from pathlib import Path
import awkward as ak, numpy as np, torch
import pcloud, pcloud.batch.dataset
from pcloud.io.jets import FlatJets

torch.set_num_threads(1)
num, length = int(sys.argv[1]), 100
pcloud.batch.dataset._CHUNK_JETS = 500
pz = np.random.default_rng(0).normal(0, 10, num * length).astype(np.float32)
one = np.ones_like(pz)
flat = FlatJets(np.arange(num + 1) * length, (np.sqrt(pz**2 + 2), one, one, pz))
jets = flat.to_awkward()
pcloud.JetDataset(jets[:1000], "kin")
status = lambda name: int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS")
data = pcloud.JetDataset(jets, "kin")
print(1024 * (status("VmHWM") - before) / (num * length))
"""


@pytest.mark.once
@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory from /proc")
def test_a_data_set_needs_little_more_memory_than_it_holds():
    """44 bytes a particle are held, and 8 more for the order of the input."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("the peak memory cannot be reset")
    command = [sys.executable, "-c", _MEMORY, "20000"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert float(done.stdout) < 80


def test_a_column_per_jet_is_a_feature_of_each_of_its_particles():
    jets = pcloud.load_dataset("simulated", "test")[:20]
    total = np.asarray(ak.sum(jets.p4.px, axis=1)) / 100
    jets = ak.with_field(jets, total, "recoil")
    by_hand = ak.with_field(jets, ak.broadcast_arrays(total, jets.p4.px)[0], "recoil")
    data, expected = (JetDataset(j, ["log_pt", "recoil"]) for j in (jets, by_hand))
    assert torch.equal(data.x, expected.x)
    assert torch.equal(
        data.x[:, 1], torch.from_numpy(total).float().repeat_interleave(data.ptr.diff())
    )


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("label", lambda jets: jets.label),
        ("words", lambda jets: ["word"] * len(jets)),
        ("p4", lambda jets: jets.p4),
        ("others", lambda jets: [[1.0]] * len(jets)),
        ("missing", lambda jets: [None, *range(len(jets) - 1)]),
    ],
)
def test_columns_that_are_no_features_are_an_error_of_one_line(column, values):
    jets = pcloud.load_dataset("simulated", "test")[:5]
    if column not in jets.fields:
        jets = ak.with_field(jets, ak.Array(values(jets)), column)
    with pytest.raises(InputError, match=r"cannot be a feature|does not hold one number"):
        JetDataset(jets, ["log_pt", column])
