"""The section `data`: where photos, tags and masks are. Each format has its section; `Data` is all of them."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from tfwsss.config.section import Fraction, Section, Seed
from tfwsss.config.text import ClassName, PathText, UserPath

Orientation = Literal["upright", "any"]
"""Whether photos have an up: "upright", or "any" for those that show the same sort of thing however they are turned."""


class DataSection(Section):
    classes: tuple[ClassName, ...] | None = Field(None, description="class names to use, in order; others become ignore in masks and are dropped from tags. None: all of the data set")
    merge: dict[ClassName, tuple[ClassName, ...]] = Field({}, description="classes that count as one, after `classes`: {defect: [crack, blowhole]}; in tags and in masks")
    max_megapixels: PositiveFloat = Field(50.0, description="photos whose header announces more are refused before decoding")
    long_side: Annotated[int, Field(ge=64)] | None = Field(None, description="photos with a longer side, and their masks, are made smaller as they are read, and so are those of the deployed model, whose masks are enlarged again; null: all are as large as their files. Crops, walks and networks are made for some 500 pixels")
    orientation: Orientation = Field("upright", description="any: photos have no up (a microscope's, a satellite's, of a surface): every training learns them in all eight positions of quarter turns and mirror images, and with cams.flip the classifier sees each photo in four; upright: they are only mirrored from left to right, as in PSA")
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
    strong_masks: PathText | None = Field(None, description="folder of indexed masks, relative to root, that training learns from, see segmenter.labels; None: there are none")


class CocoData(DataSection):
    """COCO: an instances JSON and an image folder per split; tags are the categories that occur."""

    format: Literal["coco"]
    train_json: UserPath
    train_images: UserPath
    val_json: UserPath | None = None
    val_images: UserPath | None = None
    val_fraction: Fraction = Field(0.0, description="without val_json: this part of train_json is held out, chosen by the hash of the group or file name")
    strong_masks: UserPath | None = Field(None, description="instances file whose shapes training learns from, see segmenter.labels, often train_json itself; None: there are none")


class TaggedData(DataSection):
    """What the formats have in common whose tags stand photo by photo in some file, or in the names of folders."""

    root: UserPath = Field(description="folder of the photos")
    val_fraction: Fraction = Field(0.0, description="without evaluation photos of their own: this part of the training photos is held out, chosen by the hash of the group or path")
    none: tuple[ClassName, ...] = Field((), description="tags that say that a photo shows none of the classes, such as ok, good, free, normal; see untagged")
    unlisted: Literal["absent", "unknown"] = Field("absent", description="what is known of a class that is not mentioned on a photo: that it is absent, or nothing; what is unknown has no loss and is not scored")
    groups: tuple[PathText, ...] = Field((), description="CSV files image,group, relative to root, image paths in them relative to the file: photos of a group (patient, tile, scene) are held out together")
    mask_folder: PathText | None = Field(None, description="indexed PNG masks <image path without suffix>.png, for scoring only")
    strong_masks: PathText | None = Field(None, description="folder of such masks, relative to root, that training learns from, see segmenter.labels; None: there are none")


class FolderData(TaggedData):
    """A folder of photos and a table: by default a CSV `image,tags` with `|` between tags; any file names, nested folders."""

    format: Literal["folder"]
    train_csv: PathText = Field("tags.csv", description="relative to root; .jsonl: one JSON object a line with the same columns")
    val_csv: PathText | None = Field(None, description="as train_csv; None: no evaluation images")
    layout: Literal["tags", "one_hot", "long"] = Field("tags", description="tags: a column of tags; one_hot: a column of 0 and 1 for each class; long: a row for each tag, as in Open Images")
    image_column: str = Field("image", description="column of the photo's path")
    tags_column: str = Field("tags", description="tags and long: column of the tags")
    confidence_column: str | None = Field(None, description="long: column that is 1 where a person has seen the class, 0 where a person has seen that it is not there; null: every row is a tag")
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = Field(",", description="between columns")
    separator: Annotated[str, Field(min_length=1)] | None = Field("|", description="between tags; null: a cell is one tag; list: cells are lists as JSON and Python write them")
    encoding: Literal["utf-8", "utf-16", "cp1252"] = "utf-8"
    header: bool = Field(True, description="false: the first line is a photo, and columns are called 1, 2, ...")
    relative_to: Literal["root", "table"] = Field("root", description="what image paths are relative to")
    suffix: str = Field("", description="what the table leaves off file names, such as .jpg")
    class_names: PathText | None = Field(None, description="CSV without a header, code,name, relative to root: names of the classes whose codes stand in the table, as Open Images has them")


class ClassFoldersData(TaggedData):
    """A folder for each class, named after it: dog/a.jpg, or train/dog/a.jpg and val/dog/b.jpg."""

    format: Literal["class_folders"]
    train_folder: PathText = Field(".", description="holds the folders of the classes, relative to root")
    val_folder: PathText | None = Field(None, description="as train_folder; None: no evaluation images")


class AnnotatedData(TaggedData):
    """A folder of photos and the file of an annotation tool."""

    train_file: PathText = Field(description="relative to root")
    val_file: PathText | None = Field(None, description="as train_file; None: no evaluation images")


class LabelStudioData(AnnotatedData):
    """Label Studio's JSON export: choices, and the labels of boxes, polygons and brushes."""

    format: Literal["label_studio"]
    control: str | None = Field(None, description="name of the control (from_name) whose choices are tags; None: all")
    image_key: str | None = Field(None, description="name of the photo in a task's data; None: the only text there that ends like a photo")


class CvatData(AnnotatedData):
    """CVAT for images 1.1, an XML file: labels of tags and of shapes."""

    format: Literal["cvat"]


class FiftyOneData(AnnotatedData):
    """FiftyOne's image classification dataset: labels.json beside data/."""

    format: Literal["fiftyone"]
    photos: PathText = Field("data", description="folder of the photos, relative to root")


class PackedData(TaggedData):
    """Photos inside the files that hold their tags; they are unpacked below the work directory."""

    root: UserPath = Field(description="folder of the files")
    train_files: PathText = Field(description="pattern of file names, relative to root, such as data/train-*")
    val_files: PathText | None = Field(None, description="as train_files; None: no evaluation images")
    image_field: str = "image"
    tags_field: str = "label"
    id_field: str | None = Field(None, description="what a photo is called; None: by its number, or by the file name kept beside it")
    label_names: tuple[ClassName, ...] | None = Field(None, description="names of the numbers in tags_field, from 0; None: those that the files bring")


class ParquetData(PackedData):
    """Parquet files of Hugging Face datasets: a column of photos, a column of tags."""

    format: Literal["parquet"]


class TfRecordData(PackedData):
    """TFRecord files of tf.train.Example."""

    format: Literal["tfrecord"]
    image_field: str = "image/encoded"
    tags_field: str = "image/class/text"


class ScenesData(DataSection):
    """Generated scenes with exact masks, written below the work directory; deterministic by seed."""

    format: Literal["scenes"]
    train_images: PositiveInt = 300
    val_images: PositiveInt = 100
    size: PositiveInt = Field(128, description="pixels of the long side; the other side varies")
    empty_fraction: Fraction = Field(0.0, description="part of the scenes that show no object of any class; see untagged")
    strong_masks: Literal["exact"] | None = Field(None, description="exact: training learns from the masks the scenes were drawn with, see segmenter.labels")
    seed: Seed = 0


Data = Annotated[
    VocData | CocoData | FolderData | ClassFoldersData | LabelStudioData | CvatData | FiftyOneData | ParquetData | TfRecordData | ScenesData,
    Field(discriminator="format"),
]
