"""Stage 3: fit a language model to demonstrations; run twice, for the SFT baseline and for the PPO init (C.1, C.3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from instructloop.console import Console
from instructloop.core.schedules import cosine_to_tenth
from instructloop.models.lora import Lora
from instructloop.runs import Run
from instructloop.stages.prompts_file import read_rows
from instructloop.workspace import Workspace

if TYPE_CHECKING:
    from torch import nn

    from instructloop.core.batches import LMBatch
    from instructloop.models.lm import PreTrainedModel
    from instructloop.models.text import Text
    from instructloop.train.streams import Epochs, Mixed

Row = tuple[list[int], list[int]]
"""The ids of a prompt and of its completion, EOS last."""


class Config(BaseModel):
    """How a model learns from demonstrations: Adam, cosine to a tenth, no warm-up (paper C.1, C.3)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_epochs: int = Field(gt=0)
    batch_rows: int = Field(gt=0)  # sequences of one optimizer step, text among them
    lr: float = Field(gt=0)  # at the first step
    adam_betas: tuple[float, float]
    adam_eps: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    max_grad_norm: float | None = Field(gt=0)
    dropout: float = Field(ge=0, lt=1)  # of what each attention and MLP adds to the residual stream
    text_fraction: float = Field(ge=0, lt=1)  # of the sequences of a batch: pretraining text (C.3: .1)
    text_window_tokens: int | None = Field(gt=1)  # length of such a sequence; None without text
    learns_prompts: bool  # whether the tokens of the prompt are targets too
    max_prompt_tokens: int = Field(gt=0)  # longer prompts lose lines at their start
    max_completion_tokens: int = Field(gt=0)  # EOS included; longer demonstrations are dropped and counted
    dtype: Literal["float32", "bfloat16"]  # of weights and activations; what adds up stays float32 (train/device.py)
    lora: Lora | None  # train an adapter and leave the base as it is; None: train every weight
    keeps_epochs: bool  # whether each epoch's model stays, for stage 8 to choose among
    seed: int
    micro_batch_rows: int | None = Field(default=16, gt=0)  # like lengths together; None: the batch as it is
    log_every: int = Field(default=10, gt=0)
    gradient_checkpointing: bool = False  # activations are computed again: less memory, a third more time, same result
    compiles_layers: bool = False  # by torch: slow at first, faster after, the same to 1e-5 (models/compiled.py)

    @property
    def num_text_rows(self) -> int:
        """Windows of pretraining text in each batch: the fraction rounded to whole sequences."""
        return round(self.text_fraction * self.batch_rows)


def run(
    config: Config, *, workspace: Workspace, name: str, round: int, parents: Mapping[str, Run], console: Console
) -> Run:
    """Fit `base` to the training rows of `demonstrations`, with windows of `pretraining` in each batch if configured.

    Writes `model/`, the last epoch, and `epochs/NN/` when kept, all of them plain models; with LoRA `adapter/` too.
    Validation demonstrations give a loss per epoch.
    """
    _check(config, parents)
    started = Run.start(
        workspace.runs, "s3_sft", name=name, round=round, config=config.model_dump(mode="json"), parents=parents
    )
    from instructloop.models.adapters import save_adapter
    from instructloop.models.lm import load_lm, save_lm
    from instructloop.train.checkpoint import Checkpoints

    model, text = load_lm(parents["base"].file("model"))
    rows, dropped = _rows(config, parents["demonstrations"], text)
    facts = {"demonstrations": len(rows["train"]), "valid_demonstrations": len(rows["valid"]), **dropped}
    console.log(f"{name}: " + ", ".join(f"{number} {what.replace('_', ' ')}" for what, number in facts.items()))
    stream = _stream(config, rows["train"], text, parents)
    about = f"{name} of round {round} (run {started.id}): {parents['base'].id} fitted to demonstrations."

    def end_epoch(epoch: int) -> dict[str, float]:
        if config.keeps_epochs:
            save_lm(model, text, started.file(f"epochs/{epoch:02d}"), about=about)
        return {"epoch": epoch} | _valid_loss(config, model, rows["valid"], text)

    _fit(config, model, stream, started, end_epoch, console)
    save_lm(model, text, started.file("model"), about=about)
    outputs = ["model", *["epochs"] * config.keeps_epochs, *["adapter"] * (config.lora is not None)]
    if config.lora is not None:
        save_adapter(model, started.file("adapter"), base=parents["base"].id, about=about)
    started.finish(*outputs, summary={**facts, **_losses(started, stream.demonstrations.batches_per_epoch)})
    Checkpoints(started.file("checkpoints"), started.id).clear()
    return started


def _check(config: Config, parents: Mapping[str, Run]) -> None:
    """Refuse settings that contradict each other or would have no effect, before anything is read."""
    if config.text_fraction and not 0 < config.num_text_rows < config.batch_rows:
        raise ValueError(
            f"text_fraction {config.text_fraction} of batch_rows {config.batch_rows} is {config.num_text_rows} "
            f"sequences: at least one must be text and one a demonstration"
        )
    wants = (config.text_fraction > 0, config.text_window_tokens is not None, "pretraining" in parents)
    if any(wants) != all(wants):
        raise ValueError(
            f"text_fraction {config.text_fraction}, text_window_tokens {config.text_window_tokens} and a parent "
            f"`pretraining` ({'given' if wants[2] else 'none'}) belong together: all three, or 0, None and none"
        )


def _rows(config: Config, demonstrations: Run, text: Text) -> tuple[dict[str, list[Row]], dict[str, int]]:
    """Return the ids of training and validation demonstrations, and how many were dropped or cut, by reason."""
    rows: dict[str, list[Row]] = {"train": [], "valid": []}
    dropped = {"dropped_too_long": 0, "of_other_splits": 0, "truncated_prompts": 0}
    for row in read_rows(demonstrations.file("demonstrations.jsonl")):
        completion = text.completion_ids(row["completion"])
        if row["split"] not in rows:
            dropped["of_other_splits"] += 1
        elif len(completion) > config.max_completion_tokens:
            dropped["dropped_too_long"] += 1
        else:
            prompt = text.prompt_ids(row["prompt"])
            if len(prompt) > config.max_prompt_tokens:
                prompt = text.prompt_ids(row["prompt"], max_tokens=config.max_prompt_tokens)
                dropped["truncated_prompts"] += 1
            rows[row["split"]].append((prompt, completion))
    if not rows["train"]:
        raise ValueError(f"{demonstrations.id} holds no demonstration of the training split that fits, {dropped}")
    return rows, dropped


def _stream(config: Config, rows: Sequence[Row], text: Text, parents: Mapping[str, Run]) -> Mixed:
    """Return the batches: demonstrations in epochs and, beside them, windows of pretraining text."""
    from instructloop.train.language import windows_of
    from instructloop.train.streams import Epochs, Mixed

    epochs: Epochs[LMBatch] = Epochs(
        len(rows),
        lambda index: _batch(config, [rows[i] for i in index], text),
        batch_rows=config.batch_rows - config.num_text_rows,
        num_epochs=config.num_epochs,
        seed=config.seed,
    )
    if config.text_window_tokens is None:
        return Mixed(epochs, None, 0)
    windows = windows_of(
        [row["text"] for row in read_rows(parents["pretraining"].file("text.jsonl"))],
        text.document_ids,
        length=config.text_window_tokens,
        num_windows=len(epochs) * config.num_text_rows,
        seed=config.seed,
    )
    return Mixed(epochs, windows, config.num_text_rows)


def _batch(config: Config, rows: Sequence[Row], text: Text) -> LMBatch:
    """Return rows as a batch; when prompts are learned, all but a row's first token is the completion."""
    from instructloop.core.batches import LMBatch

    if config.learns_prompts:
        rows = [(prompt[:1], [*prompt[1:], *completion]) for prompt, completion in rows]
    return LMBatch(*text.pad_left_right([prompt for prompt, _ in rows], [completion for _, completion in rows]))


def _fit(
    config: Config,
    model: PreTrainedModel,
    stream: Mixed,
    started: Run,
    end_epoch: Callable[[int], dict[str, float]],
    console: Console,
) -> None:
    """Train the model in place, with residual dropout instead of whatever dropout its own configuration has."""
    from instructloop.models.adapters import add_adapter
    from instructloop.models.compiled import compile_layers
    from instructloop.models.lm import disable_dropout, residual_dropout
    from instructloop.models.recomputing import recompute_activations
    from instructloop.train.device import to_training_device
    from instructloop.train.language import adam, lm_task
    from instructloop.train.loop import FitConfig, fit

    disable_dropout(model)
    if config.lora is not None:
        add_adapter(model, config.lora, seed=config.seed)
    to_training_device(model, config.dtype).train(config.dropout > 0)
    if config.gradient_checkpointing:
        recompute_activations(model)
    if config.compiles_layers:
        compile_layers(model)
    rates = {"betas": config.adam_betas, "eps": config.adam_eps, "weight_decay": config.weight_decay}
    epoch_steps = stream.demonstrations.batches_per_epoch
    with residual_dropout(model, config.dropout), console.track(len(stream), started.name, unit="steps") as track:
        fit(
            lm_task(model, stream, micro_batch_rows=config.micro_batch_rows),
            adam(model.parameters(), config.lr, **rates),
            lambda step: cosine_to_tenth(step, len(stream)),
            FitConfig(seed=config.seed, max_grad_norm=config.max_grad_norm, log_every=config.log_every),
            started,
            after_step=lambda num_steps: {} if num_steps % epoch_steps else end_epoch(num_steps // epoch_steps),
            track=track,
        )
    model.eval()


def _valid_loss(config: Config, model: nn.Module, rows: Sequence[Row], text: Text) -> dict[str, float]:
    """Return the loss per token on validation demonstrations, rows of like length together; nothing without any."""
    from instructloop.train.language import held_out_loss

    if not rows:
        return {}
    ordered = sorted(rows, key=lambda row: len(row[0]) + len(row[1]))
    size = config.micro_batch_rows or config.batch_rows
    batches = (_batch(config, ordered[start : start + size], text) for start in range(0, len(ordered), size))
    return {"valid/loss": held_out_loss(model, batches)}


def _losses(run: Run, epoch_steps: int) -> dict[str, Any]:
    """Return the mean training loss and the validation loss of each epoch, from the run's metrics."""
    train: list[list[tuple[float, int]]] = []
    valid: list[float] = []
    before = 0
    for row in run.metrics():
        epoch = math.ceil(row["step"] / epoch_steps)
        train += [[] for _ in range(epoch - len(train))]
        train[epoch - 1].append((row["loss"], row["step"] - before))
        before = row["step"]
        valid += [row["valid/loss"]] if "valid/loss" in row else []
    means = [sum(loss * n for loss, n in lines) / sum(n for _, n in lines) for lines in train]
    return {"epoch_train_loss": means, "epoch_valid_loss": valid}
