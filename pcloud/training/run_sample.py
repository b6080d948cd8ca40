"""Jets of a run for its studies, with a warning if they are not those of its training."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pcloud.errors import InputError
from pcloud.keys import Fingerprint
from pcloud.modality import Sample, modality_of_model
from pcloud.run_files import EVALUATION_FILE, read_json
from pcloud.training.config import TrainConfig
from pcloud.training.data import iter_split, load_splits, slices, used_columns
from pcloud.training.fingerprint import SPLIT_NAMES, Overlap, stored_fingerprints
from pcloud.training.run_folder import RunFolder

__all__ = [
    "OtherJetsWarning",
    "SampleIdentity",
    "evaluated_jets",
    "iter_run_sample",
    "load_run_sample",
    "warn_of_changes",
]


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
    if _is_permuted(run):
        return _load_permuted(run, split, config)
    (sample,) = load_splits(config, split, inputs=run.feature_set)
    identity = SampleIdentity(run)
    identity.add(sample)
    identity.warn_of_changed_split(split)
    return sample


def iter_run_sample(
    run: RunFolder, split: str, chunk_size: int, config: TrainConfig | None = None
) -> Iterator[Sample]:
    """Jets of :func:`load_run_sample` in chunks of `chunk_size`; it warns only of an old run.

    :class:`SampleIdentity` takes the chunks and warns.
    """
    config = run.config if config is None else config
    if _is_permuted(run):
        return slices(_load_permuted(run, split, config), chunk_size)
    return iter_split(config, split, chunk_size, run.feature_set)


class SampleIdentity:
    """Keys and hashes of jets that are read in chunks, compared with those of a run.

    Parameters
    ----------
    run : RunFolder
        The run.
    """

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._columns = used_columns(run.config, run.modality)
        self._keys = [np.empty(0, dtype=np.uint64)]
        self._hashes = [np.empty(0, dtype=np.uint64)]

    def add(self, sample: Sample) -> None:
        """Take the next chunk."""
        modality = self._run.modality
        self._keys.append(modality.keys(sample))
        self._hashes.append(modality.hashes(sample, self._columns))

    @property
    def fingerprint(self) -> Fingerprint:
        """Fingerprint of the jets, of the columns that the inputs of the run use."""
        return Fingerprint.of(np.concatenate(self._hashes))

    def warn_of_changed_split(self, split: str) -> None:
        """Warn if the jets are not those that a split of the run had in the training."""
        run = self._run
        if _is_permuted(run):
            return
        then, when = stored_fingerprints(run.fingerprint).get(split), "training"
        if then is None and split == "test":  # in a file that the training did not read
            then, when = evaluated_jets(run.stored(EVALUATION_FILE)), "evaluation"
        if then is not None:
            which = f"{SPLIT_NAMES[split]} {run.modality.noun} of {run.path}"
            warn_of_changes(which, when, then, self.fingerprint)

    def warn_of_training_jets(self) -> None:
        """Warn if jets are among the training jets of the run."""
        run = self._run
        if "sketch" not in run.fingerprint:
            return
        keys = np.concatenate(self._keys)
        overlap = Overlap.of(keys, run.fingerprint)
        if overlap.jets:
            noun = run.modality.noun
            _warn(f"{overlap} of these {len(keys):,} {noun} are training {noun} of {run.path}, too")


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


def _is_permuted(run: RunFolder) -> bool:
    """Return True for a run before splits by keys."""
    return "checksum" in run.fingerprint


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
                f"the {SPLIT_NAMES[name]} {modality.noun} of {run.path} have changed since the "
                f"training: {then:,} then, {now:,} now; its splits are drawn anew, and its "
                f"{SPLIT_NAMES[split]} {modality.noun} may be ones that it was trained on"
            )
            break
    return samples[split]


def _warn(text: str) -> None:
    warnings.warn(text, OtherJetsWarning, stacklevel=4)
