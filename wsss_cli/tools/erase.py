"""What ``erase`` does with one record; imports no torch, so that worker processes start fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsss_cli import files, records
from wsss_cli.classes import numbers
from wsss_cli.errors import WsssError
from wsss_cli.files import Maps
from wsss_cli.methods.erasing import Labels, erase, join, merge, mine
from wsss_cli.tools import label_maps
from wsss_cli.tools.label_maps import read_matching


@dataclass(frozen=True, kw_only=True)
class Eraser:
    """One step of adversarial erasing (Wei et al. 2017, sec. 3.1).

    Attributes:
        top: share of the pixels that is mined for each class.
        threshold: share of a map's maximum to mine from instead, or None.
        fill: red, green and blue of what is erased.
        background: saliency below this is background.
        max_side: in photographs with a longer side, regions are looked for at this size; 0 is no
            bound.
        classes: class list given by the user, or None for that of the maps.
    """

    top: float
    threshold: float | None
    fill: tuple[int, int, int]
    background: float
    max_side: int
    classes: Sequence[str] | None

    def __call__(
        self, record: Mapping[str, Any], paths: Mapping[str, Path], meta: Mapping[str, Any]
    ) -> str:
        """Write ``erased``, ``mined`` and, if there is a path for it, ``pseudo`` of ``record``.

        Returns:
            The shares of the image mined so far, in words.
        """
        image, maps = read_matching(record, "cam")
        mined = self._mined(record, _labelled(record, maps, self.classes), meta)
        provenance = dict(meta)
        if "pseudo" in paths:
            saliency = files.read_grey(record["saliency"], maps.size)
            mask = merge(mined, saliency, background=self.background)
            files.write_label_map(paths["pseudo"], mask, provenance)
        hidden = erase(image, mined, self.fill)
        files.write_photograph(paths["erased"], hidden, provenance)
        files.write_label_map(paths["mined"], mined, provenance)
        names = [*(self.classes or maps.meta.get("classes", ()))]
        shares = np.bincount(mined.ravel(), minlength=256) / mined.size
        told = [f"{shares[n]:.0%} {names[n - 1]}" for n in range(1, len(names) + 1) if shares[n]]
        told += [f"{shares[files.IGNORE]:.0%} claimed twice"] if shares[files.IGNORE] else []
        told += [f"{shares[0]:.0%} left"]
        if "pseudo" in paths and (resized := files.size_note(record["saliency"], maps.size)):
            told.append(f"saliency {resized}")
        return ", ".join(told)

    def _mined(self, record: Mapping[str, Any], maps: Maps, meta: Mapping[str, Any]) -> Labels:
        """The regions of the steps before and of this one, at the photograph's size."""
        places = label_maps.class_numbers(maps, self.classes)
        before = None
        if record.get("mined"):
            before = files.read_label_map(record["mined"], maps.size)
            listed = (meta.get("from", {}).get("mined") or {}).get("classes")
            names = list(self.classes or maps.meta.get("classes", ()))
            if listed and names and listed != names:
                raise WsssError(f"{record['mined']}: mined with another class list than the maps'")
            highest = before.max(initial=0, where=before != files.IGNORE)
            if names and highest > len(names):
                raise WsssError(
                    f"{record['mined']}: class number {highest}, "
                    f"but the class list ends at {len(names)}"
                )
        shrink = min(self.max_side / max(maps.size), 1) if self.max_side else 1
        seen = (max(round(maps.size[0] * shrink), 1), max(round(maps.size[1] * shrink), 1))
        cam = label_maps.resize(maps.cam, seen)
        regions = mine(cam, places, top=self.top, threshold=self.threshold)
        now: Labels = label_maps.resize_labels(regions, maps.size)
        return now if before is None else join(before, now)


def _labelled(record: Mapping[str, Any], maps: Maps, classes: Sequence[str] | None) -> Maps:
    """The maps of the record's labels; of an unlabelled one, all that there are."""
    maps, _ = label_maps.split_background(maps)
    labels = records.labels(dict(record))
    if labels is None:
        return maps
    if missing := [name for name in labels if name not in maps.classes]:
        if listed := classes or maps.meta.get("classes"):
            numbers(missing, listed)  # says so if there is no such class
        raise WsssError(f"{record['cam']}: no map of {', '.join(missing)}; make the maps again")
    keep = [place for place, name in enumerate(maps.classes) if name in labels]
    return maps._replace(cam=maps.cam[keep], classes=tuple(maps.classes[place] for place in keep))
