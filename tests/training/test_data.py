"""Which jets a training sees."""

from __future__ import annotations

import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest

from pcloud.datasets import load_dataset
from pcloud.errors import InputError, UnknownNameError
from pcloud.features import feature_set
from pcloud.io import BadJetWarning, FlatJets, read_jets, write_jets
from pcloud.io.read import JetFiles, rechunk
from pcloud.keys import keys_of
from pcloud.modality import find_modality
from pcloud.training import TrainConfig
from pcloud.training.data import iter_split, load_jets, load_splits, load_training_data
from pcloud.training.doubts import DoubtfulJetsWarning
from pcloud.training.splits import rechunk as split_chunks
from tests.training.conftest import make_jets


def configure(data: Any, **options: Any) -> TrainConfig:
    return TrainConfig.from_dict({"data": data, "model": "pfn", "out": "unused"} | options)


def keys(jets: ak.Array) -> set[float]:
    """A number that tells each jet from all others."""
    return set(np.asarray(ak.sum(jets.p4.E, axis=1)).tolist())


def test_a_file_is_split_into_parts_that_share_no_jet(jet_file: Path) -> None:
    train, val, test = load_splits(configure(jet_file), "train", "val", "test")
    assert len(train) + len(val) + len(test) == 500
    assert [len(val), len(test)] == pytest.approx([50, 50], abs=20)  # three standard deviations
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
    train, val, test = load_splits(config, "train", "val", "test")
    assert (len(train) + len(val), len(test)) == (500, 70)
    assert len(val) == pytest.approx(100, abs=27)


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

    pieces = JetFiles.pieces
    monkeypatch.setattr(JetFiles, "pieces", lambda stream: rechunk(pieces(stream), 37))
    assert keys(load_jets(config.data, config, limit=number)) == keys(drawn)


@pytest.mark.parametrize("options", [{}, {"max_jets": 60, "max_val_jets": 11}])
def test_splits_do_not_depend_on_the_pieces_that_are_read(
    jet_file: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("train", "val", "test")
    config = configure(jet_file, **options)
    whole = load_splits(config, *names)
    assert [len(jets) for jets in whole] == ([60, 11, 45] if options else [404, 51, 45])
    pieces = JetFiles.pieces
    monkeypatch.setattr(JetFiles, "pieces", lambda stream: rechunk(pieces(stream), 37))
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
    assert sum(len(part) for part in parts) == 99
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
    extra = {
        name: np.ones(number, dtype=np.float32) for name in ("charge", "d0", "spare", "stored_deta")
    }
    write_jets(make_jets(500, **extra), tmp_path / "jets.parquet")
    config = configure(tmp_path / "jets.parquet", features=["log_pt", "charge"])
    (jets,) = load_splits(config, "val")
    used = {"p4", "charge", "stored_deta", "label"}
    assert set(jets.fields) == used | {"split_key", "entry"}
    assert set(load_training_data(config).columns) == used | {"d0", "spare"}
    (jets,) = load_splits(config, "val", inputs=feature_set(["tanh_d0"]))
    assert set(jets.fields) == used | {"d0", "split_key", "entry"}


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
    whole = load_splits(configure(jet_file), "train", "val", "test")
    train, val, test = load_splits(configure(jet_file, max_jets=33), "train", "val", "test")
    assert (len(train), len(val), len(test)) == (33, len(whole[1]), len(whole[2]))
    assert keys(train) < keys(whole[0])
    (val,) = load_splits(configure(jet_file, max_val_jets=7), "val")
    assert len(val) == 7


def _changed(change: str) -> ak.Array:
    jets = make_jets(100)
    if change == "one class":
        return jets[jets.label == 1]
    if change == "no label":
        return ak.without_field(jets, "label")
    if change == "label out of range":
        return ak.with_field(jets, np.where(np.arange(100) % 10 == 7, 5, jets.label), "label")
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
    same = load_training_data(config).identity.plain()
    assert same.keys() == {"train", "val", "test"}
    assert load_training_data(config).identity.plain() == same
    assert load_training_data(configure(jet_file, split_seed=1)).identity.plain() != same


# Splits by keys


def loaded(config: TrainConfig) -> dict[str, set[float]]:
    names = ("train", "val", "test")
    return dict(zip(names, map(keys, load_splits(config, *names)), strict=True))


def test_no_jet_moves_when_files_are_added_renamed_or_reordered(tmp_path: Path) -> None:
    jets = make_jets(900)
    folder = tmp_path / "data"
    folder.mkdir()
    write_jets(jets[:400], folder / "b.parquet")
    write_jets(jets[400:600], folder / "c.npz")
    before = loaded(configure(folder))
    write_jets(jets[600:][::-1], folder / "a.parquet")
    after = loaded(configure(folder))
    for name, found in before.items():
        assert found < after[name]
    (folder / "b.parquet").rename(folder / "z.parquet")
    assert loaded(configure(folder)) == after
    turned = [folder / name for name in ("z.parquet", "a.parquet", "c.npz")]
    assert loaded(configure(turned)) == after


def test_a_file_of_another_precision_or_order_of_particles_has_the_same_splits(
    jet_file: Path, tmp_path: Path
) -> None:
    jets = read_jets(jet_file)
    order = ak.argsort(jets.p4.pz, axis=1)
    p4 = ak.zip({c: ak.values_astype(jets.p4[c], np.float64)[order] for c in ak.fields(jets.p4)})
    other = ak.zip({"p4": p4, "label": jets.label}, depth_limit=1)
    write_jets(other, tmp_path / "other.parquet")
    for ours, theirs in zip(
        load_splits(configure(jet_file), "train", "test"),
        load_splits(configure(tmp_path / "other.parquet"), "train", "test"),
        strict=True,
    ):
        np.testing.assert_array_equal(ak.num(ours.p4), ak.num(theirs.p4))


@pytest.mark.parametrize("limit", [1, 40, 399])
def test_a_draw_depends_on_neither_chunks_nor_files(
    limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pcloud import clouds

    jets = make_jets(500)
    jets = ak.concatenate([jets, jets[100:300]])  # ties
    write_jets(jets[:300], tmp_path / "a.parquet")
    write_jets(jets[300:], tmp_path / "b.parquet")
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    drawn = load_jets(list(map(str, files)), configure(files), limit=limit)
    assert len(drawn) == limit
    (train,) = load_splits(configure(files, max_jets=limit), "train")
    iter_jets = clouds.iter_jets
    monkeypatch.setattr(clouds, "iter_jets", lambda *a, **k: iter_jets(*a, **k, chunk_size=23))
    again = load_jets(list(map(str, files[::-1])), configure(files), limit=limit)
    assert keys(again) == keys(drawn)
    (other,) = load_splits(configure(files[::-1], max_jets=limit), "train")
    assert keys(other) == keys(train)
    assert other.attrs["classes"] == ["a", "b"]


def test_a_stored_key_keeps_the_jets_of_an_event_together(tmp_path: Path) -> None:
    jets = make_jets(600)
    jets["split_key"] = np.repeat(np.arange(200, dtype=np.uint64), 3)
    write_jets(jets, tmp_path / "jets.parquet")
    found = [
        set(np.asarray(part.split_key).tolist())
        for part in load_splits(configure(tmp_path / "jets.parquet"), "train", "val", "test")
    ]
    assert sum(map(len, found)) == 200
    assert set.union(*found) == set(range(200))


def test_runs_before_keep_their_permutations(jet_file: Path) -> None:
    config = configure(jet_file, split="permutation", max_jets=100)
    jets = read_jets(jet_file)
    order = np.random.default_rng(0).permutation(500)
    train, val, test = load_splits(config, "train", "val", "test")
    part = jets[np.sort(order[:400])]
    chosen = np.sort(np.argpartition(np.random.default_rng(0).random(400), 100)[:100])
    assert ak.all(part.p4.E[chosen] == train.p4.E)
    assert ak.all(jets.p4.E[np.sort(order[400:450])] == val.p4.E)
    assert ak.all(jets.p4.E[np.sort(order[450:])] == test.p4.E)


# Warnings of doubtful jets


def test_files_and_jets_that_are_given_twice_are_counted(jet_file: Path, tmp_path: Path) -> None:
    config = configure([jet_file, jet_file])
    with (
        pytest.warns(DoubtfulJetsWarning, match="1 of the 2 files of data are given more than"),
        pytest.warns(DoubtfulJetsWarning, match=r"\d+ of the \d+ training jets repeat others"),
    ):
        load_training_data(config)
    write_jets(make_jets(60, seed=3), tmp_path / "val.parquet")
    shutil.copy(tmp_path / "val.parquet", tmp_path / "train.parquet")
    config = configure([jet_file, tmp_path / "train.parquet"], val=tmp_path / "val.parquet")
    with pytest.warns(DoubtfulJetsWarning, match="60 of the 60 validation jets are training jets"):
        load_training_data(config)


def test_a_file_for_training_and_testing_is_warned_of(jet_file: Path) -> None:
    with pytest.warns(DoubtfulJetsWarning, match="1 of the 1 test files are training files, too"):
        load_training_data(configure(jet_file, test=jet_file))


def test_equal_jets_with_different_labels_are_counted(tmp_path: Path) -> None:
    jets = make_jets(300)
    again = ak.with_field(jets[:40], np.where(np.arange(40) < 10, 1, 0) ^ jets.label[:40], "label")
    again.attrs["classes"] = ["a", "b"]
    write_jets(ak.concatenate([jets, again]), tmp_path / "jets.parquet")
    config = configure(tmp_path / "jets.parquet")
    with pytest.warns(DoubtfulJetsWarning) as caught:
        data = load_training_data(config)
    (train,) = load_splits(config, "train")
    repeated = len(train) - len(np.unique(np.asarray(train.split_key)))
    flipped = np.isin(np.asarray(train.split_key), keys_of(jets[:10])).sum() // 2
    (said,) = [str(warning.message) for warning in caught]
    assert said == (
        f"{repeated} of the {len(data.train)} training jets repeat others of them; {flipped} jets "
        "occur with different labels"
    )


def test_an_absent_class_and_a_rare_class_are_warned_of(tmp_path: Path) -> None:
    jets = make_jets(500)
    jets = jets[(jets.label == 0) | (np.cumsum(jets.label) <= 12)]
    jets.attrs["classes"] = ["a", "b", "c"]
    write_jets(jets, tmp_path / "jets.parquet")
    with pytest.warns(DoubtfulJetsWarning) as caught:
        load_training_data(configure(tmp_path / "jets.parquet", val_fraction=0.3))
    said = [str(warning.message) for warning in caught]
    assert len(said) == 2
    assert "training jets, only" in said[0]
    assert said[0].endswith("0 of c")
    assert "validation jets, only" in said[1]
    assert " of b, 0 of c" in said[1]


def test_chunks_of_another_size_are_the_same_jets() -> None:
    jets = make_jets(50)
    chunks = [jets[:0], jets[:7], jets[7:7], jets[7:29], jets[29:]]
    for size in (1, 10, 25, 50, 60):
        found = list(split_chunks(find_modality("cloud"), iter(chunks), size))
        assert {len(chunk) for chunk in found[:-1]} <= {size}
        assert ak.array_equal(ak.concatenate(found), jets, check_parameters=False)
        assert found[-1].attrs["classes"] == ["a", "b"]
    (empty,) = split_chunks(find_modality("cloud"), iter(chunks[:1]), 10)
    assert len(empty) == 0
    assert empty.fields == jets.fields


def test_files_by_class_are_read_split_and_written(tmp_path: Path) -> None:
    for i, name in enumerate(("top", "qcd_1", "qcd_2")):
        jets = make_jets(100, seed=i)
        write_jets(
            jets[[field for field in jets.fields if field != "label"]], tmp_path / f"{name}.parquet"
        )
    top = f"top={tmp_path / 'top.parquet'}"
    config = configure([top, f"qcd={tmp_path / 'qcd_*.parquet'}"])
    assert config.data == {
        "top": [str(tmp_path / "top.parquet")],
        "qcd": [str(tmp_path / "qcd_*.parquet")],
    }
    assert TrainConfig.from_dict(config.to_dict()) == config
    parts = load_splits(config, "train", "val", "test")
    assert sum(map(len, parts)) == 300
    assert sum(int(ak.sum(part.label)) for part in parts) == 200
    assert all(part.attrs["classes"] == ["top", "qcd"] for part in parts)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0, 4, 5, 15], r"values 0, 4, 5, 15: 12 of 16 classes have no jets; .*\{'class0': 0, "),
        (range(10**6, 10**6 + 400), r"\d+ different values from 10000\d\d to .*of an event"),
    ],
)
def test_labels_with_gaps_need_names(tmp_path: Path, values: Any, message: str) -> None:
    labels = np.resize(np.array(values), 400)
    jets = make_jets(400)
    jets = ak.with_field(jets, labels, "label")
    write_jets(ak.Array(jets.layout), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=message):
        load_training_data(configure(tmp_path / "a.parquet"))


def test_a_schema_without_momenta_changes_the_detected_one(tmp_path: Path) -> None:
    jets = ak.with_field(make_jets(40), np.arange(40) % 2 * 5, "flavour")
    write_jets(jets, tmp_path / "a.parquet")
    schema = {"label": "flavour", "classes": {"b": 5, "light": 0}}
    (train,) = load_splits(configure(tmp_path / "a.parquet", schema=schema), "train")
    assert train.attrs["classes"] == ["b", "light"]


def test_jets_of_one_event_do_not_repeat_each_other(tmp_path: Path) -> None:
    jets = ak.with_field(make_jets(200), np.arange(200) // 2, "number")
    write_jets(jets[[name for name in jets.fields if name != "split_key"]], tmp_path / "a.npz")
    p4 = {name: f"p4[{i}]" for i, name in enumerate(("E", "px", "py", "pz"))}
    schema = {"p4": p4, "offsets": "offsets", "label": "label", "event": "jet.number"}
    config = configure(tmp_path / "a.npz", schema=schema)
    train, val, test = load_splits(config, "train", "val", "test")
    events = [set(np.asarray(part.event).tolist()) for part in (train, val, test)]
    assert sum(map(len, events)) == 100
    load_training_data(config)  # without a warning


def test_an_unknown_quantity_of_a_feature_gets_the_nearest(tmp_path: Path) -> None:
    write_jets(make_jets(40), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"the features need ptt, .*; did you mean 'pt'"):
        load_training_data(configure(tmp_path / "a.parquet", features=["log(ptt)"]))
