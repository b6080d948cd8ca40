"""Addresses of public samples and official weights: the only place where they are written.

Checksums are those that the record of the authors publishes, or the program with which the authors
distribute the file. Where none is known, that of the first download is stored, see
:mod:`pcloud.datasets.downloads`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module

from pcloud.datasets.info import Download

__all__ = ["IMAGE_SAMPLES", "RemoteFile", "RemoteSample", "list_sources", "remote_sample"]

IMAGE_SAMPLES = ("galaxy10_decals", "galaxy10_sdss", "mnist")
"""Samples of images."""

_UNSTATED = "see the record"


@dataclass(frozen=True)
class RemoteFile:
    """File at an address of its authors.

    Attributes
    ----------
    name : str
        Name of the file in the folder of its sample.
    address : str, optional
        Address; None where the file can only be fetched by hand.
    checksum : str, optional
        Published checksum, such as ``"md5:45663819..."``; also sha256 and adler32.
    size : int, optional
        Published size in bytes.
    unpack : str, optional
        Folder, in that of the sample, into which an archive is unpacked.
    """

    name: str
    address: str | None
    checksum: str | None = None
    size: int | None = None
    unpack: str | None = None


@dataclass(frozen=True)
class RemoteSample:
    """Files of a sample or of trained weights.

    Attributes
    ----------
    name : str
        Name in :func:`pcloud.download`.
    folder : str
        Folder of the files in the folder of all data sets.
    splits : mapping of str to tuple of RemoteFile
        Files of each split.
    page : str
        Page of the authors that describes the files.
    licence : str
        Licence that the page states.
    """

    name: str
    folder: str
    splits: Mapping[str, tuple[RemoteFile, ...]]
    page: str
    licence: str


def list_sources() -> list[str]:
    """Names of all samples and weights that can be downloaded, sorted."""
    return sorted(_sources())


def remote_sample(name: str) -> RemoteSample:
    """Return the addresses of a sample or of weights.

    Raises
    ------
    UnknownNameError
        If there is none of this name.
    """
    from pcloud.errors import UnknownNameError

    if name not in _sources():
        raise UnknownNameError("sample or weights to download", name, _sources())
    return _sources()[name]


@cache
def _sources() -> dict[str, RemoteSample]:
    samples = [*_zenodo_jets(), *_atlas(), *_images(), _cresst(), *_weights()]
    return {sample.name: sample for sample in samples}


def _zenodo_jets() -> list[RemoteSample]:
    """Return the samples whose files :class:`~pcloud.datasets.info.DatasetInfo` describes."""
    unpack = {"jetclass": {"train": "train_100M", "val": "", "test": ""}}
    samples = []
    for name in ("landscape", "jetclass", "quark_gluon"):
        info = import_module(f"pcloud.datasets.{name}").INFO
        splits = {
            split: tuple(
                _from_record(info.url, file, unpack.get(name, {}).get(split))
                for file in part.downloads
            )
            for split, part in info.splits.items()
        }
        samples.append(RemoteSample(name, name, splits, info.url, "CC BY 4.0"))
    return samples


def _from_record(record: str, file: Download, unpack: str | None) -> RemoteFile:
    checksum = file.md5 and f"md5:{file.md5}"
    return RemoteFile(
        file.name, f"{record}/files/{file.name}?download=1", checksum, file.size, unpack
    )


_CERN = "https://opendata.cern.ch/record"


def _atlas() -> list[RemoteSample]:
    def files(record: int, *parts: tuple[str, str | None, int | None]) -> tuple[RemoteFile, ...]:
        return tuple(
            RemoteFile(name, f"{_CERN}/{record}/files/{name}", checksum, size)
            for name, checksum, size in parts
        )

    jetset = {
        "small": ("mc-flavtag-ttbar-small.h5", "adler32:8d7e9098", 3_055_139_850),
        "medium": ("mc-flavtag-ttbar-medium.h5", "adler32:e29be59c", 13_935_881_976),
        "large": ("mc-flavtag-ttbar-large.h5", "adler32:61adcbcb", 90_797_951_148),
    }
    return [
        RemoteSample(
            "jetset",
            "jetset",
            {split: files(93940, part) for split, part in jetset.items()},
            f"{_CERN}/93940",
            "CC0 1.0",
        ),
        RemoteSample(
            "atlas_top",
            "atlas_top",
            {
                "train": files(15013, ("train.h5", None, None)),
                "test": files(15013, ("test.h5", None, None)),
            },
            f"{_CERN}/15013",
            "CC0 1.0",
        ),
        RemoteSample(
            "atlas_higgs",
            "atlas_higgs",
            {"all": files(328, ("atlas-higgs-challenge-2014-v2.csv.gz", None, None))},
            f"{_CERN}/328",
            "CC0 1.0",
        ),
    ]


def _images() -> list[RemoteSample]:
    def galaxies(name: str, record: int, file: str, sha256: str) -> RemoteSample:
        page = f"https://zenodo.org/records/{record}"
        remote = RemoteFile(file, f"{page}/files/{file}?download=1", f"sha256:{sha256}")
        return RemoteSample(name, name, {"all": (remote,)}, page, _UNSTATED)

    mnist = "https://ossci-datasets.s3.amazonaws.com/mnist"
    digits = {
        "train": {
            "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        },
        "test": {
            "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
        },
    }
    splits = {
        split: tuple(
            RemoteFile(name, f"{mnist}/{name}", f"md5:{md5}") for name, md5 in part.items()
        )
        for split, part in digits.items()
    }
    return [
        galaxies(
            "galaxy10_sdss",
            10844811,
            "Galaxy10.h5",
            "969a6b1cefcc36e09fffa86febd2f699a4aa19b837ba0427f01b0bc6ded458af",
        ),
        galaxies(
            "galaxy10_decals",
            10845026,
            "Galaxy10_DECals.h5",
            "19aefc477c41bb7f77ff07599a6b82a038dc042f889a111b0d4d98bb755c1571",
        ),
        RemoteSample("mnist", "mnist", splits, "http://yann.lecun.com/exdb/mnist", _UNSTATED),
    ]


def _cresst() -> RemoteSample:
    """Return the pulses of CRESST, which have no direct address."""
    page = "https://www.origins-cluster.de/odsl/dark-matter-data-center/available-datasets/cresst"
    splits = {
        split: (
            RemoteFile(f"X_{split}.npy", None),
            RemoteFile(f"features_{split}.csv", None),
        )
        for split in ("train", "test")
    }
    return RemoteSample("cresst", "cresst", splits, page, _UNSTATED)


def _weights() -> list[RemoteSample]:
    """Return the official weights, each at a fixed commit of its repository."""
    part = "jet-universe/particle_transformer"
    commit = "fa63c86d594ef875c2d25c04bd5afbab5c73b611"
    names = {"particlenet": "ParticleNet", "part": "ParT"}
    samples = [
        _from_github(
            f"{model}/jetclass_{inputs}", part, commit, f"models/{file}_{inputs}.pt", "MIT"
        )
        for model, file in names.items()
        for inputs in ("kin", "kinpid", "full")
    ]
    lorentznet = _from_github(
        "lorentznet/landscape",
        "sdogsq/LorentzNet-release",
        "a6fd2cb85b58ebfc159e73bcd5e4e51a26a2d1ee",
        "logs/top/pretrained/best-val-model.pt",
        "GPL",
    )
    return [*samples, lorentznet]


def _from_github(name: str, repository: str, commit: str, path: str, licence: str) -> RemoteSample:
    model, _, weights = name.partition("/")
    address = f"https://raw.githubusercontent.com/{repository}/{commit}/{path}"
    file = RemoteFile(f"{model}_{weights}.pt", address)
    page = f"https://github.com/{repository}"
    return RemoteSample(name, "weights", {"all": (file,)}, page, licence)
