from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import pcloud
from pcloud import JetDataset
from pcloud.cli import main
from pcloud.errors import InputError
from pcloud.interpret import cloud_taylor
from pcloud.nn.numerics.derivatives import higher_derivatives
from pcloud.studies.taylor import read_taylor, taylor_run
from tests.models.contract import make_model


@pytest.fixture(scope="module")
def data():
    jets = pcloud.load_dataset("simulated", "test")[:40]
    short = np.argsort(np.diff(JetDataset(jets).ptr.numpy()))[:6]
    return JetDataset(jets[np.sort(short)])


def brute_force(model, x, p4, variables=7):
    """Gradient (P, F) and Hessian (P, F, P, F) of the probability of class 1 of one jet."""
    batch = torch.zeros(len(x), dtype=torch.long)

    def response(x):
        return model(x, p4, batch).double().softmax(-1)[0, 1]

    with higher_derivatives():
        gradient = torch.autograd.functional.jacobian(response, x)
        return gradient.double(), torch.autograd.functional.hessian(response, x).double()


@pytest.mark.parametrize("name", ["pfn", "particlenet_lite"])
def test_parts_are_sums_of_the_full_hessian(name, data):
    model = make_model(name, num_outputs=2)
    found = cloud_taylor(model, data, pair_jets=3, batch_size=4)
    unit = torch.from_numpy(found.unit).double()
    factor = 1 - 0.5 * torch.eye(7, dtype=torch.float64)
    for jet in range(3):
        particles = slice(*data.ptr[jet : jet + 2].tolist())
        gradient, hessian = brute_force(model, data.x[particles], data.p4[particles])
        gradient, hessian = gradient * unit, hessian * unit * unit.view(7, 1, 1)
        same = torch.einsum("papb->ab", hessian)
        total = hessian.sum((0, 2))
        size = float(total.abs().max())

        def close(a, b, scale):
            np.testing.assert_allclose(a, b.numpy(), rtol=1e-3, atol=1e-4 * scale)

        close(found.coefficients.first[jet], gradient.sum(0), float(gradient.abs().max()))
        close(found.coefficients.alone[jet], gradient.abs().sum(0), float(gradient.abs().max()))
        close(found.gradients[particles], gradient, float(gradient.abs().max()))
        close(found.coefficients.second[jet], total * factor, size)
        close(found.coefficients.same[jet], same * factor, size)
        close(found.coefficients.rest[jet], (total - same) * factor, size)


def test_momenta_are_varied_where_features_are_not_seen(data):
    model = make_model("lorentznet", num_outputs=2)
    with pytest.raises(InputError, match="does not depend on the features"):
        cloud_taylor(model, data, order=1)
    found = cloud_taylor(model, data, order=1, variables="momenta")
    assert found.coefficients.names == ("log_pt", "eta", "phi")
    # a turn of all particles about the beam is a symmetry, of one particle it is none
    assert np.abs(found.coefficients.of("phi")).max() < 1e-3 * found.coefficients.alone[:, 2].max()
    # the gradient in log pT is the difference of the response to larger momenta of the same mass
    x, p4 = data.x, data.p4
    batch = torch.repeat_interleave(torch.arange(len(data)), data.ptr.diff())

    def response(scale):
        momentum = p4[:, 1:].double()
        square = p4[:, 0].double() ** 2 + (scale**2 - 1) * momentum.square().sum(1)
        larger = torch.cat([square.sqrt().unsqueeze(1), scale * momentum], dim=1)
        with torch.no_grad():
            return model(x, larger, batch).double().softmax(-1)[:, 1]

    step = 2e-3
    slope = (response(np.exp(step)) - response(np.exp(-step))) / (2 * step)
    expected = slope.numpy() * found.unit[0]
    size = np.abs(expected).max()
    np.testing.assert_allclose(found.coefficients.of("log_pt"), expected, atol=0.05 * size)


@pytest.mark.parametrize("name", ["hl_mlp", "hl_logistic", "one_cut", "efn", "recnn"])
def test_a_response_that_turns_with_the_jet_has_no_coefficient_in_phi(name, data):
    """Also of the second order, to which the axes of subjets must follow their particles."""
    model = make_model(name, num_outputs=2)
    mean = cloud_taylor(model, data, variables="momenta").coefficients.mean_absolute()
    found = {key: entry.value for key, entry in mean.items()}
    largest = max(found.values())
    assert 0 < largest < 100
    for pair in ("phi", "phi, phi", "log_pt, phi", "eta, phi"):
        assert found[pair] < 1e-6 * largest, pair


def test_networks_on_jet_images_are_refused_and_not_said_to_ignore_angles(data):
    with pytest.raises(InputError, match="moves from one pixel"):
        cloud_taylor(make_model("image_cnn", num_outputs=2), data, variables="momenta")


def test_momenta_are_not_varied_behind_the_back_of_features(data):
    with pytest.raises(InputError, match="uses features besides momenta"):
        cloud_taylor(make_model("part", num_outputs=2), data, order=1, variables="momenta")


def test_a_layer_with_one_derivative_is_refused_not_skipped(data):
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.square()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return 2 * x * grad

    class Tagger(nn.Module):
        def forward(self, x, p4, batch):
            jets = x.new_zeros(int(batch.max()) + 1, 2)
            return jets.index_add(0, batch, Once.apply(x.sin())[:, :2])

    assert cloud_taylor(Tagger(), data, order=1).coefficients.first.any()
    with pytest.raises(InputError, match="only a first derivative"):
        cloud_taylor(Tagger(), data)


@pytest.mark.usefixtures("small_sample", "undrawn")
def test_a_run_is_explained_epoch_by_epoch(tmp_path):
    run = pcloud.train(
        data="simulated", model="pfn", model_options={"phi_widths": [8], "head_widths": [8]}, features="kin",
        out=str(tmp_path / "run"), epochs=2, batch_size=64, max_jets=400, max_val_jets=200,
        keep_checkpoints=True, progress=False,
    )  # fmt: skip
    assert run.kept_epochs == [1, 2]
    found = taylor_run(run, jets=20, pair_jets=2)
    values = found.classes["top"]
    assert list(values.course) == [1, 2]
    assert values.pair_jets == 2
    last = values.course[2] if run.history[1]["val_loss"] < run.history[0]["val_loss"] else None
    if last is not None:  # the last epoch is the best one
        assert last["log_pt"].value == pytest.approx(values.parts["all"]["log_pt"].value)
    assert main(["explain", str(run.path), "--jets", "10", "--pair-jets", "0"]) == 0
    assert "same" not in read_taylor(run.path).classes["top"].parts
    assert main(["report", str(run.path)]) == 0
    assert "Taylor coefficients" in (run.path / "report.html").read_text("utf-8")
    with pytest.raises(InputError, match="did you mean 'top'"):
        taylor_run(run, signal="topp")
