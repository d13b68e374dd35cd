from pathlib import Path

import pytest
import torch

from instructloop.console import Quiet
from instructloop.models.lm import completion_logprobs, load_lm
from instructloop.stages import s3_sft
from tests.stages.small import Crash, crash_after, imported, imported_lm, same_training, weights, workspace

SAYS = {"dog": "woof", "cat": "meow", "bird": "sing", "fish": "nothing"}

CONFIG = s3_sft.Config(
    num_epochs=2,
    batch_rows=4,
    lr=0.01,
    adam_betas=(0.9, 0.95),
    adam_eps=1e-8,
    weight_decay=0.0,
    max_grad_norm=None,
    dropout=0.0,
    text_fraction=0.0,
    text_window_tokens=None,
    learns_prompts=False,
    max_prompt_tokens=30,
    max_completion_tokens=10,
    lora=None,
    keeps_epochs=True,
    dtype="float32",
    seed=1,
)


def demonstrations(space, *, times: int = 1, split: str = "train") -> dict:
    rows = [
        {"prompt": f"What does the {animal} say?", "completion": sound, "split": split}
        for animal, sound in SAYS.items()
        for _ in range(times)
    ]
    extra = [{"prompt": "Say it.", "completion": "la " * 30, "split": "train"}]
    valid = [{"prompt": "What does the dog say?", "completion": "woof", "split": "valid"}]
    return {"demonstrations": imported(space, "demonstrations", {"demonstrations.jsonl": [*rows, *extra, *valid]})}


def sft(space, config: s3_sft.Config = CONFIG, **parents):
    return s3_sft.run(config, workspace=space, name="sft", round=1, parents=parents, console=Quiet())


def with_text(space) -> dict:
    text = [{"text": f"The dog number {i} barks at the cat."} for i in range(20)]
    return {"pretraining": imported(space, "corpus", {"text.jsonl": text})}


MIXED = CONFIG.model_copy(update={"text_fraction": 0.25, "text_window_tokens": 12, "dropout": 0.2})


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_sft_learns_a_mapping_that_the_base_does_not_know(tmp_path: Path, dtype: str):
    space = workspace(tmp_path)
    config = CONFIG.model_copy(update={"num_epochs": 30, "keeps_epochs": False, "dtype": dtype})
    run = sft(space, config, base=imported_lm(space), **demonstrations(space, times=2))
    model, text = load_lm(run.file("model"))
    for animal in SAYS:
        prompt = text.prompt_ids(f"What does the {animal} say?")
        probability = {}
        for sound in SAYS.values():
            completion = text.completion_ids(sound)
            tokens_BT, attention_BT, _ = text.pad_left_right([prompt], [completion])
            logprobs_BC = completion_logprobs(model, tokens_BT, attention_BT, len(completion), temperature=1.0)
            probability[sound] = logprobs_BC.sum().exp().item()
        assert probability[SAYS[animal]] > 0.8, probability
    losses = run.summary["epoch_train_loss"]
    assert len(losses) == 30
    assert losses[0] > 2
    assert losses[-1] < 0.1
    assert run.summary["epoch_valid_loss"][-1] < 0.1


def test_each_epoch_stays_and_the_last_is_the_model(tmp_path: Path):
    space = workspace(tmp_path)
    run = sft(space, base=imported_lm(space), **demonstrations(space))
    assert sorted(path.name for path in run.file("epochs").iterdir()) == ["01", "02"]
    assert weights(run.file("epochs/02")) == weights(run.file("model"))
    assert weights(run.file("epochs/01")) != weights(run.file("model"))
    assert run.summary["demonstrations"] == 4
    assert run.summary["dropped_too_long"] == 1
    assert not run.file("checkpoints").exists()


def test_the_loss_of_the_first_step_is_that_of_the_base_on_completions_alone(tmp_path: Path):
    space = workspace(tmp_path)
    base = imported_lm(space)
    config = CONFIG.model_copy(update={"num_epochs": 1, "log_every": 1})
    run = sft(space, config, base=base, **demonstrations(space))
    model, text = load_lm(base.file("model"))
    total, count = 0.0, 0
    for animal, sound in SAYS.items():  # one by one, without padding
        prompt, completion = text.prompt_ids(f"What does the {animal} say?"), text.completion_ids(sound)
        tokens = torch.tensor([prompt + completion])
        with torch.no_grad():
            logits = model(tokens).logits[0].log_softmax(-1)
        total -= sum(logits[len(prompt) + i - 1, token].item() for i, token in enumerate(completion))
        count += len(completion)
    assert run.metrics()[0]["loss"] == pytest.approx(total / count, abs=1e-5)


def test_prompts_can_be_learned_too(tmp_path: Path):
    space = workspace(tmp_path)
    base = imported_lm(space)
    config = CONFIG.model_copy(update={"num_epochs": 1, "log_every": 1, "learns_prompts": True})
    run = sft(space, config, base=base, **demonstrations(space))
    model, text = load_lm(base.file("model"))
    rows = [
        text.prompt_ids(f"What does the {animal} say?") + text.completion_ids(sound) for animal, sound in SAYS.items()
    ]
    totals = [model(torch.tensor([row]), labels=torch.tensor([row])).loss.item() * (len(row) - 1) for row in rows]
    expected = sum(totals) / sum(len(row) - 1 for row in rows)  # transformers' own loss, each target weighing the same
    assert run.metrics()[0]["loss"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("num_steps", "dtype"), [(1, "float32"), (2, "float32"), (1, "bfloat16")])
def test_a_crash_changes_nothing_with_text_and_dropout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_steps: int, dtype: str
):
    config = MIXED.model_copy(update={"dtype": dtype})
    spaces = [workspace(tmp_path / name) for name in "ab"]
    runs = []
    for space, crashes in zip(spaces, (False, True), strict=True):
        parents = {"base": imported_lm(space), **demonstrations(space), **with_text(space)}
        if crashes:
            with crash_after(monkeypatch, num_steps), pytest.raises(Crash):
                sft(space, config, **parents)
        runs.append(sft(space, config, **parents))
    assert runs[0].id == runs[1].id
    assert runs[0].outputs == runs[1].outputs
    assert same_training(*runs)
    assert runs[1].manifest.resumed


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"text_fraction": 0.25}, "belong together"),
        ({"text_window_tokens": 12}, "belong together"),
        ({"text_fraction": 0.1, "text_window_tokens": 12}, "text_fraction 0.1 of batch_rows 4 is 0 sequences"),
    ],
)
def test_a_setting_without_effect_is_refused(tmp_path: Path, change: dict, complaint: str):
    space = workspace(tmp_path)
    with pytest.raises(ValueError, match=complaint):
        sft(space, CONFIG.model_copy(update=change), base=imported_lm(space), **demonstrations(space))
    assert [path.name for path in space.runs.glob("*-sft-*")] == []


def test_no_demonstration_of_the_training_split_is_refused(tmp_path: Path):
    space = workspace(tmp_path)
    rows = [{"prompt": "a", "completion": "b", "split": "test"}]
    parent = imported(space, "demonstrations", {"demonstrations.jsonl": rows})
    with pytest.raises(ValueError, match="no demonstration of the training split"):
        sft(space, base=imported_lm(space), demonstrations=parent)


def test_the_rate_falls_along_a_cosine_to_a_tenth_without_warm_up(tmp_path: Path):
    space = workspace(tmp_path)
    config = CONFIG.model_copy(update={"num_epochs": 4, "log_every": 1})
    run = sft(space, config, base=imported_lm(space), **demonstrations(space))
    # .1 + .9 (1 + cos(pi k / 4)) / 2 for k = 0 ... 3
    assert [row["lr"] / 0.01 for row in run.metrics()] == pytest.approx([1.0, 0.868198, 0.55, 0.231802], abs=1e-5)


def test_residual_dropout_acts_in_training_and_not_in_validation(tmp_path: Path):
    space = workspace(tmp_path)
    parents = {"base": imported_lm(space), **demonstrations(space)}
    still = CONFIG.model_copy(update={"lr": 1e-12, "keeps_epochs": False})
    plain, dropped = (sft(space, still.model_copy(update={"dropout": dropout}), **parents) for dropout in (0.0, 0.5))
    assert abs(plain.summary["epoch_train_loss"][0] - dropped.summary["epoch_train_loss"][0]) > 1e-3
    assert plain.summary["epoch_valid_loss"] == pytest.approx(dropped.summary["epoch_valid_loss"], abs=1e-5)


def test_dropout_is_gone_from_what_is_saved(tmp_path: Path):
    space = workspace(tmp_path)
    config = MIXED.model_copy(update={"text_fraction": 0.0, "text_window_tokens": None})
    run = sft(space, config, base=imported_lm(space, architecture="gpt2", dropout=0.3), **demonstrations(space))
    model, text = load_lm(run.file("model"))
    tokens_BT, attention_BT, mask_BC = text.pad_left_right([[5, 6]], [[7, 8]])
    found = []
    for mode in (True, False):
        model.train(mode)
        with torch.no_grad():
            found.append(completion_logprobs(model, tokens_BT, attention_BT, mask_BC.shape[1], temperature=1.0))
    assert torch.equal(*found)


def test_activations_computed_again_change_nothing(tmp_path: Path):
    spaces = [workspace(tmp_path / name) for name in "ab"]
    runs = [
        sft(
            space,
            MIXED.model_copy(update={"gradient_checkpointing": again}),
            base=imported_lm(space),
            **demonstrations(space),
            **with_text(space),
        )
        for space, again in zip(spaces, (False, True), strict=True)
    ]
    assert weights(runs[0].file("model")) == weights(runs[1].file("model"))
    assert same_training(*runs)
