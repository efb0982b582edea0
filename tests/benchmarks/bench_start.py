"""How long ``wsss --help`` takes against importing click alone."""

from __future__ import annotations

import subprocess
import sys
import time

RUNS = 15


def main() -> None:
    commands = {
        "import click": [sys.executable, "-c", "import click"],
        "wsss --help": [sys.executable, "-m", "wsss_cli", "--help"],
        "wsss eval --help": [sys.executable, "-m", "wsss_cli", "eval", "--help"],
    }
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(RUNS):  # in turn, so that a machine that slows down slows all
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            taken[name].append(time.perf_counter() - started)
    middle = {name: sorted(times)[RUNS // 2] for name, times in taken.items()}
    base = middle.pop("import click")
    for name, seconds in middle.items():
        print(
            f"{name}: {1000 * seconds:.0f} ms, python -c 'import click': {1000 * base:.0f} ms, "
            f"{seconds / base:.2f}x"
        )


if __name__ == "__main__":
    main()
