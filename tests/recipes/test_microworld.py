"""How the microworld's steps hang together."""

from pathlib import Path

import pytest

from instructloop.microworld import prompts
from instructloop.recipes import microworld
from instructloop.stages import s7_ppo
from tests.stages.small import workspace


def test_every_ppo_that_comes_after_the_folds_is_watched_by_one_of_them_and_the_watch_only_warns(tmp_path: Path):
    steps = [step for step in microworld.recipe(workspace(tmp_path)).steps if step.stage == "s7_ppo"]
    guards = {step.name: step.parents.get("guard") for step in steps}
    watched = dict.fromkeys(("ppo", "ppo_ptx", "ppo_loose", "ppo_ptx_loose"), "reward_fold_1")
    assert guards == {"ppo_first": None, "ppo_second": None, **watched}
    for step in steps:
        assert isinstance(step.config, s7_ppo.Config)
        assert step.config.guard_action == ("warn" if guards[step.name] else None)


def test_text_keeps_clear_of_the_prompts_so_other_prompts_make_another_run_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def inputs_of_text(number: int) -> dict[str, str]:
        monkeypatch.setattr(prompts, "NUM_PROMPTS", number)
        prompts._book.cache_clear()
        space = workspace(tmp_path / str(number))
        (step,) = (step for step in microworld.recipe(space).steps if step.name == "pretraining")
        return dict(step.inputs)

    few, more = inputs_of_text(120), inputs_of_text(121)
    prompts._book.cache_clear()
    assert few.keys() == more.keys() == {"raw_prompts"}
    assert few != more
