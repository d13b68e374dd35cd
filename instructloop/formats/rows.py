"""Where rows come from and go to: the kind of file follows from its name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from instructloop.formats.arrow import read_dataset, read_parquet, write_parquet
from instructloop.formats.lines import TEXT_SUFFIXES, Row, read_text_rows, write_text_rows

SUFFIXES = (*TEXT_SUFFIXES, ".parquet")
_HUB_NAME = re.compile(r"[\w-]+/[\w.-]+")


def suffix_of(path: Path) -> str:
    """Return what kind of file a name says, `.gz` aside; ValueError for one that is neither read nor written."""
    suffixes = [part.lower() for part in path.suffixes if part.lower() != ".gz"]
    found = suffixes[-1] if suffixes else ""
    if found not in SUFFIXES or (found == ".parquet" and path.suffix == ".gz"):
        raise ValueError(f"{path}: the name must end in one of {', '.join(SUFFIXES)}, text also in .gz after it")
    return found


def read_rows(source: str, split: str | None = None) -> Iterator[Row]:
    """Yield the rows of a file, of a `datasets` folder, or of a data set on the hub; ValueError names what is wrong."""
    path = Path(source)
    if path.is_dir() or (not path.exists() and _HUB_NAME.fullmatch(source) and not _has_suffix(path)):
        yield from read_dataset(source, split)
        return
    if not path.exists():
        raise ValueError(f"{path} does not exist")
    if split is not None:
        raise ValueError(f"{path} is one file, so --split {split} has no effect")
    suffix = suffix_of(path)
    yield from read_parquet(path) if suffix == ".parquet" else read_text_rows(path, suffix)


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as the kind of file that the name says, whole or not at all."""
    suffix = suffix_of(path)
    if suffix == ".parquet":
        write_parquet(path, rows)
    else:
        write_text_rows(path, rows, suffix)


def _has_suffix(path: Path) -> bool:
    return any(part.lower() in SUFFIXES for part in path.suffixes)
