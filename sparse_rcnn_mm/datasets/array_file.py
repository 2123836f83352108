"""A file of named NumPy arrays and a header. Any number of processes can memory-map and share it.

It is sealed with a key: an HMAC over the header, which holds the SHA-256 of each array.
"""
from __future__ import annotations

import hashlib
import hmac
import json
import mmap
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_MAGIC = b'sparse_rcnn_mm arrays 2\n'
_PREFIX = struct.Struct('<QI32s')  # length, CRC-32 and seal of the header
_ALIGNMENT = 64
_BLOCK = 2**23
_LONGEST_HEADER = 2**28


class ArrayFile(NamedTuple):
    """An open file. The arrays are read-only and are loaded from disk on access; `crc` identifies the content."""
    header: dict[str, Any]
    arrays: dict[str, np.ndarray]
    crc: int


def write_arrays(path: Path, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray], key: bytes = b'') -> None:
    """Write the file atomically: readers see the old file until the new one is complete."""
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    entries = {name: (array.dtype.str, array.shape, hashlib.sha256(_bytes(array)).hexdigest())
               for name, array in arrays.items()}
    text = json.dumps({'header': dict(header), 'arrays': entries}).encode()
    seal = _seal(text, key)
    unfinished = path.with_name(f'{path.name}.{os.getpid()}.unfinished')
    unfinished.unlink(missing_ok=True)  # it could be a link
    try:
        with unfinished.open('xb') as file:
            file.write(_MAGIC + _PREFIX.pack(len(text), zlib.crc32(text + seal), seal) + text)
            for array in arrays.values():
                file.write(bytes(-file.tell() % _ALIGNMENT))
                file.write(_bytes(array))
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def open_arrays(path: Path, check: bool = True, key: bytes | None = None) -> ArrayFile | None:
    """Map the file into memory. Returns None if it is missing, damaged or of another version.

    Args:
        path: the file.
        check: read the whole file and compare checksums. If False, only the header and the size are checked.
        key: the file must be sealed with it. None accepts any seal.
    """
    try:
        with _opened(path) as file:
            return _open(file, check, key)
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return None


def is_sealed_by_another(path: Path, key: bytes) -> bool:
    """Whether a file has an intact header that is sealed with another key."""
    try:
        with _opened(path) as file:
            text, seal, _ = _header(file)
    except (OSError, ValueError, struct.error):
        return False
    return not hmac.compare_digest(seal, _seal(text, key))


def _opened(path: Path) -> Any:
    if not path.is_file():  # a pipe would be waited for
        raise OSError(f'{path} is not a file')
    return path.open('rb')


def _header(file: Any) -> tuple[bytes, bytes, int]:
    """Read the text of the header, its seal, and the CRC-32 of both."""
    if file.read(len(_MAGIC)) != _MAGIC:
        raise ValueError('another kind of file')
    length, crc, seal = _PREFIX.unpack(file.read(_PREFIX.size))
    text = file.read(min(length, _LONGEST_HEADER))
    if zlib.crc32(text + seal) != crc:
        raise ValueError('the header is damaged')
    return text, seal, crc


def _open(file: Any, check: bool, key: bytes | None) -> ArrayFile:
    text, seal, crc = _header(file)
    if key is not None and not hmac.compare_digest(seal, _seal(text, key)):
        raise ValueError('it was written by somebody else')
    content = json.loads(text)
    buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    arrays, offset = {}, file.tell()
    for name, (dtype, shape, digest) in content['arrays'].items():
        offset += -offset % _ALIGNMENT
        count = int(np.prod(shape))
        # Raises ValueError if an array reaches beyond the end of the file.
        arrays[name] = (np.frombuffer(buffer, dtype, count, offset) if count else np.empty(0, dtype)).reshape(shape)
        if check and _sha256(file, offset, arrays[name].nbytes) != digest:
            raise ValueError(f'{name} is damaged')
        offset += arrays[name].nbytes
    return ArrayFile(content['header'], arrays, crc)


def _sha256(file: Any, offset: int, size: int) -> str:
    """SHA-256 of the content. Reads the file, since mapped pages would count as memory of this process."""
    digest = hashlib.sha256()
    file.seek(offset)
    while size > 0 and (block := file.read(min(size, _BLOCK))):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest()


def _seal(text: bytes, key: bytes) -> bytes:
    return hmac.digest(key, text, 'sha256')


def _bytes(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data
