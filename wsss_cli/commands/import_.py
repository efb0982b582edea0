"""``wsss import``: checkpoints of the papers' public repositories."""

from __future__ import annotations

import os
from pathlib import Path

import click

from wsss_cli import console
from wsss_cli.commands import _frame, _options
from wsss_cli.models.backbones import BACKBONES


@_frame.command(name="import")
@click.argument("file", type=_options.ReadableFile())
@_options.new_file_option("Output checkpoint.")
@click.option(
    "--kind",
    type=click.Choice([*_options.CLASSIFIERS, *_options.LINKING]),
    help="Kind of the network, if not that of the keys.",
)
@click.option(
    "--backbone",
    metavar="NAME",
    shell_complete=_options.completed(lambda context: BACKBONES),
    help=f"{', '.join(BACKBONES)}; by default that of the keys.",
)
@_options.classes_option("Class list in the order of the maps, if neither voc nor coco")
def command(
    file: str, out: str, kind: str | None, backbone: str | None, classes: tuple[str, ...] | None
) -> None:
    """Make a checkpoint from one that a public repository published.

    Reads checkpoints of psa (CAM classifier, AffinityNet), irn (CAM classifier, IRNet), EPS and
    SIPE; kind and backbone are found from the keys. Writes the checkpoint OUT; prints no records.
    Weights of a backbone alone need no import: give them to a trainer as --weights.

    \b
    Example:
      wsss import res38_cls.pth -o cam.pt
    """
    from wsss_cli import files, inputs
    from wsss_cli.models.published import check_replaceable, load_published

    files.check_targets([out], keep=[file])
    digest = inputs.digest(file)
    check_replaceable(out, digest)
    found = load_published(file, kind=kind, backbone=backbone, classes=classes)
    name = os.path.basename(file)
    origin = {"file": name, "digest": digest, "repository": found.repository}
    files.save_checkpoint(
        Path(out),
        kind=found.kind,
        backbone=found.network.backbone.name,
        classes=found.classes,
        config={**found.config, "imported": origin},
        state_dict=found.network.state_dict(),
    )
    console.note("import", f"{out}: {found.described()}")
