"""Stage 4: K completions a prompt from a mixture of policies; what labelers should not see is dropped and counted."""

from collections import Counter
from pathlib import Path

import pytest

from instructloop.console import Quiet
from instructloop.core.records import Completion, Prompt
from instructloop.stages import s4_samples
from instructloop.stages.s4_samples import Config, _assign, _keep
from instructloop.workspace import Workspace


def config(**changes) -> Config:
    values = {
        "num_prompts": {"train": 3},
        "sources": ("customer",),
        "completions_per_prompt": (4, 9),
        "mixture": {"sft": 0.75, "base": 0.25},
        "each_once": False,
        "keep_unfinished": False,
        "temperature": 1.0,
        "max_new_tokens": 8,
        "seed": 0,
    }
    return Config(**values | changes)


PROMPTS = [Prompt.make(f"q{i}", source="customer", user="u", split="train") for i in range(400)]


def completion(prompt: str, text: str, index: int, *, policy: str = "sft", finished: bool = True) -> Completion:
    return Completion.make(prompt, text, policy=policy, policy_run="r", index=index, sampling={}, finished=finished)


def test_each_prompt_has_between_four_and_nine_completions():
    wanted = _assign(config(), PROMPTS, ["base", "sft"])
    sizes = Counter(prompt.id for prompts in wanted.values() for prompt in prompts)
    assert set(sizes.values()) == {4, 5, 6, 7, 8, 9}
    assert len(sizes) == 400


def test_the_mixture_is_that_of_the_weights():
    wanted = _assign(config(), PROMPTS, ["base", "sft"])
    share = len(wanted["base"]) / sum(map(len, wanted.values()))
    assert abs(share - 0.25) < 0.03  # about 2,600 draws: three standard errors are .026


def test_the_draw_for_a_prompt_does_not_depend_on_the_others():
    alone = _assign(config(), PROMPTS[7:8], ["base", "sft"])
    among = _assign(config(), PROMPTS, ["base", "sft"])
    for policy in ("base", "sft"):
        assert alone[policy] == [prompt for prompt in among[policy] if prompt is PROMPTS[7]]


def test_head_to_head_has_every_policy_once():
    wanted = _assign(config(each_once=True), PROMPTS[:5], ["base", "ppo", "sft"])
    assert {policy: len(prompts) for policy, prompts in wanted.items()} == {"base": 5, "ppo": 5, "sft": 5}


def test_unfinished_and_repeated_completions_and_lonely_ones_are_dropped_and_counted():
    sampled = [
        completion("p1", "a", 0),
        completion("p1", "a", 1),  # the same text again
        completion("p1", "b", 2),
        completion("p1", "c", 3, finished=False),
        completion("p2", "a", 0),  # the only one of its prompt
    ]
    kept, dropped = _keep(config(), sampled)
    assert [one.text for one in kept] == ["a", "b"]
    assert dropped == {"unfinished": 1, "repeated": 1, "of prompts with fewer than 2 left": 1}


def test_head_to_head_keeps_equal_and_unfinished_completions():
    sampled = [completion("p1", "a", 0), completion("p1", "a", 0, policy="ppo", finished=False)]
    kept, dropped = _keep(config(each_once=True, keep_unfinished=True), sampled)
    assert len(kept) == 2
    assert sum(dropped.values()) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"completions_per_prompt": (1, 3)}, "completions_per_prompt 1 to 3: a ranking needs at least 2"),
        ({"mixture": {"sft": 1.0}}, "mixture names sft; the policies are base, sft"),
    ],
)
def test_a_mixture_that_means_nothing_is_refused_before_anything_is_read(tmp_path: Path, changes: dict, message: str):
    workspace = Workspace.create(tmp_path / "loop", "toy")
    parents = {"policy.sft": None, "policy.base": None}
    with pytest.raises(ValueError, match=message):
        s4_samples.run(
            config(**changes), workspace=workspace, name="samples", round=1, parents=parents, console=Quiet()
        )
    assert not list(workspace.runs.glob("*"))
