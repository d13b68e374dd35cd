"""Stage 7: PPO against the reward model with a KL penalty; PPO-ptx adds pretraining text to each step (3.5, C.4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from instructloop.console import Console
from instructloop.core.records import Prompt
from instructloop.core.schedules import constant_after_warmup
from instructloop.models.lora import Lora
from instructloop.runs import Run
from instructloop.stages import over_optimisation
from instructloop.stages.actors import load_actors, sharing
from instructloop.stages.episode_log import EpisodeLog
from instructloop.stages.prompts_file import read_prompts, read_rows
from instructloop.workspace import Workspace

if TYPE_CHECKING:
    from instructloop.models.sampler import Sampler
    from instructloop.models.text import Text
    from instructloop.train.ema import Ema
    from instructloop.train.guard import Guard
    from instructloop.train.ppo import Iterations
    from instructloop.train.rollouts import Actors
    from instructloop.train.streams import Windows


class Config(BaseModel):
    """How the policy learns from the reward model; an iteration is one rollout and the steps it feeds (C.4)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_iterations: int = Field(gt=0)
    episodes_per_iteration: int = Field(gt=0)
    num_minibatches: int = Field(gt=0)  # of one inner epoch; each is one optimizer step
    inner_epochs: int = Field(gt=0)
    lora: Lora | None  # train adapters on one copy of the weights that all networks share; None: train every weight
    lr: float = Field(gt=0)  # of the policy
    value_lr: float = Field(gt=0)
    warmup_iterations: int = Field(ge=0)  # from a tenth of both rates, then constant
    adam_betas: tuple[float, float]
    adam_eps: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    max_grad_norm: float | None = Field(gt=0)  # of policy and value function each by itself
    kl_coef: float = Field(ge=0)  # score per nat; where it starts when it is steered
    kl_target: float | None = Field(gt=0)  # nats per episode; None: the coefficient is fixed
    kl_horizon: float | None = Field(gt=0)  # episodes
    clip_ratio: float = Field(gt=0)
    clip_value: float = Field(gt=0)
    gamma: float = Field(gt=0, le=1)  # the discount
    lam: float = Field(ge=0, le=1)
    whiten_rewards: bool
    ema_decay: float = Field(ge=0, lt=1)  # per optimizer step
    temperature: float = Field(gt=0)  # of sampling, and of every log-probability
    sources: tuple[str, ...]  # of the training prompts: "customer", "labeler", "import:NAME"
    max_prompt_tokens: int = Field(gt=0)  # longer prompts lose lines at their start
    max_new_tokens: int = Field(gt=0)
    missing_eos: Literal["replace", "subtract"]  # what the penalty does to the score of a completion without EOS
    missing_eos_penalty: float = Field(ge=0)
    ptx_coef: float = Field(ge=0)  # 0: plain PPO
    ptx_examples_per_episode: float | None = Field(gt=0)  # windows of pretraining text (paper: 8)
    ptx_window_tokens: int | None = Field(gt=1)
    dtype: Literal["float32", "bfloat16"]  # of weights and activations; what adds up stays float32 (train/device.py)
    snapshot_every: int | None = Field(gt=0)  # iterations; the policies that made these rollouts stay in snapshots/NNN/
    guard_every: int | None = Field(gt=0)  # iterations between checks for over-optimisation; None: no guard
    guard_prompts: int | None = Field(gt=1)  # validation prompts that a check scores
    guard_patience: int | None = Field(gt=0)  # checks without a new best before it acts
    guard_action: Literal["warn", "stop", "best"] | None  # best: stop, and save the policy of the best check
    seed: int
    engine: Literal["own", "vllm"] = "own"  # what draws rollouts (models/vllm_sampler.py)
    micro_batch_rows: int | None = Field(default=16, gt=0)  # like lengths together; None: the minibatch as it is
    forward_tokens: int = Field(default=4096, gt=0)  # padded tokens of a batch without gradient
    gradient_checkpointing: bool = False  # activations are computed again: less memory, a third more time, same result
    compiles_layers: bool = False  # by torch: slow at first, faster after, the same to 1e-5 (models/compiled.py)
    num_samples_kept: int = Field(default=4, ge=0)  # episodes of each iteration that samples.jsonl keeps

    @property
    def num_ptx_rows(self) -> int:
        """Windows of pretraining text beside each minibatch."""
        return round((self.ptx_examples_per_episode or 0.0) * self.episodes_per_iteration / self.num_minibatches)


def run(
    config: Config, *, workspace: Workspace, name: str, round: int, parents: Mapping[str, Run], console: Console
) -> Run:
    """Train the `init` model on training prompts of `prompts` against `reward`; `init` is the KL reference too.

    Writes `model/` (the moving average), `model_live/`, and `snapshots/NNN/` where wanted, plain models with LoRA too;
    `samples.jsonl`. `guard` is a reward model that learned from other rankings (another fold): `train/guard.py` says
    what it watches for.
    """
    _check(config, parents)
    started = Run.start(
        workspace.runs, "s7_ppo", name=name, round=round, config=config.model_dump(mode="json"), parents=parents
    )
    from instructloop.models.compiled import compile_layers
    from instructloop.models.recomputing import recompute_activations
    from instructloop.train.checkpoint import Checkpoints
    from instructloop.train.ema import Ema
    from instructloop.train.ppo import Iterations

    actors = load_actors(config.lora, parents, dtype=config.dtype, seed=config.seed)
    if config.engine == "vllm":
        actors = replace(actors, sampler=_vllm(config, parents["init"]))
    if config.gradient_checkpointing:
        recompute_activations(actors.policy)
        recompute_activations(actors.value)
    if config.compiles_layers:
        for network in (actors.policy, actors.value, actors.ref, actors.reward):
            compile_layers(network)
    prompts = _prompts(config, parents["prompts"])
    ids = [actors.text.prompt_ids(prompt.text, max_tokens=config.max_prompt_tokens) for prompt in prompts]
    cut = {i for i, one in enumerate(prompts) if len(actors.text.prompt_ids(one.text)) > config.max_prompt_tokens}
    console.log(f"{name}: {config.num_iterations} iterations over {len(prompts)} prompts, {len(cut)} truncated")
    if config.lora is not None:
        console.log(f"{name}: {sharing(parents)}")
    about = f"{name} of round {round} (run {started.id}): {parents['init'].id} trained against {parents['reward'].id}."
    log = EpisodeLog(config, started, actors, prompts, about)
    text, control = _windows(config, actors.text, parents), _kl_control(config)
    stream = Iterations(actors, ids, text, control, config, on_rollout=log.heard, cut_prompts=cut)
    ema = Ema(actors.policy, config.ema_decay)
    guard = over_optimisation.make_guard(config, actors, ema, parents, _alarm(config, stream, name, console))
    _fit(config, actors, stream, ema, started, console, guard)
    _save(actors, ema, guard, started, about)
    facts = {"prompts": len(prompts), "truncated_prompts": len(cut)}
    summary = {**facts, **_ends(started), **over_optimisation.summary(guard)}
    started.finish("model", "model_live", *log.outputs, summary=summary)
    Checkpoints(started.file("checkpoints"), started.id).clear()
    return started


def _vllm(config: Config, init: Run) -> Sampler:
    from instructloop.models.vllm_sampler import VllmSampler

    length = config.max_prompt_tokens + config.max_new_tokens
    return VllmSampler(init.file("model"), dtype=config.dtype, max_tokens=length)


def _save(actors: Actors, ema: Ema, guard: Guard | None, started: Run, about: str) -> None:
    """Write `model_live/`, and as `model/` the average: that of the guard's best check where it stopped the run."""
    from instructloop.models.lm import save_lm

    save_lm(actors.policy, actors.text, started.file("model_live"), about=f"{about} The weights before averaging.")
    if guard is not None and guard.chosen is not None:
        ema.load_state_dict(guard.best_weights)
        about += f" The average of iteration {guard.chosen}, which the guard found best."
    with ema.applied():
        save_lm(actors.policy, actors.text, started.file("model"), about=about)


def _check(config: Config, parents: Mapping[str, Run]) -> None:
    """Refuse settings that contradict each other or would have no effect, before anything is read."""
    if config.episodes_per_iteration % config.num_minibatches:
        raise ValueError(
            f"episodes_per_iteration {config.episodes_per_iteration} must be a multiple of num_minibatches "
            f"{config.num_minibatches}"
        )
    if (config.kl_target is None) != (config.kl_horizon is None):
        raise ValueError(f"kl_target {config.kl_target} and kl_horizon {config.kl_horizon} belong together")
    text = (config.ptx_examples_per_episode is not None, config.ptx_window_tokens is not None, "pretraining" in parents)
    if any(given != (config.ptx_coef > 0) for given in text):
        raise ValueError(
            f"ptx_coef {config.ptx_coef}, ptx_examples_per_episode {config.ptx_examples_per_episode}, "
            f"ptx_window_tokens {config.ptx_window_tokens} and a parent `pretraining` "
            f"({'given' if text[2] else 'none'}) belong together: all four, or 0, None, None and none"
        )
    if config.ptx_coef and not config.num_ptx_rows:
        raise ValueError(f"ptx_examples_per_episode {config.ptx_examples_per_episode} leaves minibatches without text")
    over_optimisation.check(config, parents)


def _prompts(config: Config, run: Run) -> list[Prompt]:
    found = [prompt for prompt in read_prompts(run) if prompt.split == "train" and prompt.source in config.sources]
    if not found:
        raise ValueError(f"{run.id} holds no training prompt of {', '.join(config.sources)}")
    return found


def _windows(config: Config, text: Text, parents: Mapping[str, Run]) -> Windows | None:
    """Return the pretraining text of PPO-ptx; None for plain PPO."""
    from instructloop.train.language import windows_of

    if config.ptx_window_tokens is None:
        return None
    return windows_of(
        [row["text"] for row in read_rows(parents["pretraining"].file("text.jsonl"))],
        text.document_ids,
        length=config.ptx_window_tokens,
        num_windows=config.num_iterations * config.num_minibatches * config.inner_epochs * config.num_ptx_rows,
        seed=config.seed,
    )


def _kl_control(config: Config) -> Any:
    from instructloop.core.returns import AdaptiveKL, FixedKL

    if config.kl_target is None or config.kl_horizon is None:
        return FixedKL(config.kl_coef)
    return AdaptiveKL(config.kl_coef, config.kl_target, config.kl_horizon)


def _alarm(config: Config, stream: Iterations, name: str, console: Console) -> Callable[[str], None]:
    """Return what is done with the guard's sentence: it is said, and training ends if that is the action."""

    def on_warning(sentence: str) -> None:
        console.log(f"{name}: {sentence}")
        if config.guard_action != "warn":
            stream.stop()

    return on_warning


def _fit(
    config: Config,
    actors: Actors,
    stream: Iterations,
    ema: Ema,
    started: Run,
    console: Console,
    guard: Guard | None,
) -> None:
    from instructloop.train.frozen import Frozen
    from instructloop.train.language import adam
    from instructloop.train.loop import FitConfig, fit
    from instructloop.train.ppo import ppo_task

    task = ppo_task(stream, actors.learners, config)
    groups = [
        {"params": list(actors.policy.parameters()), "lr": config.lr, "name": "policy"},
        {"params": list(actors.value.parameters()), "lr": config.value_lr, "name": "value"},
    ]
    watched = {} if guard is None else {"guard": guard, "guard_reward": Frozen(guard.heldout)}
    rates = {"betas": config.adam_betas, "eps": config.adam_eps, "weight_decay": config.weight_decay}
    steps = stream.steps_per_iteration

    def after_step(num_steps: int) -> dict[str, float]:
        ema.update()
        return {} if guard is None or num_steps % steps else guard.after_iteration(num_steps // steps)

    with console.track(len(stream), started.name, unit="steps") as track:
        fit(
            task,
            adam(groups, config.lr, **rates),
            lambda step: constant_after_warmup(step // steps, config.warmup_iterations),
            FitConfig(
                seed=config.seed,
                max_grad_norm=config.max_grad_norm,
                log_every=steps,
                log_unit=steps,
                shown=("objective/scores", "objective/kl"),
            ),
            started,
            state={"ema": ema, "ref": Frozen(actors.ref), "reward": Frozen(actors.reward), **watched},
            after_step=after_step,
            track=track,
        )


def _ends(run: Run) -> dict[str, Any]:
    """Return what the first and the last iteration said of the rollouts."""
    rows: Sequence[dict[str, Any]] = run.metrics()
    names = ("objective/scores", "objective/kl", "completion/length", "completion/eos_fraction")
    return {
        f"{when}_{name.split('/')[1]}": row[name]
        for when, row in (("first", rows[0]), ("last", rows[-1]))
        for name in names
    }
