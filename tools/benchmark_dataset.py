"""Time and memory of reading a COCO annotation file, beside mmdet's own data set: one fresh process for each number."""
from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sparse_rcnn_mm.datasets import CocoDataset

LOOKS = 2000  # images that a worker looks up
ROLES = ('first process', 'second process', 'worker, forked', 'worker, spawned')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('file', type=Path, help='annotation file, e.g. of tools/make_large_coco.py')
    parser.add_argument('--rounds', type=int, default=3, help='of all numbers, in turn (default: %(default)s)')
    parser.add_argument('--without-mmdet', action='store_true', help='where its memory would not do')
    parser.add_argument('--role', choices=ROLES, help=argparse.SUPPRESS)
    parser.add_argument('--kind', choices=['ours', 'mmdet'], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role:
        print(json.dumps(measured(args.file, args.role, args.kind)))
        return
    kinds = ['ours'] if args.without_mmdet else ['ours', 'mmdet']
    found: dict[tuple[str, str], list[dict[str, float]]] = {(kind, role): [] for role in ROLES for kind in kinds}
    for _ in range(args.rounds):
        args.file.with_name(f'.{args.file.name}.columns').unlink(missing_ok=True)
        for kind, role in found:
            done = subprocess.run([sys.executable, __file__, str(args.file), '--role', role, '--kind', kind],
                                  capture_output=True, text=True, check=True)
            found[kind, role].append(json.loads(done.stdout.splitlines()[-1]))
    print('| process | data set | seconds | peak MiB | own MiB |\n|---|---|---|---|---|')
    for (kind, role), runs in found.items():
        seconds, peak, own = (statistics.median(run[key] for run in runs) for key in ('seconds', 'peak', 'own'))
        print(f'| {role} | {kind} | {seconds:.2f} | {peak:.0f} | {own:.0f} |')


def measured(file: Path, role: str, kind: str) -> dict[str, float]:
    """Seconds, and MiB above what the imported libraries take: the peak, and in the end what no other process shares."""
    if role.startswith('worker'):
        return in_worker(build(file, kind), role.split()[-1].removesuffix('ed'))
    return measure(lambda: build(file, kind))


def build(file: Path, kind: str) -> Any:
    classes = tuple(category['name'] for category in categories(file))
    dataset = CocoDataset if kind == 'ours' else CocoDataset.__base__
    with contextlib.redirect_stdout(io.StringIO()):
        return dataset(ann_file=str(file), data_prefix={'img': str(file.parent / 'images')}, pipeline=[],
                       metainfo={'classes': classes})


def categories(file: Path) -> list[dict[str, Any]]:
    """From the end of the file, where tools/make_large_coco.py and COCO have them, without parsing all of it."""
    with file.open('rb') as stream:
        stream.seek(max(file.stat().st_size - 2**20, 0))
        tail = stream.read().decode()
    return json.loads('{' + tail[tail.rindex('"categories":'):])['categories']


def in_worker(dataset: Any, method: str) -> dict[str, float]:
    """What a worker of a data loader sees: it gets the data set and looks images up."""
    context: Any = multiprocessing.get_context(method)
    result, start = context.Queue(), time.perf_counter()
    process = context.Process(target=look_up, args=(dataset, result, start))
    process.start()
    found = result.get()
    process.join()
    return found


def look_up(dataset: Any, result: Any, start: float) -> None:
    before = memory()
    for index in range(0, len(dataset), max(len(dataset) // LOOKS, 1)):
        dataset.get_data_info(index)
    after = memory()
    result.put({'seconds': time.perf_counter() - start, 'peak': after['VmHWM'] - before['VmRSS'],
                'own': after['RssAnon'] - before['RssAnon']})


def measure(work: Callable[[], object]) -> dict[str, float]:
    before, start = memory(), time.perf_counter()
    kept = work()
    seconds, after = time.perf_counter() - start, memory()
    assert kept
    return {'seconds': seconds, 'peak': after['VmHWM'] - before['VmRSS'], 'own': after['RssAnon'] - before['RssAnon']}


def memory() -> dict[str, float]:
    """MiB of this process: resident, the most that was resident, and what is not a file."""
    lines = (line.split() for line in Path('/proc/self/status').read_text().splitlines())
    return {words[0][:-1]: int(words[1]) / 1024 for words in lines if words[0] in ('VmRSS:', 'VmHWM:', 'RssAnon:')}


if __name__ == '__main__':
    main()
