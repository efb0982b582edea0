"""Stop a recipe at its start, not after days, if a later training has no weights to start from.

usage: python weights.py SETTINGS…

SETTINGS is a file named like a trainer: what `wsss config TRAINER` printed and, on a line of their
own, the options that are given to it as well. The weights are fetched, or found, and read as the
trainer does it; train-aff has the backbone of the classifier, whose settings stand before its own.
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path


def stated(name: str, trainer: str, text: str, options: list[str]) -> str | None:
    """The last value that is given for a setting."""
    flag = f"--{name}"
    for at, option in reversed([*enumerate(options)]):
        if option.startswith(f"{flag}="):
            return option[len(flag) + 1 :]
        if option == flag and at + 1 < len(options):
            return options[at + 1]
    found = re.search(rf'^{trainer}\.{name} = "(.+)"', text, flags=re.M)
    return found[1] if found else None


def main() -> None:
    backbone = None
    for path in map(Path, sys.argv[1:]):
        *lines, last = path.read_text(encoding="utf-8").splitlines() or [""]
        given = path.name, "\n".join(lines), shlex.split(last)
        backbone = stated("backbone", *given) or backbone
        weights = stated("weights", *given)
        if backbone is not None and weights is not None:
            check(path.name, backbone, weights)


def check(trainer: str, backbone: str, weights: str) -> None:
    """Exit if the weights cannot be had, or are not those of the backbone."""
    try:
        from wsss_cli.errors import WsssError
        from wsss_cli.models.backbones import build_backbone
        from wsss_cli.models.weights import load_pretrained
    except ImportError:  # wsss is installed apart from this Python: the trainer will tell
        return
    try:
        load_pretrained(build_backbone(backbone), weights)
    except WsssError as error:
        sys.exit(
            f"{trainer} could not start: {error}\n"
            "where the papers' weights are from: examples/papers/README.md, Weights; "
            f"others: make … {trainer}='--weights FILE'"
        )


main()
