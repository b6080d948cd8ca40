from __future__ import annotations

import pytest
import torch

import pcloud
from pcloud.anomaly import (
    CloudAutoencoder,
    ImageAutoencoder,
    anomaly_logits,
    anomaly_score,
    measure_collapse,
)
from pcloud.errors import InputError
from pcloud.models import model_info
from tests.models.contract import COUNTS, make_jets

SMALL = {
    "cloud_autoencoder": {"width": 8, "num_particles": 5, "code_size": 2},
    "jet_image_autoencoder": {"pixels": 9, "width": 2, "hidden": 8, "code_size": 2},
    "observable_flow": {"width": 8, "num_transforms": 1},
}


@pytest.fixture(params=sorted(SMALL))
def model(request):
    torch.manual_seed(0)
    model = pcloud.build_model(request.param, 7, 2, **SMALL[request.param])
    model.train()
    for seed in range(3):
        with torch.no_grad():
            model(*make_jets([30] * 8, seed=seed))
    return model.eval()


def test_all_detectors_of_clouds_are_tested_here():
    assert pcloud.list_models("anomalous_cloud") == sorted(SMALL)
    assert all(model_info(name).paper for name in SMALL)


def test_a_score_that_differs_by_jet_has_a_gradient_for_every_parameter(model):
    scores = model.scores(*make_jets())
    assert scores.shape == (len(COUNTS),)
    assert scores.isfinite().all()
    assert scores.std() > 0
    model.train()
    anomaly_score(model(*make_jets([20] * 8))).mean().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@torch.no_grad()
def test_order_batch_and_empty_jets_change_no_score(model):
    x, p4, batch = make_jets()
    expected = model(x, p4, batch)
    order = torch.argsort(batch + 0.9 * torch.rand(len(batch)))
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(model(x[order], p4[order], batch), expected, **close)
    third = batch == 3
    alone = model(x[third], p4[third], torch.zeros_like(batch[third]))
    torch.testing.assert_close(alone[0], expected[3], **close)
    with_empty = model(x, p4, batch + (batch >= 3))
    assert with_empty.isfinite().all()
    torch.testing.assert_close(torch.cat([with_empty[:3], with_empty[4:]]), expected, **close)


def test_logits_give_their_scores_back_and_do_not_saturate():
    scores = torch.tensor([-3.0, 0.0, 0.5, 80.0, 81.0]).double()
    for classes in (2, 4):
        torch.testing.assert_close(anomaly_score(anomaly_logits(scores, classes)), scores)
    probability = anomaly_logits(scores, 2).softmax(-1)[:, 1]
    assert (probability.diff() > 1e-6).all()
    with pytest.raises(InputError, match="at least 2 outputs"):
        CloudAutoencoder(7, 1)


def blobs(number, seed):
    """Images of a Gaussian at a random place."""
    generator = torch.Generator().manual_seed(seed)
    centre = 2 + 4 * torch.rand(number, 2, 1, 1, generator=generator)
    axis = torch.arange(9.0)
    square = (axis[:, None] - centre[:, 0]) ** 2 + (axis - centre[:, 1]) ** 2
    return (-square / 2).exp().unsqueeze(1)


@torch.enable_grad()
def trained(steps=150, **options):
    torch.manual_seed(0)
    model = ImageAutoencoder(1, size=(9, 9), width=4, hidden=32, **options)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(steps):
        optimizer.zero_grad()
        model.scores(blobs(32, step)).mean().backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def autoencoders():
    return {code: trained(code_size=code) for code in (1, 4)}


@torch.no_grad()
def test_the_error_falls_with_the_size_of_the_code(autoencoders):
    images = blobs(500, 10_000)
    errors = {code: float(model.scores(images).mean()) for code, model in autoencoders.items()}
    assert errors[4] < 0.5 * errors[1] < 0.5
    assert model_of_mean(autoencoders[4], images) == pytest.approx(1, abs=0.05)


def model_of_mean(model, images):
    """Score of the mean image, which is 1 by definition."""
    difference = (images - model.mean).square().sum((1, 2, 3))
    return float((difference / model._variance().sum()).mean())


@torch.no_grad()
def test_a_denoising_autoencoder_removes_noise():
    model = trained(code_size=4, input_noise=1.0)
    images = blobs(500, 10_000)
    noisy = images + model._variance().mean().sqrt() * torch.randn_like(images)
    left = (model.reconstruct(noisy) - images).square().mean()
    assert left < 0.5 * (noisy - images).square().mean()


def test_a_collapsed_autoencoder_is_detected(autoencoders):
    images = blobs(500, 10_000)
    fine = measure_collapse(autoencoders[4], [(images,)])
    assert not fine.has_collapsed
    collapsed = ImageAutoencoder(1, size=(9, 9), code_size=4)
    with torch.no_grad():
        collapsed.encoder[-1].weight.zero_()
    found = measure_collapse(collapsed, [(images,)])
    assert found.has_collapsed
    assert "collapsed" in str(found)
    assert "codes of other" in str(found)
