"""The real recipe with people in the app: they write, rank and compare in place of the labels of the data folder."""

import json
from pathlib import Path

import pytest

from instructloop.recipes import imports, real
from instructloop.stages import s2_demonstrations, s5_rankings
from instructloop.stages.round import Step, ordered
from instructloop.workspace import Workspace


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of one row a file, and a file in the place of the packaged model."""
    folder = tmp_path / "data"
    rows = {
        real.DEMONSTRATIONS[0]: {"prompt": "spell teh", "completion": "the"},
        **{file: {"prompt": f"why? {i}", "ranked": ["a", "b"]} for i, file in enumerate(real.RANKINGS)},
        **{file: {"text": "a story"} for file in real.TEXTS},
    }
    for name, row in rows.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(row) + "\n")
    (folder / real.HELDOUT_TEXT).write_text(" ".join(["word"] * 50) + "\n")
    (tmp_path / "model.gguf").write_bytes(b"model")
    monkeypatch.setattr("instructloop.models.gguf.packaged_gguf", lambda package: tmp_path / "model.gguf")
    return folder


def steps(workspace: Workspace) -> dict[str, Step]:
    return {step.name: step for step in ordered(real.recipe(workspace).steps)}


def test_without_the_app_the_labels_come_from_the_folder(tmp_path: Path, data: Path):
    found = steps(Workspace.create(tmp_path / "loop", "real", data=data))
    assert {name for name, step in found.items() if step.by_people} == {"demonstrations", "rankings"}
    assert found["demonstrations"].run is found["rankings"].run is imports.labels
    assert "eval_rankings" not in found


def test_with_the_app_people_write_rank_what_sft_wrote_and_compare_the_policies(tmp_path: Path, data: Path):
    found = steps(Workspace.create(tmp_path / "loop", "real", data=data, people="app"))
    by_people = {name: step for name, step in found.items() if step.by_people}
    assert {name: step.run for name, step in by_people.items()} == {
        "demonstrations": s2_demonstrations.run,
        "rankings": s5_rankings.run,
        "eval_rankings": s5_rankings.run,
    }
    assert not any(step.hooks for step in by_people.values())
    assert found["samples"].parents["policy.sft"] == "sft"
    assert found["evaluation"].parents["eval_rankings"] == "eval_rankings"
    cohorts = {name: (step.config.cohort, step.config.purpose) for name, step in by_people.items() if "rank" in name}  # type: ignore[attr-defined]
    assert cohorts == {"rankings": ("train", "train"), "eval_rankings": ("heldout", "evaluation")}


def test_what_the_real_recipe_has_not_is_refused(tmp_path: Path, data: Path):
    Workspace.create(tmp_path / "loop", "real", data=data)
    file = tmp_path / "loop" / "loop.yaml"
    file.write_text(file.read_text() + "people: simulated\n")
    with pytest.raises(ValueError, match="people = 'simulated': recipe real has none"):
        real.recipe(Workspace.open(tmp_path / "loop"))
