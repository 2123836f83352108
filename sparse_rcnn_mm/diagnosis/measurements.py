"""The doctor's measurements as plain numbers. `verdict` reads nothing else."""
from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Data:
    """The images and boxes that training would use.

    Attributes:
        classes: the number of boxes of each class.
        num_classes: the number of classes of the model's classifier.
        warnings: the number of findings of each kind from an inspection of the data.
    """
    images: int
    boxes: int
    without_boxes: int
    classes: dict[str, int]
    num_classes: int
    warnings: dict[str, int] = field(default_factory=dict)


@dataclass
class Hypothesis:
    """How well the boxes fit what they are compared with, either unchanged or changed in one way."""
    name: str
    fit: float


@dataclass
class Labels:
    """Boxes and classes, compared with a source that is independent of the labels.

    Attributes:
        by: 'detections' of the given weights, 'edges' of the images, or '' if neither is conclusive.
        boxes: the number of compared boxes.
        hypotheses: the first is "as they are". The fit is the share of boxes on a detection (IoU 0.5), or the contrast
            under the borders of the boxes, where 1 is the mean of the image.
        decided: the hypothesis that is clearly right; None if there is none.
        shift: the offset of the labels in pixels (right, down) under the hypothesis 'shifted'.
        beyond: share of boxes that extend beyond their image, unchanged and with x and y swapped.
        same_class: of the boxes on a detection, the share with the class of the detection; None if unknown.
        class_step: how many classes too high most of the other labels are; 0 for none.
        confused: class -> the class that the weights see in most of its boxes, if that is another class.
    """
    by: str = ''
    boxes: int = 0
    hypotheses: list[Hypothesis] = field(default_factory=list)
    decided: str | None = None
    shift: tuple[int, int] = (0, 0)
    beyond: tuple[float, float] = (0., 0.)
    same_class: float | None = None
    class_step: int = 0
    confused: dict[str, str] = field(default_factory=dict)


@dataclass
class Masks:
    """The masks of some images, compared with their boxes.

    Attributes:
        boxes: the number of boxes, with a mask or without.
        masks: the number of masks.
        hypotheses: the first is "as they are". The fit is the mean IoU of the box of a mask with the box of its object.
        decided: the hypothesis that is clearly right; None if there is none.
        shift: the offset of the masks in pixels (right, down) under the hypothesis 'shifted'.
        elsewhere: masks that are not in the place of their box (IoU below 0.5), of which
        of_another: are in the place of another box of the image, and
        empty: cover no pixel.
        whole: masks that fill their box.
        broken, first_broken: segmentations that cannot be decoded, and a clause about the first.
    """
    boxes: int
    masks: int = 0
    hypotheses: list[Hypothesis] = field(default_factory=list)
    decided: str | None = None
    shift: tuple[int, int] = (0, 0)
    elsewhere: int = 0
    of_another: int = 0
    empty: int = 0
    whole: int = 0
    broken: int = 0
    first_broken: str = ''


@dataclass
class Augmented:
    """Boxes of the chosen images before and after the training pipeline, and masks if it loads them.

    A mask without a pixel is not counted.
    """
    images: int
    before: int
    after: int
    masks_before: int | None = None
    masks_after: int | None = None

    def words(self) -> str:
        """The numbers in words."""
        masks = '' if self.masks_before is None else f'; {self.masks_before} masks before, {self.masks_after} after'
        return f'{self.before} boxes before, {self.after} after{masks}'


@dataclass
class Normalization:
    """How pixels become the network's input. `order` is the channel order when `mean` and `std` are applied."""
    mean: list[float]
    std: list[float]
    order: str


@dataclass
class Inputs:
    """The network's input.

    Attributes:
        used: the config's normalization.
        wanted: the normalization of the weights that training starts from; None if they do not say.
        wanted_by: the source of `wanted`.
        mean, std: of the normalized pixels of the chosen images, for each channel.
        distances: for each normalization, how far the input of the first batch norm is from its trained statistics;
            0 means equal. Empty if there are no trained statistics.
    """
    used: Normalization
    wanted: Normalization | None
    wanted_by: str
    mean: list[float]
    std: list[float]
    distances: dict[str, float] = field(default_factory=dict)


@dataclass
class Part:
    """The parameters and statistics of one part of the model, as counts of tensors.

    Attributes:
        tensors: parameters, without the statistics of batch norms.
        loaded: loaded from a checkpoint.
        reshaped: in the checkpoint, but with another shape.
        frozen: without gradients.
        frozen_at_random: frozen, and neither loaded nor pretrained.
        moved: changed by the training on the chosen images.
    """
    name: str
    tensors: int
    loaded: int = 0
    reshaped: int = 0
    frozen: int = 0
    frozen_at_random: int = 0
    moved: int = 0


@dataclass
class Weights:
    """Where training starts.

    Attributes:
        source: the checkpoint; '' for none.
        pretrained: the checkpoint of the backbone, if the config names one and no other is loaded; '' for none.
        unknown: tensors of the checkpoint that the model lacks.
        their_classes, our_classes: numbers of classes, if the classifier has another shape in the checkpoint.
        other_names: (theirs, ours), if the classifier was loaded, but its class names differ from the data's.
        random_statistics: the number of batch norms that use running statistics that were never set.
    """
    source: str
    pretrained: str
    parts: list[Part]
    unknown: int = 0
    their_classes: int | None = None
    our_classes: int = 0
    other_names: tuple[str, str] | None = None
    random_statistics: int = 0


@dataclass
class Probe:
    """A short training at `factor` times the learning rate: mean loss at the start and the end, NaN if it diverged."""
    factor: float
    first: float
    last: float


@dataclass
class LearningRate:
    """The learning rate, compared with the batch size and the schedule.

    Attributes:
        lr: the optimizer's learning rate, for steps of `images` images.
        base_images: the images per step that the config states the rate for; None if it does not say.
        warmup, iterations: of the whole training.
        epochs: how often the whole training sees each image.
        optimizer: its name.
        usual: the rate that the initial weights were trained with, for the same number of images per step; None if
            unknown. With only a pretrained backbone, the paper's rate.
        probes: short trainings at other rates, if the chosen images were not learned.
    """
    lr: float
    images: int
    base_images: int | None
    warmup: int
    iterations: int
    epochs: float
    optimizer: str
    usual: float | None = None
    probes: list[Probe] = field(default_factory=list)


@dataclass
class Stage:
    """One stage on the chosen images. Stage 0 is the initial proposals, which have only boxes.

    Attributes:
        reached: share of the ground truths that any box covers with IoU 0.5.
        cost: mean matching cost of the matched proposals.
        iou: their mean IoU with their ground truths.
        score: their mean score of the right class.
    """
    reached: float
    cost: float | None = None
    iou: float | None = None
    score: float | None = None


@dataclass
class Overfit:
    """Training on the chosen images only.

    Attributes:
        losses: the loss of every iteration.
        ap: (iteration, AP, AP50) on the chosen images, with the test pipeline.
        mask_ap: the same as `ap` for masks. Empty for a model without masks.
        seconds: time of the training, without the evaluations.
        limit: why it ended: 'learned', 'iterations', 'time', 'stuck' (the loss does not fall) or 'broken'.
        broken: what failed, as a clause.
        step: median over the weight matrices of the change in one step, relative to the norm before training. None
            before the first step.
        before, after: the stages before and after.
    """
    images: int
    losses: list[float]
    ap: list[tuple[int, float, float]]
    seconds: float
    limit: str
    broken: str = ''
    step: float | None = None
    before: list[Stage] = field(default_factory=list)
    after: list[Stage] = field(default_factory=list)
    mask_ap: list[tuple[int, float, float]] = field(default_factory=list)

    @property
    def least(self) -> float:
        """The last AP50 of boxes or of masks, whichever is lower. 0 before the first evaluation."""
        return min((several[-1][2] for several in (self.ap, self.mask_ap) if several), default=0.)


@dataclass
class Trained:
    """Results of an earlier training: (AP, AP50) on some of its own training images, and on validation images.

    `mask_train` is the same for masks on training images; None for a model without masks.
    """
    path: str
    train: tuple[float, float]
    val: tuple[float, float] | None
    mask_train: tuple[float, float] | None = None


@dataclass
class Measurements:
    """All measurements, None for missing ones. `stopped` is a sentence if the examination ended early."""
    name: str
    config: str
    data: Data | None = None
    labels: Labels | None = None
    augmented: Augmented | None = None
    inputs: Inputs | None = None
    weights: Weights | None = None
    learning_rate: LearningRate | None = None
    overfit: Overfit | None = None
    trained: Trained | None = None
    stopped: str = ''
    masks: Masks | None = None
