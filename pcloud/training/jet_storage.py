"""Place of the jets of a training: memory, mapped files, or a stream from their own files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pcloud.errors import InputError
from pcloud.memory import CHECK_VARIABLE, free_memory
from pcloud.modality import Modality, Source, SourceSize
from pcloud.training.config import TrainConfig

__all__ = ["JetStorage", "choose_storage"]

_DISK_SHARE = 0.9
"""Fraction of the free disk space that mapped jets can take."""


@dataclass(frozen=True)
class JetStorage:
    """Place of the jets of a training.

    Parameters
    ----------
    place : {"memory", "map", "stream"}
        The place.
    reason : str
        Line for the user with the sizes; empty where there was no choice.
    """

    place: Literal["memory", "map", "stream"]
    reason: str = ""


def choose_storage(
    config: TrainConfig, modality: Modality, folder: Path, processes: int = 1
) -> JetStorage:
    """Choose the place of the jets by their size, unless the configuration says it.

    Jets are kept in memory if they fit into it. Otherwise they are mapped, if the disk has room for
    them and the memory for the pages of their data sets; otherwise streamed, if their files are
    Parquet; otherwise mapped, which is slow if most pages are read from the disk. Several
    `processes` that train together share mapped jets.

    Raises
    ------
    InputError
        If there is too little memory and disk, or the configuration asks for what cannot be.
    """
    wanted = config.storage
    if not modality.stores_in_files:
        if wanted in ("map", "stream"):
            raise InputError(f"storage {wanted} is for jets, and these are {modality.noun}")
        return JetStorage("memory")
    if wanted == "memory":
        return JetStorage("memory")
    if config.split != "key":
        if wanted != "auto":
            raise InputError(f"storage {wanted} needs split: key")
        return JetStorage("memory")
    size = _total(config, modality)
    if any(part.learns_particles for part in config.objectives.specifications):
        if wanted == "stream":
            raise InputError("storage stream has no labels of particles: storage map has")
        size = replace(size, can_stream=False)
    if wanted == "auto":
        chosen = _fitting(config, size, folder)
        return JetStorage("map") if chosen.place == "memory" and processes > 1 else chosen
    if wanted == "stream" and not size.can_stream:
        raise InputError(_NO_STREAM)
    return JetStorage(wanted, _line(wanted, size))


_NO_STREAM = (
    "storage stream needs Parquet files of jets: pcloud convert makes them, with --shuffle if the "
    "classes are not mixed"
)


def _fitting(config: TrainConfig, size: SourceSize, folder: Path) -> JetStorage:
    need = size.sample_bytes + size.dataset_bytes
    if need == 0 or os.environ.get(CHECK_VARIABLE) == "0":
        return JetStorage("memory")
    free = free_memory()
    limit = free if config.memory_limit is None else 1e9 * config.memory_limit
    if limit is None or need <= limit:
        return JetStorage("memory")
    disk = shutil.disk_usage(folder).free
    has_room = need <= _DISK_SHARE * disk
    is_fast = free is None or size.dataset_bytes <= free
    if has_room and (is_fast or not size.can_stream):
        return JetStorage("map", _line("map", size, limit))
    if size.can_stream:
        return JetStorage("stream", _line("stream", size, limit))
    raise InputError(
        f"{size.entries:,} jets need {need / 1e9:.3g} GB of memory, and {limit / 1e9:.3g} GB are "
        f"free; files of this size do not fit on the disk of {folder} either, where {disk / 1e9:.3g} "
        "GB are free: use fewer jets (--max-jets N), or Parquet files (pcloud convert), which are "
        "streamed"
    )


def _line(kind: str, size: SourceSize, limit: float | None = None) -> str:
    need = (size.sample_bytes + size.dataset_bytes) / 1e9
    than = "" if limit is None else f", more than {limit / 1e9:.3g} GB"
    place = "mapped files" if kind == "map" else "a stream from their files"
    return f"{size.entries:,} jets need {need:.3g} GB{than}: {place} (storage {kind})"


def _total(config: TrainConfig, modality: Modality) -> SourceSize:
    """Size of the training and validation jets."""
    sizes = [_at_most(config.max_jets, modality.size(config.data, "train", config.inputs))]
    for source in _validation(config, modality):
        sizes.append(_at_most(config.max_val_jets, modality.size(source, "val", config.inputs)))
    return SourceSize(
        sum(size.entries for size in sizes),
        sum(size.sample_bytes for size in sizes),
        sum(size.dataset_bytes for size in sizes),
        sizes[0].can_stream,
    )


def _validation(config: TrainConfig, modality: Modality) -> Iterator[Source]:
    """Source of the validation jets, if they are not drawn from the training jets."""
    if config.val is not None:
        yield config.val
    elif "val" in modality.own_splits(config.data):
        yield config.data


def _at_most(limit: int | None, size: SourceSize) -> SourceSize:
    """Size of a sample of at most `limit` entries."""
    if limit is None or size.entries <= limit:
        return size
    share = limit / size.entries
    return SourceSize(limit, share * size.sample_bytes, share * size.dataset_bytes, size.can_stream)
