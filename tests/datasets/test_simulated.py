from __future__ import annotations

import time
from importlib.metadata import version

import awkward as ak
import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from pcloud.datasets import compact
from pcloud.datasets.simulated import FOLDER, SPLITS, load, provenance
from pcloud.errors import UnknownNameError
from pcloud.io import FlatJets
from pcloud.io.jets import as_offsets


@pytest.fixture(scope="module")
def splits() -> dict[str, ak.Array]:
    return {split: load(split) for split in SPLITS}


def sums(jets: ak.Array) -> ak.Array:
    return ak.sum(jets.p4, axis=1)


def random_jets(count: int, rng: np.random.Generator) -> FlatJets:
    """Massless jets of 1 to 60 constituents, ordered by pt, anywhere in phi."""
    counts = rng.integers(1, 61, count)
    jet = np.repeat(np.arange(count), counts)
    pt = np.exp(rng.uniform(np.log(0.1), np.log(600), len(jet)))
    pt = pt[np.lexsort((-pt, jet))]
    eta = rng.uniform(-2, 2, count)[jet] + rng.normal(0, 0.25, len(jet))
    phi = rng.uniform(-np.pi, np.pi, count)[jet] + rng.normal(0, 0.25, len(jet))
    p4 = (pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta))
    return FlatJets(as_offsets(counts), p4, jet={"label": rng.integers(2, size=count)})


def test_the_sample_is_small_enough_to_ship_and_large_enough_to_train_on(splits):
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 10e6
    assert sum(len(jets) for jets in splits.values()) >= 20_000
    assert {file.name for file in FOLDER.iterdir()} == {f"{split}.parquet" for split in SPLITS}


@pytest.mark.parametrize("split", SPLITS)
def test_classes_are_balanced_and_shuffled(splits, split):
    jets = splits[split]
    assert jets.attrs["classes"] == ["qcd", "top"]
    assert set(np.unique(jets.label)) == {0, 1}
    error = 0.5 / np.sqrt(len(jets))
    assert ak.mean(jets.label) == pytest.approx(0.5, abs=4 * error)
    assert ak.mean(jets.label[1:] != jets.label[:-1]) == pytest.approx(0.5, abs=4 * error)


@pytest.mark.parametrize("split", SPLITS)
def test_jets_are_those_of_the_recipe(splits, split):
    jets = splits[split]
    axis = sums(jets)
    assert ak.all((axis.pt > 549) & (axis.pt < 651) & (abs(axis.eta) < 2.001))
    assert 1 <= ak.min(ak.num(jets.p4)) <= ak.max(ak.num(jets.p4)) <= 200
    assert ak.all(jets.p4.pt[:, 1:] <= jets.p4.pt[:, :-1] * (1 + 1e-6))
    assert ak.max(abs(jets.p4.mass2) / jets.p4.E**2) < 1e-6
    top, qcd = (axis[jets.label == label].mass for label in (1, 0))
    assert 170 < np.median(top) < 177
    assert 60 < np.median(qcd) < 80
    assert 54 < ak.mean(ak.num(jets.p4)[jets.label == 1]) < 64


def test_no_jet_comes_twice(splits):
    seen = np.concatenate([ak.to_numpy(sums(jets).E) for jets in splits.values()])
    other = np.concatenate([ak.to_numpy(sums(jets).pz) for jets in splits.values()])
    assert len(np.unique(np.stack([seen, other], axis=1), axis=0)) == len(seen)


def test_simple_features_separate_the_classes(splits):
    def features(jets):
        axis, p4 = sums(jets), jets.p4
        leading = ak.sum(p4.pt[:, :5], axis=1) / axis.pt
        width = ak.sum(p4.pt * p4.deltaR(axis), axis=1) / axis.pt
        return np.stack([axis.mass, ak.num(p4), leading, width], axis=1)

    train, test = splits["train"][:8000], splits["test"]
    model = HistGradientBoostingClassifier(max_iter=60, random_state=0)
    model.fit(features(train), train.label)
    scores = model.predict_proba(features(test))[:, 1]
    assert 0.95 < roc_auc_score(test.label, scores) < 0.985


def test_the_sample_loads_in_well_below_a_second():
    load("train")
    begin = time.process_time()
    load("train")
    assert time.process_time() - begin < 1.0


def test_the_files_say_how_they_were_made():
    notes = [provenance(split) for split in SPLITS]
    for note in notes:
        assert note["command"] == "python -m pcloud.simulate.embedded FOLDER"
        assert note["detector"]["photon_cells"]["cell"] == 0.025
        assert note["pythia8mc"] == "8.317.2"
        assert not note["mpi"]
    assert len({note["seed"] for note in notes}) == 1
    assert [note["jets"] for note in notes] == [[0, 36_000], [36_000, 41_000], [41_000, 51_000]]


def test_an_unknown_split_is_named_with_the_nearest():
    with pytest.raises(UnknownNameError, match=r"'valid'.*did you mean 'val'"):
        load("valid")


def test_rounding_stays_within_half_a_step():
    jets = random_jets(300, np.random.default_rng(0))
    before, after = (some.to_awkward().p4 for some in (jets, compact.decode(compact.encode(jets))))
    small = 2e-6  # float32
    assert ak.all(ak.num(before) == ak.num(after))
    assert ak.max(abs(np.log(after.pt / before.pt))) < 0.5 * compact.LOG_PT_STEP + small
    assert ak.max(abs(after.eta - before.eta)) < 0.5 * compact.ETA_STEP + small
    assert ak.max(abs(after.deltaphi(before))) < 0.5 * compact.PHI_STEP + small


def test_rounding_barely_moves_the_mass():
    jets = random_jets(300, np.random.default_rng(1))
    before, after = (
        sums(some.to_awkward()) for some in (jets, compact.decode(compact.encode(jets)))
    )
    some = ak.num(jets.to_awkward().p4) > 5
    assert ak.std((after.mass / before.mass)[some]) < 1e-3
    assert ak.std((after.pt / before.pt)[some]) < 1e-3


@pytest.mark.parametrize("jets", ["random", "embedded"])
def test_encoding_what_was_decoded_changes_nothing(splits, jets):
    if jets == "random":
        once = compact.decode(compact.encode(random_jets(500, np.random.default_rng(2))))
    else:
        once = FlatJets.from_awkward(splits["val"])
    twice = compact.decode(compact.encode(once))
    for one, two in zip((*once.p4, once.offsets), (*twice.p4, twice.offsets), strict=True):
        assert np.array_equal(one, two)


def test_files_keep_jets_and_note(tmp_path):
    jets = random_jets(50, np.random.default_rng(3))
    compact.write_compact(jets, tmp_path / "jets.parquet", {"seed": 3})
    again = compact.read_compact(tmp_path / "jets.parquet")
    expected = compact.decode(compact.encode(jets))
    for one, two in zip(again.p4, expected.p4, strict=True):
        assert np.array_equal(one, two)
    assert np.array_equal(again.jet["label"], jets.jet["label"])
    assert compact.read_metadata(tmp_path / "jets.parquet") == {"seed": 3}


def test_the_embedded_jets_come_from_the_seed_they_note(splits):
    """The first tops, made again, are in the sample."""
    note = provenance("train")
    for package in ("pythia8mc", "fastjet"):
        pytest.importorskip(package, reason=f"{package} is not installed")
        if version(package) != note[package]:
            pytest.skip(f"made with {package} {note[package]}, not {version(package)}")
    from pcloud.simulate.block import Settings, make_block

    # A block of 48 begins with the 250 events that a block of 250 begins with.
    block = make_block("top", 0, Settings(note["seed"], block_size=48)).slice(0, 25)
    again = compact.decode(compact.encode(block)).to_awkward()
    embedded = ak.concatenate(list(splits.values()))
    known = {tuple(jet) for jet in fingerprints(embedded[embedded.label == 1])}
    assert all(tuple(jet) in known for jet in fingerprints(again))


def fingerprints(jets: ak.Array) -> np.ndarray:
    first, last = jets.p4[:, 0], jets.p4[:, -1]
    return np.stack([ak.num(jets.p4), first.px, first.pz, last.py, last.E], axis=1)


def test_targets_are_stored_to_a_part_in_a_thousand_and_missing_ones_stay_missing():
    rng = np.random.default_rng(8)
    jets = random_jets(300, rng)
    first = jets.offsets[:-1]
    e, px, py, pz = (np.add.reduceat(component, first) for component in jets.p4)
    mass = np.sqrt(np.maximum(e**2 - px**2 - py**2 - pz**2, 1.0))
    truth = {"pt": np.hypot(px, py) * 1.03, "mass": mass * rng.uniform(0.5, 2, 300)}
    truth["mass"][::9] = np.nan
    jets.jet |= {f"targets.{name}": values for name, values in truth.items()}
    once = compact.decode(compact.encode(jets))
    for name, values in truth.items():
        np.testing.assert_allclose(once.jet[f"targets.{name}"], values, rtol=4e-4)
    twice = compact.decode(compact.encode(once))
    np.testing.assert_allclose(twice.jet["targets.mass"], once.jet["targets.mass"], rtol=1e-12)
