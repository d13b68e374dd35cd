"""Documents tell the truth: every file, function and test that they name exists, every command of the README works."""

import ast
import re
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
REFERENCE = re.compile(r"`((?:instructloop|tests)/[\w/]+\.py)(?::(\w+(?:\.\w+)?))?`")


@lru_cache
def names(path: Path) -> set[str]:
    """Return what a module defines: functions, classes, `Class.method` and constants."""
    found = set[str]()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            for child in node.body:
                if isinstance(child, ast.FunctionDef):
                    found.add(f"{node.name}.{child.name}")
                if isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
                    found.add(f"{node.name}.{child.target.id}")
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        found.update(target.id for target in targets if isinstance(target, ast.Name))
    return found


def references(document: str) -> list[tuple[str, str]]:
    return REFERENCE.findall((ROOT / document).read_text())


@pytest.mark.parametrize("document", ["docs/paper.md", "docs/metrics.md", "docs/report.md", "README.md"])
def test_what_a_document_names_exists(document: str):
    for file, name in references(document):
        assert (ROOT / file).is_file(), f"{document} names {file}, which is not there"
        assert not name or name in names(ROOT / file), f"{document} names {file}:{name}, which is not defined there"


def test_every_claim_of_the_paper_names_code_and_a_test():
    rows = [line for line in (ROOT / "docs/paper.md").read_text().splitlines() if line.startswith("| ")]
    claims = [row for row in rows if not row.startswith(("| paper", "|---"))]
    assert len(claims) >= 30
    for row in claims:
        files = [file for file, _ in REFERENCE.findall(row)]
        assert any(file.startswith("instructloop/") for file in files), f"no code: {row}"
        assert any(file.startswith("tests/") for file in files), f"no test: {row}"


def test_the_readme_names_only_targets_that_the_makefile_has():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_readme_names_only_verbs_that_the_command_line_has():
    from typer.main import get_command

    from instructloop.cli import app

    verbs = set(get_command(app).commands)
    named = re.findall(r"^instructloop ([\w-]+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert named
    assert set(named) <= verbs


def test_the_readme_gives_verbs_only_options_that_they_have():
    from typer.main import get_command

    from instructloop.cli import app

    commands = get_command(app).commands
    for verb, rest in re.findall(r"^instructloop ([\w-]+)([^#\n]*)", (ROOT / "README.md").read_text(), re.MULTILINE):
        command = commands[verb]
        words = rest.split()
        if words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words[0]]
        known = {option for parameter in command.params for option in parameter.opts}
        unknown = {word.split("=")[0] for word in words if word.startswith("--")} - known
        assert not unknown, f"instructloop {verb}{rest}: no such option"


def test_folders_of_the_tree_exist():
    for path in re.findall(r"^(instructloop/[\w.]*/?)", (ROOT / "README.md").read_text(), re.MULTILINE):
        assert (ROOT / path).exists(), path


def test_the_list_of_metrics_is_that_of_the_code():
    grouped = re.compile(r'"((?:objective|policy|loss|value|completion|rollout|guard|time|perf)/[a-z_]+)"')
    folders = ("train", "core", "stages")
    code = {
        name
        for folder in folders
        for path in (ROOT / "instructloop" / folder).glob("*.py")
        if path.name != "figures.py"
        for name in grouped.findall(path.read_text())
    }
    listed = set(re.findall(r"^\| `([a-z_]+/[a-z_]+)`", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE))
    assert code == listed
