"""What a record shows under each of its keys: the photograph, and what can be laid over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from wsss_cli import files, inputs
from wsss_cli.classes import BACKGROUND, IGNORE, palette
from wsss_cli.errors import WsssError
from wsss_cli.files import Meta
from wsss_cli.records import KEYS, Record

Colour = tuple[int, int, int]

MOST_MAPS = 24  # of a record; the others are only counted


def heading(key: str) -> str:
    """What is shown under a key, in words."""
    return KEYS[key].heading if key in KEYS else key


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A picture of the scene of a photograph.

    Attributes:
        kind: what ``values`` are: a photograph, uint8 (H, W, 3); a grey picture, uint8 (H, W); a
            label map, uint8 (H, W); an activation map, float16 (h, w) in [0, 1], at any size.
        values: the pixels.
        names: what it shows, and the colours of classes in a label map.
    """

    kind: Literal["photograph", "grey", "labels", "map"]
    values: npt.NDArray[Any]
    names: list[tuple[str, Colour | None]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The photograph of a record, against which its other files are checked.

    Attributes:
        record: the record.
        photograph: its picture; it may be smaller than the file's.
        size: (H, W) of the file.
        digest: of the file.
        class_list: names for label maps, or None for those of the files; a label map that has none,
            such as a true mask, shares those of the record's other files.
    """

    record: Record
    photograph: Image.Image
    size: tuple[int, int]
    digest: str | None
    class_list: tuple[str, ...] | None

    @classmethod
    def of(cls, record: Record, width: int, class_list: tuple[str, ...] | None) -> Scene:
        """Read the photograph of a record for pictures of so many pixels.

        Raises:
            WsssError: it is missing or unreadable.
        """
        path = record["image"]
        return cls(
            record=record,
            photograph=files.open_rgb(path, at_least=2 * width),
            size=files.image_size(path),
            digest=inputs.digest(path),
            class_list=class_list,
        )

    def fitted(self, side: int) -> tuple[int, int]:
        """(width, height) of the photograph with a long side of so many pixels."""
        # Whether it is tall or wide.
        shrink = side / max(self.size)
        return max(round(self.size[1] * shrink), 1), max(round(self.size[0] * shrink), 1)

    def layers(self, key: str, most: int = MOST_MAPS) -> tuple[list[Layer], Meta | None]:
        """What the record has under a key, and how that was made; several layers only for maps.

        Args:
            key: its key.
            most: number of maps; the last one tells how many more there are.

        Raises:
            WsssError: a file is missing, unreadable, or of another photograph.
        """
        path = self.record.get(key)
        if not path:
            return [], None
        if not isinstance(path, str):
            raise WsssError(f"'{key}' is no path of a picture, label map or maps")
        meta = files.read_meta(path)
        # Also for other labels: what looks wrong is what one wants to see.
        inputs.check_source(key, meta, self.digest, {**self.record, "labels": None})
        if files.holds_maps(path):
            return self._maps(path, min(most, MOST_MAPS)), meta
        return [self._picture(key, path)], meta

    def _picture(self, key: str, path: str) -> Layer:
        if key == "image":
            names: list[Any] = [(name, None) for name in self.record.get("labels") or []]
            return Layer(kind="photograph", values=np.asarray(self.photograph), names=names)
        if key == "erased":
            return Layer(kind="photograph", values=files.read_image(path))
        if key in ("saliency", "affinity"):  # saliency as erase and eps-train see it
            grey = (files.read_grey(path, self.size) * 255).astype(np.uint8)
            return Layer(kind="grey", values=grey)
        legend: list[tuple[str, Colour | None]]
        if key == "instances":
            ids, objects = files.read_instance_map(path, self.size)
            numbers = np.flatnonzero(np.bincount(ids.ravel())).tolist()
            legend = [
                (_object(objects, number), _colour(number))
                for number in numbers
                if number not in (0, IGNORE)
            ]
            return Layer(kind="labels", values=ids, names=legend)
        labels, meta = files.read_labels(path, self.size)
        known = self.class_list or inputs.class_list(meta or {}) or self._others()
        numbers = np.flatnonzero(np.bincount(labels.ravel())).tolist()
        legend = []
        if numbers == [IGNORE]:
            legend.append(("nothing but 255, to ignore", None))
        for number in numbers:
            if number not in (0, IGNORE):
                name = known[number - 1] if number <= len(known) else f"class {number}"
                legend.append((name, _colour(number)))
        return Layer(kind="labels", values=labels, names=legend)

    def _others(self) -> Sequence[str]:
        """The class list of a file of the record, of the first that has one."""
        for key in KEYS:
            value = self.record.get(key) if KEYS[key].path else None
            meta = files.read_meta(value) if isinstance(value, str) else None
            if names := inputs.class_list(meta or {}):
                return names
        return ()

    def _maps(self, path: str, most: int) -> list[Layer]:
        maps = files.read_maps(path, self.size, self.class_list)
        planes = [
            Layer(kind="map", values=plane, names=[(name, None)])
            for name, plane in zip(maps.classes, maps.cam, strict=True)
            if name != BACKGROUND
        ]
        if not planes:
            return [Layer(kind="map", values=np.zeros((2, 2)), names=[("no labels", None)])]
        if more := planes[most:]:
            planes[most - 1].names.append((f"and {len(more)} more maps", None))
        return planes[:most]


def _colour(number: int) -> Colour:
    red, green, blue = palette()[number].tolist()
    return red, green, blue


def _object(objects: Sequence[dict[str, Any]] | None, number: int) -> str:
    """What a legend says of an instance."""
    if objects is None:
        return f"instance {number}"
    return f"{objects[number - 1]['class']} {objects[number - 1]['score']:.2f}"
