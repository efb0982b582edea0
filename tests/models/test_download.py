"""Files that are fetched once, and what is said when they cannot be."""

from __future__ import annotations

import hashlib
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.mirror import Mirror, cached
from wsss_cli.errors import ConfigurationError
from wsss_cli.models import download
from wsss_cli.models.download import Download

CONTENT = bytes(range(256)) * 5000


def tiny(digest: str, *elsewhere: Path, name: str = "tiny.bin") -> Download:
    return Download(
        name=name,
        digest=digest,
        home="http://127.0.0.1:9/never",
        topic="weights",
        instead="give --weights FILE",
        elsewhere=lambda: elsewhere,
    )


def of(content: bytes, *elsewhere: Path) -> Download:
    """A file with the start of its digest in its name."""
    digest = hashlib.sha256(content).hexdigest()
    return tiny(digest, *elsewhere, name=f"tiny-{digest[:8]}.bin")


def test_it_is_fetched_once(
    mirror: Mirror, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = of(CONTENT)
    mirror.answers[file.name] = CONTENT
    for _ in range(2):
        assert file.file() == tmp_path / "cache/wsss" / file.name
    assert file.file().read_bytes() == CONTENT
    assert mirror.asked == [file.name]
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"wsss weights: fetching {mirror.url}/{file.name}\n")


def test_without_a_mirror_it_is_fetched_from_its_home(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WSSS_WEIGHTS_URL")
    with pytest.raises(ConfigurationError, match=r"^cannot fetch http://127.0.0.1:9/never/tiny"):
        of(CONTENT).file()
    assert mirror.asked == []


def test_what_lies_elsewhere_is_read_there(
    mirror: Mirror, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, right, none = tmp_path / "other", tmp_path / "right", tmp_path / "none"
    other.write_bytes(CONTENT[1:])
    right.write_bytes(CONTENT)
    assert of(CONTENT, none, other, right).file() == right
    said = f"wsss weights: {other} is not the published file"
    assert capsys.readouterr().err.startswith(said)
    assert other.read_bytes() == CONTENT[1:]
    assert mirror.asked == cached(tmp_path) == []
    # What is in the cache comes first.
    file = of(CONTENT)
    mirror.answers[file.name] = CONTENT
    assert of(CONTENT, other).file() == file.file() != right
    assert of(CONTENT, right).file() == file.file()


def test_what_is_not_what_was_published_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    mirror.answers["tiny.bin"] = b"something else"
    with pytest.raises(ConfigurationError, match=r"not the published file .* instead of 01234567"):
        tiny("01234567").file()
    assert cached(tmp_path) == []


def test_a_transfer_cut_short_leaves_nothing(mirror: Mirror, tmp_path: Path) -> None:
    file = of(CONTENT)
    mirror.answers[file.name] = CONTENT
    mirror.cut = True
    with pytest.raises(ConfigurationError) as caught:
        file.file()
    half, whole = len(CONTENT) // 2, len(CONTENT)
    assert str(caught.value) == (
        f"{mirror.url}/{file.name}: cut short after {half} of {whole} bytes; try again, "
        "or fetch it elsewhere and give --weights FILE"
    )
    assert cached(tmp_path) == []
    mirror.cut = False
    assert file.file().read_bytes() == CONTENT


def test_a_damaged_file_in_the_cache_is_fetched_again(
    mirror: Mirror, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = of(CONTENT)
    mirror.answers[file.name] = CONTENT
    path = file.file()
    path.write_bytes(CONTENT[:-1] + b"?")
    capsys.readouterr()
    assert file.file().read_bytes() == CONTENT
    assert capsys.readouterr().err.startswith(f"wsss weights: {path} is damaged; fetching it again")
    assert mirror.asked == [file.name, file.name]
    path.write_bytes(b"")
    mirror.answers.clear()
    with pytest.raises(ConfigurationError, match="Not Found"):
        file.file()


def test_failures_name_the_address_and_the_way_out(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def message() -> str:
        with pytest.raises(ConfigurationError) as caught:
            tiny("01234567").file()
        text = str(caught.value)
        assert "\n" not in text
        assert text.endswith("fetch it elsewhere and give --weights FILE")
        return text

    assert message().startswith(f"cannot fetch {mirror.url}/tiny.bin: Not Found;")
    mirror.garbled = True
    assert "nothing like HTTP" in message()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("WSSS_WEIGHTS_URL", f"http://127.0.0.1:{port}")
    assert f"127.0.0.1:{port}/tiny.bin: Connection refused;" in message()
    monkeypatch.setenv("WSSS_WEIGHTS_URL", "no address")
    assert "unknown url type" in message()
    (tmp_path / "taken").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "taken"))
    assert str(tmp_path / "taken") in message()


def test_a_body_without_end_is_not_read_for_ever(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_LARGEST", 3 << 20)
    mirror.answers["tiny.bin"] = bytes(1 << 16)
    mirror.endless = True
    with pytest.raises(ConfigurationError, match="longer than 3145728 bytes; it is another file"):
        tiny("00000000").file()
    assert cached(tmp_path) == []


def test_several_processes_fetch_each_the_right_file(mirror: Mirror, tmp_path: Path) -> None:
    contents = [bytes([number]) * 300_000 for number in range(6)]
    for content in contents:
        mirror.answers[of(content).name] = content
    wanted = contents * 3
    with ThreadPoolExecutor(len(wanted)) as pool:
        fetched = pool.map(lambda content: of(content).file().read_bytes(), wanted)
        assert list(fetched) == wanted
    assert cached(tmp_path) == sorted(mirror.answers)
