"""Stage 6: fit a reward model to rankings, then shift it so that demonstrations score 0 on average (3.5, C.2)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from instructloop.console import Console
from instructloop.core.schedules import cosine_to_tenth
from instructloop.models.lora import Lora
from instructloop.runs import Run
from instructloop.stages.policies import weight_files
from instructloop.stages.prompts_file import read_rows
from instructloop.stages.reward_accuracy import demonstration_scores, measure
from instructloop.stages.reward_rows import TokenLimits, fold_labelers, is_frame, ranked_prompts
from instructloop.workspace import Workspace

if TYPE_CHECKING:
    from instructloop.models.scalar import ScalarModel
    from instructloop.models.text import Text
    from instructloop.train.ranked import RankedPrompt

Rows = list[dict[str, Any]]


class Config(BaseModel):
    """How a reward model learns from rankings: one epoch, cosine to a tenth, a batch counted in prompts (C.2)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_epochs: int = Field(gt=0)  # the paper: one; a second one overfits
    batch_prompts: int = Field(gt=0)
    lr: float = Field(gt=0)  # at the first step
    adam_betas: tuple[float, float]
    adam_eps: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    max_grad_norm: float | None = Field(gt=0)
    max_prompt_tokens: int = Field(gt=0)  # longer prompts lose lines at their start
    max_completion_tokens: int = Field(gt=0)  # EOS included; longer completions leave their rankings, counted
    dtype: Literal["float32", "bfloat16"]  # of weights and activations; what adds up stays float32 (train/device.py)
    lora: Lora | None  # train an adapter and the head, leave the rest of `init` as it is; None: train every weight
    num_folds: int | None = Field(gt=1)  # groups of labelers of like data size; None: learn from all
    fold: int | None = Field(ge=0)  # the group that is held out
    seed: int
    micro_batch_rows: int | None = Field(default=32, gt=0)  # completions, like lengths together; a prompt is never cut
    log_every: int = Field(default=1, gt=0)
    gradient_checkpointing: bool = False  # activations are computed again: less memory, a third more time, same result
    compiles_layers: bool = False  # by torch: slow at first, faster after, the same to 1e-5 (models/compiled.py)


def run(
    config: Config, *, workspace: Workspace, name: str, round: int, parents: Mapping[str, Run], console: Console
) -> Run:
    """Fit a scalar head on the `init` model to the training prompts of `rankings` (and of `rankings.NAME`).

    Writes `model/`, and with LoRA `adapter/`, which PPO puts on the weights of `init`. Its accuracy is measured on
    prompts it did not learn from: by labelers whose other rankings it learned from, by those it never saw (a fold, or
    the parent `heldout_rankings`).
    """
    _check(config)
    started = Run.start(
        workspace.runs, "s6_reward", name=name, round=round, config=config.model_dump(mode="json"), parents=parents
    )
    from instructloop.models.lm import load_lm
    from instructloop.models.scalar import ScalarModel
    from instructloop.train.checkpoint import Checkpoints

    model, text = ScalarModel.from_lm(*load_lm(parents["init"].file("model")), seed=config.seed)
    limits = TokenLimits(config.max_prompt_tokens, config.max_completion_tokens)
    rows = [row for role, run in sorted(parents.items()) for row in _rankings(role, run)]
    unseen = fold_labelers(Counter(row["labeler"] for row in rows), config.num_folds, config.fold)
    learned = [row for row in rows if row["split"] == "train" and row["labeler"] not in unseen]
    prompts, facts = ranked_prompts(learned, text, limits)
    console.log(f"{name}: " + ", ".join(f"{number} {what.replace('_', ' ')}" for what, number in facts.items()))
    _fit(config, model, text, prompts, started, console)

    console.log(f"{name}: scores what it did not learn from")
    held_out = _held_out(rows, learned, parents)
    scores, num_too_long = demonstration_scores(model, text, parents["demonstrations"], limits)
    model.shift(-fmean(scores))
    figures = measure(model, text, prompts, held_out, seen={row["labeler"] for row in learned}, limits=limits)
    about = f"{name} of round {round} (run {started.id}): a reward model."
    model.save(started.file("model"), text, about=about)
    if config.lora is not None:
        made_on = {"base": weight_files(parents["init"])}
        model.save_adapter(started.file("adapter"), base=parents["init"].id, about=about, more=made_on)
    spread = {
        "demonstrations": len(scores),
        "dropped_too_long_demonstrations": num_too_long,
        "demonstration_score_std": pstdev(scores),
    }
    outputs = ["model", *["adapter"] * (config.lora is not None)]
    started.finish(*outputs, summary={**facts, **spread, **figures})
    Checkpoints(started.file("checkpoints"), started.id).clear()
    return started


def _check(config: Config) -> None:
    if (config.num_folds is None) != (config.fold is None):
        raise ValueError(f"num_folds {config.num_folds} and fold {config.fold} belong together: both or neither")
    if config.num_folds is not None and config.fold is not None and config.fold >= config.num_folds:
        raise ValueError(f"fold {config.fold} must be below num_folds {config.num_folds}")


def _rankings(role: str, run: Run) -> Rows:
    """Return the rows of a parent that is learned from: `rankings`, or one of several, `rankings.NAME`."""
    return list(read_rows(run.file("rankings.jsonl"))) if role.split(".")[0] == "rankings" else []


def _held_out(rows: Rows, learned: Rows, parents: Mapping[str, Run]) -> Rows:
    """Return the rankings of prompts that nothing was learned of, those of `heldout_rankings` among them.

    Of a prompt that is a frame for many questions (`reward_rows.is_frame`) those of completions never learned of.
    """
    texts: dict[str, set[str]] = defaultdict(set)
    for row in learned:
        texts[row["prompt_id"]].update(one["text"] for one in row["completions"])
    apart = read_rows(parents["heldout_rankings"].file("rankings.jsonl")) if "heldout_rankings" in parents else ()

    def is_unseen(row: Mapping[str, Any]) -> bool:
        seen = texts.get(row["prompt_id"], set())
        return not seen or (is_frame(len(seen)) and not any(one["text"] in seen for one in row["completions"]))

    return [row for row in (*rows, *apart) if is_unseen(row)]


def _fit(
    config: Config, model: ScalarModel, text: Text, prompts: Sequence[RankedPrompt], started: Run, console: Console
) -> None:
    from instructloop.models.compiled import compile_layers
    from instructloop.models.lm import disable_dropout
    from instructloop.models.recomputing import recompute_activations
    from instructloop.train.device import to_training_device
    from instructloop.train.language import adam
    from instructloop.train.loop import FitConfig, fit
    from instructloop.train.ranked import ranked_batch, ranking_task
    from instructloop.train.streams import Epochs

    disable_dropout(model)
    if config.lora is not None:
        model.add_adapter(config.lora, seed=config.seed)
    to_training_device(model, config.dtype)
    if config.gradient_checkpointing:
        recompute_activations(model)
    if config.compiles_layers:
        compile_layers(model)
    stream = Epochs(
        len(prompts),
        lambda index: ranked_batch([prompts[i] for i in index], text, config.micro_batch_rows),
        batch_rows=config.batch_prompts,
        num_epochs=config.num_epochs,
        seed=config.seed,
    )
    rates = {"betas": config.adam_betas, "eps": config.adam_eps, "weight_decay": config.weight_decay}
    with console.track(len(stream), started.name, unit="steps") as track:
        fit(
            ranking_task(model, stream),
            adam(model.parameters(), config.lr, **rates),
            lambda step: cosine_to_tenth(step, len(stream)),
            FitConfig(seed=config.seed, max_grad_norm=config.max_grad_norm, log_every=config.log_every),
            started,
            track=track,
        )
    model.eval()
