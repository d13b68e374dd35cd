"""Every trained stage dies again and again and ends as if it had not; a checkpoint that is not its own is refused."""

import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from instructloop.runs import Run
from instructloop.stages import s7_ppo
from tests.stages import test_s3_sft, test_s6_reward, test_s7_ppo
from tests.stages.small import Crash, crash_after, imported_lm, same_training, weights, workspace

SFT = test_s3_sft.MIXED.model_copy(update={"log_every": 3})  # a line of metrics spans several goes
REWARD = test_s6_reward.CONFIG.model_copy(update={"log_every": 2})
PPO = test_s7_ppo.PTX.model_copy(update={"num_iterations": 4, "num_samples_kept": 2})  # average, steered KL, text


def sft(space) -> Callable[[], Run]:
    parents = {"base": imported_lm(space), **test_s3_sft.demonstrations(space, times=2), **test_s3_sft.with_text(space)}
    return lambda: test_s3_sft.sft(space, SFT, **parents)


def reward(space) -> Callable[[], Run]:
    parents = test_s6_reward.parents(space, test_s6_reward.separable(40))
    return lambda: test_s6_reward.reward(space, REWARD, parents)


def ppo(space, config: s7_ppo.Config = PPO) -> Callable[[], Run]:
    parents = test_s7_ppo.parents(space, with_text=True)
    return lambda: test_s7_ppo.ppo(space, config, parents)


def disturb() -> None:
    """Leave every global generator in another place: what is resumed must not depend on it."""
    number = random.randrange(1 << 30)
    torch.manual_seed(number)
    random.seed(number)


@pytest.mark.parametrize(("stage", "steps_per_go", "num_deaths"), [(sft, 1, 5), (reward, 1, 4), (ppo, 3, 3)])
def test_a_stage_that_dies_again_and_again_ends_bit_for_bit_as_one_that_never_died(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: Callable, steps_per_go: int, num_deaths: int
):
    """SFT: 8 demonstrations, 3 a step, 2 epochs; reward: 40 prompts, 8 a step; PPO: 4 iterations of 2 steps."""
    undisturbed = stage(workspace(tmp_path / "a"))()
    again = stage(workspace(tmp_path / "b"))
    for _ in range(num_deaths):
        disturb()
        with crash_after(monkeypatch, steps_per_go), pytest.raises(Crash):
            again()
    with crash_after(monkeypatch, steps_per_go):  # the last steps are no more than a go has
        run = again()
    assert len(run.manifest.resumed) == num_deaths
    assert weights(run.file("model")) == weights(undisturbed.file("model"))
    assert run.outputs == undisturbed.outputs  # hashes of all that it offers: epochs, snapshots, samples, live policy
    assert run.summary == undisturbed.summary
    assert same_training(run, undisturbed)
    assert not run.file("checkpoints").exists()


def left_half_way(space, monkeypatch: pytest.MonkeyPatch, config: s7_ppo.Config = PPO) -> tuple[Path, Callable]:
    """Return the folder of checkpoints of a PPO run that died in its third iteration, and how to go on with it."""
    again = ppo(space, config)
    with crash_after(monkeypatch, 5), pytest.raises(Crash):
        again()
    (folder,) = space.runs.glob("*/checkpoints")
    return folder, again


def test_the_last_two_checkpoints_are_kept_and_hold_every_part_of_the_run(tmp_path: Path, monkeypatch):
    folder, _ = left_half_way(workspace(tmp_path), monkeypatch)
    assert sorted(path.name for path in folder.iterdir()) == [
        "00000002.json",
        "00000002.pt",
        "00000004.json",
        "00000004.pt",
    ]
    found = torch.load(folder / "00000004.pt", weights_only=True)
    assert set(found) == {"model", "optimizer", "batches", "window", "ema", "ref", "reward"}
    assert {name.split(".")[0] for name in found["model"]} == {"policy", "value"}
    assert found["batches"]["num_done"] == 2  # iterations, of which prompts and every seed follow
    assert found["batches"]["windows"] == {"position": 4 * PPO.num_ptx_rows}  # of pretraining text, after four steps
    # Two rollouts of KL far below the target of 1: each takes .2 * 8 / 50 off the coefficient at most.
    assert found["batches"]["kl_control"]["value"] == pytest.approx(0.1 * (1 - 0.2 * 8 / 50) ** 2)
    assert {group["name"]: group["initial_lr"] for group in found["optimizer"]["param_groups"]} == {
        "policy": PPO.lr,
        "value": PPO.value_lr,
    }


def test_a_flipped_byte_and_a_missing_end_stop_the_stage_by_name_until_the_file_is_deleted(tmp_path: Path, monkeypatch):
    expected = ppo(workspace(tmp_path / "a"))()
    folder, again = left_half_way(workspace(tmp_path / "b"), monkeypatch)
    path = folder / "00000004.pt"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match=re.escape(str(path)) + " is damaged: .* bytes are there"):
        again()
    path.write_bytes(whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:])
    with pytest.raises(ValueError, match=re.escape(str(path)) + " is damaged: its content is not what was written"):
        again()
    for suffix in (".pt", ".json"):
        path.with_suffix(suffix).unlink()
    assert again().outputs == expected.outputs  # from the checkpoint of iteration 1


def test_a_checkpoint_of_another_configuration_is_neither_taken_nor_accepted(tmp_path: Path, monkeypatch):
    space = workspace(tmp_path)
    folder, _ = left_half_way(space, monkeypatch)
    parents = {name: Run.find(space.runs, run) for name, run in PARENTS.items()}
    other = PPO.model_copy(update={"lr": PPO.lr / 2})
    with crash_after(monkeypatch, 0), pytest.raises(Crash):  # another configuration is another run: it begins at 0
        test_s7_ppo.ppo(space, other, parents)
    (run,) = [path for path in space.runs.glob("*-ppo-*") if path != folder.parent]
    assert not (run / "checkpoints").exists()
    shutil.copytree(folder, run / "checkpoints")
    complaint = f"{run.name}/checkpoints/00000004.pt belongs to run {folder.parent.name}, not to {run.name}"
    with pytest.raises(ValueError, match=re.escape(complaint)):
        test_s7_ppo.ppo(space, other, parents)


PARENTS = {"init": "init", "reward": "reward", "prompts": "prompts", "pretraining": "corpus"}


def test_a_reference_that_changed_is_refused_by_its_run_and_by_the_checkpoint(tmp_path: Path, monkeypatch):
    space = workspace(tmp_path)
    _, again = left_half_way(space, monkeypatch)
    file = Run.find(space.runs, "init").file("model/model.safetensors")
    content = bytearray(file.read_bytes())
    content[-4] ^= 1  # the last bit of one weight
    file.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(file)) + " was edited after run"):
        again()
    monkeypatch.setattr(Run, "verify", lambda _: None)  # had nobody looked at the files
    with pytest.raises(ValueError, match=r"00000004\.pt does not fit this run, ref: .* network of other weights"):
        again()
