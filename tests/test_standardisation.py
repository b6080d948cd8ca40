"""Features from expressions, standardised by the training jets, and checked before a training."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest
import torch

import pcloud
from pcloud import kinematics
from pcloud.errors import InputError, UnknownNameError
from pcloud.features import Feature, FeatureSet, feature_set
from pcloud.standardisation import FeatureWarning, check_features, fit_standardisation
from tests.training.conftest import TINY, make_jets


def with_column(jets: ak.Array, values) -> ak.Array:
    """Jets with a column `a` per particle."""
    counts = ak.num(jets.p4)
    column = np.broadcast_to(values, (int(ak.sum(counts)),))
    return ak.with_field(jets, ak.unflatten(np.asarray(column), counts), "a")


@pytest.fixture(scope="module")
def jets() -> ak.Array:
    jets = make_jets(200)
    number = int(ak.sum(ak.num(jets.p4)))
    return with_column(jets, np.random.default_rng(0).normal(500.0, 20.0, number))


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("log(pt / jet_pt)", lambda c: (c["pt"] / c["jet_pt"]).log()),
        ("hypot(deta, dphi)", lambda c: (c["deta"] ** 2 + c["dphi"] ** 2).sqrt()),
        ("abs(eta - jet_eta) < 0.1", lambda c: ((c["eta"] - c["jet_eta"]).abs() < 0.1).float()),
        ("a * 2 + E", lambda c: c["a"] * 2 + c["E"]),
        ("jet_mass", lambda c: c["jet_mass"]),
        ("eta", lambda c: c["eta"]),
        ("where(pt > 5, 1, -1)", lambda c: torch.where(c["pt"] > 5, 1.0, -1.0)),
        ("pt / sum(pt)", lambda c: c["pt"] / c["sum"]),
    ],
)
def test_an_expression_is_its_formula(jets, text, known):
    data = pcloud.JetDataset(jets, [text, "deta", "dphi"])
    p4 = data.p4.double()
    batch = torch.repeat_interleave(torch.arange(len(data)), data.ptr.diff())
    total = torch.zeros(len(data), 4, dtype=torch.float64).index_add(0, batch, p4)[batch]
    pt = kinematics.pt(p4)
    values = {
        "pt": pt,
        "eta": kinematics.eta(p4),
        "E": p4[:, 0],
        "jet_pt": kinematics.pt(total),
        "jet_eta": kinematics.eta(total),
        "jet_mass": kinematics.mass(total),
        "deta": data.x[:, 1].double(),
        "dphi": data.x[:, 2].double(),
        "a": data.in_order(torch.from_numpy(ak.to_numpy(ak.flatten(jets.a)).copy())),
        "sum": torch.zeros(len(data), dtype=torch.float64).index_add(0, batch, pt)[batch],
    }
    expected = known(values).float()
    torch.testing.assert_close(data.x[:, 0], expected, rtol=1e-5, atol=1e-6)


def test_expressions_are_differentiable_in_the_momenta():
    p4 = torch.tensor([[50.0, 30.0, 20.0, 10.0], [30.0, 3.0, 4.0, 5.0]], dtype=torch.float64)
    features = feature_set(["log(pt / jet_pt)", "eta - jet_eta", "sum(pt)"])
    batch = torch.zeros(2, dtype=torch.long)
    assert torch.autograd.gradcheck(
        lambda p: features(p, batch), p4.requires_grad_(), atol=1e-6, rtol=1e-5
    )


def test_jet_quantities_are_those_of_stored_momenta_or_columns(jets):
    def jet_pt(sample: ak.Array) -> float:
        return float(pcloud.JetDataset(sample, ["jet_pt", "pt / jet_pt"]).x[0, 0])

    column = ak.with_field(jets, np.full(len(jets), 123.0), "jet_pt")
    assert jet_pt(column) == 123.0
    total = ak.zip({c: ak.sum(jets.p4[c], axis=1) * 2 for c in ("E", "px", "py", "pz")})
    stored = ak.with_field(column, total, "jet_p4")
    assert jet_pt(stored) == pytest.approx(2 * jet_pt(jets), rel=1e-5)


def test_columns_do_not_take_the_place_of_computed_quantities(jets):
    wrong = ak.with_field(jets, ak.zeros_like(jets.p4.E), "eta")
    expected = pcloud.JetDataset(jets, ["eta", "abs(eta)"]).x
    assert torch.equal(pcloud.JetDataset(wrong, ["eta", "abs(eta)"]).x, expected)
    older = {"features": [{"name": "eta"}], "reference": "particles"}
    assert not pcloud.JetDataset(wrong, FeatureSet.from_dict(older)).x.any()


def test_a_list_holds_sets_features_expressions_and_mappings():
    mapping = {"name": "pt / jet_pt", "shift": 0.1, "scale": 5, "high": 2}
    features = feature_set(["kin", "charge", "log(pt)", mapping])
    assert features.names == (*feature_set("kin").names, "charge", "log(pt)", "pt / jet_pt")
    assert features.features[-1] == Feature("pt / jet_pt", 0.1, 5.0, None, 2.0)
    assert features.features[:7] == feature_set("kin").features
    assert FeatureSet.from_dict(features.to_dict()) == features


@pytest.mark.parametrize(
    ("features", "said"),
    [
        (["log(pt"], "was never closed"),
        (["log(nothing)"], "no feature or column named 'nothing'"),
        (["1 + 1"], "is a constant"),
        ([{"name": "pt", "shfit": 1}], "did you mean 'shift'"),
        ([{"name": "pt", "scale": "a"}], "scale: 'a' cannot be used"),
        (["pt == 'a'"], "a text cannot be an input"),
        ("kim", "no feature set named 'kim'; did you mean 'kin'"),
    ],
)
def test_wrong_features_are_refused_in_one_line(jets, features, said):
    with pytest.raises((InputError, UnknownNameError), match=said) as caught:
        pcloud.JetDataset(jets, features)
    assert "\n" not in str(caught.value)


def test_standardisation_is_median_and_spread_whatever_the_tails(jets):
    (fitted,) = fit_standardisation(feature_set(["a"]), jets).features
    assert fitted.shift == pytest.approx(500, abs=3)
    assert 1 / fitted.scale == pytest.approx(20, rel=0.1)
    values = ak.to_numpy(ak.flatten(jets.a)).copy()
    values[::50] = 1e6
    (robust,) = fit_standardisation(feature_set(["a"]), with_column(jets, values)).features
    assert robust.shift == pytest.approx(fitted.shift, abs=3)
    assert robust.scale == pytest.approx(fitted.scale, rel=0.1)


def test_features_with_a_standardisation_keep_it(jets):
    features = feature_set(["log_pt", Feature("a", shift=1.0), "charge", "a * 1"])
    fitted = fit_standardisation(features, ak.with_field(jets, jets.a, "charge"))
    assert fitted.features[:3] == features.features[:3]
    assert fitted.features[3].shift != 0


def test_flags_are_standardised_by_their_standard_deviation(jets):
    (fitted,) = fit_standardisation(feature_set(["a > 530"]), jets).features
    data = pcloud.JetDataset(jets, FeatureSet((fitted,)))
    assert float(data.x.std()) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("values", "said"),
    [(3.5, r"'a' is constant in the jets, 3\.5: leave it out"), (np.nan, "NaN or infinite in")],
)
def test_features_without_information_are_refused(jets, values, said):
    data = pcloud.JetDataset(with_column(jets, values), ["log_pt", "a"])
    with pytest.raises(InputError, match=said):
        check_features(data, "the jets")


def test_values_of_padding_are_warned_of(jets):
    values = ak.to_numpy(ak.flatten(jets.a)).copy()
    values[7] = -99999
    data = pcloud.JetDataset(with_column(jets, values), ["a"])
    with pytest.warns(FeatureWarning, match=r"'a' of the jets is beyond 100 times .* for 1 value"):
        check_features(data, "the jets")


def test_a_run_stores_and_tells_the_standardisation(jets, tmp_path, capsys):
    options = {"model": TINY, "epochs": 1, "batch_size": 64, "max_jets": 150, "max_val_jets": 30}
    features = ["log_pt", "a", "log(pt / jet_pt)"]
    run = pcloud.train(data=jets, features=features, out=str(tmp_path / "run"), **options)
    said = capsys.readouterr().err
    assert "standardised by median and spread of the training jets: a (shift" in said
    stored = pcloud.Run(run.path).feature_set.features
    assert stored[0] == feature_set(["log_pt"]).features[0]
    assert stored[1].shift == pytest.approx(500, abs=5)
    plain = pcloud.train(
        data=jets, features=features, standardise="none", out=str(tmp_path / "plain"),
        progress=False, **options,
    )  # fmt: skip
    assert plain.feature_set.features[1:] == (Feature("a"), Feature("log(pt / jet_pt)"))
    text = (tmp_path / "run/config.yaml").read_text().replace("standardise: auto\n", "")
    (tmp_path / "run/config.yaml").write_text(text)
    assert pcloud.Run(tmp_path / "run").config.standardise == "none"
