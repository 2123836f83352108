"""A static web page that runs a detector in the browser with ONNX Runtime. It includes all files that it needs."""
from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.runtime import Engine

PAGE = Path(__file__).parent / 'web_page'
PACKAGE = 'onnxruntime-web@1.30.0'  # from npm
SCRIPTS = ('ort.wasm.min.mjs', 'ort-wasm-simd-threaded.mjs', 'ort-wasm-simd-threaded.wasm')


def write_web_page(model: Path, folder: Path) -> list[Path]:
    """Write a folder that any web server can serve.

    Args:
        model: an exported .onnx file. If it has the output `stage_boxes`, the page shows the stages.
        folder: the output folder, created if necessary.

    Raises:
        UserError: the model is not such a file, or npm is missing or cannot download the scripts.
    """
    if model.suffix != '.onnx':
        raise UserError(f'a web page runs .onnx files only, not {model}')
    about = {key: value for key, value in Engine(model).metadata.items() if key != 'config'}
    with _scripts() as scripts:
        folder.mkdir(parents=True, exist_ok=True)
        for path in (*PAGE.iterdir(), *scripts):
            shutil.copy(path, folder / path.name)
    shutil.copy(model, folder / 'model.onnx')
    (folder / 'model.json').write_text(json.dumps(about, indent=1))
    return sorted(folder.iterdir())


@contextmanager
def _scripts() -> Iterator[list[Path]]:
    """Yield the files of ONNX Runtime that the page needs."""
    npm = shutil.which('npm')
    if npm is None:
        raise UserError(f'npm is missing, which fetches {PACKAGE}: install Node.js')
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([npm, 'pack', '--silent', PACKAGE], cwd=folder, capture_output=True, text=True)
        archive = next(Path(folder).glob('*.tgz'), None)
        if done.returncode or archive is None:
            raise UserError(f'npm cannot fetch {PACKAGE}: {" ".join((done.stderr or done.stdout).split())[:300]}')
        paths = []
        with tarfile.open(archive) as packed:
            for name in SCRIPTS:
                file = packed.extractfile(f'package/dist/{name}')
                assert file is not None
                paths.append(Path(folder, name))
                paths[-1].write_bytes(file.read())
        yield paths
