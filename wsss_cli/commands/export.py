"""``wsss export``: label maps and networks as files of other tools, where wsss's work goes on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from wsss_cli.commands import _frame, _options

if TYPE_CHECKING:
    from wsss_cli.tools.export import Exporter

key_option = _options.key_option("pseudo", "the label map")
classes_option = _options.classes_option("Class list, if not the one in the files")
tolerance_option = click.option(
    "--tolerance",
    default=1.0,
    show_default=True,
    type=click.FloatRange(min=0),
    metavar="PIXELS",
    help="How far the outline of a region may lie from its polygon; 0 keeps all corners.",
)
copy_option = click.option(
    "--copy", is_flag=True, help="Copy the photographs instead of linking to them."
)


@click.group(
    "export",
    cls=_frame.Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=False,
)
def command() -> None:
    """Write label maps and networks as files of other tools.

    All but onnx read records with `image` and a label map, `pseudo` or that of --key, and print
    them as they are, so that the next tool of a pipe can read them too. Where they have `instances`
    of their `pseudo`, objects are told apart. Files that other tools made or changed stay.

    \b
    Example:
      wsss export coco refined.jsonl -o annotations.json > exported.jsonl
    """


@command.command("coco", cls=_frame.Command)
@_options.records_argument
@key_option
@classes_option
@click.option(
    "--per",
    default=None,
    show_default="instance where a record has `instances`, else region",
    type=click.Choice(["instance", "region", "class"]),
    help="What an annotation is: an instance of `instances`, the pixels of a class that touch at "
    "their sides, or all of them.",
)
@click.option(
    "--polygons",
    is_flag=True,
    help="Write polygons instead of run lengths, which are exact.",
)
@tolerance_option
@click.option(
    "--crowd",
    is_flag=True,
    help="Write pixels of 255 as crowd regions of the classes in the map; else they are left out.",
)
@_options.out_option(
    "annotations.json",
    metavar="FILE|DIR",
    type=click.Path(),
    help="Output: a file (.json), or a folder for annotations.json.",
)
@_options.strict_option
def coco(
    records: tuple[str, ...],
    key: str,
    classes: tuple[str, ...] | None,
    per: str | None,
    polygons: bool,
    tolerance: float,
    crowd: bool,
    out: str,
    strict: bool,
) -> None:
    """Write label maps as one JSON file of COCO.

    Reads records with `image` and a label map; prints them as they are. Categories have the numbers
    of the label map. The file appears when the last record is written. A photograph is named by its
    id and suffix where its path ends so, as after `index`, else by its path.

    \b
    Example:
      wsss export coco refined.jsonl -o annotations.json > exported.jsonl
    """
    _options.only_with("--polygons", polygons, "tolerance")
    from wsss_cli.tools.export_coco import CocoExporter

    file = Path(out)
    if file.suffix.lower() != ".json":
        file /= "annotations.json"
    if file.is_dir():
        raise click.BadParameter(f"'{file}' is a folder", param_hint="--out")
    exporter = CocoExporter(
        key,
        classes,
        out=file,
        per=per,
        tolerance=tolerance if polygons else None,
        crowd=crowd,
    )
    _run(exporter, records, out=file.parent, strict=strict)


@command.command("yolo", cls=_frame.Command)
@_options.records_argument
@key_option
@classes_option
@tolerance_option
@copy_option
@_options.out_option("out/yolo")
@_options.strict_option
def yolo(
    records: tuple[str, ...],
    key: str,
    classes: tuple[str, ...] | None,
    tolerance: float,
    copy: bool,
    out: str,
    strict: bool,
) -> None:
    """Write label maps as polygons for YOLO's segmentation networks.

    Reads records with `image` and a label map; prints them as they are. Writes OUT/labels/ID.txt, a
    line for each region, links to the photographs in OUT/images, their list OUT/train.txt, and
    OUT/data.yaml with the names of the classes.

    \b
    Example:
      wsss export yolo refined.jsonl -o yolo > exported.jsonl
    """
    from wsss_cli.tools.export_yolo import YoloExporter

    exporter = YoloExporter(key, classes, out=Path(out), tolerance=tolerance, copy=copy)
    _run(exporter, records, out=out, strict=strict)


@command.command("labelme", cls=_frame.Command)
@_options.records_argument
@key_option
@classes_option
@tolerance_option
@_options.out_option("out/labelme")
@_options.strict_option
def labelme(
    records: tuple[str, ...],
    key: str,
    classes: tuple[str, ...] | None,
    tolerance: float,
    out: str,
    strict: bool,
) -> None:
    """Write label maps as polygons to be corrected in labelme.

    Reads records with `image` and a label map; prints them as they are. Writes OUT/ID.json for each
    photograph, which refers to it where it lies, and OUT/labels.txt with the names of the classes.

    \b
    Example:
      wsss export labelme refined.jsonl -o labelme > exported.jsonl
    """
    from wsss_cli.tools.export_labelme import LabelmeExporter

    exporter = LabelmeExporter(key, classes, out=Path(out), tolerance=tolerance)
    _run(exporter, records, out=out, strict=strict)


@command.command("voc", cls=_frame.Command)
@_options.records_argument
@key_option
@classes_option
@copy_option
@_options.out_option("out/voc")
@_options.strict_option
def voc(
    records: tuple[str, ...],
    key: str,
    classes: tuple[str, ...] | None,
    copy: bool,
    out: str,
    strict: bool,
) -> None:
    """Write label maps as a folder in VOC's layout, as CVAT imports it.

    Reads records with `image` and a label map; prints them as they are. Writes
    OUT/SegmentationClass/ID.png, of records with `instances` OUT/SegmentationObject/ID.png, links
    to the photographs in OUT/JPEGImages, their list OUT/ImageSets/Segmentation/default.txt, and
    OUT/labelmap.txt, the colours of the classes.

    \b
    Example:
      wsss export voc refined.jsonl -o voc > exported.jsonl
    """
    from wsss_cli.tools.export_voc import VocExporter

    _run(VocExporter(key, classes, out=Path(out), copy=copy), records, out=out, strict=strict)


@command.command("onnx", cls=_frame.Command)
@click.argument("checkpoint", type=_options.ReadableFile())
@_options.new_file_option("Output file (.onnx).")
def onnx(checkpoint: str, out: str) -> None:
    """Write a network as an ONNX file, which runs without wsss.

    Reads a checkpoint of any kind; prints no records. The network takes photographs of any size:
    `image`, uint8 (N, 3, H, W), RGB from 0 to 255. It gives

    \b
      segmentation  probabilities (N, 1 + C, H, W), background first: as
                    predict --scales 1 --no-flip
      cam           maps (N, C, H/4, W/4), rounded up: as
                    make-cam --all --scales 1 --no-flip;
                    scores (N, C): probabilities that a class is there
      eps           the same, maps with background first
      sipe          the same, for the classes that a second input says
                    are there: labels, uint8 (N, C), 0 or 1
      affinity      features (N, 448, H/8, W/8), rounded up: the
                    affinity of two cells is exp(-mean |difference|)
      irn           boundary (N, 1, H/4, W/4), rounded up, in [0, 1];
                    displacement (N, 2, H/4, W/4): cells down and right

    all float32. The file is run once with onnxruntime and compared with the network.

    \b
    Example:
      wsss export onnx seg.pt -o net.onnx
    """
    from wsss_cli import files
    from wsss_cli.tools.export_onnx import check_ready, export

    files.check_targets([out], keep=[checkpoint])
    check_ready(out)
    export(files.load_checkpoint(checkpoint), out)


def _run(exporter: Exporter, records: tuple[str, ...], *, out: str | Path, strict: bool) -> None:
    from wsss_cli.stage import Stage

    with exporter:
        Stage(exporter, out=out, strict=strict).run(records)
