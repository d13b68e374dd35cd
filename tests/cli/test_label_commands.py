"""`instructloop import` and `instructloop export`: what they say, and how they refuse."""

import json
from pathlib import Path

import pytest

ROWS = [{"question": "q", "chosen": "x", "rejected": "y"}, {"question": "q", "chosen": "x"}]


@pytest.fixture
def labels(call) -> Path:
    call("init")
    path = Path("labels.jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.mark.parametrize("verb", ["import", "export"])
def test_the_help_has_an_example(call, verb: str):
    said = call(verb, "--help")
    assert said.code == 0
    assert f"Example: instructloop {verb}" in said.out


def test_import_says_the_counts_and_export_takes_them_out_again(call, labels: Path):
    said = call("import", str(labels), "--as", "rankings", "--field", "prompt=question")
    assert said.code == 0
    words = " ".join((said.out + said.err).split())
    assert "2 rows of shape pairs read, 1 kept; dropped: 1 rejected is missing; kept beside: nothing" in words
    assert "which rows were dropped, and why: runs/r01-import-labels-" in words
    said = call("export", "import-labels", "--shape", "pairs", "--to", "out.jsonl")
    assert said.code == 0
    assert said.out.startswith("out.jsonl: 1 rows of shape pairs from 1 labels; sha256 ")
    assert json.loads(Path("out.jsonl").read_text()) == {"prompt": "q", "chosen": "x", "rejected": "y"}
    assert Path("out.jsonl.manifest.json").exists()
    again = call("export", "import-labels", "--shape", "pairs", "--to", "out.jsonl")
    assert (again.code, again.err.count("\n")) == (1, 1)
    assert "out.jsonl exists already" in again.err
    assert "import-labels" in call("lineage", "import-labels").out


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["import", "labels.jsonl", "--as", "ranking"], 2, "--as 'ranking' is unknown; did you mean rankings?"),
        (["import", "labels.jsonl", "--as", "rankings", "--shape", "pair"], 2, "did you mean pairs?"),
        (["import", "labels.jsonl", "--as", "rankings", "--cohort", "x"], 2, "--cohort 'x' is unknown"),
        (["import", "labels.jsonl", "--as", "rankings", "--field", "prompt"], 2, "must read ours=theirs"),
        (["import", "labels.jsonl", "--as", "rankings"], 1, "labels.jsonl:1: none of 2 rows can be used"),
        (["import", "labels.jsonl", "--as", "demonstrations"], 1, "rows of shape hh are rankings: --as rankings"),
        (
            ["import", "labels.jsonl", "--as", "demonstrations", "--shape", "pairs"],
            1,
            "shape 'pairs' of demonstrations",
        ),
        (["import", "nothing.jsonl", "--as", "rankings"], 1, "nothing.jsonl does not exist"),
        (["export", "none", "--shape", "pairs", "--to", "a.jsonl"], 1, "no run is called 'none'"),
        (["export", "none", "--shape", "pear", "--to", "a.jsonl"], 2, "--shape 'pear' is unknown"),
    ],
)
def test_bad_usage_and_bad_data_are_one_line(call, labels: Path, arguments: list[str], code: int, error: str):
    said = call(*arguments)
    assert (said.code, said.err.count("\n")) == (code, 1)
    assert error in said.err


def test_an_export_must_fit_the_labels_and_name_a_file_we_write(call, labels: Path):
    call("import", str(labels), "--as", "rankings", "--field", "prompt=question")
    for arguments, error in (
        (["--shape", "messages", "--to", "a.jsonl"], "rankings can be written as pairs, hh, kwise, judgements"),
        (["--shape", "judgements", "--chat", "--to", "a.jsonl"], "--chat has no effect on shape judgements"),
        (["--shape", "pairs", "--to", "a.txt"], "the name must end in one of .jsonl"),
    ):
        said = call("export", "import-labels", *arguments)
        assert said.code == 1
        assert error in said.err
    assert not Path("a.jsonl").exists()
