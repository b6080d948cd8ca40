"""Models give the same scores under ``torch.compile``."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.testing import CompileCounter

import pcloud
from pcloud.nn import RaggedLayout
from tests.models.contract import ONE_BLOCK, make_jets, make_model

COMPILED_AS = {
    "dgcnn": "particlenet_lite",
    "efn": "pfn",
    "hl_logistic": "hl_mlp",
    "image_resnext": "image_cnn",
    "gru": "lstm",
    "jet_images": "image_cnn",
    "one_cut": "hl_mlp",
    "particlenet": "particlenet_lite",
    "rnn": "lstm",
    "transformer": "part",
}
"""Models made of the layers of another, which is compiled in their place."""

LOWERED = ("lorentznet", "part", "particlenet_lite")
"""Models whose graphs PyTorch also lowers, by code of its own, which takes as long as tracing them."""

MODELS = [*sorted({*pcloud.list_models()} - COMPILED_AS.keys()), "part of version 3"]

COUNTS = [1, 2, 40, 5]
"""Two dense blocks, one of them padded: what is done for each block is compiled for each."""


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in LOWERED else pytest.mark.once) for n in MODELS]
)
@torch.no_grad()
def test_compiled_scores_are_the_same(name):
    model, inputs = make_model(name, **ONE_BLOCK.get(name, {})), make_jets(COUNTS)
    backend = "aot_eager" if name in LOWERED else "eager"
    compiled = torch.compile(model, backend=backend, dynamic=True)
    torch.testing.assert_close(compiled(*inputs), model(*inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.once
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # by the compiler
@pytest.mark.parametrize("name", ["pfn", "particlenet_lite"])
def test_ten_batches_of_different_sizes_are_compiled_once(name):
    torch._dynamo.reset()
    counter = CompileCounter()
    model = pcloud.build_model(name, in_features=7).train()
    compiled = torch.compile(model, backend=counter, dynamic=True)
    generator = torch.Generator().manual_seed(0)
    graphs = []
    for number in range(3, 13):  # jets, of different numbers of blocks
        counts = torch.randint(1, 60, (number,), generator=generator)
        x, p4, batch = make_jets(counts.tolist())
        layout = RaggedLayout.from_ptr(torch.cat([counts.new_zeros(1), counts.cumsum(0)]))
        compiled(x, p4, batch, layout).sum().backward()
        graphs.append(counter.frame_count)
    assert graphs == graphs[:1] * 10
