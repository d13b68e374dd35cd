"""What must hold in the stages as they are run: one BOS, no dropout, every stop token, drops counted, one average."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from instructloop.models import hidden
from instructloop.models.lm import load_lm, save_lm
from instructloop.models.packed import Packing
from instructloop.models.sampler import sample
from instructloop.models.scalar import ScalarModel
from instructloop.models.text import Text
from instructloop.runs import Run
from instructloop.stages import s7_ppo
from instructloop.stages.actors import load_actors
from instructloop.train.ema import Ema
from tests.stages import test_s3_sft as sft
from tests.stages import test_s6_reward as reward
from tests.stages import test_s7_ppo as ppo
from tests.stages.small import workspace
from tests.tiny import tiny_lm, tiny_tokenizer

ONE_ITERATION = {"num_iterations": 1, "num_minibatches": 1, "warmup_iterations": 0, "num_samples_kept": 0}


def imported_model(space, name: str, model, text: Text) -> Run:
    """Return a finished run that holds this model, a language model or a reward model."""
    run = Run.start(space.runs, "import", name=name, round=1, config={}, parents={})
    if isinstance(model, ScalarModel):
        model.save(run.file("model"), text)
    else:
        save_lm(model, text, run.file("model"))
    return run.finish("model")


@contextmanager
def rows_read() -> Generator[list[list[int]]]:
    """Within, collect every row of ids that any model learns from or scores."""
    rows: list[list[int]] = []
    real = hidden.pack

    def packed(tokens_BT: torch.Tensor, attention_BT: torch.Tensor, *others: torch.Tensor | None) -> Packing:
        rows.extend(row[is_real].tolist() for row, is_real in zip(tokens_BT, attention_BT, strict=True))
        return real(tokens_BT, attention_BT, *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hidden, "pack", packed)
        yield rows


@pytest.mark.parametrize("template", [None, "{{ messages[0].content }}", "{{ bos_token }}{{ messages[0].content }}"])
def test_every_stage_reads_exactly_one_bos(tmp_path, monkeypatch: pytest.MonkeyPatch, template: str | None):
    text = Text(tiny_tokenizer(bos=True, chat_template=template))
    spaces = [workspace(tmp_path / stage) for stage in ("sft", "reward", "ppo")]
    inits = [imported_model(space, "chat", tiny_lm(bos=True)[0], text) for space in spaces]
    with rows_read() as rows:
        once = sft.CONFIG.model_copy(update={"num_epochs": 1})
        sft.sft(spaces[0], once, base=inits[0], **sft.demonstrations(spaces[0]))
        num_demonstrations = len(rows)
        scorer = reward.reward(
            spaces[1], reward.CONFIG, reward.parents(spaces[1], reward.separable(8)) | {"init": inits[1]}
        )
    assert num_demonstrations >= 4
    assert len(rows) > num_demonstrations + 3 * 8
    assert {row.count(text.bos_id) for row in rows} == {1}
    prompts: list[list[int]] = []

    def heard(model, own: Text, ids, **settings):
        prompts.extend(ids)
        return sample(model, own, ids, **settings)

    monkeypatch.setattr(s7_ppo, "load_actors", lambda *a, **k: replace(load_actors(*a, **k), sampler=heard))
    given = ppo.parents(spaces[2]) | {"init": inits[2], "reward": scorer}
    ppo.ppo(spaces[2], ppo.CONFIG.model_copy(update=ONE_ITERATION), given)
    assert len(prompts) == 8
    assert {row.count(text.bos_id) for row in prompts} == {1}


@pytest.mark.parametrize("temperature", [0.5, 1.3])
@pytest.mark.parametrize(("architecture", "pad_is_eos"), [("llama", False), ("gpt2", True)])
def test_ppo_begins_at_ratio_one_whatever_dropout_and_stop_tokens_the_models_bring(
    tmp_path, temperature: float, architecture: str, pad_is_eos: bool
):
    space = workspace(tmp_path)
    chat = "{% for m in messages %}{{ m.content + '<|begin|>' }}{% endfor %}"  # <|begin|>, id 2, ends a turn
    model, _ = tiny_lm(architecture, pad_is_eos=pad_is_eos, dropout=0.3)
    text = Text(tiny_tokenizer(pad_is_eos=pad_is_eos, chat_template=chat), stop_ids=[2, *range(100, 200)])
    given = ppo.parents(space) | {
        "init": imported_model(space, "chat", model, text),
        "reward": imported_model(space, "judge", *ScalarModel.from_lm(model, text, seed=4)),
    }
    run = ppo.ppo(space, ppo.CONFIG.model_copy(update=ONE_ITERATION | {"temperature": temperature}), given)
    (row,) = run.metrics()
    assert row["policy/ratio"] == pytest.approx(1.0, abs=1e-5)
    assert row["policy/approxkl"] == pytest.approx(0.0, abs=1e-9)
    assert row["objective/kl"] == pytest.approx(0.0, abs=1e-5)
    assert row["policy/clipfrac"] == row["value/clipfrac"] == 0.0
    assert row["completion/eos_fraction"] > 0.0  # ended by the stop tokens of the generation config
    saved, saved_text = load_lm(run.file("model"))
    assert saved_text.stop_ids == text.stop_ids
    assert not [name for name, value in vars(saved.config).items() if "drop" in name and value]


def test_the_average_moves_once_an_optimizer_step(tmp_path, monkeypatch: pytest.MonkeyPatch):
    space, updates, real = workspace(tmp_path), [], Ema.update
    monkeypatch.setattr(Ema, "update", lambda self: (updates.append(1), real(self))[1])
    config = ppo.PTX.model_copy(update={"micro_batch_rows": 1, "inner_epochs": 2, "snapshot_every": None})
    ppo.ppo(space, config, ppo.parents(space, with_text=True))
    assert len(updates) == 3 * 2 * 2  # iterations x inner epochs x minibatches; micro-batches are six times as many


def test_what_is_too_long_for_the_reward_model_is_dropped_and_counted(tmp_path):
    space = workspace(tmp_path)
    rows = reward.separable(8)
    for row in (rows[0], rows[-1], rows[-2]):  # one to learn from, two held out
        row["completions"][0]["text"] = "woof " * 50
    given = reward.parents(space, rows)
    limits = {"max_completion_tokens": 9}
    run = reward.reward(space, reward.CONFIG.model_copy(update=limits), given)
    _, text = load_lm(given["init"].file("model"))
    assert max(len(text.completion_ids(one["text"])) for row in rows[1:-2] for one in row["completions"]) <= 9
    assert run.summary["dropped_too_long_completions"] == 1
    assert run.summary["heldout_dropped_too_long_completions"] == 2
    assert run.summary["dropped_too_long_demonstrations"] == 0
    assert run.summary["demonstrations"] == 4
