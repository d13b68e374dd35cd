"""The model card: README.md with YAML front matter, beside every saved model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml


def write_card(
    folder: Path, *, task: str, about: str, tags: Sequence[str], library: str = "transformers", base: str = ""
) -> None:
    """Write `folder`/README.md; `task` is the hub's pipeline tag, `about` the body, `base` an adapter's own."""
    front = {"library_name": library, "pipeline_tag": task, "tags": ["instructloop", *tags]}
    front |= {"base_model": base} if base else {}
    body = about.strip() or "A model made by instructloop."
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n{body}\n", encoding="utf-8")
