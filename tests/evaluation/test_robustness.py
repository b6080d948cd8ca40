from __future__ import annotations

import json

import awkward as ak
import numpy as np
import pytest

import pcloud
from pcloud.errors import InputError, UnknownNameError
from pcloud.evaluation import evaluate
from pcloud.evaluation.robustness import Robustness, compare_scores, measure_robustness
from pcloud.io.jets import FlatJets
from pcloud.observables import jet_observables
from pcloud.run_files import write_json


@pytest.fixture(scope="module")
def jets() -> ak.Array:
    return pcloud.load_dataset("simulated", "test")[:1500]


def by_mass(jets: ak.Array) -> np.ndarray:
    """A tagger that sees the mass alone: infrared and collinear safe, invariant."""
    odds = jet_observables(FlatJets.from_awkward(jets))["mass"] / 50 - 2
    p = 1 / (1 + np.exp(-odds))
    return np.stack([1 - p, p], axis=1)


def by_number(jets: ak.Array) -> np.ndarray:
    """A tagger that counts particles: neither infrared nor collinear safe."""
    p = 1 / (1 + np.exp(-(ak.num(jets.p4).to_numpy() / 20 - 2)))
    return np.stack([1 - p, p], axis=1)


def test_a_mass_cut_is_safe_and_a_count_is_not(jets):
    changes = {"collinear_splitting": [1.0], "soft_emission": [1e-6], "rotation": [2.0]}
    changes["energy_scale"] = [0.05]
    safe = {e.name: e for e in measure_robustness(by_mass, jets, transformations=changes).effects}
    for name in ("collinear_splitting", "soft_emission", "rotation"):
        assert safe[name].moved.value < 1e-3, name
        assert abs(safe[name].auc_change.value) < 1e-3, name
    assert safe["energy_scale"].moved.value == pytest.approx(0.05 * 2.2, rel=0.5)
    unsafe = measure_robustness(by_number, jets, transformations=["collinear_splitting"]).effects
    assert unsafe[-1].moved.value > 1
    assert unsafe[-1].auc_change.value == pytest.approx(0, abs=1e-9)  # all counts doubled
    assert unsafe[-1].mistag_rate.value > 0.5  # but a fixed threshold lets all pass


def test_unchanged_numbers_are_those_of_evaluate(jets):
    found = measure_robustness(by_mass, jets, transformations=["rotation"], efficiency=0.3)
    table = evaluate(np.asarray(jets.label), by_mass(jets), efficiencies=[0.3], num_bootstrap=0)
    assert found.auc.value == pytest.approx(table["auc"].value, abs=1e-6)
    assert found.auc.error == pytest.approx(table["auc"].error, rel=1e-3)
    assert found.rejection.value == pytest.approx(table["rejection@0.3"].value, rel=0.01)
    assert found.efficiency == 0.3


def test_paired_errors_cover_and_are_smaller_than_unpaired(tagger):
    """Two correlated taggers: the spread of differences over samples is the error given."""
    generator = np.random.default_rng(0)
    changes, errors, single, ratios, ratio_errors = [], [], [], [], []
    for _ in range(300):
        labels, before = tagger.draw(300, 300, generator)
        odds = np.log(before / (1 - before))
        after = 1 / (1 + np.exp(-(odds + generator.normal(scale=0.8, size=len(odds)))))
        effect = compare_scores(labels, before, after, efficiency=0.8)
        changes.append(effect.auc_change.value)
        errors.append(effect.auc_change.error)
        single.append(effect.auc.error)
        ratios.append(effect.rejection_ratio.value)
        ratio_errors.append(effect.rejection_ratio.error)
    assert np.std(changes) == pytest.approx(np.mean(errors), rel=0.12)
    assert np.mean(errors) < 0.5 * np.mean(single)
    low, high = np.quantile(ratios, [0.1587, 0.8413])
    assert (high - low) / 2 == pytest.approx(np.median(ratio_errors), rel=0.3)


@pytest.mark.parametrize(("number", "efficiency", "noise"), [(500, 0.5, 0.2), (300, 0.8, 0.8)])
def test_errors_of_what_is_kept_are_the_spread_over_samples(tagger, number, efficiency, noise):
    """Threshold and kept jets come from the same jets: binomial errors are 3 times too large."""
    generator = np.random.default_rng(1)
    kept, background = [], []
    for _ in range(150):
        labels, before = tagger.draw(number, number, generator)
        odds = np.log(before / (1 - before))
        after = 1 / (1 + np.exp(-(odds + generator.normal(scale=noise, size=len(odds)))))
        effect = compare_scores(labels, before, after, efficiency=efficiency)
        kept.append(effect.efficiency)
        background.append(effect.mistag_rate)
    for found in (kept, background):
        values, errors = [m.value for m in found], [m.error for m in found]
        assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=0.2)
        inside = [m.low <= np.mean(values) <= m.high for m in found]
        assert 0.58 < np.mean(inside) < 0.80
    if noise < 0.5:
        assert kept[0].error < 0.5 * (efficiency * (1 - efficiency) / number) ** 0.5


def test_a_change_that_moves_no_jet_has_an_error_that_is_not_zero(tagger):
    labels, scores = tagger.draw(200, 200, np.random.default_rng(2))
    effect = compare_scores(labels, scores, scores.copy())
    assert (effect.auc_change.value, effect.efficiency.value) == (0, 0.5)
    for entry in (effect.auc_change, effect.rejection_ratio, effect.efficiency):
        assert 0 < entry.error < 0.2
    assert str(effect.moved) == "0"
    separate = np.where(labels == 1, 0.9, 0.1)
    assert compare_scores(labels, separate, separate).mistag_rate.limit == "upper"


def test_other_jets_are_compared_without_pairing(jets):
    found = measure_robustness(
        by_mass, jets[:700], transformations=[], others={"second half": jets[700:]}
    )
    (effect,) = found.effects
    assert effect.moved is None
    assert effect.auc_change.error == pytest.approx(np.hypot(found.auc.error, effect.auc.error))


def test_the_table_is_kept_as_json(jets, tmp_path):
    found = measure_robustness(by_mass, jets[:300], transformations={"energy_scale": [-0.02, 0.02]})
    path = tmp_path / "robustness.json"
    write_json(path, found.to_dict())
    assert Robustness.from_dict(json.loads(path.read_text())) == found
    rows = found.rows()
    assert [row[:2] for row in rows[2:]] == [["energy scale", "-0.02"], ["energy scale", "0.02"]]
    assert {len(row) for row in rows} == {8}


def test_no_background_left_is_no_ratio():
    labels = np.repeat([0, 1], 50)
    effect = compare_scores(labels, np.linspace(0, 1, 100), np.linspace(0, 1, 100))
    assert effect.rejection_ratio is None
    assert effect.rejection.limit == "lower"
    assert effect.auc_change.value == 0


def test_what_cannot_be_measured_is_said_before_scoring(jets):
    def never(jets: ak.Array) -> np.ndarray:
        raise AssertionError

    with pytest.raises(UnknownNameError, match="rotation"):
        measure_robustness(never, jets, transformations=["rotations"])
    with pytest.raises(InputError, match="cannot have the strength"):
        measure_robustness(never, jets, transformations={"particle_loss": [2.0]})
    with pytest.raises(InputError, match="no label"):
        measure_robustness(never, jets[["p4"]])
    with pytest.raises(InputError, match="which of"):
        compare_scores(np.arange(30) % 3, np.eye(3)[np.arange(30) % 3], np.full((30, 3), 1 / 3))
