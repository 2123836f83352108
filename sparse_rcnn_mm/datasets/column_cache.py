"""Caches annotation files as columns: one process parses, all others map the result (see docs/large_data.md)."""
from __future__ import annotations

import hashlib
import mmap
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from mmengine import fileio
from mmengine.logging import MMLogger

from sparse_rcnn_mm.errors import UserError

from .array_file import is_sealed_by_another, write_arrays
from .coco_columns import CocoColumns, open_columns
from .coco_decode import NotPlain, columns_of, decode_columns
from .coco_json import full_path, read_coco_json
from .secret_key import cache_folder, secret_key

SMALL = 2**22  # bytes of JSON; smaller files are parsed again each time
# File times are coarse: a file changed just before it was read may change again without getting a new time.
_TICK = 5 * 10**9  # nanoseconds
_Parser = Callable[[Any], CocoColumns]  # from the text of the file


def read_columns(path: str, evaluated: bool, missing_hint: str, backend_args: dict | None = None,
                 masks: bool = False) -> CocoColumns:
    """Read and check an annotation file. Arguments and errors are those of `read_coco_json`.

    A large file is parsed only by the first process that asks, which writes the columns to a cache. All processes map
    that cache. With `masks` the columns include segmentations, in a cache of their own, which is much larger.
    """
    path = full_path(path)
    if not fileio.isfile(path, backend_args=backend_args):
        raise UserError(f'annotation file not found: {path}; {missing_hint}')

    def patiently() -> CocoColumns:
        return columns_of(read_coco_json(path, evaluated, missing_hint, backend_args), masks)

    def parse(text: Any) -> CocoColumns:
        try:
            return decode_columns(text, masks)
        except NotPlain:  # the slow reader accepts more, and reports what is wrong
            return patiently()

    if backend_args is not None or '://' in path:
        columns = parse(fileio.get(path, backend_args=backend_args))
    elif os.path.getsize(path) < SMALL:
        columns = parse(Path(path).read_bytes())
    else:
        columns = _shared(Path(path), parse, 'masks.columns' if masks else 'columns')
    usable = columns.header['for_metric'] if evaluated else columns.header['annotated']
    return columns if usable else patiently()


def _shared(path: Path, parse: _Parser, ending: str) -> CocoColumns:
    """Map the cache of the annotation file. Write it first if it is missing, damaged or outdated.

    Only a cache that is sealed with the key of this user is used: one that came with the annotation file could hold
    anything. It is left as it is, so that users of one folder do not replace each other's. In the user's cache folder,
    one with another key is outdated: the key was deleted.
    """
    parsed = None
    try:
        key = secret_key()
        for place in _places(path, ending):
            if (columns := _current(place, path, key)) is not None:
                return columns
    except OSError as error:
        key, reason = b'', error
    for place in _places(path, ending) if key else ():
        try:
            with _alone(place):
                if (columns := _current(place, path, key)) is not None:
                    return columns
                if place.parent != cache_folder() and is_sealed_by_another(place, key):
                    continue
                parsed = parsed or _parsed(path, parse)
                return _written(place, *parsed, key)
        except OSError as error:
            reason = error
    MMLogger.get_current_instance().warning(
        f'{path}: every process parses it separately, because the cache cannot be written: {reason}')
    return (parsed or _parsed(path, parse))[0]


def _places(path: Path, ending: str) -> tuple[Path, Path]:
    """The two possible cache files: beside the annotation file, and in the user's cache folder."""
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return path.with_name(f'.{path.name}.{ending}'), cache_folder() / f'{name}.{path.name}.{ending}'


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Make other processes wait for the one that parses, if the file system supports locks."""
    file = place.with_name(f'{place.name}.lock')
    if file.is_symlink():  # some versions of filelock would empty what it points to
        file.unlink()
    lock = FileLock(file)
    try:
        lock.acquire()
    except NotImplementedError:
        yield
        return
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)  # at worst, another process parses too
        lock.release()


def _current(place: Path, path: Path, key: bytes) -> CocoColumns | None:
    """The columns at `place`, if they are intact, this user's, and of the current version of the annotation file."""
    columns = open_columns(place, key=key)
    if columns is None:
        return None
    source = columns.header.get('source', {})
    if source.get('state') == _state(path) and source['read'] - path.stat().st_ctime_ns > _TICK:
        return columns
    # The file was copied, touched, or written just now: compare its content.
    return columns if source.get('sha256') == _sha256(path) else None


def _written(place: Path, columns: CocoColumns, source: dict[str, Any], key: bytes) -> CocoColumns:
    write_arrays(place, {**columns.header, 'source': source}, columns.arrays(), key)
    return open_columns(place, check=False) or columns


def _parsed(path: Path, parse: _Parser) -> tuple[CocoColumns, dict[str, Any]]:
    """The columns, and the state of the file, which later shows whether they are still current."""
    source: dict[str, Any] = {'read': time.time_ns(), 'state': _state(path)}
    source['sha256'] = _sha256(path)
    with path.open('rb') as file:
        columns = parse(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    if source['state'] != _state(path):
        raise UserError(f'annotation file {path} changed while it was being read: start again')
    return columns, source


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(2**23):
            digest.update(block)
    return digest.hexdigest()


def _state(path: Path) -> list[int]:
    """A value that changes with the file. It uses ctime, which unlike mtime cannot be set back."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
