"""A server of files on this machine that can break off, ignore ranges, refuse and serve wrong bytes."""
from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FileServer(ThreadingHTTPServer):
    """Serves `body` at every path.

    Attributes:
        limit: most bytes of an answer; the connection ends after them.
        ranges: whether the server knows ranges.
        status: of every answer, instead of 200.
        tells_length: whether answers say how long they are.
        asked: the range of every request so far, None without one.
    """

    def __init__(self, body: bytes) -> None:
        super().__init__(('127.0.0.1', 0), _Handler)
        self.body, self.limit, self.ranges, self.status, self.tells_length = body, 1 << 30, True, 200, True
        self.asked: list[str | None] = []

    def url(self, name: str = '') -> str:
        return f'http://127.0.0.1:{self.server_port}/{name}'


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        asked, body = self.headers.get('Range'), self.server.body
        self.server.asked.append(asked)
        start = int(asked.removeprefix('bytes=').removesuffix('-')) if asked and self.server.ranges else 0
        if self.server.status != 200:
            self.send_error(self.server.status)
        elif start and start >= len(body):
            self.send_response(416)
            self.send_header('Content-Range', f'bytes */{len(body)}')
            self.end_headers()
        else:
            self.send_response(206 if start else 200)
            if self.server.tells_length:
                self.send_header('Content-Length', str(len(body) - start))
            self.end_headers()
            self.wfile.write(body[start:start + self.server.limit])

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def serving(body: bytes) -> Iterator[FileServer]:
    """A server that runs in a thread."""
    with FileServer(body) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
