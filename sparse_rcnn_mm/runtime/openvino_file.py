"""Checks a file of OpenVINO before OpenVINO reads it.

OpenVINO 2026.4 crashes on constants of text, whose memory it takes from the file, does not end on a shape that
overflows, and reads a file of ONNX that is called .xml.
"""
from __future__ import annotations

import os
import re
from math import prod
from pathlib import Path
from xml.parsers import expat

from sparse_rcnn_mm.errors import UserError

_BITS = {'f64': 64, 'f32': 32, 'f16': 16, 'bf16': 16, 'f8e4m3': 8, 'f8e5m2': 8, 'f8e8m0': 8, 'f4e2m1': 4, 'nf4': 4,
         'i64': 64, 'i32': 32, 'i16': 16, 'i8': 8, 'i4': 4, 'u64': 64, 'u32': 32, 'u16': 16, 'u8': 8, 'u4': 4, 'u1': 1,
         'boolean': 8}
_NUMBER = re.compile(r'[0-9]{1,18}')
_SHAPE = re.compile(r'([0-9]{1,18}(, ?[0-9]{1,18}){0,31})?')
_OPSET = re.compile(r'opset[0-9]{1,2}')
_DEEPEST = 100


def check_openvino_file(path: str | os.PathLike) -> None:
    """Check the network in an `.xml` file, and the file of its weights beside it.

    Raises:
        UserError: it is another format, its weights are not in this folder, or it has other operations than OpenVINO's
            own, values that are not numbers, or values outside the file of the weights.
    """
    try:
        text = Path(path).read_bytes()
        if b'\0' in text:  # UTF-16, or a binary format
            raise _Refused('is not in UTF-8')
        _Network(_size_of_weights(Path(path))).read(text)
    except (OSError, _Refused, expat.ExpatError, ValueError) as error:
        raise UserError(f'{path} is not a network of OpenVINO that can be trusted: it {error}'
                        if isinstance(error, _Refused) else f'{path} is not a network of OpenVINO: {error}') from error


class _Refused(Exception):
    """The message is the rest of a sentence about the file."""


def _size_of_weights(path: Path) -> int:
    """The size of the file of the weights, 0 if there is none."""
    weights = path.with_suffix('.bin')
    if not os.path.lexists(weights):
        return 0
    if not weights.is_file():
        raise _Refused(f'has weights in {weights}, which is not a file')
    # in the same folder, also where both are links, as in the cache of the Hugging Face Hub
    if weights.resolve().parent not in (path.resolve().parent, path.parent.resolve()):
        raise _Refused(f'has weights in {weights}, a link to another folder')
    return weights.stat().st_size


class _Network:
    """What the elements of an IR say. Nested networks, of loops and branches, have the same elements."""

    def __init__(self, size_of_weights: int) -> None:
        self._size = size_of_weights
        self._open: list[str] = []
        self._is_constant = False

    def read(self, text: bytes) -> None:
        """Check all of it."""
        parser = expat.ParserCreate('utf-8')  # whatever encoding the file declares: OpenVINO reads it so
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = lambda name: self._open.pop()
        parser.Parse(text, True)

    def _doctype(self, *_: object) -> None:
        raise _Refused('declares entities')

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if not self._open and name != 'net':
            raise _Refused(f'begins with <{name[:50]}>, not with <net>')
        self._open.append(name)
        if len(self._open) > _DEEPEST:
            raise _Refused('is nested too deeply')
        if name == 'layer':
            version = attributes.get('version', '')
            if not _OPSET.fullmatch(version):
                raise _Refused(f'has an operation that is not one of OpenVINO ({attributes.get("type", "")[:50]} of '
                               f'{version[:50] or "no set"})')
            self._is_constant = attributes.get('type') == 'Const'
        elif name in ('data', 'port'):
            if any(value.lower() == 'string' for value in attributes.values()):
                raise _Refused('has values that are text')
            if name == 'data' and (self._is_constant or 'offset' in attributes):
                self._check_constant(attributes)

    def _check_constant(self, attributes: dict[str, str]) -> None:
        kind, shape, offset, size = (attributes.get(key, '') for key in ('element_type', 'shape', 'offset', 'size'))
        if kind not in _BITS or not (_SHAPE.fullmatch(shape) and _NUMBER.fullmatch(offset) and _NUMBER.fullmatch(size)):
            raise _Refused(f'has a constant of {kind[:50] or "no type"} whose size is not given by numbers')
        if int(size) != -(-prod(map(int, filter(None, shape.split(',')))) * _BITS[kind] // 8):
            raise _Refused(f'has a constant of {kind} {shape[:50]}, which are not {size} bytes')
        if int(offset) + int(size) > self._size:
            raise _Refused(f'has a constant at byte {int(offset) + int(size)} of its weights, which have {self._size}')
