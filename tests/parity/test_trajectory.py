"""Twenty optimiser steps in float64, pinned: tells when the numerics of training change.

If a change is meant to alter them, run `python -m tests.parity.test_trajectory` in the root of the repository and put
what it prints in place of LOSSES; say in the commit why they moved.
"""
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sparse_rcnn_mm.registry import OPTIM_WRAPPERS, OPTIMIZERS

from .cases import batch_of, build

LOSSES = [
    14.090163497545946,
    12.316395615069698,
    11.66445312575975,
    11.033553270283054,
    9.84330131378101,
    9.013370182380804,
    8.59057195229574,
    8.302178052733483,
    8.030613497101443,
    7.835602689627071,
    7.62962672438158,
    7.335546745711913,
    7.271087917236914,
    7.008034985039544,
    6.746594608771139,
    6.489057333784746,
    6.369479995548378,
    6.233729654022972,
    6.093803717951365,
    5.9611201347314475,
]


def train(steps: int) -> list[float]:
    """The total loss before each step, from the weights of the tiny case; ten times the published learning rate."""
    model, cfg = build('tiny')
    model.double().train()
    batch = batch_of('tiny')
    data = model.data_preprocessor(batch, True)
    data['inputs'] = data['inputs'].double()
    for sample in data['data_samples']:
        sample.gt_instances.bboxes = sample.gt_instances.bboxes.double()
    optimizer = OPTIMIZERS.build(dict(cfg.optim_wrapper.optimizer, lr=2.5e-4,
                                      params=[p for p in model.parameters() if p.requires_grad]))
    wrapper = OPTIM_WRAPPERS.build(dict(cfg.optim_wrapper, optimizer=optimizer))
    losses = []
    for _ in range(steps):
        total, _ = model.parse_losses(model(**data, mode='loss'))
        wrapper.update_params(total)
        losses.append(total.item())
    return losses


def in_a_process(threads: int, steps: int) -> list[str]:
    """The losses as hexadecimal numbers, every bit of them, from a fresh process."""
    result = subprocess.run([sys.executable, '-m', 'tests.parity.test_trajectory', str(threads), str(steps)],
                            cwd=Path(__file__).resolve().parents[2], capture_output=True, text=True, check=True)
    return result.stdout.strip().split('\n')[-1].split(',')


@pytest.mark.slow
def test_losses_are_the_pinned_ones():
    """To 1e-9, which leaves room for another order of summation on another machine, but not for other numerics."""
    losses = train(len(LOSSES))
    assert losses == pytest.approx(LOSSES, rel=1e-9), f'{__doc__}\nnow: {losses}'


@pytest.mark.slow
def test_every_process_gives_the_same_bits():
    """In float64 on one machine, with the same number of threads; another number agrees to 1e-9 (sums are split)."""
    one, again, two = in_a_process(1, 3), in_a_process(1, 3), in_a_process(2, 3)
    assert one == again
    numbers = [[float.fromhex(loss) for loss in losses] for losses in (one, two)]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-9)


def main() -> None:
    threads, steps = map(int, sys.argv[1:] or ('1', '20'))
    torch.set_num_threads(threads)
    losses = train(steps)
    if len(sys.argv) > 1:
        print(','.join(loss.hex() for loss in losses))
    else:
        print('LOSSES = [\n' + ''.join(f'    {loss!r},\n' for loss in losses) + ']')


if __name__ == '__main__':
    main()
