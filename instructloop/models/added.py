"""Models added to this machine under a name: which folder each is, and where it came from; nothing is loaded."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from instructloop.files import write_atomic
from instructloop.manifest import NAME
from instructloop.models.kinds import Kind


class Added(BaseModel):
    """One model: `source` is what was added, `sha256` that of its one file where it was converted from one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: str
    kind: Kind
    source: str
    origin: Literal["folder", "converted", "hub"]  # a folder stays where its owner has it, others lie in our cache
    num_parameters: int
    sha256: str | None = None


_Entries = TypeAdapter(dict[str, Added])


def home() -> Path:
    """Return our folder in the user's cache: $INSTRUCTLOOP_HOME, else instructloop/ in $XDG_CACHE_HOME or ~/.cache."""
    if own := os.environ.get("INSTRUCTLOOP_HOME"):
        return Path(own)
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    # A relative path there is to be ignored, says the XDG base directory specification.
    return (Path(xdg) if os.path.isabs(xdg) else Path.home() / ".cache") / "instructloop"


def read() -> dict[str, Added]:
    """Return every added model by name; ValueError when the list is damaged."""
    file = home() / "models.json"
    try:
        return _Entries.validate_json(file.read_bytes())
    except FileNotFoundError:
        return {}
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{file} cannot be read: {where} {first['msg']}; delete it, add models again") from None


def folder(name: str) -> Path:
    """Return where an added model lies; ValueError when there is none of this name or its folder is gone."""
    entries = read()
    if name not in entries:
        raise ValueError(f"no model is added under the name {name!r}; there are {', '.join(entries) or 'none'}")
    path = Path(entries[name].folder)
    if not path.is_dir():
        raise ValueError(f"{name}: {path} is gone; `instructloop models remove {name}` forgets it")
    return path


def put(name: str, entry: Added) -> None:
    """Remember a model under a name that is free."""
    require_free(name)
    _write({**read(), name: entry})


def require_free(name: str) -> None:
    """Raise ValueError for a name that is taken or is none."""
    if not NAME.fullmatch(name):
        raise ValueError(f"name {name!r} must be lower-case letters, digits, _ . or -; --as gives another")
    if name in read():
        raise ValueError(f"{name} is added already; `instructloop models remove {name}` first, or --as another name")


def remove(name: str) -> tuple[Path, bool]:
    """Forget a model; return its folder and whether it was deleted: one that we made is, one of the user's never."""
    entries = read()
    if name not in entries:
        folder(name)
    entry = entries.pop(name)
    _write(entries)
    path = Path(entry.folder)
    is_ours = entry.origin != "folder" and path.parent == home().absolute() / "models"
    if is_ours:
        shutil.rmtree(path, ignore_errors=True)
    return path, is_ours


def _write(entries: dict[str, Added]) -> None:
    home().mkdir(parents=True, exist_ok=True)
    write_atomic(home() / "models.json", _Entries.dump_json(dict(sorted(entries.items())), indent=1) + b"\n")
