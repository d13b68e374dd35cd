"""Rows of Parquet files and of `datasets`, saved folders or names on the hub; extra `data` brings the packages."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from instructloop.formats.given import Unfit
from instructloop.formats.lines import Row, check_columns

ROWS_AT_ONCE = 256


def read_parquet(path: Path) -> Iterator[Row]:
    """Yield the rows of a Parquet file, numbered from 1; ValueError naming the file when it cannot be read."""
    arrow, parquet = _package("pyarrow", "Parquet"), _package("pyarrow.parquet", "Parquet")
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            check_columns(list(file.schema_arrow.names), path)
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE):
                yield from _batch_rows(batch, number)
                number += batch.num_rows
    except (arrow.ArrowException, OSError) as error:
        raise ValueError(f"{path}: not readable as Parquet after row {number} ({_first_line(error)})") from None


def _batch_rows(batch: Any, before: int) -> Iterator[Row]:
    """Yield the rows of a batch; text that is not UTF-8 spoils its own row alone."""
    for place in range(batch.num_rows):
        try:
            [fields] = batch.slice(place, 1).to_pylist()
        except UnicodeDecodeError:
            yield Row(before + place + 1, problem="not UTF-8")
        else:
            yield _row(before + place + 1, fields)


def read_dataset(source: str, split: str | None) -> Iterator[Row]:
    """Yield the rows of a `datasets` folder or of a name on the hub; ValueError says which splits there are."""
    datasets = _package("datasets", "a data set")
    try:
        found = datasets.load_from_disk(source) if Path(source).is_dir() else datasets.load_dataset(source)
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"{source}: no data set can be loaded ({_first_line(error)})") from None
    if isinstance(found, Mapping):
        splits = cast(Mapping[str, Any], found)
        name = split or (next(iter(splits)) if len(splits) == 1 else "")
        if name not in splits:
            raise ValueError(f"{source}: --split must name one of {', '.join(splits)}")
        found = splits[name]
    elif split is not None:
        raise ValueError(f"{source} has no splits, so --split {split} has no effect")
    check_columns(list(found.column_names), Path(source))
    for number, fields in enumerate(found, start=1):
        yield _row(number, fields)


def write_parquet(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as a Parquet file; a field that a row does not have is null."""
    arrow, parquet = _package("pyarrow", "Parquet"), _package("pyarrow.parquet", "Parquet")
    every = [dict(row) for row in rows]
    names = [*dict.fromkeys(name for row in every for name in row)]
    beside = path.with_name(f".{path.name}.part")
    try:
        table = arrow.table({name: [row.get(name) for row in every] for name in names})
        parquet.write_table(table, beside)
        beside.replace(path)
    except arrow.ArrowException as error:
        raise ValueError(
            f"{path}: a column holds values of different types ({_first_line(error)}); write JSONL"
        ) from None
    finally:
        beside.unlink(missing_ok=True)


def _row(number: int, fields: Mapping[str, Any]) -> Row:
    try:
        return Row(number, {name: _plain(value, name) for name, value in fields.items()})
    except Unfit as error:
        return Row(number, problem=str(error))


def _plain(value: Any, name: str) -> Any:
    """Return a value as JSON holds it: bytes as text, times as their words; absent fields of structs left out."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise Unfit(f"{name} is not UTF-8") from None
    if isinstance(value, Mapping):
        inside = cast(Mapping[str, Any], value)
        return {key: _plain(one, name) for key, one in inside.items() if one is not None}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(one, name) for one in cast(Sequence[Any], value)]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)


def _package(name: str, what: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ValueError(f"{what} needs the package {name.split('.')[0]}: pip install 'instructloop[data]'") from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
