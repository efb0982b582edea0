"""``export voc``: label maps as a folder in VOC's layout, as CVAT imports it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wsss_cli import files
from wsss_cli.classes import BACKGROUND, IGNORE, check_labels, palette
from wsss_cli.errors import ConfigurationError
from wsss_cli.stage import Job
from wsss_cli.tools.export import IGNORED, Exporter, Folder, Labels, tell_strangers
from wsss_cli.unique import Seen

_HEADER = "# label:color_rgb:parts:actions"


class VocExporter(Exporter):
    """Writes SegmentationClass/ID.png, JPEGImages/ID and its suffix, the list and labelmap.txt.

    SegmentationObject/ID.png too where the record has an instance map: a label map alone knows
    classes, not which of their pixels are one object.

    Args:
        out: the folder.
        copy: copy the photographs instead of linking them.
    """

    name = "export voc"
    unfinished = "labelmap.txt and the list are not written"

    def __init__(
        self,
        key: str,
        class_list: Sequence[str] | None = None,
        *,
        out: Path,
        copy: bool = False,
    ) -> None:
        super().__init__(key, class_list)
        self.copy = copy
        self._folder = Folder(out, self.name)
        self._ids = bytearray()
        self._with_objects = Seen()

    def check_names(self, names: Sequence[str]) -> None:
        check_labels(names, self.name)
        if wrong := [name for name in names if ":" in name]:
            raise ConfigurationError(f"{self.name}: labelmap.txt cannot hold the name '{wrong[0]}'")

    def write(self, job: Job, labels: Labels) -> None:
        record = job.record
        mask = self._folder.path(record["id"], "SegmentationClass", ".png")
        suffix = Path(record["image"]).suffix
        image = self._folder.path(record["id"], "JPEGImages", suffix)
        assert self.names is not None
        meta = {**job.meta, "classes": list(self.names)}
        self._folder.photograph(image, record["image"], copy=self.copy)
        self._folder.write(mask, files.label_map_png(labels, meta), record)
        if self.ids is not None:
            objects = self._folder.path(record["id"], "SegmentationObject", ".png")
            self._folder.write(objects, files.label_map_png(self.ids, meta, self.objects), record)
            self._with_objects.add(record["id"])
        self._ids += f"{record['id']}\n".encode()

    def close(self) -> None:
        assert self.names is not None
        root = self._folder.root
        self._folder.write(root / "ImageSets/Segmentation/default.txt", bytes(self._ids))
        colours = palette().tolist()
        listed = [(BACKGROUND, colours[0]), *zip(self.names, colours[1:], strict=False)]
        if self.unknown:  # a colour without a name stops the import
            listed.insert(1, (IGNORED, colours[IGNORE]))
        lines = [f"{name}:{','.join(map(str, colour))}::" for name, colour in listed]
        text = "".join(f"{line}\n" for line in (_HEADER, *lines))
        self._folder.write(root / "labelmap.txt", text.encode())
        for folder, ids in (
            ("SegmentationClass", self._met),
            ("SegmentationObject", self._with_objects),
        ):
            tell_strangers(self.name, self._folder.strangers(folder, ".png", ids))
