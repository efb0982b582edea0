"""``wsss train-aff``: the network that says which neighbouring pixels belong together."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from wsss_cli.commands import _frame, _options, _training


@_frame.command("train-aff")
@_options.records_argument
@_options.model_out_option("aff.pt")
@_options.checkpoint_option("cam", "eps", "sipe")
@_training.output_stride_option
@_training.scale_option
@_options.radius_option
@click.option(
    "--key",
    default="aff_label",
    show_default=True,
    metavar="KEY",
    help="Record key of the label map.",
)
@_training.training_options(epochs=8, batch_size=8, crop=320, lr=0.01)
def command(
    records: tuple[str, ...],
    out: str,
    checkpoint: str,
    output_stride: int | None,
    scale: tuple[float, float],
    radius: int,
    key: str,
    **options: Any,
) -> None:
    """Train AffinityNet on confident regions.

    Reads records with `image` and `aff_label`, label maps whose undecided pixels are 255. Starts
    from the backbone of a checkpoint of train-cam, eps-train or sipe-train. Writes the checkpoint
    OUT, its metrics OUT.log.jsonl and their plot OUT.png; prints no records. Runs under torchrun as
    it is.

    \b
    Example:
      wsss make-aff-labels -o out/aff cam.jsonl | wsss train-aff -c cam.pt -o aff.pt
    """
    from wsss_cli.datasets.augment import Jitter, random_view
    from wsss_cli.files import load_checkpoint
    from wsss_cli.models.networks import build_network
    from wsss_cli.training.affinity import region_loss
    from wsss_cli.training.session import part, session

    with session("train-aff", out=out, **options) as here:
        start = load_checkpoint(checkpoint, "cam", "eps", "sipe")
        given = here.read(records, either=[key])
        config = {"output_stride": output_stride or start.config["output_stride"]}
        network = build_network("affinity", start.backbone, start.classes, config)
        network.backbone.load_state_dict(part(start.state_dict, "backbone"))
        view = partial(random_view, crop=here.options.crop, scale=scale)
        here.train(
            kind="affinity",
            network=network,
            classes=start.classes,
            config=config,
            samples=here.samples(
                given,
                network.backbone,
                view=view,
                label_map_keys=[key],
                highest_label=len(start.classes),
                jitter=Jitter(),
            ),
            keys=[key],
            loss=region_loss(radius),
            checkpoint=start.digest,
            scale=scale,
            radius=radius,
        )
