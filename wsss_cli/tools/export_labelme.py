"""``export labelme``: label maps as the files that labelme opens."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from wsss_cli.classes import IGNORE, check_labels
from wsss_cli.stage import Job
from wsss_cli.tools.export import (
    IGNORED,
    Exporter,
    Folder,
    Labels,
    Polygon,
    as_json,
    polygons,
    tell_strangers,
)

_VERSION = "5.0.0"  # of the format
_BACKGROUND = "_background_"


class LabelmeExporter(Exporter):
    """Writes ID.json, and labels.txt, the class list.

    labelme fills a polygon together with its line, through the pixels that its points lie in. So
    the polygons pass through the centres of the outermost pixels.

    Args:
        out: the folder.
        tolerance: by how many pixels polygons may differ.
    """

    name = "export labelme"
    unfinished = "labels.txt is not written"
    exact = False

    def __init__(
        self,
        key: str,
        class_list: Sequence[str] | None = None,
        *,
        out: Path,
        tolerance: float = 1.0,
    ) -> None:
        super().__init__(key, class_list)
        self.tolerance = tolerance
        self._folder = Folder(out, self.name)

    @property
    def params(self) -> dict[str, Any]:
        return {"key": self.key, "tolerance": self.tolerance}

    def check_names(self, names: Sequence[str]) -> None:
        check_labels(names, self.name)

    def write(self, job: Job, labels: Labels) -> Labels:
        assert self.names is not None
        record = job.record
        path = self._folder.path(record["id"], "", ".json")
        names = {**dict(enumerate(self.names, start=1)), IGNORE: IGNORED}
        found = [
            replace(polygon, points=polygon.points.round(2))
            for polygon in polygons(labels, self.tolerance, centres=True, ids=self.ids)
        ]
        image = os.path.relpath(os.path.abspath(record["image"]), path.parent.resolve())
        data = {
            "version": _VERSION,
            "flags": {},
            "shapes": [
                {
                    "label": names[polygon.number],
                    "points": polygon.points.tolist(),
                    "group_id": polygon.instance or None,  # labelme's number of an object
                    "description": "",
                    "shape_type": "polygon",
                    "flags": {},
                }
                for polygon in found
            ],
            "imagePath": image,
            "imageData": None,
            "imageHeight": labels.shape[0],
            "imageWidth": labels.shape[1],
        }
        self._folder.write(path, as_json(data), record)
        return _drawn(found, labels)

    def close(self) -> None:
        assert self.names is not None
        lines = (IGNORED, _BACKGROUND, *self.names)
        self._folder.write(
            self._folder.root / "labels.txt", "".join(f"{line}\n" for line in lines).encode()
        )
        tell_strangers(self.name, self._folder.strangers("", ".json", self._met))


def _drawn(found: Sequence[Polygon], labels: Labels) -> Labels:
    """The label map of polygons, drawn as labelme does: the later over the earlier."""
    picture = Image.fromarray(np.zeros_like(labels))
    draw = ImageDraw.Draw(picture)
    for polygon in found:
        corners = [tuple(point) for point in polygon.points.tolist()]
        draw.polygon(corners, fill=polygon.number, outline=polygon.number)
    return np.array(picture)
