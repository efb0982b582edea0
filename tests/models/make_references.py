"""Make references.json by running the public code of the papers.

    python -m tests.models.make_references PSA IRN SIPE

with the folders of clones of jiwoon-ahn/psa, jiwoon-ahn/irn and chenqi1126/SIPE. Nothing of theirs
is kept but the numbers that their networks give for the weights and the image of formula.py. psa's
networks call ``cuda()``, which does nothing here, and irn's and SIPE's download weights unless told
not to.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from tests.models import formula

OWN = {"network", "net", "misc", "tool", "voc12", "data", "metadata", "util", "infer", "make_cam"}
SIZE = (65, 81)
# The affinity is exp(-difference): features of ResNet-38 with such weights are too large for it.
LAST = {"resnet38": 1 / 500, "vgg16": 1.0}
FILE = Path(__file__).with_name("references.json")


def public(folder: str, name: str) -> Any:
    """A module of a clone, imported as if Python had been started in its folder."""
    for known in [key for key in sys.modules if key.split(".")[0] in OWN]:
        del sys.modules[known]
    with mock.patch.object(sys, "path", [folder, *sys.path]):
        return importlib.import_module(name)


def filled(network: Any, part: nn.Module | None = None, last: float = 1) -> Any:
    """``network`` with the weights of the formula in ``part``, by default in all of it."""
    target = network if part is None else part
    target.load_state_dict(formula.weights(target.state_dict(), last), strict=False)
    network.eval()  # psa's returns None
    return network


def main(psa: str, irn: str, sipe: str) -> None:
    image = formula.image(*SIZE)
    references: dict[str, Any] = {"size": SIZE}

    def keep(name: str, maps: Tensor, source: str, clone: str) -> None:
        command = ["git", "-C", clone, "rev-parse", "--short=12", "HEAD"]
        commit = subprocess.run(command, capture_output=True, text=True).stdout.strip()
        made = {"source": f"{source}@{commit}", "shape": list(maps.shape)}
        references[name] = {**made, "values": formula.picked(maps)}

    nothing = mock.patch.object(Tensor, "cuda", lambda tensor, *_, **__: tensor)
    with torch.inference_mode(), nothing:
        for name in ("resnet38", "vgg16"):
            network = public(psa, f"network.{name}_cls").Net()
            maps = filled(network).forward_as_dict(image)
            for level, map_ in maps.items():
                keep(f"{name} {level}", map_, f"jiwoon-ahn/psa network/{name}d.py", psa)
            if name == "resnet38":
                cam = network.forward_cam(image)
                keep("resnet38 cam", cam, "jiwoon-ahn/psa network/resnet38_cls.py", psa)
            network = public(psa, f"network.{name}_aff").Net()
            affinity = filled(network, last=LAST[name])(image)
            keep(f"{name} aff", affinity, f"jiwoon-ahn/psa network/{name}_aff.py", psa)
        # psa's own forward pass leaves out the pooling that it, and DeepLab's prototxt, have.
        network = filled(public(psa, "network.vgg16_cls").Net())
        network.fc6.dilation = network.fc6.padding = (12, 12)
        maps = network.pool5a(network.pool5(network.forward_as_dict(image)["conv5"]))
        maps = network.fc7(network.fc6(maps).relu()).relu()
        source = "jiwoon-ahn/psa network/vgg16d.py, layers in the order of vgg16_20M.prototxt"
        keep("largefov fc7", maps, source, psa)

        module = public(irn, "net.resnet50_cam")
        with mock.patch.object(module.resnet50, "model_zoo", mock.MagicMock()), _no_weights(module):
            network = module.Net()
        x = image
        filled(network, network.resnet50)
        for stage in (network.stage1, network.stage2, network.stage3, network.stage4):
            x = stage(x)
        keep("resnet50 layer4", x, "jiwoon-ahn/irn net/resnet50_cam.py", irn)

        module = public(sipe, "network.resnet50_SIPE")
        with _no_weights(module):
            network = module.Net()
        filled(network, network.resnet50)
        x = network.stage0(image)
        for number in range(1, 5):
            x = getattr(network, f"stage{number}")(x)
        keep("sipe layer4", x, "chenqi1126/SIPE network/resnet50_SIPE.py", sipe)
    FILE.write_text(json.dumps(references, indent=1) + "\n")


def _no_weights(module: Any) -> Any:
    build = module.resnet50.resnet50
    return mock.patch.object(
        module.resnet50, "resnet50", lambda pretrained, **options: build(False, **options)
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
