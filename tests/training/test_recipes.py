"""Recipes by name, and the learning rates that a training really uses."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pcloud import train
from pcloud.cli import main
from pcloud.errors import UnknownNameError
from pcloud.models import list_models
from pcloud.training import RECIPES
from pcloud.training.module import TaggerModule
from pcloud.training.optimizers import OPTIMIZERS
from pcloud.training.recipes import default_recipe, get_recipe
from pcloud.training.schedules import SCHEDULES


@pytest.mark.parametrize("name", RECIPES)
def test_a_training_follows_the_learning_rates_of_its_recipe(
    name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = []
    step = TaggerModule.training_step

    def recorded(self: TaggerModule, *args: Any) -> torch.Tensor:
        groups = self.trainer.optimizers[0].param_groups
        body = {group["lr"] for group in groups if group["params"][0].shape[0] != 2}
        head = {group["lr"] for group in groups if group["params"][0].shape[0] == 2}
        assert len(body) == 1
        if recipe.lr_head_factor != 1:
            assert list(head) == pytest.approx([recipe.lr_head_factor * max(body)])
        rates.append(max(body))
        return step(self, *args)

    monkeypatch.setattr(TaggerModule, "training_step", recorded)
    recipe = RECIPES[name]
    of_classes = {
        "objective": ["class"],
        "objective_weights": "equal",
    }  # whatever the recipe learns
    run = train(**options, **of_classes, recipe=name, progress=False)
    total = len(rates)
    assert total == 2 * (400 // 64)
    factor = SCHEDULES[recipe.schedule]
    assert rates == pytest.approx([recipe.lr * factor(i / (total - 1)) for i in range(total)])
    assert run.config.optimizer == recipe.optimizer
    assert [row["lr"] for row in run.history] == pytest.approx([rates[5], rates[11]])


def test_the_help_names_every_recipe_optimizer_and_schedule(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert f"One of {', '.join(RECIPES)}." in text
    assert f"One of {', '.join(OPTIMIZERS)}." in text
    assert f"--schedule {{{','.join(SCHEDULES)}}}" in text


def test_every_model_and_any_other_has_a_default_recipe() -> None:
    for model in [*list_models(), "my_file:MyTagger"]:
        assert default_recipe(model) in RECIPES
    assert default_recipe("pfn") == "pfn"


def test_trained_weights_ask_for_the_recipe_of_fine_tuning() -> None:
    fine_tuning = {
        "particlenet": "particlenet_finetune",
        "particlenet_lite": "particlenet_finetune",
        "part": "part_finetune",
        "transformer": "part_finetune",
        "pfn": "pfn",  # has none of its own
    }
    for model, recipe in fine_tuning.items():
        assert default_recipe(model, pretrained=True) == recipe
        assert default_recipe(model) == recipe.removesuffix("_finetune").replace(
            "transformer", "part"
        )


def test_an_unknown_recipe_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'lorentznet'"):
        get_recipe("lorenznet")
