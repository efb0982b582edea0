"""``export onnx``: a trained network, with all that its tool does around it, as one ONNX file."""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsss_cli import __version__, console, files
from wsss_cli.classes import BACKGROUND
from wsss_cli.errors import ConfigurationError, WsssError, describe
from wsss_cli.files import Checkpoint
from wsss_cli.methods.cam import normalise
from wsss_cli.methods.grids import on_image, sample
from wsss_cli.methods.sipe import explore
from wsss_cli.models.base import SMALLEST, Network
from wsss_cli.models.cam import ClassMaps
from wsss_cli.models.eps import Probabilities
from wsss_cli.models.networks import KINDS, restored
from wsss_cli.models.psl import ProhibitiveNetwork
from wsss_cli.models.sipe import ImageSpecific
from wsss_cli.texts import open_regular
from wsss_cli.tools.export import CHANGED
from wsss_cli.tools.label_maps import SHRINK

_TOOL = "export onnx"
_PRODUCER = "wsss"
_OPSET = 17  # grid_sample needs 16; torch 2.2 knows this one
# Mean difference between torch and onnxruntime, relative to the mean value. Rounding changes single
# pixels by more, where a network is unsure.
_TOLERANCE = 1e-3
_PIXELS = {0: "N", 2: "H", 3: "W"}
_QUARTERS = {0: "N", 2: "h", 3: "w"}
_IMAGES = {0: "N"}


class Exported(nn.Module):
    """A network that takes photographs as they are stored.

    It is traced, so sizes are tensors while it is, and nothing may make numbers of them.

    Args:
        network: the network.

    Attributes:
        first: names of the channels of its first output that come before the classes.
        takes, gives: its inputs and outputs, and the names of their variable dimensions.
    """

    first: ClassVar[Sequence[str]] = ()
    takes: ClassVar[Mapping[str, Mapping[int, str]]] = {"image": _PIXELS}
    gives: ClassVar[Mapping[str, Mapping[int, str]]]

    network: Any
    mean: Tensor
    std: Tensor

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        colours = network.backbone.colours
        self.register_buffer("mean", torch.tensor(colours.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(colours.std).view(1, 3, 1, 1))

    def see(self, image: Tensor) -> tuple[Any, Any]:
        """The network's output, and (H', W') of the photographs as it sees them.

        Args:
            image: RGB, uint8 (N, 3, H, W).
        """
        seen: Any = [torch.as_tensor(side).clamp(min=SMALLEST) for side in image.shape[2:]]
        # Of the same size, they stay as they are.
        resized = functional.interpolate(image.float(), seen, mode="bilinear", align_corners=False)
        return self.network((resized / 255 - self.mean) / self.std), seen

    def example(self, count: int, height: int, width: int) -> tuple[Tensor, ...]:
        """Random inputs."""
        generator = torch.Generator().manual_seed(0)
        shape = (count, 3, height, width)
        return (torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator),)


class Segmentation(Exported):
    """What ``predict`` makes its label map of: probabilities, float32 (N, 1 + C, H, W)."""

    first = (BACKGROUND,)
    gives: ClassVar = {"probabilities": _PIXELS}

    def forward(self, image: Tensor) -> Tensor:
        output, seen = self.see(image)
        judged = isinstance(self.network, ProhibitiveNetwork)
        # A photograph that was enlarged: each pixel takes the nearest of those seen, as its label.
        rows, columns = (
            ((torch.arange(side) + 0.5) * (to / side)).floor() / self.network.stride
            for side, to in zip(image.shape[2:], seen, strict=True)
        )
        logits = output.logits if judged else output
        probabilities = sample(logits, rows, columns).softmax(1)
        if judged:  # methods.psl.prohibit, of a batch
            absent = output.scores.sigmoid() < 0.1
            absent = functional.pad(absent, (1, 0))[:, :, None, None]
            probabilities = probabilities.masked_fill(absent, 0)
            probabilities = probabilities / probabilities.sum(1, keepdim=True)
        return probabilities


class Classifier(Exported):
    """What ``make-cam --all`` writes: maps in [0, 1], float32 (N, K, ceil(H / 4), ceil(W / 4)).

    Then the probability that each class is in the photograph, float32 (N, C).
    """

    gives: ClassVar = {"maps": _QUARTERS, "scores": _IMAGES}

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        output, seen = self.see(image)
        maps = self.maps(self.quarters(self.evidence(output), image, seen, self.network.stride))
        return maps, self.network.scores(output).sigmoid()

    def evidence(self, output: Any) -> Tensor:
        """Evidence for the K maps, at least 0."""
        evidence: Tensor = output.relu()
        return evidence

    def maps(self, evidence: Tensor) -> Tensor:
        """Maps from the evidence at a quarter of the photograph's size."""
        return normalise(evidence)

    @staticmethod
    def quarters(maps: Tensor, image: Tensor, seen: Any, stride: int) -> Tensor:
        """Maps of a network at a quarter of the photograph's size."""
        height, width = ((side + SHRINK - 1) // SHRINK for side in image.shape[2:])
        return on_image(maps, (height, width), seen, stride)


class EpsClassifier(Classifier):
    """The same of a classifier with a map of the background, as probabilities of all classes."""

    first = (BACKGROUND,)

    def evidence(self, output: Tensor) -> Tensor:
        return output.softmax(1).roll(1, 1)

    def maps(self, evidence: Tensor) -> Tensor:
        return evidence / evidence.sum(1, keepdim=True)


class SipeClassifier(Classifier):
    """What ``make-cam`` writes for the labels of a photograph, which it takes too: uint8 (N, C)."""

    first = (BACKGROUND,)
    takes: ClassVar = {**Exported.takes, "labels": _IMAGES}

    def forward(self, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        output, seen = self.see(image)
        valid = functional.pad((labels > 0).float(), (1, 0), value=1.0)[:, :, None, None]
        settings = ImageSpecific().params
        specific = explore(
            output.maps,
            output.features,
            output.hierarchical,
            valid,
            valid,
            background=settings["seed_background"],
            seeds_from=settings["seed_features"],
        )[1]
        maps = self.quarters(specific, image, seen, self.network.fine_stride)
        return maps.clamp(max=1), self.network.scores(output).sigmoid()

    def example(self, count: int, height: int, width: int) -> tuple[Tensor, ...]:
        classes: int = self.network.classify.out_channels
        labels = torch.arange(count * classes).remainder(2).view(count, classes)
        return (*super().example(count, height, width), (1 - labels).byte())


class Features(Exported):
    """What ``random-walk`` compares: features, float32 (N, 448, ceil(H / 8), ceil(W / 8))."""

    gives: ClassVar = {"features": _QUARTERS}

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.see(image)[0]
        return features


class Relations(Exported):
    """What IRNet says of cells of 4 pixels, of the photograph alone, not of its mirror image too.

    Class boundaries in [0, 1], float32 (N, 1, ceil(H / 4), ceil(W / 4)), and displacements to the
    centroids of objects, in cells, (N, 2, …).
    """

    gives: ClassVar = {"boundary": _QUARTERS, "displacement": _QUARTERS}

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        output = self.see(image)[0]
        return output.boundary.sigmoid(), output.displacement


# By how the maps of a kind are read.
_CLASSIFIERS: Mapping[object, type[Exported]] = {
    ClassMaps: Classifier,
    Probabilities: EpsClassifier,
    ImageSpecific: SipeClassifier,
}


_FORMS: Mapping[str, type[Exported]] = {
    "segmentation": Segmentation,
    "affinity": Features,
    "irn": Relations,
}


def exported(checkpoint: Checkpoint) -> Exported:
    """The network of a checkpoint, from photographs to what its tool makes of them.

    Raises:
        ConfigurationError: nobody has said how for its kind, or it cannot be restored.
    """
    network = restored(checkpoint)
    reading = next(iter(KINDS[checkpoint.kind].readings.values()), None)
    form = _FORMS.get(checkpoint.kind)
    form = form or _CLASSIFIERS.get(reading)
    if form is None:
        raise ConfigurationError(
            f"{checkpoint.path}: export onnx knows no networks of kind {checkpoint.kind}"
        )
    return form(network).eval().requires_grad_(False)


def check_ready(out: str | Path) -> None:
    """Make sure that an export can be made, and replaces nothing but an earlier one.

    Raises:
        ConfigurationError: a package is missing, or something else is there.
    """
    try:
        import onnx
    except ImportError as error:
        raise ConfigurationError(
            "needs onnx: pip install onnx onnxruntime (the latter to check the file)"
        ) from error
    if not files.is_taken(out):
        return
    try:
        with open_regular(out) as stream:
            ours = onnx.load_model_from_string(stream.read()).producer_name == _PRODUCER
    except Exception:  # protobuf has a class for each damage
        ours = False
    if not ours:
        raise ConfigurationError(CHANGED.format(out))


def export(checkpoint: Checkpoint, out: str | Path) -> None:
    """Write a network as an ONNX file, once it is known to compute what torch does.

    Args:
        checkpoint: of any kind.
        out: the file.

    Raises:
        ConfigurationError: the checkpoint cannot be exported.
        WsssError: onnxruntime cannot run the file, or computes something else.
    """
    import onnx

    network = exported(checkpoint)
    model = onnx.load_model_from_string(_traced(network))
    model.producer_name, model.producer_version = _PRODUCER, __version__
    told = {
        "wsss": __version__,
        "kind": checkpoint.kind,
        "backbone": checkpoint.backbone,
        "classes": json.dumps([*network.first, *checkpoint.classes], ensure_ascii=False),
        "checkpoint": checkpoint.digest,
    }
    for key, value in told.items():
        model.metadata_props.add(key=key, value=value)
    files.remove_leftovers(Path(out).parent, _TOOL)
    with files.atomic(out) as temporary:
        temporary.write_bytes(model.SerializeToString())
        checked = _check(temporary, network)
        size = temporary.stat().st_size
    console.note(
        _TOOL,
        f"{out}: kind {checkpoint.kind}, backbone {checkpoint.backbone}, "
        f"{len(checkpoint.classes)} classes, {size / 1e6:.1f} MB; {checked}",
    )


def _traced(network: Exported) -> bytes:
    """A network as an ONNX model."""
    # The exporter that traces is in every torch since 2.2 and needs only onnx. The new one came
    # with 2.5, changed until 2.9, and needs onnxscript, whose versions go with those of torch.
    known = "dynamo" in inspect.signature(torch.onnx.export).parameters
    old: dict[str, Any] = {"dynamo": False} if known else {}
    axes = {**network.takes, **network.gives}
    stream: Any = BytesIO()  # torch says that it takes none
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):
        torch.onnx.export(
            network,
            network.example(1, 64, 96),
            stream,
            input_names=list(network.takes),
            output_names=list(network.gives),
            dynamic_axes={name: dict(named) for name, named in axes.items()},
            opset_version=_OPSET,
            **old,
        )
    content: bytes = stream.getvalue()
    return content


@torch.inference_mode()
def _check(path: Path, network: Exported) -> str:
    """Run an exported file on two random pictures of another size than it was traced with.

    Returns:
        What it showed, in words.

    Raises:
        WsssError: it cannot be run, or does not compute what the network does.
    """
    try:
        import onnxruntime
    except ImportError:
        return "not checked: pip install onnxruntime"
    pictures = network.example(2, 75, 101)
    wanted = network(*pictures)
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        given = {name: each.numpy() for name, each in zip(network.takes, pictures, strict=True)}
        found = session.run(list(network.gives), given)
    except Exception as error:  # onnxruntime has a class for each, and no common one
        raise WsssError(f"onnxruntime cannot run the network: {describe(error)}") from error
    most = 0.0
    for own, other in zip([wanted] if isinstance(wanted, Tensor) else wanted, found, strict=True):
        if tuple(own.shape) != other.shape:
            raise WsssError(f"onnxruntime gives {other.shape}, torch {tuple(own.shape)}")
        difference = (own - torch.from_numpy(other)).abs().mean()
        share = float(difference / own.abs().mean().clamp(min=_TOLERANCE))
        if not share <= _TOLERANCE:  # nor NaN
            raise WsssError(f"onnxruntime and torch differ by {share:.2g}; the file is not written")
        most = max(most, share)
    return f"onnxruntime and torch differ by {most:.1g}"
