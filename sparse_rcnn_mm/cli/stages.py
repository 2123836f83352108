"""sparse-rcnn stages: shows how proposals become detections, stage by stage."""
from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from sparse_rcnn_mm.datasets.read_image import read_image
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.inference import Detector
from sparse_rcnn_mm.inference.stages import follow_stages
from sparse_rcnn_mm.terminal import one_line, show
from sparse_rcnn_mm.visualization.stages import StageBoxes, animate_stages, stage_panels

from .parser import Parser, score


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(description='Draw the learned proposals, then the box, score and, if the model has masks, the mask '
                    'of each detection after every stage: one picture, and one animation.')
    parser.add_argument('image', type=Path, metavar='IMAGE')
    parser.add_argument('--model', required=True, metavar='CHECKPOINT',
                        help='checkpoint file, which contains its config, or the name of published weights')
    parser.add_argument('--config', help='config file, instead of the one in the checkpoint')
    parser.add_argument('--out-dir', type=Path, default=Path('stages'),
                        help='folder for IMAGE_stages.png and IMAGE_stages.gif (default: %(default)s)')
    parser.add_argument('--score-thr', type=score, default=0.3, metavar='SCORE',
                        help='show the proposals whose final score is at least this (default: %(default)s)')
    parser.add_argument('--side', type=int, default=480, help='long side of a panel in pixels (default: %(default)s)')
    parser.add_argument('--columns', type=int, help='panels in a row (default: all, or 4 if there are more)')
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ... (default: a GPU if there is one)')
    return parser.parse_args(argv)


def table(stages: StageBoxes) -> str:
    """A table with the scores of the shown proposals after each stage."""
    lines = ['proposal  class           ' + ''.join(f'{f"stage {i + 1}":>9}' for i in range(stages.num_stages))]
    for query in stages.kept:
        lines.append(f'{query:8d}  {one_line(stages.names[query]):16.16}'
                     + ''.join(f'{score:9.2f}' for score in stages.scores[:, query]))
    return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    args = parse_args(argv)
    image = read_image(args.image)
    detector = Detector.from_checkpoint(args.model, args.config, args.device, fast=False)
    stages = follow_stages(detector, image, args.score_thr)
    if not len(stages.kept):
        raise UserError(f'no proposal reaches a score of {args.score_thr} on {args.image}; the best has '
                        f'{stages.scores[-1].max():.2f}: lower --score-thr')
    args.out_dir.mkdir(parents=True, exist_ok=True)
    picture, animation = (args.out_dir / f'{args.image.stem}_stages.{kind}' for kind in ('png', 'gif'))
    stage_panels(image, stages, args.columns, args.side).save(picture, optimize=True)
    animate_stages(image, stages, animation, args.side)
    show(table(stages))
    show(f'{picture}\n{animation}')
    return 0
