"""Tables: the document is what the script makes of the committed results, and says nothing else."""

import json
from pathlib import Path

import pytest

from benchmarks.tables import DOCUMENTS, TABLES, rendered


def test_the_document_is_what_the_committed_results_make():
    documents = [document.read_text() for document in DOCUMENTS]
    for document in documents:
        assert rendered(document) == document, "python -m benchmarks.tables makes the tables anew"
    for name in TABLES:
        assert f"<!-- table {name} -->" in "".join(documents)


def test_a_table_takes_the_newest_result_and_leaves_the_text_alone(tmp_path: Path):
    arm = {"median": 8.0, "peak_mebibytes": 100}
    for day, median in ((1, 1.0), (2, 2.0)):
        found = {
            "arms": {"trl --precision float32": arm, "instructloop --precision bfloat16": arm | {"median": median}},
            "of": ["trl --precision float32", "instructloop --precision bfloat16"],
            "times_as_fast": {"median": 8 / median, "min": 1.0, "max": 9.0},
        }
        on = {"processor": "P", "cores": 2, "memory_gibibytes": 4, "python": "3.11"}
        made = {"torch": "2", "transformers": "5", "instructloop": "0 abc"}
        content = {"date": f"2026-01-0{day}T00:00:00+00:00", "machine": on, "versions": made, "found": found}
        (tmp_path / f"peers-ppo-natural-2026-01-0{day}-0000.json").write_text(json.dumps(content))
    text = "before\n<!-- table peers -->\nold\n<!-- end -->\nafter"
    made = rendered(text, tmp_path)
    assert "| 8 | float32 |  | 2 | bfloat16 | 4.00 (1.00 to 9.00) |  | 5 | 100 / 100 |" in made
    assert made.startswith("before\n<!-- table peers -->\n|")
    assert made.endswith("<!-- end -->\nafter")
    assert "old" not in made
    assert rendered(made, tmp_path) == made


def test_a_table_that_nobody_makes_is_refused():
    with pytest.raises(ValueError, match="no table is called nonsense"):
        rendered("<!-- table nonsense -->\n<!-- end -->")
