"""The schema of report.json, checked before anything is written; docs/report.md explains it field by field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError, model_validator

if TYPE_CHECKING:
    from instructloop.core.rankings import Interval


class Strict(BaseModel):
    """Unknown fields, NaN and infinity are refused: a misspelt field would silently leave a section out."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Bounds(Strict):
    """A figure with the ends of its 95 % interval; an end that the data do not bound is None."""

    value: float
    low: float | None
    high: float | None

    @model_validator(mode="after")
    def value_lies_inside(self) -> Bounds:
        """Refuse an interval that does not hold its own value, up to rounding."""
        slack = 1e-9 * max(1.0, abs(self.value))
        low, high = (self.value if end is None else end for end in (self.low, self.high))
        if not low - slack <= self.value <= high + slack:
            raise ValueError(f"value {self.value} must lie between low {self.low} and high {self.high}")
        return self


class Estimate(Bounds):
    """A mean with its 95 % interval over n items in n_clusters independent groups (None: every item its own)."""

    n: int = Field(ge=1)
    n_clusters: int | None = Field(default=None, ge=1)

    @property
    def sample(self) -> str:
        """What the interval rests on, in words."""
        return f"n = {self.n:,}" + (
            f" in {self.n_clusters:,} clusters" if self.n_clusters not in (None, self.n) else ""
        )


class Judged(Bounds):
    """A mean over judgements with its 95 % interval, clustered by prompt."""

    n_prompts: int = Field(ge=1)
    n_judgements: int = Field(ge=1)

    @property
    def sample(self) -> str:
        """What the interval rests on, in words."""
        return f"{self.n_judgements:,} judgements of {self.n_prompts:,} prompts"


def estimate(interval: Interval) -> dict[str, float | int | None]:
    """Return an `Estimate` as report.json holds it."""
    return Estimate.model_validate(interval.as_dict()).model_dump()


def judged(interval: Interval) -> dict[str, float | int | None]:
    """Return a `Judged` as report.json holds it: the clusters are the prompts, the values the judgements."""
    fields = interval.as_dict()
    counts = {"n_prompts": fields.pop("n_clusters"), "n_judgements": fields.pop("n")}
    return Judged.model_validate({**fields, **counts}).model_dump()


ByPolicy = dict[str, Estimate]
JudgedByPolicy = dict[str, Judged]
Point = tuple[float, float]


class RewardModel(Strict):
    """How often the reward model prefers what the labeler preferred, ties left out; any part may be absent."""

    accuracy_seen_labelers: Estimate | None = None  # folds: labelers whose rankings it was trained on, held-out prompts
    accuracy_unseen_labelers: Estimate | None = None  # folds: labelers it never saw
    accuracy_heldout: Estimate | None = None  # the final reward model on rankings kept out of training
    accuracy_gold: Estimate | None = None  # against the order of the judge
    by_source: dict[str, Estimate] = {}  # the final reward model, by origin of the rankings
    baselines: dict[str, Estimate] = {}  # what a rule that reads nothing reaches on accuracy_heldout's rankings


class TaxTask(Strict):
    """How a task of the alignment tax is shown; `paper` names its counterpart among the paper's tasks."""

    title: str
    metric: str
    is_higher_better: bool = True
    paper: str | None = None  # "hellaswag_few_shot": a key under alignment_tax in `paper`


class KL(Strict):
    """KL(policy || reference) in nats per completion: at the end, and at each logged iteration."""

    final: float
    curve: list[Point]  # (iteration, nats)


class Drift(Strict):
    """One checkpoint on the way away from the reference: the reward model's score (proxy) and the judge's (gold)."""

    iteration: int
    kl: float
    proxy: float
    gold: float | None = None
    gold_low: float | None = None
    gold_high: float | None = None


class GuardCheck(Strict):
    """What a guard saw of a policy on validation prompts: what it writes, and what two reward models say of it."""

    iteration: int
    kl: float
    score: float  # of the reward model that PPO does not learn from
    train_score: float  # of the one it learns from
    length: float
    repetition: float
    eos_fraction: float


class Guard(Strict):
    """The checks of one PPO run for over-optimisation, and what was said when there was reason to."""

    checks: list[GuardCheck] = Field(min_length=1)
    best_iteration: int
    best_score: float
    warnings: list[str] = []

    @model_validator(mode="after")
    def best_is_a_check(self) -> Guard:
        """Refuse a best that no check found."""
        if self.best_iteration not in {check.iteration for check in self.checks}:
            raise ValueError(f"best_iteration {self.best_iteration} is none of the checks")
        return self


class SampleCompletion(Strict):
    policy: str
    text: str
    finished: bool = True
    score: float | None = None  # reward model
    gold: float | None = None  # judge
    rating: float | None = None  # labelers, 1..7, mean
    flags: list[str] = []  # as most of its labelers answered


class Sample(Strict):
    """One prompt with what every policy wrote for it, side by side."""

    prompt_id: str
    prompt: str
    category: str | None = None
    completions: list[SampleCompletion]


class LineageRun(Strict):
    """One run and the runs and outside data it was made from; the hashes are SHA-256."""

    name: str
    stage: str
    round: int | None = None
    parents: dict[str, str] = {}  # role -> id of the run
    inputs: dict[str, str] = {}  # name of outside data -> hash
    outputs: dict[str, str] = {}  # file or folder -> hash
    seconds: float | None = None


class Lineage(Strict):
    """The ancestry of the published policies as a graph: a run that several descend from is listed once."""

    roots: dict[str, str]  # published name -> id of the run
    runs: dict[str, LineageRun]

    @model_validator(mode="after")
    def every_ancestor_is_listed(self) -> Lineage:
        """Refuse a graph that names a run it does not hold."""
        named = {*self.roots.values(), *(parent for run in self.runs.values() for parent in run.parents.values())}
        if missing := sorted(named - self.runs.keys()):
            raise ValueError(f"lineage names runs that it does not list: {', '.join(missing)}")
        return self


class Step(Strict):
    """One step of the loop as it was run."""

    step: str
    run: str | None = None  # id
    seconds: float = Field(ge=0)


class PaperFigure(Strict):
    """A result of the paper: its value, its interval where printed, and where it stands."""

    value: float
    low: float | None = None
    high: float | None = None
    source: str


def _without_gaps(curves: Any) -> Any:
    """Leave out points that are null or not finite: a metric may be undefined at some step."""
    if not isinstance(curves, Mapping):
        return curves
    return {
        metric: {
            run: [p for p in points if p[1] is not None and abs(p[1]) < float("inf")] for run, points in runs.items()
        }
        for metric, runs in curves.items()
    }


Curves = Annotated[dict[str, dict[str, list[Point]]], BeforeValidator(_without_gaps)]


class Report(Strict):
    """All that report.json holds; what a run could not measure is absent, and the page leaves that section out."""

    title: str
    seed: int
    simulated: bool  # True: labelers were simulated, and the page says so
    wall_seconds: float = Field(ge=0)
    round: int = 1
    summary: str = ""  # what the team should know that the figures do not say
    notes: list[str] = []  # findings, one sentence each: a claim that did not come out, with its reason
    policies: dict[str, str] = {}  # name -> label, in the order of every table; left out: the known ones first

    win_rate_vs_sft: JudgedByPolicy | None = None  # held-out labelers, ties one half
    gold_win_rate_vs_sft: JudgedByPolicy | None = None  # the judge
    length_controlled_win_rate_vs_sft: JudgedByPolicy | None = None  # held-out labelers, at equal length
    win_rate_by_category: dict[str, JudgedByPolicy] | None = None  # category -> policy, held-out labelers
    gold_win_rate_by_category: dict[str, JudgedByPolicy] | None = None
    likert: JudgedByPolicy | None = None  # 1..7
    flags: dict[str, JudgedByPolicy] | None = None  # flag -> policy: share of completions it was set on
    reward_score: ByPolicy | None = None  # the reward model's mean score on the completions for held-out prompts
    finished: ByPolicy | None = None  # share of them that ended by themselves
    completion_tokens: ByPolicy | None = None  # their mean length
    reward_model: RewardModel | None = None
    agreement: dict[str, Estimate] | None = None  # cohort -> share of pairs that two labelers order alike
    truthfulness: dict[str, dict[str, ByPolicy]] | None = None  # prompt mode -> measure -> policy
    hallucination: dict[str, ByPolicy] | None = None  # who says so -> policy, closed-domain prompts
    rudeness: dict[str, ByPolicy] | None = None  # prompt mode -> policy
    bias_entropy_bits: dict[str, ByPolicy] | None = None  # prompt mode -> policy
    alignment_tax: dict[str, ByPolicy] | None = None  # task -> policy
    alignment_tax_tasks: dict[str, TaxTask] = {}  # task -> how to show it
    held_out_loss: dict[str, ByPolicy] | None = None  # text -> policy: nats per token
    kl: dict[str, KL] | None = None  # policy
    overoptimisation: dict[str, list[Drift]] | None = None  # policy (or its variant) -> checkpoints
    guards: dict[str, Guard] | None = None  # policy: checks against a reward model that PPO does not learn from
    curves: Curves = {}  # metric -> run name -> (step, value)

    samples: list[Sample] = []
    lineage: Lineage | None = None
    config: dict[str, JsonValue] = {}
    counts: dict[str, int] = {}  # what went in: prompts kept, demonstrations, rankings …
    steps: list[Step] = []
    paper: dict[str, PaperFigure] = {}  # dotted path of a field of this report -> the paper's figure
    machine: dict[str, str] = {}  # what it ran on

    @model_validator(mode="after")
    def tasks_are_measured(self) -> Report:
        """Refuse a description of a task that has no figures."""
        if unknown := sorted(self.alignment_tax_tasks.keys() - (self.alignment_tax or {}).keys()):
            raise ValueError(f"alignment_tax_tasks describes tasks without figures: {', '.join(unknown)}")
        return self


def checked(report: Mapping[str, Any]) -> Report:
    """Return `report` as a `Report`; a wrong or unknown field is a ValueError that names it, its value and the rule."""
    try:
        return Report.model_validate(dict(report))
    except ValidationError as error:
        lines = [
            f"{'.'.join(map(str, e['loc'])) or 'report'}: {e['msg']} (got {str(e['input'])[:80]!r})"
            for e in error.errors()
        ]
        raise ValueError("report.json would be wrong:\n  " + "\n  ".join(lines)) from None
