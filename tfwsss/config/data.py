"""The section `data`: where photos, tags and masks are, in one of four formats."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from tfwsss.config.section import Fraction, Section, Seed
from tfwsss.config.text import ClassName, PathText, UserPath


class DataSection(Section):
    classes: tuple[ClassName, ...] | None = Field(None, description="class names to use, in order; others become ignore in masks and are dropped from tags. None: all of the data set")
    max_megapixels: PositiveFloat = Field(50.0, description="photos whose header announces more are refused before decoding")
    untagged: Literal["leave_out", "background"] = Field("leave_out", description="training photos without a tag: left out as in PSA, or background: they show none of the classes, and the classifier learns from that")
    max_bad_fraction: Fraction = Field(0.5, description="a run stops before training when more than this part of the training photos is quarantined")


class VocData(DataSection):
    """PASCAL VOC devkit layout: JPEGImages/, ImageSets/Segmentation/*.txt, Annotations/ and mask folders."""

    format: Literal["voc"]
    root: UserPath = Field(description="folder that holds JPEGImages/ (VOCdevkit/VOC2012)")
    train_list: PathText = Field("train", description="ImageSets/Segmentation/<name>.txt, or a path to a list of ids or of PSA lines")
    val_list: PathText | None = Field("val", description="as train_list; None: no evaluation images")
    tags: Literal["xml"] | UserPath = Field("xml", description="'xml': Annotations/*.xml; else a cls_labels.npy or a CSV (image,tags), relative to root")
    mask_folder: PathText | None = Field("SegmentationClass", description="indexed masks, for scoring only; None or absent: no scores")
    train_mask_list: PathText | None = Field(None, description="as train_list: the training photos whose masks in mask_folder count in scores; None: all that have one")
    strong_masks: PathText | None = Field(None, description="folder of indexed masks, relative to root, that training may learn from, see segmenter.labels; None: there are none")


class CocoData(DataSection):
    """COCO: an instances JSON and an image folder per split; tags are the categories that occur."""

    format: Literal["coco"]
    train_json: UserPath
    train_images: UserPath
    val_json: UserPath | None = None
    val_images: UserPath | None = None
    strong_masks: UserPath | None = Field(None, description="instances file whose shapes training may learn from, see segmenter.labels, often train_json itself; None: there are none")


class FolderData(DataSection):
    """A folder of photos and a CSV `image,tags` with `|` between tags; any file names, nested folders."""

    format: Literal["folder"]
    root: UserPath
    train_csv: PathText = Field("tags.csv", description="relative to root; image paths in it are relative to root")
    val_csv: PathText | None = Field(None, description="as train_csv; None: no evaluation images")
    val_fraction: Fraction = Field(0.0, description="without val_csv: this part of train_csv is held out, chosen by the hash of the image path")
    mask_folder: PathText | None = Field(None, description="indexed PNG masks <image path without suffix>.png, for scoring only")
    strong_masks: PathText | None = Field(None, description="folder of such masks, relative to root, that training may learn from, see segmenter.labels; None: there are none")


class ScenesData(DataSection):
    """Generated scenes with exact masks, written below the work directory; deterministic by seed."""

    format: Literal["scenes"]
    train_images: PositiveInt = 300
    val_images: PositiveInt = 100
    size: PositiveInt = Field(128, description="pixels of the long side; the other side varies")
    empty_fraction: Fraction = Field(0.0, description="part of the scenes that show no object of any class; see untagged")
    strong_masks: Literal["exact"] | None = Field(None, description="exact: training may learn from the masks the scenes were drawn with, see segmenter.labels")
    seed: Seed = 0


Data = Annotated[VocData | CocoData | FolderData | ScenesData, Field(discriminator="format")]
