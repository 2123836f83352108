"""A small stand-in for the Hugging Face Hub on this machine: models are created, uploaded, listed and downloaded."""
from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

SHA = 'a' * 40  # the commit of everything


class HubServer(ThreadingHTTPServer):
    """Keeps models by name, and their files by path.

    Attributes:
        models: the files of each model.
        private: the models that were created as private ones.
    """

    def __init__(self) -> None:
        super().__init__(('127.0.0.1', 0), _Handler)
        self.models: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()

    @property
    def url(self) -> str:
        return f'http://127.0.0.1:{self.server_port}'


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = 'HTTP/1.1'

    def do_GET(self) -> None:
        parts = unquote(urlsplit(self.path).path).strip('/').split('/')
        name = '/'.join(parts[2:4] if parts[0] == 'api' else parts[:2])
        files = self.server.models.get(name)
        if files is None:
            self._answer(404, {'error': 'Repository not found'}, {'X-Error-Code': 'RepoNotFound'})
        elif parts[0] == 'api' and parts[4] == 'tree':
            self._answer(200, [{'type': 'file', 'path': path, 'size': len(body), 'oid': _oid(body)}
                               for path, body in files.items()])
        elif parts[0] == 'api':
            self._answer(200, {'id': name, 'modelId': name, 'sha': SHA, 'siblings': [
                {'rfilename': path} for path in files], 'tags': [], 'private': name in self.server.private})
        elif '/'.join(parts[4:]) in files:
            body = files['/'.join(parts[4:])]
            self._answer(200, body, {'X-Repo-Commit': SHA, 'ETag': f'"{_oid(body)}"'})
        else:
            self._answer(404, {'error': 'Entry not found'}, {'X-Error-Code': 'EntryNotFound'})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
        parts = urlsplit(self.path).path.strip('/').split('/')
        if parts[-1] == 'create':
            asked = json.loads(body)
            name = f'{asked["organization"]}/{asked["name"]}'
            self.server.models.setdefault(name, {})
            if asked.get('private') or asked.get('visibility') == 'private':
                self.server.private.add(name)
            self._answer(200, {'url': f'{self.server.url}/{name}', 'name': name, 'id': name})
        elif 'preupload' in parts:
            self._answer(200, {'files': [{'path': file['path'], 'uploadMode': 'regular', 'shouldIgnore': False}
                                         for file in json.loads(body)['files']]})
        elif 'commit' in parts:
            files = self.server.models['/'.join(parts[2:4])]
            for line in filter(None, body.splitlines()):
                entry = json.loads(line)
                if entry['key'] == 'file':
                    files[entry['value']['path']] = base64.b64decode(entry['value']['content'])
            self._answer(200, {'commitUrl': f'{self.server.url}/{"/".join(parts[2:4])}/commit/{SHA}', 'commitOid': SHA,
                               'hookOutput': '', 'success': True})
        else:
            self._answer(200, {})

    def _answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {'Content-Length': str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        pass


def _oid(body: bytes) -> str:
    return hashlib.sha1(body).hexdigest()


@contextmanager
def hub() -> Iterator[HubServer]:
    """A hub that runs in a thread."""
    with HubServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
