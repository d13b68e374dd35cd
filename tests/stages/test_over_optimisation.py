"""PPO against a reward model, watched by its opposite: what the one learns to praise, the other learns to loathe."""

from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from instructloop.console import Quiet
from instructloop.evals.report_schema import checked
from instructloop.models.scalar import ScalarModel
from instructloop.runs import Run
from instructloop.stages import over_optimisation, s7_ppo
from instructloop.train import loop
from instructloop.train.finite import NotFinite
from tests.stages.small import Crash, crash_after, imported, same_training, weights, workspace
from tests.stages.test_s7_ppo import CONFIG, parents
from tests.tiny import tiny_lm

UNWATCHED = CONFIG.model_copy(
    update={
        "num_iterations": 10,
        "episodes_per_iteration": 64,
        "num_minibatches": 4,
        "lr": 1e-2,
        "value_lr": 5e-3,
        "warmup_iterations": 0,
        "kl_coef": 0.0,
        "ema_decay": 0.5,
        "max_new_tokens": 1,
        "missing_eos": "subtract",
        "missing_eos_penalty": 0.0,
        "num_samples_kept": 0,
        "seed": 2,
    }
)
GUARD = {"guard_every": 2, "guard_prompts": 16, "guard_patience": 2, "guard_action": "warn"}


def watched(**changes) -> s7_ppo.Config:
    return UNWATCHED.model_copy(update=GUARD | changes)


def opposite(space) -> Run:
    """Return the reward model of `parents` with every score's sign turned."""
    run = Run.start(space.runs, "import", name="opposite", round=1, config={}, parents={})
    model, text = ScalarModel.from_lm(*tiny_lm(), seed=4)
    with torch.no_grad():
        model.head.weight.neg_()
    model.save(run.file("model"), text)
    return run.finish("model")


def given(space) -> dict:
    prompts = [
        {"id": f"p{i}", "text": f"Say {i}.", "source": "customer", "user": "u", "split": "valid" if i % 2 else "train"}
        for i in range(32)
    ]
    return {
        **parents(space),
        "prompts": imported(space, "many", {"prompts.jsonl": prompts}),
        "guard": opposite(space),
    }


def ppo(config: s7_ppo.Config, space, of: dict, console: Quiet | None = None) -> Run:
    used = {role: run for role, run in of.items() if role != "guard" or config.guard_every is not None}
    return s7_ppo.run(config, workspace=space, name="ppo", round=1, parents=used, console=console or Quiet())


def without_guard(row: dict) -> dict:
    return {name: value for name, value in row.items() if not name.startswith(("guard/", "time/", "perf/"))}


def test_a_guard_that_only_warns_changes_no_bit_of_training_and_says_what_it_saw(tmp_path: Path):
    space = workspace(tmp_path)
    of, console = given(space), Quiet()
    plain, guarded = ppo(UNWATCHED, space, of), ppo(watched(), space, of, console)
    for name in ("model", "model_live"):  # the rest of a folder is a card that names the run
        assert weights(guarded.file(name)) == weights(plain.file(name))
    assert [without_guard(row) for row in guarded.metrics()] == [without_guard(row) for row in plain.metrics()]
    checks = {row["step"]: row for row in guarded.metrics() if "guard/score" in row}
    assert list(checks) == [2, 4, 6, 8, 10]
    for row in checks.values():  # the one is the other's opposite
        assert row["guard/score"] == pytest.approx(-row["guard/train_score"], abs=1e-5)
        assert row["guard/length"] == 1.0
    (sentence,) = guarded.summary["guard"]["warnings"]
    assert console.messages[1:] == [f"ppo: {sentence}"]
    assert guarded.summary["guard"]["best_score"] == max(row["guard/score"] for row in checks.values())
    best = guarded.summary["guard"]["best_iteration"]
    assert f"since iteration {best} the score of the held-out reward model fell" in sentence
    assert "guard" not in plain.summary
    found = over_optimisation.guards({"policy.ppo": guarded, "drift.loose": guarded, "policy.plain": plain, "x": plain})
    assert list(found) == ["ppo", "loose"]
    checked({"title": "A round", "seed": 1, "simulated": True, "wall_seconds": 1.0, "guards": found})
    assert found["ppo"]["warnings"] == [sentence]
    for shown, (iteration, row) in zip(found["ppo"]["checks"], checks.items(), strict=True):
        logged = {name.removeprefix("guard/"): value for name, value in row.items() if name.startswith("guard/")}
        assert shown == {"iteration": iteration, **logged}


@pytest.mark.parametrize("action", [pytest.param("stop", marks=pytest.mark.slow), "best"])
def test_it_stops_where_it_warns_and_what_is_saved_is_the_policy_of_then_or_of_its_best_check(
    tmp_path: Path, action: str
):
    """The policy of an iteration is that of a run that ends there."""
    space = workspace(tmp_path)
    of, console = given(space), Quiet()
    stopped = ppo(watched(guard_action=action), space, of, console)
    end, best = stopped.metrics()[-1]["step"], stopped.summary["guard"]["best_iteration"]
    assert best < end < 10
    assert f"over-optimisation at iteration {end}" in console.messages[-1]
    shorter = ppo(UNWATCHED.model_copy(update={"num_iterations": end}), space, of)
    assert weights(stopped.file("model_live")) == weights(shorter.file("model_live"))
    saved = shorter if action == "stop" else ppo(UNWATCHED.model_copy(update={"num_iterations": best}), space, of)
    assert weights(stopped.file("model")) == weights(saved.file("model"))


@pytest.mark.parametrize("num_steps", [9, pytest.param(26, marks=pytest.mark.slow)])
def test_a_crash_costs_the_guard_neither_its_best_nor_its_patience(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_steps: int
):
    """Four steps an iteration, a check every second one, the second of them the best: crashes before and after it."""
    runs: list[Run] = []
    for name in "ab":
        space = workspace(tmp_path / name)
        of = given(space)
        if name == "b":
            with crash_after(monkeypatch, num_steps), pytest.raises(Crash):
                ppo(watched(guard_action="best"), space, of)
        runs.append(ppo(watched(guard_action="best"), space, of))
    assert runs[0].summary["guard"]["warnings"]
    assert runs[0].summary["guard"]["best_iteration"] == 4
    assert runs[1].summary == runs[0].summary
    assert runs[1].outputs == runs[0].outputs
    assert same_training(*runs)


def test_a_spoilt_weight_stops_ppo_by_name_and_the_run_goes_on_from_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    runs: list[Run] = []
    for name in "ab":
        space = workspace(tmp_path / name)
        of = given(space)
        if name == "b":
            with spoiling(monkeypatch, after=9), pytest.raises(NotFinite) as error:
                ppo(UNWATCHED, space, of)
            assert "the weight policy.model.layers.1.mlp.up_proj.weight is not finite" in str(error.value)
            assert "in step 10 of 40, minibatch 2 of 4 of rollout 3" in str(error.value)
        runs.append(ppo(UNWATCHED, space, of))
    assert runs[1].manifest.resumed
    assert runs[1].outputs == runs[0].outputs


@contextmanager
def spoiling(monkeypatch: pytest.MonkeyPatch, after: int):
    """Within, the policy loses one number after so many steps; checkpoints are written wherever they can."""
    real, done = loop._train_step, []

    def train_step(task, *arguments) -> None:
        real(task, *arguments)
        done.append(None)
        if len(done) == after:
            task.model["policy"].model.layers[1].mlp.up_proj.weight.data[3, 5] = torch.nan

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_train_step", train_step)
        patch.setattr(loop._Saver, "is_due", lambda _: True)
        yield


@pytest.mark.parametrize("name", list(GUARD))
def test_half_a_guard_is_refused(tmp_path: Path, name: str):
    with pytest.raises(ValueError, match=rf"{name} None.* belong together"):
        ppo(watched(**{name: None}), workspace(tmp_path), {"guard": None})
    alone = UNWATCHED.model_copy(update={name: GUARD[name]})
    with pytest.raises(ValueError, match=f"{name} {GUARD[name]}.*none.* belong together"):
        ppo(alone, workspace(tmp_path / "b"), {})


def test_the_reward_model_that_is_trained_against_cannot_guard(tmp_path: Path):
    space = workspace(tmp_path)
    of = given(space)
    with pytest.raises(ValueError, match=r"the guard must be another reward model than .*reward"):
        ppo(watched(), space, {**of, "guard": of["reward"]})


def test_too_few_validation_prompts_are_refused(tmp_path: Path):
    space = workspace(tmp_path)
    with pytest.raises(ValueError, match="the guard wants 17 valid prompts of customer; there are 16"):
        ppo(watched(guard_prompts=17), space, given(space))
