"""The typed configuration of a whole pipeline: every number of the method has one field here.

Symbols and sections in the descriptions are those of Ahn & Kwak, "Learning Pixel-level Semantic Affinity with
Image-level Supervision", CVPR 2018 (PSA).
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from tfwsss.config.data import Data
from tfwsss.config.networks import IMAGENET_WIDTHS, OUTPUT_STRIDES
from tfwsss.config.section import Fraction, Section, Seed
from tfwsss.config.serving import Serving
from tfwsss.config.text import PathText, UserPath

Fidelity = Literal["faithful", "corrected"]


def _ascending(interval: tuple) -> tuple:
    if interval[0] > interval[1]:
        raise ValueError("expected the smaller number first")
    return interval


def _installed(engine: str) -> str:
    if engine == "pydensecrf" and find_spec(engine) is None:
        raise ValueError("expected numba, as pydensecrf is not installed (pip install pydensecrf2; needs a C++ compiler and Python 3.11 or 3.12)")
    return engine


def _inferring(engine: str) -> str:
    if engine == "onnxruntime" and (missing := [module for module in ("onnxruntime", "tf2onnx") if find_spec(module) is None]):
        raise ValueError(f"expected auto or tensorflow, as {' and '.join(missing)} is not installed")
    return engine


Integers = Annotated[tuple[PositiveInt, PositiveInt], AfterValidator(_ascending)]
Floats = Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_ascending)]
PhotoSide = Annotated[int, Field(ge=16, le=8192)]
Scales = Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]


# ------------------------------------------------------------------------------------------------- training


# All there are: `tfwsss.models` imports the module of each, of the same name unless it says otherwise.
Backbone = Literal["resnet38", "vgg16", "resnet50", "resnet50v15", "resnet50irn", "mobilenet", "mobilenetv2", "efficientnetlite0", "efficientnetlite2"]


class Model(Section):
    backbone: Backbone = "resnet38"
    width: PositiveFloat = Field(1.0, description="channel multiplier of the backbone (alpha of the mobilenets)")
    output_stride: Literal[8, 16, 32] = 8
    batch_norm: Literal["frozen", "train"] = Field("frozen", description="frozen: running statistics and fixed gamma/beta as in PSA; train: for training from scratch")
    freeze: bool = Field(True, description="keep the first blocks fixed as PSA does; False for training from scratch")
    weights: PathText | None = Field(None, description="start weights: 'imagenet', a file, 'classifier' (the classifier stage's result) or None for random")

    @model_validator(mode="after")
    def _to_be_had(self):
        strides = OUTPUT_STRIDES[self.backbone]
        if self.output_stride not in strides:
            raise ValueError(f"output_stride: found {self.output_stride}, expected {' or '.join(map(str, strides))} for {self.backbone}")
        if self.weights == "imagenet" and self.width not in IMAGENET_WIDTHS.get(self.backbone, ()):
            there = ", ".join(f"{name} (width {', '.join(map(str, widths))})" for name, widths in IMAGENET_WIDTHS.items())
            raise ValueError(f"weights: 'imagenet' is not known for {self.backbone} of width {self.width:g}; give a file, or take one of {there}")
        return self


class Optimizer(Section):
    name: Literal["sgd", "adam"] = "sgd"
    learning_rate: PositiveFloat = 0.01
    head_multiplier: PositiveFloat = Field(10.0, description="learning-rate factor of layers trained from scratch")
    bias_multiplier: PositiveFloat = Field(2.0, description="learning-rate factor of biases, on top of head_multiplier")
    weight_decay: float = Field(5e-4, ge=0, description="decay of kernels")
    decay: Literal["coupled", "decoupled"] = Field("coupled", description="coupled: L2 in the gradient, as in PSA; decoupled: the weights shrink by rate * weight_decay beside the step (SGDW, AdamW)")
    poly_power: float = Field(0.9, ge=0, description="learning rate falls as (1 - step/max_step)**poly_power")
    clip_norm: PositiveFloat | None = Field(None, description="global gradient norm limit")


class Augmentation(Section):
    """Optional changes of the training photos; all are off by default, as PSA has none of them."""

    rotate: float = Field(0.0, ge=0, le=180, description="degrees: the crop is turned by an angle uniform in +-rotate")
    shear: float = Field(0.0, ge=0, le=1, description="the crop is sheared by a factor (columns per row) uniform in +-shear")
    sharpness: float = Field(0.0, ge=0, le=1, description="sharpness is changed by a factor uniform in 1 +- sharpness: 0 smoothed, 1 as it is, 2 sharpened")
    cutout: float = Field(0.0, ge=0, lt=1, description="side of a square of mean colour at a random place of the crop, as a part of the crop's side")


class Training(Section):
    model: Model = Model()
    optimizer: Optimizer = Optimizer()
    epochs: NonNegativeInt = Field(15, description="0: take the start weights as they are, for instance the authors' trained ones")
    batch_size: PositiveInt = 16
    crop: Annotated[int, Field(ge=32)] = Field(448, description="side of the square training crop, pixels; 32 at least, as for photos")
    color_jitter: bool = Field(True, description="brightness, contrast, saturation 0.3, hue 0.1")
    augmentation: Augmentation = Augmentation()
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    xla: bool = Field(False, description="compile the training step with XLA")

    @model_validator(mode="after")
    def _trained_somewhere(self):
        if self.epochs == 0 and self.model.weights in (None, "imagenet", "classifier"):
            raise ValueError(f"epochs: 0 needs the file of a trained network as model.weights, found {self.model.weights!r}")
        return self


class Classifier(Training):
    resize_long: Integers = Field((256, 512), description="long side drawn uniformly from this closed interval")
    scale_range: Floats | None = Field(None, description="in place of resize_long: random scale of the photo, as the segmenter's, for photos whose pixels have one size on the object (a fixed camera, a microscope); write cams.scales to match")
    depth: Literal["deep", "middle", "shallow"] = Field("deep", description="which of the backbone's three maps the class maps are made of; what is behind it is left out. middle and shallow see less around a cell, for defects of a few pixels")
    pooling: Literal["average", "log_sum_exp"] = Field("average", description="how a class map becomes the class's logit: its mean, or a soft maximum, which small objects need")
    sharpness: PositiveFloat = Field(4.0, description="of log_sum_exp: near 0 the mean, large the maximum")

    @model_validator(mode="after")
    def _sharpness_is_used(self):
        if self.pooling == "average" and self.sharpness != type(self).model_fields["sharpness"].default:
            raise ValueError(f"sharpness: {self.sharpness:g} changes nothing where pooling is average; expected pooling: log_sum_exp beside it")
        return self


class AffinityNet(Training):
    epochs: NonNegativeInt = 8
    batch_size: PositiveInt = 8
    radius: Annotated[int, Field(ge=2)] = Field(5, description="gamma: pairs closer than this many grid cells")
    labels: Literal["pseudo", "masks"] = Field("pseudo", description="what is learnt: pseudo: the confident labels of the stage affinity_labels, and of photos with a mask in data.strong_masks the mask; masks: those masks alone, the upper bound of the walk")
    label_source: Literal["scores", "labels"] = Field("labels", description="scores: block means of the CRF scores as the reference does; labels: majority of the label PNG in each grid cell")
    strong_weight: PositiveFloat = Field(1.0, description="how much a photo counts whose label is a mask of data.strong_masks, beside one with confident labels, which counts 1")
    crops_per_image: PositiveInt = Field(1, description="crops of each photo in one epoch")

    @model_validator(mode="after")
    def _crop_fits_grid(self):
        smallest = 8 * (2 * self.radius - 1)  # below it no grid cell has all its pairs inside the crop
        if self.crop % 8 or self.crop < smallest:
            raise ValueError(f"crop: expected a multiple of 8 and at least {smallest} for radius {self.radius}, found {self.crop}")
        return self

    @model_validator(mode="after")
    def _one_kind_of_label(self):
        if self.labels == "masks" and self.label_source == "scores":
            raise ValueError("label_source: scores are the CRF's, which labels: masks does without; expected label_source: labels")
        return self


class Segmenter(Training):
    labels: Literal["pseudo", "masks"] = Field("pseudo", description="what is learnt: pseudo: the pseudo labels, and of photos with a mask in data.strong_masks the mask; masks: those masks alone (the fully supervised twin); photos without a mask are left out then, and the stages that make pseudo labels do not run")
    strong_weight: PositiveFloat = Field(1.0, description="how much a photo counts whose label is a mask of data.strong_masks, beside one with a pseudo label, which counts 1")
    head: Literal["auto", "atrous", "deeplabv3plus", "lraspp"] = Field("auto", description="atrous: the two-conv head of ResNet38; lraspp: MobileNetV3's, for phones; auto: atrous for resnet38, deeplabv3plus for the others")
    scale_range: Floats = Field((0.7, 1.3), description="random scale of the photo before cropping")
    loss: Literal["cross_entropy", "ohem", "balanced"] = Field("cross_entropy", description="ohem: over the hard pixels only; balanced: background and foreground averaged apart")
    ema: Annotated[float, Field(ge=0, lt=1)] | None = Field(None, description="decay of an exponential moving average of the weights, which is what is evaluated and exported; null: the last step's weights")


# ---------------------------------------------------------------------------------------- the method's steps


class Cams(Section):
    method: Literal["cam", "layer_cam"] = Field("cam", description="cam: the class maps, as PSA does; layer_cam: what these and the backbone's earlier maps agree on (LayerCAM), finer and more complete; it needs gradients, so the stage runs in TensorFlow")
    long_side: Annotated[int, Field(ge=32)] | None = Field(None, description="pixels of a photo's long side at scale 1; null: its own, as in PSA. For photos of different sizes: about what classifier.resize_long has, so that the classifier sees them as it learnt them")
    scales: Scales = (1.0, 0.5, 1.5, 2.0)
    flip: bool = Field(True, description="also see the photo's mirror image, or where photos have no up (data.orientation) three of them")
    activation: Literal["auto", "relu", "sqrt"] = Field("auto", description="sqrt of the rectified map for vgg16 as PSA does, plain relu otherwise; auto chooses by backbone")
    dtype: Literal["float16", "float32"] = "float16"


class Crf(Section):
    iterations: PositiveInt = 10
    gaussian_sxy: PositiveFloat = 3.0
    gaussian_compat: PositiveFloat = 3.0
    bilateral_sxy: PositiveFloat = 80.0
    bilateral_srgb: PositiveFloat = 13.0
    bilateral_compat: PositiveFloat = 10.0
    engine: Annotated[Literal["numba", "pydensecrf"], AfterValidator(_installed)] = Field("numba", description="numba: ours, compiled on this machine, on all cores / pydensecrf: the reference's library, if installed, on one core; same result")


class LabelCrf(Crf):
    """A dense CRF on a label map: every pixel votes for its label with the given confidence, as IRN does."""

    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.9
    bilateral_sxy: PositiveFloat = 50.0
    bilateral_srgb: PositiveFloat = 5.0


class FixedAlphas(Section):
    """Background exponents: the background score of a pixel is (1 - max_c cam_c)**alpha."""

    low: PositiveFloat = Field(description="strong background: what stays foreground is confident")
    high: PositiveFloat = Field(description="weak background: what stays background is confident")
    walk: PositiveFloat = Field(description="background channel of the random walk")

    @model_validator(mode="after")
    def _ordered(self):
        if not self.low <= self.walk <= self.high:
            raise ValueError("expected low <= walk <= high")
        return self


NAMED_ALPHAS = {
    "psa-released": FixedAlphas(low=4, high=32, walk=16),
    "psa-cvpr": FixedAlphas(low=4, high=24, walk=16),
}


class AffinityLabels(Section):
    alphas: Literal["auto", "psa-released", "psa-cvpr"] | FixedAlphas = Field("auto", description="auto: derived from the CAMs without masks (tfwsss.cam.choose_alphas)")
    shares: dict[str, Annotated[float, Field(gt=0, lt=1)]] | None = Field(None, description="{class: part of a photo's pixels, 0..1, that it usually covers}, within a factor of two, for classes whose size is known: each one's maps are raised to an exponent, so that one threshold serves small and large classes")
    crf: Crf = Crf()


class PseudoLabels(Section):
    source: Literal["auto", "walk", "confident"] = Field("auto", description="what the segmenter learns: walk: the walked maps, as PSA does; confident: the labels of affinity_labels, unsure pixels ignored, for objects of a few pixels, which a walk on cells of 8 pixels loses (it is made all the same, for the label audit); auto: the walk's where at least half of the tags are still in them, mean over the classes, else the confident ones; with switches.label_tags faithful always the walk's")
    beta: PositiveFloat = Field(8.0, description="beta: exponent of the affinities")
    steps: PositiveInt = Field(256, description="t: steps of the random walk")
    method: Literal["dense", "sparse", "chebyshev"] = "chebyshev"
    tolerance: PositiveFloat = Field(1e-5, description="chebyshev: bound of the truncation error")
    more_alphas: tuple[PositiveFloat, ...] = Field((1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0, 11.0, 16.0, 23.0, 32.0), description="background exponents whose walk is kept too, for the evaluation's curve")
    crf: LabelCrf | None = Field(LabelCrf(), description="dense CRF on the walked labels; null: none, as in the PSA reference code")
    smallest_share: Fraction = Field(0.01, description="a tagged class with a smaller part of a label's pixels has vanished from it, see switches.label_tags")


class Evaluate(Section):
    scales: Scales = (0.75, 1.0, 1.25)
    flip: bool = True
    crf: Crf | None = Crf()
    cams: bool = Field(False, description="score CAMs and random walk on the evaluation photos too, with the tags of switches.val_tags")


class Export(Section):
    version: PositiveInt = Field(1, description="folder of the SavedModel below export/saved_model; earlier versions stay beside it")
    warmup_photos: NonNegativeInt = Field(2, description="evaluation (or training) photos kept in the SavedModel as requests that TensorFlow Serving runs while loading")
    precisions: tuple[Literal["fp32", "fp16", "int8"], ...] = Field(("fp32",), description="ONNX variants: model.onnx (fp32), model.fp16.onnx, model.int8.onnx")
    tflite: tuple[PhotoSide, PhotoSide] | None = Field(None, description="height and width in pixels of the photos that model.tflite (LiteRT) takes; null: no such file")
    outputs: Annotated[tuple[Literal["mask", "scores"], ...], Field(min_length=1)] = Field(("mask",), description="of the ONNX files; scores are class probabilities, num_classes + 1 numbers a pixel")
    opset: Annotated[int, Field(ge=13, le=18)] = Field(17, description="ONNX operator set")
    scales: Scales = Field((1.0,), description="test-time scales inside the exported graph")
    flip: bool = Field(False, description="test-time mirroring inside the exported graph")
    calibration: Literal["minmax", "entropy", "percentile"] = Field("minmax", description="how int8 ranges follow from the calibration photos")
    calibration_images: PositiveInt = Field(32, description="training photos that fix the int8 ranges and the rounding of the weights")
    rounding: Literal["feedback", "nearest"] = Field("feedback", description="int8 weights: such that a layer's outputs on the calibration photos move least (LDLQ, GPTQ), or each to its nearest")
    parity_photos: PositiveInt = Field(8, description="evaluation (or training) photos on which every artefact must agree with Keras, besides the generated ones")
    miou_budget: Fraction = Field(0.01, description="mIoU that fp16 and int8 may lose on the evaluation photos")
    registered_model: Annotated[str, Field(pattern=r"^[^/:]+$")] | None = Field(None, description="name in MLflow's model registry for model.onnx; null: not registered")
    champion_miou: Fraction = Field(0.0, description="mIoU of model.onnx on the evaluation photos that the alias champion needs, besides that of the present champion")
    licence: str = "unspecified"

    @model_validator(mode="after")
    def _with_reference(self):
        if "fp32" not in self.precisions:
            raise ValueError("fp32 must be among the precisions: the others are checked against it")
        for name in ("precisions", "outputs"):
            if len(set(getattr(self, name))) != len(getattr(self, name)):
                raise ValueError(f"{name}: found an entry twice in {list(getattr(self, name))}")
        return self


class Report(Section):
    images: NonNegativeInt = Field(12, description="number of training and of evaluation images shown")
    photos_to_tracking: bool = Field(True, description="False: nothing that shows a photo is sent to MLflow; the report and warm-up requests stay in the work directory")


class Switches(Section):
    """Where the reference is defective or odd: 'faithful' repeats it, 'corrected' does what was meant.

    They concern what the reference code does, so not the segmenter, which it has not: that is trained as `corrected`.
    """

    momentum: Fidelity = Field("corrected", description="SGD momentum: 5e-4 by accident / 0.9")
    border_pairs: Fidelity = Field("corrected", description="random walk: border pairs dropped / all pairs")
    crop_canvas: Fidelity = Field("corrected", description="AffinityNet crops outside the photo: black / mean colour")
    val_tags: Fidelity = Field("corrected", description="CAMs of evaluation images: with their true tags / with those the classifier predicts")
    dropout: Fidelity = Field("corrected", description="resnet38 bottlenecks: whole channels before the last two convs / elementwise before the last conv")
    resize_filter: Fidelity = Field("corrected", description="photo resizing: PIL bicubic, which overshoots / PIL bilinear, both antialiased")
    crf_scores: Fidelity = Field("corrected", description="scores given to the CRF: as they are / normalised to sum 1")
    label_tags: Fidelity = Field("corrected", description="labels from which a tagged class has vanished: used as they are / made anew of normalised maps, or left out; 255 where both labels differ")
    affinity_width: Literal["released", "paper"] = Field("released", description="AffinityNet features: 448 channels as released / 896 as in the paper")


class Runtime(Section):
    """How, not what: nothing here changes a result by more than rounding, so it is not part of any fingerprint."""

    workers: int = Field(0, ge=0, description="threads that read photos, and as many that refine and write labels; processes for image checks; 0: one per core")
    photo_batch: int = Field(0, ge=0, description="photos of one size that go to a device together when labels are made; 0: 8 on a GPU, 1 on a processor")
    inference: Annotated[Literal["auto", "tensorflow", "onnxruntime"], AfterValidator(_inferring)] = Field("auto", description="what runs the trained networks on photos; onnxruntime: on the processor, where it is faster, results equal within 2e-5; auto: that, and TensorFlow where there is a GPU")
    executor: Literal["local", "ray"] = Field("local", description="who does the work photo by photo: threads of this process, or processes of a Ray cluster, see docs/scale.md")
    ray_address: str | None = Field(None, description="of the cluster's head, such as 10.0.0.1:6379, or auto on one of its machines; null: a cluster of this machine's cores, from the stage's start to its end")
    cpus_per_actor: int = Field(0, ge=0, description="cores of a Ray process without a GPU; 0: all of its machine")
    strategy: Literal["single", "mirrored"] = Field("single", description="mirrored: all local GPUs")
    progress: bool = True


class Config(Section):
    name: str = Field("tfwsss", description="MLflow experiment")
    seed: Seed = 0
    work_dir: UserPath = Path("runs/tfwsss")
    data: Data
    classifier: Classifier = Classifier()
    cams: Cams = Cams()
    affinity_labels: AffinityLabels = AffinityLabels()
    affinitynet: AffinityNet = AffinityNet()
    pseudo_labels: PseudoLabels = PseudoLabels()
    segmenter: Segmenter = Segmenter()
    evaluate: Evaluate = Evaluate()
    export: Export = Export()
    serving: Serving = Serving()
    report: Report = Report()
    switches: Switches = Switches()
    runtime: Runtime = Runtime()

    @model_validator(mode="after")
    def _masks_to_learn_from(self):
        for name in ("affinitynet", "segmenter"):
            if getattr(self, name).labels == "masks" and self.data.strong_masks is None:
                raise ValueError(f"{name}.labels: masks needs data.strong_masks, which names the masks that training may learn from")
        return self

    @model_validator(mode="after")
    def _no_larger_than_learnt(self):
        if self.data.long_side is not None and self.export.tflite is not None and max(self.export.tflite) > self.data.long_side:
            raise ValueError(f"export.tflite: found {list(self.export.tflite)}, expected sides of at most data.long_side, {self.data.long_side}: the network learns no larger photos")
        return self

    @model_validator(mode="after")
    def _maps_to_agree_on(self):
        if self.cams.method == "layer_cam" and self.classifier.depth == "shallow":
            raise ValueError("cams.method: layer_cam needs a map in front of the class maps; expected classifier.depth deep or middle, found shallow")
        return self

    @model_validator(mode="after")
    def _whole_classifier_to_start_from(self):
        for name in ("affinitynet", "segmenter"):
            if self.classifier.depth != "deep" and getattr(self, name).model.weights == "classifier":
                raise ValueError(f"{name}.model.weights: the classifier ends at its {self.classifier.depth} map (classifier.depth) and lacks the layers behind it; give imagenet or a file")
        return self
