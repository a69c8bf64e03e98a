"""The commands `tfwsss labels export` and `tfwsss labels import`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..engine.interruption import interruptible
from ..options import PATH, ConfigArgument, SetOption, WorkOption, load, path_of

labels_app = typer.Typer(no_args_is_help=True, help="Correct pseudo labels by hand, in annotation tools.")


class Form(StrEnum):
    """Forms of `tfwsss.exchange.TOOLS`."""

    cvat = "cvat"
    labelstudio = "labelstudio"
    coco = "coco"
    yolo = "yolo"
    folders = "folders"


class Order(StrEnum):
    """Of the photos in an export."""

    doubtful = "doubtful"
    name = "name"


@labels_app.command("export")
def export(
    config: ConfigArgument,
    to: Annotated[Form, typer.Option("--to", help="Annotation tool, or form of a data set.")],
    order: Annotated[Order, typer.Option(help="doubtful: the least sure photo first.")] = Order.doubtful,
    limit: Annotated[int | None, typer.Option(help="So many photos at most.", min=1)] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", **PATH, help="File or folder to write; it may not exist. Without it, labels.<form> in the current folder.")] = None,
    photos: Annotated[Path | None, typer.Option("--photos", **PATH, help="Also copy the photos into this new folder, to upload them.")] = None,
    new: Annotated[list[Path] | None, typer.Option("--new", parser=path_of, metavar="PHOTOS", help="In place of the pseudo labels, what the segmenter says of these: a photo, a folder, or a pattern in quotation marks; may be given several times.")] = None,
    set_: SetOption = None,
    work_dir: WorkOption = None,
) -> None:
    """Write the pseudo labels of a finished run, or its predictions on new photos, with their confidence, for an annotation tool."""
    from .exporting import export_labels, export_predictions

    settings, where = load(config, set_, work_dir), (to.value, output, photos)
    if new:
        with interruptible():
            export_predictions(settings, new, *where, doubtful=order is Order.doubtful, limit=limit)
    else:
        export_labels(settings, *where, doubtful=order is Order.doubtful, limit=limit)


@labels_app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="CVAT's XML, Label Studio's or COCO's JSON, or a folder of index PNGs.", metavar="FILE", parser=path_of)],
    config: ConfigArgument,
    masks: Annotated[str | None, typer.Option("--masks", metavar="FOLDER", help="Where the masks go if data.strong_masks names no place: relative to data.root; for COCO an instances file.")] = None,
    changed: Annotated[bool, typer.Option("--changed", help="Only photos whose mask differs from the pseudo label.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also replace masks that were not written by this command.")] = False,
    set_: SetOption = None,
    work_dir: WorkOption = None,
) -> None:
    """Take corrected labels as masks that training learns from (data.strong_masks)."""
    from .importing import import_labels

    import_labels(load(config, set_, work_dir), file, masks, changed=changed, force=force)
