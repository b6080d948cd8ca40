"""Which jets a training sees."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest

from pcloud.datasets import load_dataset
from pcloud.errors import InputError, UnknownNameError
from pcloud.features import feature_set
from pcloud.io import BadJetWarning, FlatJets, write_jets
from pcloud.io.read import JetStream, rechunk
from pcloud.training import TrainConfig
from pcloud.training.data import iter_split, load_jets, load_splits, load_training_data
from tests.training.conftest import make_jets


def configure(data: Any, **options: Any) -> TrainConfig:
    return TrainConfig.from_dict({"data": data, "model": "pfn", "out": "unused"} | options)


def keys(jets: ak.Array) -> set[float]:
    """A number that tells each jet from all others."""
    return set(np.asarray(ak.sum(jets.p4.E, axis=1)).tolist())


def test_a_file_is_split_into_parts_that_share_no_jet(jet_file: Path) -> None:
    train, val, test = load_splits(configure(jet_file), "train", "val", "test")
    assert (len(train), len(val), len(test)) == (400, 50, 50)
    assert len(keys(train) | keys(val) | keys(test)) == 500
    assert train.attrs["classes"] == ["a", "b"]


def test_the_split_depends_on_split_seed_alone(jet_file: Path) -> None:
    (first,) = load_splits(configure(jet_file, seed=1), "test")
    (second,) = load_splits(configure(jet_file, seed=2), "test")
    (other,) = load_splits(configure(jet_file, split_seed=1), "test")
    assert keys(first) == keys(second) != keys(other)


def test_a_named_validation_file_leaves_all_training_jets_for_training(
    jet_file: Path, tmp_path: Path
) -> None:
    write_jets(make_jets(70, seed=1), tmp_path / "val.parquet")
    config = configure(jet_file, val=tmp_path / "val.parquet")
    train, val = load_splits(config, "train", "val")
    assert (len(train), len(val)) == (500, 70)
    with pytest.raises(InputError, match="no test jets"):
        load_splits(config, "test")


def test_a_named_test_file_leaves_validation_to_be_split_off(
    jet_file: Path, tmp_path: Path
) -> None:
    write_jets(make_jets(70, seed=1), tmp_path / "test.parquet")
    config = configure(jet_file, test=tmp_path / "test.parquet", val_fraction=0.2)
    assert [len(j) for j in load_splits(config, "train", "val", "test")] == [400, 100, 70]


@pytest.mark.usefixtures("small_sample")
def test_a_data_set_keeps_its_own_splits() -> None:
    train, val = load_splits(configure("simulated"), "train", "val")
    assert len(train) == len(load_dataset("simulated", "train"))
    assert keys(val) == keys(load_dataset("simulated", "val"))


def test_several_files_and_globs_are_one_sample(tmp_path: Path) -> None:
    for i in range(3):
        write_jets(make_jets(20, seed=i), tmp_path / f"{i}.parquet")
    config = configure(tmp_path / "*.parquet")
    listed = configure([tmp_path / f"{i}.parquet" for i in range(3)])
    assert len(load_jets(config.data, config)) == 60
    assert keys(load_jets(listed.data, listed)) == keys(load_jets(config.data, config))


@pytest.mark.parametrize("number", [1, 120, 400, 1000])
def test_jets_are_drawn_at_random_whatever_the_chunks(
    jet_file: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure(jet_file)
    whole = load_jets(config.data, config)
    drawn = load_jets(config.data, config, limit=number)
    assert len(drawn) == min(number, 500)
    assert keys(drawn) <= keys(whole)
    order = np.isin(np.asarray(ak.sum(whole.p4.E, axis=1)), list(keys(drawn)))
    assert ak.all(whole[order].p4.E == drawn.p4.E)  # in the order of the file
    assert drawn.attrs["classes"] == ["a", "b"]

    pieces = JetStream.pieces
    monkeypatch.setattr(JetStream, "pieces", lambda stream: rechunk(pieces(stream), 37))
    assert keys(load_jets(config.data, config, limit=number)) == keys(drawn)


@pytest.mark.parametrize("options", [{}, {"max_jets": 60, "max_val_jets": 11}])
def test_splits_do_not_depend_on_the_pieces_that_are_read(
    jet_file: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("train", "val", "test")
    config = configure(jet_file, **options)
    whole = load_splits(config, *names)
    assert [len(jets) for jets in whole] == ([60, 11, 50] if options else [400, 50, 50])
    pieces = JetStream.pieces
    monkeypatch.setattr(JetStream, "pieces", lambda stream: rechunk(pieces(stream), 37))
    for name, expected, jets in zip(names, whole, load_splits(config, *names), strict=True):
        assert ak.array_equal(jets, expected, check_parameters=False)
        chunks = list(iter_split(config, name, 9))
        assert {len(chunk) for chunk in chunks[:-1]} <= {9}
        assert ak.array_equal(ak.concatenate(chunks), expected, check_parameters=False)


def test_jets_that_are_dropped_are_in_no_split(tmp_path: Path) -> None:
    jets = make_jets(100)
    write_jets(jets, tmp_path / "jets.npz")
    arrays = dict(np.load(tmp_path / "jets.npz"))
    arrays["p4"][0, 0] = np.nan
    np.savez(tmp_path / "jets.npz", **arrays)
    config = configure(tmp_path / "jets.npz", on_bad_jet="drop")
    with pytest.warns(BadJetWarning, match="dropped 1 of 100") as warned:
        parts = load_splits(config, "train", "val", "test")
    assert len(warned) == 1
    assert [len(part) for part in parts] == [79, 10, 10]
    assert len(set.union(*map(keys, parts))) == 99


def test_few_jets_of_a_large_file_need_little_memory(tmp_path: Path) -> None:
    write_jets(ak.concatenate([make_jets(2000)] * 10), tmp_path / "jets.npz")
    whole = 10 * FlatJets.from_awkward(make_jets(2000)).nbytes
    peaks = {}
    for limit in (50, 10_000):
        config = configure(tmp_path / "jets.npz", max_jets=limit, max_val_jets=50)
        tracemalloc.start()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("pcloud.io.layouts._RANGE_JETS", 500)
            train, val = load_splits(config, "train", "val")
        peaks[limit] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (len(train), len(val)) == (limit, 50)
    assert peaks[50] < 0.4 * whole < peaks[10_000]


def test_only_the_columns_of_the_features_are_read(tmp_path: Path) -> None:
    number = 12 * 500
    extra = {name: np.ones(number, dtype=np.float32) for name in ("charge", "d0", "spare", "deta")}
    write_jets(make_jets(500, **extra), tmp_path / "jets.parquet")
    config = configure(tmp_path / "jets.parquet", features=["log_pt", "charge"])
    (jets,) = load_splits(config, "val")
    assert set(jets.fields) == {"p4", "charge", "deta", "label"}
    assert set(load_training_data(config).columns) == {*jets.fields, "d0", "spare"}
    (jets,) = load_splits(config, "val", features=feature_set(["tanh_d0"]))
    assert set(jets.fields) == {"p4", "d0", "deta", "label"}


def test_training_jets_that_do_not_fit_into_the_memory_are_refused(
    jet_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure(jet_file)
    need = FlatJets.from_awkward(load_jets(config.data, config)).nbytes
    monkeypatch.setattr("pcloud.memory.free_memory", lambda: 2 * need)
    assert len(load_jets(config.data, config)) == 500
    with pytest.raises(InputError, match="450 jets need about"):
        load_training_data(config)  # the features need more than twice as much
    few = configure(jet_file, max_jets=50, max_val_jets=50)
    assert len(load_training_data(few).train) == 50


def test_drawing_is_fair_to_all_places_in_a_file(tmp_path: Path) -> None:
    """Public files come in runs of one class: the first so many jets would be one class."""
    jets = make_jets(500)
    write_jets(jets[np.argsort(jets.label)], tmp_path / "sorted.parquet")
    config = configure(tmp_path / "sorted.parquet")
    shares = [
        np.mean(load_jets(config.data, configure(config.data, split_seed=i), limit=100).label)
        for i in range(20)
    ]
    assert np.mean(shares) == pytest.approx(np.mean(jets.label), abs=0.03)


def test_max_jets_limits_training_jets_only(jet_file: Path) -> None:
    train, val, test = load_splits(configure(jet_file, max_jets=33), "train", "val", "test")
    assert (len(train), len(val), len(test)) == (33, 50, 50)
    (val,) = load_splits(configure(jet_file, max_val_jets=7), "val")
    assert len(val) == 7


def _changed(change: str) -> ak.Array:
    jets = make_jets(100)
    if change == "one class":
        return jets[jets.label == 1]
    if change == "no label":
        return ak.without_field(jets, "label")
    if change == "label out of range":
        return ak.with_field(jets, np.where(np.arange(100) == 7, 5, jets.label), "label")
    raise AssertionError(change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("one class", "all .* training jets are 'b'"),
        ("no label", "the training jets have no labels"),
        ("label out of range", "label"),
    ],
)
def test_jets_that_cannot_be_learned_from_are_refused(
    change: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pcloud.clouds import Clouds

    monkeypatch.setattr(Clouds, "chunks", lambda *args, **options: (100, [_changed(change)]))
    with pytest.raises(InputError, match=message):
        load_training_data(configure(tmp_path))


def test_features_that_the_jets_cannot_give_are_all_named(jet_file: Path) -> None:
    with pytest.raises(InputError, match="need charge, d0, which the training jets do not have"):
        load_training_data(configure(jet_file, features=["log_pt", "charge", "tanh_d0"]))


def test_validation_jets_of_other_classes_are_refused(jet_file: Path, tmp_path: Path) -> None:
    jets = make_jets(100)
    jets.attrs["classes"] = ["b", "a"]
    write_jets(jets, tmp_path / "val.parquet")
    with pytest.raises(InputError, match="validation jets have the classes b, a"):
        load_training_data(configure(jet_file, val=tmp_path / "val.parquet"))


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("simulatd", UnknownNameError, "did you mean 'simulated'"),
        ("absent.h5", FileNotFoundError, "absent.h5"),
        ("folder/*.root", FileNotFoundError, "folder"),
    ],
)
def test_jets_that_are_not_there_are_named(
    source: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        load_training_data(configure(source))


def test_the_fingerprint_notices_other_jets(jet_file: Path) -> None:
    config = configure(jet_file)
    same = load_training_data(config).fingerprint
    assert load_training_data(config).fingerprint == same
    assert load_training_data(configure(jet_file, split_seed=1)).fingerprint != same
