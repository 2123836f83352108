"""Turns the measurements into words. Pure functions of `Measurements`."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from sparse_rcnn_mm.own_data.raw_data import counted

from .hypotheses import AS_THEY_ARE, SHIFTED, WORDS, moved_words
from .mask_verdict import mask_verdicts
from .measurements import Hypothesis, Inputs, Labels, LearningRate, Measurements, Normalization, Overfit, Part, Probe
from .overfit import LEARNED, PROBE, falls
from .parts import MASK_HEADS
from .sentences import FAULT, NOTE, WARNING, Verdict

_FAR = 4.  # times the learning rate that suits the batch size
_VERY_FAR = 30.  # times the rate that the weights were trained with
_LARGE_STEP, _HEALTHY_STEP = 0.05, 0.005  # relative to the norm of a weight matrix
_CLEARLY = 0.9  # a short training with a much better rate gets below this fraction of the long training's loss
_MANY_TIMES = 5  # as many iterations
_MEAN = 5  # iterations whose losses are averaged
_FEW = 100  # with fewer iterations than this, nothing is known yet


def verdicts(found: Measurements) -> list[Verdict]:
    """Return all findings, faults first, causes before effects."""
    said = causes(found)
    if found.overfit and not any(one.kind == FAULT for one in said):
        said += _unlearned(found, found.overfit)
    return sorted(said, key=lambda one: (FAULT, WARNING, NOTE).index(one.kind))


def causes(found: Measurements) -> list[Verdict]:
    """Return the findings about the individual steps, without the result of the short training."""
    return [one for rule in RULES for one in rule(found)]


def conclusion(found: Measurements) -> str:
    """Return the last line: the first fault, or that all is well, or that it is not known."""
    faults = [one for one in verdicts(found) if one.kind == FAULT]
    if faults:
        return str(faults[0])
    done = found.overfit
    if done is None or done.limit != 'learned':
        return ('no fault was found, but the images were not learned in the time given: it is not known whether all is '
                'well')
    iteration, ap, ap50 = done.ap[-1]
    masks = ''.join(f' and {mask_ap50:.2f} mask AP50 ({mask_ap:.2f} AP)' for _, mask_ap, mask_ap50 in done.mask_ap[-1:])
    return (f'all is well: {ap50:.2f} AP50 ({ap:.2f} AP){masks} on {counted(done.images, "image")} in {iteration} '
            'iterations')


def _stopped(found: Measurements) -> Iterator[Verdict]:
    if found.stopped:
        yield Verdict(FAULT, f'training does not start: {found.stopped}')


def _data(found: Measurements) -> Iterator[Verdict]:
    data = found.data
    if data is None:
        return
    used = [name for name, boxes in data.classes.items() if boxes]
    if not data.boxes:
        yield Verdict(FAULT, f'the labels are empty: none of the {counted(data.images, "image")} has a box',
                      'look for the annotation files, and at what inspect says of them')
        return
    if data.num_classes > len(data.classes):
        named = f' ({", ".join(used[:3])}{", ..." if len(used) > 3 else ""})'
        yield Verdict(FAULT, f'the model has {data.num_classes} classes, but the data have '
                      f'{counted(len(data.classes), "class")}{named}',
                      f'set num_classes = {len(data.classes)}, or train with --data FOLDER, which sets it')
    elif data.num_classes < len(data.classes):
        yield Verdict(FAULT, f'the model has {counted(data.num_classes, "class")}, but the data have '
                      f'{len(data.classes)}', f'set num_classes = {len(data.classes)}')
    if data.without_boxes > data.images / 2:
        yield Verdict(WARNING, f'{data.without_boxes} of {data.images} images have no boxes and are taken as '
                      'background', 'check that their labels are not missing')
    for kind, count in data.warnings.items():
        yield Verdict(NOTE, f'inspect has {counted(count, "warning")} of the kind "{kind}"')


def _labels(found: Measurements) -> Iterator[Verdict]:
    labels = found.labels
    if labels is None:
        return
    plain, swapped = labels.beyond
    if labels.decided and labels.decided != AS_THEY_ARE:
        yield Verdict(FAULT, _wrong_boxes(labels, labels.decided))
    elif plain > 0.05 and swapped < plain / 4:
        yield Verdict(FAULT, f'{WORDS["swapped"]}: {plain:.0%} of the boxes reach beyond their image as they are, and '
                      f'{swapped:.0%} when swapped')
    yield from _wrong_classes(labels)
    if labels.decided is None:
        yield Verdict(NOTE, 'whether the boxes are in the right places cannot be known from these images alone',
                      'look at the pictures, or give weights that detect such objects by --load-from')
    if labels.same_class is None:
        yield Verdict(NOTE, 'whether the boxes have the right classes cannot be known without weights that know them',
                      'look at the pictures')


def _wrong_boxes(labels: Labels, name: str) -> str:
    fit = {one.name: one.fit for one in labels.hypotheses}
    what = f'labels are shifted by {moved_words(labels.shift)}' if name == SHIFTED else WORDS[name]
    if labels.by == 'detections':
        return (f'{what}: {fit[AS_THEY_ARE]:.0%} of {labels.boxes} boxes lie on what the weights detect, and '
                f'{fit[name]:.0%} when put right')
    return (f'{what}: under the borders of the boxes the contrast is {fit[AS_THEY_ARE]:.1f} times that of the images, '
            f'and {fit[name]:.1f} times when they are put right')


def _wrong_classes(labels: Labels) -> Iterator[Verdict]:
    if labels.same_class is None or labels.same_class >= 0.5 or not labels.confused:
        return
    examples = ', '.join(f"'{one}' looks like '{other}'" for one, other in list(labels.confused.items())[:3])
    if labels.class_step:
        by = {1: 'one', -1: 'one'}.get(labels.class_step, str(abs(labels.class_step)))
        where = 'high' if labels.class_step > 0 else 'low'
        yield Verdict(FAULT, f'classes are off by {by}: the labels are {by} too {where} ({examples}); only '
                      f'{labels.same_class:.0%} agree with what the weights see', 'check whether ids count from 0 or '
                      '1, and the order of the names')
    else:
        yield Verdict(FAULT, f'the classes are mixed up: {examples}; only {labels.same_class:.0%} agree with what the '
                      'weights see', 'check the order of the names')


def _inputs(found: Measurements) -> Iterator[Verdict]:
    inputs = found.inputs
    if inputs is None:
        return
    used, wanted = inputs.used, inputs.wanted
    if wanted is not None:
        yield from _other_normalization(used, wanted, inputs.wanted_by)
        return
    odd = max(abs(value) for value in inputs.mean) > 3 or not 0.1 < max(inputs.std) < 3
    if odd:
        yield Verdict(FAULT, f'mean or std of the images are wrong: normalized pixels have a mean of '
                      f'{_numbers(inputs.mean)} and a deviation of {_numbers(inputs.std)} instead of about 0 and 1, '
                      f'with mean {_numbers(used.mean)} and std {_numbers(used.std)}', 'set model.data_preprocessor')
    elif (better := _better_way(inputs)) is not None:
        yield Verdict(FAULT, better)


def _other_normalization(used: Normalization, wanted: Normalization, by: str) -> Iterator[Verdict]:
    if used.order != wanted.order:
        yield Verdict(FAULT, f'the images reach the network as {used.order}, but {by} was trained with {wanted.order}',
                      'set model.data_preprocessor.bgr_to_rgb for the way that the pipeline reads images (LoadRGBImage '
                      'reads RGB)')
    mean = max(abs(ours - theirs) for ours, theirs in zip(used.mean, wanted.mean, strict=True))
    std = max(ours / theirs for pair in zip(used.std, wanted.std, strict=True) for ours, theirs in (pair, pair[::-1]))
    if mean > 2 or std > 1.05:
        turned = used.mean == wanted.mean[::-1]
        yield Verdict(FAULT, f'mean or std of the images are wrong: mean {_numbers(used.mean)} and std '
                      f'{_numbers(used.std)}, but {by} was trained with {_numbers(wanted.mean)} and '
                      f'{_numbers(wanted.std)}{", in the other order" if turned else ""}',
                      'set model.data_preprocessor')


def _better_way(inputs: Inputs) -> str | None:
    """Find a normalization that fits the statistics of the first batch norm much better than the config's."""
    if not inputs.distances:
        return None
    best = min(inputs.distances, key=lambda name: inputs.distances[name])
    now, least = inputs.distances['as configured'], inputs.distances[best]
    if best == 'as configured' or now < 0.5 or now < 3 * least:
        return None
    words = {'channels swapped': 'the channels reach the network in the wrong order (BGR for RGB, or the reverse)',
             'ImageNet': "mean or std of the images are wrong: ImageNet's fit the weights",
             '0 to 1': 'mean or std of the images are wrong: pixels of 0 to 1 fit the weights'}
    return (f'{words[best]}: the input of the first batch norm is {now:.1f} from the statistics that it was trained '
            f'with, and would be {least:.1f}')


def _weights(found: Measurements) -> Iterator[Verdict]:
    weights = found.weights
    if weights is None:
        return
    tensors = sum(part.tensors for part in weights.parts)
    if tensors == sum(part.frozen for part in weights.parts):
        yield Verdict(FAULT, f'everything is frozen: none of the {tensors} parameters gets a gradient',
                      'set requires_grad where it is switched off, and model.backbone.frozen_stages')
    random = [part for part in weights.parts if part.frozen_at_random]
    if random or weights.random_statistics:
        what = ' and '.join(f'{part.frozen_at_random} layers of the {part.name}' for part in random)
        norms = f'{weights.random_statistics} batch norms use statistics that were never measured'
        yield Verdict(FAULT, 'no weights were loaded where the config builds on them: ' + ', and '.join(
            filter(None, [f'{what} are frozen at random numbers' if random else '',
                          norms if weights.random_statistics else ''])),
            'give --load-from CHECKPOINT, or model.backbone.init_cfg, or train all of it (frozen_stages=-1, '
            'norm_eval=False)')
    elif not weights.source and not weights.pretrained:
        yield Verdict(NOTE, 'no weights were loaded: all parts start from random numbers')
    if weights.source:
        yield from _loaded(weights.source, [part for part in weights.parts if not part.loaded])
        yield from _classifier(found)


def _loaded(source: str, absent: Sequence[Part]) -> Iterator[Verdict]:
    for part in absent:
        shape = ': it has another shape there' if part.reshaped else ': it is not in there'
        if part.name == MASK_HEADS:
            yield Verdict(NOTE, f'nothing of the {part.name} was loaded from {source}: they start from random numbers')
        elif part.name != 'classifier':
            kind = FAULT if part.name in ('backbone', 'neck') else WARNING
            yield Verdict(kind, f'nothing of the {part.name} was loaded from {source}{shape}',
                          'use the config that it was trained with')


def _classifier(found: Measurements) -> Iterator[Verdict]:
    weights = found.weights
    assert weights is not None
    if weights.their_classes is not None:
        yield Verdict(NOTE, f'the classifier was not loaded, as it should be: {weights.source} has '
                      f'{counted(weights.their_classes, "class")} and the data {weights.our_classes}')
    elif weights.other_names:
        theirs, ours = weights.other_names
        yield Verdict(WARNING, f'the classifier was loaded from {weights.source}, whose classes are others: '
                      f"'{theirs}' there is '{ours}' here")


def _moved(found: Measurements) -> Iterator[Verdict]:
    weights, done = found.weights, found.overfit
    if weights is None or done is None or not done.losses or done.limit == 'broken':
        return
    trained = [part for part in weights.parts if part.frozen < part.tensors]
    still = [part.name for part in trained if not part.moved]
    if trained and len(still) == len(trained):
        yield Verdict(FAULT, f'everything is frozen: no weight changed in {counted(len(done.losses), "iteration")}',
                      'check the learning rate and lr_mult in optim_wrapper')
    elif still:
        yield Verdict(FAULT, f'the {" and the ".join(still)} did not change in '
                      f'{counted(len(done.losses), "iteration")}', 'check lr_mult in optim_wrapper.paramwise_cfg')
    for part in weights.parts:
        if part.name != 'backbone' and part.frozen == part.tensors and trained:
            yield Verdict(WARNING, f'the {part.name} is frozen')


def _learning_rate(found: Measurements) -> Iterator[Verdict]:
    rate = found.learning_rate
    if rate is None:
        return
    measured = _probed(rate, found.overfit)
    if measured is not None:
        yield measured
    elif found.overfit is None or found.overfit.limit != 'learned':
        measured = next(chain(_by_step(rate, found.overfit), _by_rule(rate)), None)
        yield from [measured] if measured else []
    ratio = (rate.base_images or rate.images) / rate.images
    if not (measured and measured.kind == FAULT) and max(ratio, 1 / ratio) >= _FAR:
        times, word = (ratio, 'high') if ratio > 1 else (1 / ratio, 'low')
        yield Verdict(FAULT, f'the learning rate is {times:g} times too {word} for {counted(rate.images, "image")} a '
                      f'step: {rate.lr:g} is for {rate.base_images}', 'train with --auto-scale-lr')
    if rate.warmup * 2 > rate.iterations:
        yield Verdict(FAULT, f'the warm-up takes {rate.warmup} of the {rate.iterations} iterations of the training, so '
                      'the learning rate is hardly reached', 'shorten it, or train longer')


def _probed(rate: LearningRate, done: Overfit | None) -> Verdict | None:
    """Find a rate at which a short training gets further, or as far much earlier, than the long one at the config's.

    None if there is none.
    """
    best = _best(rate.probes)
    if best is None or done is None or not rate.lr:
        return None
    broken = bool(done.broken)
    ended = sum(done.losses[-_MEAN:]) / max(len(done.losses[-_MEAN:]), 1)
    slow = _iterations_to(best.last, done.losses) > _MANY_TIMES * PROBE
    if best.factor == 1. or not (broken or best.last < _CLEARLY * ended or slow):
        return None
    high = best.factor < 1
    times = 1 / best.factor if high else best.factor
    ends = 'training breaks' if broken else f'the loss is {ended:.1f}'
    return Verdict(FAULT, f'the learning rate is about {times:g} times too {"large" if high else "small"}: with '
                   f'{rate.lr:g} {ends} after {counted(len(done.losses), "iteration")}, and with '
                   f'{rate.lr * best.factor:g} it is {best.last:.1f} after {PROBE}',
                   f'set optim_wrapper.optimizer.lr to about {rate.lr * best.factor:g}')


def _iterations_to(loss: float, losses: Sequence[float]) -> float:
    """After how many iterations the losses fall to a loss; 0 if they never do."""
    return next((end for end in range(_MEAN, len(losses) + 1) if sum(losses[end - _MEAN:end]) <= _MEAN * loss), 0)


def _best(probes: Sequence[Probe]) -> Probe | None:
    """Return the probe with the lowest loss. Of those within 5% of it, take the rate closest to the config's."""
    whole = [one for one in probes if one.last == one.last]
    if not whole:
        return None
    least = min(one.last for one in whole)
    near = [one for one in whole if one.last <= 1.05 * least]
    return min(near, key=lambda one: max(one.factor, 1 / one.factor))


def _by_step(rate: LearningRate, done: Overfit | None) -> Iterator[Verdict]:
    """Check whether a step changes the weights far more than is healthy (about 1e-3 of their norm: CS231n)."""
    if done is not None and done.step is not None and done.step > _LARGE_STEP:
        times = 10 ** max(round(math.log10(done.step / _HEALTHY_STEP)), 1)
        yield Verdict(FAULT, f'the learning rate is about {times} times too large: with {rate.lr:g} one step changes '
                      f'the weights by {done.step:.0%} of their size, where 0.1% to 1% is healthy',
                      f'set optim_wrapper.optimizer.lr to about {rate.lr / times:g}')


def _by_rule(rate: LearningRate) -> Iterator[Verdict]:
    """Compare with the rate that the weights were trained with, if there was no time to measure."""
    if rate.probes or not rate.lr or not rate.usual:
        return
    ratio = rate.lr / rate.usual
    if max(ratio, 1 / ratio) >= _VERY_FAR:
        times, word = (ratio, 'large') if ratio > 1 else (1 / ratio, 'small')
        yield Verdict(FAULT, f'the learning rate is about {times:.3g} times too {word}: {rate.lr:g} for '
                      f'{counted(rate.images, "image")} a step, where the weights were trained with {rate.usual:.2g}',
                      f'set optim_wrapper.optimizer.lr to about {rate.usual:.2g}')


def _augmented(found: Measurements) -> Iterator[Verdict]:
    boxes = found.augmented
    if boxes is not None and boxes.after < boxes.before / 2:
        yield Verdict(FAULT, f'the training pipeline drops {boxes.before - boxes.after} of {boxes.before} boxes',
                      'check the transforms of train_dataloader.dataset.pipeline')


def _trained(found: Measurements) -> Iterator[Verdict]:
    trained = found.trained
    if trained is None:
        return
    masks = '' if trained.mask_train is None else f' and {trained.mask_train[1]:.2f} mask AP50'
    on = f'{trained.path} has {trained.train[1]:.2f} AP50{masks} on some of its own training images'
    if trained.val is None or trained.train[1] < LEARNED / 2:
        yield Verdict(NOTE, on)
    else:
        much_worse = trained.val[1] < trained.train[1] / 3
        yield Verdict(WARNING if much_worse else NOTE, f'{on}, and {trained.val[1]:.2f} on validation images',
                      'the training works; look for what is other in the validation data, or give more data'
                      if much_worse else '')


def _unlearned(found: Measurements, done: Overfit) -> Iterator[Verdict]:
    """Report the weakest step, if the images were not learned and no cause was found."""
    if done.limit == 'learned':
        return
    if done.broken:
        yield Verdict(FAULT, f'training breaks after {counted(len(done.losses), "iteration")}: {done.broken}',
                      'lower the learning rate')
        return
    if len(done.losses) < _FEW or falls(done.losses):
        yield Verdict(WARNING, f'{counted(len(done.losses), "iteration")} in {done.seconds:.0f} s are too few to '
                      'tell, the loss still falls', 'give more time by --minutes and --iterations, or a GPU')
        return
    last = done.after[-1] if done.after else None
    ap50 = done.ap[-1][2] if done.ap else 0.
    start = (f'{counted(done.images, "image")} were not learned in {len(done.losses)} iterations '
             f'({ap50:.2f} AP50)')
    if last is None:
        yield Verdict(FAULT, start)
    elif ap50 >= LEARNED and done.mask_ap:
        yield Verdict(FAULT, f'the boxes of {counted(done.images, "image")} were learned ({ap50:.2f} AP50), but not '
                      f'their masks ({done.mask_ap[-1][2]:.2f} mask AP50)', 'look at the masks in the pictures, and at '
                      'criterion.loss_mask')
    elif last.reached < LEARNED:
        yield Verdict(FAULT, f'{start}: boxes of the last stage reach {last.reached:.0%} of the ground truths')
    else:
        yield Verdict(FAULT, f'{start}: boxes reach {last.reached:.0%} of the ground truths, but the score of the '
                      f'right class is {last.score or 0:.2f} on average')


RULES: list[Callable[[Measurements], Iterator[Verdict]]] = [
    _labels, mask_verdicts, _data, _stopped, _inputs, _weights, _moved, _augmented, _learning_rate, _trained]


def best_of(hypotheses: Sequence[Hypothesis]) -> Hypothesis | None:
    """Return the hypothesis that fits best."""
    return max(hypotheses, key=lambda one: one.fit, default=None)


def _numbers(values: Sequence[float]) -> str:
    return '(' + ', '.join(f'{value:.4g}' for value in values) + ')'
