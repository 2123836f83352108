"""The list of commands, and how they are started. Imports nothing heavy, so that --help is fast."""
from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module

from sparse_rcnn_mm.errors import UserError, did_you_mean, one_sentence
from sparse_rcnn_mm.terminal import show
from sparse_rcnn_mm.versions import __version__

# A path that starts at a home folder, alone or after `--option=` or `key=`. Shells expand only the first.
_HOME = re.compile(r'(?P<name>[\w.-]+=)?(?P<quote>["\']?)(?P<path>~[\w.-]*(?:[/\\].*)?)', re.DOTALL)

Main = Callable[[Sequence[str]], int]


@dataclass(frozen=True)
class Command:
    """A command: its module in this folder, and a one-line summary."""
    module: str
    summary: str


COMMANDS = {
    'train': Command('train', 'train a detector: on COCO, or on a folder of your own data'),
    'test': Command('test', 'compute the COCO metric of a checkpoint'),
    'infer': Command('infer', 'detect objects in images, folders, videos or a webcam'),
    'inspect': Command('inspect_dataset', 'count, check and draw a data set before training on it'),
    'analyze': Command('analyze', 'write a page that shows where a detector is right and wrong'),
    'compare': Command('compare', 'write a page that compares two detectors on the same images'),
    'compare curves': Command('compare_curves', 'draw the curves of several trainings in one picture'),
    'stages': Command('stages', 'draw how proposals become detections, stage by stage'),
    'convert': Command('convert', 'convert checkpoints of other projects, or publish your own'),
    'benchmark': Command('benchmark', 'measure time, FLOPs and memory of a detector, part by part'),
    'export': Command('export', 'export a checkpoint to ONNX or OpenVINO, and compare it with PyTorch'),
    'doctor': Command('doctor', 'find what is wrong with the installation, or with a training that learns nothing'),
    'download': Command('download', 'fetch trained weights by name; without a name, list them'),
    'download coco': Command('download_coco', 'fetch COCO 2017'),
    'download voc': Command('download_voc', 'fetch Pascal VOC 2007 and 2012, with masks'),
    'crowd convert': Command('crowd_convert', "convert CrowdHuman's odgt files to COCO JSON as the authors do"),
    'crowd score': Command('crowd_score', 'compute AP, mMR, recall and JI of a file of detections'),
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
    """Replace `~` in an argument by the home folder, also in `--data=~/photos` and `data_root=~/photos`."""
    match = _HOME.fullmatch(argument)
    if not match:
        return argument
    return f'{match["name"] or ""}{match["quote"]}{os.path.expanduser(match["path"])}'


def run(argv: Sequence[str]) -> int:
    """Run a command line and return the exit status.

    Args:
        argv: the arguments without the program's name, such as `['train', 'sparse_rcnn_r50_3x']`.
    """
    if not argv or argv[0] in ('-h', '--help', 'help'):
        show(usage().rstrip())
        return 0 if argv else 2
    if argv[0] in ('-V', '--version'):
        show(f'sparse-rcnn {__version__}')
        return 0
    with one_sentence():
        name, main = _find(argv)
        words = len(name.split())
        arguments = [expand_home(argument) for argument in argv[words:]]
        sys.argv[:] = [f'sparse-rcnn {name}', *arguments]  # argparse shows the first one in its usage
        try:
            return main(arguments) or 0
        except KeyboardInterrupt:
            show('\nstopped', sys.stderr)
            return 130
    raise AssertionError('one_sentence ends the program or passes errors on')


def _find(argv: Sequence[str]) -> tuple[str, Main]:
    """Find the command that a command line starts with: its name and its main function."""
    name = next((name for name in (' '.join(argv[:2]), argv[0]) if name in COMMANDS), None)
    if name is None:
        raise UserError(f"there is no command '{argv[0]}'{did_you_mean(argv[0], COMMANDS)}: "
                        'sparse-rcnn --help lists them')
    return name, import_module(f'sparse_rcnn_mm.cli.{COMMANDS[name].module}').main
