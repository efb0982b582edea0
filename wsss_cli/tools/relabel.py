"""``relabel``: label maps of other tools as ours; imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wsss_cli import files
from wsss_cli.datasets.meanings import Meanings
from wsss_cli.pictures import read_values
from wsss_cli.stage import Job, RecordTool


@dataclass(frozen=True, kw_only=True)
class Relabeller(RecordTool):
    """Gives the numbers or colours of label maps their meaning.

    Attributes:
        key: record key of the label maps, whose path is replaced.
        meanings: what their values mean.
    """

    key: str
    meanings: Meanings

    name = "relabel"

    @property
    def outputs(self) -> Mapping[str, str]:
        return {self.key: ".png"}

    @property
    def needs(self) -> Sequence[str]:
        return ("image", self.key)

    @property
    def params(self) -> dict[str, Any]:
        listed = self.meanings.colours or self.meanings.numbers
        return {
            "key": self.key,
            "values": sorted([value, number] for value, number in listed.items()),
            "other": "=" if self.meanings.same else self.meanings.other,
        }

    @property
    def class_list(self) -> Sequence[str]:
        return self.meanings.classes

    def work(self, job: Job) -> None:
        path = job.record[self.key]
        values = read_values(path, files.image_size(job.record["image"]))
        files.write_label_map(job.paths[self.key], self.meanings.applied(values, path), job.meta)
