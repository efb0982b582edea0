"""A disk that gets full in the middle, and has room again later."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.faults.ground import STREAMING, TRAINING, Ground, Row, fresh, quiet, whole_files
from wsss_cli import files

# A file system of some size in memory, seen by one process only.
MOUNT = 'mkdir -p full; mount -t tmpfs -o size="$0" none full && exec "$@"'
PRIVATE = ("unshare", "--user", "--map-root-user", "--mount")
SIZES = {"make-aff-labels": "24k", "erase": "200k", "saliency": "60k", "make-cam": "40k"}


def full(ground: Ground) -> Iterator[Row]:
    """One line, exit code 1; what was printed is whole; with more room the rest is made."""
    row = Row("a disk gets full", "one line, exit code 1; with more room the rest is made")
    try:
        subprocess.run([*PRIVATE, "sh", "-c", MOUNT, "1m", "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        row.skipped = "not allowed here"
        yield row
        yield _limited(ground)
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
    yield _trainer(ground)
    yield _limited(ground)


def _trainer(ground: Ground) -> Row:
    """A training has no room for its state or its network."""
    row = Row("a disk gets full under a trainer", "one line, exit code 1; nothing half")
    command = ("train-seg", ground.stream, *TRAINING["train-seg"], "--epochs", "1", "-o")
    for size in ("300k", "20m", "60m"):
        keep = 'mkdir -p kept; "$@"; code=$?; cp -r full/. kept/; exit $code'
        prefix = (*PRIVATE, "sh", "-c", MOUNT, size, "sh", "-c", keep, "sh")
        fresh("kept")
        done = ground.run(*command, "full/net.pt", prefix=prefix)
        row.cases += 1
        where = f"train-seg on {size}: {done.err}"
        row.check(done.code in (0, 1), f"exit code {done.code}: {where}")
        row.check(not quiet(done), f"{quiet(done)}: {where}")
        if done.code:
            lost = [line for line in done.err.splitlines() if "disk" in line or "space" in line]
            row.check(bool(lost), f"no line says so: {where}")
        for path in Path("kept").glob("*.pt"):
            try:
                files.load_tensors(path, "file")
            except Exception as error:
                row.violations.append(f"{error}: {where}")
        left = [path.name for path in Path("kept").glob(".wsss-*")]
        row.check(not left, f"left behind: {left}: {where}")
    return row


def _limited(ground: Ground) -> Row:
    """A limit on the size of files, as `ulimit -f` sets it."""
    row = Row("files may not grow (ulimit -f)", "each record named, exit code 1; nothing half")
    for tool, blocks in (("erase", "8"), ("make-cam", "1"), ("view", "8"), ("saliency", "1")):
        _, options = STREAMING[tool]
        prefix = ("sh", "-c", 'ulimit -f "$0"; exec "$@"', blocks)
        out = fresh(f"limited/{tool}")
        done = ground.run(tool, ground.stream, *options, "-o", out, prefix=prefix)
        row.cases += 1
        where = f"{tool} with files of {blocks} blocks"
        row.check(done.code in (0, 1), f"{where}: exit code {done.code}: {done.err[-500:]}")
        row.check(not quiet(done), f"{where}: {quiet(done)}")
        for record in done.records:
            made = record[STREAMING[tool][0]]
            row.check(files.is_whole(made), f"{where}: {made} was printed and is not whole")
        left = [path.name for path in Path(out).rglob(".wsss-*")]
        row.check(not left, f"{where}: left behind: {left}")
    return row
