"""Knowledge distillation: a small network learns the labels and the scores of a trained one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.errors import InputError
from pcloud.modality import Sample
from pcloud.run_files import file_errors, make_folder, read_json, write_atomic, write_json
from pcloud.storage import MEMORY, Storage
from pcloud.training.config import TrainConfig
from pcloud.training.data import TrainingData, iter_split, load_splits
from pcloud.training.run_folder import RunFolder

__all__ = ["Distillation", "Teacher"]

_CHUNK = 5_000  # jets per file of logits; an interruption repeats at most one


class Distillation(nn.Module):
    """Loss of a student: agreement with the teacher and with the labels.

    ``weight T^2 KL(softmax(teacher / T) || softmax(student / T)) + (1 - weight) label loss``;
    with the factor ``T^2`` the size of the gradient does not depend on the temperature.

    Parameters
    ----------
    weight : float
        Weight of the teacher, between 0 and 1.
    temperature : float
        Temperature T; the higher it is, the more the ratios of small probabilities matter.

    References
    ----------
    Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network,
    https://arxiv.org/abs/1503.02531.
    """

    def __init__(self, weight: float, temperature: float) -> None:
        super().__init__()
        self.weight = weight
        self.temperature = temperature

    def forward(
        self, label_loss: Tensor, logits: Tensor, teacher: Tensor, shares: Tensor | None = None
    ) -> Tensor:
        """Loss () from the loss on the labels () and the ``logits (B, C)`` of both networks.

        The ``shares (B,)`` are the weights of the jets over their mean weight.
        """
        student = F.log_softmax(logits / self.temperature, dim=-1)
        target = F.log_softmax(teacher.to(logits) / self.temperature, dim=-1)
        if shares is None:
            divergence = F.kl_div(student, target, reduction="batchmean", log_target=True)
        else:
            of_jets = F.kl_div(student, target, reduction="none", log_target=True).sum(-1)
            divergence = (shares * of_jets).mean()
        return self.weight * self.temperature**2 * divergence + (1 - self.weight) * label_loss


@dataclass(frozen=True)
class Teacher:
    """Trained run that scores the training jets of another one, once.

    Attributes
    ----------
    run : RunFolder
        The teacher.
    order : list of int
        Index of each of the student's classes among those of the teacher.
    """

    run: RunFolder
    order: list[int]

    @classmethod
    def of(cls, config: TrainConfig, jets: TrainingData) -> Teacher:
        """Make the teacher of a configuration, and check that it fits the jets.

        Raises
        ------
        FileNotFoundError
            If there is no such run.
        InputError
            If it has other classes, needs columns that the jets do not have, or is the run itself.
        """
        run = RunFolder(str(config.teacher))
        for modality in (run.modality, jets.modality):
            if not modality.has_momenta:
                raise InputError(f"a teacher is for taggers of jets, not of {modality.noun}")
        if run.path.resolve() == Path(config.out).resolve():
            raise InputError(f"{run.path} cannot be its own teacher: take another folder")
        if sorted(run.classes) != sorted(jets.classes):
            raise InputError(
                f"the teacher {run.path} knows the classes {', '.join(run.classes)}, "
                f"the jets are of {', '.join(jets.classes)}: it can teach its own classes alone"
            )
        needed = (*run.feature_set.columns, *run.feature_set.jet_columns)
        available = jets.modality.available_columns(jets.columns)
        missing = [name for name in needed if name not in available]
        if missing:
            raise InputError(
                f"the teacher {run.path} needs {', '.join(missing)}, "
                "which the training jets do not have"
            )
        return cls(run, [run.classes.index(name) for name in jets.classes])

    def logits(
        self,
        config: TrainConfig,
        jets: TrainingData,
        folder: Path,
        console: Console,
        storage: Storage = MEMORY,
    ) -> Tensor:
        """Logits (B, C) of the teacher for the training jets.

        They are computed from the features of the teacher and stored in `folder` in chunks, which
        a continued run reads. They are computed again for other jets or another teacher.

        Parameters
        ----------
        config : TrainConfig
            Configuration of the student.
        jets : TrainingData
            Jets of the student.
        folder : Path
            Folder of the logits.
        console : rich.console.Console
            Console for the progress.
        storage : Storage
            Place of the jets with the columns of the teacher.
        """
        number = len(jets.train)
        chunks = _Chunks(folder, number, len(self.order))
        chunks.open({"teacher": self.run.checksum(), "order": self.order, **jets.identity.plain()})
        if chunks.missing():
            missing = chunks.missing()
            with Progress(console=console, transient=True) as progress:
                task = progress.add_task("teacher", total=number)
                for part, raw in self._raw(config, chunks.parts, storage):
                    if part in missing:
                        progress.update(task, completed=part.start)
                        chunks.write(part, self.run.logits(raw)[:, self.order])
        return chunks.read()

    def _raw(
        self, config: TrainConfig, parts: Sequence[slice], storage: Storage
    ) -> Iterator[tuple[slice, Sample]]:
        """Training jets in parts, with the columns that the teacher needs."""
        inputs = self.run.feature_set
        if config.storage == "stream":  # as chunks of this size
            yield from zip(parts, iter_split(config, "train", _CHUNK, inputs), strict=True)
            return
        (raw,) = load_splits(config, "train", inputs=inputs, storage=storage)
        yield from ((part, raw[part]) for part in parts)


class _Chunks:
    """Logits in files of a folder, each complete or absent."""

    def __init__(self, folder: Path, number: int, num_classes: int) -> None:
        self.folder = folder
        self.num_classes = num_classes
        self.parts = [
            slice(start, min(start + _CHUNK, number)) for start in range(0, number, _CHUNK)
        ]

    def open(self, origin: dict[str, Any]) -> None:
        """Start, or continue with the files of the same `origin`."""
        about = self.folder / "origin.json"
        if about.exists() and read_json(about, "origin of scores", self._remedy()) == origin:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        make_folder(self.folder)
        write_json(about, origin)

    def missing(self) -> list[slice]:
        return [part for part in self.parts if not self._path(part).exists()]

    def write(self, part: slice, logits: np.ndarray) -> None:
        values = logits.astype(np.float32)
        write_atomic(self._path(part), lambda file: np.save(file, values))

    def read(self) -> Tensor:
        return torch.from_numpy(np.concatenate([self._read(part) for part in self.parts]))

    def _read(self, part: slice) -> np.ndarray:
        path = self._path(part)
        with file_errors(path, "scores of a teacher", self._remedy()):
            logits = np.load(path, mmap_mode="r")  # mapped, the header cannot ask for more memory
            expected = (part.stop - part.start, self.num_classes)
            if logits.shape != expected or logits.dtype != np.float32:
                raise InputError(f"{logits.dtype} {logits.shape}, expected float32 {expected}")
            return np.array(logits)

    def _remedy(self) -> str:
        return f"remove {self.folder}, and the teacher scores the jets again"

    def _path(self, part: slice) -> Path:
        return self.folder / f"{part.start:09d}.npy"
