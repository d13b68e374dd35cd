"""A name means one model: of the workspace, of this machine, or a folder."""

from pathlib import Path

import pytest

from instructloop.models import added
from instructloop.models.lm import save_lm
from instructloop.runs import Run
from instructloop.talk.names import find_model
from tests.tiny import tiny_lm


def run_of(loop: Path, name: str) -> Run:
    return Run.find(loop / "runs", name)


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("INSTRUCTLOOP_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def test_published_names_run_names_ids_and_folders_mean_a_policy(loop: Path):
    sft, ppo = run_of(loop, "sft"), run_of(loop, "ppo")
    for name, run in [("sft", sft), (sft.id, sft), (sft.id[-8:], sft), ("best", ppo)]:
        found = find_model(name, loop, "policy")
        assert (found.name, found.folder, found.prefix) == (name, run.file("model"), "")
    assert find_model(str(sft.file("model")), None, "policy").folder == sft.file("model")
    assert find_model(str(sft.path), None, "policy").folder == sft.file("model")


def test_a_prompted_policy_brings_its_prefix(loop: Path):
    found = find_model("prompted", loop, "policy")
    assert (found.folder, found.prefix) == (run_of(loop, "sft").file("model"), "Q: a\nA: b\n")


def test_an_added_model_is_known_by_its_name_but_the_workspace_comes_first(loop: Path, tmp_path: Path):
    save_lm(*tiny_lm(), tmp_path / "own")
    entry = {"folder": str(tmp_path / "own"), "kind": "policy", "source": "own", "origin": "folder"}
    for name in ("mine", "sft"):
        added.put(name, added.Added.model_validate({**entry, "num_parameters": 1}))
    assert find_model("mine", loop, "policy").folder == tmp_path / "own"
    assert find_model("sft", loop, "policy").folder == run_of(loop, "sft").file("model")
    assert find_model("sft", None, "policy").folder == tmp_path / "own"  # we are in no workspace


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("bets", "no model is called 'bets' and no folder; did you mean best?"),
        ("reward", "is a reward model, not a policy: try `instructloop score reward`"),
        ("going_on", "is not finished"),
        ("/", "/ is no model folder: it has no config.json"),
    ],
)
def test_what_is_no_policy_is_refused_by_name(loop: Path, name: str, error: str):
    with pytest.raises(ValueError, match=error.replace("?", r"\?")):
        find_model(name, loop, "policy")


def test_a_workspace_that_was_named_must_be_one(tmp_path: Path):
    with pytest.raises(ValueError, match="is no workspace"):
        find_model("sft", tmp_path, "policy")
    with pytest.raises(ValueError, match="no workspace and no added model is known here"):
        find_model("sft", None, "policy")
