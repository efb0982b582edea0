"""The stage: order, skipping, failures, streaming, processes, closed pipes, kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Run, as_lines

# A tool as small as can be: writes an all-background label map of each image.
TOOL = """
import os, sys, time
from dataclasses import dataclass
import numpy as np
from wsss_cli import files
from wsss_cli.commands import _frame, _options
from wsss_cli.stage import BatchTool, RecordTool, Stage
import click

def write(job, size):
    files.write_label_map(job.paths["pseudo"], np.zeros(size, np.uint8), job.meta)

@dataclass(frozen=True)
class Each(RecordTool):
    param: int
    slow: float

    name = "tool"
    outputs = {"pseudo": ".png"}
    inputs = ("image", "cam", "labels")

    @property
    def params(self):
        return {"param": self.param}

    def work(self, job):
        time.sleep(self.slow * (1 if job.record["id"].endswith("0") else 0.1))
        if "crash" in job.record:
            if job.record["crash"] == "exit":
                os._exit(9)
            raise {"value": ValueError("bad value"), "bug": KeyError("bug"),
                   "full": OSError(28, "No space left on device", "x.png")}[job.record["crash"]]
        write(job, files.image_size(job.record["image"]))
        return {"made": True} if "--extra" in sys.argv else None

@dataclass(frozen=True)
class Batches(BatchTool):
    param: int

    name = "tool"
    outputs = {"pseudo": ".png"}
    inputs = ("image", "cam", "labels")
    batch_size = 2
    params = Each.params

    def load(self, job):
        return files.read_image(job.record["image"]), "crash" in job.record

    def group(self, item):
        return item[0].shape

    def compute(self, items):
        sys.stderr.write(f"batch {len(items)}\\n")  # whole, also where a signal comes
        if any(crash for _, crash in items):
            raise ValueError("bad batch")
        return [image.shape[:2] for image, _ in items]

    def save(self, job, size):
        write(job, size)

@_frame.command(name="tool")
@_options.records_argument
@click.option("--param", default=1)
@click.option("--slow", default=0.0)
@click.option("--processes", default=0)
@click.option("--batches", is_flag=True)
@click.option("--extra", is_flag=True)
@_options.stage_options("out")
def command(records, param, slow, processes, batches, extra, stage):
    tool = Batches(param) if batches else Each(param, slow)
    Stage(tool, **stage).run(records, workers=2 if batches else processes)

if __name__ == "__main__":
    from wsss_cli.cli import cli, COMMANDS
    from wsss_cli.interrupt import heed
    heed()
    COMMANDS["tool"] = ""
    cli.add_command(command)
    cli.get_command = lambda context, name: command
    cli(["tool", *sys.argv[1:]])
"""


@pytest.fixture
def tool(workdir: Path, shell: Run) -> Any:
    """``tool("--strict", input=records)``."""
    Path("tool.py").write_text(TOOL)

    def call(options: str = "", input: Any = (), code: int = 0) -> Any:
        Path("in.jsonl").write_text(as_lines(input), encoding="utf-8")
        return shell(f"'{sys.executable}' tool.py {options} < in.jsonl", check=code)

    return call


MODES = ["", "--processes 2", "--batches"]


@pytest.mark.parametrize("mode", MODES)
def test_order_is_kept_and_unknown_keys_pass(mode: str, tool: Any, photographs: Any) -> None:
    photographs[1]["unknown"] = {"deep": [1, None]}
    result = tool(f"{mode} --slow 0.1", photographs)
    assert [r["id"] for r in result.records] == [r["id"] for r in photographs]
    assert [list(r)[-1] for r in result.records] == ["pseudo"] * 4
    assert result.records[1]["unknown"] == {"deep": [1, None]}
    assert all(Path(r["pseudo"]).exists() for r in result.records)


@pytest.mark.parametrize("mode", MODES)
def test_an_empty_stream_gives_an_empty_stream(mode: str, tool: Any) -> None:
    assert tool(mode, []).out == ""


@pytest.mark.parametrize("mode", MODES)
def test_failures_are_named_and_the_rest_goes_on(mode: str, tool: Any, photographs: Any) -> None:
    photographs[1]["crash"] = "value"
    photographs.insert(3, {"id": "gone", "image": "gone.png"})
    photographs.insert(4, {"id": "none"})
    photographs.append({"id": "../evil", "image": photographs[0]["image"]})
    result = tool(f"{mode} -q", photographs, code=1)
    lines = [line for line in result.err.splitlines() if not line.startswith("batch")]
    problem = "bad batch" if "batches" in mode else "bad value"
    assert sorted(lines) == [
        "wsss tool: gone: cannot read image: gone.png: no such file",
        "wsss tool: none: record has no 'image' (made by index)",
        f"wsss tool: photo 1 é: {problem}",
        "wsss tool: stdin:7: unsafe id \"../evil\": no empty part, '.' or '..' allowed",
    ]
    assert [r["id"] for r in result.records] == ["photo 0 é", "photo 2 é", "photo 3 é"]
    assert sorted(os.listdir("out")) == ["photo 0 é.png", "photo 2 é.png", "photo 3 é.png"]


def test_a_bug_fails_the_record_and_debug_shows_where(tool: Any, photographs: Any) -> None:
    photographs[0]["crash"] = "bug"
    result = tool("", photographs, code=1)
    assert "photo 0 é: internal error: KeyError('bug')" in result.err
    assert "Traceback" not in result.err
    assert len(result.records) == 3
    assert "Traceback" in tool("--debug", photographs, code=1).err


@pytest.mark.parametrize("mode", ["", "--processes 2"])
def test_a_full_disk_stops_with_one_line(mode: str, tool: Any, photographs: Any) -> None:
    photographs[1]["crash"] = "full"
    result = tool(f"{mode} -q", photographs, code=1)
    assert result.err == (
        "wsss tool: cannot write: x.png: No space left on device; what was printed so far is safe\n"
    )
    assert len(result.records) <= 1


def test_a_dying_worker_is_told(tool: Any, photographs: Any) -> None:
    photographs[1]["crash"] = "exit"
    result = tool("--processes 2 -q", photographs, code=1)
    assert result.err == "wsss tool: a worker process died; was there too little memory?\n"


def test_strict_stops_at_the_first_failure(tool: Any, photographs: Any) -> None:
    photographs[1]["crash"] = "value"
    result = tool("--strict -q", photographs, code=1)
    assert result.err.splitlines()[-1] == "wsss tool: stopped at the first failure (--strict)"
    assert len(result.records) == 1


def test_skip_existing_reuses_only_what_the_same_run_made(tool: Any, photographs: Any) -> None:
    tool("", photographs)
    stamps = {path: path.stat().st_mtime_ns for path in Path("out").iterdir()}
    again = tool("--skip-existing", photographs)
    assert "0 records" in again.err
    assert "4 reused" in again.err
    assert len(again.records) == 4
    assert {path: path.stat().st_mtime_ns for path in Path("out").iterdir()} == stamps
    assert "4 records" in tool("--skip-existing --param 2", photographs).err
    Path("out/photo 0 é.png").write_bytes(b"")
    assert "1 records" in tool("--skip-existing --param 2", photographs).err


def test_skip_existing_notices_another_source(tool: Any, photographs: Any) -> None:
    from wsss_cli import files

    for beta in (1, 2):
        for record in photographs:
            record["cam"] = f"{record['id']}.npz"
            meta = files.provenance("make-cam", {"beta": beta})
            files.write_maps(record["cam"], np.zeros((0, 2, 2)), [], (8, 8), meta)
        assert "4 records" in tool("--skip-existing", photographs).err
    assert "4 reused" in tool("--skip-existing", photographs).err


def test_what_changed_is_made_again_and_told(tool: Any, photographs: Any) -> None:
    tool("", photographs)
    photographs[1]["labels"] = ["cat"]
    other = Image.effect_noise((64, 48), 50).convert("RGB")
    other.save(photographs[3]["image"])  # another photograph under the same name
    err = tool("--skip-existing", photographs).err
    assert "wsss tool: photo 1 é: labels changed; made again\n" in err
    assert "wsss tool: photo 3 é: image changed; made again\n" in err
    assert "2 reused, 1 made again (labels changed), 1 made again (image changed)" in err
    assert "4 reused" in tool("--skip-existing", photographs).err


def test_a_turned_knob_is_told_for_a_few_records_only(tool: Any, photographs: Any) -> None:
    tool("", photographs)
    err = tool("--skip-existing --param 2", photographs).err
    assert err.count(": param changed; made again\n") == 3
    assert "4 made again (param changed)" in err


def test_labels_in_another_order_are_told_too(tool: Any, photographs: Any) -> None:
    """The maps of a photograph are in the order of its labels."""
    tool("", photographs)
    photographs[2]["labels"].reverse()
    assert "3 reused, 1 made again (labels changed)" in tool("--skip-existing", photographs).err


@pytest.mark.parametrize(
    ("first", "second"),
    [("a", "a"), ("x/a", "x/A"), ("\u00e9", "e\u0301"), ("\u017f", "s"), ("STRASSE", "straße")],
)
def test_one_id_is_one_photograph(first: str, second: str, tool: Any, photographs: Any) -> None:
    stream = [{**photographs[0], "id": first}, {**photographs[1], "id": second}, photographs[2]]
    result = tool("", stream, code=1)
    assert [record["id"] for record in result.records] == [first, "photo 2 é"]
    assert f"wsss tool: {second}: an earlier, different record has this id" in result.err
    # Each shard knows of the records of the others.
    assert "an earlier, different record" in tool("--shard 2/2", stream, code=1).err
    assert "an earlier, different record" not in tool("--shard 1/2", stream).err


def test_the_same_record_twice_is_no_harm(tool: Any, photographs: Any) -> None:
    result = tool("", [*photographs, photographs[1]])
    assert [record["id"][6] for record in result.records] == ["0", "1", "2", "3", "1"]


def test_shards_split_the_stream(tool: Any, photographs: Any) -> None:
    parts = [tool(f"--shard {k}/3", photographs).records for k in (1, 2, 3)]
    assert [[r["id"][6] for r in part] for part in parts] == [["0", "3"], ["1"], ["2"]]
    assert "--shard" in tool("--shard 4/3", photographs, code=2).err


def test_an_input_is_never_overwritten(tool: Any, photographs: Any) -> None:
    photographs[0]["mask"] = "out/photo 0 é.png"
    result = tool("", photographs, code=1)
    assert "photo 0 é: would overwrite its own 'mask'; change --out" in result.err


@pytest.mark.parametrize("name", ["absolute", "detour", "symbolic link", "hard link", "folder"])
def test_an_input_is_never_overwritten_whatever_it_is_called(
    name: str, tool: Any, photographs: Any
) -> None:
    """`saliency -o same`, where the photograph itself lies."""
    Path("same").mkdir()
    record = {"id": "a", "image": "same/a.png"}
    Path("same/a.png").write_bytes(Path(photographs[0]["image"]).read_bytes())
    out = "same"
    if name == "absolute":
        record["image"] = str(Path("same/a.png").resolve())
    elif name == "detour":
        Path("x").mkdir()
        record["image"] = "x/../same/a.png"
    elif name == "symbolic link":
        Path("link.png").symlink_to("same/a.png")
        record["image"] = "link.png"
    elif name == "hard link":
        Path("link.png").hardlink_to("same/a.png")
        record["image"] = "link.png"
    else:
        Path("link").symlink_to("same")
        out = "link"
    before = Path("same/a.png").read_bytes()
    result = tool(f"--out {out}", [record], code=1)
    assert result.err.startswith("wsss tool: a: would overwrite its own 'image'; change --out\n")
    assert Path("same/a.png").read_bytes() == before


@pytest.mark.parametrize("option", ["", "--skip-existing"])
def test_a_file_of_another_origin_is_not_replaced(option: str, tool: Any, photographs: Any) -> None:
    """A mask corrected by hand, the result of another tool, another photograph."""
    from wsss_cli import files

    tool("", photographs)
    by_hand, by_another = "out/photo 1 é.png", "out/photo 2 é.png"
    with Image.open(by_hand) as image:
        image.load()
    image.info.clear()
    image.save(by_hand)
    files.write_image(by_another, np.zeros((2, 2, 3), np.uint8), files.provenance("other", {}))
    before = [Path(path).read_bytes() for path in (by_hand, by_another)]
    result = tool(option, photographs, code=1)
    where = "move it away or change --out"
    assert f"photo 1 é: {by_hand} was made by something else; {where}" in result.err
    assert f"photo 2 é: {by_another} was made by wsss other; {where}" in result.err
    assert [Path(path).read_bytes() for path in (by_hand, by_another)] == before
    assert [record["id"][6] for record in result.records] == ["0", "3"]


def test_a_damaged_file_of_the_tool_is_made_again(tool: Any, photographs: Any) -> None:
    path = Path(tool("", photographs).records[1]["pseudo"])
    whole = path.read_bytes()
    for damaged in (b"", whole[:20], bytes(len(whole)), whole[:40] + b"\xff" * 40 + whole[80:]):
        path.write_bytes(damaged)
        assert "1 records" in tool("--skip-existing", photographs).err
        assert path.read_bytes() == whole
    pixels = whole.index(b"IDAT") + 8  # the provenance before it is good
    for damaged in (whole[: pixels + 5], whole[:pixels] + b"\0" + whole[pixels + 1 :]):
        path.write_bytes(damaged)
        assert f"{path}: damaged; made again" in tool("--skip-existing", photographs).err
        assert path.read_bytes() == whole


def test_what_killed_processes_left_is_removed(tool: Any, photographs: Any) -> None:
    Path("out").mkdir()
    leftover = Path("out/.wsss-0123456789abcdef.tmp")
    leftover.write_bytes(b"half")
    os.utime(leftover, (1, 1))
    assert f"removed {leftover}, left by a killed process" in tool("-v", photographs).err
    assert not leftover.exists()


def test_batches_go_together_by_size(tool: Any, photographs: Any) -> None:
    sizes = [
        int(line.split()[1])
        for line in tool("--batches", photographs).err.splitlines()
        if line.startswith("batch")
    ]
    assert sum(sizes) == 4
    assert max(sizes) <= 2


def test_a_record_is_printed_before_the_stream_ends(tool: Any, photographs: Any) -> None:
    for mode in MODES:
        process = subprocess.Popen(
            [sys.executable, "tool.py", *mode.split()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdin
        assert process.stdout
        process.stdin.write(as_lines(photographs[:1]))
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["id"] == "photo 0 é"
        process.stdin.close()
        assert process.wait(20) == 0
        process.stdout.close()


@pytest.mark.parametrize("mode", MODES)
def test_a_closed_pipe_ends_quietly(mode: str, tool: Any, shell: Run, photographs: Any) -> None:
    tool("", photographs)
    result = shell(f"'{sys.executable}' tool.py {mode} --slow 0.2 -q < in.jsonl | head -1")
    assert result.code == 0
    assert len(result.records) == 1
    assert [line for line in result.err.splitlines() if not line.startswith("batch")] == []


@pytest.mark.parametrize("mode", MODES)
def test_interrupt_and_kill_leave_whole_files_only(mode: str, tool: Any, photographs: Any) -> None:
    tool("", photographs)
    many = [{**photographs[0], "id": f"{n}0"} for n in range(40)]
    Path("many.jsonl").write_text(as_lines(many), encoding="utf-8")
    ends = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGKILL: -9}
    for how, expected in ends.items():
        with open("many.jsonl") as stdin:
            process = subprocess.Popen(
                [sys.executable, "tool.py", *mode.split(), "--slow", "0.05"],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        assert process.stdout
        printed = [json.loads(process.stdout.readline()) for _ in range(3)]
        process.send_signal(how)
        out, err = process.communicate(timeout=20)
        assert process.returncode == expected, err
        said = [line for line in err.splitlines() if not line.startswith("batch")]
        safe = "wsss tool: interrupted; what is finished is safe"
        assert said == ([] if how == signal.SIGKILL else [safe])
        printed += [json.loads(line) for line in out.splitlines() if line.endswith("}")]
        assert len(printed) < 40
        assert all(Path(record["pseudo"]).exists() for record in printed)
    Path("in.jsonl").write_text(as_lines(many), encoding="utf-8")
    assert len(tool("--skip-existing --slow 0.01", many).records) == 40


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("after", [0.0, 0.3, 0.6, 0.9, 1.2])
def test_a_whole_process_group_ends_with_one_line(
    after: float, how: signal.Signals, tool: Any, photographs: Any
) -> None:
    """A closed terminal and a cluster tell workers too, at whatever moment of their start."""
    many = [{**photographs[0], "id": f"{n}0"} for n in range(200)]
    Path("many.jsonl").write_text(as_lines(many), encoding="utf-8")
    with open("many.jsonl") as stdin:
        process = subprocess.Popen(
            [sys.executable, "tool.py", "--processes", "2", "--slow", "0.05", "-q"],
            stdin=stdin,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    while not Path("out").exists():
        time.sleep(0.001)
    time.sleep(after)
    os.killpg(process.pid, how)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (
        128 + how,
        "wsss tool: interrupted; what is finished is safe\n",
    )


def test_workers_do_not_outlive_a_killed_parent(tool: Any, photographs: Any) -> None:
    tool("", photographs)
    process = subprocess.Popen(
        [sys.executable, "tool.py", "--processes", "2", "--slow", "0.05"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write(as_lines(photographs))
    process.stdin.flush()
    process.stdout.readline()
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert children
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 10
    while any(alive(int(child)) for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(int(child)) for child in children)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_out_that_cannot_be_written(tool: Any, photographs: Any) -> None:
    Path("out").write_text("a file")
    result = tool("", photographs, code=2)
    assert "Directory 'out' is a file" in result.err
    Path("blocked").write_text("a file")
    result = tool("-o blocked/sub", photographs, code=2)
    assert "cannot write to --out: blocked/sub: Not a directory" in result.err
    refused = "import os; os.access = lambda path, mode: False\n"  # root may write anywhere
    Path("tool.py").write_text(refused + TOOL)
    result = tool("-o elsewhere", photographs, code=2)
    assert result.err == "wsss tool: cannot write to --out: elsewhere: permission denied\n"
