"""Messages at the start and at the end of a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pcloud.anomaly.collapse import collapse_on
from pcloud.evaluation.influence import effective_size
from pcloud.terminal import Terminal
from pcloud.training.callbacks import RunCheckpoint
from pcloud.training.checkpoint import Tagger, checkpoint_path, read_tagger
from pcloud.training.config import TrainConfig
from pcloud.training.data import TrainingData
from pcloud.training.module import JetData, TaggerModule
from pcloud.words import number_of

__all__ = ["announce", "collapsed", "conclude", "not_overfitted", "nothing_learned"]

_FEW_STEPS = 100  # optimizer steps below which a hint is printed
_BY_HEART = 0.99  # accuracy on the training jets


def announce(
    console: Terminal,
    config: TrainConfig,
    tagger: Tagger,
    jets: TrainingData,
    data: JetData,
    keeper: RunCheckpoint,
) -> None:
    """Print what is trained on which data, and for how long."""
    parameters = sum(p.numel() for p in tagger.model.parameters())
    frozen = sum(p.numel() for p in tagger.model.parameters() if not p.requires_grad)
    names = jets.objective.describe(jets.train)
    number = jets.modality.number_of(len(jets.train), "training")
    steps = f"{number_of(data.total_steps, 'step')} of {jets.modality.number_of(data.batch_size)}"
    lines = [
        f"{tagger.name}: {number_of(parameters, 'parameter')}"
        + (f", {frozen:,} of them frozen" if frozen else "")
        + f", {number_of(len(tagger.feature_set), 'feature')}",
        f"{number} ({names}), {len(jets.val):,} for validation",
        f"recipe {config.recipe}: {steps} in {number_of(data.total_epochs, 'epoch')}",
    ]
    lines += jets.modality.describe_inputs(tagger.feature_set, config.inputs)
    lines += _weights_lines(jets)
    if data.total_steps < _FEW_STEPS:
        lines.append(
            f"only {number_of(data.total_steps, 'step')}: use a smaller --batch-size or more --epochs"
        )
    if keeper.state.step:
        lines.append(f"continuing after step {keeper.state.step:,}")
    console.print("\n".join(lines), soft_wrap=True)


def _weights_lines(jets: TrainingData) -> list[str]:
    """Line on the weights of the training jets; none without weights."""
    weights = getattr(jets.train, "weight", None)
    if weights is None:
        return []
    values = weights.double().numpy()
    negative = int((values < 0).sum())
    line = (
        f"weighted: sum of weights {values.sum():.5g}, effective sample size "
        f"{effective_size(values):,.0f}"
    )
    return [line + (f", {negative:,} negative" if negative else "")]


def conclude(console: Terminal, config: TrainConfig, keeper: RunCheckpoint) -> None:
    """Print the best epoch and its checkpoint."""
    best = keeper.state.history[keeper.state.best_epoch - 1]
    console.print(
        f"finished; best {config.monitor} {best[config.monitor]:.4f} in epoch "
        f"{keeper.state.best_epoch}: {keeper.last.with_name('best.ckpt')}",
        soft_wrap=True,
    )


def not_overfitted(keeper: RunCheckpoint, number: int, noun: str) -> list[str]:
    """Doubt about a network that did not learn a few jets by heart; none if it did."""
    best = max(row["val_acc"] for row in keeper.state.history)
    if best >= _BY_HEART:
        return []
    doubt = (
        f"the network has not learned {number:,} {noun} by heart: its best accuracy on them is "
        f"{best:.3f}. Check that labels belong to their {noun} and inputs differ between classes, and "
        "try more epochs, another learning rate (lr), a larger network, and no dropout or weight decay"
    )
    return [doubt]


def collapsed(jets: TrainingData, folder: Path) -> list[str]:
    """Doubt about an anomaly detector whose best weights have collapsed; none about others."""
    model: Any = read_tagger(checkpoint_path(folder, "best"), trust_code=True).model
    found = collapse_on(model, jets.modality, jets.val)
    return [str(found)] if found.has_collapsed else []


def nothing_learned(config: TrainConfig, keeper: RunCheckpoint, module: TaggerModule) -> str:
    """Doubt about a network whose loss is not clearly below that of a constant score."""
    loss = min(row["val_loss"] for row in keeper.state.history)
    remedy = "more steps, another learning rate (lr) or other features may help"
    if config.decorrelate is not None:
        remedy = (
            f"a smaller decorrelate_weight than {config.decorrelate_weight:g}, more steps or larger "
            "batches may help"
        )
    return (
        f"the network has learned nothing: its best val_loss, {loss:.4f}, is not clearly below "
        f"{module.constant_loss:.4f}, that of a constant score; {remedy}"
    )
