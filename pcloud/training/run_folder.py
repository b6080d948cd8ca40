"""The folder of a run: configuration, network, history and predictions, read back."""

from __future__ import annotations

import copy
import warnings
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from pcloud.errors import InputError, UnreadableFileWarning
from pcloud.evaluation.calibration_file import StoredCalibration, read_calibration
from pcloud.modality import Inputs, Modality, Sample
from pcloud.models.head import is_last_map, output_layer
from pcloud.models.parts import outputs_and_particles
from pcloud.objectives.predictions import Prediction, average, joined
from pcloud.objectives.rows import ParticleRows
from pcloud.objectives.several import Several
from pcloud.run_files import (
    CALIBRATION_FILE,
    CHECKPOINT_FOLDER,
    CONFIG_FILE,
    MEMBER_FOLDER,
    check_writable,
)
from pcloud.training.checkpoint import (
    Tagger,
    checkpoint_path,
    read_checkpoint,
    read_last_checkpoint,
    read_tagger,
)
from pcloud.training.config import TrainConfig
from pcloud.training.history import History

__all__ = ["SCORED_JETS", "RunFolder", "is_finished", "member_path"]

AnyRun = TypeVar("AnyRun", bound="RunFolder")

SCORED_JETS = 50_000
"""Number of jets whose features are held at a time while predicting."""


class RunFolder:
    """Folder of a training run, finished or not: what training itself needs of a trained run.

    Users hold :class:`pcloud.Run`, which adds the studies.

    Parameters
    ----------
    path : path
        The folder.
    trust_code : bool
        Run Python code that the folder names as its model, even if it is not code that this user
        has trained with.

    Attributes
    ----------
    out : Path
        Folder into which studies write their results, see :meth:`writing_to`.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    InputError
        If it is not the folder of a run.
    """

    def __init__(self, path: str | PathLike[str], *, trust_code: bool = False) -> None:
        self.path = Path(path)
        self.trust_code = trust_code
        if not self.path.is_dir():
            raise FileNotFoundError(f"no run at {self.path}: a run is a folder that training wrote")
        if not (self.path / CONFIG_FILE).is_file():
            raise InputError(f"{self.path} is not the folder of a run: it has no {CONFIG_FILE}")
        self.out = self.path
        self._taggers: dict[str, Tagger] = {}

    def writing_to(self: AnyRun, out: str | PathLike[str] | None) -> AnyRun:
        """Return this run with another folder for the results of studies.

        Results are looked for there first, and then in the folder of the run.

        Parameters
        ----------
        out : path, optional
            Folder, which is made if it does not exist. None for the folder of the run.

        Raises
        ------
        InputError
            If the folder cannot be made.
        """
        if out is None:
            return self
        run = copy.copy(self)
        run.out = Path(out)
        try:
            run.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot make the folder {out}: {error.strerror}") from error
        return run

    def stored(self, name: str) -> Path:
        """Path of a result: in the folder for results, or else in that of the run."""
        path = self.out / name
        return path if path.exists() else self.path / name

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    @cached_property
    def config(self) -> TrainConfig:
        """Configuration of the run, recipe and defaults included."""
        config = TrainConfig.from_run(self.path)
        return config.trusting_code() if self.trust_code else config

    @property
    def finished(self) -> bool:
        """True if the training came to its end."""
        return all(is_finished(member.path) for member in self.members)

    @cached_property
    def members(self: AnyRun) -> list[AnyRun]:
        """Members of an ensemble that have started; of a single network the run itself."""
        if self.config.ensemble == 1:
            return [self]
        paths = [member_path(self.path, i + 1) for i in range(self.config.ensemble)]
        started = [path for path in paths if (path / CONFIG_FILE).is_file()]
        return [type(self)(path, trust_code=self.trust_code) for path in started]

    @property
    def history(self) -> History:
        """Metrics of each epoch, from ``metrics.csv``."""
        return History.read(self.path)

    @property
    def feature_set(self) -> Inputs:
        """The inputs of the network with their standardisation."""
        return self._first.tagger().feature_set

    @property
    def modality(self) -> Modality:
        """Kind of data that the network takes."""
        return self._first.tagger().modality

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of the scores; none if none were learned."""
        return self._first.tagger().classes

    @property
    def _first(self) -> RunFolder:
        if not self.members:
            raise InputError(f"{self.path} is an ensemble none of whose members has begun")
        return self.members[0]

    @property
    def kept_epochs(self) -> list[int]:
        """Epochs whose weights were stored, as checkpoints ``"epoch_1"``, ``"epoch_2"``, ..."""
        found = (self.path / CHECKPOINT_FOLDER).glob("epoch_*.ckpt")
        numbers = [path.stem.removeprefix("epoch_") for path in found]
        return sorted(int(number) for number in numbers if number.isdecimal())

    def checkpoint(self, name: str = "best") -> Path:
        """Path of a checkpoint: ``"best"`` in the monitored metric, or ``"last"``."""
        return checkpoint_path(self.path, name)

    def tagger(self, checkpoint: str = "best") -> Tagger:
        """The trained network with its features and classes.

        Raises
        ------
        InputError
            If the run has no such checkpoint yet.
        """
        if self.config.ensemble > 1:
            raise InputError(f"{self.path} is an ensemble: take one of its members/")
        if checkpoint not in self._taggers:
            path = self.checkpoint(checkpoint)
            if not path.exists():
                raise InputError(
                    f"{self.path} has no checkpoint {checkpoint!r}: the run has not come to the "
                    f"end of an epoch; continue it with pcloud train --config "
                    f"{self.path / 'config.yaml'}"
                )
            self._taggers[checkpoint] = read_tagger(path, trust_code=self.trust_code)
        return self._taggers[checkpoint]

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """Numbers that identify the jets of the training, from the last checkpoint.

        Empty before the first checkpoint, and with a warning if that cannot be read.
        """
        path = self._first.checkpoint("last")
        try:
            return read_checkpoint(path)["run"].get("fingerprint", {}) if path.exists() else {}
        except InputError as error:
            text = f"{error}; the jets of this run cannot be compared with those of its training"
            warnings.warn(text, UnreadableFileWarning, stacklevel=4)
            return {}

    def check_writable(self) -> None:
        """Check before long work that a study can write its result.

        Raises
        ------
        CannotWriteError
            If not, such as in a run of somebody else.
        """
        check_writable(self.out, "--out FOLDER writes elsewhere")

    def checksum(self, checkpoint: str = "best") -> int:
        """Number that changes when the weights of a checkpoint do."""
        checksum = 0
        for member in [self._first, *self.members[1:]]:
            member.tagger(checkpoint)  # raises where there is none
            checksum = zlib.crc32(member.checkpoint(checkpoint).read_bytes(), checksum)
        return checksum

    def model(self, checkpoint: str = "best") -> nn.Module:
        """The trained network, in evaluation mode.

        For images it takes stored images, as :meth:`predict` does: see
        :class:`~pcloud.images.ScaledNetwork`.
        """
        tagger, network = self.tagger(checkpoint), self.network(checkpoint)
        return tagger.modality.stored_network(network, tagger.feature_set)

    def network(self, checkpoint: str = "best") -> nn.Module:
        """The trained network, in evaluation mode, for the batches of a loader.

        The inputs are standardised features, or images in the units of the training. The outputs
        are the logits of the classes, where the network has others beside them.

        Raises
        ------
        InputError
            If the run learns no classes.
        """
        tagger = self.tagger(checkpoint)
        self.check_classes("this")
        model = tagger.model.eval()
        return model if tagger.objective.only_classes else _with_class_logits(model, tagger)

    @property
    def objective(self) -> Several:
        """Objective that the network learned, which gives its outputs their meaning."""
        return self._first.tagger().objective

    def check_scores(self, what: str) -> None:
        """Check that the run is not that of a generator, which gives no scores.

        Raises
        ------
        InputError
            If it is.
        """
        if not self.modality.gives_scores:
            raise InputError(
                f"{what} needs a network with scores; {self.path} is a generator: pcloud generate "
                "makes jets, and pcloud evaluate compares them with real ones"
            )

    def check_classes(self, what: str) -> None:
        """Check that the run learned classes, which `what` needs.

        Raises
        ------
        InputError
            If it did not.
        """
        if not self.classes:
            raise InputError(
                f"{what} needs a run with the objective class; {self.path} learned "
                f"{', '.join(part.name for part in self.objective)}"
            )

    def check_predictions(self) -> None:
        """Check that the run has predictions.

        Raises
        ------
        InputError
            If it was pretrained.
        """
        if self.objective.masked is not None:
            raise InputError(
                f"{self.path} was pretrained and has no predictions: train from it with --init-from"
            )

    @torch.no_grad()
    def logits(
        self,
        jets: Sample,
        *,
        batch_size: int = 512,
        checkpoint: str = "best",
        device: str | torch.device | None = None,
    ) -> np.ndarray:
        """Logits of the classes for each jet; their softmax is :meth:`predict`.

        For an ensemble, the logarithm of the mean probability over its members.

        Parameters and errors are those of :meth:`predict`.

        Returns
        -------
        numpy.ndarray, shape (B, C), float64
        """
        self.check_classes("a score")
        jets, nest = self.modality.flatten(jets)
        self.modality.check(jets, self.feature_set, "these jets")
        if self.config.ensemble > 1:
            options: Any = {"batch_size": batch_size, "checkpoint": checkpoint, "device": device}
            logits = np.stack([member.logits(jets, **options) for member in self.members])
            log_p = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
            return nest(np.logaddexp.reduce(log_p, axis=0) - np.log(len(log_p)))
        return nest(
            self.objective.class_logits(self._outputs(jets, batch_size, checkpoint, device))
        )

    def _outputs(
        self, jets: Sample, batch_size: int, checkpoint: str, device: str | torch.device | None
    ) -> np.ndarray:
        """Outputs (B, num_outputs) of a single network for checked jets, float64."""
        tagger = self.tagger(checkpoint)
        parts = [np.empty((0, max(tagger.objective.num_outputs, 1)))]
        model, device = self._on_device(tagger, device)
        for data in self._datasets(jets):
            for batch in self.modality.loader(data, batch_size):
                outputs = model(*self.modality.arguments(batch.to(device)))
                parts.append(outputs.double().cpu().numpy())
        return np.concatenate(parts)

    def _outputs_and_particles(
        self, jets: Sample, batch_size: int, checkpoint: str, device: str | torch.device | None
    ) -> tuple[np.ndarray, dict[str, Prediction]]:
        """Outputs as from :meth:`_outputs`, and predictions for particles in the order of the input."""
        tagger = self.tagger(checkpoint)
        objective = tagger.objective
        outputs = [np.empty((0, max(objective.num_outputs, 1)))]
        model, device = self._on_device(tagger, device)
        none = ParticleRows(torch.empty(0, model.particle_width), torch.empty(0).long(), 0)
        empty = objective.cpu().predict_particles(none)
        found: dict[str, list[Prediction]] = {name: [part] for name, part in empty.items()}
        objective.to(device)
        for data in self._datasets(jets):
            chunk: dict[str, list[Prediction]] = {name: [] for name in found}
            for batch in self.modality.loader(data, batch_size):
                arguments = self.modality.arguments(batch.to(device))
                scores, particles = outputs_and_particles(model, *arguments)
                outputs.append(scores.double().cpu().numpy())
                rows = ParticleRows.of_batch(particles.float(), batch)
                for name, prediction in objective.predict_particles(rows).items():
                    chunk[name].append(prediction.cpu())
            for part in objective.of_particles:
                whole: Any = joined(chunk[part.name])
                order = _input_order(data, part.collection)
                found[part.name].append(whole if order is None else whole.in_input_order(order))
        return np.concatenate(outputs), {name: joined(parts) for name, parts in found.items()}

    def _on_device(
        self, tagger: Tagger, device: str | torch.device | None
    ) -> tuple[Any, torch.device]:
        """Network in evaluation mode on a device, by default a GPU where there is one."""
        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        return tagger.model.eval().to(device), device

    def _datasets(self, jets: Sample) -> Iterator[Any]:
        """Data sets of some jets after others, which limits the memory."""
        for start in range(0, len(jets), SCORED_JETS):
            yield self.modality.dataset(jets[start : start + SCORED_JETS], self.feature_set)

    @torch.no_grad()
    def predictions(
        self,
        jets: Sample,
        *,
        batch_size: int = 512,
        checkpoint: str = "best",
        device: str | torch.device | None = None,
    ) -> dict[str, Prediction]:
        """Prediction of each objective by its name: ``"class"``, or that of a target or label.

        Predictions for particles and for pairs of them are in the order of the input.

        A prediction has a mean, and that of a quantity also intervals, on the scale on which it is
        learned: for a target with ``transform: log`` that of the logarithm, see
        :class:`pcloud.objectives.Target`. That of an ensemble is the mixture of its members.

        Parameters and errors are those of :meth:`predict`; jets cannot be missing or in lists.
        """
        self.check_predictions()
        self.modality.check(jets, self.feature_set, "these jets")
        options: Any = {"batch_size": batch_size, "checkpoint": checkpoint, "device": device}
        if self.config.ensemble > 1:
            found = [member.predictions(jets, **options) for member in self.members]
            return {name: average([part[name] for part in found]) for name in found[0]}
        if not self.objective.of_particles:
            outputs = torch.from_numpy(self._outputs(jets, batch_size, checkpoint, device))
            return self.objective(outputs)
        of_jets, particles = self._outputs_and_particles(jets, batch_size, checkpoint, device)
        return self.objective(torch.from_numpy(of_jets)) | particles

    def predict(
        self,
        jets: Sample,
        *,
        batch_size: int = 512,
        checkpoint: str = "best",
        calibrated: bool = False,
        device: str | torch.device | None = None,
    ) -> np.ndarray:
        """Probabilities of the classes for each jet.

        Parameters
        ----------
        jets : awkward.Array or ImageSet
            As from :func:`pcloud.read_jets`, or from :func:`pcloud.images.read_images` for a network
            on images; labels are not needed. Jets of an analysis can have momenta in other
            coordinates (vector, coffea), be missing (``ak.firsts``, ``ak.mask``), and be lists of
            the jets of events.
        batch_size : int
            Jets per batch; a score does not depend on it.
        checkpoint : str
            ``"best"`` or ``"last"``.
        calibrated : bool
            Whether to calibrate the probabilities, by the map that ``pcloud calibrate`` fitted to
            the validation jets.
        device : str or torch.device, optional
            By default a GPU where there is one.

        Returns
        -------
        numpy.ndarray, shape (B, C), float64
            Softmax in double precision: float32 probabilities of confident jets would tie at 1.
            Rows of missing jets are NaN. For lists of jets, an awkward array of the same lists.

        Raises
        ------
        InputError
            If the jets lack a column, or one has no particles; or if calibrated probabilities are
            wanted and the run, with these weights, is not calibrated; or if the run learned no
            classes, of which :meth:`predictions` gives what it learned.
        """
        calibration = self.calibration(checkpoint).map if calibrated else None
        jets, nest = self.modality.flatten(jets)
        logits = self.logits(jets, batch_size=batch_size, checkpoint=checkpoint, device=device)
        scores = torch.from_numpy(logits).softmax(dim=-1).numpy()
        return nest(scores if calibration is None else calibration(scores))

    def calibration(self, checkpoint: str = "best") -> StoredCalibration:
        """Calibration of the weights of a checkpoint, from ``pcloud calibrate``.

        Raises
        ------
        InputError
            If the run is not calibrated, or with other weights.
        """
        stored = read_calibration(self.stored(CALIBRATION_FILE).parent)
        if (stored.checkpoint, stored.checksum) != (checkpoint, self.checksum(checkpoint)):
            raise InputError(
                f"{self.path} was calibrated with other weights than those of its checkpoint "
                f"{checkpoint!r} now: pcloud calibrate {self.path} --checkpoint {checkpoint}"
            )
        return stored


def _input_order(data: Any, collection: int) -> torch.Tensor | None:
    """Index of each row of a collection among those of the input; None if they are in its order."""
    if data.order is None:
        return None
    if data.collection is None:
        return data.order
    rows = (data.collection == collection).nonzero().flatten()
    place = torch.zeros(len(data.collection), dtype=torch.int64)
    place[rows] = torch.arange(len(rows))
    return place[data.order[rows]]


def _with_class_logits(model: nn.Module, tagger: Tagger) -> nn.Module:
    """Network with the same weights whose only outputs are the logits of the classes.

    The last map of our networks keeps the rows of the classes, so that a study finds it; the outputs
    of other networks are cut.
    """
    take = tagger.objective.class_logits
    name, layer = output_layer(model, tagger.objective.num_outputs) or ("", None)
    if isinstance(layer, nn.Linear) and is_last_map(name):
        sliced = copy.deepcopy(model)
        head = sliced.get_submodule(name)
        assert isinstance(head, nn.Linear)
        head.weight = nn.Parameter(take(layer.weight.detach().T).T.clone())
        if layer.bias is not None:
            head.bias = nn.Parameter(take(layer.bias.detach()).clone())
        head.out_features = len(head.weight)
        return sliced
    sliced = copy.copy(model)
    sliced._forward_hooks = OrderedDict(model._forward_hooks)
    sliced.register_forward_hook(lambda module, inputs, outputs: take(outputs))
    return sliced


def member_path(folder: Path, member: int) -> Path:
    """Folder of a member of an ensemble, counted from 1."""
    return folder / MEMBER_FOLDER / str(member)


def is_finished(folder: Path) -> bool:
    """True if a folder holds a training that came to its end."""
    last = read_last_checkpoint(folder, warn=False)
    return last is not None and bool(last["run"]["state"]["finished"])
