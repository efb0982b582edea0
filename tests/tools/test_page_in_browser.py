"""The page of ``view`` as a person uses it, in Chromium: from a file, with mouse and keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import CHROMIUM, Browser
from tests.conftest import as_lines
from wsss_cli import files
from wsss_cli.stage import Failures
from wsss_cli.tools.page import Page, write_page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here (Debian: chromium)")

KEYS = ("image", "cam", "pseudo", "mask")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """A desktop window that prefers light pages; nothing that a test opens may complain."""
    chromium.resize(1280, 900)
    chromium.dark(False)
    yield chromium
    said, chromium.complaints = chromium.complaints, []
    assert said == []


def opened(browser: Browser, records: Any, **changed: Any) -> dict[str, Any]:
    """Open the page of records; the data of it."""
    Path("in.jsonl").write_text(as_lines(records))
    settings = {"keys": KEYS, "width": 64, **changed}
    out = "page é #1.html"
    write_page(Page(**settings), ["in.jsonl"], Failures("v"), out=out, limit=None, asked=False)
    browser.open(Path(out))
    browser.wait("document.querySelectorAll('.card img').length > 0")
    data: dict[str, Any] = browser.run("data")
    return data


def ids(browser: Browser) -> list[str]:
    """The photographs in the grid, in order."""
    found: list[str] = browser.run(
        "[...document.querySelectorAll('.card .caption bdi')].map((each) => each.textContent)"
    )
    return found


def over(browser: Browser, where: str = ".card") -> str:
    """The alternative text of what lies over the first photograph there."""
    return str(browser.run(f"document.querySelector('{where} .over')?.alt"))


def choose(browser: Browser, field: str, value: str) -> None:
    """Give a field of a form a value, as a person who picks it from the list."""
    browser.run(
        f"(() => {{ const field = document.getElementById({json.dumps(field)});"
        f"field.value = {json.dumps(value)};"
        "field.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )
    browser.drawn()


def test_it_opens_from_a_file(browser: Browser, shown: list[dict[str, Any]]) -> None:
    data = opened(browser, shown)
    assert len(ids(browser)) == 4
    pictures = browser.wait(
        "(() => { const all = [...document.querySelectorAll('img')];"
        "return all.every((each) => each.complete) && all.map((each) =>"
        "[each.alt, each.naturalWidth]); })()"
    )
    assert len(pictures) == 8
    assert all(alt and width > 0 for alt, width in pictures)
    assert browser.run("document.title") == "in.jsonl – wsss view"
    miou = f"{100 * data['results']['pseudo']['miou']:.1f}"
    summary = browser.run("document.querySelector('#results summary').textContent")
    assert summary == f"Results: pseudo-mask, mIoU {miou} % on 4 photographs"
    cells = browser.run(
        "[...document.querySelectorAll('#results .bars tr:last-child td')].map((e) => "
        "e.textContent)"
    )
    assert cells[1] == miou
    assert browser.run("document.querySelectorAll('.matrix tbody tr').length") == 3


def test_the_worst_come_first(browser: Browser, shown: list[dict[str, Any]]) -> None:
    data = opened(browser, shown)
    value = {each["id"]: each["iou"]["pseudo"]["miou"] for each in data["records"]}
    assert ids(browser) == sorted(value, key=lambda each: value[each])
    choose(browser, "order", "best")
    assert ids(browser) == sorted(value, key=lambda each: -value[each])
    choose(browser, "order", "given")
    assert ids(browser) == [each["id"] for each in shown]
    choose(browser, "measured", "cam")
    assert "activation" in browser.run("document.querySelector('#results summary').textContent")
    choose(browser, "order", "worst")
    value = {each["id"]: each["iou"]["cam"]["miou"] for each in data["records"]}
    assert ids(browser) == sorted(value, key=lambda each: value[each])


def test_photographs_are_filtered_by_class_and_by_iou(
    browser: Browser, shown: list[dict[str, Any]]
) -> None:
    data = opened(browser, shown)
    choose(browser, "class", "dog")
    assert sorted(ids(browser)) == ["photo 1 é", "photo 2 é"]
    assert browser.run("document.getElementById('count').textContent") == "2 of 4 photographs"
    # The IoU is that of the class.
    of_dogs = {each["id"]: each["iou"]["pseudo"]["iou"].get("dog") for each in data["records"]}
    assert of_dogs["photo 2 é"] < of_dogs["photo 1 é"]
    assert ids(browser) == ["photo 2 é", "photo 1 é"]
    choose(browser, "most", str(100 * (of_dogs["photo 1 é"] + of_dogs["photo 2 é"]) / 2))
    assert ids(browser) == ["photo 2 é"]
    choose(browser, "class", "")
    choose(browser, "most", "")
    assert len(ids(browser)) == 4


def test_any_text_can_be_the_name_of_a_class(browser: Browser, shown: list[dict[str, Any]]) -> None:
    """Also one that JavaScript has something to say about: numbers it sorts, others it has."""
    names = ("10", "constructor")
    for record in shown:
        record.pop("cam")
        labels = files.read_label_map(record["pseudo"])
        files.write_label_map(record["pseudo"], labels, {"classes": names})
        record["labels"] = ["constructor" if name == "dog" else "10" for name in record["labels"]]
    shown[0]["labels"].append("__proto__")
    opened(browser, shown)
    heads = browser.run(
        "[...document.querySelectorAll('.matrix thead th')].map((each) => each.textContent)"
    )
    assert heads == ["background", "10", "constructor", "no prediction"]
    cells = browser.run(
        "[...document.querySelectorAll('.matrix tbody tr')].map((row) =>"
        "row.children[1 + row.rowIndex - 1].textContent)"
    )
    assert all(int(share) > 50 for share in cells)
    choose(browser, "class", "constructor")
    assert len(ids(browser)) == 2
    choose(browser, "class", "__proto__")
    assert ids(browser) == ["photo 0 é"]
    assert browser.run("document.querySelectorAll('.score').length") == 0


def test_a_page_of_photographs_alone(browser: Browser, shown: list[dict[str, Any]]) -> None:
    opened(browser, [{"id": "a", "image": shown[0]["image"]}])
    assert browser.run("document.querySelector('.names').textContent") == "no labels"
    assert browser.run("document.getElementById('results').offsetHeight") == 0
    browser.click(".card button")
    assert "Labels: unknown" in browser.run("document.getElementById('big').textContent")
    browser.press("Escape")


def test_without_true_masks_it_opens_on_the_pseudo_masks(
    browser: Browser, shown: list[dict[str, Any]]
) -> None:
    opened(browser, [{k: v for k, v in each.items() if k != "mask"} for each in shown])
    assert over(browser).startswith("pseudo-mask of photo 0 é")
    opened(browser, [{k: each[k] for k in ("id", "image", "cam")} for each in shown])
    assert over(browser).startswith("activation of photo 0 é")


def test_the_slider_blends(browser: Browser, shown: list[dict[str, Any]]) -> None:
    opened(browser, shown)

    def opacity() -> float:
        return float(browser.run("getComputedStyle(document.querySelector('.over')).opacity"))

    assert opacity() == pytest.approx(0.7)
    browser.click("#blend", across=0.1)
    assert opacity() <= 0.15
    browser.click("#blend", across=0.95)
    assert opacity() >= 0.9
    browser.press("-", "-")
    assert opacity() <= 0.85


def test_keys_and_buttons_switch(browser: Browser, shown: list[dict[str, Any]]) -> None:
    opened(browser, shown)
    choose(browser, "order", "given")
    assert over(browser) == "pseudo-mask of photo 0 é: cat"
    browser.press("2")
    assert over(browser) == "activation of photo 0 é: cat"
    browser.press("4")
    assert over(browser) == "true mask of photo 0 é: cat"
    browser.press("1")
    assert browser.run("document.querySelectorAll('.over').length") == 0
    browser.click("#layers label:nth-of-type(3)")
    assert over(browser) == "pseudo-mask of photo 0 é: cat"
    browser.press("9")
    assert over(browser) == "pseudo-mask of photo 0 é: cat"
    choose(browser, "class", "dog")
    browser.press("2")
    # Of several maps, that of the class; then the others.
    assert over(browser, ".card:nth-child(2)") == "activation of photo 2 é: dog"
    browser.press("c")
    assert over(browser, ".card:nth-child(2)") == "activation of photo 2 é: cat"
    browser.click(".card:nth-child(2) button")
    assert over(browser, "dialog") == "activation of photo 2 é: cat"
    browser.click("#turn button:nth-child(1)")
    assert over(browser, "dialog") == "activation of photo 2 é: dog"
    browser.press("Escape")


def test_a_photograph_is_enlarged_by_keys(browser: Browser, shown: list[dict[str, Any]]) -> None:
    opened(browser, shown)
    choose(browser, "order", "given")
    browser.press("ArrowRight", "ArrowRight", "Enter")
    name = "document.getElementById('name').textContent"
    assert browser.run(name) == "photo 1 é (2 of 4)"
    assert over(browser, "dialog") == "pseudo-mask of photo 1 é: dog"
    browser.press("ArrowRight", "4")
    assert browser.run(name) == "photo 2 é (3 of 4)"
    assert over(browser, "dialog") == "true mask of photo 2 é: cat, dog"
    text = browser.run("document.getElementById('big').textContent")
    assert "crf" in text
    assert "make-cam" in text
    browser.press("ArrowRight", "ArrowRight", "k")
    assert browser.run(name) == "photo 2 é (3 of 4)"
    browser.press("Escape")
    browser.wait("document.activeElement.closest('.card')?.textContent.startsWith('photo 2 é')")
    assert not browser.run("document.querySelector('dialog').open")
    browser.click(".card:nth-child(1) button")
    assert browser.run(name) == "photo 0 é (1 of 4)"
    browser.click("#after")
    assert browser.run(name) == "photo 1 é (2 of 4)"
    browser.click("dialog label:nth-of-type(2)")
    assert over(browser, "dialog") == "activation of photo 1 é: dog"
    browser.click("#close")
    browser.wait("document.querySelector('#bar #blend') !== null")


def contrast(browser: Browser, selector: str) -> float:
    """Contrast of the letters of an element with the paper, as WCAG counts it."""
    script = """
    (() => {
      const light = (colour) => {
        const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((each) => each / 255);
        const linear = parts.map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
      };
      const pair = [
        light(getComputedStyle(document.querySelector(SELECTOR)).color),
        light(getComputedStyle(document.body).backgroundColor),
      ].sort((a, b) => b - a);
      return (pair[0] + 0.05) / (pair[1] + 0.05);
    })()
    """
    return float(browser.run(script.replace("SELECTOR", json.dumps(selector))))


def test_it_is_dark_for_who_prefers_that(browser: Browser, shown: list[dict[str, Any]]) -> None:
    opened(browser, shown)
    paper = "getComputedStyle(document.body).backgroundColor"
    assert browser.run(paper) == "rgb(255, 255, 255)"
    for dark in (False, True):
        browser.dark(dark)
        for part in ("h1", "#summary", ".names", "#count"):
            assert contrast(browser, part) >= 4.5, part
    assert browser.run(paper) == "rgb(23, 23, 27)"


def test_it_fits_a_telephone(browser: Browser, shown: list[dict[str, Any]]) -> None:
    shown[0]["id"] = "a" * 200
    shown[2]["labels"] = shown[2]["labels"] + ["w" * 100]
    shown[2].pop("pseudo")
    shown[2].pop("cam")
    browser.resize(390, 844)
    opened(browser, shown)
    wide = "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"
    assert browser.run(wide) == 390
    assert browser.run("document.querySelectorAll('.bars').length") == 0
    browser.run("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    browser.wait("document.querySelectorAll('.bars').length > 0")
    assert browser.run(wide) == 390
    # What stays in the window while one scrolls leaves room for the pictures.
    assert browser.run("document.getElementById('bar').offsetHeight") < 844 / 5
    browser.click(".card button")
    assert browser.run("document.querySelector('dialog').scrollWidth") <= 390
    browser.press("Escape")


def test_what_others_wrote_is_shown_as_they_wrote_it(
    browser: Browser, shown: list[dict[str, Any]]
) -> None:
    hostile = "</script><img src=x onerror=alert(1)><b>"
    shown[0]["id"] = hostile
    shown[1]["labels"] = [hostile]
    for record in shown:
        record.pop("pseudo")
        record.pop("cam")
    opened(browser, shown, keys=("image", "mask"), class_list=(hostile, "dog"))
    choose(browser, "order", "given")
    assert ids(browser)[0] == hostile
    assert over(browser) == f"true mask of {hostile}: {hostile}"
    assert browser.run("document.querySelectorAll('b, img[onerror]').length") == 0
    choose(browser, "class", hostile)
    browser.press("1")
    browser.click(".card button")
    assert browser.run("document.querySelectorAll('b, img[onerror]').length") == 0
    browser.press("Escape")


def test_linked_photographs_are_found(browser: Browser, shown: list[dict[str, Any]]) -> None:
    opened(browser, shown, link=True)
    widths = browser.wait(
        "(() => { const all = [...document.querySelectorAll('.card img:not(.over)')];"
        "return all.every((each) => each.complete) && all.map((each) => each.naturalWidth); })()"
    )
    assert sorted(widths) == [48, 64, 64, 64]


def test_of_many_records_only_those_near_the_window_are_drawn(
    browser: Browser, shown: list[dict[str, Any]]
) -> None:
    many = [{**shown[n % 4], "id": f"{n}"} for n in range(300)]
    opened(browser, many, keys=("image", "mask"))
    cards = "document.querySelectorAll('.card').length"
    assert browser.run(cards) < 150
    browser.press("ArrowRight", "Enter")
    assert browser.run("document.getElementById('name').textContent").endswith("(1 of 300)")
    browser.press("Escape")
    for _ in range(30):
        if browser.run(cards) == 300:
            break
        browser.run("scrollTo(0, document.body.scrollHeight)")
        browser.drawn()
    assert browser.run(cards) == 300
    browser.run("scrollTo(0, document.body.scrollHeight)")
    browser.wait("document.querySelector('.card:last-child img')?.complete")
    assert browser.run("document.querySelectorAll('.card img').length") < 300
    assert browser.run("document.querySelectorAll('.card:first-child img').length") == 0
