"""The gate of the fast passes, and what happens where their backward pass does not suffice."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad

from pcloud.errors import InputError
from pcloud.nn import EdgeBlock, RaggedLayout
from pcloud.nn.attention.attention import SelfAttention, padding_bias
from pcloud.nn.attention.head_slots import HeadSlots
from pcloud.nn.attention.pair_mlp import NormedMLP
from pcloud.nn.numerics.derivatives import first_derivative, higher_derivatives, kernel_allowed
from tests.models.contract import make_jets, make_model

PTR = torch.tensor([0, 2, 6])
NEIGHBORS = torch.tensor([[1, 6], [0, 6], [3, 4], [2, 4], [5, 3], [4, 2]])


class Double(nn.Module):
    """Notes whether a fast pass would be allowed."""

    def __init__(self, seen: list[bool]) -> None:
        super().__init__()
        self.note = seen.append

    def forward(self, x):
        self.note(kernel_allowed(x))
        return 2 * x


def dual(function, x):
    with forward_ad.dual_level():
        function(forward_ad.make_dual(x, x))


def higher(function, x):
    with higher_derivatives():
        function(x)


def faked(function, x):
    with FakeTensorMode() as mode:
        function(mode.from_tensor(x))


CIRCUMSTANCES = {
    "compiled": lambda f, x: torch.compile(f, backend="eager")(x),
    "exported": lambda f, x: torch.export.export(f, (x,), strict=False),
    "traced": lambda f, x: torch.jit.trace(f, x, check_trace=False),
    "grad": lambda f, x: torch.func.grad(lambda x: f(x).sum())(x),
    "jvp": lambda f, x: torch.func.jvp(f, (x,), (x,)),
    "vmap": lambda f, x: torch.vmap(f)(x),
    "vmap over another tensor": lambda f, x: torch.vmap(lambda s: s * f(x))(x),
    "dual numbers": dual,
    "higher derivatives": higher,
    "fake": faked,
    "meta": lambda f, x: f(x.to("meta")),
    "subclass": lambda f, x: f(x.as_subclass(type("Other", (torch.Tensor,), {}))),
    "empty": lambda f, x: f(x[:0]),
    "one of two empty": lambda f, x: f.note(kernel_allowed(x, x[:0])),
}


@pytest.mark.parametrize("circumstance", CIRCUMSTANCES)
def test_fast_passes_are_not_allowed_for(circumstance):
    seen: list[bool] = []
    CIRCUMSTANCES[circumstance](Double(seen), torch.ones(3))
    assert seen
    assert not any(seen)


@torch.inference_mode()
def test_fast_passes_are_allowed_for_values_and_parameters():
    assert kernel_allowed(torch.ones(3), nn.Parameter(torch.ones(2, 2)), torch.arange(4))


class Cube(torch.autograd.Function):
    """With a backward pass that autograd cannot record, because it leaves torch."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @first_derivative
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return torch.from_numpy(3 * x.detach().numpy() ** 2) * grad


def test_a_first_derivative_is_given():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    Cube.apply(x).sum().backward()
    assert x.grad.tolist() == [3.0, 12.0]


@pytest.mark.parametrize("options", [{"create_graph": True}, {"is_grads_batched": True}])
def test_a_second_derivative_and_a_batch_of_first_ones_are_refused(options):
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    grad = torch.eye(2) if "is_grads_batched" in options else torch.ones(2)
    with pytest.raises(
        RuntimeError, match=r"inside pcloud\.nn\.numerics\.derivatives\.higher_derivatives"
    ):
        torch.autograd.grad(Cube.apply(x), x, grad, **options)


def attention(training):
    layer, slots = SelfAttention(8, 2).double(), HeadSlots.of(RaggedLayout.from_ptr(PTR), 2)
    return layer, lambda x: layer(x, slots, padding_bias(x, slots.layout))


def edge_block(training):
    block = EdgeBlock(8, (4, 4)).double()
    return block, lambda x: block(x, NEIGHBORS)


def normed_mlp(training):
    layer = NormedMLP([8, 6, 4]).double()
    return layer, lambda x: layer(x.detach())


@pytest.mark.usefixtures("fast_passes")
@pytest.mark.parametrize(
    ("make", "training"),
    [
        (attention, True),
        (attention, False),
        (edge_block, True),
        (normed_mlp, True),
    ],
)
def test_second_derivatives_of_a_fast_pass_are_refused(make, training):
    torch.manual_seed(0)
    module, function = make(training)
    module.train(training)
    x = torch.randn(6, 8, dtype=torch.float64, requires_grad=True)
    parameters = [*module.parameters()]
    with pytest.raises(RuntimeError, match="higher_derivatives"):
        torch.autograd.grad(
            function(x).square().sum(), [x, *parameters], create_graph=True, allow_unused=True
        )
    with higher_derivatives():
        slopes = torch.autograd.grad(
            function(x).square().sum(), parameters, create_graph=True, allow_unused=True
        )
        sum(s.square().sum() for s in slopes if s is not None).backward()
    assert all(p.grad is not None for p in parameters)


def test_the_jet_index_cannot_be_batched():
    model = make_model("pfn")
    x, p4, batch = make_jets([3, 2])
    with pytest.raises(InputError, match=r"from_batch computes the structure of a batch of jets"):
        torch.vmap(lambda batch: model(x, p4, batch))(torch.stack([batch, batch]))
