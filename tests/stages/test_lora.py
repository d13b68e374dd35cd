"""The training stages with LoRA: they learn, what they save is plain, PPO stands on one copy where it can."""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from instructloop.console import Quiet
from instructloop.models.lm import completion_logprobs, load_lm
from instructloop.models.lora import Lora
from instructloop.models.masters import trained
from instructloop.models.scalar import ScalarModel, Scorer
from instructloop.runs import Run
from instructloop.stages import s7_ppo
from instructloop.stages.actors import belongs_on, load_actors
from tests.stages import test_s3_sft as sft
from tests.stages import test_s6_reward as reward
from tests.stages import test_s7_ppo as ppo
from tests.stages.small import Crash, crash_after, imported_lm, same_training, weights, workspace

LORA = Lora(rank=4, alpha=8.0, targets="all-linear")


class Heard(Quiet):
    """A console that keeps what it is told."""

    def __init__(self):
        super().__init__()
        self.lines: list[str] = []

    def log(self, message: str) -> None:
        self.lines.append(message)


def test_sft_with_an_adapter_learns_the_mapping_and_leaves_a_plain_model(tmp_path: Path):
    space = workspace(tmp_path)
    config = sft.CONFIG.model_copy(update={"num_epochs": 20, "lora": LORA, "lr": 0.02})
    base = imported_lm(space, width=64)  # of half that width the frozen head could not be sure enough of any token
    run = sft.sft(space, config, base=base, **sft.demonstrations(space, times=2))
    assert set(run.outputs) == {"model", "epochs", "adapter"}
    assert weights(run.file("epochs/20")) == weights(run.file("model")) != weights(run.file("epochs/19"))
    model, text = load_lm(run.file("model"))
    plain = AutoModelForCausalLM.from_pretrained(run.file("model")).eval()
    for animal, sound in sft.SAYS.items():
        prompt, completion = text.prompt_ids(f"What does the {animal} say?"), text.completion_ids(sound)
        tokens_BT, attention_BT, _ = text.pad_left_right([prompt], [completion])
        for one in (model, plain):
            logprobs_BC = completion_logprobs(one, tokens_BT, attention_BT, len(completion), temperature=1.0)
            assert logprobs_BC.sum().exp().item() > 0.8
    assert run.summary["epoch_valid_loss"][-1] < 0.1


@pytest.mark.parametrize("num_steps", [1, 2])
def test_a_crash_of_sft_with_an_adapter_changes_nothing(tmp_path: Path, monkeypatch, num_steps: int):
    runs = []
    for name, crashes in (("a", False), ("b", True)):
        space = workspace(tmp_path / name)
        parents = {"base": imported_lm(space), **sft.demonstrations(space), **sft.with_text(space)}
        config = sft.MIXED.model_copy(update={"lora": LORA})
        if crashes:
            with crash_after(monkeypatch, num_steps), pytest.raises(Crash):
                sft.sft(space, config, **parents)
            left = next((space.runs / runs[0].path.name / "checkpoints").glob("*.pt"))
            state = torch.load(left, weights_only=True)["model"]
            assert state
            assert all("lora_" in key for key in state)
        runs.append(sft.sft(space, config, **parents))
    assert runs[0].outputs == runs[1].outputs
    assert same_training(*runs)


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory):
    """A workspace with a reward model that was made with LoRA, and the model it was made from."""
    space = workspace(tmp_path_factory.mktemp("learned"))
    parents = reward.parents(space, reward.separable(96))
    run = reward.reward(space, reward.CONFIG.model_copy(update={"lora": LORA, "lr": 0.02}), parents)
    return space, parents["init"], run


def test_a_reward_model_with_an_adapter_learns_and_scores_alike_whole_and_on_its_base(learned):
    _, init, run = learned
    assert set(run.outputs) == {"model", "adapter"}
    assert run.summary["accuracy_heldout"]["value"] > 0.99
    pairs = [(f"Let the {animal} speak.", "woof says") for animal in reward.ANIMALS]
    scorer = Scorer.load(run.file("model"))
    scores = scorer.scores(pairs)
    assert sum(scores) / 4 == pytest.approx(0.0, abs=1e-4)
    base, _ = load_lm(init.file("model"))
    on_base, text = ScalarModel.load_shared(base, run.file("adapter"), run.file("model"))
    assert Scorer(on_base, text).scores(pairs) == pytest.approx(scores, abs=1e-5)
    plain = AutoModelForSequenceClassification.from_pretrained(run.file("model")).eval()
    logits = [plain(torch.tensor([scorer.ids(*pair)])).logits.item() + plain.config.score_bias for pair in pairs]
    assert logits == pytest.approx(scores, abs=1e-5)


def given(space, init: Run, reward_run: Run, *, with_text: bool = False) -> dict:
    return {**ppo.parents(space, with_text=with_text), "init": init, "reward": reward_run}


@pytest.fixture(scope="module")
def parents_of_ppo(learned) -> dict:
    return given(*learned)


@pytest.fixture(scope="module")
def whole(learned) -> Run:
    """The same reward model without its adapter: nobody knows on what it was made."""
    space, _, run = learned
    copy = Run.start(space.runs, "import", name="whole", round=1, config={}, parents={})
    model, text = ScalarModel.load(run.file("model"))
    model.save(copy.file("model"), text)
    return copy.finish("model")


def test_ppo_with_adapters_stands_on_one_copy_and_says_when_it_cannot(learned, parents_of_ppo, whole: Run):
    space, init, _ = learned
    parents = parents_of_ppo
    apart = {**parents, "reward": whole}
    config = ppo.CONFIG.model_copy(update={"lora": LORA})
    runs, said = [], []
    for of in (parents, apart):
        console = Heard()
        runs.append(s7_ppo.run(config, workspace=space, name="ppo", round=1, parents=of, console=console))
        said.append(" ".join(console.lines))
    assert "policy, reference, value function and reward model stand on one copy of the weights" in said[0]
    assert "value function and reward model on another" in said[1]
    first = [run.metrics()[0] for run in runs]
    assert first[0]["objective/scores"] == pytest.approx(first[1]["objective/scores"], abs=1e-5)
    for row, run in zip(first, runs, strict=True):
        assert row["objective/kl"] == pytest.approx(0.0, abs=1e-5)
        plain = AutoModelForCausalLM.from_pretrained(run.file("model"))
        assert not any("lora" in name for name, _ in plain.named_parameters())
        assert weights(run.file("model")) != weights(init.file("model"))
        assert weights(run.file("model")) != weights(run.file("model_live"))
        assert run.metrics()[-1]["loss/value"] < row["loss/value"]


def test_an_adapter_goes_on_no_other_weights_than_its_own(learned):
    space, init, reward_run = learned
    assert belongs_on(reward_run, init)
    other = imported_lm(space, name="other", seed=9)
    assert not belongs_on(reward_run, other)
    found = load_actors(LORA, {"init": other, "reward": reward_run}, dtype="float32", seed=0)
    whole, _ = ScalarModel.load(reward_run.file("model"))
    row = torch.tensor([[10, 11, 12]]), torch.ones(1, 3, dtype=torch.bool)
    assert torch.equal(found.reward.score(*row), whole.score(*row))


def test_networks_take_the_memory_of_one_copy(learned, whole: Run):
    _, init, reward_run = learned
    parents = {"init": init, "reward": reward_run}
    base = sum(p.nbytes for p in load_lm(init.file("model"))[0].parameters())

    def num_bytes(parents: dict, lora: Lora | None) -> int:
        found = load_actors(lora, parents, dtype="float32", seed=0)
        networks = (found.policy, found.value, found.ref, found.reward)
        return sum({p.data_ptr(): p.nbytes for network in networks for p in network.parameters()}.values())

    assert num_bytes(parents, None) > 3.9 * base
    assert num_bytes(parents, Lora(rank=1, alpha=1.0, targets=("q_proj",))) < 1.6 * base  # three adapters of rank 4, 1
    assert num_bytes({**parents, "reward": whole}, LORA) > 1.9 * base


@pytest.mark.parametrize("is_shared", [True, False])
def test_in_bfloat16_the_base_is_rounded_once_and_what_is_trained_has_masters(learned, whole: Run, is_shared: bool):
    _, init, reward_run = learned
    parents = {"init": init, "reward": reward_run if is_shared else whole}
    found = load_actors(LORA, parents, dtype="bfloat16", seed=0)
    for model in (found.policy, found.value, found.ref, found.reward):
        kept = {name for name, p in model.named_parameters() if p.dtype == torch.float32}
        assert kept <= {"bias", "model.score.weight"}
    for model in (found.policy, found.value):
        assert {p.dtype for p in trained(model).values()} == {torch.float32}
    assert not trained(found.ref)
    assert not trained(found.reward)
    row = torch.tensor([[10, 11, 12]]), torch.ones(1, 3, dtype=torch.bool)
    assert torch.equal(found.value.score(*row), found.reward.score(*row))
    standing = found.ref if is_shared else found.reward
    assert {id(p) for p in found.value.parameters() if not p.requires_grad} <= {id(p) for p in standing.parameters()}


def test_ppo_with_adapters_runs_in_bfloat16(learned, parents_of_ppo):
    config = ppo.CONFIG.model_copy(update={"lora": LORA, "dtype": "bfloat16"})
    run = ppo.ppo(learned[0], config, parents_of_ppo)
    rows = run.metrics()
    assert rows[0]["objective/kl"] == pytest.approx(0.0, abs=0.05)  # rounding: docs/decisions/0007-precision.md
    assert rows[-1]["loss/value"] < rows[0]["loss/value"]
    assert load_lm(run.file("model"))[0].dtype == torch.float32


@pytest.mark.parametrize("num_steps", [2, 5])
def test_a_crash_of_ppo_with_adapters_changes_nothing(learned, tmp_path: Path, monkeypatch, num_steps: int):
    _, init, reward_run = learned
    runs = []
    for name in "ab":
        space = workspace(tmp_path / name)
        brought = {}
        for role, run in (("init", init), ("reward", reward_run)):
            brought[role] = Run.start(space.runs, "import", name=f"{role}-made", round=1, config={}, parents={})
            for output in run.outputs:
                shutil.copytree(run.file(output), brought[role].file(output))
            brought[role].finish(*run.outputs)
        parents = given(space, brought["init"], brought["reward"], with_text=True)
        config = ppo.PTX.model_copy(update={"lora": LORA})
        if name == "b":
            with crash_after(monkeypatch, num_steps), pytest.raises(Crash):
                ppo.ppo(space, config, parents)
        runs.append(ppo.ppo(space, config, parents))
    assert runs[0].outputs == runs[1].outputs
    assert same_training(*runs)
    assert weights(runs[0].file("snapshots/001")) == weights(init.file("model"))
