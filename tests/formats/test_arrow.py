"""Parquet files and `datasets`, as other programs write them; without their packages we say what to install."""

import sys
from pathlib import Path

import pytest

from instructloop.formats.lines import Row
from instructloop.formats.rows import read_rows, write_rows

FIELDS = [{"prompt": "p", "ranked": ["a", "b"], "rank": 1}, {"prompt": None, "ranked": [], "rank": 2}]


@pytest.fixture
def arrow():
    return pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra data)")


@pytest.fixture
def parquet(arrow):
    import pyarrow.parquet

    return pyarrow.parquet


def rows(path: Path, split: str | None = None) -> list[Row]:
    return [*read_rows(str(path), split)]


def test_a_file_of_pyarrow_is_read_with_its_rows_numbered(tmp_path: Path, arrow, parquet):
    parquet.write_table(arrow.Table.from_pylist(FIELDS * 200), tmp_path / "a.parquet")
    assert rows(tmp_path / "a.parquet") == [Row(i + 1, FIELDS[i % 2]) for i in range(400)]


def test_messages_lose_the_empty_fields_that_a_struct_adds(tmp_path: Path, arrow, parquet):
    talk = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "name": "x"}]
    parquet.write_table(arrow.Table.from_pylist([{"messages": talk}]), tmp_path / "a.parquet")
    assert rows(tmp_path / "a.parquet") == [Row(1, {"messages": talk})]


def test_bytes_that_are_no_text_spoil_only_their_row(tmp_path: Path, arrow, parquet):
    column = arrow.Array.from_buffers(
        arrow.string(), 3, [None, arrow.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0"), arrow.py_buffer(b"a\xffb")]
    )
    table = arrow.table({"text": column, "raw": arrow.array([b"x", b"y", b"\xff"]), "number": [1.0, 2.0, float("nan")]})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert rows(tmp_path / "a.parquet") == [
        Row(1, {"text": "a", "raw": "x", "number": 1.0}),
        Row(2, problem="not UTF-8"),
        Row(3, problem="raw is not UTF-8"),
    ]


def test_a_column_that_stands_twice_and_a_torn_file_are_refused(tmp_path: Path, arrow, parquet):
    twice = arrow.Table.from_arrays([arrow.array([1]), arrow.array([2])], names=["a", "a"])
    parquet.write_table(twice, tmp_path / "twice.parquet")
    with pytest.raises(ValueError, match=r"twice.parquet: column 'a' stands twice"):
        rows(tmp_path / "twice.parquet")
    (tmp_path / "torn.parquet").write_bytes((tmp_path / "twice.parquet").read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"torn.parquet: not readable as Parquet after row 0"):
        rows(tmp_path / "torn.parquet")


def test_what_is_written_pyarrow_and_we_read(tmp_path: Path, parquet):
    write_rows(tmp_path / "a.parquet", FIELDS)
    assert parquet.read_table(tmp_path / "a.parquet").to_pylist() == FIELDS
    assert [row.fields for row in rows(tmp_path / "a.parquet")] == FIELDS


def test_columns_of_mixed_types_are_refused_and_leave_no_file(tmp_path: Path, arrow):
    with pytest.raises(ValueError, match="a column holds values of different types"):
        write_rows(tmp_path / "a.parquet", [{"a": 1}, {"a": "x"}])
    assert [*tmp_path.iterdir()] == []


def test_a_saved_data_set_is_read_by_split(tmp_path: Path):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed (extra data)")
    whole = datasets.Dataset.from_list(FIELDS)
    whole.save_to_disk(tmp_path / "one")
    assert rows(tmp_path / "one") == [Row(1, FIELDS[0]), Row(2, FIELDS[1])]
    datasets.DatasetDict({"train": whole, "dev": whole.select([1])}).save_to_disk(tmp_path / "two")
    assert rows(tmp_path / "two", "dev") == [Row(1, FIELDS[1])]
    with pytest.raises(ValueError, match=r"--split must name one of train, dev"):
        rows(tmp_path / "two")
    with pytest.raises(ValueError, match=r"has no splits, so --split dev"):
        rows(tmp_path / "one", "dev")
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"none: no data set can be loaded"):
        rows(tmp_path / "none")


@pytest.mark.parametrize(("name", "package"), [("a.parquet", "pyarrow"), ("some/name", "datasets")])
def test_without_the_package_a_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.parquet").touch()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf"needs the package {package}: pip install 'instructloop\[data\]'"):
        [*read_rows(name)]
