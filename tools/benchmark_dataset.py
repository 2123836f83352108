"""Measures time and memory of reading a COCO annotation file, also for mmdet's data set, each in a fresh process."""
from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import pickle
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
    found: dict[tuple[str, str], list[dict[str, float]]] = {
        (kind, role): [] for role in ROLES for kind in kinds if kind == 'ours' or role != 'second process'}
    for _ in range(args.rounds):
        args.file.with_name(f'.{args.file.name}.columns').unlink(missing_ok=True)
        for kind, role in found:
            done = subprocess.run([sys.executable, __file__, str(args.file), '--role', role, '--kind', kind],
                                  capture_output=True, text=True, check=True)
            found[kind, role].append(json.loads(done.stdout.splitlines()[-1]))
            print(f'{role}, {kind}: {found[kind, role][-1]}', file=sys.stderr, flush=True)
    print('| process | data set | seconds | CPU seconds | peak MiB | own MiB |\n|---|---|---|---|---|---|')
    for (kind, role), runs in found.items():
        seconds, cpu, peak, own = (statistics.median(run[key] for run in runs) for key in runs[0])
        print(f'| {role} | {kind} | {seconds:.2f} | {cpu:.2f} | {peak:.0f} | {own:.0f} |')


def measured(file: Path, role: str, kind: str) -> dict[str, float]:
    """Seconds, and MiB above what the imported libraries take: the peak, and what no other process shares."""
    if not role.startswith('worker'):
        return measure(lambda: build(file, kind))
    # Like a data loader: a forked worker inherits the data set, a spawned one unpickles it.
    dataset, method = build(file, kind), role.split()[-1].removesuffix('ed')
    context: Any = multiprocessing.get_context(method)
    result = context.Queue()
    context.Process(target=work, args=(pickle.dumps(dataset) if method == 'spawn' else dataset, result)).start()
    return result.get()


def work(dataset: Any, result: Any) -> None:
    """Look some images up, as a worker of a data loader does."""

    def look_up() -> Any:
        data = pickle.loads(dataset) if isinstance(dataset, bytes) else dataset
        for index in range(0, len(data), max(len(data) // LOOKS, 1)):
            data.get_data_info(index)
        return data

    result.put(measure(look_up))


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


def measure(job: Callable[[], object]) -> dict[str, float]:
    before, start, cpu = memory(), time.perf_counter(), time.process_time()
    kept = job()
    seconds, cpu, after = time.perf_counter() - start, time.process_time() - cpu, memory()
    assert kept
    return {'seconds': seconds, 'cpu': cpu, 'peak': after['VmHWM'] - before['VmRSS'],
            'own': after['Private_Dirty'] - before['Private_Dirty']}


def memory() -> dict[str, float]:
    """MiB of this process: resident, the most that ever was, and what it alone has and no file holds."""
    text = Path('/proc/self/status').read_text() + Path('/proc/self/smaps_rollup').read_text()
    return {words[0][:-1]: int(words[1]) / 1024 for words in map(str.split, text.splitlines())
            if words and words[0] in ('VmRSS:', 'VmHWM:', 'Private_Dirty:')}


if __name__ == '__main__':
    main()
