"""The map of docs/correctness.md is whole: each pitfall and golden test once, with code and tests that exist."""

import re
from pathlib import Path

import pytest

from tests.test_docs import REFERENCE, ROOT, names

MAP = (ROOT / "docs/correctness.md").read_text()
ROWS = [*(str(number) for number in range(1, 41)), *"abcd"]


def rows_of(document: str) -> list[list[str]]:
    """Return the cells of each row: its number or letter, the defect, what we do, the tests."""
    lines = re.findall(r"^\| (?:\d+|[a-d]) \|.*\|$", document, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def complaints(document: str) -> list[str]:
    """Return what is wrong with a map, row by row; nothing where it tells the truth."""
    rows = rows_of(document)
    found = [] if [row[0] for row in rows] == ROWS else [f"rows {', '.join(row[0] for row in rows)}"]
    for row in rows:
        if len(row) != 4 or not all(row):
            found.append(f"row {row[0]} has not four cells")
            continue
        for cell, folder, prefix in ((row[2], "instructloop/", ""), (row[3], "tests/", "test_")):
            named: list[tuple[str, str]] = REFERENCE.findall(cell)
            found += [] if named else [f"row {row[0]} names nothing in {folder}"]
            found += [] if cell.count("`") == 2 * len(named) else [f"row {row[0]} names what cannot be looked up"]
            found += [
                f"row {row[0]}: there is no {file}:{name}"
                for file, name in named
                if not file.startswith(folder)
                or not all(one.startswith(prefix) for one in (name, Path(file).name))  # what pytest collects
                or not is_there(file, name)
            ]
    return found


def is_there(file: str, name: str) -> bool:
    return (ROOT / file).is_file() and name in names(ROOT / file)


def test_every_pitfall_and_golden_test_names_code_and_tests_that_exist():
    assert complaints(MAP) == []


@pytest.mark.parametrize(
    ("pattern", "instead", "complaint"),
    [
        (r"^\| 17 \|.*\n", "", "rows 1, 2"),
        (r"^(\| 17 \|.*\n)", r"\1\1", "rows 1, 2"),
        (r"^\| b \|", "| e |", "rows 1, 2"),
        (r"test_lam_0_gives_the_one_step_error", "test_lam_0_gives_something", "row d: there is no tests/core"),
        (r"core/returns.py:gae`,", "core/returns.py:gea`,", "row a: there is no instructloop/core/returns.py:gea"),
        (r"train/checkpoint.py:Checkpoints", "train/checkpoints.py:Checkpoints", "row 37: there is no"),
        (r":test_a_large_penalty_is_not_clipped`", "`", "row 22: there is no tests/core/test_returns.py:"),
        (r"`tests/core/test_returns.py:test_a_large_penalty_is_not_clipped`", "none", "row 22 names nothing in tests/"),
        (
            r"test_ranked\.py:test_only_the_last_real",
            "small.py:actors`, `tests/train/test_ranked.py:test_only_the_last_real",
            "row 31",
        ),
        (r"^\| 40 \|[^|]*\|", "| 40 | |", "row 40 has not four cells"),
    ],
)
def test_a_map_that_does_not_tell_the_truth_is_seen(pattern: str, instead: str, complaint: str):
    changed = re.sub(pattern, instead, MAP, count=1, flags=re.MULTILINE)
    assert changed != MAP
    assert any(found.startswith(complaint) for found in complaints(changed))
