"""``export yolo``: label maps as the texts of polygons that ultralytics learns from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wsss_cli.classes import IGNORE
from wsss_cli.errors import WsssError
from wsss_cli.records import Record
from wsss_cli.stage import Job
from wsss_cli.tools.export import Exporter, Folder, Labels, as_json, painted, polygons

_DIGITS = 6  # of a side as 1
_READ = (".bmp", ".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp")


class YoloExporter(Exporter):
    """Writes labels/ID.txt, images/ID and its suffix, and the lists that ultralytics is given.

    Args:
        out: the folder.
        tolerance: by how many pixels polygons may differ.
        copy: copy the photographs instead of linking them.
    """

    name = "export yolo"
    unfinished = "data.yaml and train.txt are not written"
    exact = fragments = False
    ignored = "background in the labels"

    def __init__(
        self,
        key: str,
        class_list: Sequence[str] | None = None,
        *,
        out: Path,
        tolerance: float = 1.0,
        copy: bool = False,
    ) -> None:
        super().__init__(key, class_list)
        self.tolerance, self.copy = tolerance, copy
        self._folder = Folder(out, self.name)
        self._images = bytearray()

    @property
    def params(self) -> dict[str, Any]:
        return {"key": self.key, "tolerance": self.tolerance}

    def write(self, job: Job, labels: Labels) -> Labels:
        record = job.record
        suffix = _suffix(record)
        sides = np.array([labels.shape[1], labels.shape[0]])
        known = np.where(labels == IGNORE, 0, labels).astype(np.uint8)
        lines, shapes = [], []
        for polygon in polygons(known, self.tolerance, ids=self.ids):
            shares = (polygon.points / sides).clip(0, 1).round(_DIGITS)
            shapes.append((polygon.number, shares * sides))
            points = " ".join(map(_short, shares.ravel().tolist()))
            lines.append(f"{polygon.number - 1} {points}\n")
        text = self._folder.path(record["id"], "labels", ".txt")
        image = self._folder.path(record["id"], "images", suffix)
        self._folder.photograph(image, record["image"], copy=self.copy)
        self._folder.write(text, "".join(lines).encode(), record)
        self._images += f"./images/{record['id']}{suffix}\n".encode()
        return painted(shapes, known.shape)

    def close(self) -> None:
        assert self.names is not None
        # JSON is YAML; a text in quotes is never taken for a number or a truth value.
        names = "".join(
            f"  {place}: {as_json(name).decode()}\n" for place, name in enumerate(self.names)
        )
        root = self._folder.root
        self._folder.write(root / "train.txt", bytes(self._images))
        self._folder.write(
            root / "data.yaml",
            f"# Written by wsss export yolo. All photographs are in train.txt: to keep some for\n"
            f"# validation, move their lines to another list and name it here.\n"
            f"train: train.txt\nval: train.txt\nnames:\n{names}".encode(),
        )


def _short(share: float) -> str:
    return f"{share:.{_DIGITS}f}".rstrip("0").rstrip(".")


def _suffix(record: Record) -> str:
    """The suffix of the photograph of a record.

    Raises:
        WsssError: ultralytics would not read it, or not find its labels.
    """
    suffix = Path(record["image"]).suffix
    if suffix.lower() not in _READ:
        raise WsssError(
            f"{record['image']}: ultralytics reads no {suffix or 'file without suffix'}"
        )
    if "images" in (folders := record["id"].split("/")[:-1]):
        raise WsssError(
            "a folder 'images' in the id: ultralytics would look for its labels in another one"
        )
    if any(folder.endswith(".") for folder in folders):
        raise WsssError("a folder in the id ends in a dot: ultralytics would take it for './'")
    return suffix
