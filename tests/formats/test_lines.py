"""Text files: one row at a time, whatever stands in them; what is damaged says file and line."""

import gzip
import json
from pathlib import Path

import pytest

from instructloop.formats.lines import Row
from instructloop.formats.rows import read_rows, suffix_of, write_rows


def rows(path: Path, data: bytes) -> list[Row]:
    path.write_bytes(data)
    return [*read_rows(str(path))]


def test_json_lines_keep_their_line_numbers_over_blank_lines(tmp_path: Path):
    found = rows(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"a": 1}\r\n\n  \n{"a": "\xc3\xa9"}')
    assert found == [Row(1, {"a": 1}), Row(4, {"a": "é"})]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"a": "\xff"}', "not UTF-8"),
        (b"{oops", "not JSON"),
        (b'{"a": 1', "not JSON"),
        (b"3", "not a JSON object but a int"),
        (b'{"a": 1, "a": 2}', "a field stands twice"),
        (b'{"a": {"b": 1, "b": 2}}', "a field stands twice"),
        (b'{"a": NaN}', "NaN is no number of JSON"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
    ],
)
def test_a_bad_line_spoils_only_itself(tmp_path: Path, line: bytes, problem: str):
    found = rows(tmp_path / "a.jsonl", b'{"a": 0}\n' + line + b'\n{"a": 9}\n')
    assert found == [Row(1, {"a": 0}), Row(2, problem=problem), Row(3, {"a": 9})]


def test_a_row_of_ten_megabytes_is_read(tmp_path: Path):
    text = "x" * 10_000_000
    assert rows(tmp_path / "a.jsonl", json.dumps({"a": text}).encode()) == [Row(1, {"a": text})]
    assert rows(tmp_path / "a.csv", b"a\n" + text.encode()) == [Row(2, {"a": text})]


def test_csv_cells_may_hold_line_breaks_lists_and_nothing(tmp_path: Path):
    data = b'prompt,ranked,margin,note\n"a, ""b""\nc","[""x"", ""y""]",0.5,\n"[{""role"": ""user""}]",,,3\n[1],,,\n'
    assert rows(tmp_path / "a.csv", data) == [
        Row(2, {"prompt": 'a, "b"\nc', "ranked": ["x", "y"], "margin": 0.5, "note": None}),
        Row(4, {"prompt": [{"role": "user"}], "ranked": None, "margin": None, "note": "3"}),
        Row(5, {"prompt": "[1]", "ranked": None, "margin": None, "note": None}),
    ]


def test_tabs_part_the_cells_of_a_tsv_and_the_index_of_pandas_has_a_name(tmp_path: Path):
    assert rows(tmp_path / "a.tsv", b"\ta,b\n0\tx,y\n") == [Row(2, {"unnamed": "0", "a,b": "x,y"})]


def test_a_csv_row_that_is_torn_or_not_utf8_spoils_only_itself(tmp_path: Path):
    assert rows(tmp_path / "a.csv", b"a,b\n1\n\n1,2,3\n\xff,2\n1,2\n") == [
        Row(2, problem="more or fewer cells than columns"),
        Row(4, problem="more or fewer cells than columns"),
        Row(5, problem="a is not UTF-8"),
        Row(6, {"a": "1", "b": "2"}),
    ]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", b"a,b,a\n1,2,3\n", r"a.csv: column 'a' stands twice; the columns are a, b, a"),
        ("a.csv", b'a,b\n1,"2\n', r"a.csv:2: not readable as CSV \(unexpected end of data\)"),
        ("a.jsonl", b'[\n{"a": 1}\n]', r"a.jsonl: a JSON array; JSON Lines have one object a line"),
        ("a.jsonl", '{"a": 1}'.encode("utf-16"), r"a.jsonl: UTF-16 text; save it as UTF-8"),
        ("a.jsonl", b"PAR1....", r"a.jsonl: a Parquet or zip file under the name of .jsonl"),
        ("a.jsonl", gzip.compress(b"{}", mtime=0), r"a.jsonl: a gzip file under the name of .jsonl"),
        ("a.jsonl.gz", b"{}", r"a.jsonl.gz: the gzip file is damaged after line 0 \(Not a gzipped file"),
        ("a.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 9, mtime=0)[:-9], r"a.jsonl.gz: the gzip file is damaged"),
        ("a.txt", b"a", r"a.txt: the name must end in one of .jsonl, .ndjson, .csv, .tsv, .parquet"),
    ],
)
def test_a_file_that_is_damaged_as_a_whole_is_refused_by_name(tmp_path: Path, name: str, data: bytes, message: str):
    with pytest.raises(ValueError, match=message):
        rows(tmp_path / name, data)


def test_what_is_not_there_or_has_no_splits_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"nothing.jsonl does not exist"):
        [*read_rows(str(tmp_path / "nothing.jsonl"))]
    (tmp_path / "a.csv").touch()
    with pytest.raises(ValueError, match=r"--split dev has no effect"):
        [*read_rows(str(tmp_path / "a.csv"), "dev")]
    with pytest.raises(ValueError, match=r"must end in"):
        suffix_of(tmp_path / "a.parquet.gz")


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson.gz", "a.csv", "a.tsv.gz"])
def test_what_is_written_is_read_again_and_has_the_same_bytes(tmp_path: Path, name: str):
    wanted = [{"prompt": 'a\r\n"b"\t,', "ranked": ["é", " "]}, {"prompt": "[{\rx", "ranked": [{"x": None}]}]
    write_rows(tmp_path / name, wanted)
    assert [row.fields for row in read_rows(str(tmp_path / name))] == wanted
    before = (tmp_path / name).read_bytes()
    write_rows(tmp_path / name, wanted)
    assert (tmp_path / name).read_bytes() == before
