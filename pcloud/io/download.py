"""Download of single files: continued after an interruption, and checked before they are used."""

from __future__ import annotations

import hashlib
import http.client
import json
import shutil
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from pcloud.errors import InputError
from pcloud.run_files import write_errors, write_json

__all__ = ["by_hand", "checksum_of", "fetch"]

_BLOCK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 60
_MAX_ATTEMPTS = 5  # in a row that bring nothing new

Advance = Callable[[int, "int | None"], Any]
"""Progress callback: called with the number of bytes in the file, and that of the whole, if known."""


class _Digest(Protocol):
    def update(self, block: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


class _Adler32:
    """Checksum of the records of CERN Open Data, with the interface of :mod:`hashlib`."""

    def __init__(self) -> None:
        self._value = 1

    def update(self, block: bytes) -> None:
        self._value = zlib.adler32(block, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


def _new_digest(algorithm: str) -> _Digest:
    return _Adler32() if algorithm == "adler32" else hashlib.new(algorithm, usedforsecurity=False)


def checksum_of(path: Path, algorithm: str) -> str:
    """Return the checksum of a file, such as ``"md5:45663819..."``.

    Parameters
    ----------
    path : Path
        The file.
    algorithm : str
        ``"adler32"``, or an algorithm of :mod:`hashlib` such as ``"md5"``.
    """
    digest = _new_digest(algorithm)
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return f"{algorithm}:{digest.hexdigest()}"


def fetch(
    address: str,
    path: Path,
    *,
    checksum: str | None = None,
    size: int | None = None,
    advance: Advance = lambda done, total: None,
) -> None:
    """Download a file, unless it is there.

    What has arrived is in a hidden file with the ending ``.part``, which the next call continues if the
    file on the server is still the same. The file gets its name once its size and checksum
    agree.

    Parameters
    ----------
    address : str
        Address, ``https://`` or ``http://``. Redirections are followed, except from the first to the
        second.
    path : Path
        The file.
    checksum : str, optional
        Expected checksum, as from :func:`checksum_of`.
    size : int, optional
        Expected size in bytes.
    advance : callable
        Progress callback.

    Raises
    ------
    InputError
        If the file cannot be fetched, is not the expected one, or another one is there; one line says
        which file to fetch by hand, and where to put it.
    CannotWriteError
        If the file cannot be written.
    """
    if path.exists():
        _check_present(path, address, checksum, size)
        return
    part = path.with_name(f".{path.name}.part")
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _download(address, part, size, advance)
            _check(part, address, checksum, size)
        except _WrongContentError as error:
            part.unlink(missing_ok=True)
            _state(part).unlink(missing_ok=True)
            raise InputError(f"{error}; {by_hand(address, path)}") from None
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            raise InputError(
                f"cannot fetch {path.name} ({_reason(error)}); {by_hand(address, path)}"
            ) from error
        part.replace(path)
        _state(part).unlink(missing_ok=True)


def by_hand(address: str, path: Path) -> str:
    """Return an advice for the user: what to fetch, and where to put it."""
    return f"get {address} by hand and put it at {path}"


def _check_present(path: Path, address: str, checksum: str | None, size: int | None) -> None:
    try:
        _check(path, str(path), checksum, size)
    except _WrongContentError as error:
        raise InputError(f"{error}: remove it, or {by_hand(address, path)}") from None


class _WrongContentError(Exception):
    """The server sent another file."""


_PERMANENT_REDIRECT = 308  # which Python 3.10 does not know; for a download it is like 307


class _Redirections(urllib.request.HTTPRedirectHandler):
    """Redirections that do not leave an encrypted connection."""

    http_error_308 = urllib.request.HTTPRedirectHandler.http_error_302  # absent in Python 3.10

    def redirect_request(
        self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str
    ) -> Any:
        if req.full_url.startswith("https://") and not newurl.startswith("https://"):
            if fp is not None:
                fp.close()
            raise urllib.error.URLError(f"redirected to an address without encryption, {newurl}")
        code = http.HTTPStatus.TEMPORARY_REDIRECT if code == _PERMANENT_REDIRECT else code
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _download(address: str, part: Path, size: int | None, advance: Advance) -> None:
    """Download into `part` until it is complete, with new attempts after interruptions."""
    if not address.startswith(("https://", "http://")):
        raise _WrongContentError(f"{address} is no address of a web server")
    failures = 0
    most = _size(part)
    while True:
        error: Exception | None = None
        try:
            if _attempt(address, part, size, advance):
                return
        except urllib.error.HTTPError:
            raise
        except (http.client.HTTPException, urllib.error.URLError, OSError) as caught:
            if not _is_interruption(caught):
                raise
            error = caught
        failures = 0 if _size(part) > most else failures + 1
        most = max(most, _size(part))
        if failures == _MAX_ATTEMPTS:
            raise error or urllib.error.URLError(f"the server ends after {_size(part):,} bytes")


def _is_interruption(error: Exception) -> bool:
    """Return True for an error of a connection that existed."""
    return isinstance(error, http.client.HTTPException | ConnectionError | TimeoutError)


def _attempt(address: str, part: Path, size: int | None, advance: Advance) -> bool:
    """Continue `part` as far as the server sends it; return True if it is complete."""
    request = urllib.request.Request(
        address, headers={"Accept-Encoding": "identity", "User-Agent": "pcloud"}
    )
    version = _read_state(part)
    start = _size(part)
    if start and version:
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", version)
    opener = urllib.request.build_opener(_Redirections)
    try:
        reply = opener.open(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        error.close()
        part.unlink()  # not a beginning of the file
        return False
    with reply:
        continued = reply.status == http.HTTPStatus.PARTIAL_CONTENT
        continued = continued and _first_byte(reply) == start
        start = start if continued else 0
        length = reply.headers.get("Content-Length")
        total = start + int(length) if length and length.isdecimal() else None
        _check_reply(reply, address, total, size)
        _check_space(part, (total or size or start) - start)
        if not continued:
            _write_state(part, reply)
        done = start
        with part.open("ab" if continued else "wb") as file:
            while block := reply.read(_BLOCK_BYTES):
                done += len(block)
                if size is not None and done > size:
                    raise _WrongContentError(
                        f"{address} is longer than the {size:,} bytes expected"
                    )
                file.write(block)
                advance(done, total or size)
    # Without the length, the end of the connection is the end of the file, unless it is too short.
    return done >= total if total is not None else size is None or done == size


def _first_byte(reply: Any) -> int:
    """Return the position of a partial reply in the file; -1 if it is not stated."""
    unit, _, extent = (reply.headers.get("Content-Range") or "").partition(" ")
    first = extent.partition("-")[0]
    return int(first) if unit == "bytes" and first.isdecimal() else -1


def _check_reply(reply: Any, address: str, total: int | None, size: int | None) -> None:
    kind = reply.headers.get_content_type()
    if kind == "text/html":
        raise _WrongContentError(f"{address} is a web page, not the file")
    if size is not None and total is not None and total != size:
        raise _WrongContentError(f"{address} has {total:,} bytes instead of {size:,}")


def _check_space(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise InputError(
            f"{part.parent} has {free / 1e9:.3g} GB of free space, and {needed / 1e9:.3g} GB are "
            "needed: set PCLOUD_DATA to a folder on a larger disk"
        )


def _check(part: Path, address: str, checksum: str | None, size: int | None) -> None:
    if size is not None and _size(part) != size:
        raise _WrongContentError(f"{address} has {_size(part):,} bytes instead of {size:,}")
    if checksum is None:
        return
    found = checksum_of(part, checksum.partition(":")[0])
    if found != checksum:
        raise _WrongContentError(
            f"{address} is not the file that was expected ({found} instead of {checksum})"
        )


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _state(part: Path) -> Path:
    """Return the file that tells which version of the file on the server has been begun."""
    return part.with_name(f"{part.name}.json")


def _write_state(part: Path, reply: Any) -> None:
    tag = reply.headers.get("ETag")
    strong = tag if tag and not tag.startswith("W/") else None
    write_json(_state(part), {"version": strong or reply.headers.get("Last-Modified")})


def _read_state(part: Path) -> str | None:
    try:
        version = json.loads(_state(part).read_text(encoding="utf-8"))["version"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return version if isinstance(version, str) and version.isprintable() else None


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code} {error.reason}".replace("\n", " ")
    reason = getattr(error, "reason", error)
    return " ".join(str(reason).split()) or type(error).__name__
