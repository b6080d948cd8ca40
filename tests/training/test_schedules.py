"""Schedules against the numbers of the papers."""

from __future__ import annotations

import math

import pytest
import torch

from pcloud.training.recipes import RECIPES
from pcloud.training.schedules import SCHEDULES, flat_decay, one_cycle, restarts


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_stays_between_0_and_1_and_reaches_its_peak(name: str) -> None:
    factors = [SCHEDULES[name](i / 1000) for i in range(1001)]
    assert max(factors) == pytest.approx(1, abs=1e-2)
    assert min(factors) >= 0


def test_flat_decay_is_flat_for_70_percent_and_ends_at_1_percent() -> None:
    assert [flat_decay(p) for p in (0, 0.3, 0.7)] == [1, 1, 1]
    assert flat_decay(0.85) == pytest.approx(0.1)
    assert flat_decay(1) == pytest.approx(0.01)


def test_flat_decay_at_the_ends_of_epochs_is_weavers_multistep_schedule() -> None:
    """weaver: 20 epochs, the last 6 each multiply by 0.01^(1/6), applied before the epoch."""
    for epoch in range(20):
        weaver = 0.01 ** (max(0, epoch - 13) / 6)
        assert flat_decay((epoch + 1) / 20) == pytest.approx(weaver)


def test_one_cycle_has_the_learning_rates_of_the_particlenet_paper() -> None:
    peak = RECIPES["particlenet_original"].lr
    rates = {epoch: peak * one_cycle(epoch / 20) for epoch in (0, 4, 8, 16, 20)}
    expected = {0: 3e-4, 4: 1.65e-3, 8: 3e-3, 16: 3e-4, 20: 5e-7}
    assert rates == pytest.approx(expected)


def test_restarts_follow_warm_up_and_torchs_cosine_restarts() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    cosine = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=4, T_mult=2)
    assert restarts(2.5 / 35) == pytest.approx(0.5)
    for quarter in range(26 * 4 - 1):  # epochs 5 to 31
        cosine.step(quarter / 4)
        epoch = 5 + quarter / 4
        assert restarts(epoch / 35) == pytest.approx(cosine.get_last_lr()[0], abs=1e-12), epoch


def test_restarts_halve_with_every_epoch_from_31_on() -> None:
    assert restarts(33 / 35) == pytest.approx(restarts(32 / 35) / 2)
    assert restarts(1) == pytest.approx(0.5 * (1 + math.cos(math.pi * 14 / 16)) / 16)
