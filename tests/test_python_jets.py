"""Jets made in Python: coordinates, missing jets, lists of jets, bad values, and training on them."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest
import torch
import vector

import pcloud
from pcloud.errors import InputError, UnknownNameError
from pcloud.python_jets import as_jets, flatten
from tests.training.conftest import TINY, make_jets

COORDINATES = {
    "vector": ("pt", "eta", "phi", "mass"),
    "cartesian": ("x", "y", "z", "t"),
    "momentum": ("px", "py", "pz", "energy"),
    "with energy": ("pt", "eta", "phi", "e"),
    "generic": ("rho", "eta", "phi", "tau"),
    "with theta": ("pt", "theta", "phi", "M"),
}


def in_coordinates(jets: ak.Array, names: tuple[str, ...], record: str | None) -> ak.Array:
    """Jets whose momenta have other coordinates, in float64."""
    double = ak.values_astype(jets.p4, np.float64)
    p4 = ak.zip({name: getattr(double, name) for name in names}, with_name=record)
    return ak.with_field(jets, p4, "p4")


@pytest.fixture(scope="module")
def jets() -> ak.Array:
    return make_jets(30)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> pcloud.Run:
    folder = tmp_path_factory.mktemp("given")
    return pcloud.train(
        data=make_jets(300), model=TINY, out=str(folder / "run"), epochs=1, batch_size=64,
        progress=False,
    )  # fmt: skip


@pytest.mark.parametrize("names", COORDINATES.values(), ids=COORDINATES)
def test_momenta_have_any_coordinates(jets, names):
    vector.register_awkward()
    expected = pcloud.JetDataset(jets)
    found = pcloud.JetDataset(in_coordinates(jets, names, "Momentum4D"))
    scale = expected.p4[:, :1]
    torch.testing.assert_close(found.p4 / scale, expected.p4.double() / scale, rtol=0, atol=1e-4)


def test_records_without_behaviour_and_bare_four_vectors_are_jets(jets):
    plain = in_coordinates(jets, ("pt", "eta", "phi", "mass"), None)
    expected = pcloud.JetDataset(plain).p4
    assert torch.equal(pcloud.JetDataset(plain.p4).p4, expected)


def test_jets_of_readers_are_not_copied(jets):
    assert as_jets(jets) is jets


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda jets: np.zeros((3, 4)), "not ndarray"),
        (lambda jets: ak.Array(np.zeros((3, 5, 4))), "does not say what its numbers are"),
        (lambda jets: jets[["label"]], "no field named 'p4'"),
        (lambda jets: ak.zip({"p4": jets.p4[["px", "py"]]}, depth_limit=1), "it has px, py"),
        (lambda jets: ak.zip({"p4": jets.p4[:, 0]}, depth_limit=1), "a list of four-momenta"),
        (lambda jets: ak.unflatten(jets, [10, 20]), "lists of jets"),
        (lambda jets: ak.mask(jets, np.arange(30) != 4), "1 of 30 jets are missing"),
    ],
)
def test_what_is_no_data_set_of_jets_is_refused_in_one_line(jets, made, said):
    with pytest.raises((InputError, UnknownNameError), match=said) as caught:
        pcloud.JetDataset(made(jets))
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ([0.7] * 30, r"30 of 30 jets are bad: label not a whole number \(jets 0, 1"),
        ([0, np.nan] * 15, "15 of 30 jets are bad: label not a whole number"),
        (["a"] * 30, "label must be one whole number"),
        ([0, 7] * 15, "label above 1, the last class"),
        ([0, -1] * 15, "label negative or no class"),
        ([[0], [1, 1]] * 15, "label must be one whole number"),
    ],
)
def test_bad_labels_are_refused(jets, label, said):
    labelled = ak.Array(ak.with_field(jets, label, "label"), attrs={"classes": ["a", "b"]})
    with pytest.raises(InputError, match=said):
        pcloud.JetDataset(labelled)


@pytest.mark.parametrize(
    ("weight", "said"),
    [
        (
            [1.0] * 28 + [np.nan] * 2,
            r"2 of 30 jets are bad: NaN or infinity in weight \(jets 28, 29",
        ),
        (["a"] * 30, "weight must be one number for each jet"),
        ([[1.0]] * 30, "weight must be one number for each jet"),
    ],
)
def test_bad_weights_are_refused_but_do_not_matter_for_scores(run, jets, weight, said):
    jets = ak.with_field(jets[:30], weight, "weight")
    with pytest.raises(InputError, match=said):
        pcloud.JetDataset(jets)
    assert np.isfinite(run.predict(jets)).all()


def test_bad_momenta_are_refused_with_the_first_jets(jets):
    energy = ak.to_numpy(ak.flatten(jets.p4.E)).copy()
    starts = np.cumsum(ak.to_numpy(ak.num(jets.p4)))
    energy[starts[6]] = np.nan
    energy[starts[19]] = -1.0
    p4 = ak.with_field(jets.p4, ak.unflatten(energy, ak.num(jets.p4)), "E")
    with pytest.raises(InputError, match=r"2 of 30 .* in E \(jet 7\); negative energy.*jet 20"):
        pcloud.JetDataset(ak.with_field(jets, p4, "p4"))


def test_missing_jets_have_missing_scores(run, jets):
    expected = run.predict(jets[:4])
    leading = ak.firsts(ak.unflatten(jets[:5], [1, 0, 1, 2, 0, 1, 0]))
    for given in (leading, ak.zip({"p4": leading.p4}, depth_limit=1), leading.p4):
        scores = run.predict(given)
        assert scores.shape == (7, 2)
        np.testing.assert_allclose(scores[[0, 2, 3]], expected[:3], rtol=1e-12)
        assert np.isnan(scores[[1, 4, 6]]).all()
    assert np.isnan(run.logits(leading)[1]).all()


def test_scores_of_jets_in_events_have_the_shape_of_the_events(run, jets):
    expected = run.predict(jets)
    counts = [0, 3, 1, 0, 26]
    events = ak.unflatten(jets, counts)
    scores = run.predict(events)
    assert ak.num(scores).tolist() == counts
    np.testing.assert_array_equal(ak.to_numpy(ak.flatten(scores)), expected)
    chosen = ak.mask(events, np.arange(5) != 1)
    assert run.predict(chosen)[1] is None
    assert ak.num(run.predict(chosen)).tolist() == [0, None, 1, 0, 26]


def test_columns_of_events_are_repeated_for_their_jets(jets):
    events = ak.zip({"p4": ak.unflatten(jets.p4, [10, 20]), "rho": [1.5, 2.5]}, depth_limit=1)
    flat, _ = flatten(events)
    assert flat.rho.tolist() == [1.5] * 10 + [2.5] * 20


def test_labels_that_are_no_classes_do_not_matter_for_scores(run, jets):
    named = ak.with_field(jets, ["b"] * len(jets), "label")
    np.testing.assert_array_equal(run.predict(named), run.predict(jets))


def test_a_run_on_jets_in_an_array_is_one_on_their_file(tmp_path):
    jets = make_jets(300)
    options = {"model": TINY, "epochs": 1, "batch_size": 64, "progress": False}
    given = pcloud.train(data=jets, val=make_jets(60, 1), out=str(tmp_path / "a"), **options)
    pcloud.write_jets(jets, tmp_path / "jets.parquet")
    pcloud.write_jets(make_jets(60, 1), tmp_path / "val.parquet")
    files = {"data": str(tmp_path / "jets.parquet"), "val": str(tmp_path / "val.parquet")}
    read = pcloud.train(**files, out=str(tmp_path / "b"), **options)
    np.testing.assert_array_equal(given.predict(jets[:20]), read.predict(jets[:20]))
    table = given.evaluate(make_jets(60, 2), num_bootstrap=0)
    assert (tmp_path / "a/evaluations/given/metrics.json").exists()
    assert len(str(table)) > 0


def test_another_process_asks_for_files(run, monkeypatch):
    monkeypatch.setattr("pcloud.given_jets._GIVEN", {})
    assert "jets given in Python" in (run.path / "config.yaml").read_text()
    with pytest.raises(InputError, match=r"not in memory now: pcloud\.write_jets"):
        run.evaluate()


@pytest.mark.parametrize(
    "data", [np.zeros((100, 4)), [make_jets(3), make_jets(3)], ak.Array([[1.0, 2.0], [3.0]])]
)
def test_other_arrays_are_refused_in_one_line(data, tmp_path):
    with pytest.raises(InputError) as caught:
        pcloud.train(data=data, model="pfn", out=str(tmp_path / "run"))
    assert len(str(caught.value)) < 400
