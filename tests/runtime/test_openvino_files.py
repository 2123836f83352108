"""Networks of OpenVINO made by others: what would crash it or read other files is refused before it reads them."""
from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.runtime.openvino_file import _BITS, check_openvino_file

from .test_hostile_files import OUTPUTS, SOUND, image
from .test_hostile_files import write as write_onnx

NAMES = {'boxes': ('f32', '1, 1, 4'), 'scores': ('f32', '1, 1'), 'labels': ('i64', '1, 1')}
WEIGHTS = b''.join(OUTPUTS[name].tobytes() for name in NAMES)
ENTITIES = ''.join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10 if n else "ha"}">' for n in range(12))


def element(tag: str, inside: str = '', **attributes: object) -> str:
    return f'<{tag} {" ".join(f"""{key}="{value}" """ for key, value in attributes.items())}>{inside}</{tag}>'


def network() -> str:
    """A network that always returns the same, as the IR of OpenVINO writes it."""
    def port(kind: str, shape: str, name: str) -> str:
        dims = ''.join(element('dim', size) for size in shape.replace('?', '-1').split(','))
        return element('output', element('port', dims, id=0, precision={'i64': 'I64', 'u8': 'U8', 'f32': 'FP32'}[kind],
                                         names=name))

    layers, edges, offset = [], [], 0
    for index, (name, kind, shape) in enumerate([('images', 'u8', '?,3,?,?'), ('sizes', 'i64', '?,2')]):
        layers.append(element('layer', element('data', shape=shape, element_type=kind) + port(kind, shape, name),
                              id=index, name=name, type='Parameter', version='opset1'))
    for index, (name, (kind, shape)) in enumerate(NAMES.items(), start=2):
        size = OUTPUTS[name].nbytes
        layers.append(element('layer', element('data', element_type=kind, shape=shape, offset=offset, size=size)
                              + port(kind, shape, name), id=index, name=name, type='Const', version='opset1'))
        result = port(kind, shape, '').replace('output', 'input').replace('names="" ', '')
        layers.append(element('layer', result, id=index + 5, name=f'{name}_out', type='Result', version='opset1',
                              output_names=name))
        edges.append(element('edge', **{'from-layer': index, 'from-port': 0, 'to-layer': index + 5, 'to-port': 0}))
        offset += size
    said = json.dumps(SOUND).replace('"', '&quot;')
    return '<?xml version="1.0"?>' + element(
        'net', element('layers', ''.join(layers)) + element('edges', ''.join(edges))
        + element('rt_info', element('sparse_rcnn_mm', value=said)), name='x', version=11)


def write(folder: Path, text: str | bytes = '', weights: bytes | None = WEIGHTS) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / 'x.xml'
    path.write_bytes(text if isinstance(text, bytes) else (text or network()).encode())
    if weights is not None:
        path.with_suffix('.bin').write_bytes(weights)
    return path


def changed(old: str, new: str) -> str:
    assert old in network()
    return network().replace(old, new, 1)


BOXES = 'element_type="f32"  shape="1, 1, 4"  offset="0"  size="16" '
FIRST_CONSTANT = 'type="Const"  version="opset1" '
REFUSED: dict[str, tuple[str | bytes, str]] = {
    'an extension': (changed(FIRST_CONSTANT, 'type="Evil" version="extension"'), 'not one of OpenVINO (Evil of ext'),
    'a library': (changed(FIRST_CONSTANT, 'type="Const" version="../../evil.so"'), 'Const of ../../evil.so'),
    'no set': (changed(FIRST_CONSTANT, 'type="Const"'), 'Const of no set'),
    'text': (changed(BOXES, BOXES.replace('f32', 'string')), 'values that are text'),
    'text in capitals': (changed('precision="U8"', 'precision="STRING"'), 'values that are text'),
    'an unknown type': (changed(BOXES, BOXES.replace('f32', 'undefined')), 'constant of undefined'),
    'a size that overflows': (changed(BOXES, BOXES.replace('1, 1, 4', '1, 1, 4611686018427387908')), 'constant of f32'),
    'two sizes that overflow': (changed(BOXES, BOXES.replace('1, 1, 4', '4294967296, 4294967296')
                                        .replace('16', '0')), 'which are not 0 bytes'),
    'a size of a million digits': (changed(BOXES, BOXES.replace('1, 1, 4', ', '.join(['9' * 18] * 60_000))),
                                   'not given by numbers'),
    'a size below 0': (changed(BOXES, BOXES.replace('1, 1, 4', '1, 1, -4')), 'not given by numbers'),
    'an offset below 0': (changed(BOXES, BOXES.replace('offset="0"', 'offset="-8"')), 'not given by numbers'),
    'an offset that overflows': (changed(BOXES, BOXES.replace('offset="0"', 'offset="18446744073709551608"')),
                                 'not given by numbers'),
    'an offset behind the end': (changed(BOXES, BOXES.replace('offset="0"', 'offset="13"')), 'at byte 29 of its weig'),
    'too few bytes': (changed(BOXES, BOXES.replace('size="16"', 'size="15"')), 'which are not 15 bytes'),
    'a constant within a loop': (changed('<edges', f'<body><layers><layer type="Const" version="opset1"><data '
                                         f'{BOXES.replace("16", "999")}/></layer></layers></body><edges'), '999 bytes'),
    'entities': (network().replace('<net', f'<!DOCTYPE net [{ENTITIES}]><net').replace('"x"', '"&l11;"'), 'entities'),
    'a file of the disk': (network().replace('<net', '<!DOCTYPE net [<!ENTITY x SYSTEM "file:///etc/passwd">]><net'),
                           'entities'),
    'a thousand levels': (changed('<rt_info >', '<rt_info >' + '<a>' * 1000 + '</a>' * 1000), 'nested too deeply'),
    'another root': ('<?xml version="1.0"?><model/>', 'begins with <model>'),
    'UTF-16': (network().encode('utf-16'), 'not in UTF-8'),
    'nothing': (b' ', 'no element found'),
    'half of it': (network()[:500], 'not a network of OpenVINO: '),
}


@pytest.mark.parametrize('name', REFUSED)
def test_what_is_refused(name: str, tmp_path: Path) -> None:
    text, sentence = REFUSED[name]
    with pytest.raises(UserError) as caught:
        check_openvino_file(write(tmp_path, text))
    assert sentence in str(caught.value) and 'x.xml' in str(caught.value) and '\n' not in str(caught.value)


def test_a_declared_encoding_does_not_hide_anything(tmp_path: Path) -> None:
    """OpenVINO reads UTF-8 whatever is declared. In this encoding, other bytes are letters and brackets."""
    text = changed(BOXES, BOXES.replace('f32', 'string')).replace('"1.0"', '"1.0" encoding="cp037"')
    with pytest.raises(UserError, match='values that are text'):
        check_openvino_file(write(tmp_path, text))


def test_the_sound_one_by_hand(tmp_path: Path) -> None:
    check_openvino_file(write(tmp_path))
    halves = BOXES.replace('f32', 'u4').replace('1, 1, 4', '31')  # half a byte each, rounded up
    check_openvino_file(write(tmp_path, changed(BOXES, halves)))
    check_openvino_file(write(tmp_path, changed(BOXES, BOXES.replace('1, 1, 4', '').replace('16', '4'))))  # a scalar


@pytest.mark.parametrize('kind', _BITS)
def test_the_bytes_of_three_values(kind: str, tmp_path: Path) -> None:
    """The first number in the name of a type is its bits; a boolean takes a byte."""
    bits = 8 if kind == 'boolean' else int(re.findall('[0-9]+', kind)[0])
    right = -(-3 * bits // 8)
    three = changed(BOXES, BOXES.replace('16', 'SIZE').replace('f32', kind).replace('1, 1, 4', '3'))
    check_openvino_file(write(tmp_path, three.replace('SIZE', str(right))))
    with pytest.raises(UserError, match=f'constant of {kind} 3, which are not {right + 1} bytes'):
        check_openvino_file(write(tmp_path, three.replace('SIZE', str(right + 1))))


def test_the_file_of_the_weights(tmp_path: Path) -> None:
    (tmp_path / 'secret.bin').write_bytes(WEIGHTS)
    path = write(tmp_path / 'a', weights=None)
    weights = path.with_suffix('.bin')
    with pytest.raises(UserError, match='at byte 16 of its weights, which have 0'):
        check_openvino_file(path)
    for target in (tmp_path / 'secret.bin', '../secret.bin', '/proc/self/mem'):
        weights.symlink_to(target)
        with pytest.raises(UserError, match='a link to another folder'):
            check_openvino_file(path)
        weights.unlink()
    for make in (os.mkfifo, os.mkdir, lambda name: os.symlink('/dev/zero', name), lambda name: os.symlink('no', name)):
        make(weights)
        with pytest.raises(UserError, match='x.bin, which is not a file'):
            check_openvino_file(path)
        weights.unlink() if weights.is_symlink() or not weights.is_dir() else weights.rmdir()


def test_a_folder_of_links_to_one_folder(tmp_path: Path) -> None:
    """As in the cache of the Hugging Face Hub."""
    blobs = write(tmp_path / 'blobs').parent
    snapshot = tmp_path / 'snapshots'
    snapshot.mkdir()
    for name in ('x.xml', 'x.bin'):
        (snapshot / name).symlink_to(blobs / name)
    check_openvino_file(snapshot / 'x.xml')


def test_onnx_under_this_name_is_not_read(tmp_path: Path) -> None:
    """OpenVINO would read it, and weights in other files that it names."""
    write_onnx(tmp_path / 'x.onnx').rename(tmp_path / 'x.xml')
    with pytest.raises(UserError, match=r'x\.xml is not a network of OpenVINO'):
        check_openvino_file(tmp_path / 'x.xml')


def test_openvino_itself_takes_the_sound_one_only(tmp_path: Path, tool: Callable[..., int],
                                                  capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip('openvino')
    from sparse_rcnn_mm.runtime import RuntimeDetector

    found = RuntimeDetector(write(tmp_path / 'sound'))(image(tmp_path / 'x.png'))[0]
    assert found.labels.tolist() == [1] and found.scores.tolist() == pytest.approx([0.9])
    # what our check leaves to OpenVINO
    for index, (old, new) in enumerate([
            ('version="11"', 'version="1"'), ('to-layer="7"', 'to-layer="77"'), ('id="3"', 'id="2"'),
            ('opset1', 'opset99'), (' value=', ' other='), ('?,3,?,?', ','.join(['1'] * 1000)), ('?,2', '?,7')]):
        assert tool('infer', tmp_path / 'x.png', '--model', write(tmp_path / str(index), changed(old, new))) == 1
        out, err = capsys.readouterr()
        assert 'Traceback' not in out + err
        assert len([line for line in err.splitlines() if line.startswith('error: ')]) == 1
