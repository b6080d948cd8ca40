"""Exported networks for single jets against the networks themselves."""

from __future__ import annotations

import pytest
import torch

from pcloud.models import OneJet, build_model

SMALL = {
    "particlenet_lite": {"widths": ((8, 8), (8,)), "head_widths": (8,)},
    "dgcnn": {"widths": (8, 8), "embed_width": 16, "head_widths": (8,)},
    "lorentznet": {"num_layers": 2, "width": 8},
    "pfn": {"phi_widths": (8, 8), "head_widths": (8,)},
    "efn": {"phi_widths": (8, 8), "head_widths": (8,)},
}
"""Options of few and narrow layers: exporting takes a time in proportion to the operations."""

EMPTY_SLOTS = {"particlenet_lite": 8, "dgcnn": 20}
PARTICLES = ({0: torch.export.Dim("particles", min=2, max=500)},) * 2


def jet(particles):
    torch.manual_seed(particles)
    momentum = torch.randn(particles, 3) + torch.tensor([50.0, 3.0, 4.0])
    energy = momentum.square().sum(1, keepdim=True).add(0.02).sqrt()
    return torch.randn(particles, 7), torch.cat([energy, momentum], 1)


def one_jet(name):
    model = build_model(name, in_features=7, **SMALL[name]).eval()
    return OneJet(model, empty_slots=EMPTY_SLOTS.get(name, 0))


@pytest.mark.parametrize("name", ["lorentznet", "pfn"])
def test_an_exported_network_takes_jets_of_any_length(name):
    network = one_jet(name)
    program = torch.export.export(network, jet(30), dynamic_shapes=PARTICLES).module()
    check_scores(network, program)


def check_scores(network, program):
    """Of an exported program and of the network itself, not only of the length of the example."""
    for n in (2, 5, 30, 120):
        x, p4 = jet(n)
        expected = network.model(x, p4, torch.zeros(n, dtype=torch.long))
        torch.testing.assert_close(program(x, p4), expected, rtol=1e-4, atol=1e-5)


def test_without_empty_slots_a_neighbour_search_asks_for_enough_particles():
    model = build_model("particlenet_lite", in_features=7, widths=((8,),)).eval()
    with pytest.raises(torch._dynamo.exc.UserError, match="8 <= "):
        torch.export.export(OneJet(model), jet(30), dynamic_shapes=PARTICLES)


@pytest.mark.filterwarnings("ignore")  # of the exporter
@pytest.mark.parametrize(
    "name",
    ["particlenet_lite", *(pytest.param(n, marks=pytest.mark.once) for n in ("dgcnn", "efn"))],
)
def test_an_exported_network_and_its_onnx_file_give_the_same_scores(name, tmp_path):
    pytest.importorskip("onnxscript", reason="extra 'onnx' is not installed")
    onnxruntime = pytest.importorskip("onnxruntime", reason="extra 'onnx' is not installed")
    network = one_jet(name)
    exported = torch.onnx.export(
        network,
        jet(30),
        tmp_path / "tagger.onnx",
        dynamo=True,
        dynamic_shapes=PARTICLES,
        input_names=["x", "p4"],
        verbose=False,
    )
    check_scores(network, exported.exported_program.module())
    session = onnxruntime.InferenceSession(tmp_path / "tagger.onnx")
    for n in (2, 7, 30, 120):
        x, p4 = jet(n)
        p4[1::4] = p4[::4][: len(p4[1::4])]  # coinciding particles
        expected = network(x, p4)
        order = torch.randperm(n)
        (found,) = session.run(None, {"x": x[order].numpy(), "p4": p4[order].numpy()})
        torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-5)
