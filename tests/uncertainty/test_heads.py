"""Laplace and mean-field heads against autograd, sampling, and posteriors on a grid."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pcloud.errors import InputError
from pcloud.uncertainty import HeadSplit, LaplaceHead, MeanFieldHead
from pcloud.uncertainty.laplace import softmax_hessian
from tests.models.contract import make_jets, make_model


def problem(number=60, classes=3, width=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(number, width - 1, generator=generator, dtype=torch.float64)
    features = torch.cat([x, torch.ones(number, 1, dtype=torch.float64)], dim=1)
    weight = torch.randn(classes, width, generator=generator, dtype=torch.float64)
    labels = torch.multinomial((features @ weight.T).softmax(-1), 1, generator=generator)[:, 0]
    return weight, features, labels


def test_the_hessian_is_that_of_autograd():
    weight, features, labels = problem()

    def loss(flat):
        return F.cross_entropy(features @ flat.view_as(weight).T, labels, reduction="sum")

    expected = torch.func.hessian(loss)(weight.flatten())
    found = softmax_hessian(features, (features @ weight.T).softmax(-1))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_the_covariance_is_the_inverse_of_the_hessian_with_the_prior():
    weight, features, labels = problem()
    head = LaplaceHead.fit(weight, features, labels, prior_precision=0.7)
    precision = head.hessian + 0.7 * torch.eye(12, dtype=torch.float64)
    torch.testing.assert_close(head.covariance() @ precision, torch.eye(12, dtype=torch.float64))
    jacobian = torch.kron(torch.eye(3, dtype=torch.float64), features[:1])
    expected = jacobian @ head.covariance() @ jacobian.T
    torch.testing.assert_close(head.logit_covariance(features[:1])[0], expected)


def test_drawn_logits_have_the_covariance_of_the_posterior():
    weight, features, labels = problem()
    head = LaplaceHead.fit(weight, features, labels, prior_precision=1.0)
    drawn = head.sample(features[:5], 20_000, torch.Generator().manual_seed(1))
    torch.testing.assert_close(drawn.mean(0), features[:5] @ weight.T, atol=0.05, rtol=0)
    for jet in range(5):
        expected = head.logit_covariance(features[jet : jet + 1])[0]
        torch.testing.assert_close(drawn[:, jet].T.cov(), expected, atol=0.06, rtol=0.05)


def test_the_probit_formula_is_close_to_sampling():
    weight, features, labels = problem(40, classes=2)
    head = LaplaceHead.fit(weight, features, labels, prior_precision=0.3)
    drawn = head.sample(features, 5000, torch.Generator().manual_seed(1)).softmax(-1)[..., 1]
    logit = features @ (weight[1] - weight[0])
    cov = head.logit_covariance(features)
    variance = cov[:, 0, 0] + cov[:, 1, 1] - 2 * cov[:, 0, 1]
    probit = (logit / (1 + torch.pi / 8 * variance).sqrt()).sigmoid()  # MacKay's formula
    torch.testing.assert_close(probit, drawn.mean(0), atol=0.02, rtol=0)


def test_the_prior_precision_has_the_largest_evidence():
    head = LaplaceHead.fit(*problem(200))
    best = head.log_evidence(head.prior_precision)
    for factor in (0.8, 0.95, 1.05, 1.25):
        assert head.log_evidence(factor * head.prior_precision) < best


def test_the_evidence_of_a_nearly_gaussian_posterior_is_that_of_a_grid():
    # one weight, w for the first class and -w for the second: P(1 | x) = sigmoid(-2 w x)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, generator=generator, dtype=torch.float64)
    labels = (torch.rand(400, generator=generator) > torch.sigmoid(x)).long()
    precision = 2.0
    grid = torch.linspace(-2, 2, 4001, dtype=torch.float64)
    log_likelihood = F.logsigmoid(torch.where(labels == 1, -1, 1)[:, None] * 2 * x[:, None] * grid)
    log_posterior = log_likelihood.sum(0) - precision * grid**2
    best = grid[log_posterior.argmax()]
    weight = torch.stack([best, -best]).unsqueeze(1)
    head = LaplaceHead.fit(weight, x[:, None], labels, prior_precision=precision)
    # posterior of the difference of the weights, which is all that the labels know
    posterior = log_posterior.softmax(0)
    deviation = ((grid - (posterior * grid).sum()).square() * posterior).sum().sqrt()
    covariance = head.covariance()
    difference = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert 2 * float(deviation) == pytest.approx(float(difference.sqrt()), rel=0.03)


def test_uncertainty_of_the_posterior_falls_with_the_training_jets():
    spreads = []
    for number in (100, 400, 1600):
        weight, features, labels = problem(number, seed=3)
        head = LaplaceHead.fit(weight, features, labels, prior_precision=1.0)
        spreads.append(
            float(head.logit_covariance(problem(50, seed=9)[1]).diagonal(dim1=1, dim2=2).mean())
        )
    # 1 / n, up to the direction common to all classes, of which only the prior knows
    assert spreads[0] > spreads[1] > spreads[2]


def grid_posterior(x, labels, precision, size=201):
    """Posterior of (w, b) of a logistic regression with P(1) = sigmoid(w x + b), on a grid."""
    w, b = np.meshgrid(np.linspace(-1, 4, size), np.linspace(-3, 3, size), indexing="ij")
    logits = w[..., None] * x + b[..., None]
    log_p = -np.logaddexp(0, np.where(labels == 1, -logits, logits)).sum(-1)
    log_p -= precision * (w**2 + b**2) / 2
    p = np.exp(log_p - log_p.max())
    return w, b, p / p.sum()


def test_both_heads_predict_as_the_exact_posterior_of_a_logistic_regression():
    rng = np.random.default_rng(0)
    x = rng.normal(size=80)
    labels = (rng.random(80) < 1 / (1 + np.exp(-1.5 * x))).astype(int)
    precision = 0.5  # of w and b, each the difference of two weights of precision 1
    w, b, posterior = grid_posterior(x, labels, precision)
    at = np.array([-3.0, 0.0, 1.0, 6.0])
    exact = ((1 / (1 + np.exp(-(w[..., None] * at + b[..., None])))) * posterior[..., None]).sum(
        (0, 1)
    )
    features = torch.tensor(np.stack([x, np.ones(80)], 1))
    test = torch.tensor(np.stack([at, np.ones(4)], 1))
    best = np.unravel_index(posterior.argmax(), posterior.shape)
    half = torch.tensor([w[best], b[best]]) / 2
    weight = torch.stack([-half, half])
    y = torch.tensor(labels)
    laplace = LaplaceHead.fit(weight, features, y, prior_precision=1.0)
    mean_field = MeanFieldHead.fit(weight, features, y, prior_precision=1.0, steps=1000)
    for head in (laplace, mean_field):
        drawn = head.sample(test, 4000, torch.Generator().manual_seed(0)).softmax(-1)[..., 1]
        np.testing.assert_allclose(drawn.mean(0).numpy(), exact, atol=0.02)
    # the spread, too, of the logit: correlations are small here, so that mean field has it
    logit = w[..., None] * at + b[..., None]
    mean = (logit * posterior[..., None]).sum((0, 1))
    spread = np.sqrt(((logit - mean) ** 2 * posterior[..., None]).sum((0, 1)))
    for head in (laplace, mean_field):
        drawn = head.sample(test, 4000, torch.Generator().manual_seed(0))
        found = (drawn[..., 1] - drawn[..., 0]).std(0).numpy()
        np.testing.assert_allclose(found, spread, rtol=0.15)


def test_the_divergence_is_that_of_torch():
    head = MeanFieldHead(problem()[0], prior_precision=2.0)
    posterior = torch.distributions.Normal(head.mean, head.log_deviation.exp())
    prior = torch.distributions.Normal(torch.zeros_like(head.mean), 2.0**-0.5)
    expected = torch.distributions.kl_divergence(posterior, prior).sum()
    torch.testing.assert_close(head.divergence(), expected)
    learned = MeanFieldHead(problem()[0]).divergence()
    for precision in (0.5, 1.0, 1.5):
        assert learned <= MeanFieldHead(problem()[0], prior_precision=precision).divergence()


@pytest.mark.parametrize("name", ["pfn", "particlenet_lite", "lorentznet"])
def test_the_head_of_a_network_is_found(name):
    model, inputs = make_model(name), make_jets()
    split = HeadSplit(model, *inputs)
    logits = split.features(*inputs) @ split.weight.T
    with torch.no_grad():
        torch.testing.assert_close(logits, model(*inputs).double(), rtol=1e-4, atol=1e-4)


def test_a_network_without_a_linear_end_is_refused():
    class Squashed(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 2)

        def forward(self, x):
            return self.linear(x).tanh()

    with pytest.raises(InputError, match="not linear"):
        HeadSplit(Squashed(), torch.randn(4, 3))
