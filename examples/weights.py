"""Stop a recipe at its start, not after days, if its last training has no weights to start from.

usage: python weights.py SETTINGS

SETTINGS is what `wsss config train-seg` printed and, on a line of their own, the options that are
given to the command as well. The weights are fetched, or found, and read as train-seg does it.
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path


def setting(name: str, text: str, options: list[str]) -> str | None:
    """The last value that is given for a setting."""
    flag = f"--{name}"
    for at, option in reversed([*enumerate(options)]):
        if option.startswith(f"{flag}="):
            return option[len(flag) + 1 :]
        if option == flag and at + 1 < len(options):
            return options[at + 1]
    found = re.search(rf'^train-seg\.{name} = "(.+)"', text, flags=re.M)
    return found[1] if found else None


def main() -> None:
    *lines, last = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines() or [""]
    text, options = "\n".join(lines), shlex.split(last)
    backbone, weights = (setting(name, text, options) for name in ("backbone", "weights"))
    if backbone is None or weights is None:
        return
    try:
        from wsss_cli.errors import WsssError
        from wsss_cli.models.backbones import build_backbone
        from wsss_cli.models.weights import load_pretrained
    except ImportError:  # wsss is installed apart from this Python: train-seg will tell
        return
    try:
        load_pretrained(build_backbone(backbone), weights)
    except WsssError as error:
        sys.exit(
            f"train-seg could not start: {error}\n"
            "where the papers' weights are from: examples/papers/README.md, Weights; "
            "others: make … train-seg='--weights FILE'"
        )


main()
