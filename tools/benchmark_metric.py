"""Compares the COCO metric by pycocotools and by faster-coco-eval on random detections: seconds, and differences."""
from __future__ import annotations

import argparse
import contextlib
import copy
import io
import time
from typing import Any

import numpy as np
from faster_coco_eval import COCOeval_faster
from mmdet.datasets.api_wrappers import COCO, COCOeval

SIZES = 10., 50., 200.  # pixels; of boxes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--images', type=int, default=5000)
    parser.add_argument('--detections', type=int, default=300, help='an image (default: %(default)s)')
    parser.add_argument('--classes', type=int, default=80)
    args = parser.parse_args()
    truth, found = made(args.images, args.detections, args.classes)
    results: dict[str, Any] = {}
    for name, kind in (('pycocotools', COCOeval), ('faster-coco-eval', COCOeval_faster)):
        wall, cpu = time.perf_counter(), time.process_time()
        results[name] = evaluated(kind, truth, copy.deepcopy(found))
        print(f'{name}: {time.perf_counter() - wall:.1f} s, {time.process_time() - cpu:.1f} s of CPU')
    first, second = results.values()
    difference = max(np.abs(first.eval[key] - second.eval[key]).max() for key in ('precision', 'recall', 'scores'))
    print(f'AP {first.stats[0]:.4f}; largest difference of any precision, recall or score: {difference:.1e}')


def made(images: int, detections: int, classes: int) -> tuple[COCO, list[dict[str, Any]]]:
    """Seven objects an image, and detections that are some of them, moved a little, and others."""
    rng = np.random.default_rng(0)
    entries: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for image in range(1, images + 1):
        boxes = np.concatenate([rng.uniform(0, 400, (7, 2)), rng.choice(SIZES, (7, 1)) * rng.random((7, 2)) + 1], 1)
        labels = rng.integers(1, classes + 1, 7)
        entries += [{'id': len(entries) + 1 + index, 'image_id': image, 'category_id': int(labels[index]),
                     'bbox': boxes[index].tolist(), 'area': float(boxes[index, 2] * boxes[index, 3]),
                     'iscrowd': int(rng.random() < 0.01)} for index in range(7)]
        chosen = rng.integers(0, 7, detections)
        moved = boxes[chosen] + rng.normal(0, 0.2, (detections, 4)) * boxes[chosen][:, [2, 3, 2, 3]]
        moved[:, 2:] = np.abs(moved[:, 2:])
        guessed = np.where(rng.random(detections) < 0.3, labels[chosen], rng.integers(1, classes + 1, detections))
        found += [{'image_id': image, 'category_id': int(label), 'bbox': box, 'score': float(score)}
                  for label, box, score in zip(guessed, moved.tolist(), rng.random(detections), strict=True)]
    truth = COCO()
    truth.dataset = {'images': [{'id': image} for image in range(1, images + 1)], 'annotations': entries,
                     'categories': [{'id': label, 'name': str(label)} for label in range(1, classes + 1)]}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
    return truth, found


def evaluated(kind: Any, truth: COCO, found: list[dict[str, Any]]) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = kind(truth, truth.loadRes(found), 'bbox')
        evaluation.params.maxDets = [100, 300, 1000]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


if __name__ == '__main__':
    main()
