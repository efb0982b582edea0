"""A terminal with processes in it, and what a person would see; pyte plays the terminal."""

from __future__ import annotations

import fcntl
import os
import queue
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import pyte

_AT_REST = re.compile(rb"(?<=A\r)|(?<=\x1b\[J)")  # where a drawing ends


# Lines appear at once: a quick machine is done before the usual half second.
_AT_ONCE = (
    "import sys; from wsss_cli import terminal; from wsss_cli.__main__ import main; "
    "terminal._FIRST, terminal._TICK = 0.02, 0.02; sys.argv[0] = '/bin/wsss'; main()"
)


class Screen:
    """A pseudo-terminal.

    Attributes:
        side: file descriptor of the side that programs write to.
        moments: what was on the screen each time something had been drawn.
        sent: all that was written to it.
    """

    def __init__(self, columns: int = 100, lines: int = 30) -> None:
        self._main, self.side = os.openpty()
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self.moments: list[list[str]] = []
        self.sent = b""
        self._come: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        self.resize(columns, lines)

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.side, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self._screen.resize(lines, columns)

    def raw(self) -> None:
        """As a pager sets it, to read each key."""
        tty.setcbreak(self.side)

    def run(
        self, script: str, folder: Path, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """A script of bash in this terminal; ``wsss`` is this version."""
        wsss = f'wsss() {{ "{sys.executable}" -c "{_AT_ONCE}" "$@"; }}; set -o pipefail; '
        usual = {name: text for name, text in os.environ.items() if name != "NO_COLOR"}
        usual |= {"TERM": "xterm", "XDG_RUNTIME_DIR": str(folder), **(environment or {})}
        return subprocess.Popen(
            ["bash", "-c", wsss + script],
            stdin=self.side,
            stdout=self.side,
            stderr=self.side,
            env=usual,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def press_ctrl_c(self) -> None:
        os.write(self._main, b"\x03")

    def until(
        self, done: Callable[[list[str]], object], seconds: float = 60, wait: float = 0.02
    ) -> list[str]:
        """What is on the screen when ``done`` is true of it; an error if it is never."""
        end = time.monotonic() + seconds
        while not done(shown := self.look(wait)):
            assert time.monotonic() < end, "\n".join(shown)
        return shown

    def look(self, wait: float = 0.0) -> list[str]:
        """The lines that are on the screen, without the empty ones at its end."""
        while True:
            try:
                data = self._come.get(timeout=wait) if wait else self._come.get_nowait()
            except queue.Empty:
                break
            self.sent += data
            for part in filter(None, _AT_REST.split(data)):
                self._stream.feed(part)
                if _AT_REST.search(part[-3:]):
                    self.moments.append(self._lines())
        return self._lines()

    def _read(self) -> None:
        """In a thread, so that nobody waits who writes."""
        with suppress(OSError):  # closed
            while data := os.read(self._main, 1 << 16):
                self._come.put(data)

    def _lines(self) -> list[str]:
        lines = [line.rstrip() for line in self._screen.display]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def finish(self, process: subprocess.Popen[bytes], seconds: float = 60) -> list[str]:
        """What is left on the screen when the script has ended."""
        self.until(lambda _: process.poll() is not None, seconds)
        return self.look(0.1)

    def close(self) -> None:
        os.close(self.side)
        os.close(self._main)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a script of :meth:`Screen.run` and all that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
