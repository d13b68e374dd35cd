"""A file of labels, prompts or text becomes a run: rows of the store with their origin, frozen, every row accounted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict

from instructloop import files
from instructloop.console import Console
from instructloop.core.records import Cohort, Prompt, content_id
from instructloop.formats.converting import Converted, convert
from instructloop.formats.given import Given, GivenPrompt, GivenText, Kind, beside_of
from instructloop.formats.rows import read_rows
from instructloop.recipes.label_rows import Labelled, beside_rows, ready, stored_prompt
from instructloop.runs import Run
from instructloop.store.freeze import Frozen, freeze_demonstrations, freeze_rankings
from instructloop.store.language import is_language
from instructloop.store.rows import ImportedDemonstration, ImportedRanking
from instructloop.workspace import Workspace

LANGUAGE_FIELDS = ("lang", "language")


class Config(BaseModel):
    """How a file is read, and whose labels they are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    name: str  # the origin is import:NAME
    shape: str | None = None  # None: as the fields say
    fields: dict[str, str] = {}  # our field -> the file's
    prompt: str | None = None  # for rows whose prompt is blank
    cohort: Cohort = "train"
    labeler: str | None = None  # of rows that name nobody; None: the origin itself
    split: str | None = None  # of a data set that has several

    @property
    def origin(self) -> str:
        return f"import:{self.name}"


def name_of(source: str) -> str:
    """Return a name for what comes from this file: its own, in lower case, without folder and suffixes."""
    bare = re.sub(r"(\.(jsonl|ndjson|csv|tsv|parquet|gz))+$", "", Path(source).name.lower())
    return re.sub(r"[^a-z0-9_-]+", "-", bare).strip("-_")[:60].strip("-_") or "file"


def bring(config: Config, source: str, *, workspace: Workspace, console: Console) -> Run:
    """Read a file, store what can be used and return the finished run; the same file again is the same run.

    Everything is read and checked before anything is stored. The run holds the rows, what else they said
    (`beside.jsonl`) and the rows dropped by number (`dropped.jsonl`); its manifest the counts.
    """
    converted = convert(
        read_rows(source, config.split),
        config.kind,
        source=source,
        shape=config.shape,
        names=config.fields,
        prompt=config.prompt,
    )
    inputs = {"file": _digest(Path(source), converted)}
    if config.kind in ("text", "prompts"):
        run = _without_labels(config, converted, workspace, inputs)
    else:
        run = _with_labels(config, converted, workspace, inputs)
    console.log(account(run))
    return run


def account(run: Run) -> str:
    """Return in words what an import read, kept and dropped."""
    facts = run.summary
    dropped = "".join(f", {number} {reason}" for reason, number in facts["dropped"].items())
    beside = "".join(f", {number} {name}" for name, number in facts["beside"].items())
    kept = f"{run.name}: {facts['read']} rows of shape {facts['shape']} read, {facts['kept']} kept"
    return f"{kept}; dropped: {dropped[2:] or 'none'}; kept beside: {beside[2:] or 'nothing'}"


def _with_labels(config: Config, converted: Converted, workspace: Workspace, inputs: dict[str, str]) -> Run:
    """Store labels in one transaction, freeze them, finish the run; the next go makes a kill in between good."""
    labels = ready(converted, config.origin, config.labeler)
    _check_labelers(workspace, config, labels.rows)
    tasks = f"{config.origin}-{content_id('file', config.model_dump_json(), inputs['file'])[-8:]}"
    take = workspace.store.import_demonstrations if config.kind == "demonstrations" else workspace.store.import_rankings
    done = take(
        cast(Any, labels.rows),
        origin=config.origin,
        labeler=config.labeler or config.origin,
        cohort=config.cohort,
        now=workspace.now(),
        task_set=tasks,
    )
    _say_languages(config, converted, workspace)
    frozen = _freeze(config, workspace, tasks)
    rows = files.read_jsonl(frozen.path)
    inputs = {**inputs, "labels": frozen.sha256}
    reasons = Converted(converted.shape, converted.kept, labels.dropped).reasons
    for reason, number in {**done.dropped, **frozen.dropped}.items():
        if reason != "repeated":  # in the store: a go that was stopped has put it there
            reasons[reason] = reasons.get(reason, 0) + number
    facts = _facts(converted, len(rows), reasons)
    run = _start(config, workspace, inputs)
    if run.is_done:
        frozen.path.unlink()
        return run
    frozen.path.replace(run.file(f"{config.kind}.jsonl"))
    files.write_jsonl(run.file("beside.jsonl"), beside_rows(rows, labels.given))
    return _finish(run, config, labels.dropped, facts | {"labelers": len({row["labeler"] for row in rows})})


def _say_languages(config: Config, converted: Converted, workspace: Workspace) -> None:
    """Keep in which language prompts are, where a row says so in `lang` or `language`."""
    said = dict[str, str]()
    for _, one in converted.kept:
        tag = next((beside_of(one)[name] for name in LANGUAGE_FIELDS if name in beside_of(one)), None)
        if is_language(tag):
            prompt = one if isinstance(one, GivenPrompt) else cast(Labelled, one).prompt
            said.setdefault(stored_prompt(prompt, config.origin).id, cast(str, tag))
    workspace.store.say_languages(said)


def _freeze(config: Config, workspace: Workspace, tasks: str) -> Frozen:
    """Freeze what was stored; labels of held-out labelers for evaluation alone."""
    purpose: Literal["train", "evaluation"] = "evaluation" if config.cohort == "heldout" else "train"
    freeze = freeze_demonstrations if config.kind == "demonstrations" else freeze_rankings
    path = workspace.cache / f"{content_id('import', tasks)}.jsonl"
    return freeze(workspace.store, [tasks], cohorts=frozenset({config.cohort}), purpose=purpose, path=path)


def _check_labelers(
    workspace: Workspace, config: Config, rows: Sequence[ImportedDemonstration | ImportedRanking]
) -> None:
    """Refuse labelers whose names are taken by others: agreement would take two people for one."""
    named = {row.labeler for row in rows}
    for labeler in workspace.store.labelers():
        if labeler.id in named and (labeler.origin, labeler.cohort) != (config.origin, config.cohort):
            origin = labeler.origin.removeprefix("import:")
            hint = f"--name {origin}" if origin != labeler.origin else "another name in the file"
            raise ValueError(
                f"labeler {labeler.id!r} is known here already ({labeler.origin}, cohort {labeler.cohort}): "
                f"if it is the same person, give {hint} and --cohort {labeler.cohort}"
            )


def _without_labels(config: Config, converted: Converted, workspace: Workspace, inputs: dict[str, str]) -> Run:
    """Write prompts or text into the run; prompts go into the store, too."""
    rows = _prompt_rows(config, converted, workspace) if config.kind == "prompts" else _text_rows(converted)
    run = _start(config, workspace, inputs)
    if run.is_done:
        return run
    files.write_jsonl(run.file(f"{config.kind}.jsonl"), rows)
    files.write_jsonl(
        run.file("beside.jsonl"),
        ({"row": number, "fields": dict(cast(GivenText | GivenPrompt, one).beside)} for number, one in converted.kept),
    )
    return _finish(run, config, converted.dropped, _facts(converted, len(rows), converted.reasons))


def _text_rows(converted: Converted) -> list[dict[str, Any]]:
    return [{"text": cast(GivenText, one).text} for _, one in converted.kept]


def _prompt_rows(config: Config, converted: Converted, workspace: Workspace) -> list[dict[str, Any]]:
    """Store the prompts, the same one once, and return them as stage 1 writes them; the rest counts as repeated."""
    known: dict[str, Prompt] = {}
    kept: list[tuple[int, Given]] = []
    for number, one in converted.kept:
        prompt = stored_prompt(cast(GivenPrompt, one), config.origin)
        if prompt.id in known:
            converted.dropped.append((number, "repeated"))
        else:
            known[prompt.id] = prompt
            kept.append((number, one))
    converted.kept[:] = kept
    workspace.store.add_prompts(known.values())
    _say_languages(config, converted, workspace)
    names = ("id", "text", "source", "user", "split", "kind", "category")
    return [{name: getattr(prompt, name) for name in names} for prompt in known.values()]


def _facts(converted: Converted, num_kept: int, reasons: Mapping[str, int]) -> dict[str, Any]:
    assert converted.num_read == num_kept + sum(reasons.values()), "every row read is kept or dropped for one reason"
    return {
        "shape": converted.shape,
        "read": converted.num_read,
        "kept": num_kept,
        "rows": num_kept,
        "dropped": dict(reasons),
        "beside": converted.fields_beside,
    }


def _start(config: Config, workspace: Workspace, inputs: Mapping[str, str]) -> Run:
    """Return the run of this import, begun or, when the same file was imported before, finished."""
    name = f"import-{config.name}"
    content = config.model_dump(mode="json")
    parents: dict[str, Run] = {}
    identity = Run.identify("import", name=name, round=workspace.round, config=content, parents=parents, inputs=inputs)
    run = Run.get(workspace.runs, identity)
    if run is not None and run.is_done:
        return run
    return Run.start(
        workspace.runs, "import", name=name, round=workspace.round, config=content, parents=parents, inputs=inputs
    )


def _finish(run: Run, config: Config, dropped: Iterable[tuple[int, str]], facts: Mapping[str, Any]) -> Run:
    files.write_jsonl(run.file("dropped.jsonl"), ({"row": row, "reason": why} for row, why in sorted(dropped)))
    return run.finish(f"{config.kind}.jsonl", "beside.jsonl", "dropped.jsonl", summary=facts)


def _digest(source: Path, converted: Converted) -> str:
    """Return the SHA-256 of a file or folder; of a data set from the hub that of what was read from it."""
    if source.exists():
        return files.hash_path(source)
    return content_id("hub", *(repr(one) for _, one in converted.kept))
