"""A loop of four steps that take no time, for tests of the command."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from instructloop.console import Console
from instructloop.files import write_atomic
from instructloop.runs import Run
from instructloop.stages.round import Recipe, Step
from instructloop.train.loop import Interrupted
from instructloop.workspace import Workspace, merge_overrides

REPORT = {
    "title": "Toy",
    "seed": 1,
    "simulated": True,
    "wall_seconds": 2.0,
    "policies": {"sft": "SFT", "ppo_ptx": "PPO-ptx"},
    "win_rate_vs_sft": {"ppo_ptx": {"value": 0.61, "low": 0.55, "high": 0.67, "n_prompts": 9, "n_judgements": 20}},
}


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    steps: int


def work(
    config: Config,
    *,
    workspace: Workspace,
    name: str,
    round: int,
    parents: Mapping[str, Run],
    console: Console,
    stage: str,
    wait: float = 0.0,
) -> Run:
    """Count up to `config.steps`; a file `stop-NAME` or `break-NAME` in the cache ends it half-way, once."""
    run = Run.start(
        workspace.runs, stage, name=name, round=round, config=config.model_dump(mode="json"), parents=parents
    )
    state = run.file("state")
    begin = int(state.read_text()) if state.exists() else 0
    for step in range(begin + 1, config.steps + 1):
        run.log(step, {"count": step})
        write_atomic(state, str(step))
        time.sleep(wait)
        for how, error in (("stop", Interrupted(f"stopped after step {step}")), ("break", RuntimeError("no luck"))):
            mark = workspace.cache / f"{how}-{name}"
            if step == 2 and mark.exists():
                mark.unlink()
                raise error
    console.log(f"{name} counted to {config.steps}")
    return _finish(run)


def _finish(run: Run) -> Run:
    run.file("result.json").write_text(json.dumps(run.metrics()))
    if run.name != "evaluation":
        return run.finish("result.json")
    run.file("report.json").write_text(json.dumps(REPORT))
    run.file("report.html").write_text("<p>report</p>")
    return run.finish("result.json", "report.json", "report.html")


def toy(workspace: Workspace, *, wait: float = 0.0, workers: int = 1) -> Recipe:
    """Return the loop; loop.yaml and --set may say how far its steps count."""
    parents: dict[str, dict[str, str]] = {
        "prompts": {},
        "reward": {"prompts": "prompts"},
        "ppo": {"prompts": "prompts", "reward": "reward"},
        "evaluation": {"ppo": "ppo"},
    }
    stages = {"prompts": "s1_prompts", "reward": "s6_reward", "ppo": "s7_ppo", "evaluation": "s9_evaluation"}
    steps = tuple(
        Step(
            name=name,
            run=work,
            stage=stages[name],
            config=merge_overrides(Config(steps=3), workspace.overrides.get(name, {}), where=name),
            parents=parents[name],
            hooks=hooks(stages[name], wait),
        )
        for name in stages
    )
    return Recipe(name="toy", steps=steps, published={"best": "ppo"}, workers=workers, threads=1)


def hooks(stage: str, wait: float) -> dict[str, Any]:
    return {"stage": stage, "wait": wait}


def results(root: Path) -> dict[str, str]:
    """Return what every finished run of a workspace offers: name -> hashes."""
    return {run.id: json.dumps(run.outputs, sort_keys=True) for run in Run.all(root / "runs") if run.is_done}
