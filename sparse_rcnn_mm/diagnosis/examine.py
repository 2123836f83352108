"""The examination: checks every step from the data to AP on a few images."""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.registry import DefaultScope

from sparse_rcnn_mm.acceleration.training import fast_training
from sparse_rcnn_mm.checkpoints import LoadReport, Metadata, checked_initial_weights, load_contents, read_checkpoint
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.evaluation.records import EvaluatedData
from sparse_rcnn_mm.inference.detector import Detector
from sparse_rcnn_mm.models import SparseRCNN
from sparse_rcnn_mm.own_data.config import with_masks
from sparse_rcnn_mm.own_data.inspection import class_counts, data_errors
from sparse_rcnn_mm.own_data.raw_data import RawData
from sparse_rcnn_mm.registry import MODELS, SCOPE

from .detections import by_detections
from .edges import by_edges
from .follow import follow
from .hypotheses import CHANGES
from .images import FewImages
from .mask_places import by_boxes
from .measurements import Augmented, Data, Labels, Measurements, Trained
from .normalization import IMAGENET, measure_inputs, used_by, wanted_by
from .overfit import overfit, probe
from .parts import measure_weights, note_moves, snapshot
from .patient import Patient
from .precision import ap_of, detect
from .sample import Labelled, labelled_images
from .schedule import measure_learning_rate
from .verdict import FAULT, causes

_LOOKED_AT = 60  # images whose labels are compared with detections or edges


@dataclass
class Settings:
    """How thorough the examination is.

    Attributes:
        load_from: weights to start from, instead of the config's.
        images: the number of images to learn.
        iterations, minutes: limits of the short training.
        processes: the number of processes in the full training, each with its own batch.
    """
    load_from: str | None = None
    images: int = 8
    iterations: int = 600
    minutes: float = 5.
    processes: int = 1


@dataclass
class Examination:
    """The findings, and the data that the page shows.

    Attributes:
        labelled: images with the labels in the file.
        images: the images that were learned, once they have been chosen.
        detections: the final detections on them.
    """
    found: Measurements
    say: Callable[[str], None]
    labelled: list[Labelled] = field(default_factory=list)
    images: FewImages | None = None
    detections: EvaluatedData | None = None


def examine(patient: Patient, settings: Settings, say: Callable[[str], None] = print) -> Examination:
    """Check every step. If one fails, the examination ends, and `found.stopped` is a sentence about it."""
    done = Examination(Measurements(patient.name, patient.config), say)
    try:
        raw = patient.raw()
        _look_at_labels(done, raw, patient, settings)
        patient.prepare(settings.load_from)
        _follow_links(done, patient, settings)
    except UserError as error:
        done.found.stopped = str(error)
        say(f'stopped: {error}')
    return done


def _look_at_labels(done: Examination, raw: RawData, patient: Patient, settings: Settings) -> None:
    counts = {name: sum(by_split.values()) for name, by_split in class_counts(raw).items()}
    first = next(iter(raw.splits.values())).coco
    with_boxes = {box['image_id'] for box in first['annotations']}
    num_classes = len([name for name in counts if counts[name]]) if patient.data else _num_classes(patient)
    if patient.data:  # as in training
        counts = {name: count for name, count in counts.items() if count}
    done.found.data = Data(len(first['images']), len(first['annotations']), len(first['images']) - len(with_boxes),
                           counts, num_classes, dict(Counter(one.kind for one in data_errors(raw))))
    done.say(f'data: {len(first["images"])} images, {len(first["annotations"])} boxes, {len(counts)} classes')
    done.labelled, classes = labelled_images(raw, _LOOKED_AT)
    done.found.labels = _labels(done.labelled, classes, settings.load_from or patient.load_from)
    done.say(f'labels: compared with {done.found.labels.by or "nothing"}, {done.found.labels.decided or "undecided"}')
    if with_masks(patient.cfg):
        masks = done.found.masks = by_boxes(done.labelled)
        done.say(f'masks: {masks.masks} of {masks.boxes} boxes have one; compared with the boxes, '
                 f'{masks.decided or "undecided"}')


def _num_classes(patient: Patient) -> int:
    head = patient.cfg.model.roi_head.bbox_head
    return int((head if isinstance(head, dict) else head[-1]).get('num_classes', 80))


def _labels(images: list[Labelled], classes: list[str], load_from: str) -> Labels:
    """Check the labels by detections if there are weights that detect something, else by edges."""
    labels = Labels()
    if load_from and images:
        try:
            labels = by_detections(images, classes, Detector.from_checkpoint(load_from))
        except UserError:
            labels = Labels()  # the weights are for a part only, or have no config: use the edges
    if images and labels.decided is None:
        by = by_edges(images)
        by.same_class, by.class_step, by.confused = labels.same_class, labels.class_step, labels.confused
        labels = by if by.decided or not labels.by else labels
    labels.beyond = _beyond(images, 'as they are'), _beyond(images, 'swapped')
    return labels


def _beyond(images: list[Labelled], change: str) -> float:
    """Return the share of boxes that extend beyond their image by more than a pixel."""
    out = [(boxes[:, 2] > one.width + 1) | (boxes[:, 3] > one.height + 1) for one in images
           for boxes in [CHANGES[change](one.boxes, one.width, one.height)]]
    return float(np.concatenate(out).mean()) if out else 0.


def _follow_links(done: Examination, patient: Patient, settings: Settings) -> None:
    cfg, found, say = patient.cfg, done.found, done.say
    images = done.images = FewImages(cfg, settings.images)
    found.learning_rate = measure_learning_rate(cfg, images.total, settings.processes, patient.load_from)
    batches = images.fixed_batches()
    found.augmented = _augmented(images, batches)
    say('augmentation: ' + found.augmented.words())
    model, report, names = _built(patient, patient.load_from)
    found.weights = measure_weights(model, report, patient.load_from, _pretrained(patient), (names, images.classes))
    say('weights: ' + ', '.join(f'{part.name} {part.loaded}/{part.tensors}' for part in found.weights.parts)
        + ' loaded')
    used = used_by(cfg) or IMAGENET
    found.inputs = measure_inputs(model, batches, used, *wanted_by(cfg, patient.load_from))
    if patient.work_dir is not None:
        found.trained = _trained(patient, patient.work_dir, images, settings)
    if all(part.frozen == part.tensors for part in found.weights.parts):
        return
    _learn(done, model, batches, patient, settings)


def _augmented(images: FewImages, batches: list[dict]) -> Augmented:
    """Count boxes and masks before and after the training pipeline."""
    truths = [sample.gt_instances for batch in batches for sample in batch['data_samples']]
    before = [instance for info in images.infos for instance in info['instances']]
    found = Augmented(len(images.infos), len(before), sum(map(len, truths)))
    if any('mask' in instance for instance in before):
        found.masks_before = sum(bool(instance.get('mask')) for instance in before)
        found.masks_after = sum(int(truth.masks.masks.any((1, 2)).sum()) for truth in truths if 'masks' in truth)
    return found


def _learn(done: Examination, model: Any, batches: list[dict], patient: Patient, settings: Settings) -> None:
    found, images = done.found, done.images
    assert images is not None and found.weights is not None and found.learning_rate is not None
    start = snapshot(model)
    before = follow(model, batches)
    done.say(f'learning {len(images.chosen)} images:')
    found.overfit = overfit(model, patient.cfg, images, settings.iterations, settings.minutes * 60, done.say)
    found.overfit.before, found.overfit.after = before, follow(model, batches)
    note_moves(found.weights.parts, model, start)
    done.detections = detect(model, images)
    if found.overfit.limit != 'learned' and not any(one.kind == FAULT for one in causes(found)):
        found.learning_rate.probes = probe(model, patient.cfg, images, start, settings.minutes * 60, done.say)


def _trained(patient: Patient, work_dir: Path, images: FewImages, settings: Settings) -> Trained | None:
    """Test the weights of the earlier training on training and validation images."""
    files = sorted(work_dir.glob('*.pth'), key=lambda path: path.stat().st_mtime)
    if not files:
        return None
    model, _, _ = _built(patient, str(files[-1]))
    try:
        val = ap_of(detect(model, FewImages(patient.cfg, settings.images, part='val')))
    except UserError:
        val = None  # there is no validation data, or it has no boxes
    seen = detect(model, images)
    return Trained(str(files[-1]), ap_of(seen), val, ap_of(seen, masks=True) if seen.has_masks else None)


def _built(patient: Patient, load_from: str) -> tuple[Any, LoadReport | None, tuple[str, ...] | None]:
    """Build the model with the weights of a checkpoint. Also returns which were loaded, and their class names."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(SCOPE):
        model: Any = MODELS.build(patient.cfg.model)
        if not isinstance(model, SparseRCNN):
            raise UserError(f'the doctor examines detectors of this package, not a {type(model).__name__}')
        with checked_initial_weights(model):
            model.init_weights()
    report = names = None
    if load_from:
        contents = read_checkpoint(load_from)
        report = load_contents(model, contents, load_from, partial=True)
        names = Metadata.of(contents, load_from).classes
    model = model.to('cuda' if torch.cuda.is_available() else 'cpu')
    return (fast_training(model) if patient.cfg.get('fast_training', True) else model), report, names


def _pretrained(patient: Patient) -> str:
    init_cfg = patient.cfg.model.backbone.get('init_cfg')
    settings = init_cfg if isinstance(init_cfg, list) else [init_cfg or {}]
    return next((str(one['checkpoint']) for one in settings if one.get('type') == 'Pretrained'), '')
