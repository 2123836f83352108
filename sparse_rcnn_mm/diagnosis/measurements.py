"""What the doctor measures, as plain numbers; `verdict` reads nothing else."""
from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Data:
    """The images and boxes that training would use.

    Attributes:
        classes: boxes by class.
        num_classes: of the model's classifier.
        warnings: what an inspection of the data found, by kind; counts.
    """
    images: int
    boxes: int
    without_boxes: int
    classes: dict[str, int]
    num_classes: int
    warnings: dict[str, int] = field(default_factory=dict)


@dataclass
class Hypothesis:
    """Boxes as they are, or changed in one way: how well they fit what they are compared with."""
    name: str
    fit: float


@dataclass
class Labels:
    """Boxes and classes against something that does not come from the labels.

    Attributes:
        by: 'detections' of weights that were given, 'edges' of the images, or '' where neither tells anything.
        boxes: that were compared.
        hypotheses: the first is "as they are". The fit is the share of boxes on a detection (IoU 0.5), or the contrast
            under the borders of the boxes, where 1 is the mean of the image.
        decided: the hypothesis that is right beyond doubt; None where none is.
        shift: pixels (right, down) by which labels lie off, of the hypothesis 'shifted'.
        beyond: share of boxes that reach beyond their image, as they are and with x and y swapped.
        same_class: share of the boxes on a detection whose class is that of the detection; None where unknown.
        class_step: labels are this many classes too high in most of the others; 0 for none.
        confused: class -> the class that the weights see in most of its boxes, where that is another.
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
class Augmented:
    """Boxes of the chosen images before and after the training pipeline."""
    images: int
    before: int
    after: int


@dataclass
class Normalization:
    """How pixels become the network's input. `order` is that of the channels when `mean` and `std` are applied."""
    mean: list[float]
    std: list[float]
    order: str


@dataclass
class Inputs:
    """The network's input.

    Attributes:
        used: the config's normalization.
        wanted: that of the weights that training starts from; None where they do not say.
        wanted_by: what says so.
        mean, std: of the normalized pixels of the chosen images, by channel.
        distances: how far the input of the first batch norm is from the statistics that its weights were trained with,
            by way of normalization; empty where there are no trained statistics. 0 is equal.
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
        tensors: parameters; statistics of batch norms do not count.
        loaded: from a checkpoint.
        reshaped: in the checkpoint, but of another shape.
        frozen: do not get gradients.
        frozen_at_random: frozen, and neither loaded nor pretrained.
        moved: changed while the chosen images were learned.
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
        pretrained: the checkpoint of the backbone, where the config names one and no other is loaded; '' for none.
        unknown: tensors of the checkpoint that the model lacks.
        their_classes, our_classes: numbers of classes, where the classifier has another shape in the checkpoint.
        other_names: the classifier was loaded, but its classes have other names than the data's: (theirs, ours).
        random_statistics: batch norms that use running statistics which nothing has ever set.
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
    """A short training at `factor` times the learning rate: mean loss at its start and at its end, NaN if it broke."""
    factor: float
    first: float
    last: float


@dataclass
class LearningRate:
    """The learning rate against the batch and the schedule.

    Attributes:
        lr: of the optimizer, of a step of `images` images.
        base_images: the images a step that the config says it is for; None where it does not say.
        warmup, iterations: of the whole training.
        epochs: how often the whole training sees each image.
        optimizer: its name.
        usual: the rate with which the weights that training starts from were trained, for as many images a step; None
            where that is not known. For a backbone alone, the paper's.
        probes: short trainings at other rates, where the chosen images were not learned.
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
    """One stage on the chosen images; stage 0 are the proposals, which have boxes only.

    Attributes:
        reached: share of the ground truths that any box reaches with IoU 0.5.
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
        losses: of every iteration.
        ap: (iteration, AP, AP50) on the chosen images, by the test pipeline.
        seconds: of training, without the evaluations.
        limit: why it ended: 'learned', 'iterations', 'time', 'stuck' (the loss does not fall) or 'broken'.
        broken: what broke, in a clause.
        step: how much one step changes a weight matrix, as a share of its norm before training; median over them. None
            before a step.
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


@dataclass
class Trained:
    """The weights of an earlier training: (AP, AP50) on some of its own training images, and on validation images."""
    path: str
    train: tuple[float, float]
    val: tuple[float, float] | None


@dataclass
class Measurements:
    """All of them; None for what was not reached. `stopped` is the sentence that ended the examination early."""
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
