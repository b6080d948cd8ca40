"""Exported networks for single jets against the networks themselves."""

from __future__ import annotations

import pytest
import torch

from pcloud.models import OneJet, build_model

pytestmark = pytest.mark.rounding


def jet(particles):
    torch.manual_seed(particles)
    momentum = torch.randn(particles, 3) + torch.tensor([50.0, 3.0, 4.0])
    energy = momentum.square().sum(1, keepdim=True).add(0.02).sqrt()
    return torch.randn(particles, 7), torch.cat([energy, momentum], 1)


@pytest.mark.parametrize(
    ("name", "options", "empty"),
    [
        ("particlenet_lite", {}, 8),
        ("dgcnn", {}, 20),
        ("lorentznet", {"num_layers": 2, "width": 8}, 0),
        ("pfn", {}, 0),
        ("efn", {}, 0),
    ],
)
def test_an_exported_network_takes_jets_of_any_length(name, options, empty):
    model = build_model(name, in_features=7, **options).eval()
    particles = torch.export.Dim("particles", min=2, max=500)
    program = torch.export.export(
        OneJet(model, empty_slots=empty), jet(30), dynamic_shapes=({0: particles},) * 2
    )
    for n in (2, 5, 30, 120):
        x, p4 = jet(n)
        expected = model(x, p4, torch.zeros(n, dtype=torch.long))
        torch.testing.assert_close(program.module()(x, p4), expected, rtol=1e-4, atol=1e-5)


def test_without_empty_slots_a_neighbour_search_asks_for_enough_particles():
    model = build_model("particlenet_lite", in_features=7).eval()
    particles = torch.export.Dim("particles", min=2, max=500)
    with pytest.raises(torch._dynamo.exc.UserError, match="8 <= "):
        torch.export.export(OneJet(model), jet(30), dynamic_shapes=({0: particles},) * 2)


@pytest.mark.rounding
@pytest.mark.filterwarnings("ignore")  # of the exporter
@pytest.mark.parametrize(
    ("name", "options", "empty"),
    [
        ("particlenet_lite", {}, 8),
        ("particlenet", {"widths": ((8, 8), (12,), (8,))}, 17),
        ("dgcnn", {"widths": (8, 8), "embed_width": 16, "head_widths": (8,)}, 20),
        ("efn", {"phi_widths": (8, 8), "head_widths": (8,)}, 0),
    ],
)
def test_an_onnx_file_gives_the_same_scores(name, options, empty, tmp_path):
    pytest.importorskip("onnxscript", reason="extra 'onnx' is not installed")
    onnxruntime = pytest.importorskip("onnxruntime", reason="extra 'onnx' is not installed")
    model = build_model(name, in_features=7, **options).eval()
    particles = torch.export.Dim("particles", min=2, max=500)
    one_jet = OneJet(model, empty_slots=empty)
    torch.onnx.export(
        one_jet,
        jet(30),
        tmp_path / "tagger.onnx",
        dynamo=True,
        dynamic_shapes=({0: particles},) * 2,
        input_names=["x", "p4"],
        verbose=False,
    )
    session = onnxruntime.InferenceSession(tmp_path / "tagger.onnx")
    for n in (2, 7, 30, 120):
        x, p4 = jet(n)
        p4[1::4] = p4[::4][: len(p4[1::4])]  # coinciding particles
        expected = one_jet(x, p4)
        order = torch.randperm(n)
        (found,) = session.run(None, {"x": x[order].numpy(), "p4": p4[order].numpy()})
        torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-5)
