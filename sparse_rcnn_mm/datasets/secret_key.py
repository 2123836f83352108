"""A secret of the user, which shows that this user wrote a file: nobody who only ships files can know it."""
from __future__ import annotations

import os
import secrets
from pathlib import Path

_LENGTH = 32


def cache_folder() -> Path:
    """The user's cache folder of this package."""
    return Path(os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache'), 'sparse_rcnn_mm')


def secret_key() -> bytes:
    """Read the key in the user's cache folder. The first call of all makes it.

    Raises:
        OSError: there is none, and it cannot be written.
    """
    path = cache_folder() / 'key'
    try:
        return _read(path)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    own = path.with_name(f'key.{os.getpid()}.{secrets.token_hex(4)}')
    try:
        with os.fdopen(os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), 'wb') as file:
            file.write(secrets.token_bytes(_LENGTH))
        try:
            os.link(own, path)  # complete at once, and never over the key of another process
        except FileExistsError:
            pass
        except OSError:  # no links here
            os.replace(own, path)
    finally:
        own.unlink(missing_ok=True)
    return _read(path)


def _read(path: Path) -> bytes:
    key = path.read_bytes()
    if len(key) != _LENGTH:
        raise OSError(f'{path} is damaged: delete it')
    return key
