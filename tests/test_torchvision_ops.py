"""A torchvision whose library does not fit torch: it can be imported, and what it describes stays an error to call."""
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.kit import ROOT

TORCHVISION = """
import torch
@torch.library.register_fake('torchvision::nms')
def nms(dets, scores, iou_threshold):
    return dets
"""
SCRIPT = """
import sys
sys.path[:0] = [{package!r}, {root!r}]
import sparse_rcnn_mm
import mmengine, torch, torchvision
try:
    torch.ops.torchvision.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
except NotImplementedError:
    print('refused')
"""


def test_it_is_imported_and_not_called(tmp_path: Path) -> None:
    (tmp_path / 'torchvision').mkdir()
    (tmp_path / 'torchvision/__init__.py').write_text(TORCHVISION)
    (tmp_path / 'torchvision/_C.so').write_bytes(b'made for another torch')
    script = SCRIPT.format(package=str(tmp_path), root=str(ROOT))
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines()[-1:] == ['refused'], done.stderr
