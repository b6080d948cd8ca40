from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pcloud.errors import InputError
from pcloud.objectives.build import make_objective, objective_from_dict
from pcloud.objectives.of_target import weighted_quantiles
from pcloud.objectives.several import Several
from pcloud.objectives.specification import parse_objectives

KINDS = ["squared", "absolute", "huber", "logcosh", "gaussian", "quantile", "binary"]
NAN = math.nan


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


class Data(SimpleNamespace):
    """Data set with targets."""

    def __len__(self) -> int:
        return len(self.targets)


def data(number: int = 400, *, seed: int = 0, binary: bool = False, **others: Any) -> Data:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randn(number, 2, generator=generator) * 20 + 100
    if binary:
        targets[:, 0] = (targets[:, 0] > 100).float()
    return Data(targets=targets, y=torch.arange(number) % 3, **others)


def objective_of(*wanted: Any, **options: Any) -> Several:
    return make_objective(parse_objectives(list(wanted)), classes=["a", "b", "c"], **options)


@pytest.mark.parametrize("kind", KINDS)
def test_no_other_constant_outputs_have_a_smaller_loss(kind):
    jets = data(binary=kind == "binary", weight=torch.rand(400) + 0.5)
    objective = objective_of(f"x:{kind}")
    objective.fit(jets)
    (part,) = objective
    truth = objective.truth(jets)
    best = part.constant_loss(truth, jets.weight)
    generator = torch.Generator().manual_seed(1)
    # the median is close to the best, and quantiles lie between two jets
    tolerance = {"huber": 3e-3, "logcosh": 3e-3, "quantile": 1e-4}.get(kind, 1e-6)
    for size in (0.02, 0.2, 2.0):
        outputs = part.constant + size * torch.randn(part.num_outputs, generator=generator)
        loss = part.mean_loss(outputs.expand(400, -1), truth, jets.weight)
        assert float(loss) > best - tolerance


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_target_counts_neither_in_the_loss_nor_in_its_gradient(kind):
    jets = data(60, binary=kind == "binary")
    objective = objective_of(f"x:{kind}")
    objective.fit(jets)
    outputs = torch.randn(60, objective.num_outputs, requires_grad=True)
    truth = objective.truth(jets)
    some = truth.clone()
    some[::2] = NAN
    (gradient,) = torch.autograd.grad(objective.total(objective.losses(outputs, some)), outputs)
    assert not gradient[::2].any()
    assert gradient[1::2].any(dim=-1).all()
    assert gradient.isfinite().all()
    outputs = outputs.detach()
    mean = objective.total(objective.mean_losses(outputs[1::2], truth[1::2]))
    found = objective.total(objective.mean_losses(outputs, some))
    assert float(found) == pytest.approx(float(mean), rel=1e-6)
    metrics = objective.metrics(outputs, some)
    assert metrics == pytest.approx(objective.metrics(outputs[1::2], truth[1::2]))


def test_the_batches_of_an_epoch_have_the_mean_weighted_loss_of_its_jets():
    jets = data(90, weight=torch.rand(90) * 3)
    jets.targets[torch.rand(90) < 0.3, 0] = NAN
    objective = objective_of("x:gaussian")
    objective.fit(jets)
    (part,) = objective
    outputs, truth = torch.randn(90, 2), objective.truth(jets)
    rows = [slice(0, 30), slice(30, 60), slice(60, 90)]
    batches = [part.loss(outputs[r], truth[r], jets.weight[r]) for r in rows]
    expected = part.mean_loss(outputs, truth, jets.weight)
    assert float(torch.stack(batches).mean()) == pytest.approx(float(expected), rel=1e-5)


def test_a_jet_of_weight_two_counts_as_two_jets():
    jets = data(50)
    objective = objective_of("x:squared")
    objective.fit(jets)
    outputs, truth = torch.randn(50, 1), objective.truth(jets)
    twice = torch.cat([torch.arange(50), torch.arange(10)])
    weights = torch.ones(50)
    weights[:10] = 2
    found = objective.metrics(outputs, truth, weights)["val_loss"]
    assert found == pytest.approx(objective.metrics(outputs[twice], truth[twice])["val_loss"])


def test_weights_without_a_positive_mean_are_refused():
    jets = data(4, weight=torch.tensor([1.0, -1.0, -1.0, 1.0]))
    jets.targets[0, 0] = NAN
    with pytest.raises(InputError, match=r"jets with target 'x' have the mean -0\.25"):
        objective_of("x:squared").fit(jets)


def test_quantiles_never_cross_and_reach_every_value():
    objective = objective_of("x:quantile:0.1,0.3,0.5,0.9")
    objective.fit(data())
    outputs = torch.randn(500, 4, generator=torch.Generator().manual_seed(0)) * 10
    values = objective(outputs)["x"].values
    assert (values.diff(dim=-1) >= 0).all()
    torch.testing.assert_close(
        objective.truth(data()).quantile(0.5), torch.tensor(100.0), atol=3, rtol=0
    )


def test_a_trained_gaussian_finds_mean_and_sigma_of_each_jet():
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(4000, 1, generator=generator)
    targets = 5 * x + (0.5 + x) * torch.randn(4000, 1, generator=generator)
    objective = objective_of("x:gaussian")
    objective.fit(Data(targets=targets))
    net = torch.nn.Sequential(torch.nn.Linear(1, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2))
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(150):
        optimizer.zero_grad()
        objective.total(objective.losses(net(x), targets[:, 0])).backward()
        optimizer.step()
    at = torch.tensor([[0.2], [0.8]])
    found = objective(net(at).detach())["x"]
    np.testing.assert_allclose(found.mean.numpy(), [1.0, 4.0], atol=0.25)
    np.testing.assert_allclose(found.sigma.numpy(), [0.7, 1.3], rtol=0.15)


# --- several


def test_objectives_stand_side_by_side_on_the_outputs():
    jets = data()
    objective = objective_of("class", "x:gaussian", "y:quantile:0.2,0.8", weights=[1, 2, 0.5])
    objective.fit(jets)
    assert objective.num_outputs == 3 + 2 + 2
    assert objective.output_names == ["a", "b", "c", "x", "x_sigma", "y_q0.2", "y_q0.8"]
    outputs, truth = torch.randn(400, 7), objective.truth(jets)
    assert torch.equal(objective.class_logits(outputs), outputs[:, :3])
    assert torch.equal(objective.labels(truth), jets.y)
    losses = objective.losses(outputs, truth)
    alone = objective_of("class", "x:gaussian")
    alone.fit(jets)
    parts = alone.losses(outputs[:, :5], truth[:, :2])
    assert [losses[n] for n in ("class", "x")] == [parts[n] for n in ("class", "x")]
    total = losses["class"] + 2 * losses["x"] + 0.5 * losses["y"]
    assert float(objective.total(losses)) == pytest.approx(float(total))


def test_learned_weights_are_the_inverse_losses_and_a_likelihood_keeps_its_own():
    objective = objective_of("class", "x:squared", "y:gaussian", learned=True)
    losses = {"class": torch.tensor(0.5), "x": torch.tensor(4.0), "y": torch.tensor(-3.0)}
    optimizer = torch.optim.Adam(objective.parameters(), 0.05)
    for _ in range(600):
        optimizer.zero_grad()
        objective.total(losses).backward()
        optimizer.step()
    weights = objective.current_weights()
    assert weights["class"] == pytest.approx(1 / 0.5, rel=0.01)
    assert weights["x"] == pytest.approx(1 / 4.0, rel=0.01)
    assert weights["y"] == 1.0


def test_weights_must_be_one_for_each_objective():
    with pytest.raises(InputError, match=r"has 1 number for 2 objectives, class, x"):
        objective_of("class", "x:squared", weights=[1.0])


@pytest.mark.parametrize("wanted", [["x:gaussian", "x_sigma:squared"], ["class", "a:squared"]])
def test_two_outputs_of_one_name_are_refused(wanted):
    with pytest.raises(InputError, match=r"two outputs of .* have the name"):
        objective_of(*wanted)


@pytest.mark.parametrize("learned", [False, True])
def test_plain_values_give_back_the_objectives(learned):
    wanted = ["class", {"target": "x", "kind": "huber", "delta": 3}, "y:quantile:0.1,0.9"]
    objective = objective_of(*wanted, learned=learned, transforms={"y": "log"})
    objective.fit(data())
    again = objective_from_dict(objective.to_dict())
    assert again.to_dict().keys() == objective.to_dict().keys()
    outputs = torch.randn(5, objective.num_outputs)
    for name, found in objective(outputs).items():
        assert torch.equal(found.mean, again(outputs)[name].mean)
    assert again.targets[1].target.transform == "log"
    assert again.targets[0].delta == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parts": []}, "objective.parts"),
        ({"parts": [{"kind": "gausian", "target": {"name": "x"}}]}, "did you mean 'gaussian'"),
        ({"parts": [{"kind": "gaussian"}]}, "no target"),
        ({"parts": [{"kind": "squared", "target": {"name": "x", "scale": -1.0}}]}, "scale"),
        ({"weights": [1.0, 2.0]}, "2 numbers for 1 objective"),
        ({"log_scales": torch.zeros(3)}, "log_scales: not 1 numbers"),
    ],
)
def test_damaged_values_end_in_one_line(change, message):
    values = {"parts": [{"kind": "squared", "target": {"name": "x"}}], "weights": [1.0]}
    with pytest.raises(InputError, match=message):
        objective_from_dict(values | change)


def test_a_label_must_be_0_or_1():
    jets = data(4)
    objective = objective_of("x:binary")
    with pytest.raises(InputError, match=r"label 'x' is .* for jet 0 of the training jets"):
        objective.fit(jets)


def test_weighted_quantiles_of_equal_weights_are_those_of_torch():
    values = torch.randn(101, dtype=torch.float64)
    levels = [0.05, 0.3, 0.5, 0.99]
    found = weighted_quantiles(values, torch.full((101,), 2.0), levels)
    expected = values.quantile(torch.tensor(levels, dtype=torch.float64))
    torch.testing.assert_close(found, expected)
    assert weighted_quantiles(values[:1], torch.ones(1), [0.5]) == values[0]
