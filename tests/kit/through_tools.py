"""What every kind of detector goes through after its training."""
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from sparse_rcnn_mm.inference import Detector


def use_everywhere(checkpoint: Path, image: Path, folder: Path, tool: Callable[..., int],
                   capsys: pytest.CaptureFixture) -> tuple[list[float], list[float]]:
    """Test, infer, draw stages and detect with a checkpoint; the fast form finds what the plain model does.

    Args:
        folder: the current folder, in which the tools write.

    Returns:
        Scores on the image: those that were written, and the detector's.
    """
    assert tool('test', str(checkpoint)) == 0
    assert tool('infer', image, '--model', str(checkpoint), '--score-thr', '0') == 0
    found = json.loads((folder / 'detections/detections.json').read_text())['annotations']
    assert tool('visualize_stages', image, '--model', str(checkpoint), '--score-thr', '0', '--side', '60') == 0
    assert 'stage 2' in capsys.readouterr().out

    fast, plain = (Detector.from_checkpoint(folder / checkpoint, device='cpu', fast=fast) for fast in (True, False))
    np.testing.assert_allclose(fast(image).scores, plain(image).scores, atol=1e-4)
    return [one['score'] for one in found], fast(image).scores.tolist()


def train_and_resume(config: str, tool: Callable[..., int], small: list[str], folder: Path) -> None:
    """Train into `whole`, and from its second iteration on into `parts`; both must end in the same weights."""
    assert tool('train', config, '--work-dir', 'whole', *small) == 0
    assert tool('train', config, '--work-dir', 'parts', '--resume', 'whole/iter_2.pth', *small) == 0
    whole, parts = (torch.load(folder / name / 'iter_4.pth', weights_only=True)['state_dict']
                    for name in ('whole', 'parts'))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
