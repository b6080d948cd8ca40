"""Losses of classes, optimizers of textbooks, all jets in one batch, penalties of the weights."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pcloud
from pcloud.errors import InputError
from pcloud.objectives.constant import ConstantScore
from pcloud.objectives.loss import JetLoss, losses_of_classes
from pcloud.objectives.specification import CLASS_LOSSES
from pcloud.tables.toys import gaussians
from pcloud.training.checkpoint import read_checkpoint
from pcloud.training.config import TrainConfig
from pcloud.training.data import load_splits
from pcloud.training.optimizers import DECOUPLED, OPTIMIZERS, build_optimizer
from pcloud.training.stored_optimizers import LBFGS

QUICK = {"model": "logistic", "progress": False, "lr": 0.1, "epochs": 3}


def test_losses_are_those_of_their_formulas():
    logits, labels = torch.randn(7, 3).double(), torch.tensor([0, 1, 2, 0, 1, 2, 0])
    p = logits.softmax(1)
    true = p.gather(1, labels[:, None])[:, 0]
    t = F.one_hot(labels, 3)
    expected = {
        "cross_entropy": -true.log(),
        "focal": -((1 - true) ** 2) * true.log(),
        "l1": (p - t).abs().mean(1),
        "l2": ((p - t) ** 2).mean(1),
    }
    assert set(expected) == set(CLASS_LOSSES)
    for kind, values in expected.items():
        torch.testing.assert_close(losses_of_classes(kind, logits, labels), values)
        torch.testing.assert_close(JetLoss(kind=kind)(logits, labels), values.mean())
        w = torch.rand(7).double()
        weighted = (values * w).sum() / w.sum()
        torch.testing.assert_close(JetLoss(kind=kind).mean(logits, labels, w), weighted)
        of_classes = torch.tensor([1.0, 2.0, 3.0]).double()
        mean = (values * of_classes[labels]).sum() / of_classes[labels].sum()
        torch.testing.assert_close(JetLoss(of_classes, kind=kind)(logits, labels), mean)


@pytest.mark.parametrize("kind", CLASS_LOSSES)
def test_no_constant_score_is_better_than_the_best(kind):
    labels = torch.tensor([0] * 30 + [1] * 10)
    best = ConstantScore(labels, 2, kind=kind).loss(labels)
    grid = torch.linspace(-8, 8, 201).double()
    if kind == "focal":
        return  # has no closed form: the fractions of the classes are taken
    losses = [losses_of_classes(kind, torch.tensor([[0.0, z]]).expand(40, 2), labels) for z in grid]
    assert best <= min(float(loss.mean()) for loss in losses) + 1e-3


@pytest.mark.parametrize("loss", CLASS_LOSSES)
def test_a_network_learns_by_every_loss(tmp_path, loss):
    table = gaussians(600, shift=3.0)
    run = pcloud.train(data=table, out=tmp_path, loss=loss, batch_size=50, **QUICK)
    assert run.history[-1]["val_auc"] > 0.97
    assert "nothing" not in json.dumps(json.loads((tmp_path / "environment.json").read_text()))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_takes_the_gradient_of_an_l2_term_or_decays_by_itself(name):
    """With a loss that is constant, decoupled decay shrinks a weight by the factor 1 - lr decay."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2).double()
    optimizer = build_optimizer(name, model, 0.1, 0.5)
    before = model.weight.detach().clone()

    def closure():
        optimizer.zero_grad()
        loss = 0 * sum(p.sum() for p in model.parameters())
        loss.backward()
        return loss

    optimizer.step(closure)
    factor = model.weight / before
    if name in (*DECOUPLED, "sgd"):
        torch.testing.assert_close(factor, torch.full_like(factor, 1 - 0.1 * 0.5))
    else:
        assert (factor < 1).all()
    if name in ("adam", "rmsprop"):  # steps of one length whatever the weight
        step = (model.weight - before).abs()
        torch.testing.assert_close(
            step, torch.full_like(step, step.mean().item()), rtol=1e-3, atol=0
        )


def test_lbfgs_finds_the_minimum_of_all_events_in_a_few_steps(tmp_path):
    table = gaussians(500)
    options = {"optimizer": "lbfgs", "batch_size": "full", "schedule": "constant"}
    options |= {"weight_decay": 1e-2}
    run = pcloud.train(data=table, out=tmp_path, **QUICK | options | {"lr": 1.0, "epochs": 4})
    weights = run.network("last").head.output.weight
    (sample,) = load_splits(run.config, "train")  # at the minimum the gradient is 0
    network = run.network("last")
    x = run.modality.rows(sample, run.feature_set)
    loss = F.cross_entropy(network(x), torch.from_numpy(sample.label))
    (loss + 1e-2 / 2 * weights.square().sum()).backward()
    assert weights.grad.abs().max() < 1e-4
    state = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["run"]["state"]
    assert state["step"] == 4


def test_the_state_of_lbfgs_is_checked():
    model = nn.Linear(3, 2)
    optimizer = LBFGS([{"params": list(model.parameters()), "weight_decay": 0.0}], 1.0)
    x = torch.randn(20, 3)

    def closure():
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    state = optimizer.state_dict()
    assert optimizer.check_state(state, "here")["state"] == state["state"]
    bad = {
        "state": {0: state["state"][0] | {"d": torch.zeros(3)}},
        "param_groups": state["param_groups"],
    }
    with pytest.raises(InputError, match=r"here\.state\.d: not 8 numbers"):
        optimizer.check_state(bad, "here")
    with pytest.raises(InputError, match="not the state of lbfgs"):
        optimizer.check_state(bad | {"state": {0: {"e": 1}}}, "here")
    with pytest.raises(InputError, match="lr_head_factor must be 1"):
        LBFGS([{"params": [], "weight_decay": 0.0, "lr": 2.0}], 1.0)


def test_an_l1_penalty_of_its_weights_is_minimal_beside_the_loss(tmp_path):
    table = gaussians(400, shift=2.0)
    options = QUICK | {"epochs": 40, "batch_size": "full", "optimizer": "sgd", "lr": 1.0}
    run = pcloud.train(data=table, out=tmp_path, l1=0.05, schedule="constant", **options)
    (sample,) = load_splits(run.config, "train")
    network = run.network("last")
    weights = network.head.output.weight
    x = run.modality.rows(sample, run.feature_set)
    F.cross_entropy(network(x), torch.from_numpy(sample.label)).backward()
    torch.testing.assert_close(weights.grad, -0.05 * weights.sign(), atol=0.01, rtol=0)


def test_options_that_do_not_fit_are_refused():
    for options, message in (
        ({"loss": "l3"}, "'l3' cannot be used"),
        ({"batch_size": "ful"}, "batch-size"),
        ({"loss": "l2", "objective": "y:squared"}, "loss needs the objective class"),
    ):
        with pytest.raises(InputError, match=message):
            TrainConfig(data="curve", model="mlp", out="x", **options)
