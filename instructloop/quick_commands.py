"""What `sft`, `reward` and `ppo` do with --model: find what is named, check it all, train, print the result."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from instructloop.commands import Usage, command, open_workspace
from instructloop.console import open_console
from instructloop.core.records import Split
from instructloop.label_commands import typed_fields
from instructloop.models.kinds import Kind
from instructloop.recipes import QUICK, label_files, quick, small
from instructloop.runs import Run
from instructloop.stages.prompts_file import read_rows
from instructloop.talk.names import Found, find_model
from instructloop.workspace import FILE, Workspace, merge_overrides, parse_set, suggestion

if TYPE_CHECKING:
    from collections.abc import Generator

Config = TypeVar("Config", bound=BaseModel)
NUM_HELDOUT_TEXTS = 50  # of the pretraining text, where no other file is held out


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """What was typed after a verb; `changes` are the fields of its configuration that options set."""

    verb: str
    model: str
    data: str
    held_out: str | None
    directory: Path
    name: str | None
    machine: str | None
    seed: int
    shape: str | None
    fields: Sequence[str]
    prompt: str | None
    changes: Mapping[str, Any]
    settings: Sequence[str]


def sft(typed: Typed) -> None:
    """Fit a model to demonstrations and print its loss on those that were held out, before and after."""
    config = changed(small.sft(machine_of(typed.machine), seed=typed.seed), typed.verb, typed.changes, typed.settings)
    source = _source(typed.model, typed, "policy", (config.max_prompt_tokens, config.max_completion_tokens))
    with _place(typed) as place:
        rows = quick.data(place, _data(typed), "demonstrations")
        fitted, measured = quick.sft(place, config, source(place), rows)
    _say_run(typed, fitted)
    if "loss" in measured.summary:
        _say_before_after("held-out loss", measured.summary["loss"], "nats per token")
    else:
        print("held-out loss: no held-out demonstration is short enough; --max-completion-tokens takes longer ones")
    print(f"next: {command(f'chat {fitted.name}', typed.directory)}")


def reward(typed: Typed) -> None:
    """Fit a reward model to rankings and print how well it foretells those that were held out, beside the length."""
    config = changed(
        small.reward(machine_of(typed.machine), seed=typed.seed), typed.verb, typed.changes, typed.settings
    )
    source = _source(typed.model, typed, "policy", (config.max_prompt_tokens, config.max_completion_tokens))
    with _place(typed) as place:
        rows = quick.data(place, _data(typed), "rankings")
        fitted = quick.reward(place, config, source(place), rows)
    _say_run(typed, fitted)
    found = fitted.summary
    if "accuracy_heldout" in found:
        _say_accuracy(
            found, prompts={row["prompt_id"] for row in read_rows(rows.file("rankings.jsonl")) if _is_held(row)}
        )
    else:
        print("held-out accuracy: no two held-out completions of a prompt that do not tie are short enough")
    print(f"next: {command(f'score {fitted.name} rows.jsonl', typed.directory)}")


def ppo(typed: Typed, reward: str, text: str | None, heldout_text: str | None, num_prompts: int) -> None:
    """Train a policy against a reward model and print scores and KL, held-out scores and loss on text."""
    data = _data(typed)
    configured = small.ppo(
        machine_of(typed.machine), sources=(f"import:{data.name}",), ptx=text is not None, seed=typed.seed
    )
    config = changed(configured, typed.verb, typed.changes, typed.settings)
    tokens = (config.max_prompt_tokens, config.max_new_tokens)
    sources = {
        "init": _source(typed.model, typed, "policy", tokens),
        "reward": _source(reward, typed, "reward model", tokens),
    }
    with _place(typed) as place:
        parents = {"prompts": quick.data(place, data, "prompts")}
        heldout = heldout_text and quick.text(place, heldout_text, label_files.name_of(heldout_text), num_heldout=None)
        if text is not None:
            kept_apart = 0 if heldout_text else NUM_HELDOUT_TEXTS
            parents["pretraining"] = quick.text(place, text, label_files.name_of(text), num_heldout=kept_apart)
            heldout = heldout or parents["pretraining"]
        parents |= {role: source(place) for role, source in sources.items()}
        trained, measured = quick.ppo(place, config, parents, heldout=heldout or None, num_prompts=num_prompts)
    _say_run(typed, trained)
    found = trained.summary
    print(
        f"in training: score {found['first_scores']:.3f} first, {found['last_scores']:.3f} last; "
        f"KL {found['first_kl']:.3f} first, {found['last_kl']:.3f} last, nats per completion"
    )
    _say_scores(measured)
    chat = f"chat {trained.name} --against {parents['init'].id}"
    print(f"next: {command(chat, typed.directory)}")


def _say_scores(measured: Run) -> None:
    """Print what was measured on held-out prompts and text."""
    found = measured.summary
    unit = "mean score, one completion a prompt"
    _say_before_after("held-out score", found["score"], unit, what_counts=f"n = {found['score']['after']['n']} prompts")
    tokens, finished = found["tokens"], found["finished"]
    print(
        f"  {tokens['before']:.1f} tokens before, {tokens['after']:.1f} after; "
        f"ended by themselves {finished['before']:.2f}, {finished['after']:.2f}"
    )
    if "text_loss" in found:
        perplexity = {role: _exponential(found["text_loss"][role]) for role in ("before", "after")}
        print(f"held-out text: perplexity {shown(perplexity['before'])} before, {shown(perplexity['after'])} after")
        change = found["text_loss"]["difference"]
        print(f"  its loss rose by {shown(change)} nats per token, n = {change['n']:,} of {change['n_clusters']} texts")
    print(f"what was written, before and after: {measured.file('completions.jsonl')}")


def _exponential(interval: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: interval[name] for name in ("value", "low", "high")}
    return {name: None if value is None else math.exp(value) for name, value in values.items()}


def _say_accuracy(found: Mapping[str, Any], prompts: Collection[str]) -> None:
    """Print the accuracy on rankings of these prompts; where there is one, completions are what is drawn."""
    accuracy = found["accuracy_heldout"]
    drawn = "prompts" if len(prompts) > 1 else "completions of one prompt"
    print(
        f"held-out accuracy: {shown(accuracy)}, n = {accuracy['n']:,} comparisons of {accuracy['n_clusters']:,} {drawn}"
    )
    print(f"of the longer completion winning: {shown(found['baselines']['longer'])}")
    pull = found["length_correlation"]
    print(f"correlation of score and length inside a prompt: {'none to tell' if pull is None else f'{pull:.3f}'}")
    print(f"  95 % intervals clustered by {drawn.split()[0][:-1]}; a tie of scores or lengths counts a half")


def _is_held(row: Mapping[str, Any]) -> bool:
    return row["split"] == "valid"


def shown(interval: Mapping[str, Any]) -> str:
    """Return an interval as it is printed, an end that the data do not bound as `?`."""
    low, high = ("?" if interval[end] is None else f"{interval[end]:.3f}" for end in ("low", "high"))
    return f"{interval['value']:.3f} [{low}, {high}]"


def _say_before_after(what: str, figures: Mapping[str, Any], unit: str, *, what_counts: str | None = None) -> None:
    before, after = figures["before"], figures["after"]
    print(f"{what}: {shown(before)} before, {shown(after)} after, difference {shown(figures['difference'])}")
    print(f"  {unit}, 95 % intervals clustered by prompt, {what_counts or _sizes(after, 'tokens')}")


def _sizes(interval: Mapping[str, Any], what: str) -> str:
    return f"n = {interval['n']:,} {what} of {interval['n_clusters']:,} prompts"


def _say_run(typed: Typed, run: Run) -> None:
    print(f"run {run.id}: {run.path}")
    print(f"where it comes from: {command(f'lineage {run.name}', typed.directory)}")


def machine_of(word: str | None) -> small.Machine:
    """Return whose numbers are taken: those of --machine, else of a GPU if there is one."""
    if word is None:
        import torch

        return "gpu" if torch.cuda.is_available() else "laptop"
    for known in small.MACHINES:
        if word == known:
            return known
    raise Usage(f"--machine {word!r} is unknown{suggestion(word, small.MACHINES)}")


def changed(
    config: Config, step: str, options: Mapping[str, Any], settings: Sequence[str], *, among: Collection[str] = ()
) -> Config:
    """Return the configuration of a step with what was typed in it.

    Usage for a field that is set twice, and for a step that is not this one or `among` others.
    """
    try:
        typed = parse_set(settings)
    except ValueError as error:
        raise Usage(str(error)) from error
    known = among or (step,)
    if others := [name for name in typed if name not in known]:
        raise Usage(f"--set {others[0]}: there is no such step here{suggestion(others[0], known)}")
    fields = typed.get(step, {})
    if twice := sorted(fields.keys() & options.keys()):
        raise Usage(f"{twice[0]} is set twice, by an option and by --set")
    return merge_overrides(config, {**options, **fields}, where=step)


def _source(name: str, typed: Typed, kind: Kind, tokens: tuple[int, int]) -> Callable[[quick.Place], Run]:
    """Return what makes the run of a model, after checking that it is there and reads as many tokens."""
    from instructloop.models.bringing import is_of_the_hub
    from instructloop.models.lm import context_of

    if Path(name).suffix == ".gguf" or is_of_the_hub(name):

        def bring(place: quick.Place) -> Run:
            run = quick.model(place, name, label_files.name_of(Path(name).stem))
            _check_context(name, context_of(run.file("model")), tokens)
            return run

        return bring
    found = find_model(name, typed.directory if (typed.directory / FILE).exists() else None, kind)
    if found.prefix:
        raise ValueError(f"{name} is a prompt before another policy: name the policy itself")
    _check_context(name, context_of(found.folder), tokens)
    return lambda place: _run_of(found, place)


def _check_context(name: str, limit: int | None, tokens: tuple[int, int]) -> None:
    """Refuse rows that may be longer than the model reads: some models fail on them, others read noise."""
    if limit is not None and sum(tokens) > limit:
        raise ValueError(
            f"a prompt of {tokens[0]} tokens and a completion of {tokens[1]} are {sum(tokens)}, but {name} reads at "
            f"most {limit}: --max-prompt-tokens and --max-completion-tokens set how long they may be"
        )


def _run_of(found: Found, place: quick.Place) -> Run:
    """Return the run that a name means if it is one of this workspace, else the import of the folder."""
    run = found.run
    if run is not None and "model" in run.outputs and run.path.parent.resolve() == place.workspace.runs.resolve():
        return run
    return quick.model(place, str(found.folder), label_files.name_of(found.name))


def _data(typed: Typed) -> quick.Data:
    sources: dict[Split, str] = {"train": typed.data}
    if typed.held_out is not None:
        sources["valid"] = typed.held_out
    return quick.Data(
        sources,
        label_files.name_of(typed.data),
        typed.seed,
        typed.shape,
        typed_fields(typed.fields),
        typed.prompt,
    )


@contextmanager
def _place(typed: Typed) -> Generator[quick.Place]:
    """Yield where the runs are made: the workspace, made when there is none."""
    if (typed.directory / FILE).exists():
        workspace = open_workspace(typed.directory)
    else:
        workspace = Workspace.create(typed.directory, QUICK, seed=typed.seed)
    with open_console() as console:
        yield quick.Place(workspace, console, typed.name or typed.verb)
