"""``wsss irn-train``: the network that predicts class boundaries and displacements (IRNet)."""

from __future__ import annotations

from typing import Any

from wsss_cli.commands import _frame, _options, _training


@_frame.command()
@_options.records_argument
@_options.model_out_option("irn.pt")
@_options.classes_option("Class list", show_default="that of the regions")
@_training.start_options
@_options.cells_option
@_training.scale_option
@_options.radius_option(10)
@_options.key_option("aff_label", "the label map")
@_training.training_options(
    epochs=8,
    batch_size=16,
    crop=320,
    lr=0.1,
    new_lr=1.0,
    rates=("the boundary branch", "displacements"),
    without=("val", *_training.FREEZING),
)
def command(records: tuple[str, ...], **options: Any) -> None:
    """Train IRNet on confident regions.

    Reads records with `image` and `aff_label`, label maps whose undecided pixels are 255. The
    backbone keeps its weights; the branch of class boundaries learns at the rate --lr, that of
    displacements at --new-lr times this. Writes the checkpoint OUT, its metrics OUT.log.jsonl and
    their plot OUT.png; prints no records. Runs under torchrun as it is.

    \b
    Example:
      wsss make-aff-labels --cut 0.3,0.05 cam.jsonl | wsss irn-train -o irn.pt
    """
    from wsss_cli.training.irn import train_relations

    train_relations(records, **options)
