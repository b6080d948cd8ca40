"""Networks of pcloud and the same networks of other codes, with equal weights.

The peers of ParticleNet, ParticleNet-Lite and the Particle Transformer are those of weaver-core
(extra ``bench``) with the settings of the papers and with weaver's trimming of padding. The peer of
LorentzNet is an edge-list implementation.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from lorentznet import EdgeListLorentzNet
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.utils import to_dense_batch

import pcloud
from pcloud.batch import collate
from pcloud.errors import InputError, MissingExtraError
from pcloud.nn import RaggedLayout

MODELS = ("particlenet", "particlenet_lite", "part", "lorentznet")
SLOTS = 128  # particles per jet in weaver's batches, before it trims them to the longest jet
CONVOLUTIONS = {
    "particlenet": [(16, (64,) * 3), (16, (128,) * 3), (16, (256,) * 3)],
    "particlenet_lite": [(7, (32,) * 3), (7, (64,) * 3)],
}
TOLERANCE = 1e-4


@dataclass
class Contender:
    """A network and the function that converts a batch of jets to its inputs."""

    name: str
    model: nn.Module
    inputs: Callable[[Batch], tuple[Tensor | RaggedLayout, ...]]


def contenders(name: str, *, precision: str = "fp32", compiled: bool = False) -> list[Contender]:
    """The peer, and the network of pcloud with the weights of the peer.

    Raises
    ------
    InputError
        If their logits differ by more than 1e-4 where both compute in float64.
    """
    torch.manual_seed(0)
    if name == "lorentznet":
        model = pcloud.build_model(name, in_features=7)
        peer = Contender("edge list", EdgeListLorentzNet(model), flat)
    else:
        peer = weaver(name, precision, compiled)
        model = with_weights_of(name, peer.model)
    ours = Contender("ours", model, flat)
    check_equality(peer, ours)
    return [peer, ours]


def weaver(name: str, precision: str, compiled: bool) -> Contender:
    """Network of weaver-core with the flags that its training script sets."""
    flags = {"use_amp": precision != "fp32", "compile_model": compiled}
    try:
        from weaver.nn.model.ParticleNet import ParticleNet
        from weaver.nn.model.ParticleTransformer import ParticleTransformer
    except ImportError as error:
        raise MissingExtraError("comparing with weaver-core", "weaver-core", "bench") from error
    if name == "part":
        model = ParticleTransformer(7, 2, use_pre_activation_pair=False, **flags)
        inputs = features_and_momenta
    else:
        hidden = 256 if name == "particlenet" else 128
        model = ParticleNet(7, 2, CONVOLUTIONS[name], [(hidden, 0.1)], use_fusion=False, **flags)
        inputs = points_and_features
    model.trimmer.warmup_steps = 0  # batches before it starts to trim
    return Contender("weaver-core", model, inputs)


def with_weights_of(name: str, model: nn.Module) -> nn.Module:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "weights.pt")
        torch.save(model.state_dict(), path)
        return pcloud.load_official(name, path)


def flat(jets: Batch) -> tuple[Tensor | RaggedLayout, ...]:
    """Inputs of a network of pcloud; on an accelerator, the loader also computes the layout."""
    if jets.x.device.type == "cpu":
        return jets.x, jets.p4, jets.batch
    return jets.x, jets.p4, jets.batch, RaggedLayout.from_ptr(jets.ptr)


def padded(x: Tensor, jets: Batch) -> tuple[Tensor, Tensor]:
    dense, mask = to_dense_batch(x, jets.batch, max_num_nodes=SLOTS, batch_size=jets.num_graphs)
    return dense.transpose(1, 2).contiguous(), mask.unsqueeze(1)


def points_and_features(jets: Batch) -> tuple[Tensor, ...]:
    """(B, 2, 128) relative pseudorapidity and azimuth, (B, 7, 128) features, (B, 1, 128) mask."""
    features, mask = padded(jets.x, jets)
    return features[:, 5:7].contiguous(), features, mask


def features_and_momenta(jets: Batch) -> tuple[Tensor, ...]:
    """(B, 7, 128) features, (B, 4, 128) momenta ``(px, py, pz, E)``, (B, 1, 128) mask."""
    features, mask = padded(jets.x, jets)
    return features, padded(jets.p4[:, [1, 2, 3, 0]], jets)[0], mask


def sample(num_jets: int) -> Batch:
    """The first jets of the embedded sample that fit into weaver's slots."""
    data = pcloud.JetDataset(pcloud.load_dataset("simulated", "test")[: num_jets + 100])
    short = (data.ptr.diff() <= SLOTS).nonzero().flatten()[:num_jets]
    return collate(data, short)


def average_jet() -> Batch:
    """One jet with the average number of particles."""
    data = pcloud.JetDataset(pcloud.load_dataset("simulated", "test")[:1000])
    counts = data.ptr.diff().float()
    return collate(data, (counts - counts.mean()).abs().argmin().view(1))


@torch.no_grad()
def check_equality(peer: Contender, ours: Contender, num_jets: int = 16) -> None:
    """Raise an error unless both give the same logits in float64, where their neighbours agree."""
    jets = sample(num_jets)
    jets.x, jets.p4 = jets.x.double(), jets.p4.double()
    theirs, own = (copy.deepcopy(c.model).double().eval()(*c.inputs(jets)) for c in (peer, ours))
    difference = (theirs - own).abs().max().item()
    if not difference < TOLERANCE:
        raise InputError(f"{peer.name} and pcloud differ by {difference:.1e} on the same jets")
