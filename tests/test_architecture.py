"""The floors of the house: nothing imports upward, and the light tools stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import wsss_cli

PACKAGE = Path(wsss_cli.__file__).parent
FLOORS = [  # from the ground up; a module may import from its own floor and those below
    (
        "errors",
        "console",
        "terminal",
        "metrics",
        "classes",
        "texts",
        "pickled",
        "interrupt",
        "memory",
    ),
    ("methods", "records", "pool", "unique"),
    ("files", "inputs", "pictures", "dict_maps"),
    ("stage", "datasets", "models", "drawing"),
    ("tools", "training", "recipes"),
    ("commands",),
    ("cli",),
    ("__main__",),
]
LEVEL = {name: level for level, floor in enumerate(FLOORS) for name in floor}


def modules() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "__init__.py"]


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Dotted names of all that ``path`` imports, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_imports_upward(path: Path) -> None:
    here = LEVEL[part(path)]
    for name in imported(path):
        if name.startswith("wsss_cli."):
            other = name.split(".")[1]
            assert LEVEL.get(other, 0) <= here, f"{path.name} imports {name}"


def test_methods_know_no_files_no_options_no_data_sets() -> None:
    for path in (PACKAGE / "methods").glob("*.py"):
        names = imported(path)
        for banned in ("click", "PIL", "wsss_cli.files", "wsss_cli.datasets", "wsss_cli.records"):
            assert not any(n == banned or n.startswith(banned + ".") for n in names), path.name
        calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        assert not any(isinstance(c.func, ast.Name) and c.func.id == "open" for c in calls)


def test_no_command_imports_another() -> None:
    for path in (PACKAGE / "commands").glob("*.py"):
        others = {n for n in imported(path) if n.startswith("wsss_cli.commands.")}
        assert all(n.startswith("wsss_cli.commands._") for n in others), path.name


@pytest.mark.parametrize(
    "module",
    [
        "cli",
        "records",
        "files",
        "classes",
        "metrics",
        "stage",
        "drawing",
        "tools.export",
        "tools.page",
        "tools.saliency",
        "tools.view",
        "commands.eval",
        "commands.export",
        "commands.train_cam",
        "models.backbones",
    ],
)
def test_light_modules_import_no_torch(module: str) -> None:
    code = f"import sys, wsss_cli.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
