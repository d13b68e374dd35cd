import random
from pathlib import Path

import pytest

from instructloop.console import Quiet
from instructloop.models.scalar import ScalarModel, Scorer
from instructloop.stages import reward_accuracy, s6_reward
from instructloop.stages.reward_accuracy import demonstration_scores, measure
from instructloop.stages.reward_rows import TokenLimits, fold_labelers, ranked_prompts
from instructloop.train import ranked
from instructloop.train.ranked import RankedPrompt
from tests.stages.small import Crash, crash_after, imported, imported_lm, same_training, workspace
from tests.tiny import tiny_lm

CONFIG = s6_reward.Config(
    num_epochs=1,
    batch_prompts=8,
    lr=0.003,
    adam_betas=(0.9, 0.95),
    adam_eps=1e-8,
    weight_decay=0.0,
    max_grad_norm=None,
    max_prompt_tokens=30,
    max_completion_tokens=20,
    lora=None,
    num_folds=None,
    fold=None,
    dtype="float32",
    seed=1,
)
ANIMALS = ("dog", "cat", "bird", "fish")


def row(number: int, *, labeler: str, split: str, flip: bool = False, cohort: str = "train", word: str = "") -> dict:
    """A ranking in which the completion with more "woof" wins, or loses when `flip`."""
    chance = random.Random(number)
    prompt = f"Let the {chance.choice(ANIMALS)} number {number} speak."
    texts = [" ".join(["woof"] * n + ["says"] * (3 - n)) + word for n in (3, 1, 0)]
    tiers = [["c0"], ["c1"], ["c2"]]
    return {
        "id": f"r{number}-{labeler}",
        "prompt_id": f"p{number}",
        "prompt": prompt,
        "labeler": labeler,
        "cohort": cohort,
        "origin": "simulated",
        "split": split,
        "completions": [{"id": f"c{i}", "text": text, "policy": "sft"} for i, text in enumerate(texts)],
        "tiers": tiers[::-1] if flip else tiers,
    }


def parents(space, rows: list[dict], **more) -> dict:
    demonstrations = [
        {"prompt": f"Let the {animal} speak.", "completion": "woof says", "split": "train"} for animal in ANIMALS
    ]
    return {
        "init": imported_lm(space),
        "rankings": imported(space, "rankings", {"rankings.jsonl": rows}),
        "demonstrations": imported(space, "demonstrations", {"demonstrations.jsonl": demonstrations}),
        **more,
    }


def reward(space, config: s6_reward.Config, parents: dict):
    return s6_reward.run(config, workspace=space, name="reward", round=1, parents=parents, console=Quiet())


def separable(number: int = 160) -> list[dict]:
    train = [row(i, labeler=f"l{i % 4}", split="train") for i in range(number)]
    return train + [row(1000 + i, labeler=f"l{i % 4}", split="valid") for i in range(20)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_separable_rankings_are_learned_and_demonstrations_score_zero_on_average(tmp_path: Path, dtype: str):
    space = workspace(tmp_path)
    config = CONFIG.model_copy(update={"lr": 0.01, "dtype": dtype})
    run = reward(space, config, parents(space, separable()))
    assert run.summary["accuracy_heldout"]["value"] > 0.99
    assert run.summary["accuracy_heldout"]["n"] == 20 * 3
    assert run.summary["accuracy_heldout"]["n_clusters"] == 20
    assert run.metrics()[-1]["accuracy"] > 0.99
    assert run.metrics()[0]["loss/reward"] > 0.3
    scorer = Scorer.load(run.file("model"))
    scores = scorer.scores([(f"Let the {animal} speak.", "woof says") for animal in ANIMALS])
    # The zero is set with the scores that the run computed; the saved float32 masters score a little otherwise.
    assert sum(scores) / 4 == pytest.approx(0.0, abs=1e-4 if dtype == "float32" else 0.1)
    good, bad = scorer.scores([("Let the dog speak.", "woof woof woof"), ("Let the dog speak.", "says says says")])
    assert good > bad + 1


def test_a_fold_learns_nothing_from_its_labelers_and_is_measured_on_them(tmp_path: Path):
    space = workspace(tmp_path)
    rows = [row(i, labeler=f"l{i % 2}", split="train", flip=i % 2 == 1) for i in range(160)]
    rows += [row(1000 + i, labeler="l0", split="valid") for i in range(20)]
    rows += [row(0, labeler="l1", split="train", flip=True)]  # a prompt that is learned from is measured by nobody
    run = reward(space, CONFIG.model_copy(update={"num_folds": 2, "fold": 0, "lr": 0.01}), parents(space, rows))
    # l1 has 81 rankings, l0 100: l0 goes first, into group 0, so fold 0 holds out l0
    assert run.summary["rankings"] == 81
    assert run.summary["accuracy_unseen_labelers"]["value"] < 0.01  # l0 prefers the opposite
    assert run.summary["accuracy_unseen_labelers"]["n_clusters"] == 79 + 20
    assert "accuracy_seen_labelers" not in run.summary


def test_held_out_labelers_come_from_a_parent_of_their_own(tmp_path: Path):
    space = workspace(tmp_path)
    apart = [row(2000 + i, labeler="h", split="valid", cohort="heldout") for i in range(6)]
    more = {"heldout_rankings": imported(space, "heldout", {"rankings.jsonl": apart})}
    run = reward(space, CONFIG, parents(space, separable(64), **more))
    assert run.summary["accuracy_unseen_labelers"]["n_clusters"] == 6
    assert run.summary["accuracy_seen_labelers"]["n_clusters"] == 20
    assert run.summary["accuracy_heldout"]["n_clusters"] == 20
    assert set(run.summary["accuracy_by_cohort"]) == {"train", "heldout"}
    assert run.summary["baselines"]["longer"]["n"] == 60


def test_labelers_are_dealt_into_groups_of_like_size():
    sizes = {"a": 9, "b": 5, "c": 4, "d": 3, "e": 3}
    groups = [fold_labelers(sizes, 3, fold) for fold in range(3)]
    assert groups == [{"a"}, {"b", "e"}, {"c", "d"}]  # 9, 8 and 7 rankings
    assert fold_labelers(sizes, None, None) == frozenset()
    with pytest.raises(ValueError, match="num_folds 6 needs as many labelers; the rankings are by 5"):
        fold_labelers(sizes, 6, 0)


def test_ties_yield_no_comparison_and_all_tied_prompts_drop_out_counted():
    _, text = tiny_lm()
    first, tied, long = (
        row(1, labeler="a", split="train"),
        row(2, labeler="a", split="train"),
        row(3, labeler="a", split="train"),
    )
    first["tiers"] = [["c2"], ["c0", "c1"]]
    tied["tiers"] = [["c0", "c1", "c2"]]
    long["completions"][0]["text"] = "woof " * 50
    prompts, facts = ranked_prompts([first, tied, long], text, TokenLimits(30, 20))
    assert facts == {
        "prompts": 2,
        "rankings": 2,
        "comparisons": 2 + 1,  # the long completion took two of three pairs with it
        "ties": 1 + 3,
        "dropped_too_long_completions": 1,
        "dropped_all_tied_prompts": 1,
        "truncated_prompts": 0,
    }
    assert [prompt.rankings for prompt in prompts] == [(((0,), (1, 2)),), (((0,), (1,)),)]
    assert prompts[0].rows[0] == text.prompt_ids(first["prompt"]) + text.completion_ids("says says says")


def test_rankings_of_one_prompt_share_its_completions():
    _, text = tiny_lm()
    rows = [row(1, labeler="a", split="train"), row(1, labeler="b", split="train", flip=True)]
    (prompt,), facts = ranked_prompts(rows, text, TokenLimits(30, 20))
    assert len(prompt.rows) == 3
    assert len(prompt.rankings) == 2
    assert facts["rankings"] == 2


def framed(number: int, *, split: str = "train") -> dict:
    """One of many questions under one and the same prompt: a pair of completions of its own."""
    pair = row(number, labeler="a", split=split, word=f" {number}")
    kept = [{**one, "id": f"{number}-{one['id']}"} for one in pair["completions"][:2]]
    tiers = [[one["id"]] for one in kept]
    return {**pair, "prompt_id": "frame", "prompt": "Speak.", "completions": kept, "tiers": tiers}


def test_a_prompt_that_frames_many_questions_is_dealt_into_groups_and_no_ranking_is_lost():
    _, text = tiny_lm()
    rows = [framed(number) for number in range(40)]
    for number, other in zip(range(0, 40, 4), range(2, 40, 4), strict=True):  # chains: 0 with 2, 4 with 6 …
        rows.append({**rows[number], "id": f"chain{number}", "completions": [], "tiers": []})
        rows[-1]["completions"] = [rows[number]["completions"][0], rows[other]["completions"][1]]
        rows[-1]["tiers"] = [[one["id"]] for one in rows[-1]["completions"]]
    prompts, facts = ranked_prompts(rows, text, TokenLimits(30, 20))
    assert (facts["prompts"], facts["rankings"], facts["comparisons"]) == (1, 50, 50)
    assert sum(len(prompt.rankings) for prompt in prompts) == 50
    assert all(len(prompt.rows) <= 9 for prompt in prompts)
    learned = [
        {(tuple(prompt.rows[a]), tuple(prompt.rows[b])) for ((a,), (b,)) in prompt.rankings} for prompt in prompts
    ]
    wanted = {
        tuple(tuple(text.prompt_ids("Speak.") + text.completion_ids(one["text"])) for one in r["completions"])
        for r in rows
    }
    assert set.union(*learned) == wanted
    for number in range(0, 40, 4):  # the three comparisons of a chain are learned from in one step
        chain = {
            tuple(text.prompt_ids("Speak.") + text.completion_ids(rows[n]["completions"][0]["text"]))
            for n in (number, number + 2)
        }
        assert sum(bool(chain & {winner for winner, _ in group}) for group in learned) == 1


def test_few_completions_under_one_prompt_stay_together():
    _, text = tiny_lm()
    (prompt,), _ = ranked_prompts([framed(number) for number in range(16)], text, TokenLimits(30, 20))
    assert len(prompt.rows) == 32


def test_under_a_frame_what_was_not_learned_of_is_held_out_and_a_completion_that_was_is_not(tmp_path: Path):
    space = workspace(tmp_path)
    rows = [framed(number) for number in range(40)]
    apart = [framed(number, split="valid") for number in range(35, 46)]  # 35 to 39 were learned from
    apart[-1]["completions"][0] = rows[0]["completions"][0]  # and so was half of the last one
    apart[-1]["tiers"][0] = [rows[0]["completions"][0]["id"]]
    more = {"heldout_rankings": imported(space, "heldout", {"rankings.jsonl": apart})}
    run = reward(space, CONFIG.model_copy(update={"batch_prompts": 2}), parents(space, rows, **more))
    assert run.summary["accuracy_heldout"]["n"] == 5
    assert run.summary["accuracy_heldout"]["n_clusters"] == 10  # completions: no two comparisons share one


@pytest.mark.parametrize(("num_steps", "dtype"), [(1, "float32"), (3, "bfloat16")])
def test_a_crash_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_steps: int, dtype: str):
    config = CONFIG.model_copy(update={"dtype": dtype})
    runs = []
    for name in "ab":
        space = workspace(tmp_path / name)
        given = parents(space, separable(32))
        if name == "b":
            with crash_after(monkeypatch, num_steps), pytest.raises(Crash):
                reward(space, config, given)
        runs.append(reward(space, config, given))
    assert runs[0].outputs == runs[1].outputs
    assert runs[0].summary == runs[1].summary
    assert same_training(*runs)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"fold": 1}, "belong together"),
        ({"num_folds": 3}, "belong together"),
        ({"num_folds": 3, "fold": 3}, "fold 3 must be below num_folds 3"),
    ],
)
def test_a_fold_that_is_none_is_refused(tmp_path: Path, change: dict, complaint: str):
    space = workspace(tmp_path)
    with pytest.raises(ValueError, match=complaint):
        reward(space, CONFIG.model_copy(update=change), {})


def test_only_training_demonstrations_that_fit_set_the_zero(tmp_path: Path):
    model, text = ScalarModel.from_lm(*tiny_lm(), seed=1)
    rows = [
        {"prompt": "Speak.", "completion": completion, "split": split}
        for completion, split in (("woof", "train"), ("says", "valid"), ("a bird", "test"), ("woof " * 50, "train"))
    ]
    run = imported(workspace(tmp_path), "demonstrations", {"demonstrations.jsonl": rows})
    scores, num_dropped = demonstration_scores(model, text, run, TokenLimits(30, 20))
    assert scores == pytest.approx(Scorer(model, text).scores([("Speak.", "woof")]))
    assert num_dropped == 1


def test_where_all_score_alike_nothing_is_foretold():
    model, text = ScalarModel.from_lm(*tiny_lm(), seed=1)
    limits = TokenLimits(30, 20)
    learned, _ = ranked_prompts([row(1, labeler="a", split="train")], text, limits)
    alike = row(2, labeler="a", split="valid")
    for completion in alike["completions"]:
        completion["text"] = "woof"
    figures = measure(model, text, learned, [alike], seen={"a"}, limits=limits)
    assert figures["accuracy_heldout"]["value"] == 0.5  # three comparisons, each a coin
    assert figures["baselines"]["longer"]["value"] == 0.5


def test_scores_after_training_are_of_completions_by_lot_not_of_every_second_one(monkeypatch: pytest.MonkeyPatch):
    model, text = ScalarModel.from_lm(*tiny_lm(), seed=1)
    pairs = [RankedPrompt(str(number), ([3], [4]), (((0,), (1,)),)) for number in range(40)]
    heard: list[list[int]] = []
    monkeypatch.setattr(reward_accuracy, "MOST_TRAINED", 20)
    monkeypatch.setattr(ranked, "score_rows", lambda model, text, rows: heard.extend(rows) or [0.0] * len(rows))
    measure(model, text, pairs, [], seen=(), limits=TokenLimits(30, 20))
    assert len(heard) == 20
    assert sorted({row[0] for row in heard}) == [3, 4]  # winners and losers


def test_training_rows_end_with_eos_as_rollouts_do():
    _, text = tiny_lm()
    prompts, _ = ranked_prompts([row(1, labeler="a", split="train")], text, TokenLimits(30, 20))
    assert [ids[-1] for ids in prompts[0].rows] == [text.eos_id] * 3
