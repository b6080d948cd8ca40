"""Local web server that answers as good and bad servers do."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Handler = BaseHTTPRequestHandler
Answer = Callable[[Handler], None]


@dataclass
class Server:
    """Answers by path, and the requests that came."""

    address: str = ""
    answers: dict[str, Answer] = field(default_factory=dict)
    ranges: list[str | None] = field(default_factory=list)

    def url(self, path: str) -> str:
        return f"{self.address}/{path}"


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    server = Server()

    class Request(Handler):
        protocol_version = "HTTP/1.0"  # the connection ends with the answer

        def do_GET(self) -> None:
            server.ranges.append(self.headers["Range"])
            answer = server.answers.get(self.path.removeprefix("/"))
            if answer is None:
                self.send_error(404)
            else:
                answer(self)

        def log_message(self, *args: object) -> None:
            pass

    web = ThreadingHTTPServer(("127.0.0.1", 0), Request)
    server.address = f"http://127.0.0.1:{web.server_port}"
    thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        web.shutdown()
        web.server_close()
        thread.join()


def file(
    content: bytes,
    *,
    stop_after: int | None = None,
    ranges: bool = True,
    length: bool = True,
    kind: str = "application/octet-stream",
) -> Answer:
    """Send a file, at most `stop_after` bytes of it in one connection."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'

    def answer(request: Handler) -> None:
        asked, start = request.headers["Range"], 0
        if asked and ranges and request.headers["If-Range"] == tag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                request.send_error(416)
                return
            request.send_response(206)
            last = len(content) - 1
            request.send_header("Content-Range", f"bytes {start}-{last}/{len(content)}")
        else:
            request.send_response(200)
        request.send_header("Content-Type", kind)
        request.send_header("ETag", tag)
        if length:
            request.send_header("Content-Length", str(len(content) - start))
        request.end_headers()
        stop = len(content) if stop_after is None else start + stop_after
        request.wfile.write(content[start:stop])

    return answer


def redirect(address: str, code: int = 302) -> Answer:
    """Send to another address."""

    def answer(request: Handler) -> None:
        request.send_response(code)
        request.send_header("Location", address)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer
