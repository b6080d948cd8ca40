"""Jets of a generator, in memory or written to a file."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import torch
from torch import Tensor

from pcloud.errors import InputError, UnknownNameError
from pcloud.generative.coordinates import CloudCoordinates
from pcloud.generative.flow_matching import FlowMatching
from pcloud.generative.integrate import METHODS, num_passes
from pcloud.io.files import check_new_file
from pcloud.io.jets import FlatJets, as_offsets
from pcloud.io.write import write_chunks
from pcloud.nn.layout import RaggedLayout
from pcloud.order import canonical_order
from pcloud.run_files import Advance, check_writable, ignore_progress
from pcloud.training.checkpoint import Tagger
from pcloud.training.run_folder import RunFolder

__all__ = [
    "DEFAULT_STEPS",
    "Generated",
    "check_generator",
    "generate_file",
    "generate_jets",
    "origin_of",
]

DEFAULT_STEPS = 25
"""Number of steps of the integration, each with two passes through the network."""

_BLOCK = 500  # jets that are generated together, from random numbers of their own
_MAX_STEPS = 10_000


@dataclass(frozen=True)
class Generated:
    """Result of generating a file of jets.

    Parameters
    ----------
    path : Path
        The file.
    jets : int
        Number of jets.
    seconds : float
        Time that it took, without reading the network.
    passes : int
        Number of passes of each jet through the network.
    """

    path: Path
    jets: int
    seconds: float
    passes: int

    @property
    def rate(self) -> float:
        """Jets per second."""
        return self.jets / max(self.seconds, 1e-9)

    def rows(self) -> list[list[str]]:
        """Table of the numbers."""
        values = [str(self.path), f"{self.jets:,}", f"{self.rate:,.1f}", str(self.passes)]
        return [["file", "jets", "jets/s", "network passes"], values]


def check_generator(run: RunFolder, what: str = "this") -> None:
    """Check that a run is that of a generator of jets, which `what` needs.

    Raises
    ------
    InputError
        If it is not.
    """
    if run.modality.gives_scores:
        raise InputError(
            f"{what} needs a generator (pcloud train --objective generate), and {run.path} is a run of "
            f"model {run.config.model!r}"
        )
    if run.config.ensemble > 1:
        raise InputError(f"{run.path} is an ensemble: take one of its members/")


def generate_jets(
    run: RunFolder,
    num_jets: int,
    *,
    seed: int = 0,
    steps: int = DEFAULT_STEPS,
    method: str = "midpoint",
    classes: Sequence[str] | None = None,
    checkpoint: str = "best",
    advance: Advance = ignore_progress,
) -> ak.Array:
    """Generate jets, as from :func:`pcloud.read_jets`.

    Parameters
    ----------
    run : RunFolder
        The trained generator.
    num_jets : int
        Number of jets.
    seed : int
        Seed of all random numbers. The first jets of a larger number are the same.
    steps : int
        Number of steps of the integration, each with two passes through the network.
    method : {"midpoint", "heun"}
        Rule of a step.
    classes : sequence of str, optional
        Classes to generate, in equal numbers and in turn; by default all of them.
    checkpoint : str
        ``"best"`` or ``"last"``.
    advance : callable
        Progress callback, called with the part of the whole work done.

    Raises
    ------
    InputError
        If the run is not that of a generator, or a number is out of range; `UnknownNameError` for a
        class or method that does not exist.
    """
    options: dict[str, Any] = {"seed": seed, "steps": steps, "method": method}
    tagger, kinds = _prepared(run, num_jets, classes, checkpoint, **options)
    parts = _blocks(tagger, num_jets, kinds, advance, **options)
    return FlatJets.concatenate(parts, num_jets).to_awkward(tagger.feature_set.classes)  # type: ignore[attr-defined]


def generate_file(
    run: RunFolder,
    num_jets: int,
    out: str | Path,
    *,
    overwrite: bool = False,
    seed: int = 0,
    steps: int = DEFAULT_STEPS,
    method: str = "midpoint",
    classes: Sequence[str] | None = None,
    checkpoint: str = "best",
    advance: Advance = ignore_progress,
) -> Generated:
    """Generate jets and write them to a file, which appears when it is complete.

    Parameters
    ----------
    run, num_jets, seed, steps, method, classes, checkpoint, advance
        As for :func:`generate_jets`.
    out : path
        File to write: .parquet, .npz or .h5.
    overwrite : bool
        Whether `out` may exist.

    Raises
    ------
    InputError
        As from :func:`generate_jets`, before anything is generated.
    FileExistsError
        If `out` exists and `overwrite` is false.
    FileNotFoundError
        If its folder does not exist.
    """
    out = Path(out)
    if out.suffix.lower() not in (".parquet", ".npz", ".h5", ".hdf5"):
        raise InputError(f"jets are written to .parquet, .npz or .h5, not {out.name!r}")
    check_new_file(out, overwrite)
    check_writable(out.parent)
    options: dict[str, Any] = {"seed": seed, "steps": steps, "method": method}
    tagger, kinds = _prepared(run, num_jets, classes, checkpoint, **options)
    origin: dict[str, Any] = {}
    if out.suffix.lower() == ".parquet":
        origin["origin"] = origin_of(run, checkpoint, **options)
    start = time.monotonic()
    parts = _blocks(tagger, num_jets, kinds, advance, **options)
    names = tuple(tagger.feature_set.classes)  # type: ignore[attr-defined]
    number = write_chunks(parts, out, names, overwrite, **origin)
    return Generated(out, number, time.monotonic() - start, num_passes(steps))


def origin_of(run: RunFolder, checkpoint: str, **options: Any) -> dict[str, Any]:
    """Plain values that a Parquet file of generated jets holds: network and options."""
    return {"generator": run.config.model, "checksum": run.checksum(checkpoint), **options}


def _prepared(
    run: RunFolder,
    num_jets: int,
    classes: Sequence[str] | None,
    checkpoint: str,
    *,
    seed: int,
    steps: int,
    method: str,
) -> tuple[Tagger, list[int]]:
    """Generator and the labels of the classes to generate, after all checks."""
    check_generator(run, "generating jets")
    if num_jets < 1:
        raise InputError(f"the number of jets must be at least 1, got {num_jets}")
    if not 1 <= steps <= _MAX_STEPS:
        raise InputError(f"steps must be between 1 and {_MAX_STEPS:,}, got {steps}")
    if method not in METHODS:
        raise UnknownNameError("method", method, METHODS)
    if seed < 0:
        raise InputError(f"seed must be at least 0, got {seed}")
    tagger = run.tagger(checkpoint)
    known = list(tagger.feature_set.classes)  # type: ignore[attr-defined]
    for name in classes or ():
        if name not in known:
            raise UnknownNameError("class", name, known, f"{run.path}")
    return tagger, [known.index(name) for name in dict.fromkeys(classes or known)]


def _blocks(
    tagger: Tagger,
    num_jets: int,
    kinds: Sequence[int],
    advance: Advance,
    *,
    seed: int,
    steps: int,
    method: str,
) -> Iterator[FlatJets]:
    """Blocks of jets, each from random numbers of its own."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = tagger.model.eval().to(device)
    for first in range(0, num_jets, _BLOCK):
        index = torch.arange(first, first + _BLOCK)
        label = torch.tensor(list(kinds) or [0])[index % max(len(kinds), 1)].to(device)
        (state,) = np.random.SeedSequence([seed, first // _BLOCK]).generate_state(1)
        generator = torch.Generator().manual_seed(int(state))
        jets = _generate(model, tagger.feature_set, label, generator, steps, method)
        if kinds:
            jets.jet["label"] = label.cpu().numpy().astype(np.int64)
        jets = jets.slice(0, min(_BLOCK, num_jets - first))
        yield jets
        advance(len(jets) / num_jets)


@torch.no_grad()
def _generate(
    model: Any,
    inputs: Any,
    label: Tensor,
    generator: torch.Generator,
    steps: int,
    method: str,
) -> FlatJets:
    """Jets of some labels, their particles in decreasing pT."""
    assert isinstance(model, FlowMatching)
    assert isinstance(inputs, CloudCoordinates)
    u, counts = model.sample_jets(label, generator)
    ptr = torch.from_numpy(as_offsets(counts.cpu().numpy()))
    layout = RaggedLayout.from_ptr(ptr).to(label.device)
    x = model.sample_particles(u, label, layout, generator, steps=steps, method=method)
    phi = np.pi * (2 * torch.rand(len(label), generator=generator).double() - 1)
    host = RaggedLayout.from_ptr(ptr)
    p4 = inputs.momenta(x.cpu().double(), u.cpu().double(), phi, host).float()
    if not bool(p4.isfinite().all()):
        raise InputError(
            f"{int((~p4.isfinite()).any(-1).sum())} particles have momenta that are not finite: the "
            "generator has diverged; train it with a smaller lr"
        )
    order = canonical_order(p4, ptr, [])
    p4 = p4 if order is None else p4[order]
    return FlatJets(ptr.numpy(), tuple(np.ascontiguousarray(part) for part in p4.numpy().T))
