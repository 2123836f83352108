"""A measurement as a table, as JSON and as a chart."""
from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from .measure import Result


def table(result: Result) -> str:
    """The measurement as a Markdown table."""
    work = result.workload
    what = 'training step' if work.train else 'prediction'
    clock = 'CPU seconds' if work.cpu_time else 'seconds'
    height, width = work.size
    lines = [
        f'{what}, {work.batch} x {height}x{width}, {work.precision}{", compiled" if work.compile else ""}, '
        f'on {result.machine}', '',
        '| quantity | value |', '|---|---|',
        f'| {clock} | {result.seconds.text()} |',
        f'| images / s | {result.images_per_second:.3g} |',
        f'| parameters | {result.parameters / 1e6:.2f} M |',
        f'| peak of the machine | {result.peak_gflops:.1f} GFLOP/s |']
    if result.flops:
        lines += [f'| forward pass | {sum(result.flops.values()) / 1e9:.1f} GFLOP |',
                  f'| achieved | {result.gflops:.1f} GFLOP/s, {share(result.gflops, result.peak_gflops)} of the peak |']
    if result.memory is not None:
        lines.append(f'| peak memory beyond the idle model | {result.memory:.0f} MiB |')
    if result.against_seconds and result.ratio:
        lines += [f'| {clock}, {work.against} {work.against_precision} | {result.against_seconds.text()} |',
                  f'| {work.against} / ours | {result.ratio.text(2)} |']
        if result.against_memory is not None:
            lines.append(f'| peak memory, {work.against} | {result.against_memory:.0f} MiB |')
        lines += [f'| largest difference, {name} | {value:.1e} |' for name, value in result.differences.items()]
    return '\n'.join(lines + (['', *parts_table(result)] if result.part_seconds else []))


def share(part: float, whole: float) -> str:
    """`part` as a percentage of `whole`."""
    return f'{100 * part / whole:.0f}%' if whole else '-'


def parts_table(result: Result) -> list[str]:
    """Time and work by part. The backward pass and the optimizer are in the row 'rest'."""
    total = sum(result.part_seconds.values())
    lines = ['| part | seconds | share | GFLOP | GFLOP/s |', '|---|---|---|---|---|']
    for name, seconds in result.part_seconds.items():
        flops = result.flops.get(name, 0) / 1e9
        rate = f'{flops / seconds:.1f}' if flops and seconds and name != 'rest' else '-'
        lines.append(f'| {name} | {seconds:.3f} | {share(seconds, total)} | {flops:.2f} | {rate} |')
    return lines


def sweep_table(name: str, results: Sequence[tuple[int, Result]]) -> str:
    """Time and memory for each value of one quantity, as a Markdown table."""
    lines = [f'| {name} | seconds | MiB | matching and losses |', '|---|---|---|---|']
    for value, result in results:
        memory = '-' if result.memory is None else f'{result.memory:.0f}'
        matching = share(result.part_seconds.get('matching and losses', 0.), sum(result.part_seconds.values()))
        lines.append(f'| {value} | {result.seconds.text()} | {memory} | '
                     f'{matching if result.workload.train else "-"} |')
    return '\n'.join(lines)


def write(folder: Path, name: str, text: str, results: Sequence[Result]) -> None:
    """Write `name`.md and `name`.json into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f'{name}.md').write_text(text + '\n')
    (folder / f'{name}.json').write_text(json.dumps([asdict(result) for result in results], indent=1) + '\n')


def draw_parts(path: Path, result: Result) -> None:
    """Draw a bar with the time of each part, and a second bar for the other detector."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 2.6), layout='constrained')
    left = 0.
    for index, (name, seconds) in enumerate(result.part_seconds.items()):
        axes.barh('ours', seconds, left=left, label=name, color=plt.get_cmap('tab20')(index))
        left += seconds
    if result.against_seconds:
        axes.barh(result.workload.against, result.against_seconds.median, color='0.7')
    axes.set_xlabel('CPU seconds' if result.workload.cpu_time else 'seconds')
    axes.legend(ncols=6, fontsize='x-small', loc='lower center', bbox_to_anchor=(0.5, 1.))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_sweep(path: Path, name: str, results: Sequence[tuple[int, Result]]) -> None:
    """Draw time and memory against one quantity."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout='constrained')
    values = [value for value, _ in results]
    clock = 'CPU seconds' if results[0][1].workload.cpu_time else 'seconds'
    curves = {clock: [result.seconds.median for _, result in results],
              'peak memory, MiB': [result.memory or 0. for _, result in results]}
    for axis, color, (label, heights) in zip(axes, ('C0', 'C1'), curves.items(), strict=True):
        axis.plot(values, heights, 'o-', color=color)
        axis.set(xlabel=name, ylabel=label, ylim=(0, 1.1 * max(heights) or 1))
    figure.savefig(path, dpi=110)
    plt.close(figure)
