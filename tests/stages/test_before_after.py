"""Losses and scores on held-out rows are those that the models give one row at a time; differences are paired."""

from pathlib import Path

import pytest

from instructloop.console import Quiet
from instructloop.files import read_jsonl
from instructloop.models.lm import load_lm
from instructloop.models.sampler import Policy, row_seeds, sample
from instructloop.models.scalar import ScalarModel
from instructloop.runs import Run
from instructloop.stages import before_after
from tests.stages.small import imported, imported_lm, workspace
from tests.tiny import tiny_lm

CONFIG = before_after.Config(
    max_prompt_tokens=40, max_completion_tokens=12, num_prompts=None, sources=("import:x",), temperature=1.0, seed=3
)
DEMONSTRATIONS = [
    {"prompt_id": "a", "prompt": "What does the dog say?", "completion": "woof", "split": "valid"},
    {"prompt_id": "a", "prompt": "What does the dog say?", "completion": "The dog says woof.", "split": "valid"},
    {"prompt_id": "b", "prompt": "Who sings?", "completion": "A bird sings.", "split": "valid"},
    {"prompt_id": "c", "prompt": "Who swims?", "completion": "a fish swims, " * 20, "split": "valid"},  # too long
    {"prompt_id": "d", "prompt": "Who barks?", "completion": "learned from", "split": "train"},
]
TEXTS = ["The dog barks.", "A bird sings, a fish swims."]


def measured(space, parents: dict[str, Run], **changes) -> Run:
    config = CONFIG.model_copy(update=changes)
    return before_after.run(config, workspace=space, name="held-out", round=1, parents=parents, console=Quiet())


@pytest.fixture
def space(tmp_path: Path):
    return workspace(tmp_path)


def test_losses_are_per_token_of_what_fits_and_the_difference_is_paired(space):
    before, after = imported_lm(space, name="before", seed=1), imported_lm(space, name="after", seed=2)
    parents = {
        "before": before,
        "after": after,
        "demonstrations": imported(space, "rows", {"demonstrations.jsonl": DEMONSTRATIONS}),
        "text": imported(space, "text", {"heldout.jsonl": [{"text": text} for text in TEXTS]}),
    }
    found = measured(space, parents).summary
    pairs = [(row["prompt"], row["completion"]) for row in DEMONSTRATIONS[:3]]
    values = {}
    for role, run in (("before", before), ("after", after)):
        policy = Policy.load(run.file("model"), name=role)
        scored = policy.logprobs(pairs, raw=False)
        values[role] = -sum(total for total, _ in scored) / sum(number for _, number in scored)
        assert found["loss"][role]["value"] == pytest.approx(values[role])
        assert (found["loss"][role]["n"], found["loss"][role]["n_clusters"]) == (sum(n for _, n in scored), 2)
        told = policy.logprobs([(text[:1], text[1:]) for text in TEXTS])  # the first byte is the first token here
        assert found["text_loss"][role]["n_clusters"] == len(told)
    assert found["loss"]["difference"]["value"] == pytest.approx(values["after"] - values["before"])
    assert "score" not in found


def test_a_model_against_itself_differs_by_nothing(space):
    model = imported_lm(space)
    rows = imported(space, "rows", {"demonstrations.jsonl": DEMONSTRATIONS})
    figures = measured(space, {"before": model, "after": model, "demonstrations": rows}).summary["loss"]
    assert figures["difference"]["value"] == 0
    assert figures["before"] == figures["after"]


def test_completions_of_held_out_prompts_are_scored_as_they_were_drawn(space):
    reward = Run.start(space.runs, "import", name="reward", round=1, config={}, parents={})
    scalar, text = ScalarModel.from_lm(*tiny_lm(seed=4), seed=5)
    scalar.save(reward.file("model"), text)
    prompts = [
        {"id": f"p{i}", "text": f"Is {i} big?", "source": "import:x", "user": "u", "split": split}
        for i, split in enumerate(["valid", "valid", "train", "valid"])
    ]
    parents = {
        "before": imported_lm(space, name="before", seed=1),
        "after": imported_lm(space, name="after", seed=2),
        "prompts": imported(space, "asked", {"prompts.jsonl": prompts}),
        "reward": reward.finish("model"),
    }
    run = measured(space, parents, num_prompts=9, max_completion_tokens=4)
    rows = read_jsonl(run.file("completions.jsonl"))
    assert sorted(row["prompt"] for row in rows) == ["Is 0 big?", "Is 1 big?", "Is 3 big?"]
    policy, text = load_lm(parents["after"].file("model"))
    told = {prompt["text"]: prompt["id"] for prompt in prompts}
    for row in rows:  # one prompt at a time, its completion as it was drawn: none ends by itself in 4 tokens
        ids, seeds = text.prompt_ids(row["prompt"]), row_seeds(CONFIG.seed, [told[row["prompt"]]])
        [drawn] = sample(policy, text, [ids], max_new_tokens=4, temperature=1.0, seeds=seeds).completions()
        assert len(drawn) == 4
        tokens_BT, attention_BT = text.pad_right([ids + drawn])
        assert row["after_score"] == pytest.approx(scalar.score(tokens_BT, attention_BT).item(), abs=1e-4)
    mean = {role: sum(row[f"{role}_score"] for row in rows) / 3 for role in ("before", "after")}
    for role, value in mean.items():
        assert run.summary["score"][role]["value"] == pytest.approx(value, abs=1e-3)
    assert run.summary["score"]["difference"]["value"] == pytest.approx(mean["after"] - mean["before"], abs=1e-3)
    assert run.summary["score"]["difference"]["n"] == 3


def test_prompts_without_a_reward_model_are_refused(space):
    with pytest.raises(ValueError, match="num_prompts 3, a parent `prompts` and a parent `reward` belong together"):
        measured(space, {"after": imported_lm(space)}, num_prompts=3)
