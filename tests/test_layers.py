"""Imports point down (architecture section 4), and the light parts load no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import instructloop

PACKAGE = Path(instructloop.__file__).parent
LAYERS = {
    "core": 0,
    "files": 0,
    "allocator": 0,
    "manifest": 0.5,
    "store": 1,
    "models": 1,
    "runs": 1,
    "console": 1,
    "formats": 1,
    "workspace": 2,
    "train": 3,
    "evals": 3,
    "web": 3,
    "serve": 3,
    "microworld": 3,
    "stages": 4,
    "recipes": 5,
    "tables": 5,
    "simulated": 5.2,
    "commands": 5.5,
    "label_commands": 5.7,
    "talk": 5.7,
    "model_commands": 5.8,
    "model_verbs": 5.9,
    "quick_commands": 5.8,
    "plan_commands": 5.85,
    "quick_verbs": 5.9,
    "profiling": 5.9,
    "cli": 6,
}
NO_TORCH = (
    "core/records.py",
    "core/prompts.py",
    "core/rankings.py",
    "core/agreement.py",
    "store",
    "formats",
    "runs.py",
    "workspace.py",
)


def part(path: Path) -> str:
    """Return the layer name of a module: its first folder, or its own name at the top."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_parts(source: str) -> set[str]:
    """Return which parts of the package a source imports, also inside functions."""
    found = set[str]()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "instructloop":
            dotted = (node.module or "").split(".")[1:]
            found.update(dotted[:1] or (alias.name for alias in node.names))
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[1] for alias in node.names if alias.name.startswith("instructloop."))
    return found - {"__version__"}


def modules() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py" or p.parent != PACKAGE)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path):
    own = part(path)
    if own == "__main__":
        return
    for other in imported_parts(path.read_text()) - {own}:
        assert LAYERS[other] < LAYERS[own], f"{path.name} in {own} imports {other}, which is not below it"


def test_an_import_inside_a_function_is_seen():
    assert imported_parts("def f():\n    from instructloop.cli import main\n    import instructloop.store.store") == {
        "cli",
        "store",
    }


def test_only_models_imports_transformers_and_only_store_imports_sqlalchemy():
    for path in modules():
        roots = {
            (node.module or "").split(".")[0] if isinstance(node, ast.ImportFrom) else alias.name.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        assert "transformers" not in roots or part(path) == "models", path
        assert not roots & {"sqlalchemy", "alembic"} or part(path) == "store", path


@pytest.mark.parametrize(
    "statement",
    [
        "from instructloop.core import agreement, prompts, rankings, records",
        "import instructloop.store.store, instructloop.store.freeze",
        "import instructloop.runs, instructloop.workspace",
        "import instructloop.evals.report",
        "import instructloop.web.serving",
        "import instructloop.commands",
        "import instructloop.simulated.visit",
        "import instructloop.cli",
        "import sys; sys.argv = ['instructloop', '--help']\n"
        "try:\n    from instructloop.cli import main; main()\nexcept SystemExit: pass",
    ],
)
def test_light_parts_load_no_torch(statement: str):
    code = statement + "\nimport sys; print(sorted({'torch', 'transformers', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
