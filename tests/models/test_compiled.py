"""Models give the same scores under ``torch.compile``."""

from __future__ import annotations

import pytest
import torch

import pcloud
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
