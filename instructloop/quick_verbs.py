"""The verbs `sft`, `reward` and `ppo` as they are typed: a stage's steps, or with --model one training by itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

Verb = Literal["sft", "reward", "ppo"]
VERBS: dict[Verb, str] = {"sft": "s3_sft", "reward": "s6_reward", "ppo": "s7_ppo"}
Step = Annotated[str | None, typer.Argument(help="Only this step of the workspace's stage; not with --model.")]
Model = Annotated[
    str | None,
    typer.Option(metavar="MODEL", help="An added model, a run here, a folder, a .gguf file, OWNER/NAME of the hub."),
]
Held = Annotated[
    str | None, typer.Option("--eval", metavar="FILE", help="Held out; a tenth of the prompts if not given.")
]
Directory = Annotated[Path, typer.Option("--dir", "--to", help="The workspace; made with --model if it is none.")]
Name = Annotated[str | None, typer.Option(help="What the run is called; the verb if not given.")]
Machine = Annotated[str | None, typer.Option(help="Whose defaults: laptop or gpu; gpu where there is one.")]
Lr = Annotated[float | None, typer.Option(help="Learning rate at the start.")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the data.")]
LoraRank = Annotated[
    int | None, typer.Option(metavar="RANK", help="Train adapters of this rank; 0: all weights.", min=0)
]
PromptTokens = Annotated[int | None, typer.Option(help="Longer prompts lose lines at their start.")]
CompletionTokens = Annotated[int | None, typer.Option(help="Longer completions are dropped and counted.")]
Seed = Annotated[int | None, typer.Option(help="Of what is held out, of the order, of what is drawn: 1.", min=0)]
Shape = Annotated[str | None, typer.Option(help="The shape of the rows; without it the fields say it.")]
Field = Annotated[list[str] | None, typer.Option(metavar="OURS=THEIRS", help="Which field is which.")]
Prompt = Annotated[str | None, typer.Option(help="The prompt of rows whose own is blank.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="STEP.FIELD=VALUE", help="Any other field of the configuration.")
]


def sft(
    step: Step = None,
    model: Model = None,
    data: Annotated[str | None, typer.Option(metavar="FILE", help="Demonstrations, in any shape.")] = None,
    held_out: Held = None,
    directory: Directory = Path(),
    name: Name = None,
    machine: Machine = None,
    lr: Lr = None,
    epochs: Epochs = None,
    batch: Annotated[int | None, typer.Option(help="Demonstrations of one optimizer step.")] = None,
    lora: LoraRank = None,
    max_prompt_tokens: PromptTokens = None,
    max_completion_tokens: CompletionTokens = None,
    seed: Seed = None,
    shape: Shape = None,
    field: Field = None,
    prompt: Prompt = None,
    settings: Settings = None,
) -> None:
    """Fit demonstrations: the workspace's steps of stage 3, or with --model one model and one file."""
    changes: dict[str, Any] = {
        "lr": lr,
        "num_epochs": epochs,
        "batch_rows": batch,
        "max_prompt_tokens": max_prompt_tokens,
        "max_completion_tokens": max_completion_tokens,
    }
    about = {"data": data, "eval": held_out, "name": name, "machine": machine, "seed": seed}
    rows = {"shape": shape, "field": field, "prompt": prompt}
    _do(
        "sft",
        {"step": step, "model": model, "dir": directory, "set": settings},
        about | rows,
        _given(changes) | _adapter(lora),
    )


def reward(
    step: Step = None,
    model: Model = None,
    data: Annotated[str | None, typer.Option(metavar="FILE", help="Rankings, in any shape.")] = None,
    held_out: Held = None,
    directory: Directory = Path(),
    name: Name = None,
    machine: Machine = None,
    lr: Lr = None,
    epochs: Epochs = None,
    batch: Annotated[int | None, typer.Option(help="Prompts of one optimizer step.")] = None,
    lora: LoraRank = None,
    max_prompt_tokens: PromptTokens = None,
    max_completion_tokens: CompletionTokens = None,
    seed: Seed = None,
    shape: Shape = None,
    field: Field = None,
    prompt: Prompt = None,
    settings: Settings = None,
) -> None:
    """Fit reward models to rankings: the workspace's steps of stage 6, or with --model one model and one file."""
    changes: dict[str, Any] = {
        "lr": lr,
        "num_epochs": epochs,
        "batch_prompts": batch,
        "max_prompt_tokens": max_prompt_tokens,
        "max_completion_tokens": max_completion_tokens,
    }
    about = {"data": data, "eval": held_out, "name": name, "machine": machine, "seed": seed}
    rows = {"shape": shape, "field": field, "prompt": prompt}
    _do(
        "reward",
        {"step": step, "model": model, "dir": directory, "set": settings},
        about | rows,
        _given(changes) | _adapter(lora),
    )


def ppo(
    step: Step = None,
    model: Model = None,
    reward: Annotated[str | None, typer.Option(metavar="MODEL", help="The reward model, named as the policy.")] = None,
    data: Annotated[
        str | None, typer.Option(metavar="FILE", help="Prompts, or labels whose prompts are taken.")
    ] = None,
    held_out: Held = None,
    text: Annotated[str | None, typer.Option(metavar="FILE", help="Pretraining text: PPO-ptx.")] = None,
    held_out_text: Annotated[
        str | None, typer.Option("--eval-text", metavar="FILE", help="Text to measure perplexity on.")
    ] = None,
    directory: Directory = Path(),
    name: Name = None,
    machine: Machine = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate of the policy.")] = None,
    kl_coef: Annotated[float | None, typer.Option(help="Score per nat of KL from the policy at the start.")] = None,
    ptx_coef: Annotated[float | None, typer.Option(help="Weight of the pretraining loss.")] = None,
    iterations: Annotated[int | None, typer.Option(help="Rollouts, each with its optimizer steps.")] = None,
    episodes: Annotated[int | None, typer.Option(help="Completions of one rollout.")] = None,
    lora: LoraRank = None,
    max_prompt_tokens: PromptTokens = None,
    max_completion_tokens: Annotated[int | None, typer.Option(help="Of a completion that is sampled.")] = None,
    eval_prompts: Annotated[int | None, typer.Option(help="Held-out prompts that are answered: 64.", min=2)] = None,
    seed: Seed = None,
    shape: Shape = None,
    field: Field = None,
    settings: Settings = None,
) -> None:
    """Train policies against a reward model: the workspace's steps of stage 7, or with --model one policy."""
    changes: dict[str, Any] = {
        "lr": lr,
        "kl_coef": kl_coef,
        "ptx_coef": ptx_coef,
        "num_iterations": iterations,
        "episodes_per_iteration": episodes,
        "max_prompt_tokens": max_prompt_tokens,
        "max_new_tokens": max_completion_tokens,
    }
    about = {"data": data, "eval": held_out, "name": name, "machine": machine, "seed": seed}
    rows = {"shape": shape, "field": field, "prompt": None}
    more = {"reward": reward, "text": text, "eval_text": held_out_text, "eval_prompts": eval_prompts}
    _do(
        "ppo",
        {"step": step, "model": model, "dir": directory, "set": settings},
        about | rows | more,
        _given(changes) | _adapter(lora),
    )


def plan(
    model: Annotated[str, typer.Option(metavar="MODEL", help="An added model, a run here, a folder, OWNER/NAME.")],
    recipe: Annotated[str, typer.Option(help="small, real or paper: whose numbers.")] = "small",
    machine: Machine = None,
    demonstrations: Annotated[str | None, typer.Option(metavar="FILE|N", help="To count, or how many.")] = None,
    rankings: Annotated[str | None, typer.Option(metavar="FILE|N", help="Likewise.")] = None,
    prompts: Annotated[str | None, typer.Option(metavar="FILE|N", help="Likewise, for PPO.")] = None,
    settings: Settings = None,
) -> None:
    """Say what SFT, a reward model and PPO-ptx would take with a model: memory, operations, time; runs nothing."""
    from instructloop import plan_commands

    data = {"demonstrations": demonstrations, "rankings": rankings, "prompts": prompts}
    plan_commands.show(model, recipe, machine, data, settings or ())


def add_to(app: typer.Typer) -> None:
    """Give the command these verbs."""
    app.command(epilog="Example: instructloop sft --model smollm2 --data demonstrations.jsonl --to mine")(sft)
    app.command(epilog="Example: instructloop reward --model smollm2 --data pairs.jsonl --eval dev.jsonl --to mine")(
        reward
    )
    example = "instructloop ppo --model sft --reward reward --data prompts.jsonl --text books.jsonl --to mine"
    app.command(epilog=f"Example: {example}")(ppo)
    app.command(
        epilog="Example: instructloop plan --model smollm2 --rankings pairs.jsonl --set ppo.num_iterations=100"
    )(plan)


def _do(verb: Verb, common: Mapping[str, Any], options: Mapping[str, Any], changes: Mapping[str, Any]) -> None:
    """Do the workspace's steps, or with --model one training by itself; Usage for a mixture of the two."""
    from instructloop import commands

    given = [*_given(options), *changes]
    if common["model"] is None:
        if given:
            raise commands.Usage(f"{_option(given[0])} has no effect without --model: there loop.yaml and --set say it")
        workspace = commands.open_workspace(common["dir"], common["set"])
        commands.say_states(workspace, commands.run_stage(workspace, VERBS[verb], common["step"]))
        return
    if common["step"] is not None:
        raise commands.Usage(
            f"{common['step']} would be a step of a workspace's recipe, --model a training by itself: give one of them"
        )
    if options["data"] is None:
        raise commands.Usage("--model needs --data FILE beside it")
    from instructloop import quick_commands

    typed = quick_commands.Typed(
        verb=verb,
        model=common["model"],
        directory=common["dir"],
        settings=common["set"] or (),
        held_out=options["eval"],
        fields=options["field"] or (),
        seed=1 if options["seed"] is None else options["seed"],
        changes=changes,
        **{name: options[name] for name in ("data", "name", "machine", "shape", "prompt")},
    )
    if verb == "ppo":
        if options["reward"] is None:
            raise commands.Usage("--model needs --reward MODEL beside it: what the policy is trained against")
        if "ptx_coef" in changes and options["text"] is None:
            raise commands.Usage("--ptx-coef has no effect without --text FILE")
        number = 64 if options["eval_prompts"] is None else options["eval_prompts"]
        quick_commands.ppo(typed, options["reward"], options["text"], options["eval_text"], number)
    else:
        {"sft": quick_commands.sft, "reward": quick_commands.reward}[verb](typed)


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were typed."""
    return {name: value for name, value in options.items() if value is not None}


def _adapter(rank: int | None) -> dict[str, Any]:
    """Return the field `lora` as --lora says it: alpha twice the rank, on every linear layer; 0: no adapter."""
    if rank is None:
        return {}
    return {"lora": {"rank": rank, "alpha": 2.0 * rank, "targets": "all-linear"} if rank else None}


def _option(name: str) -> str:
    renamed = {
        "num_epochs": "epochs",
        "batch_rows": "batch",
        "batch_prompts": "batch",
        "num_iterations": "iterations",
        "episodes_per_iteration": "episodes",
        "max_new_tokens": "max-completion-tokens",
    }
    return "--" + renamed.get(name, name).replace("_", "-")
