"""What is said to people, and when."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.screen import Screen
from wsss_cli import console
from wsss_cli.terminal import Terminal


def test_levels(capsys: pytest.CaptureFixture[str]) -> None:
    said = {}
    for name, switches in (
        ("quiet", {"quiet": True}),
        ("normal", {}),
        ("verbose", {"verbose": True}),
    ):
        console.configure(**switches)
        console.warn("t", "w")
        console.note("t", "n")
        console.detail("t", "d")
        said[name] = capsys.readouterr().err.split()
    assert said["quiet"] == ["wsss", "t:", "w"]
    assert said["normal"] == ["wsss", "t:", "w", "wsss", "t:", "n"]
    assert len(said["verbose"]) == 9


def test_a_log_gets_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with console.progress("t", total=100, initial=20) as bar:
        for _ in range(8):
            now[0] += 10
            bar.update(5, loss="0.1")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "wsss t: 35/100 images, 0.50/s, 130 s left, loss 0.1",
        "wsss t: 50/100 images, 0.50/s, 100 s left, loss 0.1",
    ]


def test_quiet_progress_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    console.configure(quiet=True)
    with console.progress("t") as bar:
        bar.update()
    assert capsys.readouterr().err == ""


def test_a_caller_that_asks_is_told_even_by_quiet_tools(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setenv(console.TELL, "1")
    console.configure(quiet=True)
    with console.progress("t", total=9, initial=2) as bar:
        for _ in range(3):
            bar.update(1, loss="0.1")
            now[0] += 0.15
    told = capsys.readouterr().err.rstrip("\n").split("\n")  # MARK would end a line of splitlines
    assert all(line.startswith(console.MARK) for line in told)
    assert [json.loads(line[1:]) for line in told] == [
        {"total": 9, "unit": "image", "done": done, "shown": {"loss": "0.1"}} for done in (3, 5)
    ]


def test_a_terminal_gets_a_line_below_messages_and_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Screen()
    shared = Terminal(screen.side, str(tmp_path / "shared"))
    monkeypatch.setattr("wsss_cli.terminal.of", lambda stream: shared)
    monkeypatch.setattr("wsss_cli.terminal._FIRST", 0.0)
    with console.progress("t", total=2) as bar:
        bar.update(loss="0.25")
        shown = screen.until(lambda lines: "loss 0.25" in "".join(lines))
        assert shown[0] == ""
        assert re.match(r"t .* 1/2 ", shown[1])
        console.warn("t", "look")
        console.result(b'{"id": "a"}\n')
        shown = screen.look(0.05)
        assert shown[:3] == ["wsss t: look", '{"id": "a"}', ""]
        assert len(shown) == 4
    assert screen.look(0.05) == ["wsss t: look", '{"id": "a"}']
    screen.close()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("größe 猫 …", "größe 猫 …"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\u009b31m", "\\x9b31m"),
        ("a\u202eb\u2028", "a\\u202eb\\u2028"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("\udcff", "\\udcff"),
    ],
)
def test_a_terminal_gets_printable_characters(
    text: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    console.warn("t", text)
    assert capsys.readouterr().err == f"wsss t: {shown}\n"


def test_a_message_has_a_bound(capsys: pytest.CaptureFixture[str]) -> None:
    console.warn("t", "no label '" + "x" * 1_000_000 + "'; did you mean cat?")
    line = capsys.readouterr().err
    assert len(line) < 900
    assert line.startswith("wsss t: no label 'xxx")
    assert "did you mean cat?" in line
    assert re.search(r" \(10000\d\d characters\)\n", line)
