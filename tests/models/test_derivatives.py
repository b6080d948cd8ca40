"""First and second derivatives of every registered model, while training and while scoring.

The plain formulas are those inside `higher_derivatives`. Outside of it the fast passes must give
the same first derivatives, and the same second derivatives or an error. The plain formulas
themselves are held against finite differences.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call

import pcloud
from pcloud.images import build_network
from pcloud.nn.attention.attention import SelfAttention
from pcloud.nn.numerics.derivatives import higher_derivatives
from pcloud.nn.stochastic_depth import StochasticDepth
from tests.models.contract import build, make_jets

COUNTS = [9, 4, 1, 17]
FEWER = {"width": 4, "num_blocks": (1, 1, 1, 1)}
SMALLER = {
    "group_resnet34": FEWER,
    "image_cnn": {"pixels": 32},
    "image_resnext": {"pixels": 32, "num_blocks": (1, 1, 1, 1)},
    "pixel_cloud": {"threshold": 2.0},
    "resnet34": FEWER,
}
MODELS = [
    *pcloud.list_models(),
    "part of version 3",
    "lloca of particlenet",
    *pcloud.list_models("image"),
]
STEPS = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8)


@dataclass
class Example:
    """A model in double precision without dropout, and its differentiable and other inputs."""

    name: str
    model: nn.Module
    inputs: dict[str, Tensor]
    rest: tuple[Tensor, ...]

    @property
    def parameters(self) -> dict[str, Tensor]:
        return {n: p for n, p in self.model.named_parameters() if p.requires_grad}

    @property
    def everything(self) -> dict[str, Tensor]:
        return self.inputs | self.parameters

    def outputs(self, *inputs: Tensor) -> Tensor:
        torch.manual_seed(1)  # one network turns its images at random while training
        return self.model(*(inputs or self.inputs.values()), *self.rest)

    def loss(self) -> Tensor:
        out = self.outputs()
        return (out.tanh() * torch.linspace(-1, 1, out.numel()).view_as(out).to(out)).sum()

    def penalty(self) -> Tensor:
        """Sum of the squared gradients of the loss in all inputs."""
        slopes = torch.autograd.grad(
            self.loss(), [*self.inputs.values()], create_graph=True, allow_unused=True
        )
        return sum(slope.square().sum() for slope in slopes if slope is not None)


def gradients(value: Tensor, tensors: Iterable[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(value, [*tensors], allow_unused=True, materialize_grads=True)


def largest(tensors: Iterable[Tensor]) -> float:
    return max(tensor.abs().max().item() for tensor in tensors)


def without_dropout(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, SelfAttention | StochasticDepth):
            module.dropout = 0.0
    return model


def of_jets(name: str) -> Example:
    torch.manual_seed(0)
    model = without_dropout(build(name, **SMALLER.get(name, {})))
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm1d) and norm.affine:
            nn.init.uniform_(norm.weight, 0.8, 1.2)
            nn.init.uniform_(norm.bias, -0.2, 0.2)
    x, p4, batch = make_jets(COUNTS)
    return Example(name, model.double(), {"x": x.double(), "p4": p4.double()}, (batch,))


def of_images(name: str) -> Example:
    torch.manual_seed(0)
    model = without_dropout(build_network(name, 1, 3, (32, 32), **SMALLER.get(name, {})))
    return Example(name, model.double(), {"images": torch.randn(3, 1, 32, 32).double()}, ())


@pytest.fixture(scope="module", params=MODELS)
def example(request):
    made = (of_images if request.param in pcloud.list_models("image") else of_jets)(request.param)
    for tensor in made.inputs.values():
        tensor.requires_grad_()
    return made


@pytest.fixture(params=["training", "scoring"])
def mode(request, example):
    example.model.train(request.param == "training")


@pytest.mark.usefixtures("mode")
def test_first_derivatives_are_those_of_the_plain_formulas(example):
    ours = gradients(example.loss(), example.everything.values())
    with higher_derivatives():
        plain = gradients(example.loss(), example.everything.values())
    for name, a, b in zip(example.everything, ours, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10 * largest(plain), msg=name)


@pytest.mark.usefixtures("mode")
def test_second_derivatives_are_those_of_the_plain_formulas_or_refused(example):
    with higher_derivatives():
        plain = gradients(example.penalty(), example.everything.values())
    try:
        ours = gradients(example.penalty(), example.everything.values())
    except RuntimeError as error:
        assert "higher_derivatives()" in str(error)  # noqa: PT017
        return
    for name, a, b in zip(example.everything, ours, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9 * largest(plain), msg=name)


@pytest.mark.usefixtures("mode")
def test_second_derivatives_of_the_plain_formulas_are_those_of_finite_differences(example):
    groups = {name: {name: tensor} for name, tensor in example.inputs.items()}
    for group in (*groups.values(), example.parameters):
        generator = torch.Generator().manual_seed(0)
        direction = {
            name: torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
            / (len(group) * tensor.numel()) ** 0.5
            for name, tensor in group.items()
        }
        with higher_derivatives():
            found = gradients(example.penalty(), group.values())
        along = [(g * d).sum() for g, d in zip(found, direction.values(), strict=True)]
        size = sum((g * d).square().sum() for g, d in zip(found, direction.values(), strict=True))
        # A step over the kink of a ReLU spoils a difference: one of the steps must agree.
        errors = []
        for step in STEPS:
            errors.append(abs(difference(example, direction, step) - sum(along)).item())
            if errors[-1] <= 1e-4 * size.sqrt():
                break
        else:
            pytest.fail(f"{[*group][:3]}: {float(sum(along))} differs by {errors}")


def difference(example: Example, direction: dict[str, Tensor], step: float) -> Tensor:
    """Central difference of the penalty along `direction`, from first derivatives alone."""
    values = []
    for sign in (1, -1):
        move(example, direction, sign * step)
        with higher_derivatives():
            values.append(example.penalty().detach())
        move(example, direction, -sign * step)
    return (values[0] - values[1]) / (2 * step)


@torch.no_grad()
def move(example: Example, direction: dict[str, Tensor], step: float) -> None:
    for name, change in direction.items():
        example.everything[name].add_(change, alpha=step)


@pytest.mark.usefixtures("mode")
def test_forward_mode_agrees_with_the_backward_pass(example):
    generator = torch.Generator().manual_seed(0)
    tangents = [
        torch.randn(t.shape, generator=generator, dtype=t.dtype) for t in example.inputs.values()
    ]
    try:
        with forward_ad.dual_level():
            inputs = map(forward_ad.make_dual, example.inputs.values(), tangents)
            tangent = forward_ad.unpack_dual(example.outputs(*inputs)).tangent
    except NotImplementedError as error:  # turned images in torch, linear maps in lgatr
        assert "grid_sampler" in str(error) or "implement the jvp" in str(error)  # noqa: PT017
        return
    upstream = torch.linspace(-1, 1, tangent.numel()).view_as(tangent).to(tangent)
    slopes = gradients((example.outputs() * upstream).sum(), example.inputs.values())
    expected = sum((s * t).sum() for s, t in zip(slopes, tangents, strict=True))
    scale = sum((s * t).square().sum() for s, t in zip(slopes, tangents, strict=True)).sqrt()
    assert abs((tangent * upstream).sum() - expected) < 1e-8 * scale


def test_torch_func_gives_the_same_gradients(example):
    example.model.eval()
    expected = gradients(example.outputs().tanh().sum(), example.inputs.values())
    numbers = tuple(range(len(expected)))
    inputs = [tensor.detach() for tensor in example.inputs.values()]
    ours = torch.func.grad(lambda *inputs: example.outputs(*inputs).tanh().sum(), numbers)(*inputs)
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10 * largest(expected))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@torch.no_grad()
def test_an_ensemble_is_scored_by_vmap(example):
    example.model.eval()
    inputs = (*example.inputs.values(), *example.rest)
    members = {name: torch.stack([p, 1.1 * p]) for name, p in example.parameters.items()}

    def score(parameters):
        return functional_call(example.model, parameters, inputs)

    expected = [score({name: p[i] for name, p in members.items()}) for i in range(2)]
    torch.testing.assert_close(torch.vmap(score)(members), torch.stack(expected))
