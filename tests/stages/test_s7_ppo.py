import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch

from instructloop.console import Quiet
from instructloop.models.lm import load_lm, save_lm
from instructloop.models.scalar import ScalarModel
from instructloop.runs import Run
from instructloop.stages import s7_ppo
from instructloop.train import loop
from tests.stages.small import Crash, crash_after, imported, imported_lm, same_training, weights, workspace
from tests.tiny import tiny_lm

CONFIG = s7_ppo.Config(
    num_iterations=3,
    episodes_per_iteration=8,
    num_minibatches=2,
    inner_epochs=1,
    lora=None,
    lr=1e-3,
    value_lr=2e-3,
    warmup_iterations=2,
    adam_betas=(0.9, 0.95),
    adam_eps=1e-8,
    weight_decay=0.0,
    max_grad_norm=1.0,
    kl_coef=0.1,
    kl_target=None,
    kl_horizon=None,
    clip_ratio=0.2,
    clip_value=0.2,
    gamma=1.0,
    lam=0.95,
    whiten_rewards=False,
    ema_decay=0.9,
    temperature=1.0,
    sources=("customer",),
    max_prompt_tokens=20,
    max_new_tokens=5,
    missing_eos="replace",
    missing_eos_penalty=1.0,
    ptx_coef=0.0,
    ptx_examples_per_episode=None,
    ptx_window_tokens=None,
    snapshot_every=None,
    guard_every=None,
    guard_prompts=None,
    guard_patience=None,
    guard_action=None,
    dtype="float32",
    seed=1,
)
PTX = CONFIG.model_copy(
    update={
        "ptx_coef": 0.5,
        "ptx_examples_per_episode": 0.5,
        "ptx_window_tokens": 8,
        "kl_target": 1.0,
        "kl_horizon": 50.0,
        "snapshot_every": 2,
    }
)


def parents(space, *, with_text: bool = False, **kind) -> dict:
    reward = Run.start(space.runs, "import", name="reward", round=1, config={}, parents={})
    model, text = ScalarModel.from_lm(*tiny_lm(**kind), seed=4)
    model.save(reward.file("model"), text)
    prompts = [
        {"id": f"p{i}", "text": f"Say {i}.", "source": source, "user": "u", "split": split}
        for i, (source, split) in enumerate([("customer", "train")] * 5 + [("labeler", "train"), ("customer", "valid")])
    ]
    found = {
        "init": imported_lm(space, name="init"),
        "reward": reward.finish("model"),
        "prompts": imported(space, "prompts", {"prompts.jsonl": prompts}),
    }
    text_rows = [{"text": f"The dog number {i} barks at the cat."} for i in range(20)]
    return found | ({"pretraining": imported(space, "corpus", {"text.jsonl": text_rows})} if with_text else {})


def ppo(space, config: s7_ppo.Config, given: dict):
    return s7_ppo.run(config, workspace=space, name="ppo", round=1, parents=given, console=Quiet())


def samples(run: Run) -> list[dict]:
    return [json.loads(line) for line in run.file("samples.jsonl").read_text().splitlines()]


def test_a_run_leaves_average_and_live_policy_samples_snapshots_and_the_metrics_people_look_for(tmp_path: Path):
    space = workspace(tmp_path)
    given = parents(space, with_text=True)
    run = ppo(space, PTX, given)
    assert set(run.outputs) == {"model", "model_live", "samples.jsonl", "snapshots"}
    assert sorted(path.name for path in run.file("snapshots").iterdir()) == ["001", "002"]
    before = weights(given["init"].file("model"))
    assert weights(run.file("snapshots/001")) == before  # the policy that made the first rollout
    assert (
        len({before, weights(run.file("model")), weights(run.file("model_live")), weights(run.file("snapshots/002"))})
        == 4
    )
    rows = run.metrics()
    assert [row["step"] for row in rows] == [1, 2, 3]  # iterations
    wanted = """objective/kl objective/entropy objective/scores objective/rlhf_reward objective/non_score_reward
        objective/kl_coef policy/approxkl policy/clipfrac policy/ratio loss/policy loss/value loss/ptx value/clipfrac
        value/explained_variance completion/length completion/eos_fraction time/rollout time/score time/update
        perf/tokens_per_second lr/policy lr/value grad_norm/policy grad_norm/value"""
    assert set(wanted.split()) <= set(rows[0])
    assert [row["lr/policy"] for row in rows] == pytest.approx([1e-4, 5.5e-4, 1e-3])  # from a tenth, over 2 iterations
    assert [row["lr/value"] for row in rows] == pytest.approx([2e-4, 1.1e-3, 2e-3])
    assert rows[0]["objective/kl"] == pytest.approx(0.0, abs=1e-4)
    assert rows[0]["objective/kl_coef"] == 0.1
    assert rows[1]["objective/kl_coef"] == pytest.approx(0.1 * (1 - 0.2 * 8 / 50))  # KL 0 is far below its target
    kept = samples(run)
    assert [row["iteration"] for row in kept] == [1] * 4 + [2] * 4 + [3] * 4
    assert {row["prompt_id"] for row in kept} <= {f"p{i}" for i in range(5)}  # training prompts of customers alone
    assert not run.file("checkpoints").exists()
    assert run.summary["prompts"] == 5


def test_the_rates_act_on_their_own_network(tmp_path: Path):
    space = workspace(tmp_path)
    given = parents(space)
    run = ppo(space, CONFIG.model_copy(update={"lr": 1e-12, "num_samples_kept": 0}), given)
    assert set(run.outputs) == {"model", "model_live"}
    before, after = (load_lm(one.file("model"))[0] for one in (given["init"], run))
    moved = max((a - b).abs().max().item() for a, b in zip(before.parameters(), after.parameters(), strict=True))
    assert moved < 1e-7
    assert run.metrics()[-1]["loss/value"] < run.metrics()[0]["loss/value"]


@pytest.mark.parametrize(("num_steps", "dtype"), [(1, "float32"), (2, "float32"), (5, "float32"), (4, "bfloat16")])
def test_a_crash_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_steps: int, dtype: str):
    config = PTX.model_copy(update={"dtype": dtype})
    runs = []
    for name in "ab":
        space = workspace(tmp_path / name)
        given = parents(space, with_text=True)
        if name == "b":
            with crash_after(monkeypatch, num_steps), pytest.raises(Crash):
                ppo(space, config, given)
            left = runs[0].path.name
            assert (space.runs / left / "checkpoints").exists() == (num_steps >= 2)  # at the end of an iteration only
        runs.append(ppo(space, config, given))
    assert runs[0].outputs == runs[1].outputs
    assert same_training(*runs)
    assert samples(runs[0]) == samples(runs[1])


def test_ctrl_c_within_an_iteration_stops_at_its_end_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    spaces = [workspace(tmp_path / name) for name in "ab"]
    given = [parents(space, with_text=True) for space in spaces]
    undisturbed = ppo(spaces[0], PTX, given[0])
    real = loop._train_step

    def train_step(*arguments):
        real(*arguments)
        if arguments[3] == 0:  # after the first of an iteration's two steps
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_train_step", train_step)
        with pytest.raises(loop.Interrupted, match="stopped after step 2"):
            ppo(spaces[1], PTX, given[1])
    assert ppo(spaces[1], PTX, given[1]).outputs == undisturbed.outputs


def test_a_reward_model_with_other_tokens_is_refused(tmp_path: Path):
    space = workspace(tmp_path)
    given = parents(space)
    model, text = tiny_lm()
    text.tokenizer.add_tokens(["zebra"])
    model.resize_token_embeddings(len(text.tokenizer))
    other = Run.start(space.runs, "import", name="other", round=1, config={}, parents={})
    save_lm(model, text, other.file("model"))
    given["init"] = other.finish("model")
    with pytest.raises(ValueError, match="different tokenizers"):
        ppo(space, CONFIG, given)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"num_minibatches": 3}, "episodes_per_iteration 8 must be a multiple of num_minibatches 3"),
        ({"kl_target": 2.0}, "belong together"),
        ({"ptx_coef": 1.0}, "belong together"),
        ({"ptx_window_tokens": 8}, "belong together"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(tmp_path: Path, change: dict, complaint: str):
    space = workspace(tmp_path)
    with pytest.raises(ValueError, match=complaint):
        ppo(space, CONFIG.model_copy(update=change), {})


def test_no_training_prompt_of_the_sources_is_refused(tmp_path: Path):
    space = workspace(tmp_path)
    with pytest.raises(ValueError, match="no training prompt of nobody"):
        ppo(space, CONFIG.model_copy(update={"sources": ("nobody",)}), parents(space))


def test_the_saved_policy_is_the_average_of_the_weights_after_each_step(tmp_path: Path):
    space = workspace(tmp_path)
    given = parents(space)
    run = ppo(space, CONFIG.model_copy(update={"num_iterations": 1, "num_minibatches": 1}), given)
    init, live, average = (
        next(iter(load_lm(folder)[0].parameters()))
        for folder in (given["init"].file("model"), run.file("model_live"), run.file("model"))
    )
    assert not torch.equal(init, live)
    assert average.detach() == pytest.approx((0.9 * init + 0.1 * live).detach(), abs=1e-6)  # one optimizer step


def test_activations_computed_again_change_nothing(tmp_path: Path):
    spaces = [workspace(tmp_path / name) for name in "ab"]
    runs = [
        ppo(space, PTX.model_copy(update={"gradient_checkpointing": again}), parents(space, with_text=True))
        for space, again in zip(spaces, (False, True), strict=True)
    ]
    assert weights(runs[0].file("model")) == weights(runs[1].file("model"))
    assert same_training(*runs)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for a processor with g++")
def test_compiled_layers_learn_the_same(tmp_path: Path):
    torch._dynamo.utils.counters.clear()
    spaces = [workspace(tmp_path / name) for name in "ab"]
    plain, compiled = (
        ppo(space, PTX.model_copy(update={"compiles_layers": compiles}), parents(space, with_text=True))
        for space, compiles in zip(spaces, (False, True), strict=True)
    )
    (model, _), (other, _) = (load_lm(run.file("model")) for run in (plain, compiled))
    for weight, again in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(again, weight, rtol=0, atol=1e-4)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    torch._dynamo.reset()
