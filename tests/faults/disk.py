"""A disk that gets full in the middle, and has room again later."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.faults.ground import STREAMING, Ground, Row, fresh, quiet, whole_files

# A file system of some size in memory, seen by one process only.
MOUNT = 'mkdir -p full; mount -t tmpfs -o size="$0" none full && exec "$@"'
PRIVATE = ("unshare", "--user", "--map-root-user", "--mount")
SIZES = {"make-aff-labels": "24k", "erase": "200k", "saliency": "60k", "make-cam": "40k"}


def full(ground: Ground) -> Iterator[Row]:
    """One line, exit code 1; what was printed is whole; with more room the rest is made."""
    row = Row("a disk gets full")
    try:
        subprocess.run([*PRIVATE, "sh", "-c", MOUNT, "1m", "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        row.skipped = "not allowed here"
        yield row
        return
    for tool, size in SIZES.items():
        key, options = STREAMING[tool]
        ground.run(tool, ground.stream, *options, "-o", fresh("one"), check=0)
        wanted = whole_files("one")
        # The folder is copied out before the mount is gone.
        keep = "cp -r full/. kept/; exit $code"
        script = f'mkdir -p kept; "$@"; code=$?; {keep}'
        prefix = (*PRIVATE, "sh", "-c", MOUNT, size, "sh", "-c", script, "sh")
        fresh("kept")
        command = (tool, ground.stream, *options, "--skip-existing", "-o")
        done = ground.run(*command, "full", prefix=prefix)
        row.cases += 1
        where = f"{tool} on {size}"
        row.check(done.code == 1, f"{where}: exit code {done.code}: {done.err}")
        row.check(not quiet(done), f"{where}: {quiet(done)}")
        lost = [line for line in done.err.splitlines() if "o space left" in line]
        row.check(len(lost) == 1, f"{where}: {len(lost)} lines say so: {done.err}")
        made = whole_files("kept")
        for name, content in made.items():
            row.check(content == wanted.get(name), f"{where}: {name} is not whole")
        for record in done.records:
            name = str(Path(record[key]).relative_to("full"))
            row.check(name in made, f"{where}: {name} was printed and does not exist")
        row.check(0 < len(made) < len(wanted), f"{where}: {len(made)} of {len(wanted)} files fit")
        more = ground.run(*command, "kept")
        row.check(more.code == 0, f"{where}, with room: {more.err}")
        row.check(whole_files("kept") == wanted, f"{where}, with room: not all as in a run alone")
    yield row
