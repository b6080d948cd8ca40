"""Trained weights in new networks: what is loaded, what starts anew, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

import pcloud
from pcloud import Run, train
from pcloud.errors import InputError, UnknownNameError
from pcloud.features import Feature, FeatureSet, feature_set
from pcloud.training import module
from pcloud.training.checkpoint import Tagger
from pcloud.training.transfer import TransferReport, transfer
from pcloud.training.weights import Weights, read_weights
from tests.models.contract import make_jets as make_batch

KIN = feature_set("kin")


def make_tagger(
    features: FeatureSet = KIN, classes: str = "ab", name: str = "particlenet_lite", **options: Any
) -> Tagger:
    """With statistics unlike those of a new network."""
    tagger = Tagger.build(name, options, features, list(classes))
    tagger.model.train()
    with torch.no_grad():
        for seed in range(3):
            _, p4, batch = make_batch([30] * 4, seed=seed)
            tagger.model(features(p4, batch), p4, batch)
    tagger.model.eval()
    return tagger


def moved(old: Tagger, new: Tagger, **options: Any) -> TransferReport:
    return transfer(Weights.of_tagger(old, "the old ones"), new, **options)


def logits(tagger: Tagger, features: FeatureSet) -> torch.Tensor:
    """Of the same jets, with columns found by the names of the features."""
    _, p4, batch = make_batch()
    with torch.no_grad():
        return tagger.model.eval()(features(p4, batch), p4, batch)


def test_the_same_network_takes_all(tmp_path: Path) -> None:
    old, new = make_tagger(), make_tagger()
    report = moved(old, new)
    assert report.names("loaded") == list(old.model.state_dict())
    assert torch.equal(logits(old, KIN), logits(new, KIN))


def test_a_new_head_is_all_that_is_new() -> None:
    old, new = make_tagger(classes="abc"), make_tagger(classes="xy")
    head = {name: value.clone() for name, value in new.model.head.output.state_dict().items()}
    report = moved(old, new, reset_head=True)
    assert report.names("reset") == ["head.output.weight", "head.output.bias"]
    for name, value in new.model.state_dict().items():
        expected = head.get(name.removeprefix("head.output."), old.model.state_dict()[name])
        assert torch.equal(value, expected), name


def test_classes_go_by_name() -> None:
    old = make_tagger(classes="abc")
    reordered, fewer = make_tagger(classes="cab"), make_tagger(classes="ca")
    assert moved(old, reordered).names("mapped") == ["head.output.weight", "head.output.bias"]
    moved(old, fewer)
    expected = logits(old, KIN)
    torch.testing.assert_close(logits(reordered, KIN), expected[:, [2, 0, 1]], rtol=0, atol=1e-6)
    torch.testing.assert_close(logits(fewer, KIN), expected[:, [2, 0]], rtol=0, atol=1e-6)


def test_features_go_by_name() -> None:
    mixed = KIN.subset(tuple(reversed(KIN.names)))
    old, new = make_tagger(), make_tagger(mixed)
    report = moved(old, new)
    assert "convs.0.edge.weight" in report.names("mapped")
    torch.testing.assert_close(logits(new, mixed), logits(old, KIN), rtol=1e-5, atol=1e-5)


def test_a_new_feature_is_ignored_at_first_and_can_be_learned() -> None:
    more = FeatureSet((KIN.features[0], Feature("pt_rel"), *KIN.features[1:]))
    old, new = make_tagger(), make_tagger(more)
    report = moved(old, new)
    assert "pt_rel" in report.notes[0]
    torch.testing.assert_close(logits(new, more), logits(old, KIN), rtol=1e-5, atol=1e-5)
    _, p4, batch = make_batch()
    new.model(more(p4, batch), p4, batch).square().sum().backward()
    gradient = new.model.convs[0].edge.weight.grad.unflatten(1, (2, 8))
    assert gradient[:, :, 1].abs().min(dim=0).values.max() > 0


def test_a_feature_that_is_gone_takes_its_weights_with_it() -> None:
    fewer = KIN.subset(KIN.names[1:])
    old, new = make_tagger(), make_tagger(fewer)
    report = moved(old, new)
    assert "log_pt" in report.notes[0]
    kept = old.model.convs[0].edge.weight.unflatten(1, (2, 7))[:, :, 1:]
    assert torch.equal(new.model.convs[0].edge.weight.unflatten(1, (2, 6)), kept)


def test_weights_without_a_place_are_skipped() -> None:
    sizes = {"embed_widths": (8, 8), "num_layers": 1, "num_class_layers": 1, "num_heads": 2}
    old, new = make_tagger(name="part", **sizes), make_tagger(name="transformer", **sizes)
    report = moved(old, new)
    skipped = report.names("skipped")
    assert skipped
    assert all(name.startswith("pair_bias.") for name in skipped)
    assert report.names("reset") == []


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ({"classes": "abc"}, "know the classes a, b, not c; --reset-head"),
        (
            {"head_widths": (64,)},
            "do not fit the model 'particlenet_lite': 3 of its .* head.0.weight, ",
        ),
        ({"name": "pfn"}, "a particlenet_lite, do not fit the model 'pfn'"),
        (
            {"features": FeatureSet((Feature("log_pt", 1.7, 0.8, -5, 5), *KIN.features[1:]))},
            "'log_pt' was standardised as .*scale=0.7",
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(
    new: dict[str, Any], message: str
) -> None:
    tagger = make_tagger(**new)
    before = {name: value.clone() for name, value in tagger.model.state_dict().items()}
    with pytest.raises(InputError, match=message):
        moved(make_tagger(), tagger)
    assert all(torch.equal(v, before[k]) for k, v in tagger.model.state_dict().items())


def test_the_report_names_every_tensor_with_its_shapes(tmp_path: Path) -> None:
    report = moved(make_tagger(classes="abc"), make_tagger(), reset_head=True)
    console = Console(width=120, record=True, quiet=True)
    with console.capture() as printed:
        console.quiet = False
        console.print(report)
    assert "2 reset" in printed.get()
    assert "3 x 128" in printed.get()
    assert "convs.0.edge.weight" not in printed.get()  # loaded ones are only counted
    report.write(tmp_path / "init.json")
    content = json.loads((tmp_path / "init.json").read_text())
    by_name = {tensor["name"]: tensor for tensor in content["tensors"]}
    assert set(by_name) == set(make_tagger().model.state_dict())
    assert by_name["head.output.weight"] == {
        "name": "head.output.weight",
        "outcome": "reset",
        "source_shape": [3, 128],
        "shape": [2, 128],
        "note": "head",
    }


# Files


def official_file(path: Path, num_outputs: int, in_features: int = 7) -> nn.Module:
    from tests.models.test_official import weaver_state

    model = pcloud.build_model("particlenet_lite", in_features, num_outputs)
    torch.save(weaver_state(model), path)
    return model


def test_official_files_know_what_the_number_of_inputs_and_classes_tells(tmp_path: Path) -> None:
    official_file(tmp_path / "jetclass.pt", 10)
    weights = read_weights(tmp_path / "jetclass.pt", "particlenet_lite")
    assert weights.feature_set == KIN.for_jets(stored=True)
    assert weights.classes[0] == "QCD"
    assert weights.options["head_widths"] == (128,)
    official_file(tmp_path / "other.pt", 2, in_features=5)
    weights = read_weights(tmp_path / "other.pt", "particlenet_lite")
    assert (weights.feature_set, weights.classes) == (None, None)


def test_inputs_of_unknown_names_start_anew_and_unknown_classes_are_trusted(
    tmp_path: Path,
) -> None:
    model = official_file(tmp_path / "other.pt", 2, in_features=5)
    weights = read_weights(tmp_path / "other.pt", "particlenet_lite")
    tagger = make_tagger()
    report = transfer(weights, tagger)
    assert "norm.weight" in report.names("reset")
    assert "convs.0.edge.weight" in report.names("reset")
    assert torch.equal(tagger.model.head.output.weight, model.head.output.weight)
    assert "taken to have the classes a, b" in report.notes[1]
    with pytest.raises(InputError, match=r"do not have 3 classes, a, b, c: .*--reset-head"):
        transfer(weights, make_tagger(classes="abc"))


def test_the_official_jetclass_weights_begin_a_top_tagger(reference_data: Path) -> None:
    path = reference_data / "particlenet_jetclass_kin_official.pt"
    official = pcloud.load_official("particlenet", path)
    tagger = Tagger.build("particlenet", {}, KIN, ["qcd", "top"])
    weights = read_weights(path, "particlenet")
    report = transfer(weights, tagger, reset_head=True)
    assert report.names("reset") == ["head.output.weight", "head.output.bias"]
    for name, value in official.state_dict().items():
        if not name.startswith("head.output."):
            assert torch.equal(value, tagger.model.state_dict()[name]), name
    with pytest.raises(InputError, match=r"know the classes QCD, .*, not qcd, top; --reset-head"):
        transfer(weights, tagger)


@pytest.mark.usefixtures("small_sample")
def test_the_official_lorentznet_keeps_its_masses(reference_data: Path, tmp_path: Path) -> None:
    """Its weights live on the rounding of the stored energies: the option comes with them."""
    run = train(
        data="simulated",
        model="lorentznet",
        init_from=reference_data / "lorentznet_top_official.pt",
        features=["log_pt", "delta_r"],
        out=tmp_path / "run",
        max_jets=16,
        max_val_jets=16,
        batch_size=8,
        steps=1,
        progress=False,
    )
    assert run.tagger().options["mass"] == "stored"
    assert run.tagger().options["limit"] == 100.0


# Whole trainings


@pytest.fixture
def trained(options: dict[str, Any], tmp_path: Path) -> Run:
    return train(**options | {"out": tmp_path / "first", "epochs": 4}, progress=False)


def state(run: Run, checkpoint: str = "last") -> dict[str, torch.Tensor]:
    return run.tagger(checkpoint).model.state_dict()


def test_a_training_begins_with_the_best_weights_of_a_run(
    trained: Run, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    step = module.TaggerModule.training_step

    def recorded(self: module.TaggerModule, *args: Any) -> torch.Tensor:
        seen.append({name: value.clone() for name, value in self.model.state_dict().items()})
        return step(self, *args)

    monkeypatch.setattr(module.TaggerModule, "training_step", recorded)
    for source in (trained.path, trained.checkpoint("best")):
        seen.clear()
        run = train(**options, init_from=source, overwrite=True, progress=False)
        for name, value in state(trained, "best").items():
            assert torch.equal(seen[0][name], value), name
    assert (run.path / "init.json").is_file()


def test_options_of_the_model_come_with_the_weights(
    options: dict[str, Any], tmp_path: Path
) -> None:
    wide = {"model_options": {"width": 12}}
    first = train(**options | wide | {"out": tmp_path / "wide"}, progress=False)
    run = train(**options, init_from=first.path, progress=False)
    assert run.model().head.in_features == 12
    narrow = {"model_options": {"width": 4}, "out": tmp_path / "narrow"}
    with pytest.raises(InputError, match="do not fit"):
        train(**options | narrow, init_from=first.path, progress=False)
    assert not (tmp_path / "narrow").exists()


def test_a_run_interrupted_before_its_end_does_not_begin_again(
    trained: Run, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module.TaggerModule, "validation_step", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(**options, init_from=trained.path, checkpoint_steps=2, progress=False)
    trained.path.rename(trained.path.with_name("moved"))  # it is not needed any more
    run = train(**options, init_from=trained.path, checkpoint_steps=2, progress=False)
    assert run.finished


@pytest.mark.parametrize(
    "pattern", ["norm", "embed.*", "re:(norm|embed).*", ["norm", "embed.0.weight"]]
)
def test_frozen_parts_stay_bit_for_bit(
    trained: Run, options: dict[str, Any], pattern: str | list[str]
) -> None:
    run = train(
        **options, init_from=trained.path, freeze=pattern, optimizer="ranger", progress=False
    )
    before, after = state(trained, "best"), state(run)
    frozen = {
        "norm": ("norm.",),
        "embed.*": ("embed.",),
        "re:(norm|embed).*": ("norm.", "embed."),
    }.get(str(pattern), ("norm.", "embed.0.weight"))
    for name, value in before.items():
        same = torch.equal(value, after[name])
        assert same == name.startswith(frozen), name  # statistics of `norm` included


def test_statistics_follow_the_jets_where_nothing_is_frozen(
    trained: Run, options: dict[str, Any]
) -> None:
    run = train(**options, init_from=trained.path, progress=False)
    assert not torch.equal(
        state(trained, "best")["norm.running_mean"], state(run)["norm.running_mean"]
    )


@pytest.mark.parametrize("model", ["particlenet_lite", "part"])
def test_single_frozen_normalisations_keep_their_statistics(model: str) -> None:
    """Also where a fused layer has several of them."""
    from pcloud.training.freezing import freeze

    small = {"embed_widths": (8, 8), "num_layers": 1, "num_class_layers": 1, "num_heads": 2}
    network = make_tagger(name=model, **(small if model == "part" else {})).model
    name = "pair_bias.embed.norms.1" if model == "part" else "convs.0.norms.1"
    before = {k: v.clone() for k, v in network.state_dict().items()}
    network.train()
    for part in freeze(network, [name]):
        part.eval()
    network(*make_batch([20] * 4)).sum().backward()
    after = network.state_dict()
    changed = [k for k in before if not torch.equal(before[k], after[k])]
    assert not any(k.startswith(name) for k in changed)
    assert name.replace("1", "2") + ".running_mean" in changed
    frozen = dict(network.named_parameters())[f"{name}.weight"]
    assert frozen.grad is None


def test_a_learning_rate_of_its_own_moves_the_head_more(
    trained: Run, options: dict[str, Any]
) -> None:
    """One step of AdamW moves a weight by its learning rate, without weight decay."""
    one = {"optimizer": "adamw", "schedule": "constant", "lr": 1e-4, "weight_decay": 0.0}
    del options["epochs"]
    run = train(
        **options | one, steps=1, init_from=trained.path, lr_head_factor=50.0, progress=False
    )
    before, after = state(trained, "best"), state(run)
    moves = {k: (after[k] - before[k]).abs().max().item() for k in before if "weight" in k}
    assert moves["head.weight"] == pytest.approx(50e-4, rel=1e-2)
    assert moves["embed.0.weight"] == pytest.approx(1e-4, rel=1e-2)
    assert moves["norm.weight"] == pytest.approx(1e-4, rel=1e-2)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"init_from": "absent"}, FileNotFoundError, "no run and no weights at absent"),
        ({"init_from": __file__}, UnknownNameError, "no official weights reader"),
        ({"freeze": "norn"}, UnknownNameError, "named 'norn'; did you mean 'norm'"),
        ({"freeze": "re:("}, InputError, "no regular expression"),
        ({"freeze": "*"}, InputError, "nothing is left to train"),
        ({"init_from": None, "freeze": "norm"}, InputError, "freeze needs init_from"),
        ({"init_from": None, "reset_head": True}, InputError, "reset_head needs init_from"),
        ({"lr_head_factor": 0.0}, InputError, "lr_head_factor must be positive"),
    ],
)
def test_what_cannot_be_done_is_refused_before_a_folder_is_made(
    trained: Run,
    options: dict[str, Any],
    change: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        train(**options | {"init_from": trained.path} | change, progress=False)
    assert not Path(options["out"]).exists()
