"""Rows of text files, JSON Lines and CSV, gzipped or not: read one at a time, written whole, byte for byte the same.

CSV knows only text: a cell is JSON where a field needs a list or a number, an empty cell a field that is not there.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import sys
import zlib
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from instructloop.files import canonical_json, write_atomic
from instructloop.formats.given import Unfit

TEXT_SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv")
LISTS = ("messages", "conversations", "completions", "ranked", "votes", "tiers", "ratings", "flags", "shown")
TALKS = ("prompt", "context", "completion", "chosen", "rejected")  # text, or messages as JSON
NUMBERS = ("margin", "confidence", "chosen_rating", "rejected_rating")
_SURROGATE = re.compile("[\udc80-\udcff]")  # what a byte that is not UTF-8 is read as


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its number, the line of a text file where it begins, and its fields, or why it cannot be read."""

    number: int
    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    problem: str = ""


def read_text_rows(path: Path, suffix: str) -> Iterator[Row]:
    """Yield the rows of a JSON Lines or CSV file; ValueError when it is damaged as a whole, naming file and line."""
    number = 0
    try:
        with _opened(path) as stream:
            start = stream.peek(64) if isinstance(stream, gzip.GzipFile | io.BufferedReader) else b""
            _check_start(start, path, suffix)
            delimiter = {".csv": ",", ".tsv": "\t"}.get(suffix)
            for row in _csv_rows(stream, delimiter, path) if delimiter else json_rows(stream):
                number = row.number
                yield row
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: the gzip file is damaged after line {number} ({error})") from None


@contextmanager
def _opened(path: Path) -> Generator[IO[bytes]]:
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
        yield cast(IO[bytes], stream)


def _check_start(start: bytes, path: Path, suffix: str) -> None:
    """Refuse what its first bytes show not to be lines of UTF-8."""
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"{path}: UTF-16 text; save it as UTF-8")
    if start.startswith((b"PAR1", b"\x1f\x8b", b"PK\x03\x04")):
        kind = {b"P": "Parquet or zip", b"\x1f": "gzip"}[start[:1]]
        raise ValueError(f"{path}: a {kind} file under the name of {suffix}; name it for what it is")
    if suffix in (".jsonl", ".ndjson") and start.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"["):
        raise ValueError(f"{path}: a JSON array; JSON Lines have one object a line (jq -c '.[]' makes them)")


def json_rows(stream: Iterable[bytes]) -> Iterator[Row]:
    """Yield the rows of JSON Lines as they come; a blank line is none."""
    for number, line in enumerate(stream, start=1):
        raw = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if raw.strip():
            yield _json_row(number, raw)


def _json_row(number: int, line: bytes) -> Row:
    try:
        found: Any = json.loads(line.decode(), object_pairs_hook=_object, parse_constant=_constant)
    except UnicodeDecodeError:
        return Row(number, problem="not UTF-8")
    except Unfit as error:
        return Row(number, problem=str(error))
    except RecursionError:
        return Row(number, problem="nested too deep")
    except ValueError:
        return Row(number, problem="not JSON")
    if not isinstance(found, dict):
        return Row(number, problem=f"not a JSON object but a {type(found).__name__}")
    return Row(number, cast(dict[str, Any], found))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Unfit("a field stands twice")
    return found


def _constant(name: str) -> None:
    raise Unfit(f"{name} is no number of JSON")


def _csv_rows(stream: IO[bytes], delimiter: str, path: Path) -> Iterator[Row]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    header: list[str] = []
    begins = 1
    try:
        for cells in reader:
            number, begins = begins, reader.line_num + 1
            if not cells:
                continue
            if not header:
                header = [name or "unnamed" for name in cells]  # pandas writes its index under no name
                check_columns(header, path)
            else:
                yield _csv_row(number, header, cells)
    except csv.Error as error:
        raise ValueError(f"{path}:{begins}: not readable as CSV ({error})") from None


def check_columns(columns: list[str], path: Path) -> None:
    """Refuse a column that stands twice."""
    if twice := sorted({name for name in columns if columns.count(name) > 1}):
        raise ValueError(f"{path}: column {twice[0]!r} stands twice; the columns are {', '.join(columns)}")


def _csv_row(number: int, header: list[str], cells: list[str]) -> Row:
    if len(cells) != len(header):
        return Row(number, problem="more or fewer cells than columns")
    try:
        return Row(number, {name: _cell(name, text) for name, text in zip(header, cells, strict=True)})
    except Unfit as error:
        return Row(number, problem=str(error))


def _cell(name: str, text: str) -> Any:
    if _SURROGATE.search(text):
        raise Unfit(f"{name} is not UTF-8")
    if not text:
        return None
    is_talk = name in TALKS and text.lstrip().startswith("[{")
    if not (name in LISTS or name in NUMBERS or is_talk):
        return text
    try:
        found: Any = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except (ValueError, RecursionError):
        return text
    return found if not is_talk or all(isinstance(one, dict) and "role" in one for one in found) else text


def text_bytes(rows: Iterable[Mapping[str, Any]], suffix: str) -> bytes:
    """Return rows as a file of this suffix; equal rows give equal bytes."""
    if suffix in (".jsonl", ".ndjson"):
        return "".join(canonical_json(dict(row)) + "\n" for row in rows).encode()
    every = [dict(row) for row in rows]
    columns = [*dict.fromkeys(name for row in every for name in row)]
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter="\t" if suffix == ".tsv" else ",", lineterminator="\r\n")
    writer.writerow(columns)
    for row in every:
        cells = [row.get(name) for name in columns]
        writer.writerow(["" if one is None else one if isinstance(one, str) else canonical_json(one) for one in cells])
    return text.getvalue().encode()


def write_text_rows(path: Path, rows: Iterable[Mapping[str, Any]], suffix: str) -> None:
    """Write rows as JSON Lines or CSV, gzipped under a name in .gz: the old file or the new one is there, whole."""
    data = text_bytes(rows, suffix)
    write_atomic(path, gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
