"""The record stream: what is read, what is refused, what passes through."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from wsss_cli import records
from wsss_cli.errors import ConfigurationError
from wsss_cli.records import RecordError


def test_reads_files_in_order_and_goes_on_after_bad_lines(workdir: Path) -> None:
    Path("a.jsonl").write_text('{"id": "1", "x": [1, null]}\n\nnot json\n[1]\n{"no": "id"}\n')
    Path("b é.jsonl").write_text('{"id": "2"}')
    problems: list[str] = []
    found = list(records.read(["a.jsonl", "b é.jsonl"], problems.append))
    assert found == [{"id": "1", "x": [1, None]}, {"id": "2"}]
    assert problems == [
        "a.jsonl:3: not a JSON object: is this the output of a wsss tool?",
        "a.jsonl:4: not a JSON object but a list",
        "a.jsonl:5: no 'id'",
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(300) + b"\n" * 100,
        b"PK\x03\x04\0\0" + b"x\n" * 100,
        '{"id": "a"}\n{"id": "b"}\n'.encode("utf-16"),
    ],
)
def test_a_file_that_is_no_text_is_one_problem(content: bytes, workdir: Path) -> None:
    Path("a.bin").write_bytes(content)
    Path("b.jsonl").write_text('{"id": "b"}\n')
    problems: list[str] = []
    assert list(records.read(["a.bin", "b.jsonl"], problems.append)) == [{"id": "b"}]
    assert problems == ["a.bin: a binary file or UTF-16, not records"]


def test_zeros_behind_a_record_lose_their_line_only(workdir: Path) -> None:
    Path("a.jsonl").write_bytes(b'{"id": "a"}\n\0\0\0\n{"id": "b"}\n')
    problems: list[str] = []
    assert [record["id"] for record in records.read(["a.jsonl"], problems.append)] == ["a", "b"]
    assert len(problems) == 1
    assert problems[0].startswith("a.jsonl:2: ")


def test_missing_file_is_a_configuration_error(workdir: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot read records: x\.jsonl: No such file"):
        list(records.read(["x.jsonl"], print))


@pytest.mark.parametrize(
    "value",
    [
        "..",
        "../x",
        "a/../../x",
        "/etc/x",
        "a//b",
        "a/",
        "./a",
        "",
        "a\nb",
        "a\0b",
        "a\x7f",
        "a\u009b31m",
        "a\u2028b",
        "a\u202eb",
        "a\u2066b",
        "\\x",
        "C:x",
        7,
        None,
        ["a"],
        "\ud800",
    ],
)
def test_unsafe_ids_are_refused(value: object) -> None:
    with pytest.raises(RecordError, match="id"):
        records.check_id(value)


@pytest.mark.parametrize(
    "value", ["2007_000032", "a/b", "a b", "größe", "..a", "a..b", "猫", "👩\u200d💻"]
)
def test_safe_ids_give_a_path_inside_out(value: str, tmp_path: Path) -> None:
    path = records.safe_path(tmp_path / "out", value, ".png")
    assert path.resolve().is_relative_to((tmp_path / "out").resolve())
    assert path.name.endswith(".png")


def test_a_link_cannot_lead_out(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path)
    with pytest.raises(RecordError, match="leads out of"):
        records.safe_path(tmp_path / "out", "link/x", ".png")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"id": "a", "image": 5}', "'image' is not a path but 5"),
        ('{"id": "a", "cam": ""}', "'cam' is not a path"),
        ('{"id": "a", "labels": "cat"}', "'labels' is not a list of class names"),
        ('{"id": "a", "strong": 1}', "'strong' is neither true nor false"),
        ('{"id": "a", "labels": [1]}', "'labels' is not a list of class names"),
        ('{"id": "../a"}', 'unsafe id "../a"'),
        ("[" * 100_000, "not a JSON object"),
        ('{"id": "a", "x": ' + "[" * 900 + "]" * 900 + "}", "a: more than 50 levels"),
        ('{"id": "a", "x": NaN}', "NaN is no number of JSON"),
        ('{"id": "a", "x": -Infinity}', "-Infinity is no number of JSON"),
        ('{"id": "a", "x": 1e999}', "1e999 is no number of JSON"),
        ('{"id": "a", "x": ' + "9" * 10_000 + "}", "a number with thousands of digits"),
        ('{"id": "a", "image": ["' + "b" * 1000 + '"]}', "a: 'image' is not a path but [\"bbb"),
    ],
)
def test_wrong_values_are_named(line: str, problem: str) -> None:
    with pytest.raises(RecordError) as caught:
        records.parse(line)
    assert problem in str(caught.value)


def test_null_is_as_absent() -> None:
    keys = [key for key in records.KEYS if key != "id"]
    record = records.parse(json.dumps({"id": "a", **dict.fromkeys(keys)}))
    assert records.labels(record) is None
    with pytest.raises(RecordError, match="record has no 'mask' "):
        records.need(record, ["mask"])


@pytest.mark.parametrize("value", [["cat"], 3, {}, "", "a\0b", True])
def test_what_is_no_path(value: object) -> None:
    with pytest.raises(RecordError, match="'x' is not a path but "):
        records.path({"id": "a", "x": value}, "x")


def test_a_line_without_end_is_not_read_to_its_end(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "_LONGEST", 1000)
    Path("a.jsonl").write_text('{"id": "a"}\n' + "x" * 5000 + '\n{"id": "b"}\n')
    Path("b.jsonl").write_text('{"id": "c"}')
    problems: list[str] = []
    read = list(records.read(["a.jsonl", "b.jsonl"], problems.append))
    assert [record["id"] for record in read] == ["a", "b", "c"]
    assert problems == ["a.jsonl:2: a line of more than 1,000 bytes"]
    monkeypatch.setattr(records, "_MOST_SKIPPED", 3000)
    assert [record["id"] for record in records.read(["a.jsonl"], problems.append)] == ["a"]


def test_nothing_in_a_record_reaches_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(buffer))
    record = {"id": "a", "image": "\x1b[31m\u009b\u202e\u2028\x7f é", "\u0085": ["\u2066"]}
    records.write(record)
    text = buffer.getvalue().decode()
    assert text.removesuffix("\n").isprintable()
    assert json.loads(text) == record
    with pytest.raises(ValueError, match="not JSON compliant"):
        records.write({"id": "a", "x": float("nan")})


def test_labels_are_none_when_absent_and_unique_when_there() -> None:
    assert records.labels({"id": "a"}) is None
    assert records.labels({"id": "a", "labels": ["b", "a", "b"]}) == ["b", "a"]


def test_the_first_key_is_one_with_a_value() -> None:
    record = {"id": "a", "pseudo": None, "mask": "m.png", "pred": "p.png"}
    assert records.first_key(record, ["pseudo", "mask", "pred"]) == "mask"
    assert records.first_key(record, ["pseudo"]) is None


def test_need_says_who_makes_what_is_missing() -> None:
    with pytest.raises(RecordError, match=r"record has no 'mine'\Z"):
        records.need({"id": "a"}, ["mine"])
    with pytest.raises(RecordError, match=r"no 'cam' \(made by make-cam\)"):
        records.need({"id": "a", "image": "b"}, ("image", "cam"))


def test_written_lines_read_back_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(buffer, encoding="ascii"))
    written = {"id": "größe", "image": "猫 \udcff.jpg", "x": {"b": 1, "a": [None, 1.5]}}
    plain = {"id": "größe", "z": 1, "a": 2}
    records.write(written)
    records.write(plain)
    lines = buffer.getvalue().splitlines()
    assert json.loads(lines[0]) == written
    assert list(json.loads(lines[1])) == ["id", "z", "a"]
    assert "größe".encode() in lines[1]
