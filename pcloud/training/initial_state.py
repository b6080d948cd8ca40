"""Initial network of a run, or that of a continued run."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from torch import nn

from pcloud.errors import InputError
from pcloud.modality import Inputs, modality_of_model
from pcloud.models.axes import class_axes
from pcloud.training.checkpoint import Tagger, checkpoint_errors, checkpoint_path, size_of
from pcloud.training.config import TrainConfig
from pcloud.training.data import TrainingData
from pcloud.training.freezing import freeze
from pcloud.training.statistics import recompute_batch_norm
from pcloud.training.transfer import TransferReport, transfer
from pcloud.training.weights import Weights, read_weights

__all__ = ["InitialState", "initial_weights", "initialise", "known_inputs"]


@dataclass(frozen=True)
class InitialState:
    """Network at the start of a training.

    Attributes
    ----------
    tagger : Tagger
        Network with random weights, or with those of `init_from`.
    report : TransferReport, optional
        Report on the transfer of the latter.
    head : sequence of str
        Names of the parameters of the head, which have a learning rate of their own.
    frozen : sequence of torch.nn.Module
        Modules that stay in evaluation mode.
    """

    tagger: Tagger
    report: TransferReport | None
    head: Sequence[str]
    frozen: Sequence[nn.Module]


def initial_weights(config: TrainConfig, checkpoint: dict[str, Any] | None) -> Weights | None:
    """Weights that `init_from` names; None for a run that continues from a `checkpoint`.

    Raises as :func:`~pcloud.training.weights.read_weights`.
    """
    if config.init_from is None or checkpoint is not None:
        return None
    return read_weights(config.init_from, config.model)


def known_inputs(
    config: TrainConfig, checkpoint: dict[str, Any] | None, weights: Weights | None
) -> Inputs | None:
    """Inputs of the weights of `init_from`, or of the `checkpoint` of a run that began with them."""
    if weights is not None:
        return weights.feature_set
    if config.init_from is None or checkpoint is None:
        return None
    with config.code_names():
        modality = modality_of_model(config.model)
        return modality.inputs_from_dict(checkpoint["tagger"]["features"])


def initialise(
    config: TrainConfig,
    jets: TrainingData,
    weights: Weights | None,
    checkpoint: dict[str, Any] | None,
) -> InitialState:
    """Build the network of a run.

    Options of the model that are not in the configuration are those of the weights. A run with a
    `checkpoint` has the options stored in it; its weights are restored by
    :class:`~pcloud.training.callbacks.RunCheckpoint`.

    Raises
    ------
    InputError
        If the weights do not fit, a pattern to freeze matches nothing, or the network has no head.
    """
    options = config.model_options
    limits = contextlib.ExitStack()
    if checkpoint is not None:
        options = checkpoint["tagger"]["options"]
        limits.enter_context(checkpoint_errors(checkpoint_path(Path(config.out), "last")))
        limits.enter_context(size_of(checkpoint["tagger"]["weights"]))
    elif weights is not None and weights.name == config.model:
        options = weights.options | options
    with limits:
        tagger = Tagger.build(config.model, options, jets.train.feature_set, jets.objective)
    report = None
    if weights is not None:
        reset_head = config.reset_head or weights.classes == []  # a pretraining has no classes
        report = transfer(weights, tagger, reset_head=reset_head)
        if weights.saw_padding and (number := _restate(tagger, jets)):
            report = replace(report, notes=[*report.notes, _RESTATED.format(number)])
    patterns = [config.freeze] if isinstance(config.freeze, str) else config.freeze or []
    frozen = freeze(tagger.model, patterns)
    return InitialState(tagger, report, _head(tagger, config), frozen)


_RESTATED = (
    "{} batch normalisations: statistics of padded jets replaced by those of training jets, "
    "scales and shifts adjusted"
)
_NUM_JETS = 512  # for the statistics
_BATCH_SIZE = 64


def _restate(tagger: Tagger, jets: TrainingData) -> int:
    """Recompute statistics of padded jets over real particles; return their number."""
    loader = jets.modality.loader(jets.train, _BATCH_SIZE, shuffle=True)
    batches = islice(loader, _NUM_JETS // _BATCH_SIZE)
    return recompute_batch_norm(tagger.model, map(jets.modality.arguments, batches))


def _head(tagger: Tagger, config: TrainConfig) -> list[str]:
    """Names of the parameters whose learning rate has a factor."""
    if config.lr_head_factor == 1:
        return []
    head = list(class_axes(tagger.model, max(tagger.objective.num_outputs, 1)))
    if not head:
        raise InputError(
            f"lr_head_factor is {config.lr_head_factor}, but model {tagger.name!r} has no head: "
            "no layer of it has a row of weights for each class"
        )
    return head
