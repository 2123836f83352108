"""A file of named NumPy arrays and a header. Any number of processes can memory-map and share it."""
from __future__ import annotations

import json
import mmap
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_MAGIC = b'sparse_rcnn_mm arrays 1\n'
_PREFIX = struct.Struct('<QI')  # length and CRC-32 of the header
_ALIGNMENT = 64
_BLOCK = 2**23


class ArrayFile(NamedTuple):
    """An open file. The arrays are read-only and are loaded from disk on access; `crc` identifies the content."""
    header: dict[str, Any]
    arrays: dict[str, np.ndarray]
    crc: int


def write_arrays(path: Path, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write the file atomically: readers see the old file until the new one is complete."""
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    entries = {name: (array.dtype.str, array.shape, zlib.crc32(_bytes(array))) for name, array in arrays.items()}
    text = json.dumps({'header': dict(header), 'arrays': entries}).encode()
    unfinished = path.with_name(f'{path.name}.{os.getpid()}.unfinished')
    try:
        with unfinished.open('wb') as file:
            file.write(_MAGIC + _PREFIX.pack(len(text), zlib.crc32(text)) + text)
            for array in arrays.values():
                file.write(bytes(-file.tell() % _ALIGNMENT))
                file.write(_bytes(array))
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def open_arrays(path: Path, check: bool = True) -> ArrayFile | None:
    """Map the file into memory. Returns None if it is missing, damaged or of another version.

    Args:
        path: the file.
        check: read the whole file and compare checksums. If False, only the header and the size are checked.
    """
    try:
        with path.open('rb') as file:
            return _open(file, check)
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return None


def _open(file: Any, check: bool) -> ArrayFile:
    if file.read(len(_MAGIC)) != _MAGIC:
        raise ValueError('another kind of file')
    length, crc = _PREFIX.unpack(file.read(_PREFIX.size))
    text = file.read(length)
    if zlib.crc32(text) != crc:
        raise ValueError('the header is damaged')
    content = json.loads(text)
    buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    arrays, offset = {}, file.tell()
    for name, (dtype, shape, array_crc) in content['arrays'].items():
        offset += -offset % _ALIGNMENT
        count = int(np.prod(shape))
        # Raises ValueError if an array reaches beyond the end of the file.
        arrays[name] = (np.frombuffer(buffer, dtype, count, offset) if count else np.empty(0, dtype)).reshape(shape)
        if check and _crc(file, offset, arrays[name].nbytes) != array_crc:
            raise ValueError(f'{name} is damaged')
        offset += arrays[name].nbytes
    return ArrayFile(content['header'], arrays, crc)


def _crc(file: Any, offset: int, size: int) -> int:
    """CRC-32 of the content. Reads the file, since mapped pages would count as memory of this process."""
    crc = 0
    file.seek(offset)
    while size > 0 and (block := file.read(min(size, _BLOCK))):
        crc = zlib.crc32(block, crc)
        size -= len(block)
    return crc


def _bytes(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data
