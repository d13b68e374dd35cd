"""`instructloop backup` and `restore`: what is typed, what is said, and the exit codes."""

import pytest

from instructloop.cli import main
from instructloop.core.records import Prompt
from instructloop.store import Store
from instructloop.workspace import Workspace


def typed(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return int(end.value.code or 0)


@pytest.fixture
def workspace(tmp_path):
    folder = tmp_path / "mine"
    assert typed("init", "--dir", str(folder)) == 0
    with Store.open(folder / "store.sqlite") as store:
        store.add_prompts([Prompt.make("mine", source="labeler", user="u")])
    return folder


def test_a_store_is_copied_and_put_back(workspace, tmp_path, capsys):
    file = str(tmp_path / "monday.sqlite")
    assert typed("backup", file, "--dir", str(workspace)) == 0
    assert f"wrote {file}" in capsys.readouterr().out
    with Store.open(workspace / "store.sqlite") as store:
        store.add_prompts([Prompt.make("later", source="labeler", user="u")])
    assert typed("restore", file, "--dir", str(workspace)) == 0
    assert "store.sqlite.before-restore" in capsys.readouterr().out
    with Store.open(workspace / "store.sqlite") as store:
        assert [prompt.text for prompt in store.prompts()] == ["mine"]


def test_postgresql_is_answered_with_its_own_program(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "people"
    assert typed("init", "--people", "app", "--dir", str(folder)) == 0
    monkeypatch.setenv("DATABASE_URL", "postgresql://ann:secret@host/labels")
    assert Workspace.open(folder).store_place == "postgresql://ann:secret@host/labels"
    assert typed("backup", str(tmp_path / "b"), "--dir", str(folder)) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "pg_dump --format=custom" in said
    assert "secret" not in said
