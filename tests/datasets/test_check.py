"""Labels and masks that disagree: one by one, and all of a class, whose number means another."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Run
from wsss_cli import files
from wsss_cli.datasets.check import Numbering, check_numbering
from wsss_cli.errors import ConfigurationError

LISTED = ("bear", "cat", "dog", "fox")


def mask(*shown: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A mask with a stripe of each number, some background, and pixels that are ignored."""
    made = np.zeros((40, 40), np.uint8)
    made[:, 0] = 255
    for place, number in enumerate(shown):
        made[8:, 8 * (place + 1) : 8 * (place + 2)] = number
    return made


def numbering(*photographs: tuple[list[str] | None, tuple[int, ...]]) -> Numbering:
    made = Numbering(LISTED)
    for labels, numbers in photographs:
        record = {"id": "a"} if labels is None else {"id": "a", "labels": labels}
        made.look(record, mask(*numbers))
    return made


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_every_other_order_is_found_and_the_same_one_never(order: tuple[int, ...]) -> None:
    shown = [[name] for name in LISTED] * 4 + [["cat", "dog"], ["bear", "fox", "dog"]]
    photographs = [
        (labels, tuple(order[LISTED.index(name)] + 1 for name in labels)) for labels in shown
    ]
    moved = [LISTED[place] for place, number in enumerate(order) if place != number]
    doubt = numbering(*photographs).doubt("mask")
    assert bool(doubt) == bool(moved)
    assert not moved or any(f"in place of '{name}'" in doubt for name in moved)


def test_a_pair_that_changed_places_is_found_among_many_that_did_not() -> None:
    swapped: list[Any] = [(["cat"], (3,)), (["dog"], (2,))] * 3
    sound: list[Any] = [(["bear"], (1,)), (["fox"], (4,))] * 30
    doubt = numbering(*sound, *swapped).doubt("truth")
    assert doubt == (
        "'truth' holds another class in place of 'cat' in 3 of 3 photographs labelled so; give "
        "--classes in the order of the masks"
    )
    assert not numbering(*sound, *swapped[:4]).doubt("truth")  # two of each may be mistakes


@pytest.mark.parametrize(
    "photograph",
    [
        (["cat", "dog"], (2,)),  # too small for the mask, or forgotten
        (["cat"], (2, 3)),  # not labelled
        (["cat"], ()),
        ([], (3,)),
        (None, (3,)),
        (["tabby"], (3,)),  # a class that is not measured
    ],
)
def test_what_is_no_sign_of_another_order(photograph: Any) -> None:
    assert not numbering(*[photograph] * 5).doubt("mask")


def test_mistakes_in_a_minority_are_no_sign_nor_is_a_pair_of_photographs() -> None:
    assert not numbering(*[(["cat"], (3,))] * 2).doubt("mask")
    assert numbering((["cat"], (3,)), (["dog"], (2,)), (["fox"], (1,))).doubt("mask")
    sound: list[Any] = [(["cat"], (2,))] * 4
    assert not numbering(*sound, *[(["cat"], (3,))] * 4).doubt("mask")
    assert numbering(*sound, *[(["cat"], (3,))] * 5).doubt("mask")


def test_counts_add_up() -> None:
    parts = [numbering((["cat"], (3,))) for _ in range(3)]
    for part in parts[1:]:
        parts[0].merge(part)
    assert parts[0].doubt("m") == numbering(*[(["cat"], (3,))] * 3).doubt("m") != ""


@pytest.fixture
def turned(workdir: Path) -> list[dict[str, Any]]:
    """Cats and dogs, whose true masks number dogs first; predictions number cats first."""
    made = []
    Path("classes.txt").write_text("cat\ndog\n")
    meta = files.provenance("predict", {}, classes=["cat", "dog"])
    for number in range(6):
        name, place = [("cat", 1), ("dog", 2)][number % 2]
        files.write_label_map(f"true {number}.png", mask(3 - place))
        files.write_label_map(f"pred {number}.png", mask(place), meta)
        Image.new("RGB", (40, 40), (number, 0, 0)).save(f"{number}.png")
        record = {"id": f"{number}", "image": f"{number}.png", "labels": [name]}
        made.append({**record, "mask": f"true {number}.png", "pred": f"pred {number}.png"})
    return made


SAID = (
    "'mask' holds another class in place of 'cat' in 3 of 3 photographs labelled so; give "
    "--classes in the order of the masks"
)


def test_masks_that_name_their_classes_or_cannot_be_read_are_left_to_others(turned: Any) -> None:
    with pytest.raises(ConfigurationError, match="3 of 3 photographs"):
        check_numbering(turned, "mask", ["cat", "dog"])
    check_numbering(turned, "mask", ["dog", "cat"])
    check_numbering(turned, "pred", ["dog", "cat"])
    check_numbering([{**record, "mask": "none.png"} for record in turned], "mask", ["cat", "dog"])
    check_numbering([], "mask", ["cat", "dog"])


@pytest.mark.parametrize("workers", [0, 2])
def test_eval_measures_nothing_in_another_order(turned: Any, inside: Run, workers: int) -> None:
    result = inside("eval", "--workers", str(workers), input=turned, check=1)
    assert (result.out, result.err) == ("", f"wsss eval: nothing was measured: {SAID}\n")
    for record in turned:
        record["mask"] = record["mask"].replace("true", "right")
        files.write_label_map(record["mask"], files.read_label_map(record["pred"]))
    assert "100.00" in inside("eval", "--workers", str(workers), input=turned, check=0).out


def test_the_page_shows_them_and_measures_nothing(turned: Any, inside: Run) -> None:
    result = inside("view", "-o", "page.html", input=turned, check=1)
    assert f"wsss view: 'pred' is not measured: {SAID}\n" in result.err
    page = Path("page.html").read_text()
    assert '"results": {}' in page or '"results":{}' in page
    assert '"miou"' not in page


def test_nothing_is_trained_and_no_masks_are_made(turned: Any, inside: Run) -> None:
    train = ("train-seg", "--classes", "classes.txt", "--target", "mask", "-o", "seg.pt")
    assert inside(*train, input=turned, check=2).err == f"wsss train-seg: {SAID}\n"
    none = ("--saliency-model", "none", "--dry-run")
    assert inside("masks", *none, "-o", "out", input=turned, check=2).err == f"wsss masks: {SAID}\n"
    for record in turned:
        del record["mask"]
    inside("masks", *none, "-o", "out", input=turned, check=0)
