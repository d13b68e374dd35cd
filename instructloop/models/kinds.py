"""What kind of model a folder holds, read from its configuration; nothing is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

Kind = Literal["policy", "reward model"]


def kind_of(folder: Path) -> Kind:
    """Return what `config.json` says; ValueError where there is none.

    A configuration that names no architecture is taken for a policy's, as transformers' auto classes do.
    """
    names = configuration(folder).get("architectures") or []
    return "reward model" if any("Classification" in str(name) for name in names) else "policy"


def configuration(folder: Path) -> dict[str, Any]:
    """Return `config.json` of a model folder; ValueError names what is wrong with it."""
    file = folder / "config.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{folder} is no model folder: it has no config.json") from None
    except ValueError as error:
        raise ValueError(f"{file} is not JSON ({error})") from None
    if not isinstance(found, dict):
        raise ValueError(f"{file} must be a JSON object")
    return found
