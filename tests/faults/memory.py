"""Small files that claim to be large."""

from __future__ import annotations

import io
import json
import os
import resource
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.faults.ground import Ground, Row, quiet

MOST = 1 << 30  # bytes that a tool may take, whatever it is given
SPARSE = 3 << 30  # bytes of a file that takes no room on the disk
LIMIT = 8 << 30  # bytes that it can take, so that the machine lives on
SECONDS = 60


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


def _sparse(path: str, good: str | None = None) -> str:
    """A file of 3 GB that takes no room on the disk, perhaps with a good one at its start."""
    Path(path).write_bytes(Path(good).read_bytes() if good else b"")
    os.truncate(path, SPARSE)
    return path


def _pipe(path: str) -> str:
    os.mkfifo(path)
    return path


def _text(path: str) -> str:
    """A PNG whose text unpacks to 1 GB."""
    packer = zlib.compressobj(9)
    text = b"".join(packer.compress(bytes(1 << 20)) for _ in range(1024)) + packer.flush()
    body = b"zTXtwsss\0\0" + text
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    good = Path(_png(path, 96, 96)).read_bytes()
    Path(path).write_bytes(good[:33] + chunk + good[33:])  # behind the header
    return path


def _checkpoint(path: str) -> str:
    """A checkpoint whose weights unpack to 4 GB."""
    with (
        zipfile.ZipFile("segmentation.pt") as good,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
    ):
        for number, entry in enumerate(good.infolist()):
            if number != 4:
                archive.writestr(entry.filename, good.read(entry))
                continue
            with archive.open(entry.filename, "w", force_zip64=True) as stream:
                for _ in range(256):
                    stream.write(bytes(1 << 24))
    return path


def _deep(path: str, start: str) -> str:
    Path(path).write_text(start + "[" * 100_000 + "]" * 100_000 + "\n")
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
        "a photograph of 3 GB, sparse": ("saliency", {"image": _sparse("sparse.png")}),
        "the same behind a good one": ("view", {"image": _sparse("tail.png", record["saliency"])}),
        "a mask of 3 GB, sparse": ("eval --key aff_label", {"mask": _sparse("sparse-mask.png")}),
        "maps of 3 GB, sparse": ("crf", {"cam": _sparse("sparse.npz")}),
        "a device": ("saliency", {"image": "/dev/zero"}),
        "a pipe nobody writes to": ("crf", {"cam": _pipe("pipe.npz")}),
        "a mask that is a pipe": ("eval --key aff_label", {"mask": _pipe("pipe.png")}),
        "provenance of 1 GB, packed": ("view", {"image": _text("text.png")}),
        "a checkpoint of 4 GB, packed": (f"predict -c {_checkpoint('packed.pt')}", {}),
        "a checkpoint that is a device": ("predict -c /dev/zero", {}),
        "a class list that is sparse": (f"crf --classes {_sparse('sparse.txt')}", {}),
        "settings that are sparse": (f"--config {_sparse('sparse.toml')} config", {}),
        "settings 100,000 deep": (f"--config {_deep('deep.toml', 'x = ')} config", {}),
        "matrices 100,000 deep": (f"eval --merge {_deep('deep.json', '')}", {}),
        "matrices that are sparse": (f"eval --merge {_sparse('sparse.json')}", {}),
        "records without an end": (f"crf {_sparse('sparse.jsonl')}", {}),
    }
    files_alone = [tool for tool, change in cases.values() if not change]
    for what, (tool, change) in cases.items():
        row = Row(f"memory: {what}", "below 1 GB, an end, one line", 1)
        lines = "" if tool in files_alone else json.dumps({**record, **change}) + "\n"
        name, *options = tool.split()
        words = {name, *options}
        out = [] if words & {"eval", "config"} else ["-o", f"bombs/{name}"]
        alone = () if words & {"view", "config", "--merge"} else ("--workers", "0")
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        script = (
            "import resource, sys, subprocess\n"
            f"resource.setrlimit(resource.RLIMIT_AS, ({LIMIT}, {LIMIT}))\n"
            "try:\n"
            f"    code = subprocess.run(sys.argv[1:], timeout={SECONDS}).returncode\n"
            "except subprocess.TimeoutExpired:\n"
            "    code = 124\n"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)\n"
            "sys.exit(code)"
        )
        prefix = (ground.command()[0], "-c", script)
        done = ground.run(name, *options, *alone, *out, input=lines, prefix=prefix)
        if not row.check(done.code != 124, f"{tool}: no end after {SECONDS} s"):
            yield row
            continue
        *_, peak = done.err.split()
        row.check(
            int(peak) * 1024 <= MOST, f"{tool}: {int(peak) / 1024:.0f} MB ({before / 1024:.0f})"
        )
        allowed = (0, 1, 2) if tool in files_alone else (0, 1)
        row.check(done.code in allowed, f"{tool}: exit code {done.code}: {done.err[-300:]}")
        row.check(not quiet(done), f"{tool}: {quiet(done)}")
        longest = max(map(len, done.err.splitlines()), default=0)
        row.check(longest < 2000, f"{tool}: a message of {longest} characters")
        yield row
