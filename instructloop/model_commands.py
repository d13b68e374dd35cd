"""What `chat`, `score` and `models` do: find a model, load it, hand it what is read; cli reads what is typed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console as Screen
from rich.table import Table
from rich.text import Text

from instructloop.commands import Usage
from instructloop.formats.lines import Row, json_rows
from instructloop.formats.rows import read_rows
from instructloop.models import added
from instructloop.talk.names import find_model, load_policy, load_scorer
from instructloop.talk.terminal import visible

if TYPE_CHECKING:
    from instructloop.models.dialogue import Speaking


def chat(names: list[str], directory: Path | None, speaking: Speaking, *, as_json: bool) -> None:
    """Talk to one policy or to two; in a pipe each line is a prompt by itself."""
    from instructloop.models.dialogue import Dialogue

    found = [find_model(name, directory, "policy") for name in names]
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if as_json and is_terminal:
        raise Usage("--json is for a pipe: echo 'a prompt' | instructloop chat NAME --json")
    from instructloop.talk.chat import pipe, talk

    dialogues = [Dialogue(load_policy(one), speaking) for one in found]
    if is_terminal:
        talk(dialogues)
    else:
        _account(pipe(dialogues, sys.stdin.buffer, as_json=as_json))


def score(name: str, file: str | None, pair: tuple[str | None, str | None], directory: Path | None) -> None:
    """Score the rows of a file or of standard input, or one prompt and completion."""
    prompt, completion = pair
    if (prompt is None) != (completion is None):
        raise Usage("--prompt and --completion belong together")
    if prompt is not None and file is not None:
        raise Usage(f"--prompt and --completion are one row: {file} would have no effect")
    rows = _rows(file) if prompt is None else [Row(1, {"prompt": prompt, "completion": completion})]
    found = find_model(name, directory, "reward model")
    from instructloop.talk.scores import Account, scored

    account = Account()
    for row in scored(load_scorer(found), rows, account):
        print(json.dumps(row), flush=True)
    _account(account.line())
    if prompt is not None and account.refused:
        raise ValueError(next(iter(account.refused)))


def add_model(source: str, name: str | None) -> None:
    """Add a model to this machine and say how it is used."""
    from instructloop.models.bringing import add

    name, entry = add(source, name, lambda line: print(line, flush=True))
    print(f"added {name}: {_size(entry)} {entry.kind} in {entry.folder}")
    print(f"next: instructloop {'chat' if entry.kind == 'policy' else 'score'} {name}")


def list_models() -> None:
    """Print the models that are added."""
    entries = added.read()
    if not entries:
        print("no model is added yet: instructloop models add smollm2 adds a small one")
        return
    table = Table("name", "kind", "parameters", "from", "folder", box=None, pad_edge=False)
    for name, entry in entries.items():
        where = entry.folder if Path(entry.folder).is_dir() else f"{entry.folder} (gone)"
        cells = (name, entry.kind, _size(entry), entry.source, where)
        table.add_row(*(Text(visible(cell), overflow="fold") for cell in cells))
    Screen(highlight=False, width=None if sys.stdout.isatty() else 240).print(table)


def remove_model(name: str) -> None:
    """Forget a model; what was fetched or converted for it is deleted, a folder of the user's is not."""
    folder, is_deleted = added.remove(name)
    print(f"removed {name}; {folder} is {'deleted' if is_deleted else 'left as it is'}")


def _rows(file: str | None) -> Iterable[Row]:
    if file is None or file == "-":
        return json_rows(sys.stdin.buffer)
    return read_rows(file)


def _size(entry: added.Added) -> str:
    number = entry.num_parameters
    return f"{number / 1e9:.2g}B" if number >= 1e9 else f"{number / 1e6:.3g}M"


def _account(line: str) -> None:
    """Say on standard error what became of the rows: standard output is theirs."""
    print(line, file=sys.stderr)
