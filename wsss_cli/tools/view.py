"""``view``: photograph, activation maps and label maps side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image, ImageDraw

from wsss_cli import console, files, inputs, records
from wsss_cli.classes import BACKGROUND, IGNORE, palette
from wsss_cli.drawing import INK, PALE, PAPER, colour_labels, fitted, font, overlay
from wsss_cli.errors import ConfigurationError, WsssError, describe
from wsss_cli.records import KEYS
from wsss_cli.stage import Failures, Job, RecordTool

GAP = 10  # pixels between pictures
# What a picture holds at most, so that no record makes it gigabytes large.
_MOST_NAMES, _MOST_MAPS = 20, 24
_MOST_PIXELS = 100_000_000  # of a sheet, and of the pictures of a record; 300 MB


@dataclass(frozen=True)
class Cell:
    """One picture of a row, with the words above and below it."""

    picture: Image.Image
    heading: str
    names: list[tuple[str, tuple[int, int, int]]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Viewer(RecordTool):
    """Draws the records of a stream.

    Attributes:
        keys: record keys to show, in order; one that a record lacks leaves a gap.
        width: width of a picture in pixels.
        class_list: class list for the names in the legends, or None for those of the files.
    """

    keys: tuple[str, ...]
    width: int = 240
    class_list: tuple[str, ...] | None = None

    name = "view"
    outputs: ClassVar = {"view": ".png"}

    @property
    def inputs(self) -> Sequence[str]:
        return ("image", "labels", *self.keys)

    @property
    def params(self) -> dict[str, Any]:
        return {"keys": self.keys, "width": self.width, "classes": self.class_list}

    def work(self, job: Job) -> None:
        strip = self.strip(job.record["id"], self.row(job.record))
        files.write_image(job.paths["view"], strip, job.meta)

    def row(self, record: dict[str, Any]) -> list[list[Cell]]:
        """The pictures of one record: for each key none, one, or for maps one a class.

        Raises:
            WsssError: a file is missing, unreadable or of another photograph's size, or the
                pictures are too large.
        """
        photo = Image.fromarray(files.read_image(record["image"]))
        size = photo.height, photo.width
        shown = inputs.digest(record["image"])
        small = photo.resize(self._fit(photo.size), Image.Resampling.LANCZOS)
        groups: list[list[Cell]] = []
        for key in self.keys:
            if sum(map(len, groups)) * small.width * small.height > _MOST_PIXELS:
                raise WsssError(
                    f"its pictures take more than {_MOST_PIXELS:,} pixels: give a smaller --width "
                    "or fewer --keys"
                )
            if not record.get(key):
                groups.append([])
                continue
            if not isinstance(record[key], str):
                raise WsssError(f"'{key}' is no path of a picture, label map or maps")
            # Also for other labels: what looks wrong is what one wants to see.
            inputs.check_source(
                key, files.read_meta(record[key]), shown, {**record, "labels": None}
            )
            if Path(record[key]).suffix == ".npz":
                groups.append(self._maps(small, size, record[key], key))
            else:
                groups.append([self._picture(small, size, record, key)])
        return groups

    def _fit(self, size: tuple[int, int]) -> tuple[int, int]:
        # The long side of a photograph has the same length, whether it is tall or wide.
        shrink = self.width / max(size[0], size[1])
        return max(round(size[0] * shrink), 1), max(round(size[1] * shrink), 1)

    def _picture(
        self, photo: Image.Image, size: tuple[int, int], record: dict[str, Any], key: str
    ) -> Cell:
        heading = _heading(key)
        if key == "image":
            return Cell(photo, heading, [(name, PALE) for name in record.get("labels") or []])
        if key == "erased":
            read = files.read_image(record[key])
            return Cell(Image.fromarray(read).resize(photo.size), heading)
        if key in ("saliency", "affinity"):  # saliency as erase and eps-train see it
            grey = (files.read_grey(record[key], size) * 255).astype(np.uint8)
            return Cell(Image.fromarray(grey).resize(photo.size), heading)
        labels, meta = files.read_labels(record[key], size)
        names = self.class_list or tuple(inputs.class_list(meta or {}) or ())
        colours = palette()
        legend: list[tuple[str, tuple[int, int, int]]] = []
        numbers = np.unique(labels).tolist()
        if numbers == [IGNORE]:
            legend.append(("nothing but 255, to ignore", PALE))
        for number in numbers:
            if number not in (0, IGNORE):
                known = names[number - 1] if number <= len(names) else f"class {number}"
                red, green, blue = colours[number].tolist()
                legend.append((known, (red, green, blue)))
        small = np.asarray(Image.fromarray(labels).resize(photo.size, Image.Resampling.NEAREST))
        return Cell(colour_labels(photo, small), heading, legend)

    def _maps(self, photo: Image.Image, size: tuple[int, int], path: str, key: str) -> list[Cell]:
        maps = files.read_maps(path, size)
        heading = _heading(key)
        planes = [
            (name, plane)
            for name, plane in zip(maps.classes, maps.cam, strict=True)
            if name != BACKGROUND
        ]
        most = max(min(_MOST_MAPS, _MOST_PIXELS // (photo.width * photo.height)), 1)
        shown = [
            Cell(overlay(photo, plane), heading, [(name, PALE)]) for name, plane in planes[:most]
        ]
        if more := planes[most:]:
            shown[-1].names.append((f"and {len(more)} more maps", PALE))
        return shown or [Cell(overlay(photo, np.zeros((2, 2))), heading, [("no labels", PALE)])]

    def sheet(self, rows: Sequence[tuple[str, Sequence[Sequence[Cell]]]]) -> Image.Image:
        """A contact sheet, with each key in the same columns all the way down.

        Args:
            rows: id and pictures of each record.

        Raises:
            WsssError: there are no rows.
        """
        if not rows:
            raise WsssError("nothing to draw: no record could be read")
        columns = [max(map(len, groups)) for groups in zip(*(row for _, row in rows), strict=True)]
        height = sum(self.height(row) for _, row in rows) + GAP
        page = Image.new("RGB", (self.across(sum(columns)), height), PAPER)
        top = GAP // 2
        for name, row in rows:
            strip = self.strip(name, row, columns)
            page.paste(strip, (0, top))
            top += strip.height
        return page

    def across(self, places: int) -> int:
        """Width of a strip with places for so many pictures."""
        return GAP + places * (self.width + GAP)

    @property
    def _letters(self) -> int:
        """Size of the letters."""
        return max(round(self.width / 17), 11)

    def height(self, groups: Sequence[Sequence[Cell]]) -> int:
        """Height of a strip."""
        cells = [cell for group in groups for cell in group]
        tall = max((cell.picture.height for cell in cells), default=self.width)
        most = max((len(_bounded(cell.names)) for cell in cells), default=0)
        return (2 + max(most, 1)) * (self._letters + 6) + tall + GAP

    def strip(
        self, name: str, groups: Sequence[Sequence[Cell]], columns: Sequence[int] | None = None
    ) -> Image.Image:
        """One record: its pictures in a row, headings above, legends below, its id first.

        Args:
            name: the id.
            groups: pictures by key.
            columns: how many places to keep for each key; None keeps as many as there are.
        """
        cells: list[Cell | None] = []
        for group, count in zip(groups, columns or map(len, groups), strict=True):
            cells += [*group, *[None] * (count - len(group))]
        size = self._letters
        line = size + 6
        page = Image.new("RGB", (self.across(len(cells)), self.height(groups)), PAPER)
        draw = ImageDraw.Draw(page)
        style, small = font(size), font(size - 1)
        draw.text((GAP, 2), fitted(name, style, page.width - 2 * GAP), INK, style)
        for place, cell in enumerate(cells):
            if cell is None:
                continue
            left = GAP + place * (self.width + GAP)
            draw.text((left, line), fitted(cell.heading, small, self.width), PALE, small)
            page.paste(cell.picture, (left, 2 * line))
            for index, (text, colour) in enumerate(_bounded(cell.names)):
                top = 2 * line + cell.picture.height + 4 + index * line
                indent = 0
                if colour != PALE:
                    draw.rectangle((left, top + 2, left + size, top + size + 1), colour)
                    indent = size + 6
                shown = fitted(text, style, self.width - indent)
                draw.text((left + indent, top), shown, INK, style)
        return page


def _bounded(names: Sequence[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """The lines of a legend."""
    lines = [*names[:_MOST_NAMES]]
    if len(names) > _MOST_NAMES:
        lines.append((f"and {len(names) - _MOST_NAMES:,} more", PALE))
    return lines


def _heading(key: str) -> str:
    return KEYS[key].heading if key in KEYS else key


def draw_sheet(
    viewer: Viewer,
    sources: Sequence[str],
    failures: Failures,
    *,
    out: str,
    limit: int,
    asked: bool,
) -> Image.Image:
    """The contact sheet of the first records of a stream.

    Args:
        viewer: draws the rows; keys that no record has are left out.
        sources: files of records; none means stdin.
        failures: called for each record that cannot be drawn.
        out: the file it will go to; it must be none of theirs.
        limit: number of records.
        asked: the user named the keys: warn about a key that no record has.

    Raises:
        WsssError: it would replace a file of a record, or be too large, or empty.
    """
    chosen = list(islice(records.read(sources, failures), limit))
    shown = tuple(key for key in viewer.keys if any(record.get(key) for record in chosen))
    for key in viewer.keys:
        if chosen and key not in shown and asked:
            console.warn(viewer.name, f"no record has '{key}'; left out")
    viewer = replace(viewer, keys=shown)
    rows: list[tuple[str, list[list[Cell]]]] = []
    columns, height = [0] * len(shown), 0
    for record in chosen:
        if own := files.key_of(record, out):
            raise WsssError(f"{out}: would overwrite '{own}' of {record['id']}; change --out")
        try:
            records.need(record, viewer.needs)
            row = viewer.row(record)
        except (WsssError, OSError) as error:
            failures(f"{record['id']}: {describe(error)}")
            continue
        rows.append((record["id"], row))
        columns = [max(most, len(group)) for most, group in zip(columns, row, strict=True)]
        height += viewer.height(row)
        if (pixels := viewer.across(sum(columns)) * height) > _MOST_PIXELS:
            raise WsssError(
                f"{len(rows)} of {len(chosen)} records already fill a sheet of {pixels:,} pixels: "
                "give a smaller --limit or --width, or a folder as --out"
            )
    return viewer.sheet(rows)


def check_sheet(out: str, sources: Sequence[str]) -> None:
    """Raise ConfigurationError if a sheet would replace a stream or another picture."""
    files.check_targets([out], keep=sources)
    if foreign := files.foreign(out, Viewer.name):
        raise ConfigurationError(foreign)
