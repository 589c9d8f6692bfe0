"""What the package promises as a whole: its public names, its layers, its documents."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import irestore
from irestore.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "irestore"
HEAVY = ("torch", "numpy", "PIL", "huggingface_hub", "safetensors", "tqdm")


def imports(path: Path) -> set[str]:
    """Full names of all modules that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(ROOT).with_suffix("").parts[: -node.level] if node.level else ()
            names.add(".".join((*package, *([node.module] if node.module else []))))
    return names


def importers(module: str) -> set[str]:
    """The parts of the package (its top-level modules) that import `module`."""
    return {
        path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for path in PACKAGE.rglob("*.py")
        if any(name == module or name.startswith(module + ".") for name in imports(path))
    }


def test_every_public_name_is_there() -> None:
    for name in irestore.__all__:
        assert getattr(irestore, name) is not None


def test_dir_shows_the_public_names_before_anything_heavy_is_imported() -> None:
    code = "import irestore, sys; print(*dir(irestore)); assert 'torch' not in sys.modules"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert sorted(out.split()) == sorted(irestore.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_like_this"):
        irestore.nothing_like_this  # noqa: B018


@pytest.mark.parametrize("code", ["import irestore", "from irestore.cli import main; main(['--help'])"])
def test_nothing_heavy_is_imported_before_it_is_needed(code: str) -> None:
    told = f"{code}\nimport sys; print('LOADED', [n for n in {HEAVY!r} if n in sys.modules])"
    out = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "LOADED []"


@pytest.mark.parametrize(
    ("module", "parts"), [("click", {"cli"}), ("PIL", {"images"}), ("huggingface_hub", {"weights"})]
)
def test_each_library_has_one_home(module: str, parts: set[str]) -> None:
    assert importers(module) <= parts


@pytest.mark.parametrize(
    ("layer", "above"),
    [
        ("field.py", {"models", "runner", "batch", "images", "weights", "cli", "api"}),
        ("tiling.py", {"models", "runner", "batch", "images", "weights", "cli", "api"}),
        ("models", {"runner", "batch", "images", "weights", "cli", "api"}),
        ("runner.py", {"batch", "images", "weights", "cli", "api"}),
        ("images", {"models", "runner", "field", "batch", "weights", "cli", "api"}),
        ("weights", {"runner", "batch", "images", "cli", "api"}),
        ("batch", {"weights", "cli", "api"}),
    ],
)
def test_imports_run_one_way(layer: str, above: set[str]) -> None:
    files = [PACKAGE / layer] if layer.endswith(".py") else (PACKAGE / layer).rglob("*.py")
    for path in files:
        backwards = {name for name in imports(path) for part in above if name.startswith(f"irestore.{part}")}
        assert not backwards, f"{path.relative_to(ROOT)} imports {backwards}"


def test_readme_names_every_command() -> None:
    text = (ROOT / "README.md").read_text()
    assert [name for name in COMMANDS if f"irestore {name}" not in text and f"`{name}`" not in text] == []


def test_ci_runs_the_tests_of_the_readme() -> None:
    assert "make check" in (ROOT / ".ci" / "run").read_text()
    assert "-m pytest" in (ROOT / "Makefile").read_text()
    assert "-m pytest" in (ROOT / "README.md").read_text()
