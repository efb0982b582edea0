"""Data sets in COCO's JSON: instances, stuff and panoptic, and what annotation tools export as it.

{"images": [{"id", "file_name", "width", "height"}], "categories": [{"id", "name"}],
 "annotations": [{"image_id", "category_id", "segmentation", "iscrowd"}]}

A segmentation is a list of polygons or a run-length code. In panoptic files an annotation lists the
segments of an image, whose pixels a PNG tells: red + 256 green + 65536 blue is the id of a segment.
"""

from __future__ import annotations

import glob
import json
import math
import os
import re
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wsss_cli import console, files
from wsss_cli.classes import BACKGROUND, IGNORE, check_classes, check_labels
from wsss_cli.datasets._paths import (
    below,
    check_separators,
    find_maps,
    mended_by,
    same_but_for_case,
)
from wsss_cli.datasets.json_arrays import elements
from wsss_cli.datasets.part import Part, tell_left_out
from wsss_cli.errors import STOPS_EVERYTHING, ConfigurationError, WsssError, describe
from wsss_cli.inputs import inputs
from wsss_cli.methods.regions import decoded as decoded_runs
from wsss_cli.methods.regions import mask_of
from wsss_cli.pictures import image_size, is_turned, read_values
from wsss_cli.records import Record, check_id, safe_path
from wsss_cli.texts import open_regular
from wsss_cli.unique import Seen

TOOL = "index coco"
OnError = Callable[[str], None]
Mask = npt.NDArray[np.bool_]  # (H, W)

_MOST_SIDE = 1 << 16  # pixels
_PLAIN = re.compile(r"[\w./:?=%+-]+/")


class Coco:
    """What a COCO file says, without its outlines: these stay in the file.

    Takes about 1 kB an image and, for masks, 40 bytes an annotation.

    Args:
        path: the file.
        on_error: called with the line ``place: problem`` for each image or annotation left out.
        outlines: whether the places of the annotations are kept, for :meth:`annotations`.

    Attributes:
        classes: names of the categories in the order of their ids, without background.
        images: ``file_name``, ``width`` and ``height`` of each image by its id; 0 where the file
            does not say.
        shown: by image id, the ids of the categories that it shows.
        is_labelled: whether the file has annotations at all; those of test images have none.
        has_polygons: whether an outline is polygons, if these are kept.

    Raises:
        ConfigurationError: the file cannot be read, or is none of images and categories.
    """

    def __init__(self, path: str, on_error: OnError, *, outlines: bool = False) -> None:
        self.path = path
        self.images: dict[int | str, tuple[str, int, int]] = {}
        self.shown: dict[int | str, set[int]] = {}
        self.is_labelled = False
        self._refused: set[int | str] = set()  # ids of images that are listed, but left out
        self._names: dict[int, str] = {}
        self._places: dict[int | str, array[int]] = {}
        self._outlines = outlines
        self.has_polygons = False
        try:
            with open_regular(path) as stream:
                for each in elements(stream, ("images", "categories", "annotations")):
                    if not isinstance(each.value, dict):
                        raise ValueError(f"'{each.array}' holds something else than objects")
                    if each.array == "images":
                        self._add_image(each.value, on_error)
                    elif each.array == "categories":
                        self._add_category(each.value)
                    else:
                        self.is_labelled = True
                        self._add_annotation(each.value, each.start, each.length)
                if self.images and self._names:
                    self._check_images(on_error)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{path}: no COCO file: {describe(error)}") from error
        if not self.images:
            raise ConfigurationError(f"{path}: no COCO file: it lists no images")
        if not self._names:
            raise ConfigurationError(f"{path}: no COCO file: it lists no categories")
        named = [self._names[number] for number in sorted(self._names)]
        self.classes = tuple(name for name in named if name.casefold() != BACKGROUND)

    def names(self, image: int | str) -> list[str]:
        """Names of the listed categories that an image shows, in the order of their ids."""
        return [self._names[n] for n in sorted(self.shown.get(image, ())) if n in self._names]

    def name(self, category: Any) -> str | None:
        """Name of a category; None for one that is not listed."""
        return self._names.get(category) if type(category) is int else None

    def annotations(self, image: int | str) -> list[dict[str, Any]]:
        """The annotations of an image, read again."""
        found = []
        places = self._places.get(image, ())
        with open_regular(self.path) as stream:
            for start, length in zip(places[::2], places[1::2], strict=True):
                stream.seek(start)
                try:
                    found.append(json.loads(stream.read(length)))
                except ValueError as error:  # no longer the same file
                    raise WsssError(f"{self.path}: changed while it was read") from error
        return found

    def check(self, image: int | str) -> None:
        """Raise WsssError if an annotation of an image is of a category that is not listed."""
        if lost := self.shown.get(image, set()) - self._names.keys():
            raise WsssError(f"an annotation of category {min(lost)}, which is not listed")

    def _check_images(self, on_error: OnError) -> None:
        """Report annotations of images that are not listed; raise ValueError if all are."""
        # An image that is left out has been reported.
        strays = [
            each for each in self.shown if each not in self.images and each not in self._refused
        ]
        if not strays:
            return
        if len(strays) == len(self.shown):
            hint = self._other_type(strays[0])
            raise ValueError(f"no annotation is of a listed image, but of {strays[0]!s:.40}{hint}")
        told = console.listed([f"{image!s:.40}" for image in strays], 5)
        hint = next(filter(None, map(self._other_type, strays)), "")
        on_error(f"annotations of images that are not listed: {told}{hint}")

    def _other_type(self, image: int | str) -> str:
        """That its number is a text elsewhere or the other way round, as the end of a message."""
        if isinstance(image, int):
            if str(image) in self.images:
                return f'; there is an image "{image}": its id is a text, here it is a number'
        elif re.fullmatch(r"\d{1,18}", image) and int(image) in self.images:
            return f"; there is an image {int(image)}: its id is a number, here it is a text"
        return ""

    def _add_image(self, image: Mapping[str, Any], on_error: OnError) -> None:
        number, name = image.get("id"), image.get("file_name")
        if not _is_id(number):
            raise ValueError(f"an image has the id {number!r:.40}")
        assert isinstance(number, int | str)
        if not isinstance(name, str) or not name:
            on_error(f"image {number}: no file_name")
            self._refused.add(number)
            return
        if number in self.images or number in self._refused:
            raise ValueError(f"two images have the id {number}")
        width, height = (image.get(key) or 0 for key in ("width", "height"))
        if not all(type(side) is int and 0 <= side < _MOST_SIDE for side in (width, height)):
            on_error(f"{name}: no size of a picture: {width!r:.20} x {height!r:.20}")
            self._refused.add(number)
            return
        self.images[number] = (name, width, height)

    def _add_category(self, category: Mapping[str, Any]) -> None:
        number, name = category.get("id"), category.get("name")
        if type(number) is not int:
            raise ValueError(f"a category has the id {number!r:.40}")
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise ValueError(f"category {number} has the name {name!r:.40}")
        if number in self._names:
            raise ValueError(f"two categories have the id {number}")
        name = name.strip()
        if name in self._names.values():
            raise ValueError(f"two categories have the name '{name}'")
        self._names[number] = name

    def _add_annotation(self, annotation: Mapping[str, Any], start: int, length: int) -> None:
        image = annotation.get("image_id")
        if not _is_id(image):
            raise ValueError(f"an annotation has the image_id {image!r:.40}")
        assert isinstance(image, int | str)
        segments = annotation.get("segments_info", [annotation])
        if not isinstance(segments, list):
            raise ValueError("'segments_info' is no list")
        for segment in segments:
            category = segment.get("category_id") if isinstance(segment, dict) else None
            if type(category) is not int:
                raise ValueError(
                    f"an annotation has the category_id {category!r:.40}; captions and others name "
                    "no classes"
                )
            self.shown.setdefault(image, set()).add(category)
        if self._outlines:
            self._places.setdefault(image, array("q")).extend((start, length))
            outline = annotation.get("segmentation")
            self.has_polygons |= isinstance(outline, list) and outline != []


def category_names(path: str) -> tuple[str, ...]:
    """The class list of a COCO file: :attr:`Coco.classes`, if a text file can hold it.

    Raises:
        ConfigurationError: it cannot be read, or a name can stand in no class list.
    """
    return check_labels(Coco(path, lambda problem: None).classes, path)


def _is_id(value: Any) -> bool:
    return type(value) in (int, str)


def coco_records(
    annotations: str,
    on_error: OnError,
    *,
    images: str,
    masks: str | None = None,
    segments: str | None = None,
    crowd_objects: bool = False,
    classes: Sequence[str] | None = None,
    saliency: str | None = None,
    cams: str | None = None,
    part: Part | None = None,
) -> Iterator[Record]:
    """Records of the images of a COCO file, in its order.

    The id is the ``file_name`` without its suffix.

    Args:
        annotations: the JSON file.
        on_error: called with the line ``place: problem`` for whatever is left out.
        images: folder that the file names begin from.
        masks: folder to write label maps ID.png to, or None. Of overlapping objects the smaller one
            is kept; 255 where only a crowd is, and where a panoptic picture says nothing.
        segments: folder of the panoptic PNGs; None: as the file, without its suffix.
        crowd_objects: whether crowds are objects as others, not 255.
        classes: names of the categories that count, which numbers them; None: all, in the order of
            their ids. Objects of other categories are neither labels nor in the masks.
        saliency: folder of maps ID.png, or None.
        cams: folder of activation maps ID.npz or ID.npy, or None.
        part: the classes that stay, of those that count; images that show others alone are left
            out, and counted on stderr.

    Raises:
        ConfigurationError: a file or folder does not exist, the file is no such JSON, a class is no
            category of it, or polygons cannot be drawn here.
    """
    if not os.path.isdir(images):
        raise ConfigurationError(f"--images {images}: no such folder")
    maps = below(images, saliency, "--saliency") if saliency is not None else None
    activations = below(images, cams, "--cams") if cams is not None else None
    coco = Coco(annotations, on_error, outlines=masks is not None)
    if classes is not None and (lacking := [name for name in classes if name not in coco.classes]):
        raise ConfigurationError(
            f"--classes: '{lacking[0]}' is no category of {annotations}: "
            f"{', '.join(coco.classes[:10])}{', …' if len(coco.classes) > 10 else ''}"
        )
    chosen = coco.classes if classes is None else tuple(classes)
    of_all = chosen
    if part is not None:
        chosen = part.of_list(of_all)
    painter = None
    if masks is not None:
        if coco.has_polygons and not find_spec("pycocotools"):
            raise ConfigurationError(
                "--masks: polygons are drawn by pycocotools, so that the masks are COCO's own: "
                "pip install pycocotools"
            )
        files.remove_leftovers(masks, TOOL)
        numbered = check_classes(chosen, annotations)
        painter = _Painter(coco, numbered, masks, segments, crowd_objects=crowd_objects)
    ids, others, is_told = Seen(), 0, False
    for number, (name, width, height) in coco.images.items():
        record_id = os.path.splitext(name)[0]
        try:
            _check_name(name, annotations)
            path = same_but_for_case(os.path.join(images, name))
            if path is None:
                hint = "" if is_told else _elsewhere(images, name)
                is_told = True  # of the first; the others lie alike
                raise WsssError(f"no such image: {os.path.join(images, name)}{hint}")
            if ids.add(record_id):
                raise WsssError("another image has this name, with another suffix")
            record: Record = {"id": record_id, "image": path}
            if coco.is_labelled:
                coco.check(number)
                shown = coco.names(number)
                record["labels"] = [each for each in shown if each in chosen]
                if part is not None and part.of_labels([n for n in shown if n in of_all]) is None:
                    others += 1
                    continue
            cam = find_maps(f"{activations}/{record_id}") if activations else None
            if painter is not None and coco.is_labelled:
                record["mask"] = painter.write(record, number, (height, width))
        except (WsssError, OSError) as error:
            if isinstance(error, OSError) and error.errno in STOPS_EVERYTHING:
                text = f"cannot write: {describe(error)}; what was printed so far is safe"
                raise WsssError(text) from error
            on_error(f"{name}: {describe(error)}")
            continue
        if maps and os.path.isfile(path := f"{maps}/{record_id}.png"):
            record["saliency"] = path
        if cam:
            record["cam"] = cam
        yield record
    tell_left_out(TOOL, others)
    if painter is not None and painter.crowds and not painter.objects:
        console.warn(
            TOOL,
            f"all {painter.crowds} outlines are crowds (iscrowd), 255 in the masks; if they are "
            "objects, as CVAT writes what was painted, give --crowd-objects",
        )


def _check_name(name: str, annotations: str) -> None:
    """Raise WsssError unless ``name`` is a path below a folder of photographs.

    Label Studio writes ``../../media/upload/1/a.jpg`` or a URL, on Windows also ``images\\a.jpg``.
    """
    folder = name[: name.rfind("/") + 1]
    check_separators(name, annotations, escaped=True)
    if "://" in name:
        why, command = "a URL; download the photographs, and take it out", _without(folder)
    elif ".." in folder.split("/") or name.startswith("/") or re.match("[A-Za-z]:/", name):
        why, command = "no path below --images; take the folder out", _without(folder)
    else:
        check_id(os.path.splitext(name)[0])
        return
    raise WsssError(f"{why}: {mended_by(command, annotations)}" if command else why)


def _without(folder: str) -> str:
    """What sed is told to take a folder out of names; nothing for one that a shell might run."""
    return f"s#{folder.replace('.', chr(92) + '.')}##g" if _PLAIN.fullmatch(folder) else ""


def _elsewhere(images: str, name: str) -> str:
    """Where a photograph is that is not in the folder of ``--images``, as the end of a message."""
    above = os.path.dirname(os.path.abspath(images))
    inner = glob.escape(images)
    for pattern in (
        os.path.join(glob.escape(above), glob.escape(name)),
        *(os.path.join(inner, *deep, glob.escape(name)) for deep in (("*",), ("*", "*"))),
    ):
        if found := next(iter(sorted(glob.glob(pattern))), None):
            folder = found.removesuffix(name).rstrip("/") or "/"
            return f"; it is {found}: give --images {os.path.relpath(folder)}"
    base = os.path.join(images, os.path.basename(name))
    return (
        f"; {base} is there: are the folders in the names others?" if os.path.isfile(base) else ""
    )


class _Painter:
    """Writes the label maps of the images of a COCO file.

    Args:
        coco: the file.
        classes: the class list that numbers the pixels.
        folder: of the label maps.
        segments: of the panoptic PNGs, or None.
        crowd_objects: whether crowds are objects as others.

    Attributes:
        crowds, objects: how many outlines of either kind were drawn.
    """

    def __init__(
        self,
        coco: Coco,
        classes: Sequence[str],
        folder: str,
        segments: str | None,
        *,
        crowd_objects: bool = False,
    ) -> None:
        self._coco = coco
        self._numbers = {name: number for number, name in enumerate(classes, start=1)}
        self._folder = Path(folder)
        self._segments = segments or os.path.splitext(coco.path)[0]
        params = {"from": "coco", **({"crowd_objects": True} if crowd_objects else {})}
        self._meta = files.provenance(TOOL, params, classes=classes)
        self._crowd_objects = crowd_objects
        self.crowds = self.objects = 0

    def write(self, record: Record, image: int | str, size: tuple[int, int]) -> str:
        """Write the label map of a record, and return its path.

        Raises:
            WsssError: the annotations cannot be drawn, or are those of another size; or the file
                there is another tool's.
        """
        shown = image_size(record["image"])
        if is_turned(record["image"]):
            raise WsssError(
                "viewers turn this photograph (EXIF), and no annotation says for which way it is; "
                "save it upright"
            )
        if 0 not in size and size != shown:
            raise WsssError(
                f"annotated at {size[1]}x{size[0]}, but the photograph is {shown[1]}x{shown[0]}"
            )
        path = safe_path(self._folder, record["id"], ".png")
        if why := files.foreign(path, TOOL):
            raise WsssError(why)
        labels = np.zeros(shown, np.uint8)
        crowds, objects = [], []
        for annotation in self._coco.annotations(image):
            if "segments_info" in annotation:
                labels = self._panoptic(annotation, shown)
                continue
            number = self._number(annotation)
            if number is None:
                continue
            mask = decoded(annotation.get("segmentation"), shown)
            if mask is None:
                name = self._coco.name(annotation.get("category_id"))
                raise WsssError(f"a '{name}' has no outline, only a box perhaps, which is no mask")
            if annotation.get("iscrowd") and not self._crowd_objects:
                crowds.append(mask)
            else:
                objects.append((int(mask.sum()), number, mask))
        self.crowds += len(crowds)
        self.objects += len(objects)
        for mask in crowds:
            labels[mask] = IGNORE
        for _, number, mask in sorted(objects, key=lambda each: -each[0]):
            labels[mask] = number
        meta = {**self._meta, "inputs": inputs(record, ["image"])}
        files.write_label_map(path, labels, meta)
        return str(path)

    def _number(self, annotation: Mapping[str, Any]) -> int | None:
        """Class number of an annotation or segment; None for what is not in the class list."""
        name = self._coco.name(annotation.get("category_id"))
        return None if name is None else self._numbers.get(name)

    def _panoptic(
        self, annotation: Mapping[str, Any], size: tuple[int, int]
    ) -> npt.NDArray[np.uint8]:
        """The label map of a panoptic annotation."""
        name = annotation.get("file_name")
        check_id(name)
        path = os.path.join(self._segments, str(name))
        colours = read_values(path, size).colours
        if colours is None:
            raise WsssError(f"{path}: grey, but colours tell the segments")
        ids = colours.astype(np.int64) @ np.array([1, 1 << 8, 1 << 16])
        known = {0: IGNORE}
        for segment in annotation["segments_info"]:
            if type(segment.get("id")) is not int:
                raise WsssError("a segment without an id")
            known[segment["id"]] = IGNORE if segment.get("iscrowd") else self._number(segment) or 0
        present, place = np.unique(ids, return_inverse=True)
        if strange := [int(each) for each in present if int(each) not in known]:
            raise WsssError(f"{path}: no segment has the id {strange[0]}")
        table = np.array([known[int(each)] for each in present], np.uint8)
        return table[place.reshape(size)]


# ---- outlines ------------------------------------------------------------------------------------


def decoded(segmentation: Any, size: tuple[int, int]) -> Mask | None:
    """The pixels of a segmentation.

    Args:
        segmentation: polygons, lists of x1, y1, x2, y2, … in pixels; or a run-length code with
            ``counts``, a list or COCO's text, and ``size``.
        size: (H, W).

    Returns:
        bool (H, W), or None if there is no outline.

    Raises:
        WsssError: it is neither, or not of this size.
    """
    if segmentation is None or segmentation == []:
        return None
    if isinstance(segmentation, dict):
        return _from_runs(segmentation, size)
    if not isinstance(segmentation, list):
        raise WsssError(f"a segmentation is neither polygons nor runs: {segmentation!r:.40}")
    if any(type(each) in (int, float) for each in segmentation):
        segmentation = [segmentation]  # a single polygon, as some tools write it
    most = 4 * max(*size, 1)
    for polygon in segmentation:
        if not isinstance(polygon, list) or len(polygon) % 2 or len(polygon) < 6:
            raise WsssError(f"no polygon of at least three points: {polygon!r:.40}")
        for value in polygon:
            if type(value) not in (int, float) or not math.isfinite(value) or abs(value) > most:
                raise WsssError(f"a polygon has the coordinate {value!r:.40}")
    return _filled(segmentation, size)


def _filled(polygons: list[list[float]], size: tuple[int, int]) -> Mask:
    """The pixels inside any of some polygons."""
    from pycocotools import mask as coco_mask

    runs = coco_mask.frPyObjects([[float(v) for v in each] for each in polygons], *size)
    inside: Mask = coco_mask.decode(runs).any(axis=2)
    return inside


def _from_runs(code: Mapping[str, Any], size: tuple[int, int]) -> Mask:
    """The pixels of a run-length code: lengths of runs, outside first, column by column."""
    if code.get("size") != list(size):
        raise WsssError(f"runs for a picture of {code.get('size')!r:.40}, not {list(size)}")
    counts = code.get("counts")
    total = size[0] * size[1]
    try:
        lengths = decoded_runs(counts) if isinstance(counts, str) else counts
        if not isinstance(lengths, list) or not all(
            type(each) is int and 0 <= each <= total for each in lengths
        ):
            raise ValueError("something else than lengths")
        return mask_of(lengths, size)
    except ValueError as error:
        raise WsssError(f"a run-length code: {error}") from error
