"""Downloads from servers that stop, send something else, or send elsewhere."""

from __future__ import annotations

import hashlib
import re
import zlib

import pytest

from pcloud.errors import InputError
from pcloud.io.download import checksum_of, fetch
from tests.io.server import file, redirect, serving

CONTENT = bytes(range(256)) * 40
MD5 = f"md5:{hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()}"


@pytest.fixture(scope="module")
def running():
    with serving() as server:
        yield server


@pytest.fixture
def server(running):
    running.answers.clear()
    running.ranges.clear()
    return running


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("checksum", [MD5, f"adler32:{zlib.adler32(CONTENT):08x}", None])
@pytest.mark.parametrize("length", [True, False])
def test_a_file_arrives_whole(server, tmp_path, checksum, length):
    server.answers["jets.h5"] = file(CONTENT, length=length)
    path = tmp_path / "new" / "jets.h5"
    seen = []
    fetch(
        server.url("jets.h5"),
        path,
        checksum=checksum,
        size=len(CONTENT),
        advance=lambda done, total: seen.append((done, total)),
    )
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["jets.h5"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_a_file_that_is_there_is_not_fetched_again(server, tmp_path):
    path = tmp_path / "jets.h5"
    path.write_bytes(CONTENT)
    fetch(server.url("jets.h5"), path, checksum=MD5)
    assert server.ranges == []
    path.write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(
        InputError, match=r"is not the file that was expected .*: remove it, or get"
    ):
        fetch(server.url("jets.h5"), path, checksum=MD5)
    assert path.exists()


def test_a_server_that_truncates_is_asked_for_the_rest(server, tmp_path):
    server.answers["jets.h5"] = file(CONTENT, stop_after=4000)
    fetch(server.url("jets.h5"), tmp_path / "jets.h5", checksum=MD5)
    assert (tmp_path / "jets.h5").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=4000-", "bytes=8000-"]


@pytest.mark.parametrize("length", [True, False])
def test_a_server_that_always_truncates_is_an_error_and_the_rest_is_fetched_later(
    server, tmp_path, length
):
    path = tmp_path / "jets.h5"
    server.answers["jets.h5"] = file(CONTENT, stop_after=100, ranges=False, length=length)
    with pytest.raises(InputError, match=r"cannot fetch jets.h5 \(.*\); get http.* put it at /"):
        fetch(server.url("jets.h5"), path, checksum=MD5, size=len(CONTENT))
    assert not path.exists()
    server.answers["jets.h5"] = file(CONTENT)
    fetch(server.url("jets.h5"), path, checksum=MD5)
    assert server.ranges[-1] == "bytes=100-"
    assert path.read_bytes() == CONTENT
    assert names(tmp_path) == ["jets.h5"]


def test_a_file_that_has_changed_is_fetched_from_its_beginning(server, tmp_path):
    path = tmp_path / "jets.h5"
    server.answers["jets.h5"] = file(b"old" * 1000, stop_after=50, ranges=False)
    with pytest.raises(InputError, match="cannot fetch"):
        fetch(server.url("jets.h5"), path)
    server.answers["jets.h5"] = file(CONTENT)
    fetch(server.url("jets.h5"), path, checksum=MD5)
    assert path.read_bytes() == CONTENT


def test_more_on_disk_than_on_the_server_is_fetched_again(server, tmp_path):
    path = tmp_path / "jets.h5"
    server.answers["jets.h5"] = file(CONTENT, stop_after=9000, ranges=False)
    with pytest.raises(InputError, match="cannot fetch"):
        fetch(server.url("jets.h5"), path)
    (tmp_path / ".jets.h5.part").write_bytes(CONTENT + b"more")
    server.answers["jets.h5"] = file(CONTENT)
    fetch(server.url("jets.h5"), path, checksum=MD5)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (file(b"x" + CONTENT[1:]), r"is not the file that was expected \(md5:.* instead of md5:"),
        (file(CONTENT[:-1]), "has 10,239 bytes instead of 10,240"),
        (file(CONTENT[:-1], length=False), "ends after|instead of 10,240"),
        (file(CONTENT * 2, length=False), "is longer than the 10,240 bytes expected"),
        (file(b"<html>sign in</html>", kind="text/html"), "is a web page, not the file"),
    ],
)
def test_other_content_is_not_kept(server, tmp_path, answer, said):
    server.answers["jets.h5"] = answer
    with pytest.raises(InputError, match=said) as caught:
        fetch(server.url("jets.h5"), tmp_path / "jets.h5", checksum=MD5, size=len(CONTENT))
    assert "\n" not in str(caught.value)
    assert f"by hand and put it at {tmp_path / 'jets.h5'}" in str(caught.value)
    assert not (tmp_path / "jets.h5").exists()


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirections_are_followed_and_continued(server, tmp_path, code):
    server.answers["record"] = redirect(server.url("store/jets.h5"), code)
    server.answers["store/jets.h5"] = file(CONTENT, stop_after=6000)
    fetch(server.url("record"), tmp_path / "jets.h5", checksum=MD5)
    assert (tmp_path / "jets.h5").read_bytes() == CONTENT
    assert server.ranges == [None, None, "bytes=6000-", "bytes=6000-"]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("{}/jets.h5", "infinite loop"),
        ("{}/absent", "the server answers 404"),
        ("file:///etc/hostname", "not allowed|answers 302"),
        ("http://127.0.0.1:9/jets.h5", "refused"),
    ],
)
def test_redirections_to_nowhere_are_an_error_of_one_line(server, tmp_path, target, said):
    server.answers["jets.h5"] = redirect(target.format(server.address))
    with pytest.raises(InputError, match=re.compile(f"cannot fetch jets.h5 .*({said})", re.I)) as e:
        fetch(server.url("jets.h5"), tmp_path / "jets.h5")
    assert "\n" not in str(e.value)
    assert names(tmp_path) == []


def test_encryption_is_not_given_up():
    from urllib.error import URLError
    from urllib.request import Request

    from pcloud.io.download import _Redirections

    with pytest.raises(URLError, match="without encryption"):
        _Redirections().redirect_request(
            Request("https://zenodo.org/a"), None, 302, "", {}, "http://zenodo.org/b"
        )


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:9/jets.h5", "http://absent.invalid/jets.h5", "file:///etc/passwd"]
)
def test_without_network_one_line_says_what_to_fetch_and_where_to_put_it(tmp_path, address):
    path = tmp_path / "jets.h5"
    with pytest.raises(
        InputError, match=f"; get {address} by hand and put it at {path}$"
    ) as caught:
        fetch(address, path)
    assert "\n" not in str(caught.value)


def test_too_little_space_is_found_before_the_download(server, tmp_path, monkeypatch):
    server.answers["jets.h5"] = file(CONTENT)
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr("pcloud.io.download.shutil.disk_usage", lambda path: usage)
    with pytest.raises(InputError, match="set PCLOUD_DATA to a folder on a larger disk"):
        fetch(server.url("jets.h5"), tmp_path / "jets.h5")


def test_checksums_are_those_of_the_libraries(tmp_path):
    (tmp_path / "a").write_bytes(CONTENT)
    assert checksum_of(tmp_path / "a", "md5") == MD5
    assert checksum_of(tmp_path / "a", "sha256").endswith(hashlib.sha256(CONTENT).hexdigest())
    assert checksum_of(tmp_path / "a", "adler32") == f"adler32:{zlib.adler32(CONTENT):08x}"
