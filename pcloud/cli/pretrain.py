"""``pcloud pretrain``: train a network on jets without labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval

from pcloud.cli.command import Command, Options
from pcloud.cli.output import suggest
from pcloud.cli.parser import complete
from pcloud.cli.train import TrainingOptions, with_file
from pcloud.errors import InputError
from pcloud.objectives.specification import MASKED
from pcloud.training.config import STAGES, TrainConfig
from pcloud.validation import hints

_WITHOUT_LABELS = ("inputs", "network", "initialisation", "optimization", "run")


@dataclass(frozen=True, kw_only=True)
class PretrainOptions(TrainingOptions):
    """Pretraining."""

    task: Literal["masked"] = "masked"
    """What is learned without labels: masked, the momenta and types of hidden particles."""
    hidden_fraction: Annotated[float, Interval(gt=0, lt=1)] = 1 / 3
    """Fraction of the particles of each jet that are hidden, drawn anew in every step."""


def execute(options: Options) -> None:
    """Pretrain a network, or continue its pretraining."""
    command = {name: options.pop(name) for name in hints(PretrainOptions) if name in options}
    command = complete([PretrainOptions], command)
    path = command["config"]
    objective = [{"kind": MASKED, "fraction": command["hidden_fraction"]}]
    given = options | {"objective": objective}
    values = with_file(path, given)
    if path is None:
        config = TrainConfig.from_dict(values)
    else:
        config = TrainConfig.from_command(values, path, given)
    if config.ensemble > 1:
        raise InputError("a pretraining has one network: leave out ensemble")
    from pcloud.training.fit import train

    run = train(
        config,
        overwrite=command["overwrite"],
        progress=not command["quiet"],
        trust_code=command["trust_code"],
    )
    suggest(
        *("train", "--data", "LABELLED", "--model", config.model),
        *("--init-from", run.path, "--out", "runs/tuned"),
    )


COMMAND = Command(
    "pretrain",
    "Train a network on jets without labels, to begin a training with.",
    execute,
    (PretrainOptions, *(STAGES[name] for name in _WITHOUT_LABELS)),
    complete=False,
)
