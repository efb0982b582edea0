"""``wsss masks``: from a folder of photographs to masks, as a chain of the other tools."""

from __future__ import annotations

from collections import deque

import click

from wsss_cli.commands import _frame, _in_effect, _options


@_frame.command()
@click.argument("photos", type=click.Path(exists=True))
@_options.out_option("out", help="Output folder, for all that is made.")
@click.option(
    "--csv",
    metavar="FILE",
    show_default="labels.csv, metadata.csv or metadata.jsonl in PHOTOS",
    help="Table of labels, here or in PHOTOS: one line a photograph, 'file,label label ...'.",
)
@_options.classes_option("Class list that numbers the classes, if not the labels in their order")
@click.option(
    "--saliency-model",
    default="u2netp",
    show_default=True,
    metavar="u2netp|none|FILE",
    type=_options.ReadableFile("u2netp", "none"),
    help="Salient-object network that tells objects from background, as in 'wsss saliency "
    "--model'; none learns from the labels alone.",
)
@click.option(
    "--network",
    is_flag=True,
    help="Train a segmentation network on the masks too, and predict all photographs with it, "
    "those without labels too.",
)
@click.option("--dry-run", is_flag=True, help="Print the commands and run none.")
@_options.device_option
@_options.seed_option
def command(
    photos: str,
    out: str,
    csv: str | None,
    classes: tuple[str, ...] | None,
    saliency_model: str,
    network: bool,
    dry_run: bool,
    device: str,
    seed: int,
) -> None:
    """Make masks of labelled photographs, by a chain of the tools below.

    PHOTOS is a folder with a sub-folder for each class, or with a table of labels, or a file of
    records. Prints every command as a line of shell and runs it; the way is chosen by the number of
    photographs a class. Writes the masks OUT/masks/ID.png, their records OUT/masks.jsonl, and
    OUT/report.html to look at. Run again, it goes on where it stopped.

    \b
    Example:
      wsss masks photos -o out
    """
    from wsss_cli.recipes.masks import Given, make

    root = click.get_current_context().find_root()
    settings = root.params.get("settings")
    given = Given(
        photos=photos,
        out=out,
        table=csv,
        classes=classes,
        saliency=None if saliency_model == "none" else saliency_model,
        network=network,
        device=device,
        seed=seed,
    )

    def check_settings(tool: str) -> None:
        assert isinstance(root.command, click.Group)
        declared = root.command.get_command(root, tool)
        assert declared is not None
        deque(_in_effect.lines(root, declared, tool, changed=True), maxlen=0)

    make(
        given,
        before=["--config", settings] if settings else [],
        dry_run=dry_run,
        check_settings=check_settings,
    )
