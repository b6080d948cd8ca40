from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pcloud.errors import InputError
from pcloud.interpret import mean_in_plane, taylor_coefficients
from pcloud.interpret.figures import planes_figure


def train(x, y, *, steps=150, lr=0.02, seed=0, watch=None):
    """A network of one hidden layer, trained on a toy; `watch` is called at every step."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    for step in range(steps):
        if watch is not None:
            watch(step, net)
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    return lambda inputs: net(inputs).softmax(-1)[:, 1]


def gaussians(number=8000, seed=0, rho=0.0):
    """Means of +-0.5 in both inputs; with `rho` correlated for signal, against for background."""
    rng = np.random.default_rng(seed)
    y = np.arange(number) % 2
    sign = 2 * y - 1
    a, b = rng.normal(size=(2, number))
    second = sign * rho * a + np.sqrt(1 - rho**2) * b
    x = np.stack([a, second], 1) + 0.5 * sign[:, None]
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


def test_coefficients_of_a_polynomial_are_its_own():
    x = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def response(x):
        return 2 * x[:, 0] + 3 * x[:, 1] ** 2 - 4 * x[:, 0] * x[:, 2]

    found = taylor_coefficients(response, x, names=["a", "b", "c"])
    np.testing.assert_allclose(found.of("a"), 2 - 4 * x[:, 2])
    np.testing.assert_allclose(found.of("b"), 6 * x[:, 1])
    np.testing.assert_allclose(found.of("b", "b"), 3)
    np.testing.assert_allclose(found.of("a", "c"), -4)
    ranking = found.mean_absolute()
    assert list(ranking)[-1] not in ("a", "b", "c")
    assert ranking["a, c"].value == pytest.approx(4)
    assert ranking["b"].value == pytest.approx(float((6 * x[:, 1]).abs().mean()))
    scaled = found.scaled([1, 10, 100])
    np.testing.assert_allclose(scaled.of("a", "c"), -400)
    np.testing.assert_allclose(scaled.of("b", "b"), 300)


def test_the_ideal_response_to_two_gaussians_has_known_coefficients():
    x, _ = gaussians(40_000)
    found = taylor_coefficients(lambda x: x.sum(1).sigmoid(), x.double())
    ranking = {name: entry.value for name, entry in found.mean_absolute().items()}
    p = torch.sigmoid(x.double().sum(1))
    assert ranking["x1"] == pytest.approx(float((p * (1 - p)).mean()))
    assert ranking["x1"] == pytest.approx(ranking["x2"])
    assert ranking["x1, x2"] == pytest.approx(2 * ranking["x1, x1"])
    assert list(found.mean_absolute())[2] == "x1, x2"


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_trained_network_ranks_two_gaussians_alike_from_every_seed(seed):
    x, y = gaussians(seed=seed)
    found = taylor_coefficients(train(x, y, seed=seed), x[:3000]).mean_absolute()
    ideal = taylor_coefficients(lambda x: x.sum(1).sigmoid(), x[:3000]).mean_absolute()
    t = {name: entry.value for name, entry in found.items()}
    assert t["x1"] == pytest.approx(t["x2"], rel=0.1)
    assert t["x1"] == pytest.approx(ideal["x1"].value, rel=0.1)
    assert min(t["x1"], t["x2"]) > t["x1, x2"] > max(t["x1, x1"], t["x2, x2"])
    assert t["x1, x1"] == pytest.approx(t["x2, x2"], rel=0.3)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_correlation_is_learned_after_the_means(seed):
    x, y = gaussians(4000, seed=5 + seed, rho=0.5)
    course = {}

    def watch(step, net):
        if step % 10 == 0:
            found = taylor_coefficients(lambda x: net(x).softmax(-1)[:, 1], x[:500])
            course[step] = {name: entry.value for name, entry in found.mean_absolute().items()}

    train(x, y, steps=301, lr=0.01, seed=seed, watch=watch)
    end = course[300]
    # a response to x1 + x2 alone has a ratio of 1, at any time
    assert end["x1, x2"] > 1.2 * (end["x1, x1"] + end["x2, x2"])
    assert course[10]["x1, x2"] < 1.1 * (course[10]["x1, x1"] + course[10]["x2, x2"])

    def settled(name):
        return max(step for step, t in course.items() if t[name] < 0.85 * end[name])

    assert max(settled("x1"), settled("x2")) < settled("x1, x2")


def test_means_in_a_plane_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    x, y, values = rng.random((3, 200))
    edges = np.linspace(0, 1, 4), np.array([0.0, 0.5, 1.0])
    mean, number = mean_in_plane(x, y, values, edges)
    inside = (x >= 1 / 3) & (x < 2 / 3) & (y >= 0.5)
    assert mean[1, 1] == pytest.approx(values[inside].mean())
    assert number[1, 1] == inside.sum()
    empty, _ = mean_in_plane(x[:1] * 0, y[:1] * 0, values[:1], edges)
    assert np.isnan(empty[2, 1])


def test_what_cannot_be_used_is_said():
    x = torch.zeros(2, 3)
    with pytest.raises(InputError, match="order"):
        taylor_coefficients(lambda x: x[:, 0], x, order=3)
    with pytest.raises(InputError, match="2 names for 3 inputs"):
        taylor_coefficients(lambda x: x[:, 0], x, names=["a", "b"])
    with pytest.raises(InputError, match="second order was not computed"):
        taylor_coefficients(lambda x: x[:, 0], x, order=1).of("x1", "x2")


def test_planes_with_empty_cells_share_the_scale_of_their_largest_value():
    first, last = [[np.nan, 0.2], [0.0, -0.1]], [[np.nan, -0.5], [0.3, np.nan]]
    figure = planes_figure({1: first, 9: last}, [0, 1, 2], xlabel="x1", ylabel="x2", label="t")
    drawn = [axes.collections[0] for axes in figure.axes[:2]]
    assert [mesh.get_clim() for mesh in drawn] == [(-0.5, 0.5)] * 2
