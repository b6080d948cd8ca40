"""Generators of vectors, such as points and pixels of small images: what VAE and GAN share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.errors import InputError
from pcloud.nn.activations import hidden_layers

__all__ = ["Curves", "VectorGenerator", "fit_generator"]

Curves = dict[str, list[float]]
"""Quantities of a training by name, with a value for each step."""


class VectorGenerator(nn.Module, ABC):
    """Generator of vectors ``x (B, F)``, with the class as condition.

    Parameters
    ----------
    size : int
        Number of components F.
    num_labels : int
        Number of classes; 0 without a condition.
    code : int
        Number of random numbers from which a vector is made.
    widths : sequence of int
        Widths of the hidden layers of all networks.
    bounded : bool
        True for components from 0 to 1, such as pixels.

    Raises
    ------
    InputError
        If a number is not positive.
    """

    def __init__(
        self,
        size: int,
        num_labels: int = 0,
        *,
        code: int = 8,
        widths: Sequence[int] = (128, 128),
        bounded: bool = False,
    ) -> None:
        super().__init__()
        if min(size, code, *widths) < 1 or num_labels < 0:
            raise InputError(
                f"size, code and widths must be at least 1, got {size}, {code} and {list(widths)}"
            )
        self.size = size
        self.num_labels = num_labels
        self.code = code
        self.widths = tuple(widths)
        self.bounded = bounded

    def network(self, inputs: int, outputs: int) -> nn.Sequential:
        """Multilayer perceptron of vectors of `inputs` components and the class."""
        widths = [inputs + self.num_labels, *self.widths]
        layers = hidden_layers(widths, "leaky_relu")
        return nn.Sequential(*layers, nn.Linear(widths[-1], outputs))

    def with_class(self, x: Tensor, label: Tensor) -> Tensor:
        """Vectors (B, F + C) with the class of each as 0 and 1."""
        if not self.num_labels:
            return x
        return torch.cat([x, F.one_hot(label, self.num_labels).to(x)], dim=-1)

    @abstractmethod
    def decode(self, code: Tensor, label: Tensor) -> Tensor:
        """Vectors (B, F) from random numbers ``code (B, K)``."""

    @torch.no_grad()
    def sample(self, label: Tensor, seed: int = 0) -> Tensor:
        """Vectors (B, F) of the classes ``label (B,)``.

        Parameters
        ----------
        label : Tensor, shape (B,)
            Classes; without a condition only their number counts.
        seed : int
            Seed of the random numbers.
        """
        generator = torch.Generator().manual_seed(seed)
        return self.decode(torch.randn(len(label), self.code, generator=generator), label)

    @abstractmethod
    def optimizers(self, lr: float) -> list[torch.optim.Optimizer]:
        """Optimizers of a training."""

    @abstractmethod
    def step(
        self, x: Tensor, label: Tensor, optimizers: Sequence[torch.optim.Optimizer]
    ) -> dict[str, float]:
        """Train on a batch; return the quantities that are recorded."""


def fit_generator(
    model: VectorGenerator,
    x: Tensor,
    label: Tensor | None = None,
    *,
    steps: int = 2000,
    batch_size: int = 128,
    lr: float = 1e-3,
    seed: int = 0,
) -> Curves:
    """Train a generator of vectors.

    Parameters
    ----------
    model : VectorGenerator
        The generator, which is trained in place.
    x : Tensor, shape (B, F)
        Vectors, of standard deviation near 1 or from 0 to 1.
    label : Tensor, shape (B,), optional
        Classes.
    steps, batch_size : int
        Number of steps, and of vectors of each.
    lr : float
        Learning rate at the start; it decreases to 0 as half a period of a cosine.
    seed : int
        Seed of batches and random numbers.

    Returns
    -------
    dict of str to list of float
        Recorded quantities of each step.

    Raises
    ------
    InputError
        If the vectors do not fit the generator, or the training diverges.

    Examples
    --------
    >>> from pcloud.generative import VAE
    >>> curves = fit_generator(VAE(2, widths=(8,)), torch.randn(100, 2), steps=5)
    >>> len(curves["loss"])
    5
    """
    label = torch.zeros(len(x), dtype=torch.long) if label is None else label
    _check(model, x, label)
    curves: Curves = {}
    optimizers = model.optimizers(lr)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.train()
        for i, rows in zip(range(steps), _batches(len(x), batch_size), strict=False):
            for group in (group for found in optimizers for group in found.param_groups):
                group["lr"] = 0.5 * lr * (1 + math.cos(math.pi * i / steps))
            found = model.step(x[rows], label[rows], optimizers)
            for name, value in found.items():
                if value != value:
                    raise InputError(f"{name} is NaN: take a smaller learning rate than {lr:g}")
                curves.setdefault(name, []).append(value)
    model.eval()
    return curves


def _batches(number: int, size: int) -> Iterator[Tensor]:
    """Indices of batches, epoch after epoch."""
    size = min(size, number)
    while True:
        order = torch.randperm(number)
        yield from (order[i : i + size] for i in range(0, number - size + 1, size))


def _check(model: VectorGenerator, x: Tensor, label: Tensor) -> None:
    if x.ndim != 2 or x.shape[1] != model.size or not len(x):
        raise InputError(f"the generator takes vectors (B, {model.size}), not {tuple(x.shape)}")
    if not bool(x.isfinite().all()):
        raise InputError("the vectors have values that are not finite")
    if model.bounded and (float(x.min()) < 0 or float(x.max()) > 1):
        raise InputError(f"values from 0 to 1 are expected, got {x.min():.3g} to {x.max():.3g}")
    if model.num_labels and not (int(label.min()) >= 0 and int(label.max()) < model.num_labels):
        raise InputError(
            f"classes from 0 to {model.num_labels - 1} are expected, got {int(label.min())} to "
            f"{int(label.max())}"
        )
