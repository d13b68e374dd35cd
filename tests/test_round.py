"""The whole loop in miniature, from prompts to report, through the real store, runs and models."""

import json
from dataclasses import replace

import pytest

from instructloop.console import Quiet
from instructloop.evals.report_schema import checked
from instructloop.recipes import load
from instructloop.runs import Run
from instructloop.stages import engine
from instructloop.stages.figures import ancestry
from instructloop.workspace import Workspace
from tests.tiny_loop import TINY


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Return a workspace in which everything has been done once."""
    workspace = Workspace.create(tmp_path_factory.mktemp("round") / "loop", "microworld", TINY)
    states = engine.run(workspace, _one_at_a_time, Quiet())
    assert [state.status for state in states] == ["done"] * len(states)
    return workspace


def _one_at_a_time(workspace: Workspace):
    return replace(load(workspace), workers=1)


def test_the_report_holds_what_a_round_must_show(workspace: Workspace):
    report = checked(json.loads((workspace.root / "report.json").read_text()))
    policies = {"base", "base_prompted", "sft", "ppo", "ppo_ptx"}
    assert report.simulated
    for table in (report.win_rate_vs_sft, report.gold_win_rate_vs_sft, report.likert):
        assert table is not None
        assert set(table) == policies
        assert all(one.n_prompts == 20 for one in table.values())
    assert report.reward_model is not None
    assert report.reward_model.accuracy_seen_labelers is not None
    assert report.reward_model.accuracy_unseen_labelers is not None
    assert set(report.agreement or {}) == {"train", "heldout"}
    assert set(report.kl or {}) == {"ppo", "ppo_ptx"}
    assert set(report.overoptimisation or {}) == {"ppo", "ppo_ptx", "ppo_loose", "ppo_ptx_loose"}
    for field in ("truthfulness", "hallucination", "rudeness", "bias_entropy_bits", "alignment_tax", "held_out_loss"):
        assert getattr(report, field), field
    assert "simulated" in (workspace.root / "report.html").read_text()


def test_what_each_policy_writes_is_counted_from_its_completions(workspace: Workspace):
    report = checked(json.loads((workspace.root / "report.json").read_text()))
    assert report.reward_score is not None
    assert report.finished is not None
    file = Run.find(workspace.runs, "eval_samples").file("completions.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for policy in ("base", "sft", "ppo_ptx"):
        ended = [row["finished"] for row in rows if row["policy"] == policy]
        assert report.finished[policy].n == report.reward_score[policy].n == len(ended)
        assert report.finished[policy].value == pytest.approx(sum(ended) / len(ended))


def test_a_policy_leads_back_to_the_labels_that_made_it(workspace: Workspace):
    names = {run.name: run for run in ancestry([Run.find(workspace.runs, "ppo_ptx")]).values()}
    assert {"rankings", "rankings_second", "rankings_third", "demonstrations", "pretraining", "prompts"} <= names.keys()
    for name in ("rankings", "rankings_second", "demonstrations"):
        assert len(names[name].inputs["labels"]) == 64  # SHA-256 of the frozen file
        assert names[name].inputs["labels"] == names[name].outputs[f"{name.split('_')[0]}.jsonl"]


def test_no_held_out_user_and_no_held_out_labeler_has_trained_anything(workspace: Workspace):
    runs = {run.name: run for run in Run.all(workspace.runs)}
    rows = [
        json.loads(line)
        for name, file in (
            ("demonstrations", "demonstrations.jsonl"),
            ("rankings", "rankings.jsonl"),
            ("rankings_second", "rankings.jsonl"),
        )
        for line in runs[name].file(file).read_text().splitlines()
    ]
    judged = [json.loads(line) for line in runs["eval_rankings"].file("rankings.jsonl").read_text().splitlines()]
    assert {row["cohort"] for row in rows} == {"train"}
    assert {row["cohort"] for row in judged} == {"heldout"}
    assert {row["split"] for row in judged} == {"test"}
    assert not {row["user"] for row in rows} & {row["user"] for row in judged}


def test_a_second_run_does_nothing_again(workspace: Workspace):
    before = {run.id: run.manifest.finished for run in Run.all(workspace.runs)}
    engine.run(workspace, _one_at_a_time, Quiet())
    assert {run.id: run.manifest.finished for run in Run.all(workspace.runs)} == before
