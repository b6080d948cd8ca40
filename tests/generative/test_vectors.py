"""VAE and GAN on vectors: known limits, conditions, and bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pcloud.errors import InputError, UnknownNameError
from pcloud.evaluation.figures.generators import generator_curves_figure, images_figure
from pcloud.evaluation.generation import spacing
from pcloud.generative import GAN, VAE, fit_generator

LABEL = torch.arange(2000) % 2


@pytest.fixture(scope="module")
def points():
    """Two Gaussians, one for each class."""
    torch.manual_seed(0)
    mean = torch.tensor([[1.0, 0.0], [-1.0, 0.5]])
    return mean[LABEL] + 0.3 * torch.randn(2000, 2)


def test_a_vae_reaches_the_entropy_of_gaussians(points):
    model = VAE(2, 2, code=2, widths=(32,), warm_up=100)
    curves = fit_generator(model, points, LABEL, steps=500, lr=1e-2)
    entropy = 2 * (math.log(0.3) + 0.5 * (1 + math.log(2 * math.pi)))
    assert np.mean(curves["loss"][-50:]) == pytest.approx(entropy, abs=0.1)
    made = model.sample(LABEL)
    for kind in (0, 1):
        assert torch.allclose(made[kind == LABEL].mean(0), points[kind == LABEL].mean(0), atol=0.1)
        assert torch.allclose(made[kind == LABEL].std(0), torch.full((2,), 0.3), atol=0.06)
    assert torch.equal(model.sample(LABEL, seed=1), model.sample(LABEL, seed=1))
    # independent components of one width need no code: the decoder's own width is enough
    assert model.unused(points, LABEL) == 2


def test_the_gradient_of_the_divergence_is_that_of_gaussians():
    torch.manual_seed(1)
    model = VAE(3, code=2, widths=(8,))
    x, label = torch.randn(5, 3), torch.zeros(5).long()
    mean, log_variance = model.posterior(x, label)
    normal = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0))
    assert torch.allclose(model.divergence(x, label), expected, atol=1e-6)


def test_the_discriminator_of_equal_samples_gives_one_half(points):
    model = GAN(2, 2, widths=(32,))
    curves = fit_generator(model, points, LABEL, steps=800, lr=2e-3)
    for name in ("real", "generated"):
        assert np.mean(curves[name][-100:]) == pytest.approx(0.5, abs=0.05)
    assert np.mean(curves["discriminator loss"][-100:]) == pytest.approx(2 * math.log(2), abs=0.1)
    made = model.sample(LABEL)
    assert torch.allclose(made[LABEL == 0].mean(0), points[LABEL == 0].mean(0), atol=0.4)


def test_the_critic_measures_the_wasserstein_distance():
    """Of points at 0 and at (2, 0) it is 2, while the generator stays at 0."""
    torch.manual_seed(2)
    model = GAN(2, kind="wasserstein", widths=(32,), penalty=10.0, critic_steps=10**6)
    model.generator = torch.nn.Sequential(torch.nn.Linear(8, 2, bias=False))
    torch.nn.init.zeros_(model.generator[0].weight)
    x = torch.tensor([2.0, 0.0]) + 0.01 * torch.randn(500, 2)
    curves = fit_generator(model, x, steps=300, lr=5e-3)
    assert np.mean(curves["distance"][-50:]) == pytest.approx(2.0, abs=0.2)


def test_a_constant_generator_is_seen_by_the_spacing(points):
    model = GAN(2, 2, widths=(8,))
    torch.nn.init.zeros_(model.generator[-1].weight)
    made = model.sample(LABEL).numpy() + 1e-9 * np.random.default_rng(0).normal(size=(2000, 2))
    assert spacing(points.numpy(), made) < 1e-3


def test_pixels_are_bounded_and_figures_are_drawn():
    model = VAE(16, 10, bounded=True, widths=(16,))
    x = torch.rand(200, 16)
    curves = fit_generator(model, x, torch.arange(200) % 10, steps=20)
    made = model.sample(torch.arange(10))
    assert 0 <= float(made.min()) <= float(made.max()) <= 1
    assert len(generator_curves_figure(curves).axes) == 3
    assert len(images_figure({"made": made.view(-1, 4, 4).numpy()}).axes) == 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.randn(5, 3)}, r"takes vectors \(B, 2\)"),
        ({"x": torch.full((5, 2), math.nan)}, "not finite"),
        ({"label": torch.full((5,), 2)}, "classes from 0 to 1 are expected"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(change, message):
    given = {"x": torch.randn(5, 2), "label": torch.zeros(5).long()} | change
    with pytest.raises(InputError, match=message):
        fit_generator(VAE(2, 2), given["x"], given["label"], steps=1)


def test_options_are_checked():
    with pytest.raises(UnknownNameError, match="textbook, wasserstein"):
        GAN(2, kind="lsgan")
    with pytest.raises(InputError, match="at least 1"):
        VAE(2, code=0)
    with pytest.raises(InputError, match="values from 0 to 1"):
        fit_generator(VAE(2, bounded=True), torch.randn(5, 2), steps=1)
