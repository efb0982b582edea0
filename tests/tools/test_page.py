"""The page as data: what is in it, that nothing else can be, and that its figures are eval's."""

from __future__ import annotations

import base64
import json
import os
import re
import tomllib
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Run, as_lines
from wsss_cli import files, inputs
from wsss_cli.stage import Failures
from wsss_cli.tools.page import Page, write_page

HOSTILE = "</script><img src=x onerror=alert(1)><!--<script>"
KEYS = ("image", "saliency", "cam", "aff_label", "pseudo", "pred", "mask")


class Parsed(HTMLParser):
    """The elements of a page, and the texts of its blocks of data."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, list[str]] = {}
        self.feed(path.read_text("utf-8"))
        self.data = json.loads(self.scripts["data"][0])
        self.pictures = [json.loads(text) for text in self.scripts.get("pictures", [])]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag, attributes = self.elements[-1] if self.elements else ("", {})
        if tag == "script" and data.strip():
            self.scripts.setdefault(attributes.get("class") or "", []).append(data)


def written(records: Any, *, failed: int = 0, **changed: Any) -> Parsed:
    """The page of records, as `page.html`."""
    Path("in.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    settings = {"keys": KEYS, "width": 64, **changed}
    failures = Failures("view")
    write_page(Page(**settings), ["in.jsonl"], failures, out="page.html", limit=None, asked=False)
    assert failures.count == failed
    return Parsed(Path("page.html"))


def picture(source: str) -> Image.Image:
    """A picture that a page holds."""
    kind, _, content = source.partition(";base64,")
    assert kind in ("data:image/png", "data:image/jpeg")
    return Image.open(BytesIO(base64.b64decode(content)))


def test_a_page_holds_all_it_shows(shown: list[dict[str, Any]]) -> None:
    page = written(shown)
    assert [known["key"] for known in page.data["keys"]] == ["image", "cam", "pseudo", "mask"]
    assert [record["id"] for record in page.data["records"]] == [each["id"] for each in shown]
    assert page.data["records"][0]["labels"] == ["cat"]
    assert len(page.pictures) == 4
    for record, pictures in zip(page.data["records"], page.pictures, strict=True):
        assert list(picture(pictures["image"]).size) == record["size"]
        assert picture(pictures["layers"]["pseudo"][0]["src"]).size == tuple(record["size"])
    assert [layer["names"] for layer in page.pictures[2]["layers"]["cam"]] == [
        [["cat", ""]],
        [["dog", ""]],
    ]
    # A true mask shares the class list of the other files.
    assert page.pictures[1]["layers"]["mask"][0]["names"] == [["dog", "#008000"]]
    assert {name for record in page.data["records"] for name in record["classes"]} == {"cat", "dog"}


def test_pictures_are_made_smaller_never_larger(shown: list[dict[str, Any]]) -> None:
    assert [record["size"] for record in written(shown, width=32).data["records"][1:3]] == [
        [32, 24],
        [24, 32],
    ]
    page = written(shown, width=400)
    assert page.data["records"][0]["size"] == [64, 48]
    assert picture(page.pictures[0]["layers"]["cam"][0]["src"]).size == (16, 12)


def test_there_is_always_a_photograph(shown: list[dict[str, Any]]) -> None:
    for keys, there in (
        (("mask", "nix"), ["image", "mask"]),
        (("mask", "image", "mask"), ["mask", "image"]),
        (("nix",), ["image"]),
    ):
        assert [known["key"] for known in written(shown, keys=keys).data["keys"]] == there


def test_nothing_comes_from_elsewhere(shown: list[dict[str, Any]]) -> None:
    page = written(shown)
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        assert not {"src", "href", "srcset", "onload", "onerror"} & set(attributes), tag
    text = Path("page.html").read_text()
    assert "http:" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "https:" not in text
    policy = next(a["content"] for _, a in page.elements if "http-equiv" in a)
    assert policy is not None
    assert "default-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[\w+/]{43}='$", policy)


def test_labels_are_laid_over_the_photograph_in_their_colours(shown: list[dict[str, Any]]) -> None:
    labels = np.zeros((48, 64), np.uint8)
    labels[:, 32:], labels[:, 60:] = 2, 255
    meta = files.provenance("t", {}, classes=["cat", "dog"])
    files.write_label_map(shown[0]["pseudo"], labels, meta)
    page = written(shown)
    layer = page.pictures[0]["layers"]["pseudo"][0]
    pixels = np.asarray(picture(layer["src"]).convert("RGBA"))
    assert pixels[20, [5, 40, 62]].tolist() == [
        [0, 0, 0, 120],
        [0, 128, 0, 255],
        [224, 224, 192, 200],
    ]
    assert layer["names"] == [["dog", "#008000"]]


def test_a_map_is_hot_and_opaque_where_it_is_strong(shown: list[dict[str, Any]]) -> None:
    cam = np.zeros((1, 12, 16))
    cam[:, :, 8:] = 1
    files.write_maps(shown[0]["cam"], cam, ["cat"], (48, 64), {"classes": ["cat", "dog"]})
    source = written(shown).pictures[0]["layers"]["cam"][0]["src"]
    pixels = np.asarray(picture(source).convert("RGBA")).astype(int)
    assert pixels[6, 2].tolist() == [0, 0, 130, 89]
    assert pixels[6, 14].tolist() == [230, 20, 0, 255]


@pytest.mark.parametrize("key", ["pseudo", "cam"])
def test_the_figures_are_those_of_eval(key: str, shown: list[dict[str, Any]], inside: Run) -> None:
    page = written(shown)
    result = page.data["results"][key]
    measured = json.loads(inside("eval", "--key", key, "--format", "json", input=shown).out)
    assert 0.1 < measured["miou"] < 0.95
    for name in ("miou", "precision", "recall", "pixel_accuracy", "images", "classes", "threshold"):
        assert result[name] == measured[name], name
    counts = np.array(result["matrix"])
    hit = np.diag(counts)
    iou = hit / (counts.sum(1) + counts[:, :-1].sum(0) - hit)
    assert iou == pytest.approx([each["iou"] for each in measured["classes"].values()], abs=1e-6)
    if key == "cam":
        swept = {f"{threshold:g}": value for threshold, value in result["sweep"]["mIoU"]}
        assert swept == measured["sweep"]


@pytest.mark.parametrize("key", ["pseudo", "cam"])
def test_each_image_has_the_values_of_eval(
    key: str, shown: list[dict[str, Any]], inside: Run
) -> None:
    """Of maps at the threshold that is best for all of them."""
    page = written(shown)
    threshold = page.data["results"][key]["threshold"]
    rule = [] if threshold is None else ["--threshold", str(threshold)]
    inside("eval", "--key", key, "--per-image", "own.jsonl", *rule, input=shown, check=0)
    own = [json.loads(line) for line in Path("own.jsonl").read_text().splitlines()]
    assert len({each["miou"] for each in own}) > 2
    for record, each in zip(page.data["records"], own, strict=True):
        assert record["iou"][key] == {"miou": each["miou"], "iou": each["iou"]}


def test_without_a_true_mask_there_are_no_figures(shown: list[dict[str, Any]]) -> None:
    for record in shown[1:]:
        del record["mask"]
    page = written(shown)
    assert page.data["results"]["pseudo"]["images"] == 1
    assert [sorted(record["iou"]) for record in page.data["records"]] == [["cam", "pseudo"]] + [
        []
    ] * 3
    del shown[0]["mask"]
    assert written(shown).data["results"] == {}


def test_affinities_are_shown_and_not_measured(shown: list[dict[str, Any]]) -> None:
    for record in shown:
        record["affinity"] = f"affinity {record['id']}.png"
        Image.new("L", (16, 12), 84).save(record["affinity"])
    page = written(shown, keys=("image", "affinity", "pseudo"))
    assert [known["key"] for known in page.data["keys"]] == ["image", "affinity", "pseudo"]
    assert set(page.data["results"]) == {"pseudo"}


def test_what_cannot_be_measured_is_shown_and_named(
    shown: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Masks for other labels: what looks wrong is what one wants to see."""
    shown[1]["labels"] = ["cat"]
    page = written(shown, failed=1)
    assert capsys.readouterr().err.startswith(
        "wsss view: photo 1 é: runs/1.npz: made for the labels dog, but the record's are cat;"
    )
    assert len(page.data["records"]) == len(page.pictures) == 4
    assert page.data["records"][1]["iou"] == {}
    assert page.data["results"]["pseudo"]["images"] == 3
    assert page.data["failed"] == 1
    for record in shown:
        record["labels"] = ["cow"]
    page = written(shown, failed=4)
    assert len(page.pictures) == 4
    assert page.data["results"] == {}


def test_no_text_of_others_becomes_markup(shown: list[dict[str, Any]]) -> None:
    plain = written(shown)
    shown[0]["id"] = HOSTILE
    shown[1]["labels"] = [HOSTILE, "\u202e\x1b[31m"]
    meta = files.provenance(HOSTILE, {HOSTILE: HOSTILE}, checkpoint=HOSTILE, classes=[HOSTILE, "d"])
    labels = np.ones((48, 64), np.uint8)
    files.write_label_map(shown[0]["pseudo"], labels, meta)
    files.write_label_map(shown[0]["mask"], labels)
    page = written(shown[:1], keys=("image", "pseudo", "mask"), class_list=(HOSTILE, "d"))
    kinds = [tag for tag, _ in page.elements if tag != "script"]
    assert kinds == [tag for tag, _ in plain.elements if tag != "script"]
    assert len(page.scripts["data"]) == len(page.scripts["pictures"]) == 1
    assert page.data["records"][0]["id"] == HOSTILE
    assert page.pictures[0]["layers"]["pseudo"][0]["names"] == [[HOSTILE, "#800000"]]
    assert page.data["made"]["pseudo"][0]["by"]["params"] == {HOSTILE: HOSTILE}


def test_long_texts_are_cut(shown: list[dict[str, Any]]) -> None:
    shown[0]["id"] = "i" * 10**6
    shown[1]["labels"] = [f"{n}" + "x" * 10**4 for n in range(10**3)]
    del shown[1]["cam"], shown[1]["pseudo"]
    page = written(shown)
    assert page.data["records"][0]["id"] == "i" * 299 + "…"
    assert len(page.data["records"][1]["labels"]) == 254
    assert Path("page.html").stat().st_size < 300_000


def test_how_each_file_was_made(shown: list[dict[str, Any]]) -> None:
    page = written(shown)
    kinds = page.data["made"]["pseudo"]
    assert [(kind["count"], kind["by"]["tool"]) for kind in kinds] == [(3, "crf"), (1, "crf")]
    assert kinds[0]["by"]["from"]["cam"] == {
        "tool": "make-cam",
        "version": kinds[0]["by"]["version"],
        "params": {"flip": True},
        "checkpoint": inputs.digest("runs/cam.pt"),
    }
    assert [pictures["made"]["pseudo"] for pictures in page.pictures] == [0, 0, 0, 1]
    assert page.data["made"]["mask"] == [{"count": 4, "by": None}]


def test_the_logs_of_trainings_are_found_beside_their_checkpoints(
    shown: list[dict[str, Any]],
) -> None:
    log = [{"step": n, "epoch": n / 10, "loss": 1 / n} for n in range(1, 5001)]
    Path("runs/cam.log.jsonl").write_text(as_lines(log))
    training = written(shown).data["trainings"]
    assert [(each["tool"], each["log"]) for each in training] == [("make-cam", "cam.log.jsonl")]
    points = training[0]["curves"]["loss"]
    assert len(points) <= 202
    assert points[0][0] == 0.1
    assert points[-1][0] == 500
    Path("runs/cam.pt").write_text("trained again")
    training = written(shown).data["trainings"]
    assert [(each["log"], each["curves"]) for each in training] == [(None, {})]


def test_linked_photographs_stay_where_they_are(shown: list[dict[str, Any]]) -> None:
    Image.open(shown[1]["image"]).save("b:a#b?%41.png")
    shown[1]["image"] = "b:a#b?%41.png"
    broken = os.fsdecode(b"\xff.png")
    os.rename(shown[3]["image"], broken)
    shown[3]["image"] = broken
    Image.open(shown[2]["image"]).save("p.tif")
    shown[2]["image"] = "p.tif"
    for record in shown:
        record.pop("cam")
        record.pop("pseudo")
    page = written(shown, link=True)
    sources = [pictures["image"] for pictures in page.pictures]
    assert [unquote(source, errors="surrogateescape") for source in (*sources[:2], sources[3])] == [
        record["image"] for record in (*shown[:2], shown[3])
    ]
    assert sources[1] == "b%3Aa%23b%3F%2541.png"
    assert sources[2].startswith("data:image/jpeg")  # no browser shows a TIFF
    assert picture(page.pictures[0]["layers"]["mask"][0]["src"]).size == (64, 48)


def test_the_package_holds_the_layout_of_the_page() -> None:
    top = Path(__file__).parents[2]
    project = tomllib.loads((top / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["packages"] == ["wsss_cli"]  # all files in it that git does not ignore
    assert (top / "wsss_cli/tools/page.html").is_file()
    assert "exclude" not in wheel
