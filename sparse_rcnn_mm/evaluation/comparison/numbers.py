"""All numbers of a comparison, for the page and the JSON file."""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sparse_rcnn_mm.datasets.masks import lacks_mask

from ..average_precision import AveragePrecision
from ..matching import Kind, Matches
from .agreement import Agreement
from .comparison import Comparison


def as_numbers(comparison: Comparison) -> dict[str, Any]:
    """Return all numbers as plain values. `A` and `B` stand for the two detectors."""
    classes = comparison.classes
    numbers: dict[str, Any] = {
        'models': dict(zip('AB', _models(comparison), strict=True)),
        'A_takes_times_as_long_as_B': comparison.speed()[2],
        'images': len(comparison.agreements),
        'classes': {'compared': list(classes.names), 'only A': list(classes.only[0]), 'only B': list(classes.only[1])},
        'agreement': agreement(comparison),
        'by_image': [by_image(comparison, index) for index in comparison.order()],
    }
    if comparison.subject.annotated:
        numbers.update(average_precision=_average_precision(comparison))
        if any(comparison.mask_average_precisions):
            numbers.update(mask_average_precision=_mask_average_precision(comparison))
    return numbers


def _models(comparison: Comparison) -> list[dict[str, Any]]:
    return [{'name': side.name, 'parameters': side.parameters, 'file_bytes': side.file_bytes, 'note': side.note,
             'seconds_an_image': seconds, 'score_threshold': analysis.score_thr,
             'detections': sum(len(record.scores) for record in analysis.records), 'of_other_classes': dict(others)}
            for side, seconds, analysis, others in zip(comparison.sides, comparison.speed()[:2], comparison.analyses,
                                                       comparison.others, strict=True)]


def _average_precision(comparison: Comparison) -> dict[str, Any]:
    a, b = (analysis.ap for analysis in comparison.analyses)
    counts = comparison.analyses[0].counts[:, 0]
    return _side_by_side(comparison.classes.names, counts.tolist(), a, b, 'boxes')


def _mask_average_precision(comparison: Comparison) -> dict[str, Any]:
    """The same for masks. A model without masks has nan."""
    a, b = comparison.mask_average_precisions
    known = a or b
    assert known is not None
    masks = Counter(annotation['category_id'] for annotation in comparison.subject.coco['annotations']
                    if not (annotation.get('iscrowd') or lacks_mask(annotation.get('segmentation'))))
    counts = [masks[label + 1] for label in range(len(comparison.classes.names))]
    return _side_by_side(comparison.classes.names, counts, a or nothing_like(known), b or nothing_like(known), 'masks')


def nothing_like(known: AveragePrecision) -> AveragePrecision:
    """Return an AP of nan everywhere, in the shape of another."""
    return AveragePrecision(dict.fromkeys(known.overall, float('nan')), np.full_like(known.classes, np.nan),
                            {iou: np.full_like(curve, np.nan) for iou, curve in known.curves.items()},
                            [(low, high, float('nan'), count) for low, high, _, count in known.sizes])


def _side_by_side(names: Sequence[str], counts: Sequence[int], a: AveragePrecision, b: AveragePrecision,
                  noun: str) -> dict[str, Any]:
    return {'overall': {name: {'A': value, 'B': b.overall[name]} for name, value in a.overall.items()},
            'classes': {name: {noun: count, 'A': float(ours[0]), 'B': float(theirs[0])} for
                        name, count, ours, theirs in zip(names, counts, a.classes, b.classes, strict=True)},
            'sizes': [{'from': low, 'to': high, noun: count, 'A': ap, 'B': other}
                      for (low, high, ap, count), (_, _, other, _) in zip(a.sizes, b.sizes, strict=True)]}


def agreement(comparison: Comparison) -> dict[str, dict[str, int]]:
    """Count matches over all images. With ground truth, also count correct detections: `A correct`, `B correct`."""
    def total(count: Callable[[Agreement], int]) -> int:
        return sum(count(one) for one in comparison.agreements)

    counts = {'both': {'count': total(lambda one: len(one.both))},
              'only A': {'count': total(lambda one: len(one.only[0]))},
              'only B': {'count': total(lambda one: len(one.only[1]))},
              'other class': {'count': total(lambda one: len(one.other_class))}}
    if comparison.subject.annotated:
        a, b = (analysis.matches for analysis in comparison.analyses)
        for index, one in enumerate(comparison.agreements):
            _add_correct(counts, one, a[index], b[index])
    return counts


def _add_correct(counts: dict[str, dict[str, int]], one: Agreement, a: Matches, b: Matches) -> None:
    parts = [('both', 'A', a, one.both[:, 0]), ('both', 'B', b, one.both[:, 1]), ('only A', 'A', a, one.only[0]),
             ('only B', 'B', b, one.only[1]), ('other class', 'A', a, one.other_class[:, 0]),
             ('other class', 'B', b, one.other_class[:, 1])]
    for kind, letter, matches, which in parts:
        key = f'{letter} correct'
        counts[kind][key] = counts[kind].get(key, 0) + int(np.sum(matches.kinds[which] == Kind.CORRECT))


def by_image(comparison: Comparison, index: int) -> dict[str, Any]:
    """Return the counts for one image. With ground truth, also the number of errors of A and B."""
    one, record = comparison.agreements[index], comparison.records(index)[0]
    names = {image['id']: image['file_name'] for image in comparison.subject.coco['images']}
    row: dict[str, Any] = {'image_id': record.image_id, 'name': names[record.image_id], 'both': len(one.both),
                           'only A': len(one.only[0]), 'only B': len(one.only[1]), 'other class': len(one.other_class)}
    if comparison.subject.annotated:
        row['objects'] = int((~record.gt_ignored).sum())
        for letter, analysis in zip('AB', comparison.analyses, strict=True):
            row[f'{letter} correct'] = int((analysis.matches[index].kinds == Kind.CORRECT).sum())
            row[f'{letter} errors'] = sum(analysis.errors_of(index).values())
    return row
