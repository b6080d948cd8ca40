from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import pcloud
from pcloud.batch import JetDataset, collate
from pcloud.errors import InputError, UnknownNameError
from pcloud.nn.layout import RaggedLayout
from pcloud.observables import compute_observables
from pcloud.training.decorrelation import Decorrelation, distance_correlation


def brute_force(x: np.ndarray, y: np.ndarray) -> float:
    """The definition, index by index."""
    n = len(x)

    def centred(d: np.ndarray) -> np.ndarray:
        out = np.empty_like(d)
        for i in range(n):
            for j in range(n):
                out[i, j] = d[i, j] - d[i].mean() - d[:, j].mean() + d.mean()
        return out

    a, b = (centred(np.array([[abs(u - v) for u in z] for v in z])) for z in (x, y))
    return (a * b).mean() / np.sqrt((a * a).mean() * (b * b).mean())


def test_distance_correlation_is_its_definition():
    generator = np.random.default_rng(0)
    x = generator.normal(size=25)
    y = x**2 + 0.3 * generator.normal(size=25)
    found = distance_correlation(torch.from_numpy(x), torch.from_numpy(y))
    assert float(found) == pytest.approx(brute_force(x, y), rel=1e-10)
    assert float(distance_correlation(torch.from_numpy(x), torch.from_numpy(3 - 2 * x))) == (
        pytest.approx(1)
    )


def test_weights_count_pairs():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 12, dtype=torch.double, generator=generator)
    weights = torch.tensor([0.0, 1, 2, 1, 0, 3, 1, 1, 1, 2, 1, 1])
    repeated = torch.repeat_interleave(torch.arange(12), weights.long())
    expected = distance_correlation(x[repeated], y[repeated])
    torch.testing.assert_close(distance_correlation(x, y, weights), expected)


def test_independent_pairs_have_a_correlation_that_vanishes_and_dependent_ones_do_not():
    generator = torch.Generator().manual_seed(1)
    means = []
    for number in (50, 800):
        values = [
            distance_correlation(*torch.randn(2, number, dtype=torch.double, generator=generator))
            for _ in range(20)
        ]
        means.append(float(torch.stack(values).mean()))
    assert means[1] < 0.01 < means[0]
    assert means[0] == pytest.approx(16 * means[1], rel=0.5)  # as 1 / B
    x = torch.randn(800, dtype=torch.double, generator=generator)
    assert float(distance_correlation(x, x**2)) > 0.1  # no linear correlation here


def test_gradients_are_finite_where_scores_tie():
    x = torch.zeros(8, requires_grad=True)
    distance_correlation(x, torch.arange(8.0)).backward()
    assert x.grad.isfinite().all()


def test_the_penalty_is_over_background_jets():
    data = JetDataset(pcloud.load_dataset("simulated", "test")[:60])
    batch = collate(data, torch.arange(60))
    batch.layout = RaggedLayout.from_ptr(batch.ptr)
    logits = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    total = Decorrelation("mass", 3.0)(torch.tensor(0.5), logits, batch)
    background = batch.y == 0
    masses = compute_observables(batch.p4, batch.layout, ["mass"])[background, 0].float()
    score = logits.softmax(1)[background, 1]
    expected = 0.5 + 3 * distance_correlation(score, masses)
    torch.testing.assert_close(total, expected, rtol=1e-4, atol=1e-5)
    others = logits.clone()
    others[~background] = 0  # the scores of the signal are nobody's business
    torch.testing.assert_close(Decorrelation("mass", 3.0)(torch.tensor(0.5), others, batch), total)


def test_the_penalty_takes_the_mass_out_of_a_score():
    """Background: mass and another number, both larger for signal. Two weights are fitted."""
    generator = torch.Generator().manual_seed(0)
    label = torch.arange(400) % 2
    mass = 5 + label + torch.randn(400, generator=generator)
    other = label + torch.randn(400, generator=generator)
    p4 = torch.nn.functional.pad(mass.clamp(min=0.1).unsqueeze(1), (0, 3))  # at rest
    batch = SimpleNamespace(p4=p4, layout=RaggedLayout.from_batch(torch.arange(400)), y=label)
    shares = []
    for penalty in (0.0, 20.0):
        weight = torch.zeros(3, requires_grad=True)
        optimizer = torch.optim.Adam([weight], lr=0.1)
        for _ in range(80):
            odds = weight[0] * (mass - 5) + weight[1] * other + weight[2]
            logits = torch.stack([torch.zeros_like(odds), odds], dim=1)
            loss = torch.nn.functional.cross_entropy(logits, label)
            loss = Decorrelation("mass", penalty)(loss, logits, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        first, second, _ = weight.detach().abs().tolist()
        shares.append(first / second)
    assert shares[0] > 0.7
    assert shares[1] < 0.3


def test_the_option_reaches_the_training(options):
    options["epochs"] = 1
    plain = pcloud.train(**options, progress=False)
    options["out"] += "_decorrelated"
    paid = pcloud.train(**options, decorrelate="multiplicity", progress=False)
    jets = pcloud.read_jets(options["data"])[:20]
    assert not np.allclose(plain.predict(jets), paid.predict(jets))
    assert pcloud.Run(paid.path).config.decorrelate == "multiplicity"


def test_mistakes_are_said(options):
    with pytest.raises(UnknownNameError, match="mass"):
        Decorrelation("masses", 1.0)
    with pytest.raises(InputError, match="at least 0"):
        Decorrelation("mass", -1.0)
    with pytest.raises(InputError, match="decorrelate_weight"):
        pcloud.train(**options, decorrelate_weight=2.0, progress=False)
    with pytest.raises(UnknownNameError, match="class"):
        pcloud.train(**options, decorrelate="mass", decorrelate_background="c", progress=False)
