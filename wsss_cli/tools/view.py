"""``view``: photograph, activation maps and label maps side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, ClassVar

import numpy as np
from PIL import Image, ImageDraw

from wsss_cli import console, files, records
from wsss_cli.drawing import INK, PALE, PAPER, colour_labels, fitted, font, overlay
from wsss_cli.errors import ConfigurationError, WsssError, describe
from wsss_cli.records import STDIN, Record
from wsss_cli.stage import Failures, Job, RecordTool
from wsss_cli.tools.layers import Colour, Layer, Scene, heading

GAP = 10  # pixels between pictures
_EMPTY = (243, 243, 246)  # where a record has no picture
# What a picture holds at most, so that no record makes it gigabytes large.
_MOST_NAMES = 20
_MOST_PIXELS = 100_000_000  # of a sheet, and of the pictures of a record; 300 MB


@dataclass(frozen=True)
class Cell:
    """One picture of a row, with the words below it."""

    picture: Image.Image
    names: list[tuple[str, Colour | None]]


Row = Sequence[Sequence[Cell]]  # the pictures of a record, by key


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
        scene = Scene.of(record, self.width, self.class_list)
        small = scene.photograph.resize(scene.fitted(self.width), Image.Resampling.LANCZOS)
        pixels = small.width * small.height
        groups: list[list[Cell]] = []
        for key in self.keys:
            if sum(map(len, groups)) * pixels > _MOST_PIXELS:
                raise WsssError(
                    f"its pictures take more than {_MOST_PIXELS:,} pixels: give a smaller --width "
                    "or fewer --keys"
                )
            layers, _ = scene.layers(key, max(_MOST_PIXELS // pixels, 1))
            groups.append([Cell(_drawn(layer, small), layer.names) for layer in layers])
        return groups

    def sheet(self, rows: Sequence[tuple[str, Row]], left_out: str = "") -> Image.Image:
        """A contact sheet, with each key in the same columns all the way down.

        Args:
            rows: id and pictures of each record.
            left_out: the last line, on what the sheet does not show.

        Raises:
            WsssError: there are no rows.
        """
        if not rows:
            raise WsssError("nothing to draw: no record could be read")
        columns = [max(map(len, groups)) for groups in zip(*(row for _, row in rows), strict=True)]
        height = self.around(left_out) + sum(self.height(row, headed=False) for _, row in rows)
        page = Image.new("RGB", (self.across(sum(columns)), height), PAPER)
        draw = ImageDraw.Draw(page)
        self._headings(draw, GAP // 2, columns)
        top = GAP // 2 + self._line
        for name, row in rows:
            strip = self.strip(name, row, columns, headed=False)
            page.paste(strip, (0, top))
            top += strip.height
        style = font(self._letters)
        draw.text((GAP, top), fitted(left_out, style, page.width - 2 * GAP), PALE, style)
        return page

    def across(self, places: int) -> int:
        """Width of a strip with places for so many pictures."""
        return GAP + places * (self.width + GAP)

    def around(self, left_out: str) -> int:
        """Height of what a sheet has above and below its strips."""
        return self._line * (2 if left_out else 1) + GAP

    @property
    def _letters(self) -> int:
        """Size of the letters."""
        return max(round(self.width / 17), 11)

    @property
    def _line(self) -> int:
        """Height of a line of text."""
        return self._letters + 6

    def height(self, groups: Row, *, headed: bool) -> int:
        """Height of a strip."""
        cells = [cell for group in groups for cell in group]
        tall = max((cell.picture.height for cell in cells), default=self.width)
        most = max((len(_bounded(cell.names)) for cell in cells), default=0)
        return (1 + headed + max(most, 1)) * self._line + tall + GAP

    def strip(
        self,
        name: str,
        groups: Row,
        columns: Sequence[int] | None = None,
        *,
        headed: bool = True,
    ) -> Image.Image:
        """One record: its id, then its pictures in a row with their legends below.

        Args:
            name: the id.
            groups: pictures by key.
            columns: number of places for each key, those without a picture say so; None keeps as
                many as there are pictures.
            headed: with the names of the keys above the pictures.
        """
        columns = columns or [len(group) for group in groups]
        cells: list[Cell | str] = []
        for key, group, count in zip(self.keys, groups, columns, strict=True):
            nothing = "no other class" if group else f"no {heading(key)}"
            cells += [*group, *[nothing] * (count - len(group))]
        style, line = font(self._letters), self._line
        page = Image.new(
            "RGB", (self.across(len(cells)), self.height(groups, headed=headed)), PAPER
        )
        draw = ImageDraw.Draw(page)
        draw.text((GAP, 2), fitted(name, style, page.width - 2 * GAP), INK, style)
        if headed:
            self._headings(draw, line, columns)
        above = line * (1 + headed)
        size = next((c.picture.size for c in cells if isinstance(c, Cell)), (self.width,) * 2)
        for place, cell in enumerate(cells):
            left = GAP + place * (self.width + GAP)
            if isinstance(cell, str):
                draw.rectangle((left, above, left + size[0] - 1, above + size[1] - 1), _EMPTY)
                middle = (left + size[0] / 2, above + size[1] / 2)
                draw.text(middle, fitted(cell, style, size[0]), PALE, style, anchor="mm")
                continue
            page.paste(cell.picture, (left, above))
            for index, (text, colour) in enumerate(_bounded(cell.names)):
                top = above + cell.picture.height + 4 + index * line
                indent = 0
                if colour:
                    box = (left, top + 2, left + self._letters, top + self._letters + 1)
                    draw.rectangle(box, colour)
                    indent = line
                shown = fitted(text, style, self.width - indent)
                draw.text((left + indent, top), shown, INK, style)
        return page

    def _headings(self, draw: ImageDraw.ImageDraw, top: int, columns: Sequence[int]) -> None:
        """The name of each key, above the first of its columns."""
        style, place = font(self._letters - 1), 0
        for key, count in zip(self.keys, columns, strict=True):
            room = self.across(count) - 2 * GAP
            shown = fitted(heading(key), style, room) if count else ""
            draw.text((GAP + place * (self.width + GAP), top), shown, PALE, style)
            place += count


def _drawn(layer: Layer, photograph: Image.Image) -> Image.Image:
    """A layer over a photograph, in the size of that."""
    if layer.kind == "map":
        return overlay(photograph, layer.values)
    if layer.kind == "labels":
        small = Image.fromarray(layer.values).resize(photograph.size, Image.Resampling.NEAREST)
        return colour_labels(photograph, np.asarray(small))
    return Image.fromarray(layer.values).resize(photograph.size, Image.Resampling.LANCZOS)


def _bounded(names: Sequence[tuple[str, Colour | None]]) -> list[tuple[str, Colour | None]]:
    """The lines of a legend."""
    lines = [*names[:_MOST_NAMES]]
    if len(names) > _MOST_NAMES:
        lines.append((f"and {len(names) - _MOST_NAMES:,} more", None))
    return lines


def write_sheet(
    viewer: Viewer,
    sources: Sequence[str],
    failures: Failures,
    *,
    out: str,
    limit: int,
    asked: bool,
) -> None:
    """Write the contact sheet of the first records of a stream.

    Args:
        viewer: draws the rows; keys that no record has are left out.
        sources: files of records; none means stdin.
        failures: called for each record that cannot be drawn.
        out: the file; it must be none of theirs.
        limit: number of records.
        asked: the user named the keys: warn about a key that no record has.

    Raises:
        WsssError: it would replace a file of a record, or be too large, or empty.
    """
    chosen, left_out = first(sources, failures, limit)
    if left_out:
        console.note(viewer.name, left_out)
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
        height += viewer.height(row, headed=False)
        if (
            pixels := viewer.across(sum(columns)) * (viewer.around(left_out) + height)
        ) > _MOST_PIXELS:
            raise WsssError(
                f"{len(rows)} of {len(chosen)} records already fill a sheet of {pixels:,} pixels: "
                "give a smaller --limit or --width, or a folder as --out"
            )
    sheet = viewer.sheet(rows, left_out)
    files.write_image(out, sheet, files.provenance(viewer.name, viewer.params))


def first(sources: Sequence[str], failures: Failures, limit: int) -> tuple[list[Record], str]:
    """The first records of a stream, and in words how many there are after them, if any.

    Of stdin no more than one further record is read, so that the tool before may stop.

    Args:
        sources: files of records; none means stdin.
        failures: called for each line before the limit that is no good record.
        limit: number of records.
    """
    within = True
    stream = records.read(sources, lambda text: failures(text) if within else None)
    chosen = list(islice(stream, limit))
    within = False
    if not sources or STDIN in sources:
        more = "the others were not read" if next(stream, None) else ""
    else:
        count = sum(1 for _ in stream)
        more = f"{count:,} more left out" if count else ""
    return chosen, more and f"the first {len(chosen):,} records; {more} (--limit)"


def check_sheet(out: str, sources: Sequence[str]) -> None:
    """Raise ConfigurationError if a sheet would replace a stream or another picture."""
    files.check_targets([out], keep=sources)
    if foreign := files.foreign(out, Viewer.name):
        raise ConfigurationError(foreign)
