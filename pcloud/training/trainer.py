"""Lightning's trainer, without its output, and the global state that it changes."""

from __future__ import annotations

import contextlib
import logging
import random
import warnings
from collections.abc import Iterator
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.fabric.plugins.environments import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from pcloud.errors import InputError
from pcloud.training.config import TrainConfig
from pcloud.training.ranks import ONE, Ranks

__all__ = ["make_trainer", "quiet_lightning", "restored_algorithms", "seed_all"]

_PRECISION = {"float32": "32-true", "bfloat16": "bf16-mixed"}


def make_trainer(
    config: TrainConfig,
    epochs: int,
    callbacks: list[L.Callback] | None = None,
    ranks: Ranks = ONE,
) -> L.Trainer:
    """Lightning trainer without output on disk or terminal, which `RunCheckpoint` does.

    Its epochs are counted from where the run is continued.
    """
    spread: dict[str, Any] = {"devices": config.devices}
    if ranks.world > 1:
        # normalisations have the same statistics on all ranks: no buffers are sent
        strategy = DDPStrategy(broadcast_buffers=False)
        spread = {"devices": ranks.local, "num_nodes": ranks.world // ranks.local}
        spread |= {"strategy": strategy, "plugins": [TorchElasticEnvironment()]}
    try:
        return L.Trainer(
            accelerator=config.accelerator,
            **spread,
            precision=_PRECISION[config.resolved_recipe().precision],  # type: ignore[arg-type]
            max_epochs=epochs,
            gradient_clip_val=config.gradient_clip or None,
            deterministic=config.deterministic,
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            reload_dataloaders_every_n_epochs=1,
            use_distributed_sampler=False,
        )
    except (MisconfigurationException, ImportError, ValueError, RuntimeError) as error:
        raise InputError(
            f"cannot train on accelerator {config.accelerator!r}, devices {config.devices!r}: "
            f"{' '.join(str(error).split())}"
        ) from error


def seed_all(seed: int) -> None:
    """Seed the global generators of Python, NumPy and PyTorch."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (a model of the user's may draw from it)
    torch.manual_seed(seed)


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Context without Lightning's advertisements and remarks on deliberate settings."""
    loggers = [logging.getLogger(name) for name in ("lightning", "lightning.pytorch")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def restored_algorithms() -> Iterator[None]:
    """Context that restores the settings of ``Trainer(deterministic=True)`` at its end."""
    before = torch.are_deterministic_algorithms_enabled()
    benchmark = torch.backends.cudnn.benchmark
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.backends.cudnn.benchmark = benchmark
