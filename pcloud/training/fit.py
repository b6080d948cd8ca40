"""The function `train`: from a configuration to a run."""

from __future__ import annotations

import contextlib
import signal
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import lightning as L
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from pcloud.batch import JetDataset, JetStream
from pcloud.errors import InputError, UnknownNameError
from pcloud.evaluation.figures.style import save_figure
from pcloud.modality import modality_of_model
from pcloud.models.registry import check_code
from pcloud.models.trust import codes_used, remember_codes, trusting
from pcloud.nn.numerics.batch_norm import over_ranks
from pcloud.run_files import FIGURE_FOLDER, INITIAL_STATE_FILE, TEACHER_FOLDER
from pcloud.storage import MEMORY, dump, load, mapped_files, remove_mapped_files
from pcloud.terminal import Terminal
from pcloud.text_tables import print_wide
from pcloud.training.callbacks import EpochListener, OnEpoch, RunCheckpoint
from pcloud.training.checkpoint import read_last_checkpoint
from pcloud.training.config import TrainConfig, document_options
from pcloud.training.constant import NothingLearnedWarning
from pcloud.training.data import TrainingData, load_training_data
from pcloud.training.decorrelation import Decorrelation, check_decorrelation
from pcloud.training.distillation import Distillation, Teacher
from pcloud.training.ensemble import train_ensemble
from pcloud.training.environment import update_environment
from pcloud.training.folder import clear, open_folder, with_method_of_split, write_config
from pcloud.training.initial_state import (
    InitialState,
    initial_weights,
    initialise,
    known_inputs,
)
from pcloud.training.interrupt import Interrupted, StopRequest
from pcloud.training.jet_storage import choose_storage
from pcloud.training.layer_norms import LayerNorms, LayerNormsCallback
from pcloud.training.learning_rates import RaisedLearningRate, RangeTest, range_test_figure
from pcloud.training.messages import (
    announce,
    collapsed,
    conclude,
    not_overfitted,
    nothing_learned,
)
from pcloud.training.module import JetData, TaggerModule
from pcloud.training.progress import ProgressBar
from pcloud.training.ranks import ONE, Ranks, is_launched, joined, lost_contact
from pcloud.training.reweight import Reweighting, observable_names, reweight
from pcloud.training.run_folder import RunFolder, is_finished
from pcloud.training.trainer import make_trainer, quiet_lightning, restored_algorithms, seed_all

if TYPE_CHECKING:
    from pcloud.run import Run

__all__ = ["find_learning_rate", "train"]

_CHECKED_JETS = 4  # of which the outputs of the network are checked
_RANK_SEEDS = 1_000_003  # difference of the seeds of two ranks


@document_options
def train(
    config: TrainConfig | None = None,
    *,
    overwrite: bool = False,
    progress: bool = True,
    trust_code: bool = False,
    on_epoch: OnEpoch | None = None,
    **options: Any,
) -> Run:
    """Train a tagger, or continue an interrupted training.

    A run interrupted at any moment continues from its folder when `train` is called with the same
    configuration; with ``deterministic=True`` on a CPU its weights are then the same, bit for bit,
    as without the interruption. A finished run is returned unchanged.

    Parameters
    ----------
    config : TrainConfig, optional
        Configuration; the options below replace it or override parts of it.
    overwrite : bool, default False
        Start a new run in a folder that holds one.
    progress : bool, default True
        Show the progress on the terminal.
    trust_code : bool, default False
        Run Python code that a configuration file, the weights of `init_from` or the run of `teacher`
        name as their model, even if it is not code that this user has trained with. Code that is
        named in this call runs in any case.
    on_epoch : callable, optional
        Called with the metrics of each epoch, after it is saved. An error that it raises ends the
        training, which the same call continues. Not for ensembles.
    {options}

    Returns
    -------
    Run
        The folder with the trained model.

    Raises
    ------
    InputError
        If the configuration, the jets or the folder cannot be used, or the training diverges.
    KeyboardInterrupt
        After Ctrl-C, with the state of the run saved.

    Examples
    --------
    >>> run = pcloud.train(data="simulated", model="particlenet_lite", out="runs/a")  # doctest: +SKIP
    >>> scores = run.predict(pcloud.load_dataset("simulated", "test"))  # doctest: +SKIP
    """
    from pcloud.run import Run

    config = TrainConfig.from_dict(options) if config is None else config.with_options(**options)
    config = config.trusting_code() if trust_code else config
    if not overwrite:
        config = with_method_of_split(config)
    if config.ensemble > 1:
        if on_epoch is not None:
            raise InputError("on_epoch follows one network: not with ensemble")
        if is_launched():
            raise InputError("members of an ensemble are trained by one process each: no torchrun")
        with config.code_names():
            check_code(config.model, config.model_options)  # raises before anything is written
        member = partial(_train_member, trust_code=trust_code)
        train_ensemble(config, member, _shared_jets, overwrite=overwrite, progress=progress)
        return Run(config.out, trust_code=trust_code)
    _train_run(
        config,
        overwrite=overwrite,
        progress=progress,
        trust_code=trust_code,
        on_epoch=on_epoch,
    )
    return Run(config.out, trust_code=trust_code)


@document_options
def find_learning_rate(
    config: TrainConfig | None = None,
    *,
    progress: bool = True,
    trust_code: bool = False,
    **options: Any,
) -> RangeTest:
    """Measure the loss while the learning rate rises from step to step, and propose a learning rate.

    The network begins as in :func:`train` and is not kept. ``learning_rates.json`` and the figure
    ``figures/learning_rates.png`` are written into the folder `out`, in which a run stays as it is.
    The learning rate rises by a factor of ten in 20 steps, from 1e-6 until the loss is twice that at
    the start, or to 10.

    Parameters
    ----------
    config : TrainConfig, optional
        Configuration; the options below replace it or override parts of it.
    progress : bool, default True
        Show messages on the terminal.
    trust_code : bool, default False
        Run Python code that the configuration names, as in `train`.
    {options}

    Returns
    -------
    RangeTest
        Learning rates, losses and the proposal.

    Raises
    ------
    InputError
        If the configuration or the jets cannot be used, with L-BFGS, which chooses the lengths of
        its steps itself, or with a teacher.

    References
    ----------
    Smith, Cyclical Learning Rates for Training Neural Networks, https://arxiv.org/abs/1506.01186.
    """
    config = TrainConfig.from_dict(options) if config is None else config.with_options(**options)
    config = config.trusting_code() if trust_code else config
    if config.optimizer == "lbfgs":
        raise InputError("lbfgs chooses the lengths of its steps itself: keep --lr 1")
    if config.teacher is not None:
        raise InputError("the learning rate is tested without a teacher: leave out teacher")
    if is_launched():
        raise InputError("the learning rate is tested by one process: no torchrun")
    with contextlib.ExitStack() as stack:
        for context in (trusting(trust_code), config.code_names(), isolate_rng()):
            stack.enter_context(context)
        stack.enter_context(quiet_lightning())
        stack.enter_context(restored_algorithms())
        console = Terminal(stderr=True, quiet=not progress)
        _check_before_loading(config, ONE)
        folder = stack.enter_context(open_folder(config, overwrite=True))
        prepared, _ = _prepared(config, folder, console, stack, ONE, None, overwrite=True)
        config, jets = prepared.config, prepared.jets
        seed_all(config.seed)
        initial = initialise(config, jets, initial_weights(config, None), None)
        data = JetData(
            jets,
            config.resolved_recipe(),
            config.seed,
            config.stream_workers,
            batch_particles=config.batch_particles,
        )
        module = _module(config, jets, initial, data.total_steps)
        raised = RaisedLearningRate()
        trainer = make_trainer(config, 1, [raised])
        trainer.fit(module, train_dataloaders=raised.batches(data))
        found = raised.found
        figure = range_test_figure(found, config.resolved_recipe().lr)
        save_figure(figure, folder / FIGURE_FOLDER / "learning_rates")
        found.write(folder)
    return found


def _train_member(
    config: TrainConfig, *, progress: bool, trust_code: bool, jets: bytes | None = None
) -> None:
    """Train a member of an ensemble, perhaps with jets that all members share."""
    config = with_method_of_split(config.trusting_code() if trust_code else config)
    _train_run(config, overwrite=False, progress=progress, trust_code=trust_code, jets=jets)


@contextlib.contextmanager
def _shared_jets(config: TrainConfig, folder: Path, console: Terminal) -> Iterator[dict[str, Any]]:
    """Options of `_train_member` for all members: their jets, if these are in mapped files."""
    with config.code_names():
        chosen = choose_storage(config, modality_of_model(config.model), folder)
    if chosen.place != "map":
        yield {}
        return
    console.print(chosen.reason, soft_wrap=True)
    with mapped_files(folder) as storage:
        known = known_inputs(config, None, initial_weights(config, None))
        yield {"jets": dump(load_training_data(config, storage, known=known))}


def _train_run(
    config: TrainConfig,
    *,
    overwrite: bool,
    progress: bool,
    trust_code: bool,
    jets: bytes | None = None,
    on_epoch: OnEpoch | None = None,
) -> None:
    """Train one network, or continue its training."""
    may_run = contextlib.ExitStack()
    may_run.enter_context(trusting(trust_code))
    may_run.enter_context(config.code_names())
    with may_run, isolate_rng(), quiet_lightning(), restored_algorithms(), joined() as ranks:
        console = Terminal(stderr=True, quiet=not (progress and ranks.is_first))
        with lost_contact(ranks), contextlib.ExitStack() as stack:
            ranks.on_first(lambda: _check_before_loading(config, ranks))
            opened = open_folder(config, overwrite=overwrite)
            folder = ranks.on_first(lambda: stack.enter_context(opened))
            if ranks.on_first(lambda: not overwrite and is_finished(folder)):
                if ranks.is_first:  # a kill after the last step leaves both undone
                    remove_mapped_files(folder)
                    update_environment(folder, config.seed, finished=True)
                said = f"{folder} is finished; --overwrite starts anew"
                console.print(said, soft_wrap=True)
            else:
                _train(config, folder, console, ranks, jets, on_epoch, overwrite=overwrite)


def _check_before_loading(config: TrainConfig, ranks: Ranks) -> None:
    """Check what can be checked without the jets."""
    if config.reweight is not None:
        observable_names(config.reweight)
    if ranks.world > 1:
        if any(part.learns_particles for part in config.objectives.specifications):
            raise InputError("labels of particles and pairs are learned by one process only")
        if any(part.learns_masked for part in config.objectives.specifications):
            raise InputError("hidden particles are learned by one process only")
        return
    trainer = make_trainer(config, epochs=1)
    if trainer.world_size > 1:
        number = trainer.world_size
        raise InputError(
            f"devices={config.devices!r} are {number} devices, with a process for each: start them "
            f"by torchrun --nproc-per-node {number} -m pcloud train ..., or by srun"
        )


@dataclass
class _Prepared:
    """Checkpoint and jets, which the first rank reads for all of them."""

    config: TrainConfig
    checkpoint: dict[str, Any] | None
    jets: TrainingData
    reweighting: Reweighting | None


def _train(
    config: TrainConfig,
    folder: Path,
    console: Terminal,
    ranks: Ranks,
    shared: bytes | None,
    on_epoch: OnEpoch | None,
    *,
    overwrite: bool,
) -> None:
    """Train with the jets in memory, in files that are mapped into it, or in their own files."""
    with contextlib.ExitStack() as stack:
        teachers: list[Callable[[], Tensor]] = []

        def prepare() -> _Prepared:
            found, teach = _prepared(
                config, folder, console, stack, ranks, shared, overwrite=overwrite
            )
            teachers.append(teach)
            return found

        prepared = ranks.on_first(prepare)

        def teach() -> Tensor:
            return ranks.on_first(lambda: teachers[0]())

        _train_on(prepared, teach, folder, console, ranks, on_epoch, overwrite=overwrite)
        ranks.on_first(lambda: None)  # others read what the first one has written


def _prepared(
    config: TrainConfig,
    folder: Path,
    console: Terminal,
    stack: contextlib.ExitStack,
    ranks: Ranks,
    shared: bytes | None,
    *,
    overwrite: bool,
) -> tuple[_Prepared, Callable[[], Tensor]]:
    """Read checkpoint and jets, whose files are removed at the end of `stack`.

    The function that is returned too computes the logits of the teacher, which takes long.
    """
    checkpoint = None if overwrite else read_last_checkpoint(folder)
    check_code(config.model, config.model_options)
    weights = initial_weights(config, checkpoint)  # raises before a large file is read
    place: dict[str, Any] = {"known": known_inputs(config, checkpoint, weights)}
    if config.teacher:
        RunFolder(config.teacher).checksum()
    if shared is not None:
        jets = load(shared)
    else:
        with config.code_names():
            modality = modality_of_model(config.model)
        chosen = choose_storage(config, modality, folder, ranks.world)
        if chosen.reason:
            console.print(chosen.reason, soft_wrap=True)
        if chosen.place != "memory":
            place["storage"] = stack.enter_context(mapped_files(folder))
        if chosen.place == "stream":
            config = config.with_options(storage="stream")
            place["stream"] = True
        jets = load_training_data(config, **place)
    reweighting = _reweighted(config, jets)
    jets.objective.fit(jets.train)  # with the weights of all jets
    teacher = Teacher.of(config, jets) if config.teacher else None

    def teach() -> Tensor:
        assert teacher is not None
        with isolate_rng():
            storage = place.get("storage", MEMORY)
            return teacher.logits(config, jets, folder / TEACHER_FOLDER, console, storage)

    return _Prepared(config, checkpoint, jets, reweighting), teach


def _train_on(
    prepared: _Prepared,
    teach: Callable[[], Tensor],
    folder: Path,
    console: Terminal,
    ranks: Ranks,
    on_epoch: OnEpoch | None,
    *,
    overwrite: bool,
) -> None:
    config, jets, checkpoint = prepared.config, prepared.jets, prepared.checkpoint
    weights = initial_weights(config, checkpoint)
    seed_all(config.seed)
    with codes_used() as codes:
        initial = initialise(config, jets, weights, checkpoint)
    tagger = initial.tagger
    if ranks.world > 1:
        over_ranks(tagger.model)
        seed_all((config.seed + _RANK_SEEDS * ranks.rank) % 2**32)
    recipe = config.resolved_recipe()
    workers, particles = config.stream_workers, config.batch_particles
    data = JetData(jets, recipe, config.seed, workers, ranks, particles)
    module = _module(config, jets, initial, data.total_steps)
    with isolate_rng():
        module.check_outputs(next(iter(jets.modality.loader(jets.val, _CHECKED_JETS))))
    if overwrite and ranks.is_first:
        clear(folder)
    if config.teacher:
        jets.train.teacher = teach()
    with StopRequest() as stop:
        keeper = RunCheckpoint(folder, config.run, tagger, jets.identity, stop, ranks)
        if checkpoint is not None:
            keeper.restore(checkpoint, module, data)
        if ranks.is_first:
            announce(console, config, tagger, jets, data, keeper)
            _write_start(prepared, folder, initial, console)
            remember_codes(codes)
        length = data.total_steps, data.total_epochs, data.batch_size
        bar = ProgressBar(console, keeper, *length, jets.modality.noun)
        callbacks: list[L.Callback] = [keeper, bar]
        if config.layer_norms and ranks.is_first:
            norms = _layer_norms(folder, checkpoint)
            callbacks.append(LayerNormsCallback(folder, norms, data))
        if on_epoch is not None and ranks.is_first:
            callbacks.append(EpochListener(keeper, on_epoch))
        trainer = make_trainer(config, data.total_epochs - data.epoch, callbacks, ranks)
        try:
            trainer.fit(module, datamodule=data)
        except Interrupted:
            of_other_rank = stop.signal is None and ranks.world > 1
            if stop.signal == signal.SIGTERM or of_other_rank:
                raise SystemExit(128 + signal.SIGTERM) from None
            raise KeyboardInterrupt from None
    if not ranks.is_first:
        return
    remember_codes(codes)  # with what it has imported since
    doubts = [] if keeper.state.learned else [nothing_learned(config, keeper, module)]
    if config.overfit is not None:
        doubts = not_overfitted(keeper, len(jets.train), jets.modality.noun)
        if not doubts:
            noun = jets.modality.noun
            console.print(f"the network has learned all {len(jets.train):,} {noun} by heart")
    if jets.objective.detects_anomalies:
        doubts = collapsed(jets, folder)
    update_environment(folder, config.seed, finished=True, warnings=doubts)
    conclude(console, config, keeper)
    for doubt in doubts:
        warnings.warn(doubt, NothingLearnedWarning, stacklevel=4)


def _layer_norms(folder: Path, checkpoint: dict[str, Any] | None) -> LayerNorms:
    """Norms of the epochs before, if the run is continued and recorded them."""
    if checkpoint is None or not (folder / LayerNorms.file).exists():
        return LayerNorms()
    return LayerNorms.read(folder)


def _write_start(
    prepared: _Prepared, folder: Path, initial: InitialState, console: Terminal
) -> None:
    """Write what is known of a run at its start."""
    write_config(folder, prepared.config)
    if initial.report is not None:
        print_wide(console, initial.report)
        initial.report.write(folder / INITIAL_STATE_FILE)
    if prepared.reweighting is not None:
        console.print(str(prepared.reweighting), soft_wrap=True)
        prepared.reweighting.write(folder)
    update_environment(folder, prepared.config.seed, finished=False)


def _module(
    config: TrainConfig, jets: TrainingData, initial: InitialState, total_steps: int
) -> TaggerModule:
    distillation = Distillation(config.distill_weight, config.temperature)
    return TaggerModule(
        initial.tagger.model,
        jets.modality,
        config.resolved_recipe(),
        total_steps,
        jets.objective,
        head=initial.head,
        frozen=initial.frozen,
        distillation=distillation if config.teacher else None,
        decorrelation=_decorrelation(config, jets),
        l1=config.l1,
    )


def _reweighted(config: TrainConfig, jets: TrainingData) -> Reweighting | None:
    """Give the training jets the weights that equalise spectra, if the configuration asks for it."""
    if config.reweight is None:
        return None
    names = observable_names(config.reweight)
    weights, reweighting = reweight(jets, names, config.reweight_max)
    cast(JetDataset | JetStream, jets.train).set_weights(torch.from_numpy(weights))
    return reweighting


def _decorrelation(config: TrainConfig, jets: TrainingData) -> Decorrelation | None:
    if config.decorrelate is None:
        return None
    if not jets.modality.has_momenta:
        raise InputError(f"decorrelate is for jets: {jets.modality.noun} have no mass")
    name = config.decorrelate_background or jets.classes[0]
    if name not in jets.classes:
        raise UnknownNameError("class", name, jets.classes)
    background = jets.classes.index(name)
    decorrelation = Decorrelation(config.decorrelate, config.decorrelate_weight, background)
    train, val = cast(JetDataset, jets.train), cast(JetDataset, jets.val)  # they have momenta
    batch_size = config.resolved_recipe().events_per_batch(len(train))
    train = val if isinstance(train, JetStream) else train  # of the same fractions
    check_decorrelation(decorrelation, train, val, batch_size, name)
    return decorrelation
