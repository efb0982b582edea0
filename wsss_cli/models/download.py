"""A file that others publish: fetched once, checked and kept.

Not by ``torch.hub``: it waits for ever for a server that is silent, reads a body that does not end,
cannot tell a file cut short from another one, and tools without torch fetch files too.
"""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from wsss_cli import console
from wsss_cli.errors import ConfigurationError, describe
from wsss_cli.files import atomic

_MEGABYTE = 1 << 20
_LARGEST = 2000 * _MEGABYTE  # of a file whose length is not announced


def caches() -> Path:
    """The folder of all programs' caches: ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


@dataclass(frozen=True, kw_only=True)
class Download:
    """A published file, downloaded once and checked.

    Attributes:
        name: name of the file.
        digest: its SHA-256 in hexadecimal digits, or the first of them.
        home: address of the folder that it is published in.
        topic: what messages about it begin with.
        instead: what to do if it cannot be fetched, as the end of a sentence.
        elsewhere: other places where it may be, which are only read.
    """

    name: str
    digest: str
    home: str
    topic: str
    instead: str
    elsewhere: Callable[[], Iterable[Path]] = tuple

    def file(self) -> Path:
        """The file in the cache or elsewhere, fetched if it is missing or damaged.

        The cache is ``wsss`` in ``$XDG_CACHE_HOME`` or ``~/.cache``. ``$WSSS_WEIGHTS_URL`` names
        a mirror: the folder of all files that wsss fetches.

        Raises:
            ConfigurationError: unreachable, cut short, or the digest is another.
        """
        target = caches() / "wsss" / self.name
        url = f"{os.environ.get('WSSS_WEIGHTS_URL', self.home).rstrip('/')}/{self.name}"
        if target.is_file():
            if self._is_right(target):
                return target
            console.warn(self.topic, f"{target} is damaged; fetching it again")
        else:
            for other in filter(Path.is_file, self.elsewhere()):
                if self._is_right(other):
                    console.detail(self.topic, f"found {other}")
                    return other
                console.warn(self.topic, f"{other} is not the published file; fetching it")
        console.note(self.topic, f"fetching {url}")
        try:
            self._fetch(url, target)
        except (OSError, HTTPException, ValueError) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            text = describe(reason) if isinstance(reason, BaseException) else reason
            raise ConfigurationError(
                f"cannot fetch {url}: {text}; fetch it elsewhere and {self.instead}"
            ) from error
        return target

    def _is_right(self, path: Path) -> bool:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest().startswith(self.digest)

    def _fetch(self, url: str, target: Path) -> None:
        digest = hashlib.sha256()
        received = 0
        with (
            atomic(target) as temporary,
            urllib.request.urlopen(url, timeout=30) as response,
            open(temporary, "wb") as stream,
        ):
            length = response.headers.get("Content-Length", "")
            announced = int(length) if length.isdigit() else None
            if announced is not None and announced > _LARGEST:
                raise ConfigurationError(f"{url}: {announced} bytes; it is another file")
            blocks = None if announced is None else -(-announced // _MEGABYTE)
            with console.progress(self.topic, total=blocks, unit="megabyte") as progress:
                # A body that does not end is not read for ever.
                most = announced or _LARGEST
                while received <= most and (block := response.read(_MEGABYTE)):
                    digest.update(block)
                    stream.write(block)
                    received += len(block)
                    progress.update()
            stream.flush()
            if received > most:
                raise ConfigurationError(f"{url}: longer than {most} bytes; it is another file")
            if announced is not None and received < announced:
                raise ConfigurationError(
                    f"{url}: cut short after {received} of {announced} bytes; try again, "
                    f"or fetch it elsewhere and {self.instead}"
                )
            if not digest.hexdigest().startswith(self.digest):
                raise ConfigurationError(
                    f"{url}: not the published file (SHA-256 {digest.hexdigest()[:8]}… instead of "
                    f"{self.digest[:8]}…); try again, or {self.instead}"
                )
