"""The web page: detections in headless Chromium are those of Python, and nothing is fetched from elsewhere."""
from __future__ import annotations

import functools
import json
import shutil
import subprocess
import threading
from collections.abc import Callable
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.export import Tracing, export, web
from sparse_rcnn_mm.inference import Detector
from sparse_rcnn_mm.runtime import RuntimeDetector

CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
# Opens the page as a user would, and sends what it shows back to this test.
WATCH = """<!doctype html><iframe id="page" width="900" height="1000" src="index.html?picture=x.png"></iframe><script>
const wait = setInterval(async () => {
  const page = document.getElementById('page').contentWindow;
  const message = page?.document?.getElementById('message')?.textContent || '';
  if (!page?.found && !/cannot/.test(message)) return;
  clearInterval(wait);
  const at = (id) => page.document.getElementById(id);
  const move = (id, value) => { at(id).value = value; at(id).dispatchEvent(new page.Event('input')); };
  move('threshold', 0.05);
  const canvas = at('picture');
  const last = canvas.toDataURL();
  const counts = [message, at('message').textContent];
  if (!at('stage_row').hidden) move('stage', 0);
  const [stages, hidden, first] = [at('stage').max, at('stage_row').hidden, canvas.toDataURL()];
  const body = JSON.stringify({found: page.found, counts, stages, hidden, last, first});
  await fetch('result', {method: 'POST', body});
}, 200);
</script>"""


class Server(ThreadingHTTPServer):
    """Serves a folder, and keeps what is posted and the paths that were asked for."""

    def __init__(self, folder: Path) -> None:
        self.posted, self.paths, self.done = b'', list[str](), threading.Event()
        super().__init__(('127.0.0.1', 0), functools.partial(Handler, directory=str(folder)))


class Handler(SimpleHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        self.server.paths.append(self.path)

    def do_POST(self) -> None:
        self.server.posted = self.rfile.read(int(self.headers['Content-Length']))
        self.send_response(204)
        self.end_headers()
        self.server.done.set()


def seen_in_chromium(folder: Path, profile: Path) -> dict[str, Any]:
    """What the page in a folder finds in x.png beside it."""
    (folder / 'watch.html').write_text(WATCH)
    server = Server(folder)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    assert CHROMIUM is not None
    browser = subprocess.Popen(
        [CHROMIUM, '--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage',
         '--remote-debugging-port=0', f'--user-data-dir={profile}',
         '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
         f'http://127.0.0.1:{server.server_port}/watch.html'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert server.done.wait(400), server.paths
    finally:
        browser.terminate()
        browser.wait()
        server.shutdown()
        thread.join()
        server.server_close()
    return json.loads(server.posted)


@pytest.fixture(scope='module')
def page(small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if CHROMIUM is None or shutil.which('npm') is None:
        pytest.skip(f'{"npm" if CHROMIUM else "Chromium"} is missing')
    folder = tmp_path_factory.mktemp('web')
    detector = Detector.from_checkpoint(small_checkpoint, device='cpu', fast=False)
    export(detector, folder / 'staged.onnx', tracing=Tracing(stages=True))
    try:
        web.write_web_page(folder / 'staged.onnx', folder / 'page')
    except UserError as error:
        pytest.skip(str(error))  # without a network
    return folder / 'page'


@pytest.mark.slow
def test_the_browser_finds_what_python_finds(page: Path, tmp_path: Path, colored: Callable[..., np.ndarray]) -> None:
    names = {'index.html', 'app.js', 'preprocess.js', 'model.onnx', 'model.json', *web.SCRIPTS}
    assert {path.name for path in page.iterdir()} == names
    assert 'config' not in json.loads((page / 'model.json').read_text())
    Image.fromarray(colored(5, 150, 310)).save(page / 'x.png')
    seen = seen_in_chromium(page, tmp_path)
    detector = RuntimeDetector(page / 'model.onnx')
    (wanted,) = detector(page / 'x.png')
    assert seen['stages'] == '2' and not seen['hidden']  # two stages after the start
    assert len(seen['found']) == len(wanted.scores) > 5
    np.testing.assert_allclose([one['score'] for one in seen['found']], wanted.scores, atol=1e-4)
    np.testing.assert_allclose([one['boxes'][-1] for one in seen['found']], wanted.boxes, atol=0.05)
    assert [one['label'] for one in seen['found']] == [detector.classes[label] for label in wanted.labels]
    for said, threshold in zip(seen['counts'], (0.3, 0.05), strict=True):
        assert said.startswith(f'{(wanted.scores >= threshold).sum()} detections; ')
    assert seen['first'] != seen['last']  # the slider of the stages moves boxes


NODE = """
import {{resize, resizedShape}} from '{module}';
import fs from 'fs';
const cases = JSON.parse(fs.readFileSync(process.argv[2]));
console.log(JSON.stringify(cases.map(({{h, w, rgba, rule}}) => {{
  const [nh, nw] = resizedShape(h, w, rule);
  return [nh, nw, Array.from(resize(rgba, h, w, nh, nw))];
}})));
"""


@pytest.mark.skipif(shutil.which('node') is None, reason='Node.js is missing')
def test_resizes_as_pillow_does(tmp_path: Path, colored: Callable[..., np.ndarray]) -> None:
    from sparse_rcnn_mm.runtime.preprocessing import resize, resized_shape
    rules = [dict(short_side=side, max_long_side=limit, within=within) for side, limit, within in (
        (32, None, None), (96, 100, None), (17, None, None), (150, None, (60, 40)), (64, 70, (60, 400)))]
    cases, wanted = [], []
    for seed, rule in enumerate(rules):
        for h, w in ((50, 71), (64, 33), (20, 20)):
            image = colored(seed, h, w)
            rgba = np.concatenate([image, np.full((h, w, 1), 255, np.uint8)], axis=2)
            cases.append(dict(h=h, w=w, rgba=rgba.ravel().tolist(), rule=rule))
            wanted.append(resize(image, *resized_shape(h, w, **rule)))  # type: ignore[arg-type]
    (tmp_path / 'cases.json').write_text(json.dumps(cases))
    shutil.copy(web.PAGE / 'preprocess.js', tmp_path / 'preprocess.mjs')
    (tmp_path / 'run.mjs').write_text(NODE.format(module='./preprocess.mjs'))
    done = subprocess.run(['node', 'run.mjs', 'cases.json'], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for (height, width, planes), image in zip(json.loads(done.stdout), wanted, strict=True):
        assert (height, width) == image.shape[:2]
        ours = np.array(planes).reshape(3, height, width).transpose(1, 2, 0)
        # Pillow goes down before it goes across where that is less work, and rounds in between.
        assert np.abs(ours - image.astype(int)).max() <= 1


def test_what_is_missing_is_one_sentence(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match='a web page runs .onnx files only, not x.xml'):
        web.write_web_page(Path('x.xml'), tmp_path / 'page')
    monkeypatch.setattr(shutil, 'which', lambda name: None)
    with pytest.raises(UserError, match='npm is missing, which fetches onnxruntime-web@'):
        web.write_web_page(exported, tmp_path / 'page')
    assert not (tmp_path / 'page').exists()
