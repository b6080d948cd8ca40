"""Jets of a run for its studies, with a warning if they are not those of its training."""

from __future__ import annotations

import warnings
from pathlib import Path

from pcloud.errors import InputError
from pcloud.keys import Fingerprint
from pcloud.modality import Sample, modality_of_model
from pcloud.run_files import EVALUATION_FILE, read_json
from pcloud.training.config import TrainConfig
from pcloud.training.data import load_splits
from pcloud.training.fingerprint import Overlap, stored_fingerprints
from pcloud.training.run_folder import RunFolder

__all__ = [
    "OtherJetsWarning",
    "evaluated_jets",
    "fingerprint",
    "load_run_sample",
    "warn_of_changes",
    "warn_of_training_jets",
]

_NAMES = {"train": "training", "val": "validation", "test": "test"}


class OtherJetsWarning(UserWarning):
    """Warning that jets are not those that a run had in its training, or are its training jets."""


def load_run_sample(run: RunFolder, split: str, config: TrainConfig | None = None) -> Sample:
    """Jets of a split of a run.

    Warns if they are not those that the split had in the training.

    Parameters
    ----------
    run : RunFolder
        The run.
    split : str
        Name of the split.
    config : TrainConfig, optional
        Configuration with other options of reading.

    Raises
    ------
    InputError
        If the run has no such split.
    """
    config = run.config if config is None else config
    if run.fingerprint and "checksum" in run.fingerprint:
        return _load_permuted(run, split, config)
    (sample,) = load_splits(config, split)
    then, when = stored_fingerprints(run.fingerprint).get(split), "training"
    if then is None and split == "test":  # in a file that the training did not read
        then, when = evaluated_jets(run.stored(EVALUATION_FILE)), "evaluation"
    if then is not None:
        now = fingerprint(run, sample, config)
        warn_of_changes(f"{_NAMES[split]} {run.modality.noun} of {run.path}", when, then, now)
    return sample


def warn_of_changes(which: str, when: str, then: Fingerprint, now: Fingerprint) -> None:
    """Warn if jets have changed since the training or an evaluation."""
    if not now.same_jets(then):
        _warn(
            f"the {which} have changed since the {when}: {then.jets:,} then, with fingerprint "
            f"{then.content}, {now.jets:,} now, with {now.content}"
        )


def evaluated_jets(path: Path) -> Fingerprint | None:
    """Fingerprint of the jets in an ``evaluation.json``; None if there is none or it is damaged."""
    try:
        return read_json(path, "evaluation", "", lambda values: Fingerprint(**values["jets"]))
    except (FileNotFoundError, InputError):
        return None


def fingerprint(run: RunFolder, sample: Sample, config: TrainConfig) -> Fingerprint:
    """Fingerprint of a sample, of the columns that the inputs of a run use."""
    columns = run.modality.used_columns(config.inputs)
    return Fingerprint.of(run.modality.hashes(sample, columns))


def warn_of_training_jets(run: RunFolder, sample: Sample) -> None:
    """Warn if jets that are evaluated are among the training jets of a run."""
    if "sketch" not in run.fingerprint:
        return
    overlap = Overlap.of(run.modality.keys(sample), run.fingerprint)
    if overlap.jets:
        noun = run.modality.noun
        _warn(f"{overlap} of these {len(sample):,} {noun} are training {noun} of {run.path}, too")


def _load_permuted(run: RunFolder, split: str, config: TrainConfig) -> Sample:
    """Jets of a run before splits by keys, whose splits move when their number changes."""
    modality = modality_of_model(config.model)
    is_drawn = not modality.own_splits(config.data) and config.val is None
    names = list(dict.fromkeys([split, "train", "val"])) if is_drawn else [split]
    samples = dict(zip(names, load_splits(config, *names), strict=True))
    for name in ("train", "val"):
        then = run.fingerprint[f"{name}_jets"]
        now = len(samples.get(name, range(then)))
        if then != now:
            _warn(
                f"the {_NAMES[name]} {modality.noun} of {run.path} have changed since the "
                f"training: {then:,} then, {now:,} now; its splits are drawn anew, and its "
                f"{_NAMES[split]} {modality.noun} may be ones that it was trained on"
            )
            break
    return samples[split]


def _warn(text: str) -> None:
    warnings.warn(text, OtherJetsWarning, stacklevel=4)
