"""Small files that claim to be large."""

from __future__ import annotations

import io
import json
import resource
import struct
import subprocess
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.faults.ground import Ground, Row, quiet

MOST = 1 << 30  # bytes that a tool may take, whatever it is given


def _png(path: str, width: int, height: int) -> str:
    """A grey PNG of any size in a few kilobytes."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = zlib.crc32(content, zlib.crc32(name))
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    packer = zlib.compressobj(9)
    line = bytes(width + 1)
    lines = b"".join(packer.compress(line) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")
    Path(path).write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    return path


def _npz(path: str, *, packed: bool) -> str:
    """Activation maps that claim 4 GB."""
    head = io.BytesIO()
    shape = {"descr": "<f2", "fortran_order": False, "shape": (2, 32768, 32768)}
    np.lib.format.write_array_header_1_0(head, shape)
    small = {
        "classes": np.array(["a", "b"]),
        "size": np.array([96, 96], np.int32),
        "meta": np.array("{}"),
    }
    how = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", how, compresslevel=9) as archive:
        with archive.open("cam.npy", "w", force_zip64=True) as stream:
            stream.write(head.getvalue())
            for _ in range(256 if packed else 0):
                stream.write(bytes(1 << 24))
        for name, value in small.items():
            part = io.BytesIO()
            np.save(part, value)
            archive.writestr(f"{name}.npy", part.getvalue())
    return path


def bombs(ground: Ground) -> Iterator[Row]:
    """No tool takes more than 1 GB for small files; each says what is wrong or does its work."""
    record = ground.records(ground.stream)[0]
    names = [f"class {number}" for number in range(100_000)]
    large = _png("large.png", 13_000, 13_000)
    cases = {
        "100,000 labels": ("view", {"labels": names}),
        "maps that claim 4 GB": ("crf", {"cam": _npz("claim.npz", packed=False)}),
        "maps of 4 GB, packed": ("crf", {"cam": _npz("packed.npz", packed=True)}),
        "a label map of 13,000²": ("crf --key aff_label", {"aff_label": large}),
        "a true mask of 13,000²": ("eval --key aff_label", {"mask": large}),
        "a saliency map of 13,000²": ("erase", {"saliency": large}),
        "a photograph of 13,000²": ("saliency", {"image": large}),
        "a label of 50 MB": ("make-aff-labels", {"labels": ["x" * 50_000_000]}),
    }
    for what, (tool, change) in cases.items():
        row = Row(f"memory: {what}", 1)
        lines = json.dumps({**record, **change}) + "\n"
        name, *options = tool.split()
        out = [] if name == "eval" else ["-o", f"bombs/{name}"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        script = (
            "import resource, sys, subprocess\n"
            "code = subprocess.run(sys.argv[1:]).returncode\n"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)\n"
            "sys.exit(code)"
        )
        prefix = (ground.command()[0], "-c", script)
        try:
            alone = () if name == "view" else ("--workers", "0")
            done = ground.run(name, *options, *alone, *out, input=lines, prefix=prefix)
        except subprocess.TimeoutExpired:
            row.violations.append(f"{tool}: no end")
            yield row
            continue
        *_, peak = done.err.split()
        row.check(
            int(peak) * 1024 <= MOST, f"{tool}: {int(peak) / 1024:.0f} MB ({before / 1024:.0f})"
        )
        row.check(done.code in (0, 1), f"{tool}: exit code {done.code}: {done.err[-300:]}")
        row.check(not quiet(done), f"{tool}: {quiet(done)}")
        longest = max(map(len, done.err.splitlines()))
        row.check(longest < 2000, f"{tool}: a message of {longest} characters")
        yield row
