from __future__ import annotations

import json
import warnings

import awkward as ak
import numpy as np
import pytest
import torch
from torch import nn

import pcloud
from pcloud.cli import main
from pcloud.io import write_jets
from pcloud.report import write_report
from pcloud.training.constant import ConstantScore, NothingLearnedWarning
from tests.training.conftest import make_jets


def test_the_constant_loss_is_that_of_logits_that_are_the_same_for_all():
    labels = torch.tensor([0] * 70 + [1] * 20 + [2] * 10)
    weights = torch.tensor([1.0, 2.0, 5.0])
    constant = ConstantScore(labels, 3, weights)
    logits = nn.Parameter(torch.zeros(3))
    loss = nn.CrossEntropyLoss(weights)
    optimizer = torch.optim.LBFGS([logits], max_iter=100)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss(logits.expand(100, 3), labels)
        value.backward()
        return value

    optimizer.step(closure)
    best = loss(logits.detach().expand(100, 3), labels)
    assert constant.loss(labels) == pytest.approx(float(best), abs=1e-5)


def test_the_gain_is_the_difference_of_the_losses_and_its_error_the_spread():
    generator = torch.Generator().manual_seed(0)
    train = torch.tensor([0, 0, 0, 1])
    constant = ConstantScore(train, 2, torch.tensor([1.0, 2.0]))
    gains, errors = [], []
    for _ in range(300):
        labels = (torch.rand(200, generator=generator) < 0.4).long()
        logits = torch.zeros(200, 2)
        logits[:, 1] = labels + torch.randn(200, generator=generator)
        gain, error = constant.gain(logits, labels)
        loss = nn.CrossEntropyLoss(torch.tensor([1.0, 2.0]))(logits, labels)
        assert gain == pytest.approx(constant.loss(labels) - float(loss), abs=1e-5)
        gains.append(gain)
        errors.append(error)
    assert np.mean(errors) == pytest.approx(np.std(gains), rel=0.2)


def test_a_class_without_training_jets_is_no_error():
    constant = ConstantScore(torch.tensor([0, 1]), 3)
    assert np.isfinite(constant.loss(torch.tensor([0, 1, 2])))


@pytest.fixture
def noise(tmp_path, options):
    """Options of a training on jets whose labels are drawn blindly."""
    jets = make_jets(500)
    labels = np.random.default_rng(1).integers(0, 2, len(jets))
    blind = ak.zip({"p4": jets.p4, "label": labels}, depth_limit=1)
    blind.attrs["classes"] = ["a", "b"]
    write_jets(blind, tmp_path / "blind.parquet")
    return options | {"data": str(tmp_path / "blind.parquet"), "epochs": 2}


@pytest.mark.usefixtures("undrawn")
def test_a_network_no_better_than_a_constant_score_is_warned_of_once(noise):
    with pytest.warns(NothingLearnedWarning, match="learned nothing.*constant score") as found:
        run = pcloud.train(**noise, progress=False)
    assert len([w for w in found if w.category is NothingLearnedWarning]) == 1
    loss = min(row["val_loss"] for row in run.history)
    assert f"{loss:.4f}" in str(found[0].message)
    environment = json.loads((run.path / "environment.json").read_text())
    assert environment["warnings"] == [str(found[0].message)]
    assert "learned nothing" in write_report(run.path).read_text("utf-8")


def test_a_network_that_has_learned_is_not_warned_of(options, recwarn):
    # In this split 50 validation jets suffice to show it.
    few = {"epochs": 8, "batch_size": 10, "split": "permutation"}
    run = pcloud.train(**options | few, progress=False)
    assert not [w for w in recwarn if w.category is NothingLearnedWarning]
    assert "warnings" not in json.loads((run.path / "environment.json").read_text())


def test_a_penalty_that_outweighs_the_labels_is_warned_of(options):
    strong = {"decorrelate": "multiplicity", "decorrelate_weight": 1000.0, "epochs": 2}
    with pytest.warns(NothingLearnedWarning, match="smaller decorrelate_weight than 1000"):
        pcloud.train(**options | strong, progress=False)


def test_the_command_line_warns_in_one_line(noise, capfd):
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in noise.items()]
    with warnings.catch_warnings():
        warnings.simplefilter("default", NothingLearnedWarning)
        assert main(["train", *flags, "--quiet"]) == 0
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("pcloud: warning: the network has learned nothing")
