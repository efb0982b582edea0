"""The documents stay true: their commands parse and run, the files they name exist, and the
defaults they state are those of the tools.
"""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from PIL import Image

from tests.models.test_published import names_and_shapes, weight
from wsss_cli import classes
from wsss_cli.cli import COMMANDS, cli
from wsss_cli.commands._options import ReadableFile
from wsss_cli.files import read_label_map, write_label_map
from wsss_cli.records import KEYS, parse

REPOSITORY = Path(__file__).parents[1]
PATHS = ("README.md", "wsss_cli/commands/README.md", "examples/README.md")
README, REFERENCE, RECIPES = DOCUMENTS = [
    (REPOSITORY / path).read_text(encoding="utf-8") for path in PATHS
]
TEXT = "\n".join(DOCUMENTS)


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


PROSE = without_blocks(TEXT)

# Options of other programs than ours that the documents show.
FOREIGN = {"--no-deps", "--nproc-per-node", "--labels", "--logdir"}
# Old names of options, in the change log.
CHANGES = (REPOSITORY / "wsss_cli/CHANGELOG.md").read_text(encoding="utf-8")


def blocks(language: str, text: str = TEXT) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.M | re.S)


def section(title: str, level: str = "##", text: str = README) -> str:
    match = re.search(
        rf"^{level} {re.escape(title)}\n(.*?)(?=^{level} |^## |\Z)", text, flags=re.M | re.S
    )
    assert match, f"there is no section '{title}'"
    return match[1]


def of_tool(name: str) -> str:
    """The section of a tool in the reference."""
    return section(name, "###", REFERENCE)


def anchors(text: str) -> set[str]:
    """The names that links to the headings of a document bear, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(text), flags=re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def simple_commands(script: str) -> Iterator[list[str]]:
    """The words of each command in a script: joined lines, without pipes and redirections."""
    script = re.sub(r"(?m)(^|\s)#.*$", "", script.replace("\\\n", " "))
    lexer = shlex.shlex(script, posix=True, punctuation_chars="|&;<>\n")
    lexer.commenters = ""
    lexer.whitespace, lexer.whitespace_split = " \t", True
    words: list[str] = []
    passing = False  # the next word is the file of a redirection
    for token in [*lexer, "\n"]:
        if set(token) <= set("|&;\n"):
            if words:
                yield words
            words = []
        elif set(token) <= set("<>"):
            passing = True
        elif passing:
            passing = False
        else:
            words.append(token)


def our_commands(script: str) -> Iterator[list[str]]:
    """The arguments of each call of wsss, by its name or as a module."""
    for words in simple_commands(script):
        while words and re.match(r"\w+=", words[0]):
            words = words[1:]
        if words[:1] == ["wsss"]:
            yield words[1:]
        elif "wsss_cli" in words:
            yield words[words.index("wsss_cli") + 1 :]


CALLS = [words for script in blocks("sh") for words in our_commands(script)]
INLINE = [
    words
    for text in re.findall(r"`(wsss [^`]+)`", PROSE)
    if not any(mark in text for mark in ("COMMAND", "FILE", "DIR", "…"))
    for words in our_commands(text.replace("\n", " "))
]


def parsed(words: list[str]) -> None:
    """Raise what the command line would complain about; files need not be there."""
    command: click.Command = cli
    context = cli.make_context("wsss", list(words))
    while isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        if not rest:
            return
        name, inner, rest = command.resolve_command(context, rest)
        assert inner is not None
        context = inner.make_context(name, rest, parent=context)
        command = inner


@pytest.fixture
def no_files(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file and folder passes for one that is there."""
    for each in (click.Path, ReadableFile):
        monkeypatch.setattr(each, "convert", lambda self, value, param, context: value)
    read = classes.load_classes
    monkeypatch.setattr(
        classes, "load_classes", lambda spec: ("a",) if spec.endswith(".txt") else read(spec)
    )


def commands_of(name: str) -> list[click.Command]:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return list(command.commands.values()) if isinstance(command, click.Group) else [command]


def options_of(name: str) -> dict[str, click.Option]:
    return {
        flag: param
        for command in commands_of(name)
        for param in command.params
        if isinstance(param, click.Option)
        for flag in [*param.opts, *param.secondary_opts]
    }


OURS = {flag for name in COMMANDS for flag in options_of(name)} | {"--config", "--help"}


# ---- what it shows ----


def test_the_blocks_are_read_as_a_shell_does() -> None:
    script = (
        "A=1 wsss toy 'my dir' --size 64 \\\n"
        "  --num-val 1 > x |\n  wsss eval # all\nls; wsss view &\n"
    )
    assert list(our_commands(script)) == [
        ["toy", "my dir", "--size", "64", "--num-val", "1"],
        ["eval"],
        ["view"],
    ]
    assert list(our_commands("torchrun --n 2 -m wsss_cli train-cam a\n")) == [["train-cam", "a"]]


@pytest.mark.parametrize("words", CALLS, ids=" ".join)
@pytest.mark.usefixtures("no_files")
def test_each_command_line_parses(words: list[str]) -> None:
    parsed(words)


@pytest.mark.parametrize("words", INLINE, ids=" ".join)
@pytest.mark.usefixtures("no_files")
def test_each_command_in_the_text_parses(words: list[str]) -> None:
    # The help ends by itself, and wsss.toml may say what is lacking.
    with suppress(click.exceptions.Exit, click.MissingParameter):
        parsed(words)


@pytest.mark.parametrize(
    "words", [["erode"], ["eval", "--nix"], ["index", "tfrecord", "x"], ["crf", "--alpha", "x"]]
)
@pytest.mark.usefixtures("no_files")
def test_a_wrong_command_line_would_be_found(words: list[str]) -> None:
    with pytest.raises(click.UsageError):
        parsed(words)


def test_records_and_settings_shown_are_valid() -> None:
    for text in blocks("json"):
        for line in text.splitlines():
            parse(line)
    for text in blocks("toml"):
        for table, settings in tomllib.loads(text).items():
            known = {param.name for command in commands_of(table) for param in command.params}
            assert {name.replace("-", "_") for name in settings} <= known


def test_the_table_of_record_keys_is_that_of_the_code() -> None:
    cells = re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \|$", section("Records and files"), flags=re.M)
    table = {key: (what, made_by.replace("`", "")) for key, what, made_by in cells}
    assert table == {name: (key.what, key.made_by) for name, key in KEYS.items()}
    assert list(table) == list(KEYS)


# ---- what it names ----


def test_every_tool_has_its_section_with_an_example_and_no_other_has() -> None:
    titles = re.findall(r"^### (.+)$", REFERENCE, flags=re.M)
    assert titles == list(COMMANDS)
    for name in COMMANDS:
        calls = [words for script in blocks("sh", of_tool(name)) for words in our_commands(script)]
        assert name in [words[0] for words in calls]


def test_the_reference_has_the_stages_of_the_help_in_order() -> None:
    stages = list(dict.fromkeys(stage for stage, _ in COMMANDS.values()))
    titles = re.findall(r"^## (.+)$", REFERENCE, flags=re.M)
    assert [title for title in titles if title in stages] == stages
    for name, (stage, _) in COMMANDS.items():
        assert f"### {name}\n" in section(stage, text=REFERENCE)


def test_readme_links_to_every_tool_in_order() -> None:
    links = re.findall(
        r"\[`([a-z-]+)`\]\(wsss_cli/commands/README\.md#([a-z-]+)\)", section("The tools")
    )
    assert links == [(name, name) for name in COMMANDS]


def test_readme_is_short_and_shows_the_methods_early() -> None:
    lines = README.splitlines()
    assert len(lines) <= 300
    assert next(i for i, line in enumerate(lines, 1) if line.startswith("| method |")) <= 60


@pytest.mark.parametrize("name", COMMANDS)
def test_the_options_in_a_section_are_those_of_the_tool_with_their_defaults(name: str) -> None:
    options = options_of(name)
    for line in of_tool(name).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("| `"):
            continue
        flags = re.findall(r"`(-[^`]+)`", cells[0])
        assert flags, line
        assert set(flags) <= set(options), line
        named = list(dict.fromkeys(options[flag] for flag in flags))
        defaults = [cells[1]] if len(named) == 1 else cells[1].split(", ")
        if len(defaults) == 1:
            defaults *= len(named)
        for option, shown in zip(named, defaults, strict=True):
            assert_default(option, shown.replace("`", ""), line)


def assert_default(option: click.Option, shown: str, line: str) -> None:
    """A table shows the option's default; words may explain one that click does not know."""
    default = option.default
    if option.required:
        assert shown == "needed", line
    elif isinstance(default, bool):
        assert shown == ("on" if default else "off"), line
    elif isinstance(default, int | float):
        assert float(shown) == default, line
    elif isinstance(default, str):
        assert shown == default, line
    else:
        assert not shown.isdigit(), line


def test_no_option_is_named_that_does_not_exist() -> None:
    assert options_in(TEXT) - FOREIGN <= OURS


def options_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", text))


def test_the_change_log_names_options_that_exist_or_are_deprecated() -> None:
    old = {
        flag
        for name in COMMANDS
        for command in commands_of(name)
        for flag in getattr(command, "renamed", {})
    }
    assert "\n## [Unreleased]\n" in CHANGES
    deprecated = CHANGES.split("### Deprecated")[1]
    assert old <= options_in(deprecated) <= OURS | old
    assert options_in(CHANGES.split("### Deprecated")[0]) <= OURS


def test_the_messages_quoted_in_the_reference_exist() -> None:
    texts: set[str] = set()
    for path in (REPOSITORY / "wsss_cli").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.add(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = (
                    part.value if isinstance(part, ast.Constant) else "…" for part in node.values
                )
                texts.add("".join(map(str, parts)))
    quoted = re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", without_blocks(REFERENCE))
    assert len(quoted) > 5
    assert [quote for quote in quoted if not any(quote in text for text in texts)] == []


@pytest.mark.parametrize("path", [*PATHS, "examples/papers/README.md"])
def test_every_file_linked_and_every_heading_linked_to_is_there(path: str) -> None:
    document = REPOSITORY / path
    links = re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", document.read_text(encoding="utf-8"))
    assert links
    for name, anchor in links:
        linked = document.parent / name if name else document
        assert linked.exists(), name
        if anchor:
            assert anchor in anchors(linked.read_text(encoding="utf-8")), f"{name}#{anchor}"


def test_every_file_and_target_named_is_there() -> None:
    named = re.findall(r"(?<![\w/.])(?:examples|tests|wsss_cli)/[\w/.-]*[\w/]", TEXT)
    assert named
    missing = {name for name in named if not (REPOSITORY / name).exists()}
    # The new files of the worked examples, which a test below writes.
    assert missing <= set(IMPORTS) | {"wsss_cli/commands/peak_train.py"}
    targets = set(re.findall(r"^([a-z0-9]+):", (REPOSITORY / "Makefile").read_text(), flags=re.M))
    shown = re.findall(r"(?:`|^)make ([a-z0-9]+)", TEXT, flags=re.M)
    assert set(shown) <= targets
    methods = re.findall(r"(?:`|^)make voc6-([a-z0-9]+)", TEXT, flags=re.M)
    assert methods
    assert [name for name in methods if not (REPOSITORY / f"examples/{name}.mk").exists()] == []
    papers = re.search(r"^PAPERS := (.*)$", (REPOSITORY / "Makefile").read_text(), flags=re.M)
    assert papers
    named_papers = re.findall(r"(?:`|^)make voc-([a-z0-9+]+)", TEXT, flags=re.M)
    assert set(named_papers) <= {*papers[1].split(), "all"}
    assert {"demo", "test"} <= set(shown)


# ---- what it promises ----

SMALL = {
    "TRAIN_CAM_EPOCHS": "1",
    "TRAIN_CAM_CROP": "64",
    "TRAIN_CAM_RESIZE": "64,96",
    "TRAIN_AFF_EPOCHS": "1",
    "TRAIN_AFF_CROP": "64",
    "TRAIN_SEG_EPOCHS": "1",
    "TRAIN_SEG_CROP": "64",
    "PREDICT_SCALES": "1",
    "CRF_WORKERS": "1",
    "EVAL_WORKERS": "1",
    "MAKE_AFF_LABELS_WORKERS": "1",
}


@pytest.fixture
def small_voc(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder called VOC2012 of four small photographs, photos with a table, small settings."""
    rng = np.random.default_rng(0)
    root = Path("VOC2012")
    for folder in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    names = [f"2007_00003{number}" for number in range(4)]
    for number, name in enumerate(names):
        pixels = rng.integers(0, 256, (72, 96, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"JPEGImages/{name}.jpg")
        label, value = [("cat", 8), ("person", 15)][number % 2]
        mask = np.zeros((72, 96), np.uint8)
        mask[20:50, 30:70] = value
        write_label_map(root / f"SegmentationClass/{name}.png", mask, {})
        (root / f"Annotations/{name}.xml").write_text(
            f"<annotation><object><name>{label}</name></object></annotation>"
        )
    for split, ids in {"train_aug": names, "train": names[:2], "val": names[2:]}.items():
        (root / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(ids) + "\n")
    Path("photos").symlink_to(root / "JPEGImages")
    Path("photos.csv").write_text("".join(f"{name}.jpg,cat dog\n" for name in names))
    for key, value in SMALL.items():
        monkeypatch.setenv(f"WSSS_{key}", value)
    return workdir


def test_the_examples_of_the_tools_and_of_python_run_one_after_another(
    small_voc: Path, shell: Callable[..., Any]
) -> None:
    forms = {"res50_cam.pth": "irn", "vgg16_aff.pth": "psa-vgg-affinity"}
    forms["res50_irn.pth"] = "irn-relations"
    for name, form in forms.items():
        shapes = names_and_shapes(form)
        torch.save({key: weight(key, shape) for key, shape in shapes.items()}, name)
    script = "".join("".join(blocks("sh", of_tool(name))) for name in COMMANDS).replace(
        "--num-train 400 --num-val 100", "--num-train 2 --num-val 1"
    )
    shell(f"set -e\n{script}", check=0, timeout=900)
    assert {path.suffix for path in Path("out/pseudo").iterdir()} == {".png"}
    for name in ("sheet.png", "cam.png", "aff.png", "seg.png"):
        with Image.open(name) as picture:
            assert min(picture.size) > 100
    record = parse(Path("refined.jsonl").read_text().splitlines()[0])
    assert 255 not in read_label_map(record["pseudo"])
    Path("wsss.toml").write_text("".join(blocks("toml")))
    bare = "wsss index voc VOC2012 | wsss make-cam | wsss random-walk"
    assert bare in section("Settings", text=REFERENCE)
    assert [record["id"] for record in shell(bare, check=0).records] == [
        "2007_000030",
        "2007_000031",
    ]
    for code in blocks("python", section("From Python")):
        exec(compile(code, "README.md", "exec"), {})


# ---- the worked examples of how to contribute ----

IMPORTS = {
    "wsss_cli/methods/peak.py": "from torch import Tensor",
    "wsss_cli/models/peak.py": """
import torch
from torch import Tensor
from wsss_cli.methods.peak import peak_scores
from wsss_cli.models.cam import CamNetwork
""",
    "wsss_cli/training/peak.py": "from wsss_cli.training.cam import classification_loss",
    "wsss_cli/models/networks.py": "from wsss_cli.models.peak import PeakNetwork",
    "wsss_cli/models/tiny.py": """
from itertools import accumulate, pairwise
from torch import Tensor, nn
from wsss_cli.models.base import Backbone
""",
    "wsss_cli/datasets/pairs.py": """
from collections.abc import Iterator
from pathlib import Path
from wsss_cli.datasets.folder import OnError
from wsss_cli.records import Record
""",
    "wsss_cli/commands/index.py": """
from functools import partial
from wsss_cli.datasets.pairs import pair_records
""",
    "wsss_cli/tools/fill.py": """
import numpy as np
from wsss_cli import files
from wsss_cli.stage import Job, RecordTool
""",
    "wsss_cli/commands/fill.py": """
from typing import Any
from wsss_cli.commands import _frame, _options
from wsss_cli.stage import Stage
from wsss_cli.tools.fill import Filler
""",
}


def parts(block: str) -> list[tuple[str, str, str]]:
    """The files that a worked example adds or edits: path, remark, code."""
    pieces = re.split(r"^# (wsss_cli/[\w/.]+)(.*)\n", block, flags=re.M)[1:]
    return list(zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True))


def apply(path: str, remark: str, code: str) -> None:
    """Write a part of a worked example into the copy of the package in the working directory."""
    file = Path(path)
    old = file.read_text() if file.exists() else ""
    row = re.search(r"a row of (\w+)", remark)
    if "train_cam.py" in remark:
        old = Path("wsss_cli/commands/train_cam.py").read_text()
        start = old.index("    from wsss_cli.training.cam import")
        imports = (
            "from wsss_cli.training.cam import train_classifier",
            "from wsss_cli.training.peak import peak_loss",
        )
        new = old[:start] + "".join(f"    {line}\n" for line in (*imports, code))
    elif row:
        new, count = re.subn(
            rf"^({row[1]}\b.* = {{\n)", lambda match: match[1] + code, old, flags=re.M
        )
        assert count == 1, path
    elif old and (name := re.match(r"[A-Z]+ = ", code)):
        new, count = re.subn(rf"^{name[0]}.*\n", lambda match: code, old, flags=re.M)
        assert count == 1, path
    else:
        new = old + code
    future = "from __future__ import annotations\n"
    file.write_text(f"{future}{IMPORTS.get(path, '')}\n{new.replace(future, '')}")


def test_the_worked_examples_of_contributing_work(
    small_voc: Path, shell: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(REPOSITORY / "wsss_cli", "wsss_cli")
    examples = [parts(block) for block in blocks("python", section("Contributing"))]
    assert len(examples) == 4
    assert {path for example in examples for path, _, _ in example} >= set(IMPORTS)
    for example in examples:
        for path, remark, code in example:
            apply(path, remark, code)
    monkeypatch.setenv("PYTHONPATH", str(small_voc))
    monkeypatch.setenv("WSSS_PEAK_TRAIN_EPOCHS", "1")
    monkeypatch.setenv("WSSS_PEAK_TRAIN_CROP", "64")
    monkeypatch.setenv("WSSS_PEAK_TRAIN_RESIZE", "64,96")
    shell(
        """
        set -e
        wsss index voc VOC2012 > train.jsonl
        wsss peak-train train.jsonl --classes voc --backbone tiny --weights none -o peak.pt
        wsss make-cam train.jsonl -c peak.pt -o cam > cam.jsonl
        wsss make-aff-labels cam.jsonl -o aff > aff.jsonl
        wsss train-aff aff.jsonl -c peak.pt -o aff.pt
        wsss random-walk aff.jsonl -c aff.pt -o pseudo | wsss fill -o filled > filled.jsonl
        """,
        check=0,
    )
    filled = [parse(line) for line in Path("filled.jsonl").read_text().splitlines()]
    assert [record["pseudo"] for record in filled] == [f"filled/{r['id']}.png" for r in filled]
    assert len(filled) == 2
    write_label_map("mask.png", np.full((4, 4), 255, np.uint8), {})
    shell('echo \'{"id": "x", "pseudo": "mask.png"}\' | wsss fill', check=0)
    assert not read_label_map("out/fill/x.png").any()
    Path("pairs").mkdir()
    Path("pairs/a.jpg").symlink_to(small_voc / "photos/2007_000030.jpg")
    assert shell("wsss index pairs pairs", check=0).records == [
        {"id": "a", "image": "pairs/a.jpg", "mask": "pairs/a.png"}
    ]
