"""AP, mMR, recall and JI of detections in a file, as fractions; mMR is better when lower."""
from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sparse_rcnn_mm.evaluation.crowd_files import CrowdTruth, read_results, read_truth
from sparse_rcnn_mm.evaluation.crowdhuman_metric import crowd_metrics, said
from sparse_rcnn_mm.evaluation.records import by_image, read_predictions

from .parser import Parser


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument('results', metavar='RESULTS', type=Path, help='COCO results (.json), which test_evaluator.'
                        'outfile_prefix=PREFIX writes, or the file of `sparse-rcnn test --out` (.pkl)')
    parser.add_argument('annotations', metavar='ANNOTATIONS.json', help='COCO annotations of one category; its crowd '
                        'boxes are ignored regions')
    parser.add_argument('--out', metavar='FILE.json', type=Path, help='write the numbers to this file, too')
    return parser.parse_args(argv)


def detections(path: Path, truth: CrowdTruth) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Boxes and scores by image, of either kind of file."""
    if path.suffix != '.pkl':
        return read_results(path, truth)
    return {image_id: (np.asarray(found['bboxes'], np.float64).reshape(-1, 4), np.asarray(found['scores'], np.float64))
            for image_id, found in by_image(read_predictions(path)).items()}


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    truth = read_truth(args.annotations, 'give the COCO JSON of the images that were tested')
    images = truth.with_detections(detections(args.results, truth))
    metrics = crowd_metrics(images)
    for name, value in metrics.items():
        print(f'{name:8}{value!r}')
    print(said(images, metrics))
    if args.out:
        args.out.write_text(json.dumps({name: value if math.isfinite(value) else None  # JSON has no nan
                                        for name, value in metrics.items()}))
    return 0
