"""Stage 8: candidates stand in a fixed order, and the written rule picks one by its numbers."""

from pathlib import Path

import pytest

from instructloop.runs import Run
from instructloop.stages.policies import policy_files
from instructloop.stages.prompts_file import write_rows
from instructloop.stages.s8_policy import Candidate, Config, candidates, choose, mean_scores


def config(**changes) -> Config:
    values = {
        "folders": (),
        "prefixes": (),
        "num_prompts": 4,
        "sources": ("customer",),
        "min_finished_fraction": 0.5,
        "max_text_loss_rise": None,
        "num_texts": 0,
        "temperature": 1.0,
        "max_new_tokens": 8,
        "seed": 0,
    }
    return Config(**values | changes)


def row(score: float, finished: float = 1.0, loss: float | None = None) -> dict:
    return {
        "candidate": {"role": str(score)},
        "score": {"value": score},
        "finished_fraction": finished,
        "text_loss": loss,
    }


def run_with(root: Path, *folders: str, name: str = "sft") -> Run:
    run = Run.start(root, "s3_sft", name=name, round=1, config={}, parents={})
    for folder in folders:
        run.file(folder).mkdir(parents=True)
        (run.file(folder) / "config.json").write_text("{}")
    return run.finish(*sorted({folder.split("/")[0] for folder in folders}))


def test_the_highest_score_within_the_limits_is_chosen():
    rows = [row(0.1), row(0.9, finished=0.2), row(0.5)]
    chosen, rule = choose(config(), rows)
    assert chosen is rows[2]  # .9 finishes too few of its completions
    assert rule.endswith("finish at least 50% of their completions")


def test_a_candidate_that_forgot_its_text_is_not_eligible():
    rows = [row(0.1, loss=1.00), row(0.9, loss=1.25), row(0.5, loss=1.05)]
    chosen, rule = choose(config(max_text_loss_rise=0.1), rows)
    assert chosen is rows[2]
    assert "at most 0.1 nats a token above the first candidate's" in rule


def test_where_nobody_keeps_the_limits_the_rule_is_named():
    with pytest.raises(ValueError, match="none of 1 candidates keeps the limits of the rule: the highest mean"):
        choose(config(), [row(0.1, finished=0.0)])


def test_every_epoch_is_a_candidate_in_order(tmp_path: Path):
    run = run_with(tmp_path, "model", "epochs/02", "epochs/01")
    found = candidates(config(folders=("epochs/*",)), {"candidate.sft": run, "reward": run})
    assert [one.folder for one in found] == ["epochs/01", "epochs/02"]
    assert found[0].path({"candidate.sft": run}) == run.path / "epochs/01"


def test_prefixes_are_candidates_of_their_own(tmp_path: Path):
    run = run_with(tmp_path, "model")
    found = candidates(config(prefixes=("q: a\n", "q: b\n")), {"candidate.base": run})
    assert found == [Candidate("candidate.base", "", "q: a\n"), Candidate("candidate.base", "", "q: b\n")]


def test_without_candidates_there_is_no_choice(tmp_path: Path):
    with pytest.raises(ValueError, match=r"roles candidate\.NAME; there are none"):
        candidates(config(), {"reward": run_with(tmp_path, "model")})


@pytest.mark.parametrize(("folder", "prefix", "expected"), [("epochs/01", "", "epochs/01"), ("", "q: a\n", "model")])
def test_a_choice_leads_to_the_files_it_names(tmp_path: Path, folder: str, prefix: str, expected: str):
    parent = run_with(tmp_path, "model", "epochs/01")
    choice = Run.start(tmp_path, "s8_policy", name="chosen", round=1, config={}, parents={"candidate.sft": parent})
    chosen = {"role": "candidate.sft", "folder": folder, "prefix": prefix}
    write_rows(choice.file("choice.json"), [{"chosen": chosen}])
    choice.finish("choice.json")
    assert policy_files(choice).folder == parent.path / expected
    assert policy_files(choice).prefix == prefix


def test_a_run_without_a_model_is_no_policy(tmp_path: Path):
    run = Run.start(tmp_path, "s1_prompts", name="prompts", round=1, config={}, parents={})
    run.file("prompts.jsonl").touch()
    run.finish("prompts.jsonl")
    with pytest.raises(ValueError, match=r"made no policy: its outputs are prompts\.jsonl"):
        policy_files(run)


def test_several_reward_models_elect_by_the_mean_of_their_scores():
    class Fixed:
        def __init__(self, *scores: float):
            self.given = list(scores)

        def scores(self, pairs: list, *, finished: list) -> list[float]:
            return self.given

    fooled, other = Fixed(3.0, 0.5), Fixed(-2.0, 0.7)
    assert mean_scores([fooled, other], [("p", "a"), ("p", "b")], [True, True]) == pytest.approx([0.5, 0.6])
