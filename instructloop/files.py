"""Files that are whole or not there: canonical JSON, atomic writing, hashes, the lock of a folder."""
# pyright: strict

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

LARGE_BYTES = 1 << 20  # files from here on are hashed once per process while inode, size and mtime stay

_locks: dict[Path, int] = {}  # folder -> descriptor of the lock that this process holds
_hashes: dict[tuple[str, int, int, int], str] = {}  # (path, inode, size, mtime_ns) -> sha256


def canonical_json(value: Any) -> str:
    """Return JSON with sorted keys and no spaces: equal values, equal text; ValueError for NaN and what is no JSON."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"cannot be written as JSON: {error}") from error


def write_atomic(path: Path, data: str | bytes) -> None:
    """Write a file that after any crash is the old one or the new one, whole; OSError names it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with naming(path), temporary.open("wb") as stream:
            stream.write(data.encode() if isinstance(data, str) else data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync(path.parent)


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as JSON lines, atomically; equal rows give equal bytes."""
    write_atomic(path, "".join(canonical_json(dict(row)) + "\n" for row in rows))


def read_jsonl(path: Path, *, keep_torn_end: bool = True) -> list[dict[str, Any]]:
    """Return the rows of a file of JSON objects, one a line; ValueError names file, line and what is wrong.

    With `keep_torn_end` False a last line without its line break, torn by a crash while appending, is left out.
    """
    lines = path.read_bytes().split(b"\n")
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines if keep_torn_end else lines[:-1], start=1):
        if not line.strip():
            continue
        try:
            row: Any = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: not JSON ({error})") from error
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number}: must be a JSON object, not {type(row).__name__}")
        rows.append(cast(dict[str, Any], row))
    return rows


@contextmanager
def naming(path: Path) -> Generator[None]:
    """Give an error of the disk from inside (a full one knows no file) the name of the file, as an OSError.

    safetensors and tokenizers raise errors of their own, whose text ends as Rust writes it: `(os error 28)`.
    """
    try:
        yield
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else _rust_errno(str(error))
        if number is None:
            raise
        where = error.filename if isinstance(error, OSError) and error.filename else str(path)
        raise OSError(number, f"{os.strerror(number)} while writing", where) from error


def _rust_errno(text: str) -> int | None:
    found = re.search(r"\(os error (\d+)\)", text)
    return int(found[1]) if found else None


def sweep(folder: Path) -> None:
    """Delete what killed processes left half-written in a folder; the caller holds its lock."""
    for path in folder.glob(".*.tmp"):
        path.unlink()


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Wait until every file below a folder is on the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            sync(path)


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes; a large file is read again only when inode, size or mtime changed."""
    stat = path.stat()
    key = (str(path.resolve()), stat.st_ino, stat.st_size, stat.st_mtime_ns)
    if key in _hashes:
        return _hashes[key]
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if stat.st_size >= LARGE_BYTES:
        _hashes[key] = digest
    return digest


def hash_files(folder: Path, name: str) -> dict[str, str]:
    """Return path under `folder` -> SHA-256 of the file `name`, or of every file below the folder `name`."""
    path = folder / name
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path] if path.is_file() else []
    return {file.relative_to(folder).as_posix(): hash_file(file) for file in files}


def hash_tree(name: str, files: Mapping[str, str]) -> str:
    """Return the SHA-256 of output `name` out of `files`: of a file its own, of a folder that over paths and hashes."""
    if name in files:
        return files[name]
    inside = {path.removeprefix(f"{name}/"): sha for path, sha in files.items() if path.startswith(f"{name}/")}
    return hashlib.sha256("".join(f"{path}\0{inside[path]}\n" for path in sorted(inside)).encode()).hexdigest()


def hash_path(path: Path) -> str:
    """Return the SHA-256 of a file or of a folder's tree; ValueError when there is nothing to hash."""
    files = hash_files(path.parent, path.name)
    if not files:
        raise ValueError(f"{path} does not exist or is an empty folder")
    return hash_tree(path.name, files)


def lock(folder: Path) -> None:
    """Lock a folder for this process until `unlock` or its end; ValueError naming the process that holds it.

    The kernel keeps the lock, so that of a dead process is gone. The process that has it may take it again.
    """
    _release(folder)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    for attempt in range(4):  # `owner` of another process tries the lock for an instant
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if attempt == 3:
                holder = os.pread(descriptor, 32, 0).decode().strip() or "unknown"
                os.close(descriptor)
                raise ValueError(f"{folder.name} is already running by pid {holder}") from None
            time.sleep(0.05)
    _locks[folder.resolve()] = descriptor
    with naming(folder / "lock"):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


def unlock(folder: Path) -> None:
    """Give the lock of a folder back."""
    (folder / "lock").unlink(missing_ok=True)
    _release(folder)


def owner(folder: Path) -> int | None:
    """Return the process that holds the lock of a folder; None when none does."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.pread(descriptor, 32, 0) or b"0")
    finally:
        os.close(descriptor)
    return None


def _release(folder: Path) -> None:
    descriptor = _locks.pop(folder.resolve(), None)
    if descriptor is not None:
        os.close(descriptor)
