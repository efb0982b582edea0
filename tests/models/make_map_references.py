"""Make maps.json by running the public code of the papers, from photographs to maps and losses.

    python -m tests.models.make_map_references PSA EPS SIPE

with the folders of clones of jiwoon-ahn/psa, halbielee/EPS and chenqi1126/SIPE. Their scripts run
as they are, on photographs and weights of formula.py: infer_cls.py, infer.py and make_cam.py for
maps, train_resnet50_SIPE.py for one step. Nothing of theirs is kept but numbers. ``cuda()`` and the
packages that are ABSENT do nothing here, and no file of the clones is unpickled.
"""

from __future__ import annotations

import importlib
import json
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, chdir, contextmanager, nullcontext
from functools import partial, reduce
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from tests.models import formula
from tests.models.make_references import _no_weights, public

FILE = Path(__file__).with_name("maps.json")
ABSENT = ("imageio", "cv2", "torchvision", "pydensecrf", "matplotlib", "chainercv", "tensorboardX")
PARTS = ("", ".densecrf", ".utils", ".pyplot", ".transforms", ".transforms.functional")
PARTS += (".datasets", ".evaluations")
NAME = "2007_000032"
LABELS = (2, 9)  # bird and cow: with these weights, SIPE finds seeds of both
ALL = (1.0, 0.5, 1.5, 2.0)
# The larger network at fewer scales, since tests run it on a CPU.
MADE = {"psa": ((66, 82), (1.0, 0.5)), "eps": ((66, 82), (1.0,)), "sipe": ((97, 120), ALL)}
EVERY = 2  # maps are kept at every second cell of ours
TRAINED = ((2, 12), (5, 14, 0))  # labels of two photographs; the last has no seed
TRAINED_SIZE = (96, 128)

Maps = dict[int, np.ndarray]


@contextmanager
def in_place_of_a_gpu(clone: str) -> Iterator[dict[str, Any]]:
    """Scripts of a clone find a GPU that is the CPU, and LABELS; gives what they np.save()."""
    same: Callable[..., Any] = lambda it, *_, **__: it  # noqa: E731
    compose: Callable[..., Any] = lambda steps: lambda x: reduce(lambda y, f: f(y), steps, x)  # noqa: E731
    absent = {name + part: mock.MagicMock() for name in (*ABSENT, "scipy.misc") for part in PARTS}
    absent["imageio"].imread = lambda path: np.asarray(Image.open(path))
    absent["torchvision"].transforms.Compose = compose
    labels = np.isin(np.arange(20), LABELS).astype(np.float32)
    saved: dict[str, Any] = {}
    with ExitStack() as stack:
        for target, name, value in (
            (Tensor, "cuda", same),
            (nn.Module, "cuda", same),
            (torch.cuda, "device_count", lambda: 2),
            (torch.cuda, "device", lambda *_: nullcontext()),
            (torch.nn.parallel, "replicate", lambda network, devices: [network] * len(devices)),
            (Image, "CUBIC", Image.Resampling.BICUBIC),
            (np, "load", lambda *_, **__: SimpleNamespace(item=lambda: {NAME: labels})),
            (np, "save", lambda path, value: saved.update({Path(path).stem: value})),
        ):
            stack.enter_context(mock.patch.object(target, name, value, create=True))
        stack.enter_context(mock.patch.dict(sys.modules, absent))
        stack.enter_context(mock.patch.object(sys, "path", [clone, *sys.path]))
        yield saved


def filled(network: Any) -> Any:
    """``network`` with the weights of the formula; what it has under two names is filled once."""
    seen: set[int] = set()
    state = {}
    for name, value in network.state_dict(keep_vars=True).items():
        if value.is_floating_point() and id(value) not in seen:
            seen.add(id(value))
            state[name] = formula.named(name, tuple(value.shape))
    network.load_state_dict(state, strict=False)
    network.eval()
    return network


def psa_maps(clone: str, scales: Sequence[float]) -> Maps:
    """What infer_cls.py writes for NAME.jpg in JPEGImages here."""
    here = str(Path.cwd())
    with in_place_of_a_gpu(clone) as saved, chdir(clone):
        network = filled(public(clone, "network.resnet38_cls").Net())
        torch.save(network.state_dict(), f"{here}/weights.pth")
        data = public(clone, "voc12.data")
        whole = data.VOC12ClsDatasetMSF
        call = ["infer_cls.py", "--network", "network.resnet38_cls", "--num_workers", "1"]
        call += ["--weights", f"{here}/weights.pth", "--infer_list", f"{here}/list.txt"]
        call += ["--voc12_root", here, "--out_cam", here]
        with (
            mock.patch.object(sys, "argv", call),
            mock.patch.object(
                data, "VOC12ClsDatasetMSF", lambda *a, **k: whole(*a, **{**k, "scales": scales})
            ),
        ):
            runpy.run_path("infer_cls.py", run_name="__main__")
    return dict(saved[NAME])


def eps_maps(clone: str, scales: Sequence[float]) -> Maps:
    """What infer.py writes."""
    here = str(Path.cwd())
    with in_place_of_a_gpu(clone) as saved:
        network = filled(public(clone, "network.resnet38_eps").Net(21))
        torch.save(network.state_dict(), "weights.pth")
        infer = public(clone, "infer")
        infer.args = SimpleNamespace(
            **{"network": "network.resnet38_eps", "network_type": "eps", "weights": "weights.pth"},
            **{"model_num_classes": 21, "num_classes": 20, "img_root": f"{here}/JPEGImages"},
            **{"thr": 0.2, "cam_npy": here, "cam_png": None, "crf": None},
        )
        infer.scales = scales
        steps = [np.asarray, infer.Normalize(), infer.HWC_to_CHW]
        infer.transform = infer.torchvision.transforms.Compose(steps)
        # NumPy no longer makes an array of arrays of different shapes unless told to.
        with mock.patch.object(np, "array", partial(np.array, dtype=object)):
            infer.infer_cam_mp(0, [NAME], [np.load("").item()[NAME]], 0)
    return dict(saved[NAME])


def sipe_maps(clone: str, scales: Sequence[float]) -> Maps:
    """What make_cam.py writes, background first."""
    with in_place_of_a_gpu(clone) as saved:
        network = public(clone, "network.resnet50_SIPE")
        with _no_weights(network):
            cam = filled(network.CAM(num_cls=21))
        module = public(clone, "make_cam")
        photographs = module.data_voc.VOC12ClsDatasetMSF("list.txt", ".", scales=scales)
        if len(scales) == 1:  # the code leaves a list of one scale out
            whole = photographs
            photographs = [{**item, "img": [item["img"]]} for item in (whole[0],)]
        options = SimpleNamespace(num_workers=0, visualize=False, session_name=".")
        module._work(0, cam, [photographs], options)
    return dict(zip(saved[NAME]["keys"].tolist(), saved[NAME]["IS_CAM"], strict=True))


def sipe_step(clone: str) -> dict[str, Any]:
    """Output and losses of the first step of train_resnet50_SIPE.py, for two photographs."""
    samples = []
    for image, labels in zip(formula.normalised(*TRAINED_SIZE, 2), TRAINED, strict=True):
        label = torch.isin(torch.arange(20), torch.tensor(labels)).float()
        samples.append({"img": image, "label": label, "valid_mask": torch.ones(21, *TRAINED_SIZE)})
    kept: dict[str, Any] = {}
    with in_place_of_a_gpu(clone), torch.enable_grad():
        module = public(clone, "train_resnet50_SIPE")
        network = importlib.import_module("network.resnet50_SIPE")  # the same that it imports
        with _no_weights(network):
            net = filled(network.Net(num_cls=21))
        net.register_forward_hook(lambda *given: kept.update(given[-1]))
        call = ["train", "--batch_size", "2", "--max_epoches", "1", "--num_workers", "0"]
        meter = mock.MagicMock()
        meter.return_value.add = kept.update
        meter.return_value.pop = lambda name: kept[name]
        in_order = lambda data, **_: torch.utils.data.DataLoader(data, batch_size=2)  # noqa: E731
        with (
            mock.patch.object(sys, "argv", call),
            mock.patch.object(network, "Net", return_value=net),
            mock.patch.object(module.data_voc, "VOC12ClsDataset", return_value=samples),
            mock.patch.object(module, "DataLoader", in_order),
            mock.patch.object(module.pyutils, "AverageMeter", meter),
            mock.patch.object(module.pyutils, "Logger"),
            mock.patch.object(module, "visualization", mock.MagicMock()),
            mock.patch.object(torch, "save"),
        ):
            module.train()
    return kept


MAKERS = {"psa": psa_maps, "eps": eps_maps, "sipe": sipe_maps}


def main(*folders: str) -> None:
    clones = dict(zip(MAKERS, (str(Path(folder).resolve()) for folder in folders), strict=True))
    references: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        Path("JPEGImages").mkdir()
        Path("list.txt").write_text(f"/JPEGImages/{NAME}.jpg x\n")
        for name, (size, scales) in MADE.items():
            photograph = Image.fromarray(formula.photograph(*size))
            photograph.save(f"JPEGImages/{NAME}.jpg", "PNG")  # recognised by its first bytes
            references[name] = {
                "commit": _commit(clones[name]),
                "size": size,
                "scales": scales,
                **at_our_cells(MAKERS[name](clones[name], scales)),
            }
        references["sipe step"] = of_the_step(sipe_step(clones["sipe"]))
    FILE.write_text(json.dumps(references).replace("]], ", "]],\n") + "\n")


def at_our_cells(maps: Maps) -> dict[str, Any]:
    """Maps of a photograph at cells of ours, which are a quarter of its size."""
    whole = torch.from_numpy(np.stack(list(maps.values())).astype(np.float32))
    cells = [-(-side // 4) for side in whole.shape[1:]]
    ours = functional.interpolate(whole[None], cells, mode="bilinear", align_corners=False)[0]
    return {"maps": list(maps), "values": rounded(ours[:, ::EVERY, ::EVERY])}


def of_the_step(step: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a training step, of maps those of background and labels."""
    shown = [[0, *(label + 1 for label in labels)] for labels in TRAINED]
    kept = {
        name: [rounded(step[name][image, maps]) for image, maps in enumerate(shown)]
        for name in ("cam", "IS_cam", "seeds")
    }
    lengths = [step["prototypes"][image, maps, :, 0, 0] for image, maps in enumerate(shown)]
    return {
        "labels": TRAINED,
        "scores": rounded(step["score"][:, :, 0, 0], 6),
        "prototypes": [[rounded(each[::64], 6) for each in maps] for maps in lengths],
        **{name: round(step[name], 6) for name in ("lossCLS", "lossGSC")},
        **kept,
    }


def rounded(values: Tensor, digits: int = 4) -> Any:
    text = json.dumps(values.tolist())
    return json.loads(text, parse_float=lambda number: round(float(number), digits))


def _commit(clone: str) -> str:
    command = ["git", "-C", clone, "rev-parse", "--short=12", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main(*sys.argv[1:])
