"""COCO's JSON: labels and label maps as the annotations say, and whatever is wrong named."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsss_cli import files
from wsss_cli.datasets.coco import category_names, coco_records, decoded
from wsss_cli.datasets.part import Part
from wsss_cli.errors import ConfigurationError, WsssError
from wsss_cli.files import read_label_map, read_meta, write_label_map

SIZE = (6, 8)  # (H, W)


def runs(mask: np.ndarray) -> dict[str, Any]:
    """The run-length code of a mask, by a loop over its pixels."""
    lengths, last = [0], 0
    for value in mask.T.reshape(-1).astype(int):
        if value != last:
            lengths.append(0)
            last = value
        lengths[-1] += 1
    return {"counts": lengths, "size": list(mask.shape)}


def box(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[top:bottom, left:right] = True
    return mask


def annotation(image: int, category: int, mask: np.ndarray | None = None, **more: Any) -> Any:
    outline = {} if mask is None else {"segmentation": runs(mask)}
    return {"image_id": image, "category_id": category, "iscrowd": 0, **outline, **more}


@pytest.fixture
def data(workdir: Path) -> dict[str, Any]:
    """Three photographs; category ids with holes, not in the order of the list."""
    for name in ("photos/a.jpg", "photos/inner/b.JPG", "photos/c.jpg"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE[::-1]).save(name, format="JPEG")
    names = ("a.jpg", "inner/b.jpg", "c.jpg")
    return {
        "info": {"year": 2017},
        "images": [
            {"id": 10 * number, "file_name": name, "width": SIZE[1], "height": SIZE[0]}
            for number, name in enumerate(names, start=1)
        ],
        "annotations": [
            annotation(20, 90, box(0, 0, 2, 2)),
            annotation(10, 3, box(1, 1, 3, 3)),
            annotation(10, 90, box(0, 0, 5, 5)),
            annotation(10, 3, box(4, 0, 6, 8), iscrowd=1),
        ],
        "categories": [{"id": 90, "name": "dog"}, {"id": 3, "name": "cat"}],
    }


def read(data: dict[str, Any], **options: Any) -> tuple[list[dict[str, Any]], list[str]]:
    """Records and problems."""
    Path("a.json").write_text(json.dumps(data))
    problems: list[str] = []
    found = list(coco_records("a.json", problems.append, **{"images": "photos", **options}))
    return found, problems


def test_labels_are_the_categories_in_the_order_of_their_ids(data: dict[str, Any]) -> None:
    found, problems = read(data)
    assert found == [
        {"id": "a", "image": "photos/a.jpg", "labels": ["cat", "dog"]},
        {"id": "inner/b", "image": "photos/inner/b.JPG", "labels": ["dog"]},
        {"id": "c", "image": "photos/c.jpg", "labels": []},
    ]
    assert problems == []
    assert category_names("a.json") == ("cat", "dog")


def test_the_size_need_not_be_said(data: dict[str, Any]) -> None:
    data["images"][0] |= {"width": None, "height": None}
    del data["images"][1]["width"], data["images"][1]["height"]
    found, problems = read(data, masks="masks")
    assert (len(found), problems) == (3, [])
    assert read_label_map("masks/a.png").shape == SIZE


def test_a_crowd_alone_is_a_label_too(data: dict[str, Any]) -> None:
    data["annotations"] = data["annotations"][-1:]
    assert read(data)[0][0]["labels"] == ["cat"]


def test_without_annotations_labels_are_unknown(data: dict[str, Any]) -> None:
    del data["annotations"]
    found, problems = read(data, masks="masks")
    assert [list(record) for record in found] == [["id", "image"]] * 3
    assert problems == []


def test_the_smaller_object_lies_over_the_larger_and_all_over_the_crowd(
    data: dict[str, Any],
) -> None:
    found, problems = read(data, masks="masks")
    assert problems == []
    wanted = np.zeros(SIZE, np.uint8)
    for top, left, bottom, right, number in ((4, 0, 6, 8, 255), (0, 0, 5, 5, 2), (1, 1, 3, 3, 1)):
        wanted[top:bottom, left:right] = number
    assert found[0]["mask"] == "masks/a.png"
    np.testing.assert_array_equal(read_label_map("masks/a.png"), wanted)
    np.testing.assert_array_equal(read_label_map("masks/inner/b.png"), box(0, 0, 2, 2) * 2)
    assert not read_label_map("masks/c.png").any()
    meta = read_meta("masks/a.png")
    assert meta is not None
    assert (meta["tool"], meta["classes"]) == ("index coco", ["cat", "dog"])


def test_classes_choose_and_number(data: dict[str, Any]) -> None:
    found, problems = read(data, masks="masks", classes=("dog",))
    assert [record["labels"] for record in found] == [["dog"], ["dog"], []]
    np.testing.assert_array_equal(read_label_map("masks/a.png"), box(0, 0, 5, 5))
    read(data, masks="masks", classes=("dog", "cat"))
    assert read_label_map("masks/a.png")[1, 1] == 2
    with pytest.raises(ConfigurationError, match=r"'cow' is no category of a\.json: cat, dog"):
        read(data, classes=("cow",))
    assert problems == []


def panoptic(data: dict[str, Any]) -> dict[str, Any]:
    """The same as panoptic JSON: ids 1 and 70000 in the first photograph, nothing in the others."""
    ids = np.zeros((*SIZE, 3), np.uint8)
    ids[:3, :, 0] = 1
    ids[3:5, :] = (70000 % 256, 70000 // 256 % 256, 70000 // 65536)
    Path("a").mkdir(exist_ok=True)
    Image.fromarray(ids).save("a/a.png")
    segments = [{"id": 1, "category_id": 90}, {"id": 70000, "category_id": 3, "iscrowd": 0}]
    first = {"image_id": 10, "file_name": "a.png", "segments_info": segments}
    return {**data, "annotations": [first]}


def test_panoptic_pictures_become_label_maps(data: dict[str, Any]) -> None:
    found, problems = read(panoptic(data), masks="masks")
    assert problems == []
    assert found[0]["labels"] == ["cat", "dog"]
    wanted = np.repeat([2, 2, 2, 1, 1, 255], SIZE[1]).reshape(SIZE)
    np.testing.assert_array_equal(read_label_map("masks/a.png"), wanted)
    crowd = panoptic(data)
    crowd["annotations"][0]["segments_info"][1]["iscrowd"] = 1
    read(crowd, masks="masks", classes=("cat",))
    wanted = np.repeat([0, 0, 0, 255, 255, 255], SIZE[1]).reshape(SIZE)
    np.testing.assert_array_equal(read_label_map("masks/a.png"), wanted)


def test_an_id_that_no_segment_has_is_told(data: dict[str, Any]) -> None:
    changed = panoptic(data)
    del changed["annotations"][0]["segments_info"][0]
    found, problems = read(changed, masks="masks")
    assert problems == ["a.jpg: a/a.png: no segment has the id 1"]
    assert [record["id"] for record in found] == ["inner/b", "c"]


# ---- outlines ----


def test_runs_are_read_as_they_were_written() -> None:
    rng = np.random.default_rng(0)
    for share in (0, 0.1, 0.5, 1):
        mask = rng.random((13, 7)) < share
        read_back = decoded(runs(mask), (13, 7))
        assert read_back is not None
        np.testing.assert_array_equal(read_back, mask)


# Made with pycocotools 2.0.11: mask.encode of the pixels below.
STORED = [
    ((4, 5), "5220003", (slice(1, 3), slice(1, 4))),
    ((300, 400), "TZm0?m80TYg2", (slice(20, 35), slice(100, 102))),
]


@pytest.mark.parametrize(("size", "text", "inside"), STORED)
def test_cocos_text_form(size: tuple[int, int], text: str, inside: tuple[slice, slice]) -> None:
    mask = np.zeros(size, bool)
    mask[inside] = True
    found = decoded({"counts": text, "size": list(size)}, size)
    assert found is not None
    np.testing.assert_array_equal(found, mask)


def test_text_form_is_that_of_pycocotools() -> None:
    coco_mask = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(1)
    for size in ((1, 1), (5, 9), (60, 40), (200, 300)):
        for share in (0, 0.02, 0.5, 1):
            mask = rng.random(size) < share
            code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
            found = decoded({"counts": code["counts"].decode(), "size": list(size)}, size)
            assert found is not None
            np.testing.assert_array_equal(found, mask)


def test_polygons_are_those_of_pycocotools_and_those_of_an_object_are_joined() -> None:
    pytest.importorskip("pycocotools")
    square, other = [1, 1, 4, 1, 4, 3, 1, 3], [5.0, 4.0, 8.0, 4.0, 8.0, 6.0, 5.0, 6.0]
    for given in ([square, other], [other, square]):
        found = decoded(given, SIZE)
        assert found is not None
        np.testing.assert_array_equal(found, box(1, 1, 3, 4) | box(4, 5, 6, 8))
    alone = decoded(square, SIZE)  # without the list around it
    assert alone is not None
    np.testing.assert_array_equal(alone, box(1, 1, 3, 4))


@pytest.mark.parametrize("nothing", [None, []])
def test_no_outline(nothing: Any) -> None:
    assert decoded(nothing, SIZE) is None


@pytest.mark.parametrize(
    ("outline", "problem"),
    [
        ("x", "neither polygons nor runs"),
        ([[1, 2, 3, 4]], "no polygon of at least three points"),
        ([[1, 2, 3, 4, 5, 6, 7]], "no polygon of at least three points"),
        ([["a"] * 6], "the coordinate 'a'"),
        ([[1, 2, 3, 4, 5, float("nan")]], "the coordinate nan"),
        ([[1, 2, 3, 4, 5, 1e9]], "the coordinate 1000000000.0"),
        ({"counts": [48], "size": [8, 6]}, r"runs for a picture of \[8, 6\], not \[6, 8\]"),
        ({"counts": [47], "size": [6, 8]}, "run lengths of 47 pixels for 8x6"),
        ({"counts": [-1, 49], "size": [6, 8]}, "something else than lengths"),
        ({"counts": [48.0], "size": [6, 8]}, "something else than lengths"),
        ({"counts": None, "size": [6, 8]}, "something else than lengths"),
        ({"counts": "a b", "size": [6, 8]}, "no text of run lengths"),
        ({"counts": "o" * 20, "size": [6, 8]}, "no text of run lengths"),
        ({"counts": "o", "size": [6, 8]}, "cut off"),
    ],
)
def test_what_is_no_outline(outline: Any, problem: str) -> None:
    with pytest.raises(WsssError, match=problem):
        decoded(outline, SIZE)


# ---- what is wrong ----


def test_an_image_that_cannot_be_drawn_is_left_out_with_its_reason(data: dict[str, Any]) -> None:
    Image.new("RGB", SIZE).save("photos/a.jpg", format="JPEG")  # turned
    data["images"][1]["file_name"] = "inner/lost.jpg"
    data["images"].append({"id": 5, "file_name": "../../out.jpg"})
    data["images"].append({"id": 6, "file_name": "c.png"})
    Image.new("RGB", SIZE[::-1]).save("photos/c.png")
    found, problems = read(data, masks="masks")
    assert [record["id"] for record in found] == ["c"]
    assert problems == [
        "a.jpg: annotated at 8x6, but the photograph is 6x8",
        "inner/lost.jpg: no such image: photos/inner/lost.jpg",
        "../../out.jpg: no path below --images; take the folder out: "
        r"sed 's#\.\./\.\./##g' a.json > a-named.json",
        "c.png: another image has this name, with another suffix",
    ]


def test_masks_of_others_are_not_replaced(data: dict[str, Any]) -> None:
    Path("masks").mkdir()
    write_label_map("masks/a.png", np.zeros(SIZE, np.uint8))
    before = Path("masks/a.png").read_bytes()
    found, problems = read(data, masks="masks")
    assert [record["id"] for record in found] == ["inner/b", "c"]
    assert problems[0].startswith("a.jpg: masks/a.png was made by something else")
    assert Path("masks/a.png").read_bytes() == before


def test_boxes_are_no_outlines(data: dict[str, Any]) -> None:
    for each in data["annotations"][:2]:
        each["segmentation"] = []
    found, problems = read(data, masks="masks")
    assert [record["id"] for record in found] == ["c"]
    assert problems == [
        "a.jpg: a 'cat' has no outline, only a box perhaps, which is no mask",
        "inner/b.jpg: a 'dog' has no outline, only a box perhaps, which is no mask",
    ]
    assert [record["labels"] for record in read(data)[0]] == [["cat", "dog"], ["dog"], []]
    found, problems = read(data, masks="masks", classes=("dog",))  # the box is a cat's
    assert [record["id"] for record in found] == ["a", "c"]


def test_annotations_of_what_is_not_listed_are_told(data: dict[str, Any]) -> None:
    data["annotations"] += [annotation(99, 3), annotation(10, 7)]
    found, problems = read(data)
    assert [record["id"] for record in found] == ["inner/b", "c"]
    assert problems == [
        "annotations of images that are not listed: 99",
        "a.jpg: an annotation of category 7, which is not listed",
    ]
    for each in data["annotations"]:  # as text, where the images have numbers
        each["image_id"] = str(each["image_id"])
    with pytest.raises(ConfigurationError, match="no annotation is of a listed image, but of 20"):
        read(data)


@pytest.mark.parametrize("padded", [False, True])
def test_a_number_as_text_in_some_annotations_is_told(data: dict[str, Any], padded: bool) -> None:
    text = "0020" if padded else "20"
    data["annotations"].append({**annotation(20, 3), "image_id": text})
    assert read(data)[1] == [
        f"annotations of images that are not listed: {text}; there is an image 20: its id is a "
        "number, here it is a text"
    ]
    data["annotations"].pop()
    for image in data["images"]:
        image["id"] = str(image["id"])
    with pytest.raises(
        ConfigurationError, match='there is an image "20": its id is a text, here it is a number'
    ):
        read(data)


def test_an_image_that_is_left_out_is_told_once(data: dict[str, Any]) -> None:
    (image,) = (each for each in data["images"] if each["id"] == 20)
    image["width"] = 10**9
    records, problems = read(data)
    assert records
    assert problems == [
        f"{image['file_name']}: no size of a picture: 1000000000 x {image['height']}"
    ]
    data["images"].append({**image, "width": 5})
    with pytest.raises(ConfigurationError, match="two images have the id 20"):
        read(data)


def test_crowds_alone_are_doubted_and_may_be_objects(
    data: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    for each in data["annotations"]:
        each["iscrowd"] = 1
    read(data, masks="masks")
    assert set(np.unique(read_label_map("masks/a.png"))) == {0, 255}
    assert "all 4 outlines are crowds (iscrowd), 255 in the masks" in capsys.readouterr().err
    read(data, masks="masks", crowd_objects=True)
    assert set(np.unique(read_label_map("masks/a.png"))) == {0, 1, 2}
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_turned_photograph_has_no_masks(orientation: int, data: dict[str, Any]) -> None:
    image = Image.new("RGB", SIZE[::-1])
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save("photos/a.jpg", format="JPEG", exif=exif)
    found, problems = read(data, masks="masks")
    assert [record["id"] for record in found] == ["inner/b", "c"]
    assert problems[0].startswith("a.jpg: viewers turn this photograph (EXIF)")
    assert len(read(data)[0]) == 3


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"images": []}, "it lists no images"),
        ({"categories": []}, "it lists no categories"),
        ({"images": {"id": 1}}, r"'\[' expected"),
        ({"images": [1]}, "'images' holds something else than objects"),
        ({"images": [{"file_name": "a.jpg"}]}, "an image has the id None"),
        ({"images": [{"id": 1, "file_name": "a.jpg"}] * 2}, "two images have the id 1"),
        ({"categories": [{"id": "1", "name": "a"}]}, "a category has the id '1'"),
        ({"categories": [{"id": 1, "name": " "}]}, "category 1 has the name ' '"),
        ({"categories": [{"id": 1, "name": "a"}] * 2}, "two categories have the id 1"),
        (
            {"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a "}]},
            "two categories have the name 'a'",
        ),
        ({"annotations": [{"image_id": 10, "caption": "a cat"}]}, "captions and others"),
        ({"annotations": [{"image_id": None, "category_id": 3}]}, "the image_id None"),
        ({"annotations": [{"image_id": 10, "segments_info": 3}]}, "'segments_info' is no list"),
    ],
)
def test_what_is_no_coco_file_is_refused(
    change: dict[str, Any], problem: str, data: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError, match=rf"a\.json: no COCO file: .*{problem}"):
        read({**data, **change})


def test_polygons_without_pycocotools_are_told_before_any_work(
    data: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    data["annotations"][-1]["segmentation"] = [[1, 1, 4, 1, 4, 3]]
    monkeypatch.setattr("wsss_cli.datasets.coco.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match="pip install pycocotools"):
        read(data, masks="masks")
    assert not os.path.exists("masks")
    assert len(read(data)[0]) == 3  # labels need no outlines


def test_the_background_is_no_category(data: dict[str, Any]) -> None:
    data["categories"].append({"id": 0, "name": "Background"})
    data["annotations"].append(annotation(30, 0, box(0, 0, 6, 8)))
    found, problems = read(data, masks="masks")
    assert (found[2]["labels"], problems) == ([], [])
    assert not read_label_map("masks/c.png").any()


STRANGE: list[Any] = [
    *(None, True, -1, 0, 1e308, 2**40, 10**30, "", "x", "../../x", "/etc/passwd"),
    *([], {}, [[]], [None], [[1, 2, 3]], [1, 2, 3, 4, 5, 6], {"counts": "zz", "size": [1, 1]}),
]


def places(value: Any, path: tuple[Any, ...] = ()) -> Any:
    yield path
    for key in (
        value if isinstance(value, dict) else range(len(value) if type(value) is list else 0)
    ):
        yield from places(value[key], (*path, key))


@pytest.mark.parametrize("kind", ["instances", "panoptic"])
def test_any_value_anywhere_is_read_or_named(kind: str, data: dict[str, Any]) -> None:
    whole = data if kind == "instances" else panoptic(data)
    everywhere = [place for place in places(whole) if place]
    for seed in range(300):
        rng = random.Random(seed)
        changed, place = deepcopy(whole), rng.choice(everywhere)
        inner: Any = changed
        for key in place[:-1]:
            inner = inner[key]
        if rng.random() < 0.2:
            del inner[place[-1]]
        else:
            inner[place[-1]] = rng.choice(STRANGE)
        try:
            _, problems = read(changed, masks="masks")
        except WsssError as error:
            problems = [str(error)]
        assert all("\n" not in each and len(each) < 400 for each in problems)
    assert {path.name for path in Path().iterdir()} <= {"a", "a.json", "photos", "masks"}


@pytest.mark.parametrize(
    "part",
    [Part(option="--only", names=("dog",)), Part(option="--drop", names=("cat",), dropped=True)],
)
def test_part_of_the_classes_numbers_the_masks(
    part: Part, data: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    data["annotations"].append(annotation(30, 3, box(0, 0, 2, 2)))  # a cat alone
    records, problems = read(data, masks="masks", part=part)
    assert problems == []
    assert [(record["id"], record["labels"]) for record in records] == [
        ("a", ["dog"]),
        ("inner/b", ["dog"]),
    ]
    assert "1 photographs show other classes alone; left out" in capsys.readouterr().err
    assert sorted(np.unique(read_label_map("masks/a.png"))) == [0, 1]
    assert (read_label_map("masks/a.png") == 1)[box(0, 0, 5, 5)].all()
    meta = read_meta("masks/a.png")
    assert meta is not None
    assert meta["classes"] == ["dog"]
    assert not os.path.exists("masks/c.png")
    with pytest.raises(ConfigurationError, match="--only: no class 'dgo'; did you mean dog"):
        read(data, part=Part(option="--only", names=("dgo",)))


@pytest.mark.parametrize(
    "prefix",
    [
        "../../label-studio/media/upload/1/",
        "/data/upload/1/",
        "/data/local-files/?d=photos/",
        "https://example.org/a/",
        "C:/photos/",
        "C:\\\\photos\\\\",
        "..\\\\",
    ],
)
def test_the_remedy_for_file_names_of_other_places_works(prefix: str, data: dict[str, Any]) -> None:
    """As the message has it; of Windows' names it takes two steps."""
    prefix = prefix.replace("\\\\", "\\")
    data["images"] = [{**data["images"][0], "file_name": f"{prefix}a.jpg"}]
    data["annotations"] = []
    source, problems = "a.json", read(data)[1]
    for _ in range(2):
        (problem,) = problems
        command = problem[problem.index("sed ") :]
        assert command.startswith("sed 's#")
        subprocess.run(["bash", "-ec", command], check=True)
        source = f"{source.removesuffix('.json')}-named.json"
        problems = []
        if records := list(coco_records(source, problems.append, images="photos")):
            break
    assert [record["id"] for record in records] == ["a"]


def test_a_full_disk_stops_the_masks(data: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Any, *args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(files, "write_label_map", refuse)
    with pytest.raises(WsssError) as caught:
        read(data, masks="masks")
    assert str(caught.value) == (
        "cannot write: masks/a.png: No space left on device; what was printed so far is safe"
    )
    assert caught.value.exit_code == 1


def test_no_name_of_a_file_becomes_a_command(data: dict[str, Any]) -> None:
    data["images"][0]["file_name"] = "../'; touch made; '/a.jpg"
    (problem,) = read(data)[1]
    assert problem.endswith("no path below --images; take the folder out")


@pytest.mark.parametrize(
    ("images", "found"),
    [
        (".", "photos"),
        ("..", "WORK/photos"),
        ("photos/inner", "photos"),
        ("empty", ""),
    ],
)
def test_where_the_photographs_are_is_told_once(
    images: str, found: str, data: dict[str, Any], workdir: Path
) -> None:
    Path("empty").mkdir()
    data["images"] = data["images"][:1] + data["images"][2:]
    data["annotations"] = []
    problems = read(data, images=images)[1]
    folder = found.replace("WORK/", "")
    hint = f": give --images {folder}" if found else "a.jpg"
    assert problems[0].endswith(hint)
    assert ("; it is " in problems[0]) == bool(found)
    assert [each for each in problems[1:] if "give" in each] == []
