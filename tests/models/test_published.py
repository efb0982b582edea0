"""Checkpoints of the public repositories: recognised, and computing what the public code does.

`published.json` holds what the public code (psa at 9493e59, irn at a2ece00, EPS at 0c2cdd0, SIPE at
e0c6a3b) gave for the weights of `weight()` and the photograph of `photograph()`: its modules were
built, each tensor of their state dict was filled by its name, and the forward pass was run on a
CPU in float32. Stored are the shape, mean and deviation of the output and 16 of its values, at
equal distances. No published weights were at hand.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.models.formula import uniform
from wsss_cli.classes import COCO, VOC
from wsss_cli.errors import ConfigurationError
from wsss_cli.files import Checkpoint
from wsss_cli.methods.affinity import pairwise_affinity
from wsss_cli.models.backbones import build_backbone
from wsss_cli.models.base import colours_of
from wsss_cli.models.inference import Runner
from wsss_cli.models.published import Published, published, recognise
from wsss_cli.models.states import CAFFE_COLOURS, state_of

REFERENCES = json.loads(Path(__file__).with_name("published.json").read_text())
CAFFE = [f"conv{g}_{n}" for g in range(1, 6) for n in range(1, 3 + (g > 2))] + ["fc6", "fc7"]

# The layers on top of the backbone, as the repositories call them, with 20 classes.
FC8 = {"fc8.weight": (20, 4096, 1, 1)}
F8 = {"f8_3.weight": (64, 512, 1, 1), "f8_4.weight": (128, 1024, 1, 1)}
F8 |= {"f8_5.weight": (256, 4096, 1, 1), "f9.weight": (448, 448, 1, 1)}
VGG_F8 = {**F8, "f8_4.weight": (128, 512, 1, 1), "f8_5.weight": (256, 1024, 1, 1)}
VGG_F8 |= {f"gn8_{n}.{part}": (32 << n - 2,) for n in (3, 4, 5) for part in ("weight", "bias")}
CLASSIFIER = {"classifier.weight": (20, 2048, 1, 1)}
SIDES = {"side1.weight": (128, 256, 1, 1), "side2.weight": (128, 512, 1, 1)}
SIDES |= {"side3.weight": (256, 1024, 1, 1), "side4.weight": (256, 2048, 1, 1)}
_LEVELS = ((64, 64), (256, 128), (512, 256), (1024, 256), (2048, 256), (768, 256), (448, 256))
RELATIONS: dict[str, Sequence[int]] = {"mean_shift.running_mean": (2,)}
for number, (inputs, width) in enumerate(_LEVELS, start=1):
    RELATIONS |= {f"fc_dp{number}.0.weight": (width, inputs, 1, 1)}
    RELATIONS |= {f"fc_dp{number}.1.{part}": (width,) for part in ("weight", "bias")}
    if number < 6:
        RELATIONS |= {f"fc_edge{number}.0.weight": (32, inputs, 1, 1)}
        RELATIONS |= {f"fc_edge{number}.1.{part}": (32,) for part in ("weight", "bias")}
RELATIONS |= {"fc_edge6.weight": (1, 160, 1, 1), "fc_edge6.bias": (1,)}
RELATIONS |= {"fc_dp7.3.weight": (2, 256, 1, 1)}
FORMS: dict[str, tuple[str, dict[str, Sequence[int]]]] = {
    "psa-cam": ("resnet38", FC8),
    "psa-affinity": ("resnet38", F8),
    "psa-vgg-cam": ("vgg16", {"fc8.weight": (20, 1024, 1, 1)}),
    "psa-vgg-affinity": ("vgg16", VGG_F8),
    "eps": ("resnet38", {"fc8.weight": (21, 4096, 1, 1)}),
    "irn": ("resnet50", CLASSIFIER),
    "sipe": ("resnet50", {**CLASSIFIER, **SIDES}),
    "irn-relations": ("resnet50", RELATIONS),
}
FOUND = {
    "psa-cam": ("cam", "resnet38", "psa or EPS"),
    "psa-affinity": ("affinity", "resnet38", "psa"),
    "psa-vgg-cam": ("cam", "vgg16-psa", "psa"),
    "psa-vgg-affinity": ("affinity", "vgg16-psa-aff", "psa"),
    "eps": ("eps", "resnet38", "EPS"),
    "irn": ("cam", "resnet50-undilated", "irn"),
    "sipe": ("sipe", "resnet50-undilated", "SIPE"),
    "irn-relations": ("irn", "resnet50-undilated", "irn or SIPE"),
}


def weight(name: str, shape: Sequence[int]) -> Tensor:
    """A tensor of a published network that lets signals through, from nothing but its name."""
    values = torch.from_numpy(uniform(int(np.prod(shape)), zlib.crc32(name.encode()))).view(*shape)
    if len(shape) == 4:
        return (values * 2 - 1) * (5 / (shape[1] * shape[2] * shape[3])) ** 0.5
    if name.endswith("running_var"):
        return values + 0.75
    if name.endswith("weight"):
        return values * 0.4 + 0.5
    return values * 0.2 - 0.1


def photograph() -> np.ndarray:
    """Blocks of colour, uint8 (65, 81, 3)."""
    blocks = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return blocks.repeat(16, 0).repeat(16, 1)[:65, :81].copy()


def names_and_shapes(form: str) -> dict[str, Sequence[int]]:
    """The tensors of a published file, without what irn and SIPE store twice."""
    backbone, heads = FORMS[form]
    with torch.device("meta"):
        state = build_backbone(backbone).state_dict()
    theirs: dict[str, Sequence[int]] = {}
    for number, (key, value) in enumerate(state.items()):
        if backbone == "vgg16":
            key = f"{CAFFE[number // 2]}.{key.rpartition('.')[2]}"
        if not key.endswith("num_batches_tracked"):
            theirs["resnet50." * (backbone == "resnet50") + key] = tuple(value.shape)
    return {**theirs, **heads}


def on_meta(form: str) -> dict[str, Tensor]:
    shapes = names_and_shapes(form).items()
    return {name: torch.empty(tuple(shape), device="meta") for name, shape in shapes}


# ---- numbers -------------------------------------------------------------------------------------


def result(form: str, found: Published) -> Tensor:
    """The output that the public code's forward pass gives, computed by ours."""
    checkpoint = Checkpoint(
        found.kind,
        found.network.backbone.name,
        tuple(found.classes),
        found.config,
        found.network.state_dict(),
        "",
    )
    runner = Runner(checkpoint, device="cpu", precision="fp32")
    if found.kind == "sipe":
        view = runner.views([photograph()], [1.0], False, lambda output, part: output.maps)
        return view[0].output.relu()
    if found.kind == "irn":
        (view,) = runner.views(
            [photograph()], [1.0], False, lambda output, part: torch.cat(output, 1)
        )
        return view.output
    output = runner(photograph())[None]
    if found.kind == "affinity":
        # psa leaves out the cells whose neighbours may lie outside: 4 rows and twice 4 columns.
        return pairwise_affinity(output)[:, :, :-4, 4:-4].flatten(2)
    if found.kind == "eps":
        return output
    return output.relu().sqrt() if "vgg" in form else output.relu()  # psa's maps of VGG-16


@pytest.mark.parametrize("form", FORMS)
def test_an_imported_network_computes_what_the_public_code_does(form: str) -> None:
    tensors = {name: weight(name, shape) for name, shape in names_and_shapes(form).items()}
    found = published({"net": tensors} if form == "sipe" else tensors)
    backbone = found.network.backbone.name
    assert (found.kind, backbone, found.repository) == FOUND[form]
    assert found.classes == VOC
    assert found.config.get("fine_stride") == (16 if form == "sipe" else None)
    assert found.config.get("cells") == ("parts" if form == "irn-relations" else None)
    assert colours_of(found.config) == (CAFFE_COLOURS if "vgg" in form else None)
    ours, theirs = result(form, found), REFERENCES[form]
    assert list(ours.shape) == theirs["shape"]
    scale = theirs["deviation"]
    assert abs(ours.mean().item() - theirs["mean"]) < 1e-5 * scale
    assert abs(ours.std().item() - theirs["deviation"]) < 1e-5 * scale
    values = ours.flatten()[:: ours.numel() // 16][:16]
    # The square root is steep at 0.
    tolerance = (1e-2 if form == "psa-vgg-cam" else 1e-4) * scale
    torch.testing.assert_close(values, torch.tensor(theirs["values"]), rtol=1e-4, atol=tolerance)


def test_a_dilated_last_stage_computes_something_else() -> None:
    tensors = {name: weight(name, shape) for name, shape in names_and_shapes("irn").items()}
    dilated = result("irn", published(tensors, backbone="resnet50"))
    values = dilated.flatten()[:: dilated.numel() // 16][:16]
    difference = (values - torch.tensor(REFERENCES["irn"]["values"])).abs().mean()
    assert difference > 0.01 * REFERENCES["irn"]["deviation"]


# ---- recognition ---------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("form", FORMS)
def test_kind_and_backbone_are_found_from_the_keys(form: str, prefix: str) -> None:
    tensors = {prefix + key: value for key, value in on_meta(form).items()}
    match = recognise(state_of(tensors).tensors)
    assert (match.kind, match.backbone, match.repository) == FOUND[form]
    assert match.whole


@pytest.mark.parametrize(
    ("maps", "given", "kind", "classes"),
    [
        (20, {}, "cam", VOC),
        (21, {}, "eps", VOC),
        (80, {}, "cam", COCO),
        (81, {}, "eps", COCO),
        (3, {"classes": ("a", "b", "c")}, "cam", ("a", "b", "c")),
        (3, {"classes": ("a", "b")}, "eps", ("a", "b")),
        (20, {"kind": "eps", "classes": VOC[:19]}, "eps", VOC[:19]),
        (21, {"kind": "cam", "classes": (*VOC, "x")}, "cam", (*VOC, "x")),
    ],
)
def test_the_number_of_maps_tells_kind_and_classes(
    maps: int, given: dict[str, Any], kind: str, classes: Sequence[str]
) -> None:
    tensors = on_meta("psa-cam")
    tensors["fc8.weight"] = torch.empty(maps, 4096, 1, 1, device="meta")
    match = recognise(tensors, **given)
    assert (match.kind, match.classes) == (kind, classes)


@pytest.mark.parametrize(
    ("maps", "given", "said"),
    [
        (7, {}, "7 maps, so 7 classes (kind cam) or 6 classes (kind eps); name them with "),
        (20, {"kind": "eps"}, "20 maps, so 19 classes (kind eps); name them with --classes"),
        (21, {"kind": "cam"}, "21 maps, so 21 classes (kind cam); name them with --classes"),
        (20, {"classes": ("a",)}, "(kind cam) or 19 classes (kind eps); the class list has 1"),
    ],
)
def test_a_number_of_maps_without_names_is_refused(
    maps: int, given: dict[str, Any], said: str
) -> None:
    tensors = on_meta("psa-cam")
    tensors["fc8.weight"] = torch.empty(maps, 4096, 1, 1, device="meta")
    with pytest.raises(ConfigurationError) as caught:
        recognise(tensors, **given)
    assert said in str(caught.value)


def test_a_backbone_that_is_named_is_taken() -> None:
    assert recognise(on_meta("irn"), backbone="resnet50").backbone == "resnet50"
    with pytest.raises(ConfigurationError, match="no backbone 'resnet5'; there are"):
        published({}, backbone="resnet5")


def changed(form: str, **change: Tensor | None) -> dict[str, Tensor]:
    tensors = {**on_meta(form), **change}
    return {key: value for key, value in tensors.items() if value is not None}


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        (
            lambda: changed("sipe", **{"resnet50.layer3.1.bn1.bias": None}),
            "like SIPE's checkpoints of kind sipe on resnet50-undilated, but it lacks "
            "resnet50.layer3.1.bn1.bias",
        ),
        (
            lambda: changed("psa-affinity", **{"f9.weight": torch.empty(1, 448, 1, 1)}),
            "like psa's checkpoints of kind affinity on resnet38, but of another shape: "
            "f9.weight (1, 448, 1, 1), not (448, 448, 1, 1)",
        ),
        (
            lambda: changed("irn", **{"fc_edge1.0.weight": torch.empty(32, 64, 1, 1)}),
            "like irn's checkpoints of kind cam on resnet50-undilated, but unknown there: "
            "fc_edge1.0.weight",
        ),
        (
            lambda: changed("psa-affinity", **{"f8_4.weight": None, "f8_5.weight": None}),
            "like psa's checkpoints of kind affinity on resnet38, but it lacks f8_4.weight, "
            "f8_5.weight",
        ),
    ],
)
def test_whatever_does_not_fit_is_named(tensors: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        recognise(tensors())
    assert str(caught.value) == said


@pytest.mark.parametrize("kind", [None, "affinity"])
def test_what_is_of_no_repository_is_described(kind: str | None) -> None:
    with torch.device("meta"):
        plain = build_backbone("efficientnet-lite0").state_dict()
    other = {"fc8.weight": torch.empty(20, 4096, 1, 1), "conv1.weight": torch.empty(3)}
    nothing = {"loss": torch.empty(1)}
    for tensors, nearest in (
        (plain, "nearest backbone is efficientnet-lite0, of which 245 of 245"),
        (other, "they fit no backbone"),
        (nothing, "they fit no backbone"),
    ):
        with pytest.raises(ConfigurationError, match=nearest) as caught:
            recognise(tensors, kind)
        assert str(caught.value).startswith("no checkpoint of psa, irn, EPS or SIPE")
        assert f"begins with {next(iter(tensors))}" in str(caught.value)


def test_a_checkpoint_of_ours_is_told() -> None:
    with pytest.raises(ConfigurationError, match="a checkpoint of wsss already"):
        published({"format": "wsss-checkpoint-1", "state_dict": {}})


@pytest.mark.parametrize("shape", [(), (0,), (1 << 40, 0), (300, 4096, 1, 1), (0, 4096, 1, 1)])
def test_a_classifier_of_impossible_shape_is_refused(shape: tuple[int, ...]) -> None:
    tensors = changed("psa-cam", **{"fc8.weight": torch.empty(shape, device="meta")})
    with pytest.raises(ConfigurationError, match=r"of another shape: fc8.weight \("):
        recognise(tensors)


def test_what_irn_stores_twice_is_passed_over_if_it_is_the_same() -> None:
    tensors = {name: weight(name, shape) for name, shape in names_and_shapes("irn").items()}
    own = tensors["resnet50.layer4.0.conv1.weight"]
    twice = {
        "stage4.0.0.conv1.weight": own,
        "backbone.3.0.0.conv1.weight": own.clone(),
        "newly_added.0.weight": tensors["classifier.weight"],
        "resnet50.bn1.num_batches_tracked": torch.tensor(0),
        "stage1.1.num_batches_tracked": torch.tensor(0),
    }
    sparse = {"stage4.1.0.weight": own.to_sparse()}
    with pytest.raises(ConfigurationError, match=r"unknown there: stage4.1.0.weight"):
        published({**tensors, **sparse})
    found = published({**tensors, **twice})
    assert found.network.backbone.layer4[0].conv1.weight.equal(own)
    assert found.network.backbone.bn1.num_batches_tracked == 0
    twice["backbone.3.0.0.conv1.weight"] = own + 1
    with pytest.raises(ConfigurationError, match=r"unknown there: backbone.3.0.0.conv1.weight"):
        published({**tensors, **twice})


def test_what_irn_stores_beside_the_weights_of_its_relations() -> None:
    """The pairs of cells of a crop, and everything under two or three names."""
    form = "irn-relations"
    tensors = {name: weight(name, shape) for name, shape in names_and_shapes(form).items()}
    beside = {
        "path_indices0": torch.zeros(2, 1, 9, dtype=torch.int64),
        "path_indices11": torch.zeros(2, 12, 9, dtype=torch.int64),
        "disp_target": torch.zeros(1, 2, 152, 1),
        "edge_layers.5.bias": tensors["fc_edge6.bias"],
        "fc_dp7.4.running_mean": tensors["mean_shift.running_mean"],
        "backbone.0.0.weight": tensors["resnet50.conv1.weight"],
    }
    found = published({**tensors, **beside})
    assert found.kind == "irn"
    mean = found.network.displacement.mean_shift.running_mean
    assert mean.equal(tensors["mean_shift.running_mean"])
    with pytest.raises(ConfigurationError, match=r"unknown there: path_index"):
        published({**tensors, "path_index": torch.zeros(2)})
    with pytest.raises(ConfigurationError, match=r"it lacks mean_shift.running_mean"):
        published({name: tensors[name] for name in tensors if name != "mean_shift.running_mean"})


def test_levels_that_are_centred_compute_something_else() -> None:
    form = "irn-relations"
    tensors = {name: weight(name, shape) for name, shape in names_and_shapes(form).items()}
    found = published(tensors)
    found.network.cells = found.config["cells"] = "centred"
    values = result(form, found)
    values = values.flatten()[:: values.numel() // 16][:16]
    difference = (values - torch.tensor(REFERENCES[form]["values"])).abs().mean()
    assert difference > 0.01 * REFERENCES[form]["deviation"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_tensors_without_usable_numbers_are_refused(value: float) -> None:
    tensors = {name: weight(name, shape) for name, shape in names_and_shapes("irn").items()}
    tensors["classifier.weight"][3] = value
    with pytest.raises(ConfigurationError, match=r"classify.weight holds NaN or infinite values"):
        published(tensors)
