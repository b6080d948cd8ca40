"""Every model runs on an accelerator, as far as this can be known without one.

Fake tensors on the ``meta`` device have shapes and no values: what mixes them with tensors on the
CPU fails, and so does what looks at a value, as every look at a GPU makes the host wait for it.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

import pcloud
from pcloud.features import feature_set
from pcloud.nn import RaggedLayout
from tests.models.contract import ONE_BLOCK, build, make_jets

# These cluster jets, in a loop that ends when all are clustered.
CLUSTER = {"hl_logistic", "hl_mlp", "one_cut", "recnn"}
# This one waits once more, for the lengths of halved sequences.
RECURRENT = {"deepjet", "rnn", "gru", "lstm"}
"""Networks whose packed particles need the lengths, at which they look once."""

LOOKS_AGAIN = "pcnn"
COUNTS = [1, 2, 20, 17]
_MAKE_FROM_VALUES = (torch.tensor, torch.as_tensor, Tensor.new_tensor)


class Constants(TorchFunctionMode):
    """Counts tensors made on the device from values on the host, for which the host waits too."""

    count = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.count += func in _MAKE_FROM_VALUES and result.is_meta
        return result


class Looks(TorchFunctionMode):
    """Collects the names of functions for whose result the host would wait."""

    NAMES = ("tolist", "item", "cpu", "numpy", "nonzero", "__bool__", "__int__", "__float__")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        indices = args[1] if name == "__getitem__" else ()
        by_mask = any(
            isinstance(i, Tensor) and i.dtype == torch.bool
            for i in (indices if isinstance(indices, tuple) else (indices,))
        )
        of_unknown_size = name == "repeat_interleave" and "output_size" not in (kwargs or {})
        if name in self.NAMES or by_mask or of_unknown_size:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def fake(x: Tensor) -> Tensor:
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")


def fake_state(model: torch.nn.Module) -> dict[str, Tensor]:
    parameters = {k: fake(v).requires_grad_() for k, v in model.named_parameters()}
    return parameters | {k: fake(v) for k, v in model.named_buffers()}


@pytest.fixture(
    params=sorted({*pcloud.list_models()} - CLUSTER - RECURRENT - {LOOKS_AGAIN}), scope="module"
)
def model(request):
    return build(request.param, **ONE_BLOCK.get(request.param, {}))


def test_features_and_training_step_stay_on_the_device(model):
    jets = make_jets(COUNTS)
    layout = RaggedLayout.from_batch(jets[2])
    with FakeTensorMode(allow_non_fake_inputs=True), Constants() as constants:
        state, (x, p4, batch) = fake_state(model), map(fake, jets)
        layout = layout._apply(fake)
        x = feature_set("kin")(p4, batch, num_jets=layout.num_jets)
        logits = functional_call(model.train(), state, (x, p4, batch, layout))
        labels = fake(torch.zeros(len(COUNTS), dtype=torch.long))
        torch.nn.functional.cross_entropy(logits, labels).backward()
    assert logits.is_meta
    assert logits.shape == (len(COUNTS), 3)
    assert constants.count == 0
    gradients = [t.grad for t in state.values() if t.grad is not None]
    assert gradients
    assert all(g.is_meta for g in gradients)


@torch.no_grad()
def test_scores_take_one_look_at_the_batch(model, monkeypatch):
    jets = make_jets(COUNTS)
    layout, looks = RaggedLayout.from_batch(jets[2]), []

    def look(batch: Tensor) -> RaggedLayout:
        looks.append(batch)
        return layout._apply(fake)

    monkeypatch.setattr(RaggedLayout, "from_batch", look)
    with FakeTensorMode(allow_non_fake_inputs=True), Constants() as constants:
        logits = functional_call(model.eval(), fake_state(model), tuple(map(fake, jets)))
    assert logits.is_meta
    assert len(looks) == 1
    assert constants.count == 0


@pytest.mark.parametrize("name", [LOOKS_AGAIN, *sorted(RECURRENT)])
@torch.no_grad()
def test_lengths_of_sequences_are_looked_at_once(name):
    model, jets = build(name).eval(), make_jets(COUNTS)
    layout = RaggedLayout.from_batch(jets[2])
    with Looks() as looks:
        model(*jets, layout)
    assert [name for name in looks.found if name != "__int__"] == ["tolist"]  # of sizes on the CPU


def test_looks_would_be_found():
    x = torch.arange(3.0)
    with Looks() as looks:
        x[x > 1], x[0].item(), x.nonzero(), torch.repeat_interleave(x, torch.tensor([1, 2, 0]))
    assert looks.found == ["__getitem__", "item", "nonzero", "repeat_interleave"]


def test_a_look_at_a_value_would_be_noticed():
    with FakeTensorMode(), pytest.raises(DataDependentOutputException):
        fake(torch.ones(())).item()


def test_a_constant_from_the_host_would_be_noticed():
    with FakeTensorMode(), Constants() as constants:
        fake(torch.ones(2)).new_tensor([1.0, -1.0])
    assert constants.count == 1
