"""``erase``: one step of adversarial erasing; imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from wsss_cli import console, files, records
from wsss_cli.classes import IGNORE, numbers
from wsss_cli.datasets.colour import mean_colour
from wsss_cli.errors import WsssError
from wsss_cli.files import Maps
from wsss_cli.methods.erasing import Labels, erase, join, merge, mine
from wsss_cli.stage import Job, RecordTool
from wsss_cli.tools import label_maps

Colour = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Eraser(RecordTool):
    """One step of adversarial erasing (Wei et al. 2017, sec. 3.1).

    Attributes:
        top: share of the pixels that is mined for each class.
        threshold: share of a map's maximum to mine from instead, or None.
        fill: red, green and blue of the erased regions.
        background: saliency below this is background.
        max_side: in photographs with a longer side, regions are mined at this size; 0 is no limit.
        class_list: class list given by the user, or None for that of the maps.
    """

    top: float
    threshold: float | None
    fill: Colour
    background: float
    max_side: int
    class_list: Sequence[str] | None = None

    name = "erase"
    outputs: ClassVar = {"erased": ".png", "mined": ".png", "pseudo": ".png"}
    needs = ("image", "cam")
    inputs = ("cam", "mined", "image", "saliency", "labels")
    only_with: ClassVar = {"pseudo": "saliency"}
    subfolders = True

    @property
    def params(self) -> dict[str, Any]:
        return {
            "top": self.top,
            "threshold": self.threshold,
            "fill": self.fill,
            "background": self.background,
            "max_side": self.max_side,
            "classes": self.class_list,
        }

    def work(self, job: Job) -> None:
        record, paths = job.record, job.paths
        image, maps = label_maps.read_matching(record, "cam", classes=self.class_list)
        mined = self._mined(record, _labelled(record, maps, self.class_list), job.meta)
        if "pseudo" in paths:
            saliency = files.read_grey(record["saliency"], maps.size)
            mask = merge(mined, saliency, background=self.background)
            files.write_label_map(paths["pseudo"], mask, job.meta)
        hidden = erase(image, mined, self.fill)
        files.write_photograph(paths["erased"], hidden, job.meta)
        files.write_label_map(paths["mined"], mined, job.meta)
        if console.verbose():
            console.detail(self.name, f"{record['id']}: {self._summary(job, maps, mined)}")

    def _summary(self, job: Job, maps: Maps, mined: Labels) -> str:
        """The shares of the image mined so far, in words."""
        names = [*(self.class_list or maps.meta.get("classes", ()))]
        shares = np.bincount(mined.ravel(), minlength=256) / mined.size
        parts = [f"{shares[n]:.0%} {names[n - 1]}" for n in range(1, len(names) + 1) if shares[n]]
        parts += [f"{shares[IGNORE]:.0%} claimed twice"] if shares[IGNORE] else []
        parts += [f"{shares[0]:.0%} left"]
        if "pseudo" in job.paths and (
            resized := files.size_note(job.record["saliency"], maps.size)
        ):
            parts.append(f"saliency {resized}")
        return ", ".join(parts)

    def _mined(self, record: Mapping[str, Any], maps: Maps, meta: Mapping[str, Any]) -> Labels:
        """The regions mined in earlier steps and in this one, at the photograph's size."""
        places = label_maps.class_numbers(maps, self.class_list)
        before = None
        if record.get("mined"):
            before = files.read_label_map(record["mined"], maps.size)
            listed = (meta.get("from", {}).get("mined") or {}).get("classes")
            names = list(self.class_list or maps.meta.get("classes", ()))
            if listed and names and listed != names:
                raise WsssError(f"{record['mined']}: mined with another class list than the maps'")
            highest = before.max(initial=0, where=before != IGNORE)
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
    """The maps of the record's labels; all maps if it is unlabelled."""
    maps, _ = label_maps.split_background(maps)
    labels = records.labels(dict(record))
    if labels is None:
        return maps
    if missing := [name for name in labels if name not in maps.classes]:
        if listed := classes or maps.meta.get("classes"):
            numbers(missing, listed)  # raises if there is no such class
        raise WsssError(f"{record['cam']}: no map of {', '.join(missing)}; make the maps again")
    keep = [place for place, name in enumerate(maps.classes) if name in labels]
    return maps._replace(cam=maps.cam[keep], classes=tuple(maps.classes[place] for place in keep))


def mean_fill(sources: Sequence[str], threads: int) -> Colour:
    """The mean colour of the photographs of a stream, which can be read once more after.

    Args:
        sources: files of records; none means stdin.
        threads: threads that read photographs.
    """
    rewind = records.readable_twice(sources)
    total = records.total(sources)
    with console.progress("erase mean", total=total, unit="photograph") as bar:

        def photographs() -> Iterator[str]:
            # Records that are no good are reported when it is their turn to be erased.
            for record in records.read(sources, lambda text: None):
                bar.update()
                if record.get("image"):
                    yield record["image"]

        colour = mean_colour(photographs(), threads=threads)
    rewind()
    if colour is None:
        return (0, 0, 0)  # no photograph can be read, so none will be filled
    console.note("erase", f"mean colour of the photographs: {','.join(map(str, colour))}")
    return colour
