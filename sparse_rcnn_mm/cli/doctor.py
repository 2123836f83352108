"""sparse-rcnn doctor: checks the installation; with data or a training, finds out why it is not learned.

Checking the installation works without torch and the mm packages.
"""
from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path

from sparse_rcnn_mm.terminal import show
from sparse_rcnn_mm.versions import INSTALL, SUPPORTED, __version__, check_versions, fits, installed_version

from .environment import allowed_processors, cgroup, cpu_quota
from .parser import Parser

# Other required modules, as module -> distribution.
NEEDED = {'numpy': 'numpy', 'scipy': 'scipy', 'PIL': 'pillow', 'pycocotools': 'pycocotools', 'cv2': 'opencv-python',
          'filelock': 'filelock'}
# Optional features, as feature -> distribution.
OPTIONAL = {
    'own data in Pascal VOC or YOLO format': 'globox',
    'the digits of the quick start': 'scikit-learn',
    'curves in TensorBoard': 'tensorboard',
    'ImageDetections.to_pandas()': 'pandas',
    'ImageDetections.to_supervision()': 'supervision',
}
# Takes the folders to import from as arguments, and prints the path of mmcv's compiled operations.
IMPORT_ALL = """
import sys
sys.path[:] = sys.argv[1:]
import cv2, sparse_rcnn_mm.models, sparse_rcnn_mm.engine
print(sys.modules['mmcv._ext'].__spec__.origin)
"""
LEAST_DISK = 2 << 30  # bytes; a training of the default config writes more


@dataclass(frozen=True)
class Finding:
    """One line of the report: what was checked, what was found, and how to fix it.

    Attributes:
        mend: the command or step that fixes it; '' if nothing is wrong.
        needed: False if only some features, or the speed, are affected.
    """
    name: str
    value: str
    mend: str = ''
    needed: bool = True

    def __str__(self) -> str:
        mark = 'ok' if not self.mend else 'BROKEN' if self.needed else '-'
        return f'{mark:7}{self.name:16}{self.value}' + (f'\n{"":23}-> {self.mend}' if self.mend else '')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the arguments of the command."""
    parser = Parser(
        description='Without arguments: check the installation and this machine. With data, or a training that went '
        'wrong: learn a few of its images, follow every link from the labels to AP, and say what is wrong. Exit status '
        '1 if something is.')
    parser.add_argument('target', nargs='?', metavar='WORK_DIR_OR_CONFIG', help='the work dir of a training, or a '
                        'config that names its data')
    parser.add_argument('--data', metavar='FOLDER', help='your own data, as in sparse-rcnn train')
    parser.add_argument('--config', default='sparse_rcnn_r50_finetune', help='the config that they are to be trained '
                        'with (default: %(default)s)')
    parser.add_argument('--load-from', metavar='CHECKPOINT', help='the weights that training starts from; those that '
                        'know such objects also tell whether the labels are right')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='as in sparse-rcnn train')
    parser.add_argument('--images', type=int, default=8, help='that are learned (default: %(default)s)')
    parser.add_argument('--iterations', type=int, default=600, help='of learning them, at most (default: %(default)s)')
    parser.add_argument('--minutes', type=float, default=5., help='for learning them, at most (default: %(default)s)')
    parser.add_argument('--gpus', type=int, default=1, help='of the training that is examined, for its learning rate')
    parser.add_argument('--out', metavar='FOLDER', help='for doctor.html and doctor.json; default '
                        'work_dirs/doctor_NAME, or doctor in the work dir')
    args = parser.parse_args(argv)
    if args.target and args.data:
        parser.error('give a work dir or config, or --data with --config, not both')
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    args = parse_args(argv)
    if args.target or args.data:
        check_versions()
        return import_module('sparse_rcnn_mm.cli.diagnose').diagnose(args)
    broken = 0
    for title, findings in (('packages', packages()), ('optional', optional()), ('machine', machine())):
        show(f'{title}:')
        for finding in findings:
            show(finding)
            broken += bool(finding.mend) and finding.needed
    show(f'\n{broken} broken: see the lines with an arrow' if broken else '\nready')
    return 1 if broken else 0


def packages() -> Iterator[Finding]:
    """Check the versions, and whether all packages can be imported together."""
    python = platform.python_version()
    yield Finding('sparse_rcnn_mm', __version__)
    yield Finding('python', f'{python}  {sys.executable}', '' if sys.version_info >= (3, 10) else 'install Python 3.10')
    fine = True
    for module, wanted in SUPPORTED.items():
        found = installed_version(module)
        right = found is not None and fits(found, wanted)
        install = f"pip install 'torch{wanted}'" if module == 'torch' else INSTALL
        yield Finding(module, f'{found or "missing"}  (needs {wanted})', '' if right else install)
        fine = fine and right
    for module, distribution in NEEDED.items():
        if find_spec(module) is None:
            fine = False
            yield Finding(module, 'missing', f'pip install {distribution}')
    yield together() if fine else Finding('import', 'not tried', 'fix the lines above first')


def together() -> Finding:
    """Import the package and the models in a separate process, to find problems that versions do not show."""
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', IMPORT_ALL, *sys.path], capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f'ended with status {done.returncode}']
        headless = 'pip install --force-reinstall --no-deps opencv-python-headless'
        return Finding('import', lines[-1][:300], headless if 'libGL' in lines[-1] else advice(lines[-1]))
    compiled = 'yes' if done.stdout.split()[-1] != 'None' else 'no, and none is needed'
    return Finding('import', f'works; compiled ops of mmcv: {compiled}')


def advice(sentence: str) -> str:
    """The command in a message of the version check, else the command that installs the tested versions."""
    named = sentence.split('`')[1::2]
    return named[0] if named else INSTALL


def optional() -> Iterator[Finding]:
    """Check the packages that optional features need."""
    for purpose, distribution in OPTIONAL.items():
        try:
            yield Finding(distribution, f'{metadata.version(distribution)}  {purpose}')
        except metadata.PackageNotFoundError:
            yield Finding(distribution, f'missing  {purpose}', f'pip install {distribution}', needed=False)


def machine() -> Iterator[Finding]:
    """Check processors, memory, disk and GPUs."""
    yield cpus()
    yield memory()
    for name, folder in (('disk', Path.cwd()), ('cache', cache_folder())):
        yield disk(name, folder)
    if find_spec('torch') is not None:
        yield devices()


def devices() -> Finding:
    """Check the GPUs that torch finds."""
    try:
        import torch
    except Exception as error:
        return Finding('devices', f'torch cannot be imported: {error}', "pip install --force-reinstall 'torch>=2.4'")
    gpus = [f'{torch.cuda.get_device_name(i)} {torch.cuda.get_device_properties(i).total_memory / 2**30:.0f} GiB'
            for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if not gpus and shutil.which('nvidia-smi'):
        needs = f'needs a driver for CUDA {torch.version.cuda}' if torch.version.cuda else 'was built without CUDA'
        return Finding('devices', f'a GPU driver is installed, but torch {needs}', 'see pytorch.org/get-started', False)
    return Finding('devices', ', '.join(gpus) or f'CPU only, {torch.get_num_threads()} threads')


def cpus() -> Finding:
    """Check how many processors this process may use, by its affinity and its container's quota."""
    usable, quota = allowed_processors(), cpu_quota()
    text = f'{usable} of {os.cpu_count()} usable' + (f', quota of {quota:g}' if quota else '')
    threads = int(os.environ.get('OMP_NUM_THREADS') or usable)
    too_many = quota is not None and threads > quota + 0.5
    return Finding('processors', text, f'export OMP_NUM_THREADS={max(int(quota or 1), 1)}' if too_many else '', False)


def memory() -> Finding:
    """Check the free memory, and the limit of the container."""
    try:
        lines = dict(line.split(':', 1) for line in Path('/proc/meminfo').read_text().splitlines())
        total, free = (int(lines[name].split()[0]) / 2**20 for name in ('MemTotal', 'MemAvailable'))
    except (OSError, KeyError, ValueError):
        return Finding('memory', 'unknown on this system')
    limit = memory_limit()
    text = f'{free:.1f} of {total:.1f} GiB free' + (f', limit of {limit:.1f} GiB' if limit and limit < total else '')
    low = min(free, limit or free) < 2
    return Finding('memory', text, 'close other programs: training needs at least 2 GiB' if low else '', False)


def memory_limit() -> float | None:
    """The memory limit of the control group in GiB; None without a limit."""
    for name in ('memory.max', 'memory/memory.limit_in_bytes'):
        try:
            return int(cgroup(name)) / 2**30
        except (OSError, ValueError):  # ValueError: 'max'
            continue
    return None


def cache_folder() -> Path:
    """The folder of downloaded weights, by torch's rule, but without importing torch."""
    home = os.environ.get('TORCH_HOME') or Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache', 'torch')
    return Path(home, 'hub', 'checkpoints').expanduser()


def disk(name: str, folder: Path) -> Finding:
    """Check the free space on the disk of a folder, and whether files can be written there."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(there).free
    text = f'{free / 2**30:.1f} GiB free  {folder}'
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError:
        return Finding(name, f'{folder} cannot be written', 'export TORCH_HOME=FOLDER' if name == 'cache' else
                       'change to a folder of your own', name == 'cache')
    return Finding(name, text, 'make room: checkpoints need at least 2 GiB' if free < LEAST_DISK else '', False)
