"""Exports of 20,000 judgements take no more memory than those of a thousand: rows come from a cursor, one by one."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import pytest

from instructloop.core.records import Prompt
from instructloop.store import Store
from instructloop.store.rows import ImportedRanking

NOW = datetime(2026, 3, 1, tzinfo=UTC)
NUM_SMALL, NUM_LARGE = 1_000, 20_000
MEASURE = """
import json, resource, sys
from datetime import UTC, datetime
from pathlib import Path
from instructloop.store import Store, export
from instructloop.store.reports import ExportOptions
folder, kind, task_set, file_format = Path(sys.argv[1]), *sys.argv[2:]
options = ExportOptions(format=file_format, task_sets=(task_set,))
with Store.open(folder / "store.db") as store:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    done = export(store, kind, folder / "out", options=options, now=datetime(2026, 3, 1, tzinfo=UTC))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"rows": done.manifest["num_rows"], "bytes": done.manifest["num_bytes"], "grown": after - before}))
"""


def rankings(number: int):
    """Yield rankings of three completions of 700 characters each: 20,000 of them are 45 MB."""
    for i in range(number):
        prompt = Prompt.make(f"prompt {i} of {number}", source="import:bulk", user=f"u{i}", split="train")
        yield ImportedRanking(prompt, [f"{k} {i} " + "word " * 140 for k in range(3)], [[1], [0, 2]], ratings=[4, 5, 4])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bulk")
    with Store.open(folder / "store.db") as store:
        for name, number in (("small", NUM_SMALL), ("large", NUM_LARGE)):
            rows = rankings(number)
            while part := list(islice(rows, 2_000)):
                how = {"origin": "import:bulk", "labeler": "bulk", "cohort": "train", "now": NOW, "task_set": name}
                store.import_rankings(part, **how)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("kind", "file_format"), [("judgements", "jsonl"), ("rankings", "csv"), ("pairs", "jsonl")])
def test_memory_does_not_grow_with_the_number_of_judgements(folder, kind, file_format):
    grown, sizes = {}, {}
    for name in ("small", "large"):
        command = [sys.executable, "-c", MEASURE, str(folder), kind, name, file_format]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        said = json.loads(done.stdout)
        grown[name], sizes[name] = said["grown"], said["bytes"]
        rows = {"small": NUM_SMALL, "large": NUM_LARGE}[name]
        assert said["rows"] == (2 * rows if kind == "pairs" else rows)  # 1 > 0 and 1 > 2
    assert sizes["large"] > 30e6
    # In KiB. Holding the file would take 30 MB at least; SQLite's own cache of pages is 2 MB.
    assert grown["large"] - grown["small"] < 8 * 1024, grown
