"""The words for numbers: each planted fault is named, and nothing else."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sparse_rcnn_mm.diagnosis.measurements import (
    Augmented,
    Data,
    Hypothesis,
    Inputs,
    Labels,
    LearningRate,
    Measurements,
    Normalization,
    Overfit,
    Part,
    Probe,
    Stage,
    Trained,
    Weights,
)
from sparse_rcnn_mm.diagnosis.normalization import IMAGENET
from sparse_rcnn_mm.diagnosis.verdict import FAULT, NOTE, WARNING, conclusion, verdicts

LEARNED = Overfit(8, [20., 3., 1.], [(90, 0.2, 0.6), (180, 0.83, 1.0)], 60., 'learned',
                  before=[Stage(0.), Stage(0.1, 3., 0.2, 0.01)], after=[Stage(0.), Stage(1., 0.1, 0.9, 0.9)])
NOT_LEARNED = Overfit(8, [10.] * 300, [(300, 0., 0.)], 100., 'stuck',
                      after=[Stage(0.), Stage(0.1, 3., 0.2, 0.01)])


def parts(**settings: int) -> list[Part]:
    return [Part(name, 10, **{'moved': 10, **settings}) for name in ('backbone', 'neck', 'stage 1', 'classifier')]


def healthy() -> Measurements:
    """Everything as it should be."""
    return Measurements(
        'photos', 'config.py',
        Data(100, 200, 0, {'cat': 100, 'dog': 100}, 2),
        Labels('detections', 60, [Hypothesis('as they are', 0.9), Hypothesis('swapped', 0.1)], 'as they are',
               same_class=0.95),
        Augmented(8, 20, 20),
        Inputs(IMAGENET, IMAGENET, 'weights.pth', [0.1, 0., -0.2], [1., 1.1, 0.9], {'as configured': 0.1}),
        Weights('weights.pth', '', parts(loaded=10), our_classes=2),
        LearningRate(2.5e-5, 16, 16, 100, 8000, 100., 'AdamW'),
        LEARNED)


def faults(found: Measurements) -> list[str]:
    return [str(one) for one in verdicts(found) if one.kind == FAULT]


def test_all_is_well() -> None:
    assert verdicts(healthy()) == []
    assert conclusion(healthy()) == 'all is well: 1.00 AP50 (0.83 AP) on 8 images in 180 iterations'


def test_shifted_boxes() -> None:
    labels = Labels('detections', 60, [Hypothesis('as they are', 0.05), Hypothesis('shifted', 0.92)], 'shifted',
                    (30, 20), same_class=0.9)
    found = replace(healthy(), labels=labels)
    assert conclusion(found) == ('labels are shifted by 30 px right and 20 px down: 5% of 60 boxes lie on what the '
                                 'weights detect, and 92% when put right')


def test_swapped_axes_by_edges() -> None:
    labels = Labels('edges', 60, [Hypothesis('as they are', 1.2), Hypothesis('swapped', 6.4)], 'swapped')
    found = replace(healthy(), labels=labels)
    assert faults(found) == ['x and y of the labels are swapped: under the borders of the boxes the contrast is 1.2 '
                             'times that of the images, and 6.4 times when they are put right']


def test_swapped_axes_by_boxes_beyond_the_image() -> None:
    found = replace(healthy(), labels=replace(healthy().labels, decided=None, beyond=(0.3, 0.)))
    assert faults(found) == ['x and y of the labels are swapped: 30% of the boxes reach beyond their image as they '
                             'are, and 0% when swapped']


def test_classes_off_by_one() -> None:
    labels = replace(healthy().labels, same_class=0.04, class_step=1, confused={'dog': 'cat', 'emu': 'dog'})
    said, = faults(replace(healthy(), labels=labels))
    assert said.startswith("classes are off by one: the labels are one too high ('dog' looks like 'cat', 'emu' looks "
                           "like 'dog'); only 4% agree")


def test_classes_in_another_order() -> None:
    labels = replace(healthy().labels, same_class=0.1, confused={'dog': 'cat', 'cat': 'dog'})
    said, = faults(replace(healthy(), labels=labels))
    assert said.startswith("the classes are mixed up: 'dog' looks like 'cat', 'cat' looks like 'dog'; only 10%")


def test_other_mean_and_std_than_the_weights() -> None:
    inputs = replace(healthy().inputs, used=Normalization([0., 0., 0.], [1., 1., 1.], 'RGB'))
    said, = faults(replace(healthy(), inputs=inputs))
    assert said.startswith('mean or std of the images are wrong: mean (0, 0, 0) and std (1, 1, 1), but weights.pth was '
                           'trained with (123.7, 116.3, 103.5) and (58.4, 57.12, 57.38)')


def test_mean_and_std_without_weights() -> None:
    used = Normalization([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], 'RGB')
    inputs = Inputs(used, None, '', [560., 500., 470.], [250., 240., 260.])
    said, = faults(replace(healthy(), inputs=inputs))
    assert said.startswith('mean or std of the images are wrong: normalized pixels have a mean of (560, 500, 470)')


@pytest.mark.parametrize('mean', [2.3, -2.1])
def test_bright_and_dark_images_are_no_fault(mean: float) -> None:
    found = replace(healthy(), inputs=Inputs(IMAGENET, None, '', [mean] * 3, [0.3] * 3))
    assert faults(found) == []


def test_bgr_for_rgb() -> None:
    used = replace(IMAGENET, order='BGR')
    said, = faults(replace(healthy(), inputs=replace(healthy().inputs, used=used)))
    assert said.startswith('the images reach the network as BGR, but weights.pth was trained with RGB')


def test_bgr_for_rgb_by_batch_norm() -> None:
    inputs = replace(healthy().inputs, wanted=None, distances={'as configured': 0.9, 'channels swapped': 0.1})
    said, = faults(replace(healthy(), inputs=inputs))
    assert said.startswith('the channels reach the network in the wrong order (BGR for RGB, or the reverse)')


def probes(*last: float) -> list[Probe]:
    return [Probe(factor, 30., loss) for factor, loss in zip((0.01, 0.1, 1., 10., 100.), last, strict=True)]


@pytest.mark.parametrize(('lr', 'last', 'words'), [
    (0.1, (7.2, 8.3, 10.6, 20., float('nan')), 'about 100 times too large: with 0.1 the loss is 10.0 after 300'),
    (1e-5, (50., 50., 40., 16., 7.2), 'about 100 times too small: with 1e-05 the loss is 10.0 after 300'),
])
def test_a_learning_rate_far_off(lr: float, last: tuple[float, ...], words: str) -> None:
    rate = LearningRate(lr, 4, 4, 10, 1500, 100., 'AdamW', None, probes(*last))
    said, = faults(replace(healthy(), learning_rate=rate, overfit=NOT_LEARNED))
    assert words in said


@pytest.mark.parametrize(('reached', 'told'), [(500, True), (90, False)])
def test_a_rate_at_which_it_takes_many_times_as_long(reached: int, told: bool) -> None:
    """The long training ends below the short one, and falls to its loss after `reached` iterations instead of 30."""
    rate = LearningRate(1e-5, 4, 4, 10, 1500, 100., 'AdamW', None, probes(52., 52., 43., 17., 8.1))
    losses = [*np.linspace(53., 8.1, reached), *[7.] * (600 - reached)]
    slow = replace(NOT_LEARNED, losses=losses, limit='iterations')
    said = faults(replace(healthy(), learning_rate=rate, overfit=slow))
    assert told == any('about 100 times too small: with 1e-05 the loss is 7.0 after 600 iterations, and with 0.001 it '
                       'is 8.1 after 30' in one for one in said)


def test_a_step_that_replaces_the_weights() -> None:
    rate = LearningRate(0.1, 4, 4, 300, 1500, 100., 'AdamW')
    said, = faults(replace(healthy(), learning_rate=rate, overfit=replace(NOT_LEARNED, step=0.6)))
    assert said == ('the learning rate is about 100 times too large: with 0.1 one step changes the weights by 60% of '
                    'their size, where 0.1% to 1% is healthy: set optim_wrapper.optimizer.lr to about 0.001')
    assert faults(replace(healthy(), learning_rate=rate, overfit=replace(LEARNED, step=0.06))) == []


def test_a_training_that_breaks() -> None:
    rate = LearningRate(1., 4, 4, 10, 1500, 100., 'SGD', None, probes(7.2, 12., *[float('nan')] * 3))
    broken = Overfit(8, [20., 1e9], [], 5., 'broken', 'the loss is not finite')
    said, = faults(replace(healthy(), learning_rate=rate, overfit=broken))
    assert said.startswith('the learning rate is about 100 times too large: with 1 training breaks after 2 iterations')


def test_a_rate_that_is_not_to_blame() -> None:
    """Not learned for another reason: the long training got further than any short one."""
    rate = LearningRate(1e-3, 4, 4, 10, 1500, 100., 'AdamW', None, probes(40., 16., 13., 11., 20.))
    said, = faults(replace(healthy(), learning_rate=rate, overfit=NOT_LEARNED))
    assert said == ('8 images were not learned in 300 iterations (0.00 AP50): boxes of the last stage reach 10% of the '
                    'ground truths')


def test_a_rate_for_another_batch() -> None:
    said, = faults(replace(healthy(), learning_rate=LearningRate(2.5e-5, 2, 16, 1000, 270000, 540., 'AdamW')))
    assert said == ('the learning rate is 8 times too high for 2 images a step: 2.5e-05 is for 16: train with '
                    '--auto-scale-lr')


@pytest.mark.parametrize(('lr', 'word'), [(2.5e-3, 'large'), (2.5e-7, 'small')])
def test_the_rate_of_the_weights_where_there_was_no_time_to_measure(lr: float, word: str) -> None:
    short = Overfit(8, [20.] * 5, [(5, 0., 0.)], 300., 'time')
    rate = LearningRate(lr, 16, 16, 100, 8000, 100., 'AdamW', 2.5e-5)
    said, = faults(replace(healthy(), learning_rate=rate, overfit=short))
    assert faults(replace(healthy(), learning_rate=replace(rate, usual=None), overfit=short)) == []
    assert said.startswith(f'the learning rate is about 100 times too {word}: {lr:g} for 16 images a step')


def test_a_warmup_that_is_longer_than_training() -> None:
    said, = faults(replace(healthy(), learning_rate=LearningRate(2.5e-5, 16, 16, 1000, 400, 10., 'AdamW')))
    assert said.startswith('the warm-up takes 1000 of the 400 iterations')


def test_no_weights_where_layers_are_frozen() -> None:
    weights = Weights('', '', [Part('backbone', 10, frozen=4, frozen_at_random=2, moved=6), *parts()[1:]],
                      random_statistics=20)
    said, = faults(replace(healthy(), weights=weights))
    assert said.startswith('no weights were loaded where the config builds on them: 2 layers of the backbone are '
                           'frozen at random numbers, and 20 batch norms use statistics that were never measured')


def test_no_weights_where_all_is_trained_is_a_note() -> None:
    inputs = replace(healthy().inputs, wanted=None)
    said, = verdicts(replace(healthy(), weights=Weights('', '', parts()), inputs=inputs))
    assert (said.kind, said.sentence) == (NOTE, 'no weights were loaded: all parts start from random numbers')


def test_everything_frozen() -> None:
    found = replace(healthy(), weights=Weights('weights.pth', '', parts(loaded=10, frozen=10)), overfit=None)
    assert faults(found)[0].startswith('everything is frozen: none of the 40 parameters gets a gradient')


def test_nothing_moved() -> None:
    found = replace(healthy(), weights=Weights('weights.pth', '', parts(loaded=10, moved=0)), overfit=NOT_LEARNED)
    assert faults(found)[0].startswith('everything is frozen: no weight changed in 300 iterations')


def test_one_part_that_did_not_move() -> None:
    weights = Weights('weights.pth', '', [*parts(loaded=10)[:3], Part('classifier', 10, loaded=10)])
    assert faults(replace(healthy(), weights=weights)) == [
        'the classifier did not change in 3 iterations: check lr_mult in optim_wrapper.paramwise_cfg']


def test_the_classifier_of_other_classes() -> None:
    weights = Weights('coco.pth', '', [*parts(loaded=10)[:3], Part('classifier', 10, reshaped=10, moved=10)],
                      their_classes=80, our_classes=2)
    said, = verdicts(replace(healthy(), weights=weights))
    assert (said.kind, said.sentence) == (NOTE, 'the classifier was not loaded, as it should be: coco.pth has 80 '
                                          'classes and the data 2')


def test_a_neck_that_was_not_loaded() -> None:
    weights = Weights('coco.pth', '', [Part('backbone', 10, loaded=10, moved=10), Part('neck', 10, reshaped=10,
                                                                                     moved=10)])
    said, = faults(replace(healthy(), weights=weights))
    assert said.startswith('nothing of the neck was loaded from coco.pth: it has another shape there')


def test_mask_heads_that_weights_without_masks_cannot_have() -> None:
    weights = Weights('coco.pth', '', [Part('backbone', 10, loaded=10, moved=10), Part('mask heads', 10, moved=10)])
    said = [one.sentence for one in verdicts(replace(healthy(), weights=weights)) if one.kind == NOTE]
    assert 'nothing of the mask heads was loaded from coco.pth: they start from random numbers' in said
    assert faults(replace(healthy(), weights=weights)) == []


def test_one_class_and_a_model_of_eighty() -> None:
    found = replace(healthy(), data=Data(100, 200, 0, {'raccoon': 200}, 80))
    assert conclusion(found) == ('the model has 80 classes, but the data have 1 class (raccoon): set num_classes = 1, '
                                 'or train with --data FOLDER, which sets it')


def test_empty_labels() -> None:
    found = Measurements('photos', 'config.py', Data(100, 0, 100, {}, 80), stopped='no box can be used')
    assert conclusion(found).startswith('the labels are empty: none of the 100 images has a box')


def test_boxes_that_the_pipeline_drops() -> None:
    said, = faults(replace(healthy(), augmented=Augmented(8, 20, 3)))
    assert said.startswith('the training pipeline drops 17 of 20 boxes')


def test_boxes_that_are_found_but_not_classified() -> None:
    done = replace(NOT_LEARNED, after=[Stage(0.), Stage(0.95, 3., 0.8, 0.04)])
    said, = faults(replace(healthy(), overfit=done))
    assert said.endswith('boxes reach 95% of the ground truths, but the score of the right class is 0.04 on average')


def test_too_short_to_tell() -> None:
    done = Overfit(8, [20., 19.], [(2, 0., 0.)], 300., 'time')
    said, = verdicts(replace(healthy(), overfit=done))
    assert (said.kind, said.sentence) == (WARNING, '2 iterations in 300 s are too few to tell, the loss still falls')
    concluded = conclusion(replace(healthy(), overfit=done))
    assert concluded.startswith('no fault was found, but the images were not learned')


def test_validation_data_that_are_other() -> None:
    said, = verdicts(replace(healthy(), trained=Trained('last.pth', (0.7, 0.95), (0., 0.01))))
    assert said.kind == WARNING
    assert said.sentence == 'last.pth has 0.95 AP50 on some of its own training images, and 0.01 on validation images'


def test_the_sentence_with_which_training_stops() -> None:
    found = Measurements('photos', 'config.py', stopped='there is no such image')
    assert conclusion(found) == 'training does not start: there is no such image'
