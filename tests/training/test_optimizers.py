"""Optimizers against formulas written out by hand."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import pcloud
from pcloud.errors import UnknownNameError
from pcloud.training.optimizers import OPTIMIZERS, build_optimizer, parameter_groups

LR = 1e-2
DECAY = 0.1


def make_model() -> nn.Module:
    torch.manual_seed(1)
    # A bias before the normalisation would have rounding as gradient, of which Lion takes the sign.
    layers = [nn.Linear(4, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2)]
    return nn.Sequential(*layers).double()


def loss_at(model: nn.Module, step: int) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(16, 4, generator=generator, dtype=torch.double)
    return F.cross_entropy(model(x), (x.sum(1) > 0).long())


def take_steps(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:

        def closure(step: int = step) -> Tensor:
            optimizer.zero_grad()
            loss = loss_at(model, step)
            loss.backward()
            return loss

        optimizer.step(closure)


def gradients(
    model: nn.Module, steps: int
) -> Iterator[tuple[int, list[tuple[nn.Parameter, float]]]]:
    """Step number from 1 with the parameters, their gradients set, and their weight decay."""
    for step in range(steps):
        model.zero_grad()
        loss_at(model, step).backward()
        with torch.no_grad():
            yield step + 1, [(p, DECAY if p.ndim > 1 else 0.0) for p in model.parameters()]


def test_ranger_is_lookahead_over_rectified_adam() -> None:
    model, ours = make_model(), make_model()
    beta1, beta2, eps = 0.95, 0.999, 1e-5
    slow = {p: p.detach().clone() for p in model.parameters()}
    m = {p: torch.zeros_like(p) for p in model.parameters()}
    v = {p: torch.zeros_like(p) for p in model.parameters()}
    rho_max = 2 / (1 - beta2) - 1
    for t, parameters in gradients(model, 20):
        rho = rho_max - 2 * t * beta2**t / (1 - beta2**t)
        for p, decay in parameters:
            m[p] = beta1 * m[p] + (1 - beta1) * p.grad
            v[p] = beta2 * v[p] + (1 - beta2) * p.grad**2
            p -= LR * decay * p
            update = m[p] / (1 - beta1**t)
            if rho >= 5:  # from the sixth step on
                excess = (rho - 4) * (rho - 2) * rho_max
                r = math.sqrt(excess / ((rho_max - 4) * (rho_max - 2) * rho))
                update = r * math.sqrt(1 - beta2**t) * update / (v[p].sqrt() + eps)
            p -= LR * update
            if t % 6 == 0:
                slow[p] += 0.5 * (p - slow[p])
                p.copy_(slow[p])
    take_steps(ours, build_optimizer("ranger", ours, LR, DECAY), range(20))
    for a, b in zip(ours.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_lion_steps_by_the_sign_of_the_interpolated_momentum() -> None:
    model, ours = make_model(), make_model()
    m = {p: torch.zeros_like(p) for p in model.parameters()}
    for _, parameters in gradients(model, 10):
        for p, decay in parameters:
            p -= LR * decay * p
            p -= LR * torch.sign(0.9 * m[p] + 0.1 * p.grad)
            m[p] = 0.99 * m[p] + 0.01 * p.grad
    take_steps(ours, build_optimizer("lion", ours, LR, DECAY), range(10))
    for a, b in zip(ours.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_adamw_is_torchs_with_two_groups() -> None:
    model, ours = make_model(), make_model()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": DECAY}, {"params": others, "weight_decay": 0}]
    take_steps(model, torch.optim.AdamW(groups, lr=LR), range(10))
    take_steps(ours, build_optimizer("adamw", ours, LR, DECAY), range(10))
    for a, b in zip(ours.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_a_parameter_that_joins_later_counts_its_own_steps(name: str) -> None:
    of_torch, ours = make_model(), make_model()
    peer = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    optimizers = [peer(of_torch.parameters(), lr=LR, weight_decay=DECAY)]
    optimizers.append(
        OPTIMIZERS[name]([{"params": [*ours.parameters()], "weight_decay": DECAY}], LR)
    )
    for model, optimizer in zip((of_torch, ours), optimizers, strict=True):
        model[0].requires_grad_(False)
        take_steps(model, optimizer, range(3))
        model[0].requires_grad_(True)
        take_steps(model, optimizer, range(3, 8))
    for a, b in zip(ours.parameters(), of_torch.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_adam_continues_a_state_of_several_operations_bit_for_bit() -> None:
    trained = []
    for changed in (False, True):
        model = make_model()
        first = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=DECAY, foreach=True)
        take_steps(model, first, range(3))
        groups = [{"params": [*model.parameters()], "weight_decay": DECAY}]
        second = OPTIMIZERS["adamw"](groups, LR) if changed else first
        second.load_state_dict(first.state_dict())
        take_steps(model, second, range(3, 6))
        trained.append(model)
    for a, b in zip(*(model.parameters() for model in trained), strict=True):
        assert torch.equal(a, b)


def orthogonalised(m: Tensor) -> Tensor:
    """Five steps of the iteration of Newton and Schulz, in bfloat16 as in the library."""
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = m if len(m) <= m.shape[1] else m.T
    x = (wide / wide.norm()).bfloat16()
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x if len(m) <= m.shape[1] else x.T).to(m)


def test_muon_orthogonalises_the_momentum_of_matrices_and_is_adamw_for_the_rest() -> None:
    model, ours = make_model(), make_model()
    m = {p: torch.zeros_like(p) for p in model.parameters()}
    v = {p: torch.zeros_like(p) for p in model.parameters()}
    for t, parameters in gradients(model, 10):
        for p, decay in parameters:
            p -= LR * decay * p
            if p.ndim > 1:
                m[p] = 0.95 * m[p] + 0.05 * p.grad
                update = orthogonalised(0.05 * p.grad + 0.95 * m[p])
                p -= LR * 0.2 * max(p.shape) ** 0.5 * update
            else:
                m[p] = 0.9 * m[p] + 0.1 * p.grad
                v[p] = 0.95 * v[p] + 0.05 * p.grad**2
                p -= LR * m[p] / (1 - 0.9**t) / ((v[p] / (1 - 0.95**t)).sqrt() + 1e-8)
    take_steps(ours, build_optimizer("muon", ours, LR, DECAY), range(10))
    for a, b in zip(ours.parameters(), model.parameters(), strict=True):
        # steps of a matrix are rounded to bfloat16, in another order
        torch.testing.assert_close(a, b, rtol=0, atol=2e-3 if a.ndim > 1 else 2e-4)


def test_muon_takes_the_matrices_except_the_last_map() -> None:
    model = pcloud.build_model("particlenet_lite", 7)
    groups = build_optimizer("muon", model, LR, DECAY).param_groups
    name_of = {id(p): name for name, p in model.named_parameters()}
    names = {name_of[id(p)] for group in groups if group["use_muon"] for p in group["params"]}
    matrices = {name for name, p in model.named_parameters() if p.ndim > 1}
    assert names == matrices - {"head.output.weight"}
    assert "head.0.weight" in names
    others = [group for group in groups if not group["use_muon"]]
    assert {group["weight_decay"] for group in others} == {0.0, DECAY}
    assert sum(len(group["params"]) for group in groups) == len(name_of)


def test_muon_leaves_rows_columns_and_the_objective_to_adamw() -> None:
    model = nn.ModuleDict({"row": nn.Linear(4, 1), "matrix": nn.Linear(4, 3)})
    objective = nn.Linear(5, 5)
    groups = build_optimizer("muon", model, LR, objective=objective).param_groups
    (matrices,) = [group["params"] for group in groups if group["use_muon"]]
    assert [p.shape for p in matrices] == [(3, 4)]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("interrupted", [1, 5, 6, 9])  # Lookahead's cycles end at 6, 12
def test_an_optimizer_restored_from_a_file_continues_bit_for_bit(
    name: str, interrupted: int
) -> None:
    whole, first, second = make_model(), make_model(), make_model()
    take_steps(whole, build_optimizer(name, whole, LR, DECAY), range(15))

    optimizer = build_optimizer(name, first, LR, DECAY)
    take_steps(first, optimizer, range(interrupted))
    file = io.BytesIO()
    torch.save([first.state_dict(), optimizer.state_dict()], file)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)

    # as in a continued run: the optimizer is made after the weights are loaded
    second.load_state_dict(weights)
    optimizer = build_optimizer(name, second, LR, DECAY)
    optimizer.load_state_dict(state)
    take_steps(second, optimizer, range(interrupted, 15))
    for key, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key


def test_weight_decay_spares_biases_norms_and_what_the_model_names() -> None:
    class WithToken(nn.Module):
        no_weight_decay = ("token",)

        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.zeros(1, 1, 8))
            self.linear = nn.Linear(8, 8)
            self.norm = nn.LayerNorm(8)
            self.frozen = nn.Linear(8, 8).requires_grad_(False)

    model = WithToken()
    decayed, others = parameter_groups(model, 0.3)
    assert decayed["weight_decay"] == 0.3
    assert others["weight_decay"] == 0
    assert {id(p) for p in decayed["params"]} == {id(model.linear.weight)}
    spared = {model.token, model.linear.bias, model.norm.weight, model.norm.bias}
    assert {id(p) for p in others["params"]} == {id(p) for p in spared}


def test_an_unknown_optimizer_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'ranger'"):
        build_optimizer("rangr", make_model(), LR)
