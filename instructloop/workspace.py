"""A project folder: loop.yaml read and checked, the store, runs/ and cache/; what a recipe means is not known here."""

from __future__ import annotations

import difflib
import json
import os
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from instructloop.files import write_atomic
from instructloop.runs import published

if TYPE_CHECKING:
    from instructloop.store.store import Store

Model = TypeVar("Model", bound=BaseModel)
Overrides = Mapping[str, Mapping[str, Any]]
WhoLabels = Literal["simulated", "app"]
FILE = "loop.yaml"
DATABASE = "DATABASE_URL"
"""The environment variable that names the database of a workspace whose people work in the app."""


def utc_now() -> datetime:
    """Return the time; the store takes it from its caller, so that tests can set it."""
    return datetime.now(UTC)


class Loader(yaml.SafeLoader):
    """YAML in which 1e-5 is a number (YAML 1.1 takes it for a word, it has no dot) and no key may stand twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(problem=f"{twice[0]} stands twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


class LoopConfig(BaseModel):
    """What loop.yaml says: `recipe`, `seed`, `round`, perhaps `set` (step -> field -> value), `data` and `people`.

    `data` is a folder. `people: app` makes the steps that need people wait for what labelers do in the app.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    recipe: str = Field(pattern=r"^[a-z0-9_]+$")
    seed: int = Field(ge=0)
    round: int = Field(ge=1)
    overrides: dict[str, dict[str, Any]] = Field(default={}, alias="set")
    data: str | None = None
    people: WhoLabels = "simulated"

    @field_validator("overrides", mode="before")
    @classmethod
    def _nothing_is_no_override(cls, value: Any) -> Any:
        return {} if value is None else value  # `set:` with nothing below it


class Workspace:
    """A project folder at `root`; the store opens when it is first asked for."""

    def __init__(self, root: Path, config: LoopConfig, *, now: Callable[[], datetime] = utc_now):
        self.root = root
        self.config = config
        self.now = now

    @staticmethod
    def create(
        path: Path,
        recipe: str,
        overrides: Overrides | None = None,
        *,
        seed: int = 1,
        round: int = 1,  # noqa: A002 - the word of the field
        data: Path | None = None,
        people: WhoLabels = "simulated",
    ) -> Workspace:
        """Make a workspace in `path`; ValueError when there is one already or the values break a rule of loop.yaml."""
        if (path / FILE).exists():
            raise ValueError(f"{path / FILE} exists already: `instructloop run` goes on with that workspace")
        content: dict[str, Any] = {"recipe": recipe, "seed": seed, "round": round}
        if overrides:
            content["set"] = {step: dict(fields) for step, fields in overrides.items()}
        if data is not None:
            if not data.is_dir():
                raise ValueError(f"data {data} is no folder")
            content["data"] = str(data.resolve())
        if people != "simulated":
            content["people"] = people
        parse_config(content, path / FILE)
        (path / "runs").mkdir(parents=True, exist_ok=True)
        (path / "cache").mkdir(exist_ok=True)
        write_atomic(path / FILE, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
        return Workspace.open(path)

    @staticmethod
    def open(path: Path) -> Workspace:
        """Return the workspace in `path`; ValueError naming file, key and rule when loop.yaml is missing or wrong."""
        file = path / FILE
        try:
            content = read_yaml(file.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ValueError(f"{path} is no workspace: it has no {FILE}; `instructloop init` makes one") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{file} cannot be read: {_problem(error)}") from error
        return Workspace(path, parse_config(content, file))

    @property
    def recipe(self) -> str:
        return self.config.recipe

    @property
    def seed(self) -> int:
        return self.config.seed

    @property
    def round(self) -> int:
        return self.config.round

    @property
    def overrides(self) -> Overrides:
        """Step -> field -> value, as loop.yaml sets them over the recipe."""
        return self.config.overrides

    @property
    def data(self) -> Path | None:
        """The folder of outside data, absolute or seen from the workspace; None where the recipe needs none."""
        return self.root / self.config.data if self.config.data else None

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def published(self) -> dict[str, str]:
        """Name -> run id of what has been published here."""
        return published(self.runs)

    @property
    def waits_for_people(self) -> bool:
        """Whether labelers work in the app and the loop waits for them."""
        return self.config.people == "app"

    @property
    def store_place(self) -> str | Path:
        """Where the store is: store.sqlite, or what DATABASE_URL names where people work in the app."""
        return (os.environ.get(DATABASE) if self.waits_for_people else None) or self.root / "store.sqlite"

    @cached_property
    def store(self) -> Store:
        """The database of prompts, completions and judgements, made when missing."""
        from instructloop.store.store import Store

        return Store.open(self.store_place)

    def __getstate__(self) -> dict[str, Any]:
        """A worker process opens a store of its own."""
        return {name: value for name, value in self.__dict__.items() if name != "store"}

    def with_overrides(self, overrides: Overrides) -> Workspace:
        """Return this workspace with more fields set for this process only (`--set`); loop.yaml stays as it is."""
        merged = {step: dict(fields) for step, fields in self.config.overrides.items()}
        for step, fields in overrides.items():
            merged.setdefault(step, {}).update(fields)
        return Workspace(self.root, self.config.model_copy(update={"overrides": merged}), now=self.now)


def read_yaml(text: str) -> Any:
    """Return what a YAML text says; yaml.YAMLError when it is none."""
    return yaml.load(text, Loader)


def parse_config(content: Any, file: Path) -> LoopConfig:
    """Return loop.yaml's content checked; ValueError naming file, key, value and rule."""
    if not isinstance(content, dict):
        raise ValueError(f"{file} must be a mapping with at least `recipe: NAME`, not {describe(content)}")
    if not all(isinstance(key, str) for key in content):
        raise ValueError(
            f"{file}: every key must be a word, not {next(k for k in content if not isinstance(k, str))!r}"
        )
    try:
        return LoopConfig.model_validate(content)
    except ValidationError as error:
        known = ["recipe", "seed", "round", "set", "data", "people"]
        raise ValueError(f"{file}: {_first_error(error, known)}") from error


def parse_set(settings: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return step -> field -> value of `step.field=value` texts; values are read as YAML, as in loop.yaml."""
    found: dict[str, dict[str, Any]] = {}
    for text in settings:
        match = re.fullmatch(r"([\w-]+)\.([\w.-]+)=(.*)", text, re.DOTALL)
        if not match:
            raise ValueError(f"--set {text!r} must read step.field=value, for example ppo.kl_coef=0.05")
        step, name, value = match.groups()
        try:
            found.setdefault(step, {})[name] = read_yaml(value)
        except yaml.YAMLError as error:
            raise ValueError(f"--set {text!r}: the value cannot be read: {_problem(error)}") from error
    return found


def merge_overrides(model: Model, overrides: Mapping[str, Any], *, where: str = "") -> Model:
    """Return a copy of a frozen configuration with fields replaced, `a.b` or nested mappings reaching inside.

    ValueError names the field, the value and the rule; of an unknown field the nearest one that exists.
    """
    values = model.model_dump(mode="json")
    prefix = f"{where}." if where else ""
    for dotted, value in overrides.items():
        _replace(type(model), values, dotted, value, prefix)
    try:
        # As JSON a list may be a tuple, while strict keeps true from passing for 1.0 and "5" for 5.
        return type(model).model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        raise ValueError(prefix + _first_error(error, list(type(model).model_fields))) from error


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean …?` with the nearest known name, or the list of what is known."""
    names = list(known)
    nearest = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {nearest[0]}?" if nearest else f"; known are {', '.join(names)}"


def describe(value: Any) -> str:
    """Return a value as an error message shows it: short, None as `nothing`."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _problem(error: Exception) -> str:
    """Return what is wrong with a YAML text, with its line where it is known."""
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}: {getattr(error, 'problem', '')}" if mark else str(error)


def _replace(kind: type[BaseModel], values: dict[str, Any], dotted: str, value: Any, prefix: str) -> None:
    """Set one field in the dumped `values` of a model of type `kind`, going inside at dots and mappings."""
    name, _, rest = dotted.partition(".")
    if name not in kind.model_fields:
        raise ValueError(f"{prefix}{name} is no field{suggestion(name, kind.model_fields)}")
    inner = _model_in(kind.model_fields[name].annotation)
    if rest:
        value = {rest: value}
    if isinstance(value, Mapping) and inner is not None and isinstance(values[name], dict):
        for key, inside in value.items():
            _replace(inner, values[name], str(key), inside, f"{prefix}{name}.")
    elif rest and inner is not None:
        raise ValueError(f"{prefix}{name} is {describe(values[name])} now: give all of it at once")
    elif rest:
        raise ValueError(f"{prefix}{name} has no fields inside, so {prefix}{dotted} cannot be set")
    else:
        values[name] = value


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the pydantic model that an annotation is, or holds in a union with None; None when there is none."""
    for option in (annotation, *typing.get_args(annotation)):
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None


def _first_error(error: ValidationError, known: list[str]) -> str:
    """Return the first thing pydantic found as `key value: rule`, with a suggestion for an unknown key."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{key} is no key{suggestion(key, known)}"
    if first["type"] == "missing":
        return f"{key} is missing and has no default"
    rule = first["msg"][:1].lower() + first["msg"][1:]
    if first["type"] == "value_error":  # a validator of ours: its text says it all
        return (f"{key}: " if key else "") + str(first.get("ctx", {}).get("error", rule))
    return f"{key} = {describe(first['input'])}: {rule}"
