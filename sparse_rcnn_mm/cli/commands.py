"""What `sparse-rcnn` can do, and how it starts it. Imports nothing heavy, so that --help is there at once."""
from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module

from sparse_rcnn_mm.errors import UserError, did_you_mean, one_sentence
from sparse_rcnn_mm.versions import __version__

# A path from a home folder on, as a word, behind `--option=` or behind `key=`; shells expand the first only.
_HOME = re.compile(r'(?P<name>[\w.-]+=)?(?P<quote>["\']?)(?P<path>~[\w.-]*(?:[/\\].*)?)', re.DOTALL)

Main = Callable[[Sequence[str]], int]


@dataclass(frozen=True)
class Command:
    """One command: its module in this folder, one line about it, and whether it needs torch and the mm packages."""
    module: str
    summary: str
    needs_stack: bool = True


COMMANDS = {
    'train': Command('train', 'train a detector: on COCO, or on a folder of your own data'),
    'test': Command('test', 'COCO metric of a checkpoint'),
    'infer': Command('infer', 'detect objects in images, folders, videos or a webcam'),
    'inspect': Command('inspect_dataset', 'count, check and draw a data set before training on it'),
    'analyze': Command('analyze', 'a page that shows where a detector is right and wrong'),
    'stages': Command('stages', 'draw how proposals become detections, stage by stage'),
    'convert': Command('convert', 'checkpoints of the official code to this package and back'),
    'benchmark': Command('benchmark', 'time, work and memory of a detector, part by part'),
    'export': Command('export', 'a checkpoint as an ONNX or OpenVINO file, compared with PyTorch'),
    'doctor': Command('doctor', 'what is installed, what is missing, and the command that mends it', needs_stack=False),
    'download': Command('download', 'fetch trained weights by name; without a name, list them'),
    'download coco': Command('download_coco', 'fetch COCO 2017', needs_stack=False),
    'digits': Command('digits', 'make the small data set of the quick start'),
}
EXAMPLES = """\
examples:
  sparse-rcnn infer photo.jpg --model sparse_rcnn_r50_3x
  sparse-rcnn train sparse_rcnn_r50_finetune --data FOLDER --load-from sparse_rcnn_r50_3x
  sparse-rcnn train sparse_rcnn_r50_3x --gpus 8
"""


def usage() -> str:
    """The text of `sparse-rcnn --help`."""
    lines = [f'  {name:15}{command.summary}' for name, command in COMMANDS.items()]
    return ('usage: sparse-rcnn COMMAND ...      sparse-rcnn COMMAND --help      sparse-rcnn --version\n\n'
            'Sparse R-CNN: train it, test it, use it.\n\ncommands:\n' + '\n'.join(lines) + f'\n\n{EXAMPLES}')


def expand_home(argument: str) -> str:
    """An argument with its home folder written out, as in `--data=~/photos` and `data_root=~/photos`."""
    match = _HOME.fullmatch(argument)
    if not match:
        return argument
    return f'{match["name"] or ""}{match["quote"]}{os.path.expanduser(match["path"])}'


def run(argv: Sequence[str], import_package: Callable[[], None] = lambda: None) -> int:
    """Run a command line without the program's name; returns the exit status.

    Args:
        argv: such as `['train', 'sparse_rcnn_r50_3x']`.
        import_package: runs the package's `__init__`, if it was not run yet.
    """
    if not argv or argv[0] in ('-h', '--help', 'help'):
        print(usage(), end='')
        return 0 if argv else 2
    if argv[0] in ('-V', '--version'):
        print(f'sparse-rcnn {__version__}')
        return 0
    with one_sentence():
        name, main = _find(argv, import_package)
        words = len(name.split())
        arguments = [expand_home(argument) for argument in argv[words:]]
        sys.argv[:] = [f'sparse-rcnn {name}', *arguments]  # argparse says the first in its usage
        try:
            return main(arguments) or 0
        except KeyboardInterrupt:
            print('\nstopped', file=sys.stderr)
            return 130
    raise AssertionError('one_sentence ends the program or passes errors on')


def _find(argv: Sequence[str], import_package: Callable[[], None]) -> tuple[str, Main]:
    """The name and the main function of the command that a command line starts with."""
    name = next((name for name in (' '.join(argv[:2]), argv[0]) if name in COMMANDS), None)
    if name is None:
        raise UserError(f"there is no command '{argv[0]}'{did_you_mean(argv[0], COMMANDS)}: "
                        'sparse-rcnn --help lists them')
    if COMMANDS[name].needs_stack:
        try:
            import_package()
        except ImportError as error:
            raise UserError(f'{str(error).rstrip(".")}; sparse-rcnn doctor checks the whole installation') from error
    return name, import_module(f'sparse_rcnn_mm.cli.{COMMANDS[name].module}').main
