"""Train, killing the process again and again until it comes to its end: run as a program, for a clean parent to fork.

python killed_runs.py KILLS SEED CONFIG ARGUMENTS...: trains CONFIG without interruption in the folder `whole`, then in
`killed_0`, `killed_1` ... with SIGKILL at random moments and --resume, until KILLS processes were killed and the last
training has ended. Prints the moments as JSON: for each folder a list of (seconds, last checkpoint at that moment).
"""
from __future__ import annotations

import json
import os
import random
import runpy
import signal
import sys
import time
import traceback
from pathlib import Path

import sparse_rcnn_mm.engine  # noqa: F401 (imported once, here)

TRAIN = str(Path(__file__).resolve().parents[2] / 'tools/train.py')


def start(*arguments: str) -> int:
    """Fork a process that trains, with its output in train.log; its id."""
    process = os.fork()
    if process:
        return process
    os.setsid()
    output = os.open('train.log', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = ['train.py', *arguments]
    status: object = 0
    try:
        runpy.run_path(TRAIN, run_name='__main__')
    except SystemExit as stop:
        status = stop.code or 0
    except BaseException:
        traceback.print_exc()
        status = 99
    sys.stdout.flush()
    os._exit(status if isinstance(status, int) else 1)


def ended(process: int, seconds: float) -> bool:
    """Whether a process comes to its end, and well, within `seconds`."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            if status:
                sys.exit(f'training ended with the status {os.waitstatus_to_exitcode(status)}: see train.log')
            return True
        time.sleep(0.005)
    return False


def last_checkpoint(folder: str) -> str:
    path = Path(folder, 'last_checkpoint')
    return Path(path.read_text()).name if path.is_file() else ''


def main() -> None:
    kills, seed, *arguments = sys.argv[1:]
    moments = random.Random(int(seed))
    began = time.monotonic()
    process = start(*arguments, '--work-dir', 'whole')
    while not last_checkpoint('whole') and not ended(process, 0.02):
        pass
    first = time.monotonic() - began
    ended(process, 600)
    rest = time.monotonic() - began - first
    killed: dict[str, list[tuple[float, str]]] = {}
    while sum(map(len, killed.values())) < int(kills):
        folder = f'killed_{len(killed)}'
        killed[folder] = []
        while True:
            more = sum(map(len, killed.values())) < int(kills)
            moment = moments.uniform(0.6 * first, first + 0.4 * rest) if more else 600
            process = start(*arguments, '--work-dir', folder, '--resume')
            if ended(process, moment):
                break
            os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)
            killed[folder].append((round(moment, 2), last_checkpoint(folder)))
    print(json.dumps(killed))


if __name__ == '__main__':
    main()
