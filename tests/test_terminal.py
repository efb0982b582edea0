"""One terminal, several tools: what is on the screen, by a terminal emulator as referee."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.screen import Screen, end
from wsss_cli import terminal
from wsss_cli.terminal import Line, Pipe, Terminal, Work, frame

LINE = re.compile(
    r"(?P<tool>index voc|saliency|view|eval)  +[━╸╺ ]*  +\d+(/(?P<total>\d+))?"
    r"( +[\d.]+((image|record)/s|s/(image|record)))? +\d\d:\d\d( left)?( +failed \d+)?"
)
MESSAGE = re.compile(r"wsss (index voc|saliency|view|eval): .+")


@pytest.fixture
def screen() -> Iterator[Screen]:
    made = Screen(columns=160)
    yield made
    made.close()


@pytest.fixture
def shared(screen: Screen, tmp_path: Path) -> Terminal:
    return Terminal(screen.side, str(tmp_path / "shared"))


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are there from the beginning, and always up to date."""
    for name in ("_FIRST", "_CLOSE"):
        monkeypatch.setattr(terminal, name, 0.0)
    monkeypatch.setattr(terminal, "_TICK", 0.01)


def line(to: Terminal, tool: str, total: int | None = None, pipe: Pipe | None = None) -> Line:
    return Line(to, tool, total=total, unit="image", initial=0, pipe=pipe or Pipe())


def work(tool: str = "crf", **other: object) -> Work:
    given = {"unit": "image", "total": 40, "initial": 0, "done": 10, "shown": {}, "rate": 2.0}
    return Work(tool, **{**given, "started": time.time() - 5, **other})  # type: ignore[arg-type]


def check(lines: list[str]) -> list[re.Match[str]]:
    """That only whole messages and, below a free line, whole lines of tools are on the screen."""
    rows = [found for each in lines if (found := LINE.fullmatch(each))]
    above = lines[: len(lines) - len(rows)]
    assert all(LINE.fullmatch(each) for each in lines[len(above) :]), "\n".join(lines)
    if rows:
        assert above[-1:] == [""], "\n".join(lines)
        above.pop()
    assert all(map(MESSAGE.fullmatch, above)), "\n".join(lines)
    tools = [row["tool"] for row in rows]
    assert len(set(tools)) == len(tools), "\n".join(lines)
    return rows


# ---- a pipe in a terminal ----


@pytest.fixture
def toy(toy_root: Path, workdir: Path) -> Path:
    shutil.copytree(toy_root, workdir / "toy")
    (workdir / "toy/JPEGImages/train_00005.jpg").write_bytes(b"no photograph")
    (workdir / "run").mkdir()
    return workdir / "run"


PIPE = (
    "wsss index voc toy | wsss saliency -o s --workers 1 | wsss view --keys image,saliency -o v "
    "| wsss eval --key mask --workers 1 > table.txt"
)


def test_no_fragment_of_a_pipe_is_ever_on_the_screen(screen: Screen, toy: Path) -> None:
    process = screen.run(PIPE, toy)
    try:
        left = screen.finish(process)
    finally:
        end(process)
    assert process.returncode == 1  # one photograph cannot be read
    seen: dict[str, list[str]] = {}
    orders = set()
    for lines in screen.moments:
        rows = check(lines)
        orders.add(tuple(row["tool"] for row in rows))
        for row in rows:
            seen.setdefault(row["tool"], []).append(row["total"])
    # In the order of the pipe, whoever was there first.
    assert ("saliency", "view", "eval") in orders
    assert {"saliency", "view", "eval"} <= {*seen} <= {"index voc", "saliency", "view", "eval"}
    # The number of records comes down the pipe, and the failed one is taken off.
    assert set(seen["saliency"]) <= {None, "24"}
    assert seen["eval"][-1] == "23"
    assert check(left) == []
    assert sum("train_00005: cannot read image" in each for each in left) == 1
    assert [each.split(":")[0] for each in left if "records" in each] == [
        f"wsss {tool}" for tool in ("index voc", "saliency", "view")
    ]
    assert len(left) == 4
    assert "mean" in Path("table.txt").read_text()


def test_ctrl_c_leaves_whole_lines(screen: Screen, toy: Path) -> None:
    process = screen.run(PIPE, toy)
    try:
        screen.until(lambda lines: any(each.startswith("eval ") for each in lines))
        screen.press_ctrl_c()
        left = screen.finish(process)
    finally:
        end(process)
    assert check([each for each in left if each != "^C"]) == []
    for tool in ("saliency", "view", "eval"):
        assert f"wsss {tool}: interrupted; what is finished is safe" in left


def test_two_pipes_at_once_have_a_line_for_each_tool(screen: Screen, toy: Path) -> None:
    script = (
        "wsss index voc toy | wsss saliency -o a --workers 1 > a.jsonl & "
        "wsss index voc toy | wsss saliency -o b --workers 1 > b.jsonl; wait"
    )
    process = screen.run(script, toy)
    try:
        left = screen.finish(process)
    finally:
        end(process)
    both = [lines for lines in screen.moments if "".join(lines).count("saliency  ") == 2]
    assert both
    for lines in screen.moments:
        rows = [each for each in lines if LINE.fullmatch(each)]
        assert all(map(MESSAGE.fullmatch, filter(None, lines[: len(lines) - len(rows)])))
    assert all(map(MESSAGE.fullmatch, left))
    assert len(left) == 6


def test_records_and_lines_on_one_screen_stay_whole(screen: Screen, toy: Path) -> None:
    script = (
        "wsss index voc toy > in; wsss saliency in -o s --workers 1 | wsss view --keys image -o v"
    )
    process = screen.run(script, toy)
    try:
        screen.finish(process)
    finally:
        end(process)
    text = re.sub(rb"\x1b\[\d+A", b"\n", screen.sent)  # the cursor goes up
    text = re.sub(rb"\x1b\[[\d;]*[A-Za-z]|\r", b"", text)
    printed = [each for each in text.decode().splitlines() if each.startswith("{")]
    assert len(printed) == 23
    assert all(json.loads(each)["view"] for each in printed)
    assert any(LINE.fullmatch(each) for lines in screen.moments for each in lines)


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"TERM": ""}, {"NO_COLOR": "1"}])
def test_terminals_that_can_do_less(environment: dict[str, str], screen: Screen, toy: Path) -> None:
    script = "wsss index voc toy > in; wsss saliency in -o s --workers 1 > out"
    process = screen.run(script, toy, environment)
    try:
        screen.finish(process)
    finally:
        end(process)
    if "NO_COLOR" in environment:
        assert any(LINE.fullmatch(each) for lines in screen.moments for each in lines)
        assert not re.search(rb"\x1b\[[\d;]*m", screen.sent)
    else:
        assert b"\x1b" not in screen.sent
    assert b"wsss saliency: train_00005: cannot read image" in screen.sent


def test_quiet_tools_print_no_more_than_what_went_wrong(screen: Screen, toy: Path) -> None:
    script = "wsss index voc toy -q > in; wsss saliency in -o s -q --workers 1 > out"
    process = screen.run(script, toy)
    try:
        left = screen.finish(process)
    finally:
        end(process)
    assert len(left) == 1
    assert b"\x1b" not in screen.sent


def test_a_pager_is_not_drawn_over(screen: Screen, toy: Path) -> None:
    screen.raw()
    process = screen.run("wsss index voc toy > in; wsss saliency in -o s --workers 1 > out", toy)
    try:
        left = screen.finish(process)
    finally:
        end(process)
    assert b"\x1b" not in screen.sent
    assert len(left) == 3


# ---- several writers ----


def test_messages_stand_above_the_lines(screen: Screen, shared: Terminal, at_once: None) -> None:
    first = line(shared, "make-cam", 4)
    screen.until(lambda lines: "make-cam" in "".join(lines))
    shared.write(b"one\n")
    second = line(shared, "crf")
    second.update(3, loss="0.5")
    screen.until(lambda lines: "loss 0.5" in "".join(lines))
    shared.write(b"two\nand three\n")
    shown = screen.look(0.05)
    assert shown[:4] == ["one", "two", "and three", ""]
    assert [each.split()[0] for each in shown[4:]] == ["make-cam", "crf"]
    first.close()
    assert [each.split()[0] for each in screen.look(0.05)[4:]] == ["crf"]
    second.close()
    shared.write(b"four\n")
    assert screen.look(0.05) == ["one", "two", "and three", "four"]


def test_the_screen_may_be_full(screen: Screen, shared: Terminal, at_once: None) -> None:
    first = line(shared, "make-cam", 4)
    screen.until(lambda lines: "make-cam" in "".join(lines))
    for number in range(100):
        shared.write(f"{number}\n".encode())
    shown = screen.look(0.05)
    assert shown[:-2] == [str(number) for number in range(72, 100)]
    assert shown[-2] == ""
    assert shown[-1].startswith("make-cam")
    first.close()
    assert screen.look(0.05) == [str(number) for number in range(72, 100)]


def test_a_narrower_window_heals(screen: Screen, shared: Terminal, at_once: None) -> None:
    first = line(shared, "make-cam", 4)
    screen.until(lambda lines: "make-cam" in "".join(lines))
    screen.resize(50, 30)
    first.update()
    shown = screen.until(lambda lines: "1/4" in "".join(lines))
    assert [len(each) < 50 for each in shown] == [True, True]
    first.close()
    assert screen.look(0.05) == []


def test_a_line_of_another_program_is_kept(screen: Screen, shared: Terminal, at_once: None) -> None:
    first = line(shared, "make-cam", 4)
    screen.until(lambda lines: "make-cam" in "".join(lines))
    os.write(screen.side, b"jq: error\n")
    first.update()
    shown = screen.until(lambda lines: "1/4" in "".join(lines))
    assert shown[:2] == ["jq: error", ""]
    assert len(shown) == 3
    first.close()


HOLDER = """
import sys, time
from wsss_cli.terminal import Line, Pipe, Terminal
line = Line(Terminal(1, sys.argv[1]), "killed", total=4, unit="image", initial=0, pipe=Pipe())
time.sleep(60)
"""


def test_the_line_of_a_killed_tool_goes(
    screen: Screen, shared: Terminal, at_once: None, tmp_path: Path
) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "shared")], stdout=screen.side
    )
    try:
        screen.until(lambda lines: "killed" in "".join(lines))
        first = line(shared, "make-cam", 4)
        screen.until(lambda lines: "make-cam" in "".join(lines))
        assert "killed" in "".join(screen.look())
    finally:
        other.kill()
        other.wait()
    first.update()
    shown = screen.until(lambda lines: "1/4" in "".join(lines))
    assert "killed" not in "".join(shown)
    first.close()
    assert screen.look(0.05) == []


def test_a_stopped_tool_gives_no_sign_of_life(shared: Terminal) -> None:
    rows = {
        "old": {"pid": os.getpid(), "seen": time.time() - 60},
        "new": {"pid": os.getpid(), "seen": time.time()},
    }
    terminal._bury(rows)
    assert set(rows) == {"new"}


GOOD = {"pid": os.getpid(), "group": 1, "seen": time.time() + 5, **vars(work())}
EMPTY = {"frame": [], "rows": {}, "pipes": {}, "drawn": 0.0}


@pytest.mark.parametrize(
    "state",
    [
        *("", "{", "5", "[]", "{}", "null", "[" * 100_000),
        *({**EMPTY, "frame": frame} for frame in (5, None, "a", [1])),
        *({**EMPTY, "rows": rows} for rows in (5, [1, 2], {"a": 5}, {"a": {"pid": 1}})),
        *({**EMPTY, "rows": {"a": {**GOOD, name: None}}} for name in GOOD),
        *({**EMPTY, "rows": {"a": {**GOOD, name: "x"}}} for name in GOOD),
        *({**EMPTY, "rows": {"a": {**GOOD, "pid": pid}}} for pid in (0, -1, 1 << 80)),
        *({**EMPTY, "pipes": pipes} for pipes in (5, [1], {"a": 5}, {"a": {"1": "x"}})),
        *({**EMPTY, "drawn": drawn} for drawn in ("x", None)),
    ],
)
def test_what_is_in_the_file_stops_no_tool(
    state: object, screen: Screen, shared: Terminal, at_once: None, tmp_path: Path
) -> None:
    """A row that lacks a field is of another version."""
    text = state if isinstance(state, str) else json.dumps(state)
    (tmp_path / "shared").write_text(text)
    shared.write(b"told\n")
    first = line(shared, "make-cam", 4, Pipe(reads="a", writes="b"))
    screen.until(lambda lines: "make-cam" in "".join(lines))
    first.close()
    assert screen.look(0.05)[0] == "told"


def test_a_full_disk_leaves_no_line(
    screen: Screen, shared: Terminal, at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    first = line(shared, "make-cam", 4)
    screen.until(lambda lines: "make-cam" in "".join(lines))
    shared.write(b"told\n")
    first.close()
    assert screen.look(0.1) == ["told"]


def test_the_lines_of_a_pipe_are_in_its_order_however_its_processes_began() -> None:
    def row(tool: str, pid: int, reads: str = "", writes: str = "") -> dict[str, object]:
        return {"tool": tool, "group": 1, "pid": pid, "reads": reads, "writes": writes}

    rows = [row("c", 1, "2"), row("a", 3, "", "1"), row("alone", 4), row("b", 2, "1", "2")]
    assert [each["tool"] for each in terminal._in_order(rows)] == ["a", "b", "c", "alone"]
    ring = [row("x", 1, "2", "1"), row("y", 2, "1", "2")]  # each reads what the other writes
    assert sorted(str(each["tool"]) for each in terminal._in_order(ring)) == ["x", "y"]
    assert terminal._in_order([{"group": 1, "pid": 2}]) == [{"group": 1, "pid": 2}]  # of before


def test_whoever_holds_the_lock_blocks_nobody_for_long(
    screen: Screen, shared: Terminal, at_once: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "_PATIENCE", 0.2)
    first = line(shared, "make-cam", 4)
    screen.until(lambda lines: "make-cam" in "".join(lines))
    with open(tmp_path / "shared") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        started = time.monotonic()
        shared.write(b"told all the same\n")
        assert time.monotonic() - started < 2
        assert screen.look(0.05)[0] == "told all the same"
    first.update()
    shown = screen.until(lambda lines: "1/4" in "".join(lines))
    assert shown[:2] == ["told all the same", ""]
    first.close()


def test_a_lock_ends_with_a_killed_process(tmp_path: Path, shared: Terminal) -> None:
    """Also if it has forked children."""
    script = (
        "import os, sys, time\nfrom wsss_cli.terminal import Terminal\n"
        "with Terminal(1, sys.argv[1])._state(1):\n"
        "    print('held', flush=True)\n    time.sleep(60)\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "shared")], stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"held\n"
    with shared._state(0.01) as state:
        assert state is None
    other.send_signal(signal.SIGKILL)
    other.wait()
    other.stdout.close()
    with shared._state(0.5) as state:
        assert state is not None


def test_a_damaged_file_is_as_good_as_none(
    screen: Screen, shared: Terminal, at_once: None, tmp_path: Path
) -> None:
    for damage in (b"", b"{", b"[]", b'{"frame": 3}', b"\xff\xfe" * 100):
        (tmp_path / "shared").write_bytes(damage)
        first = line(shared, "make-cam", 4)
        screen.until(lambda lines: "make-cam" in "".join(lines))
        shared.write(b"x\n")
        first.close()
        assert set(screen.look(0.05)) == {"x"}


def test_threads_exclude_each_other(screen: Screen, shared: Terminal, at_once: None) -> None:
    lines = [line(shared, f"tool-{number}", 50) for number in range(4)]

    def work(each: Line, number: int) -> None:
        for _ in range(25):
            each.update()
            shared.write(f"message {number}\n".encode())
            time.sleep(0.005)

    threads = [threading.Thread(target=work, args=(each, n)) for n, each in enumerate(lines)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
        screen.look()
    for each in lines:
        each.close()
    assert set(screen.look(0.05)) <= {f"message {number}" for number in range(4)}
    whole = re.compile(r"message \d|tool-\d .*(\d\d:\d\d|left)|")
    for moment in screen.moments:
        assert all(map(whole.fullmatch, moment)), "\n".join(moment)


# ---- the totals ----


@pytest.mark.parametrize(
    ("pipe", "part"),
    [(Pipe(), 100), (Pipe(limit=7), 7), (Pipe(shard=(2, 3)), 33), (Pipe(shard=(1, 3)), 34)],
)
def test_part_of_a_stream(pipe: Pipe, part: int) -> None:
    number, of = pipe.shard
    taken = [n for n in range(100) if n % of == number - 1 and n < (pipe.limit or 100)]
    assert pipe.part(100) == part == len(taken)


def test_a_total_comes_down_the_pipe() -> None:
    pipes: dict[str, dict[str, int]] = {}
    Pipe(writes="a").tell(pipes, 30, {"failed": "2"})
    middle = Pipe(reads="a", writes="b", shard=(1, 2))
    assert middle.learn(pipes) == 14
    middle.tell(pipes, 14, {})
    assert Pipe(reads="b").learn(pipes) == 14
    assert Pipe(reads="c").learn(pipes) is None
    assert Pipe().learn(pipes) is None
    for number in range(200):
        Pipe(writes=f"pipe {number}").tell(pipes, 1, {})
    assert len(pipes) == 50
    assert "pipe 199" in pipes


# ---- the drawing ----


@pytest.mark.parametrize("width", [*range(10, 70), 99, 200])
def test_no_line_is_wider_than_the_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    works = [work("random-walk", shown={"loss": "0.123"}), work("猫" * 40, total=None, rate=None)]
    lines = frame(works, width, 10)
    assert len(lines) == (0 if width < 12 else 2)
    assert all(cell_len(each) <= width for each in lines)


def test_more_tools_than_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    works = [work(f"tool-{number}") for number in range(9)]
    assert len(frame(works, 80, 9)) == 9
    lines = frame(works, 80, 4)
    assert [each.split()[0] for each in lines] == ["tool-0", "tool-1", "tool-2", "and"]
    assert lines[-1] == "and 6 more"
    assert frame(works, 80, 0) == []


def test_what_a_line_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    (text,) = frame([work(shown={"loss": "0.5", "lr": "0.1"})], 99, 5)
    assert re.fullmatch(r"crf  [━╸╺ ]+  10/40  2.00image/s  00:15 left  loss 0.5 lr 0.1 *", text)
    (text,) = frame([work(total=None, rate=0.25)], 99, 5)
    assert re.fullmatch(r"crf  [━ ]+  10  4.00s/image  00:05 *", text)
    half, whole = (len(frame([work(done=n)], 99, 5)[0].split()[1]) for n in (20, 40))
    assert abs(whole - 2 * half) <= 1


def test_terminals_of_others_are_not_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that others could have made, or can write to, is not used."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "none"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = tmp_path / f"wsss-{os.getuid()}"
    assert terminal._folder() == str(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    with pytest.raises(OSError, match="no folder"):
        terminal._folder()
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="no folder"):
        terminal._folder()


def test_what_is_no_terminal(tmp_path: Path) -> None:
    with open(tmp_path / "log", "w") as log:
        assert terminal.of(log) is None
    assert terminal.of(log) is None  # closed
    assert terminal.of(None) is None
