"""Weights of jets in a training and in the studies of its run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch.nn import functional as F

from pcloud import JetDataset, JetLoader, Run, train
from pcloud.errors import InputError
from pcloud.evaluation import evaluate, read_scores
from pcloud.io import read_jets, write_jets
from pcloud.objectives.loss import JetLoss, balanced_class_weights
from pcloud.report import write_report
from pcloud.training.data import load_splits
from pcloud.training.run_sample import OtherJetsWarning
from tests.training.conftest import TINY, make_jets


def with_weights(number: int, seed: int = 0, negative: float = 0.1) -> ak.Array:
    jets = make_jets(number, seed)
    generator = np.random.default_rng(seed)
    weights = generator.lognormal(0, 0.7, number)
    weights[generator.random(number) < negative] *= -1
    return ak.with_field(jets, weights, "weight")


@pytest.fixture(scope="module")
def weighted_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weighted") / "jets.parquet"
    write_jets(with_weights(600), path)
    return path


@pytest.fixture(scope="module")
def weighted_run(weighted_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("weighted_run") / "run"
    options = {"data": weighted_file, "model": TINY, "epochs": 2, "batch_size": 64}
    return train(**options, class_weights="balanced", out=out, progress=False)


# --- loss


def test_without_weights_the_loss_is_the_cross_entropy_bit_by_bit():
    logits, labels = torch.randn(50, 3), torch.randint(0, 3, (50,))
    for class_weights in (None, torch.tensor([1.0, 2.0, 0.5])):
        expected = F.cross_entropy(logits, labels, class_weights)
        assert JetLoss(class_weights)(logits, labels) == expected
        assert JetLoss(class_weights).mean(logits, labels) == expected


def test_the_batches_of_an_epoch_have_the_mean_weighted_loss_of_its_jets():
    logits, labels, weights = torch.randn(90, 2), torch.randint(0, 2, (90,)), torch.randn(90) + 1
    class_weights = torch.tensor([1.0, 3.0])
    loss = JetLoss(class_weights, labels, weights)
    parts = [slice(0, 30), slice(30, 60), slice(60, 90)]
    of_batches = torch.stack([loss(logits[p], labels[p], weights[p]) for p in parts]).mean()
    w = weights * class_weights[labels]
    expected = (w * F.cross_entropy(logits, labels, reduction="none")).sum() / w.sum()
    assert float(of_batches) == pytest.approx(float(expected), rel=1e-5)
    assert float(loss.mean(logits, labels, weights)) == pytest.approx(float(expected), rel=1e-5)


def test_a_batch_whose_weights_cancel_has_a_finite_gradient():
    labels, weights = torch.tensor([0, 1, 0, 1]), torch.tensor([1.0, -1.0, 3.0, 3.0])
    loss = JetLoss(None, labels, weights)
    logits = torch.randn(2, 2, requires_grad=True)
    loss(logits, labels[:2], weights[:2]).backward()
    assert logits.grad.abs().max() < 1


def test_weights_without_a_positive_mean_are_refused():
    labels, weights = torch.tensor([0, 1]), torch.tensor([1.0, -2.0])
    with pytest.raises(InputError, match=r"the weights of the training jets have the mean -0\.5"):
        JetLoss(None, labels, weights)


def test_balanced_classes_have_equal_sums_of_weights():
    labels, weights = torch.tensor([0, 0, 0, 1]), torch.tensor([1.0, 2.0, 3.0, 0.5])
    of_classes = balanced_class_weights(labels, 2, weights)
    sums = torch.bincount(labels, weights * of_classes[labels])
    assert float(sums[0]) == pytest.approx(float(sums[1]))
    with pytest.raises(InputError, match="positive sum of weights"):
        balanced_class_weights(labels, 2, torch.tensor([1.0, 2.0, 3.0, -0.5]))


# --- jets


def test_weights_reach_the_batch_bit_by_bit(weighted_file: Path):
    jets = read_jets(weighted_file)
    data = JetDataset(jets, "kin")
    expected = np.asarray(jets.weight, dtype=np.float32)
    found = torch.cat([batch.weight for batch in JetLoader(data, 100)]).numpy()
    np.testing.assert_array_equal(found, expected)
    assert "weight" not in next(iter(JetLoader(JetDataset(make_jets(10), "kin"), 10)))
    picked = data[[5, 3]]
    np.testing.assert_array_equal(picked.weight.numpy(), expected[[5, 3]])


# --- run


def test_validation_metrics_are_those_of_weighted_jets(weighted_run: Run):
    (val,) = load_splits(weighted_run.config, "val")
    scores = weighted_run.predict(val, checkpoint="last")
    table = evaluate(val.label, scores, weights=val.weight, num_bootstrap=0)
    last = {name: curve[1][-1] for name, curve in weighted_run.history.curves().items()}
    assert last["val_auc"] == pytest.approx(float(table["auc"]), abs=1e-6)
    correct = scores.argmax(1) == np.asarray(val.label)
    assert last["val_acc"] == pytest.approx(np.average(correct, weights=val.weight), abs=1e-6)


def test_evaluation_stores_and_uses_weights(weighted_run: Run):
    table = weighted_run.evaluate()
    stored = read_scores(weighted_run.path / "scores.parquet")
    (test,) = load_splits(weighted_run.config, "test")
    np.testing.assert_array_equal(stored.weights, np.asarray(test.weight))
    expected = evaluate(stored.labels, stored.values, weights=stored.weights, classes=["a", "b"])
    assert table.entries == expected.entries
    assert "Weighted: the sum of weights is" in str(table)
    page = write_report(weighted_run.path).read_text("utf-8")
    assert "effective sample size" in page


def test_predictions_carry_weights(weighted_run: Run, weighted_file: Path, tmp_path: Path):
    from pcloud.studies.predict import predict_file

    predict_file(weighted_run, str(weighted_file), tmp_path / "scores.parquet")
    table = pq.read_table(tmp_path / "scores.parquet")
    np.testing.assert_array_equal(table["weight"], np.asarray(read_jets(weighted_file).weight))


def test_calibration_with_negative_weights_leaves_out_what_refuses_them(weighted_run: Run):
    stored = weighted_run.calibrate()
    assert set(stored.maps) == {"temperature", "vector"}
    assert stored.sets == []
    with pytest.raises(InputError, match="isotonic calibration needs weights"):
        weighted_run.calibrate("isotonic")


def test_other_weights_are_other_jets(tmp_path: Path):
    jets = with_weights(600)
    path = tmp_path / "jets.parquet"
    write_jets(jets, path)
    options: dict[str, Any] = {"data": str(path), "model": TINY, "out": str(tmp_path / "run")}
    run = train(**options, epochs=2, batch_size=64, class_weights="balanced", progress=False)
    write_jets(ak.with_field(jets, 2 * jets.weight, "weight"), path, overwrite=True)
    with pytest.warns(OtherJetsWarning, match="have changed since the training"):
        run.evaluate(num_bootstrap=0)
