"""Facts behind the figures of first steps, and the figures of the example."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import pcloud
from pcloud.datasets import list_datasets
from pcloud.errors import InputError
from pcloud.studies.first_steps import boundary_figure, optimizer_path, steps_figure, steps_until
from pcloud.tables import toys

Z = torch.randn(50, 4, dtype=torch.float64)


def test_softmax_ignores_an_offset_and_not_a_scale():
    torch.testing.assert_close((Z + 3.7).softmax(-1), Z.softmax(-1))
    assert ((2 * Z).softmax(-1) - Z.softmax(-1)).abs().max() > 0.05


def test_softmax_is_the_gradient_of_log_sum_exp():
    z = Z.clone().requires_grad_()
    z.logsumexp(-1).sum().backward()
    torch.testing.assert_close(z.grad, Z.softmax(-1))


def test_softmax_tends_to_argmax_and_log_sum_exp_to_the_maximum():
    one_hot = torch.nn.functional.one_hot(Z.argmax(-1), 4).double()
    torch.testing.assert_close((1e5 * Z).softmax(-1), one_hot, atol=1e-6, rtol=0)
    for scale in (1, 10, 100):
        excess = (scale * Z).logsumexp(-1) / scale - Z.amax(-1)
        assert ((excess >= -1e-12) & (excess <= math.log(4) / scale)).all()


def test_toys_have_the_shape_that_they_promise():
    table = toys.gaussians(20_000, shift=2.0, noise=0.5, correlation=0.6, seed=1)
    for label, sign in ((1, 1), (0, -1)):
        x = table[table.label == label].content()
        np.testing.assert_allclose(x.mean(0), sign, atol=0.02)
        np.testing.assert_allclose(x.std(0), 0.5, atol=0.02)
        assert np.corrcoef(x.T)[0, 1] == pytest.approx(0.6 * sign, abs=0.03)
    circles = toys.circles(500, noise=0.0)
    radius = np.hypot(*circles.columns.values())
    np.testing.assert_allclose(radius, np.where(circles.label == 1, 0.5, 1.0))
    xor = toys.xor(500, noise=0.0)
    np.testing.assert_array_equal(xor["x1"] * xor["x2"] > 0, xor.label == 1)
    for name in ("gaussians", "moons", "circles", "spirals", "xor", "curve"):
        assert name in list_datasets()
        one, two = (pcloud.load_dataset(name, n=20, noise=0.1, seed=s) for s in (0, 1))
        assert one.fingerprint() != two.fingerprint()
        assert one.fingerprint() == pcloud.load_dataset(name, n=20, noise=0.1).fingerprint()
        parts = [pcloud.load_dataset(name, s, n=20).fingerprint() for s in ("train", "val", "test")]
        assert len(set(parts)) == 3
    with pytest.raises(InputError, match="correlation must be"):
        pcloud.load_dataset("gaussians", correlation=1.0)
    with pytest.raises(InputError, match="n >= 1"):
        pcloud.load_dataset("moons", n=0)
    with pytest.raises(InputError, match=r"data set .moons.*nois"):
        pcloud.load_dataset("moons", nois=1)


def test_an_optimizer_follows_its_formula_on_a_bowl():
    path = optimizer_path("sgd", lambda p: p.square().sum() / 2, (2.0, -1.0), lr=0.1, steps=5)
    np.testing.assert_allclose(path, np.outer(0.9 ** np.arange(6), [2.0, -1.0]))
    found = optimizer_path("lbfgs", lambda p: p.square().sum(), (2.0, -1.0), lr=1.0, steps=2)
    np.testing.assert_allclose(found[-1], 0, atol=1e-6)


def test_epochs_until_a_loss():
    assert steps_until([0.5, 0.3, 0.2], 0.3) == 2
    assert math.isnan(steps_until([0.5], 0.3))
    found = {"adam": {0.1: [3, 4, 5], 1.0: [float("nan")] * 3}, "sgd": {0.1: [10, 12, 11]}}
    assert len(steps_figure(found, what="epochs").axes[0].containers) == 2


def test_a_boundary_needs_two_columns(tmp_path):
    run = pcloud.train(
        data="curve", model="mlp", objective="y:squared", out=tmp_path, epochs=1, progress=False
    )
    with pytest.raises(InputError, match="needs two columns, not 1"):
        boundary_figure(run, toys.moons(5))


def test_the_example_draws_every_figure(tmp_path, run_script):
    printed = run_script("examples/first_steps.py", "--epochs", "1")
    assert printed.count(".png") == 7
    for name in ("softmax", "boundary_mlp", "paths", "capacity", "band"):
        assert (tmp_path / "first_steps" / f"{name}.png").stat().st_size > 5_000
