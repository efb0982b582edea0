"""crf as a process: from CAMs, scores and label maps, in a pipe, with PAMR, what goes wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Run, as_lines
from wsss_cli import files

Records = list[dict[str, Any]]

HEIGHT, WIDTH = 40, 60
INSIDE = np.zeros((HEIGHT, WIDTH), bool)
INSIDE[8:32, 18:42] = True
PROVENANCE = {"tool": "make-cam", "version": "1", "params": {}, "classes": ["cat", "dog"]}


def save_maps(name: str, cam: Any, classes: tuple[str, ...], **changed: Any) -> str:
    given = {"size": (HEIGHT, WIDTH), "meta": PROVENANCE, **changed}
    files.write_maps(name, np.asarray(cam, np.float16), classes, given["size"], given["meta"])
    return name


def blob() -> Any:
    """A CAM of a quarter of the size: sure in the middle of the square, fading beyond its edge."""
    y, x = np.mgrid[2:HEIGHT:4, 2:WIDTH:4]
    return np.exp(-(((y - 20) / 14) ** 2 + ((x - 30) / 14) ** 2))


@pytest.fixture
def squares(workdir: Path) -> Records:
    """Three photographs of a bright square on dark ground, with a CAM of dog, cat, and no class."""
    rng = np.random.default_rng(0)
    made = []
    for number, names in enumerate([("dog",), ("cat",), ()]):
        pixels = np.where(INSIDE[..., None], 200, 50) + rng.integers(-5, 6, (HEIGHT, WIDTH, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(f"square {number}.png")
        cam = save_maps(f"cam{number}.npz", [blob()] * len(names) or np.zeros((0, 10, 15)), names)
        made.append({"id": f"s{number}", "image": f"square {number}.png", "cam": cam, "x": number})
    return made


@pytest.fixture
def crf(inside: Run) -> Run:
    """``crf("--key", "pred", input=records)`` in this process, where a pool is not the point."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return inside("crf", "--workers", "0", *args, **kwargs)

    return call


def label_maps(records: Records) -> list[Any]:
    return [files.read_label_map(record["pseudo"], (HEIGHT, WIDTH)) for record in records]


def test_cams_become_label_maps_that_follow_the_photograph(run: Run, squares: Records) -> None:
    done = run("crf", "-o", "out", input=squares, check=0)
    assert [list(record) for record in done.records] == [["id", "image", "cam", "x", "pseudo"]] * 3
    dog, cat, nothing = label_maps(done.records)
    np.testing.assert_array_equal(dog, np.where(INSIDE, 2, 0))
    np.testing.assert_array_equal(cat, np.where(INSIDE, 1, 0))
    np.testing.assert_array_equal(nothing, 0)
    meta = files.read_meta("out/s0.png")
    assert meta is not None
    assert meta["tool"] == "crf"
    assert meta["params"]["crf"]["bilateral_srgb"] == 13
    assert meta["from"] == {"cam": PROVENANCE}
    assert meta["classes"] == ["cat", "dog"]


def test_saliency_is_read_only_when_asked_for(crf: Run, squares: Records) -> None:
    done = crf("--by-saliency", input=squares[:1])
    assert (done.code, done.out) == (1, "")
    assert "saliency" in done.err
    grey = np.zeros((HEIGHT, WIDTH), np.uint8)
    grey[:4] = 255
    Image.fromarray(grey).save("grey.png")
    record = {**squares[0], "saliency": "grey.png"}
    done = crf("--by-saliency", "--crf-steps", "0", input=[record], check=0)
    labels = label_maps(done.records)[0]
    assert (labels[:4].any(1)).all()
    assert not labels[4:].any()
    meta = files.read_meta(done.records[0]["pseudo"])
    assert meta is not None
    assert meta["params"]["saliency"] is True
    assert "saliency" in meta["inputs"]


def test_what_is_salient_begins_where_it_is_said(crf: Run, squares: Records) -> None:
    grey = np.zeros((HEIGHT, WIDTH), np.uint8)
    grey[:4], grey[4:8] = 255, 90  # 0.35
    Image.fromarray(grey).save("grey.png")
    record = {**squares[0], "saliency": "grey.png"}
    for given, rows in (([], 4), (["--salient-above", "0.3"], 8)):
        done = crf("--by-saliency", "--crf-steps", "0", *given, input=[record], check=0)
        labels = label_maps(done.records)[0]
        assert (labels[:rows].any(1)).all()
        assert not labels[rows:].any()
        meta = files.read_meta(done.records[0]["pseudo"])
        assert meta is not None
        assert meta["params"]["salient_above"] == (0.3 if given else 0.5)
    refused = crf("--salient-above", "0.3", input=[record], check=2)
    assert "--salient-above is only for --by-saliency" in refused.err


def test_settings_reach_the_crf(crf: Run, squares: Records) -> None:
    # Blind to colours, or without a step, nothing follows the photograph.
    for settings in (["--bilateral", "80,500,10"], ["--crf-steps", "0"]):
        done = crf(*settings, input=squares[:1], check=0)
        assert (label_maps(done.records)[0] != np.where(INSIDE, 2, 0)).any(), settings
    (less,), (more,) = (
        label_maps(crf("--crf-steps", "0", "--alpha", alpha, input=squares[:1], check=0).records)
        for alpha in ("2", "16")
    )
    assert (more[less == 2] == 2).all()
    assert (more == 2).sum() > (less == 2).sum() > 0
    plain = crf("--crf-steps", "0", "--threshold", "0.5", input=squares[:1], check=0)
    large = np.array(Image.fromarray(blob()).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR))
    wanted = np.where(large > 0.5, 2, 0)
    assert (label_maps(plain.records)[0] != wanted).mean() < 0.01  # maps are float16


def test_numbers_are_places_in_the_class_list(crf: Run, squares: Records) -> None:
    Path("other.txt").write_text("horse\ncat\ndog\n")
    left = np.where(np.arange(15) < 8, blob(), 0)
    save_maps("cam0.npz", [blob() - left, left], ("dog", "cat"))
    for options, numbers in ((), [0, 1, 2]), (("--classes", "other.txt"), [0, 2, 3]):
        done = crf(*options, input=squares[:1], check=0)
        (labels,) = label_maps(done.records)
        assert np.unique(labels).tolist() == numbers
        assert labels[20, 20] == numbers[1]
        assert labels[20, 40] == numbers[2]
    meta = files.read_meta(done.records[0]["pseudo"])
    assert meta is not None
    assert meta["classes"] == ["horse", "cat", "dog"]


def test_maps_with_their_own_background(crf: Run, squares: Records) -> None:
    background = np.where(np.arange(15) < 8, 0.0, 1.0) * np.ones((10, 1))
    record = squares[0]
    record["scores"] = save_maps(
        "scores.npz", [background, np.full((10, 15), 0.5)], ("background", "dog")
    )
    options = ("--key", "scores", "--gaussian", "3,0", "--bilateral", "80,13,0")
    (labels,) = label_maps(crf(*options, input=[record], check=0).records)
    assert (labels[:, :28] == 2).all()
    assert (labels[:, 36:] == 0).all()
    threshold = crf(*options, "--threshold", "0.6", input=[record], check=0)
    np.testing.assert_array_equal(label_maps(threshold.records)[0], 0)


def test_label_maps_lose_their_noise_and_their_gaps(crf: Run, squares: Records) -> None:
    rng = np.random.default_rng(1)
    wanted = np.where(INSIDE, 7, 0).astype(np.uint8)
    noisy = np.where(rng.random((HEIGHT, WIDTH)) < 0.1, 7 - wanted, wanted)
    noisy[rng.random((HEIGHT, WIDTH)) < 0.3] = 255
    for number, labels in enumerate([noisy, np.full_like(noisy, 255), np.zeros_like(noisy)]):
        files.write_label_map(f"map{number}.png", labels.astype(np.uint8))
        squares[number]["aff_label"] = f"map{number}.png"
    done = crf("--key", "aff_label", "--certainty", "0.8", input=squares, check=1)
    for found, expected in zip(label_maps(done.records), (wanted, 0), strict=True):
        np.testing.assert_array_equal(found, np.broadcast_to(expected, found.shape))
    assert "wsss crf: s1: map1.png: no pixel of it is known, all are 255\n" in done.err


def test_processes_keep_the_order_and_change_nothing(run: Run, squares: Records) -> None:
    many = [{**squares[n % 3], "id": f"{n:02}"} for n in range(12)]
    alone = run("crf", "-o", "a", "--workers", "0", input=many, check=0)
    both = run("crf", "-o", "b", "--workers", "2", input=many, check=0)
    assert [record["id"] for record in both.records] == [record["id"] for record in many]
    for one, other in zip(alone.records, both.records, strict=True):
        assert Path(one["pseudo"]).read_bytes() == Path(other["pseudo"]).read_bytes()


def test_worker_processes_start_without_torch() -> None:
    code = "import sys, wsss_cli.tools.crf; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_only_what_changed_is_made_again(crf: Run, squares: Records) -> None:
    def made(*options: str) -> int:
        done = crf("--skip-existing", *options, input=squares, check=0)
        reused = [part for part in done.err.split(", ") if "reused" in part]
        return 3 - int(reused[0].split()[0]) if reused else 3

    assert made() == 3
    assert made() == 0
    assert made("--workers", "1") == 0
    assert made("--bilateral", "80,12,10") == 3
    save_maps("cam1.npz", [blob()], ("cat",), meta={**PROVENANCE, "params": {"scales": [1]}})
    assert made("--bilateral", "80,12,10") == 1


def test_tools_in_a_pipe(shell: Run, squares: Records) -> None:
    Path("in.jsonl").write_text(as_lines(squares))
    done = shell(
        "wsss crf in.jsonl -o a --alpha 2 | wsss crf --key pseudo -o b | tee b.jsonl", check=0
    )
    assert [record["pseudo"] for record in done.records] == ["b/s0.png", "b/s1.png", "b/s2.png"]
    meta = files.read_meta("b/s1.png")
    assert meta is not None
    assert meta["classes"] == ["cat", "dog"]
    assert meta["from"]["pseudo"]["from"]["cam"]["tool"] == "make-cam"
    head = shell("set +o pipefail; cat in.jsonl in.jsonl | wsss crf -q -o c | head -1", check=0)
    assert [record["id"] for record in head.records] == ["s0"]
    assert head.err == ""


def test_large_photographs_are_refined_small_and_answered_large(crf: Run, squares: Records) -> None:
    big = Image.open("square 0.png").resize((WIDTH * 10, HEIGHT * 10), Image.Resampling.NEAREST)
    big.save("big.jpg", quality=95)
    wide = Image.new("RGB", (20_000, 20), (90, 90, 90))
    wide.save("wide.png")
    records = [
        {
            "id": "big",
            "image": "big.jpg",
            "cam": save_maps("big.npz", [blob()], ("dog",), size=(HEIGHT * 10, WIDTH * 10)),
        },
        {
            "id": "wide",
            "image": "wide.png",
            "cam": save_maps("wide.npz", np.ones((1, 5, 5000)), ("dog",), size=(20, 20_000)),
        },
    ]
    done = crf("--max-side", "120", input=records, check=0)
    labels = files.read_label_map(done.records[0]["pseudo"], (HEIGHT * 10, WIDTH * 10))
    assert (labels == np.kron(np.where(INSIDE, 2, 0), np.ones((10, 10)))).mean() > 0.98
    assert (files.read_label_map(done.records[1]["pseudo"], (20, 20_000)) == 2).all()
    files.write_label_map("pred.png", labels)
    again = crf(
        "--max-side",
        "120",
        "--key",
        "pred",
        "-o",
        "again",
        input=[{**records[0], "pred": "pred.png"}],
        check=0,
    )
    assert (files.read_label_map(again.records[0]["pseudo"]) == labels).mean() > 0.98


def test_a_photograph_turned_by_exif(crf: Run, squares: Records) -> None:
    upright = Image.open("square 0.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save("turned.jpg", exif=exif, quality=95)
    squares[0]["image"] = "turned.jpg"
    (labels,) = label_maps(crf(input=squares[:1], check=0).records)
    np.testing.assert_array_equal(labels, np.where(INSIDE, 2, 0))


# ---- with PAMR ----


def test_pamr_follows_the_photograph_without_pydensecrf(run: Run, squares: Records) -> None:
    Path("pydensecrf.py").write_text("raise ImportError")
    done = run("crf", "--method", "pamr", "-o", "out", "--workers", "2", input=squares, check=0)
    assert [list(record) for record in done.records] == [["id", "image", "cam", "x", "pseudo"]] * 3
    dog, cat, nothing = label_maps(done.records)
    assert (dog == np.where(INSIDE, 2, 0)).mean() > 0.98
    assert (cat == np.where(INSIDE, 1, 0)).mean() > 0.98
    np.testing.assert_array_equal(nothing, 0)
    meta = files.read_meta("out/s0.png")
    assert meta is not None
    assert meta["params"] == {
        "method": "pamr",
        "key": "cam",
        "alpha": 16,
        "threshold": None,
        "max_side": 1024,
        "pamr": {"iterations": 10, "dilations": [1, 2, 4, 8, 12, 24]},
        "classes": None,
    }
    assert meta["from"] == {"cam": PROVENANCE}
    assert meta["classes"] == ["cat", "dog"]


def test_a_dense_crf_needs_no_torch(run: Run, squares: Records) -> None:
    Path("torch.py").write_text("raise ImportError")
    run("crf", "--workers", "2", input=squares, check=0)


def test_settings_reach_pamr(crf: Run, squares: Records) -> None:
    def made(*options: str) -> Any:
        done = crf("--method", "pamr", *options, input=squares[:1], check=0)
        return label_maps(done.records)[0]

    usual = made()
    assert (made("--iterations", "10", "--dilations", "1,2,4,8,12,24") == usual).all()
    assert (made("--device", "cpu") == usual).all()
    assert (made("--iterations", "1", "--dilations", "1") != usual).any()
    large = np.array(Image.fromarray(blob()).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR))
    plain = made("--iterations", "0", "--threshold", "0.5")
    assert (plain != np.where(large > 0.5, 2, 0)).mean() < 0.01  # maps are float16
    once = ("--iterations", "1", "--threshold", "0.5")
    near, far = made(*once, "--dilations", "1"), made(*once)
    assert (plain != near).any()
    assert (near != far).any()
    assert (made("--iterations", "0", "--alpha", "2") != plain).any()


def test_pamr_in_a_pipe_takes_label_maps_and_fills_their_gaps(shell: Run, squares: Records) -> None:
    rng = np.random.default_rng(1)
    wanted = np.where(INSIDE, 7, 0).astype(np.uint8)
    noisy = np.where(rng.random((HEIGHT, WIDTH)) < 0.1, 7 - wanted, wanted)
    noisy[rng.random((HEIGHT, WIDTH)) < 0.3] = 255
    for number, labels in enumerate([noisy, np.full_like(noisy, 255), np.zeros_like(noisy)]):
        files.write_label_map(f"map{number}.png", labels.astype(np.uint8))
        squares[number]["pred"] = f"map{number}.png"
    Path("in.jsonl").write_text(as_lines(squares))
    done = shell(
        "wsss crf in.jsonl --method pamr --key pred -o a |"
        " wsss crf --method pamr --key pseudo -o b --iterations 1 | tee b.jsonl",
        check=1,
    )
    assert "wsss crf: s1: map1.png: no pixel of it is known" in done.err
    assert [record["pseudo"] for record in done.records] == ["b/s0.png", "b/s2.png"]
    first, last = label_maps(done.records)
    assert (first == wanted).mean() > 0.99
    assert not last.any()
    meta = files.read_meta("b/s0.png")
    assert meta is not None
    assert meta["from"]["pseudo"]["params"]["pamr"]["iterations"] == 10


def test_only_what_the_method_changed_is_made_again(crf: Run, squares: Records) -> None:
    def told(*options: str) -> str:
        return str(crf("--skip-existing", *options, input=squares, check=0).err)

    pamr = ("--method", "pamr")
    assert "reused" not in told()
    assert "reused" not in told(*pamr)
    assert "3 reused" in told(*pamr, "--device", "cpu", "--workers", "1")
    assert "reused" not in told(*pamr, "--iterations", "9")
    assert "reused" not in told()
    assert "3 reused" in told("--method", "densecrf")


def test_pamr_refines_large_photographs_small(crf: Run, squares: Records) -> None:
    big = Image.open("square 0.png").resize((WIDTH * 10, HEIGHT * 10), Image.Resampling.NEAREST)
    big.save("big.png")
    save_maps("big.npz", [blob()], ("dog",), size=(HEIGHT * 10, WIDTH * 10))
    record = {"id": "big", "image": "big.png", "cam": "big.npz"}
    done = crf("--method", "pamr", "--max-side", "60", input=[record], check=0)
    labels = files.read_label_map(done.records[0]["pseudo"], (HEIGHT * 10, WIDTH * 10))
    assert (labels == np.kron(np.where(INSIDE, 2, 0), np.ones((10, 10)))).mean() > 0.97


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "pamr", "--gaussian", "3,3"], "--gaussian is only for --method densecrf"),
        (
            ["--method", "pamr", "--bilateral", "80,13,10"],
            "--bilateral is only for --method densecrf",
        ),
        (["--method", "pamr", "--crf-steps", "10"], "--crf-steps is only for --method densecrf"),
        (["--method", "pamr", "--certainty", "0.7"], "--certainty is only for --method densecrf"),
        (["--iterations", "10"], "--iterations is only for --method pamr"),
        (["--dilations", "1,2"], "--dilations is only for --method pamr"),
        (["--device", "cpu"], "--device is only for --method pamr"),
        (["--method", "pamr", "--dilations", "1,0"], "each must be greater than 0"),
        (["--method", "pamr", "--dilations", "1,1.5"], "not a list of numbers"),
        (["--method", "pamr", "--iterations", "-1"], "-1 is not in the range x>=0"),
        (["--method", "pamr", "--device", "cuda:99"], "this machine has no such device"),
        (["--method", "crf"], "'crf' is not one of 'densecrf', 'pamr'"),
    ],
)
def test_each_method_has_its_own_options(
    crf: Run, squares: Records, options: list[str], message: str
) -> None:
    done = crf(*options, input=squares)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert len(done.err.splitlines()) == 1
    assert not Path("out").exists()


# ---- what goes wrong ----


def break_maps(name: str, **changed: Any) -> None:
    with np.load(name) as archive:
        content = dict(archive)
    np.savez(name, **{**content, **changed})


@pytest.mark.parametrize(
    "options", [["--workers", "0"], ["--workers", "2"], ["--method", "pamr"]], ids=" ".join
)
def test_bad_cams_fail_alone(run: Run, squares: Records, options: list[str]) -> None:
    nan = blob()[None].astype(np.float16)
    nan[0, 3, 3] = np.nan
    bad: Records = []
    for name in ("nan", "size", "cut", "gone", "list", "stranger", "none"):
        save_maps(f"{name}.npz", [blob()], ("dog",))
        bad.append({"id": name, "image": "square 0.png", "cam": f"{name}.npz"})
    break_maps("nan.npz", cam=nan)
    break_maps("size.npz", size=np.array([HEIGHT, WIDTH + 1]))
    Path("cut.npz").write_bytes(Path("cut.npz").read_bytes()[:200])
    Path("gone.npz").unlink()
    break_maps("list.npz", meta=np.array("{}"))
    break_maps("stranger.npz", classes=np.array(["dgo"]))
    del bad[-1]["cam"]
    done = run("crf", "-q", *options, input=[squares[0], *bad, squares[1]])
    assert done.code == 1
    assert [record["id"] for record in done.records] == ["s0", "s1"]
    assert sorted(done.err.splitlines()) == sorted(
        [
            "wsss crf: nan: nan.npz: maps hold NaN or values outside 0 to 1; make them again",
            "wsss crf: size: size.npz: maps of an image of 61x40, but this one is 60x40",
            "wsss crf: cut: cannot read maps: cut.npz: truncated or not an NPZ of wsss",
            "wsss crf: gone: cannot read maps: gone.npz: no such file",
            "wsss crf: list: the maps do not say their class list; give --classes",
            "wsss crf: stranger: label 'dgo' is not in the class list; did you mean dog?",
            "wsss crf: none: record has no 'cam' (made by make-cam)",
        ]
    )
    assert sorted(path.name for path in Path("out/crf").iterdir()) == ["s0.png", "s1.png"]


def test_no_class_needs_no_class_list(crf: Run, squares: Records) -> None:
    break_maps("cam2.npz", meta=np.array("{}"))
    (labels,) = label_maps(crf(input=squares[2:], check=0).records)
    np.testing.assert_array_equal(labels, 0)


def test_bad_label_maps_and_photographs_fail_alone(crf: Run, squares: Records) -> None:
    files.write_label_map("good.png", INSIDE.astype(np.uint8))
    files.write_label_map("small.png", np.zeros((20, 30), np.uint8))
    Image.new("RGB", (WIDTH, HEIGHT)).save("coloured.png")
    Path("empty.png").write_bytes(b"")
    Path("cut.png").write_bytes(Path("square 1.png").read_bytes()[:3000])
    image = "square 0.png"
    records = [
        {"id": "good", "image": image, "pred": "good.png"},
        {"id": "small", "image": image, "pred": "small.png"},
        {"id": "coloured", "image": image, "pred": "coloured.png"},
        {"id": "empty", "image": "empty.png", "pred": "good.png"},
        {"id": "cut", "image": "cut.png", "pred": "good.png"},
        {"id": "last", "image": image, "pred": "good.png"},
    ]
    done = crf("-q", "--key", "pred", input=records)
    assert done.code == 1
    assert [record["id"] for record in done.records] == ["good", "last"]
    assert sorted(done.err.splitlines()) == sorted(
        [
            "wsss crf: small: small.png: label map is 30x20, its image 60x40",
            "wsss crf: coloured: coloured.png: a label map holds class numbers in an 8-bit palette "
            "or grey PNG, this is RGB; 'wsss relabel' makes numbers of its colours",
            "wsss crf: empty: cannot read image: empty.png: empty file",
            "wsss crf: cut: cannot read image: cut.png: truncated file",
        ]
    )


def test_a_key_that_holds_no_path(crf: Run, squares: Records) -> None:
    done = crf("-q", "--key", "x", input=squares[1:2])
    assert (done.code, done.out) == (1, "")
    assert done.err == "wsss crf: s1: 'x' is not a path but 1\n"


def test_what_is_refined_is_not_overwritten(crf: Run, squares: Records) -> None:
    first = crf("-o", "out", input=squares[:1], check=0)
    before = Path("out/s0.png").read_bytes()
    done = crf("-q", "--key", "pseudo", "-o", "./out", input=first.records)
    assert (done.code, done.out) == (1, "")
    assert done.err == "wsss crf: s0: would overwrite its own 'pseudo'; change --out\n"
    assert Path("out/s0.png").read_bytes() == before
    crf("-o", "out", "--alpha", "2", input=first.records, check=0)  # from the CAM: fine


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--bilateral", "80,0,10"], "--bilateral: bilateral_srgb must be above 0 and finite"),
        (["--bilateral", "80,1e-9,10"], "--bilateral: bilateral_srgb 1e-09 is too small"),
        (["--bilateral", "80,13"], "3 numbers are needed, '80,13' has 2"),
        (["--gaussian", "nan,3"], "'--gaussian': nan is not a number"),
        (["--gaussian", "3,-1"], "--gaussian: gaussian_compat must be 0 or more"),
        (["--certainty", "0.5"], "0.5 is not in the range 0.5<x<1"),
        (["--threshold", "1.5"], "1.5 is not in the range 0<=x<=1"),
        (["--classes", "nowhere.txt"], "--classes nowhere.txt: not voc, coco or a readable text"),
    ],
)
def test_wrong_settings_end_before_any_work(
    crf: Run, squares: Records, options: list[str], message: str
) -> None:
    done = crf(*options, input=squares)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert len(done.err.splitlines()) == 1
    assert not Path("out").exists()


def test_a_missing_pydensecrf_ends_before_any_work(run: Run, squares: Records) -> None:
    Path("pydensecrf.py").write_text("raise ImportError")
    done = run("crf", input=squares)
    assert done.code == 2
    assert done.err == (
        "wsss crf: the CRF needs pydensecrf: pip install pydensecrf2, which needs a C compiler; "
        "'wsss crf --method pamr' refines without it\n"
    )


def test_label_maps_of_other_classes_are_refused(crf: Run, squares: Records) -> None:
    """Also numbers beyond the list: those of an editor, or of another data set."""
    for record, number in zip(squares, (1, 2, 9), strict=True):
        record["pred"] = f"pred {record['id']}.png"
        labels = np.where(INSIDE, number, 0).astype(np.uint8)
        files.write_label_map(
            record["pred"], labels, {"tool": "predict", "classes": ["cat", "dog"]}
        )
    Path("other.txt").write_text("dog\ncat\n")
    Path("more.txt").write_text("cat\ndog\ncow\n")
    done = crf("--key", "pred", input=squares, check=1)
    assert "s2: pred s2.png: holds class number 9, but there are 2 in the class list" in done.err
    assert [record["id"] for record in done.records] == ["s0", "s1"]
    done = crf("--key", "pred", "--classes", "other.txt", "-o", "b", input=squares, check=1)
    assert done.records == []
    assert "s0: pred s0.png: class number 1 is 'cat' in this file, but 'dog' in --cl" in done.err
    done = crf("--key", "pred", "--classes", "more.txt", "-o", "c", input=squares[:2], check=0)
    assert [files.read_meta(r["pseudo"])["classes"] for r in done.records] == [  # type: ignore[index]
        ["cat", "dog", "cow"]
    ] * 2


def test_a_label_map_made_for_other_labels_is_refused(crf: Run, squares: Records) -> None:
    """Although this tool does not ask for labels: its input was made for them."""
    for record, names in zip(squares, (["dog"], ["cat"], []), strict=True):
        record["labels"] = names
    done = crf("--threshold", "0.3", input=squares, check=0).records
    walked = [{**record, "pred": record["pseudo"]} for record in done]
    meta = files.read_meta(walked[0]["pred"])
    assert meta is not None
    meta["from"]["cam"]["inputs"] = {"labels": ["dog"]}
    files.write_label_map(walked[0]["pred"], files.read_label_map(walked[0]["pred"]), meta)
    crf("--key", "pred", "-o", "b", input=walked, check=0)
    walked[0]["labels"] = ["cat"]
    said = crf("--key", "pred", "-o", "c", input=walked, check=1).err
    assert "made for the labels dog, but the record's are cat; make it again" in said
