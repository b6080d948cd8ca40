"""Read images into an `ImageSet`: npz, HDF5, idx files of MNIST, folders of pictures."""

from __future__ import annotations

import gzip
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray

from pcloud.errors import InputError
from pcloud.images.image_set import ImageSet
from pcloud.io.files import input_errors
from pcloud.io.npz import read_member

__all__ = ["image_splits", "read_images"]

# Names of arrays with images and with labels; those of Galaxy10 are images and ans.
_IMAGES = ("images", "image", "x", "X", "data")
_LABELS = ("labels", "label", "y", "ans", "target")

# Other names of the splits.
_SPLITS = {"train": ("train",), "val": ("val", "valid"), "test": ("test", "t10k")}

_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")

# A picture that is larger and this much larger than its file is refused. No compression of
# photographs comes near it.
_MAX_PICTURE_BYTES = 64 << 20
_MAX_RATIO = 200
_MAX_PIXEL_BYTES = 4

_BLOCK_BYTES = 1 << 20

_GALAXY10_SDSS = (
    "disk, face-on, no spiral",
    "smooth, completely round",
    "smooth, in-between round",
    "smooth, cigar shaped",
    "disk, edge-on, rounded bulge",
    "disk, edge-on, boxy bulge",
    "disk, edge-on, no bulge",
    "disk, face-on, tight spiral",
    "disk, face-on, medium spiral",
    "disk, face-on, loose spiral",
)
_GALAXY10_DECALS = (
    "disturbed",
    "merging",
    "round smooth",
    "in-between round smooth",
    "cigar shaped smooth",
    "barred spiral",
    "unbarred tight spiral",
    "unbarred loose spiral",
    "edge-on without bulge",
    "edge-on with bulge",
)
# Numbers of images of each class in the complete files, as listed by their authors.
_SDSS_COUNTS = (3461, 6997, 6292, 394, 1534, 17, 589, 1121, 906, 519)
_DECALS_COUNTS = (1081, 1853, 2645, 2027, 334, 2043, 1829, 2628, 1423, 1873)
_NUM_SDSS_IMAGES = 21_785
_NUM_DECALS_IMAGES = 17_736
_SDSS_PIXELS = 69
_DECALS_PIXELS = 256  # there is a version of DECaLS with 69 pixels, too

Arrays = tuple[NDArray[Any], "NDArray[Any] | None", "list[str] | None"]


def read_images(path: str | PathLike[str], split: str | None = None) -> ImageSet:
    """Read images and their labels.

    Parameters
    ----------
    path : path
        One of these:

        - an ``.npz`` file with arrays such as ``images`` and ``labels``, or ``x_train``,
          ``y_train``, ``x_test`` and ``y_test``, and optionally the names of the ``classes``;
        - an HDF5 file, such as Galaxy10 SDSS or DECaLS with ``images`` and ``ans``;
        - an idx file of images, with its labels in the same folder;
        - a folder with idx files, or with a folder of pictures for each class, optionally inside
          ``train``, ``val`` and ``test``.
    split : {"train", "val", "test"}, optional
        Split to read if the file has several, see :func:`image_splits`; by default "train".

    Returns
    -------
    ImageSet
        Images with labels. Classes without images are left out, and the others renumbered. Classes
        have names if the file contains them or is a known one. They are numbers for a part of
        Galaxy10 with 69 pixels that may be SDSS or DECaLS.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    InputError
        If the file contains no images, the labels do not match them, or there is no such split.
    """
    path = Path(path)
    splits = image_splits(path)
    if splits and split is None:
        split = "train"
    if split is not None and splits and split not in splits:
        raise InputError(f"{path} has no split {split!r}, only {', '.join(splits)}")
    read = _reader(path)
    with input_errors(path, "images"):
        images, labels, names = read(path, split if splits else None)
        tensor = _channels_first(images, path)
        if labels is None:
            return ImageSet(tensor)
        if labels.shape != (len(tensor),) or labels.dtype.kind not in "iu":
            raise InputError(
                f"{path}: labels of shape {labels.shape} and type {labels.dtype} are not the class "
                f"numbers of {len(tensor)} images"
            )
        return ImageSet(tensor, *_present(labels, names, path))


def image_splits(path: str | PathLike[str]) -> list[str]:
    """List the splits ("train", "val", "test") of a file or folder of images.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no file {path}")
    if path.is_dir():
        names = [file.name for file in path.iterdir()]
    elif path.suffix == ".npz":
        with _npz(path) as arrays:
            names = [name.removeprefix("x_") for name in arrays if name.startswith("x_")]
    else:
        return []
    found = {s for s in _SPLITS for other in _SPLITS[s] for n in names if _is_split(n, other)}
    return [split for split in _SPLITS if split in found]


def _is_split(name: str, split: str) -> bool:
    return name == split or (name.startswith(f"{split}-") and "idx3" in name)


def _reader(path: Path) -> Callable[[Path, str | None], Arrays]:
    if path.is_dir():
        return _read_folder
    if path.suffix == ".npz":
        return _read_npz
    if path.suffix in (".h5", ".hdf5"):
        return _read_hdf5
    if "idx" in path.name:
        return _read_idx_pair
    raise InputError(
        f"{path} is not a file of images: give .npz, .h5, an idx file or a folder of pictures"
    )


class _NpzArrays(Mapping[str, "NDArray[Any]"]):
    """Arrays of an npz file, read on access."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path = path
        self._archive = archive
        self._members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}

    def __getitem__(self, name: str) -> NDArray[Any]:
        return read_member(self._path, self._archive, self._members[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)


@contextmanager
def _npz(path: Path) -> Iterator[Mapping[str, NDArray[Any]]]:
    """Open an npz file whose arrays are read on access.

    The file is opened here, because `zipfile` does not close a damaged file.
    """
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise InputError(f"{path} is not an npz file, or it is truncated")
        file.seek(0)
        with input_errors(path, "npz file"), zipfile.ZipFile(file) as archive:
            yield _NpzArrays(path, archive)


def _read_npz(path: Path, split: str | None) -> Arrays:
    with _npz(path) as arrays:
        if split is not None:
            return arrays[f"x_{split}"], arrays.get(f"y_{split}"), _names(arrays)
        return _pick(arrays, _IMAGES, path), _pick(arrays, _LABELS), _names(arrays)


def _read_hdf5(path: Path, split: str | None) -> Arrays:
    from pcloud.io.hdf5_sources import check_sources, check_storage, open_for_reading

    def read(dataset: Any) -> NDArray[Any]:
        check_sources(path, dataset.name, dataset)
        check_storage(path, dataset.name, dataset)
        return dataset[()]

    try:
        file = open_for_reading(path)
    except OSError as error:
        raise InputError(f"{path} is not an HDF5 file: {error}") from error
    with file, input_errors(path, "HDF5 file"):
        images = _pick(file, _IMAGES, path)
        labels = _pick(file, _LABELS)
        names = _names(file)
        if names is None and "ans" in file:
            names = _galaxy10_names(images.shape, read(file["ans"]))
        return read(images), None if labels is None else read(labels), names


def _galaxy10_names(shape: tuple[int, ...], labels: NDArray[Any]) -> list[str] | None:
    """Names of the classes of Galaxy10 SDSS or DECaLS; None if the file may be either or neither.

    The files differ in the number of images and usually in their size. A part of a file has at
    most as many images of each class as the complete file.
    """
    sdss = list(_GALAXY10_SDSS)
    decals = list(_GALAXY10_DECALS)
    if len(labels) in (_NUM_SDSS_IMAGES, _NUM_DECALS_IMAGES):
        return sdss if len(labels) == _NUM_SDSS_IMAGES else decals
    if _DECALS_PIXELS in shape[1:]:
        return decals
    if _SDSS_PIXELS not in shape[1:] or labels.dtype.kind not in "iu" or labels.ndim != 1:
        return None
    if len(labels) == 0 or labels.min() < 0 or labels.max() > 9:
        return None
    counts = np.bincount(labels, minlength=10)
    may_be_sdss = bool((counts <= _SDSS_COUNTS).all())
    may_be_decals = bool((counts <= _DECALS_COUNTS).all())
    if may_be_sdss == may_be_decals:
        return None
    return sdss if may_be_sdss else decals


def _pick(arrays: Mapping[str, Any], names: tuple[str, ...], path: Path | None = None) -> Any:
    for name in names:
        if name in arrays:
            return arrays[name]
    if path is not None:
        raise InputError(f"{path} has no images: none of {', '.join(names)}, only {list(arrays)}")
    return None


def _names(arrays: Mapping[str, Any]) -> list[str] | None:
    if "classes" not in arrays:
        return None
    return [n.decode() if isinstance(n, bytes) else str(n) for n in arrays["classes"][()]]


def _read_idx_pair(path: Path, split: str | None) -> Arrays:
    labels = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    found = labels != path and labels.exists()
    return _read_idx(path), _read_idx(labels).astype(np.int64) if found else None, None


def _read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an idx file: bytes 0, 0, 8 (uint8), number of axes, big-endian lengths, values."""
    with input_errors(path, "idx file"), _opened(path) as file:
        head = file.read(4)
        if len(head) < 4 or head[:3] != b"\0\0\x08":
            raise InputError(f"{path} is not an idx file of bytes")
        shape = np.frombuffer(file.read(4 * head[3]), ">u4", head[3]).tolist()
        size = math.prod(shape)
        values = _read_up_to(file, size + 1)  # the end of a gzip file has its checksum
        if len(values) < size:
            raise InputError(f"{path} is truncated: {len(values)} values of {size}")
        if len(values) > size:
            raise InputError(f"{path} has more values than the {size} of its shape")
        return np.frombuffer(values, np.uint8).reshape(shape)


def _read_up_to(file: IO[bytes], size: int) -> bytes:
    """Read at most `size` bytes without reserving memory for them."""
    blocks = []
    while size > 0 and (block := file.read(min(size, _BLOCK_BYTES))):
        blocks.append(block)
        size -= len(block)
    return b"".join(blocks)


def _opened(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _read_folder(path: Path, split: str | None) -> Arrays:
    for name in _SPLITS[split] if split is not None else ():
        if (path / name).is_dir():
            return _read_pictures(path / name)
        for file in path.glob(f"{name}-*idx3*"):
            return _read_idx_pair(file, None)
    return _read_pictures(path)


def _read_pictures(path: Path) -> Arrays:
    folders = sorted(folder for folder in path.iterdir() if folder.is_dir())
    images: list[NDArray[Any]] = []
    labels = []
    for label, folder in enumerate(folders or [path]):
        for file in _pictures(folder):
            images.append(_read_picture(file))
            labels.append(label)
            (shape, kind), first = ((i.shape, i.dtype.name) for i in (images[-1], images[0]))
            if (shape, kind) != first:
                raise InputError(
                    f"{file} has shape {shape} and type {kind}, the pictures before it {first[0]} "
                    f"and {first[1]}: they must have one size and one depth"
                )
    if not images:
        raise InputError(f"{path} holds no pictures ({', '.join(_PICTURES)})")
    names = [folder.name for folder in folders]
    return np.stack(images), np.array(labels) if folders else None, names or None


def _read_picture(file: Path) -> NDArray[Any]:
    """Pixels of a picture whose size is credible, with the checksums of PNG.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    from PIL import Image

    with input_errors(file, "picture"):
        with Image.open(file) as picture:
            num_bytes = math.prod(picture.size) * _MAX_PIXEL_BYTES
            size = file.stat().st_size
            if num_bytes > _MAX_PICTURE_BYTES and num_bytes > _MAX_RATIO * size:
                raise InputError(
                    f"{file}: {picture.width} x {picture.height} pixels in {size:,} bytes: is the "
                    "file damaged?"
                )
            if picture.format != "PNG":
                return _pixels(picture)
            picture.verify()  # compares the checksums, which loading does not
        with Image.open(file) as picture:
            return _pixels(picture)


def _pixels(picture: Any) -> NDArray[Any]:
    """Pixels as one byte (grey) or three bytes (RGB); values of grey pictures of over 8 bits."""
    if picture.mode == "F" or picture.mode.startswith("I"):
        return np.asarray(picture)
    return np.asarray(picture.convert("L" if picture.mode in ("1", "L") else "RGB"))


def _pictures(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.iterdir()) if file.suffix.lower() in _PICTURES)


def _channels_first(images: NDArray[Any], path: Path) -> torch.Tensor:
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4 or images.dtype.kind not in "uif":
        raise InputError(f"{path}: an array of shape {images.shape}, {images.dtype}, is not images")
    if images.shape[-1] < min(images.shape[1:3]):
        images = np.moveaxis(images, -1, 1)
    if images.dtype != np.uint8:
        images = images.astype(np.float32)
        bad = np.flatnonzero(~np.isfinite(images).reshape(len(images), -1).all(axis=1))
        if len(bad):
            raise InputError(
                f"{path}: {len(bad)} of {len(images)} images have NaN or infinite pixels, the first "
                f"is image {bad[0]}"
            )
    return torch.from_numpy(np.array(images))  # a copy, because idx arrays are read-only


def _present(
    labels: NDArray[Any], names: list[str] | None, path: Path
) -> tuple[torch.Tensor, list[str]]:
    """Labels renumbered without gaps, and the names of the classes that occur."""
    found, index = np.unique(labels, return_inverse=True)
    if names is not None and not 0 <= found[0] <= found[-1] < len(names):
        raise InputError(f"{path}: labels {found[0]} to {found[-1]} for {len(names)} classes")
    chosen = [names[i] if names else str(i) for i in found.tolist()]
    return torch.from_numpy(index.astype(np.int64)), chosen
