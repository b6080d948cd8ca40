"""Files on servers, such as ``root://`` and ``s3://``: copied once, by fsspec.

The readers need files: some libraries of the formats cannot read streams, and damaged files are only
found out if their size is known. A copy is in the folder that the environment variable
``PCLOUD_CACHE`` names, by default ``~/.cache/pcloud``, and is used as long as the original has the
same size and time.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from pcloud.errors import InputError, MissingPackageError, UnknownNameError
from pcloud.run_files import atomic_path

__all__ = ["is_remote", "local_copies"]

_ADDRESS = re.compile(r"(?P<protocol>[A-Za-z][A-Za-z0-9+.-]+)://.+")

#: Packages that fsspec needs, by the beginning of the address.
_PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "root": "fsspec-xrootd",
    "xrootd": "fsspec-xrootd",
    "http": "aiohttp",
    "https": "aiohttp",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "abfs": "adlfs",
    "ssh": "paramiko",
    "sftp": "paramiko",
    "hdfs": "pyarrow",
    "dav": "webdav4",
}


def is_remote(path: object) -> bool:
    """Return True for an address with a protocol, such as ``s3://bucket/jets.parquet``."""
    return isinstance(path, str) and _ADDRESS.fullmatch(path) is not None


def local_copies(address: str) -> list[Path]:
    """Copies of the files of an address, which can be a pattern.

    Raises
    ------
    MissingPackageError
        If the package for the protocol is not installed.
    FileNotFoundError
        If there is no such file.
    UnknownNameError
        If the protocol is unknown.
    InputError
        If the files cannot be copied.
    """
    system, path = _system(address)
    try:
        is_pattern = any(c in path for c in "*?[")
        files = sorted(system.glob(path)) if is_pattern else [path]
        if not files:
            raise FileNotFoundError(f"{address}: no file matches this pattern")
        if "file" in _protocols(system):
            return [Path(file) for file in files]
        return [_copy(system, file, address) for file in files]
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{address}: no such file") from error
    except InputError:
        raise
    except ImportError as error:
        raise _missing(address) from error
    except Exception as error:  # of any server and library
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{address}: cannot be copied ({reason})") from error


def _system(address: str) -> tuple[Any, str]:
    """File system of fsspec and the path in it."""
    try:
        import fsspec
    except ImportError as error:
        raise MissingPackageError(f"reading {address}", "fsspec") from error
    from fsspec.registry import available_protocols

    protocol = address.partition("://")[0].lower()
    if protocol not in available_protocols():
        raise UnknownNameError("protocol", protocol, available_protocols(), where=address)
    try:
        return fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise _missing(address) from error
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{address}: cannot be opened ({reason})") from error


def _missing(address: str) -> MissingPackageError:
    protocol = address.partition("://")[0].lower()
    package = _PACKAGES.get(protocol, f"the package of fsspec for {protocol}://")
    return MissingPackageError(f"reading {address}", package)


def _protocols(system: Any) -> tuple[str, ...]:
    return (system.protocol,) if isinstance(system.protocol, str) else tuple(system.protocol)


def _copy(system: Any, file: str, address: str) -> Path:
    info = system.info(file)
    if info.get("type") == "directory":
        raise InputError(f"{address}: is a folder; give its files, such as {address}/*.parquet")
    name = f"{system.unstrip_protocol(file)} {system.ukey(file)} {info.get('size')}"
    folder = _cache() / hashlib.sha256(name.encode()).hexdigest()[:24]
    copy = folder / (PurePosixPath(file).name or "file")
    if not copy.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(copy, f"{os.getpid()}.part") as part:
            system.get_file(file, str(part))
    return copy


def _cache() -> Path:
    given = os.environ.get("PCLOUD_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "pcloud"
