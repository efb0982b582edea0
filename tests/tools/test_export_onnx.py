"""``export onnx``: the file computes what the tools compute, for any photograph."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import nn

from tests.conftest import Result, Run
from wsss_cli import __version__, files
from wsss_cli.classes import palette
from wsss_cli.cli import cli
from wsss_cli.errors import ConfigurationError
from wsss_cli.files import Checkpoint
from wsss_cli.methods.affinity import pairwise_affinity
from wsss_cli.models.inference import Runner
from wsss_cli.models.networks import KINDS, Kind, build_network
from wsss_cli.tools import export_onnx, make_cam, predict

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

Pixels = npt.NDArray[np.uint8]
Make = Callable[..., Path]
Exported = Callable[..., tuple[Checkpoint, Any]]

CLASSES = ("cat", "dog", "cow é")
# No multiple of a stride, a multiple of all, one below SMALLEST, both below.
SIZES = [(75, 101), (96, 64), (20, 90), (13, 7)]


def blobs(height: int, width: int, seed: int = 0) -> Pixels:
    """A photograph of soft blobs."""
    noise = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(picture)


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """``make("cam", "resnet50", …)``: a checkpoint whose random network tells pixels apart."""
    made: dict[str, Path] = {}

    def checkpoint(kind: str, backbone: str = "efficientnet-lite0", **more: Any) -> Path:
        config = {"output_stride": 16, **more}
        name = json.dumps([kind, backbone, config])
        if name in made:
            return made[name]
        torch.manual_seed(0)
        network: Any = build_network(kind, backbone, CLASSES, config).eval()
        seen = np.stack([blobs(75, 101, seed) for seed in (0, 1)])
        colours = (torch.tensor(each) for each in network.backbone.colours)
        mean, std = (each.view(1, 3, 1, 1) for each in colours)
        pictures = (torch.from_numpy(seen).permute(0, 3, 1, 2) / 255 - mean) / std
        with torch.no_grad():
            for layer in network.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.train().register_forward_pre_hook(settle)
            network(pictures)
            if kind not in ("affinity", "irn"):
                spread(network, pictures)
        path = tmp_path_factory.mktemp("checkpoints") / "a.pt"
        files.save_checkpoint(
            path,
            kind=kind,
            backbone=backbone,
            classes=CLASSES,
            config=config,
            state_dict=network.state_dict(),
        )
        made[name] = path
        return path

    return checkpoint


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, make: Make) -> Exported:
    """A checkpoint of ``make``, and a session that runs its ONNX file."""
    made: dict[Path, tuple[Checkpoint, Any]] = {}

    def call(*args: str, **config: Any) -> tuple[Checkpoint, Any]:
        path = make(*args, **config)
        if path not in made:
            checkpoint = files.load_checkpoint(path)
            out = tmp_path_factory.mktemp("networks") / "net.onnx"
            export_onnx.export(checkpoint, out)
            made[path] = checkpoint, session(out)
        return made[path]

    return call


def settle(layer: nn.BatchNorm2d, given: tuple[torch.Tensor]) -> None:
    """Let a layer have the statistics of what it gets, and use them from now on."""
    if layer.training:
        variance = given[0].var((0, 2, 3))
        layer.running_mean = given[0].mean((0, 2, 3))
        layer.running_var = variance.clamp(min=float(variance.mean()) / 4)
        layer.eval()


def spread(network: Any, pictures: torch.Tensor) -> None:
    """Let logits have mean 0 and standard deviation 1, so that classes differ."""
    output = network(pictures)
    maps = output if isinstance(output, torch.Tensor) else output[0]
    layers = (
        [network.classify]
        if not hasattr(network, "head")
        else (
            [network.head.classify] if hasattr(network.head, "classify") else network.head.branches
        )
    )
    means, spreads = maps.mean((0, 2, 3)), maps.std((0, 2, 3))
    if layers[0].bias is not None:
        layers[0].bias -= means
    else:
        feature = network.backbone(pictures)[-1].mean((0, 2, 3))
        layers[0].weight -= torch.outer(means, feature / (feature @ feature))[..., None, None]
    for layer in layers:
        for parameter in layer.parameters():
            parameter *= 1 / spreads.mean()
    if hasattr(output, "scores"):
        network.classify.bias += torch.tensor([5.0, -5, 5]) - output.scores.mean(0)


def close(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> bool:
    """Whether only rounding differs: random deep networks make 4e-4 of it at some pixels, as far as
    torch itself is from what it computes in float64."""
    difference = np.abs(a - b)
    return bool(difference.max() < 1e-3 and difference.mean() < 5e-5)


def session(path: str | Path) -> Any:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def fed(*photographs: Pixels) -> Pixels:
    return np.stack(photographs).transpose(0, 3, 1, 2)


def runner(checkpoint: Checkpoint) -> Runner:
    return Runner(checkpoint, device="cpu", precision="fp32")


@pytest.fixture
def exporting(workdir: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """``exporting("cam.pt", "-o", "net.onnx")``: the command in this process."""

    def call(*args: str | Path, check: int) -> Result:
        capfd.readouterr()
        words = ["export", "onnx", *map(str, args)]
        with pytest.raises(SystemExit) as ended:
            cli(words, prog_name="wsss", auto_envvar_prefix="WSSS")
        said = capfd.readouterr()
        assert ended.value.code == check, said.err
        return Result(check, said.out, said.err)

    return call


# ---- what it computes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backbone", "config"),
    [
        ("efficientnet-lite0", {"head": "largefov"}),
        ("efficientnet-lite0", {"head": "aspp", "msc": [0.5, 0.75]}),
        ("efficientnet-lite0", {"head": "deeplabv3plus", "psl": True, "output_stride": 8}),
        ("resnet50", {"head": "deeplabv3plus"}),
        ("vgg16-largefov", {"head": "classifier", "output_stride": 8}),
    ],
)
def test_a_segmentation_network_gives_what_predict_writes(
    exported: Exported,
    backbone: str,
    config: dict[str, Any],
) -> None:
    checkpoint, network = exported("segmentation", backbone, **config)
    least = 0.1 if config.get("psl") else None
    segmenter = predict.Segmenter(runner=runner(checkpoint), drop_below=least)
    for height, width in SIZES:
        photograph = blobs(height, width)
        (found,) = network.run(["probabilities"], {"image": fed(photograph)})
        assert found.shape == (1, 4, height, width)
        assert found.dtype == np.float32
        item = predict.Photograph(photograph, (height, width))
        wanted = segmenter.compute([item])[0].probabilities
        assert wanted is not None
        if min(height, width) >= 33:
            assert close(found[0], wanted)
            assert len(np.unique(wanted.argmax(0))) > 1
            assert (found[0, 2].max() == 0) == ("psl" in config)
        labels = np.array(
            Image.fromarray(wanted.argmax(0).astype(np.uint8)).resize(
                (width, height), Image.Resampling.NEAREST
            )
        )
        best = np.sort(found[0], 0)
        tied = best[-1] - best[-2] < 1e-4
        assert (tied | (found[0].argmax(0) == labels)).all()
        assert tied.mean() < 0.02


@pytest.mark.parametrize("kind", ["cam", "eps", "sipe"])
@pytest.mark.parametrize("backbone", ["efficientnet-lite0", "resnet50"])
def test_a_classifier_gives_what_make_cam_writes(
    exported: Exported, kind: str, backbone: str
) -> None:
    checkpoint, network = exported(kind, backbone)
    reading = next(iter(KINDS[kind].readings.values()))()
    maker = make_cam.CamMaker(
        runner=runner(checkpoint), reading=reading, scales=(1.0,), flip=False, all_classes=True
    )
    for height, width in SIZES:
        photograph = blobs(height, width)
        for chosen in ([0, 1, 2], [1], [0, 2]) if kind == "sipe" else ([0, 1, 2],):
            given: dict[str, Any] = {"image": fed(photograph)}
            if kind == "sipe":
                given["labels"] = np.isin(range(3), chosen)[None].astype(np.uint8)
            maps, scores = network.run(["maps", "scores"], given)
            item = make_cam.Photograph(photograph, (height, width), chosen)
            made = maker.compute([item])[0]
            assert made.maps is not None
            first = len(reading.first)
            kept = [*range(first), *(first + index for index in chosen)]
            assert maps.shape == (1, first + 3, -(-height // 4), -(-width // 4))
            assert close(maps[0, kept], made.maps)
            if len(kept) < len(maps[0]):
                assert not np.delete(maps[0], kept, 0).any()
            if min(height, width) >= 33:
                assert made.maps.std() > 0.01
            view = maker._views([item], make_cam.General() if kind == "sipe" else reading)[0]
            wanted = reading.scores(view.output[0]).sigmoid()
            assert np.abs(scores[0] - wanted.numpy()).max() < 1e-4


@pytest.mark.parametrize(
    ("backbone", "config"),
    [("efficientnet-lite0", {}), ("vgg16-psa-aff", {"output_stride": 8, "group_norm": True})],
)
def test_an_affinity_network_gives_what_random_walk_compares(
    exported: Exported, backbone: str, config: dict[str, Any]
) -> None:
    checkpoint, network = exported("affinity", backbone, **config)
    for size in SIZES:
        photograph = blobs(*size)
        (found,) = network.run(None, {"image": fed(photograph)})
        wanted = runner(checkpoint)(photograph)
        assert found[0].shape == tuple(wanted.shape)
        same = [pairwise_affinity(each[None]) for each in (torch.from_numpy(found[0]), wanted)]
        assert (same[0] - same[1]).abs().max() < 1e-4


@pytest.mark.parametrize("cells", ["centred", "parts"])
def test_boundaries_and_displacements_are_those_of_irnet(exported: Exported, cells: str) -> None:
    checkpoint, network = exported("irn", cells=cells)
    for size in ((75, 101), (20, 30), (64, 96)):
        photograph = blobs(*size)
        found = network.run(None, {"image": fed(photograph)})
        (view,) = runner(checkpoint).views(
            [photograph], [1.0], False, lambda output, part: torch.cat(output, 1)
        )
        for ours, wanted in zip(
            found, (view.output[0, :1].sigmoid(), view.output[0, 1:]), strict=True
        ):
            assert ours[0].shape == tuple(wanted.shape)
            assert np.abs(ours[0] - wanted.numpy()).max() < 1e-4 * max(np.abs(ours).max(), 1)


@pytest.mark.parametrize("kind", KINDS)
def test_photographs_together_are_as_each_alone(exported: Exported, kind: str) -> None:
    config = {"head": "largefov"} if kind == "segmentation" else {}
    _, network = exported(kind, **config)
    photographs = [blobs(50, 61, seed) for seed in (3, 4)]
    labels = np.array([[1, 0, 1], [0, 1, 0]], np.uint8)
    more = {"labels": labels} if kind == "sipe" else {}
    together = network.run(None, {"image": fed(*photographs), **more})
    for place, photograph in enumerate(photographs):
        own = {"labels": labels[place : place + 1]} if kind == "sipe" else {}
        alone = network.run(None, {"image": fed(photograph), **own})
        for one, both in zip(alone, together, strict=True):
            assert np.abs(one[0] - both[place]).max() < 1e-4 * max(np.abs(one).max(), 1)
            assert np.abs(both[0] - both[1]).max() > 1e-3


def test_the_code_in_the_reference_makes_the_mask_of_predict(
    make: Make, exporting: Run, inside: Run
) -> None:
    reference = Path(files.__file__).parent / "commands/README.md"
    blocks = re.findall(
        r"^```python\n(.*?)^```", reference.read_text(encoding="utf-8"), flags=re.M | re.S
    )
    (code,) = [block for block in blocks if "onnxruntime" in block]
    assert len(code.splitlines()) <= 15
    checkpoint = make("segmentation", head="largefov")
    exporting(checkpoint, "-o", "net.onnx", check=0)
    turned = Image.Exif()
    turned[0x0112] = 6  # orientation
    Image.fromarray(blobs(90, 120)).save("photo.jpg", exif=turned)
    exec(compile(code, "README.md", "exec"), {})
    options = ["--scales", "1", "--no-flip", "--device", "cpu", "--precision", "fp32"]
    record = {"id": "a", "image": "photo.jpg"}
    done = inside("predict", "-c", checkpoint, *options, input=[record], check=0)
    wanted = files.read_label_map(done.records[0]["pred"])
    mask = files.read_label_map("mask.png")
    assert mask.shape == (120, 90)
    assert (mask != wanted).mean() < 1e-3
    assert len(np.unique(mask)) > 1
    with Image.open("mask.png") as picture:
        colours = picture.getpalette()
    assert colours == palette().flatten().tolist()


# ---- the file ------------------------------------------------------------------------------------


def test_the_file_says_what_it_is(make: Make, exporting: Run) -> None:
    checkpoint = make("eps")
    done = exporting(checkpoint, "-o", "new/net.onnx", check=0)
    assert done.out == ""
    assert re.fullmatch(
        r"wsss export onnx: new/net\.onnx: kind eps, backbone efficientnet-lite0, 3 classes, "
        r"1\d\.\d MB; onnxruntime and torch differ by \de-\d+\n",
        done.err,
    )
    network = session("new/net.onnx")
    told = network.get_modelmeta().custom_metadata_map
    assert json.loads(told.pop("classes")) == ["background", *CLASSES]
    assert told == {
        "kind": "eps",
        "backbone": "efficientnet-lite0",
        "checkpoint": files.load_checkpoint(checkpoint).digest,
        "wsss": __version__,
    }
    (image,) = network.get_inputs()
    assert (image.name, image.type, image.shape) == ("image", "tensor(uint8)", ["N", 3, "H", "W"])
    assert exporting(checkpoint, "-o", "new/net.onnx", "-q", check=0).err == ""
    assert [path.name for path in Path("new").iterdir()] == ["net.onnx"]
    onnx.checker.check_model("new/net.onnx")


def test_only_an_export_is_replaced(make: Make, exporting: Run) -> None:
    other = onnx.helper.make_model(
        onnx.helper.make_graph([], "empty", [], []), producer_name="another"
    )
    for content in (b"notes", other.SerializeToString()):
        Path("net.onnx").write_bytes(content)
        done = exporting(make("cam"), "-o", "net.onnx", check=2)
        assert done.err == (
            "wsss export onnx: net.onnx was made or changed by something else; move it away or "
            "change --out\n"
        )
        assert Path("net.onnx").read_bytes() == content
    Path("net.onnx").write_bytes(b"")
    exporting(make("cam"), "-o", "net.onnx", check=0)
    exporting(make("eps"), "-o", "net.onnx", check=0)
    assert session("net.onnx").get_modelmeta().custom_metadata_map["kind"] == "eps"


def test_a_file_that_computes_something_else_is_not_kept(
    make: Make, exporting: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporting(make("cam"), "-o", "net.onnx", check=0)
    before = Path("net.onnx").read_bytes()
    right = export_onnx._traced
    with monkeypatch.context() as patch:
        patch.setattr(export_onnx.Classifier, "evidence", lambda self, output: output.abs())
        wrong = right(export_onnx.exported(files.load_checkpoint(make("cam"))))
    monkeypatch.setattr(export_onnx, "_traced", lambda network: wrong)
    done = exporting(make("cam"), "-o", "net.onnx", check=1)
    assert re.fullmatch(
        r"wsss export onnx: onnxruntime and torch differ by [\d.]+; the file is not written\n",
        done.err,
    )
    exporting(make("cam"), "-o", "new.onnx", check=1)
    assert [path.name for path in Path().iterdir()] == ["net.onnx"]
    assert Path("net.onnx").read_bytes() == before


def test_a_full_disk_is_told_in_one_line(
    make: Make, exporting: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    done = exporting(make("cam"), "-o", "net.onnx", check=1)
    assert done.err == "wsss export onnx: net.onnx: No space left on device\n"
    assert not [*Path().iterdir()]


def test_without_onnxruntime_it_says_that_nothing_was_checked(
    make: Make, exporting: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    done = exporting(make("cam"), "-o", "net.onnx", check=0)
    assert done.err.endswith(" MB; not checked: pip install onnxruntime\n")


def test_a_kind_that_nobody_has_told_about_is_refused(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(export_onnx.ClassMaps):
        pass

    monkeypatch.setitem(KINDS, "cam", Kind(KINDS["cam"].build, {"other": Other}))
    with pytest.raises(ConfigurationError, match="knows no networks of kind cam"):
        export_onnx.exported(files.load_checkpoint(make("cam")))
