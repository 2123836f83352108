"""Name and peak speed of the machine."""
from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F


def name(device: str) -> str:
    """The name of the processor, and the number of threads in use."""
    if device == 'cuda':
        return torch.cuda.get_device_name()
    info = Path('/proc/cpuinfo')
    models = [line.split(':', 1)[1].strip() for line in info.read_text().splitlines() if line.startswith('model name')
              ] if info.exists() else []
    return f'{models[0] if models else platform.processor()}, {torch.get_num_threads()} thread(s)'


@torch.no_grad()
def peak_gflops(device: str, dtype: torch.dtype, clock: Callable[[], float], repeats: int = 3) -> float:
    """The peak in GFLOP/s: the better of a large matrix product and a large 3x3 convolution."""
    n, channels, side = (8192, 256, 400) if device == 'cuda' else (1536, 256, 100)
    a = torch.randn(n, n, device=device).to(dtype)
    x = torch.randn(1, channels, side, side, device=device).to(dtype, memory_format=torch.channels_last)
    kernel = torch.randn(channels, channels, 3, 3, device=device).to(dtype, memory_format=torch.channels_last)
    work: dict[Callable[[], object], int] = {
        lambda: a @ a: 2 * n**3,
        lambda: F.conv2d(x, kernel, padding=1): 2 * 9 * channels**2 * side**2}
    best = 0.
    for run, flops in work.items():
        run()
        for _ in range(repeats):
            start = clock()
            run()
            best = max(best, flops / (clock() - start) / 1e9)
    return best
