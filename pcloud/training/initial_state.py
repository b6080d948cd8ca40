"""The network with which a run begins, or continues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from torch import nn

from pcloud.batch import JetDataset, JetLoader
from pcloud.errors import InputError
from pcloud.models.axes import class_axes
from pcloud.training.checkpoint import Tagger
from pcloud.training.config import TrainConfig
from pcloud.training.data import TrainingData
from pcloud.training.freezing import freeze
from pcloud.training.statistics import recompute_batch_norm
from pcloud.training.transfer import TransferReport, transfer
from pcloud.training.weights import Weights, read_weights

__all__ = ["InitialState", "initialise", "weights_to_begin_with"]


@dataclass(frozen=True)
class InitialState:
    """A network ready to be trained.

    Attributes
    ----------
    tagger : Tagger
        With random weights, or those of `init_from`.
    report : TransferReport, optional
        What became of these.
    head : sequence of str
        Parameters with the learning rate of the head.
    frozen : sequence of torch.nn.Module
        Parts of the model to keep in evaluation mode.
    """

    tagger: Tagger
    report: TransferReport | None
    head: Sequence[str]
    frozen: Sequence[nn.Module]


def weights_to_begin_with(config: TrainConfig, checkpoint: dict[str, Any] | None) -> Weights | None:
    """The weights that a run asks for, unless it has a `checkpoint` of its own.

    Raises as :func:`~pcloud.training.weights.read_weights`.
    """
    if config.init_from is None or checkpoint is not None:
        return None
    return read_weights(config.init_from, config.model)


def initialise(
    config: TrainConfig,
    jets: TrainingData,
    weights: Weights | None,
    checkpoint: dict[str, Any] | None,
) -> InitialState:
    """Build the network of a run.

    Its options are those of the configuration, and for what that does not say those of the
    weights. A run with a `checkpoint` keeps the options it began with; the weights in it are for
    :class:`~pcloud.training.callbacks.RunCheckpoint` to restore.

    Raises
    ------
    InputError
        If the weights do not fit, or there is nothing to freeze or no head where one is asked for.
    """
    options = config.model_options
    if checkpoint is not None:
        options = checkpoint["tagger"]["options"]
    elif weights is not None and weights.name == config.model:
        options = weights.options | options
    tagger = Tagger.build(config.model, options, jets.train.feature_set, jets.classes)
    report = None
    if weights is not None:
        report = transfer(weights, tagger, reset_head=config.reset_head)
        if weights.saw_padding and (number := _restate(tagger, jets)):
            report = replace(report, notes=[*report.notes, _RESTATED.format(number)])
    patterns = [config.freeze] if isinstance(config.freeze, str) else config.freeze or []
    frozen = freeze(tagger.model, patterns)
    return InitialState(tagger, report, _head(tagger, config), frozen)


_RESTATED = (
    "{} batch normalisations: statistics of training jets in the place of those of padded jets, "
    "scales and shifts to match"
)
_JETS = 512  # whose statistics they are
_BATCH = 64


def _restate(tagger: Tagger, jets: TrainingData) -> int:
    """Make statistics that saw padding those of particles; the number of normalisations."""
    assert isinstance(jets.train, JetDataset), "official weights are of taggers"
    loader = islice(JetLoader(jets.train, _BATCH, shuffle=True), _JETS // _BATCH)
    return recompute_batch_norm(tagger.model, ((b.x, b.p4, b.batch) for b in loader))


def _head(tagger: Tagger, config: TrainConfig) -> list[str]:
    """Parameters whose learning rate has a factor."""
    if config.lr_head_factor == 1:
        return []
    head = list(class_axes(tagger.model, len(tagger.classes)))
    if not head:
        raise InputError(
            f"lr_head_factor is {config.lr_head_factor}, but model {tagger.name!r} has no head: "
            "no layer of it has a row of weights for each class"
        )
    return head
