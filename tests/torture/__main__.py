"""Kill the whole loop again and again, fill its disk, take its right to write: in the end nothing may be different.

Run by hand, a quarter of an hour on two cores: python -m tests.torture [--seed N] [--dir FOLDER]
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from instructloop.workspace import Workspace
from tests.torture import disk
from tests.torture.artefacts import artefacts, differences, leftovers
from tests.torture.going import REAL, begin
from tests.torture.moments import PLAN, Kill, strike
from tests.torture.world import SETTINGS

FEWEST_KILLS = 20
KINDS = ("sft", "reward", "ppo", "labels", "evaluation")
FROM_CHECKPOINT = ("sft", "reward", "ppo")  # of each, a kill must leave a checkpoint to go on from


def main() -> None:
    """Do all of it and end with exit code 0, or say what is wrong and end with 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the moments of the kills")
    parser.add_argument("--dir", type=Path, help="an empty folder to work in; kept when something is wrong")
    parser.add_argument("--only", choices=("kills", "disk"), help="leave the other half out")
    typed = parser.parse_args()
    folder = typed.dir or Path(tempfile.mkdtemp(prefix="torture-"))
    started = time.monotonic()
    expected, usual = undisturbed(folder / "undisturbed")
    wrong: list[str] = []
    if typed.only != "disk":
        wrong += tortured(folder / "killed", expected, usual, random.Random(typed.seed))
    if typed.only != "kills":
        wrong += disk.from_outside(folder / "small", folder / "undisturbed", typed.seed)
    print(f"{time.monotonic() - started:.0f} seconds")
    if wrong:
        sys.exit("\n".join([*wrong, f"everything is in {folder}"]))
    if typed.dir is None:
        shutil.rmtree(folder)


def undisturbed(workspace: Path) -> tuple[dict, dict[str, float]]:
    """Run the loop with the command as it is; return its artefacts and the seconds that each step took."""
    Workspace.create(workspace, "microworld", SETTINGS)
    go = begin(workspace, REAL)
    if go.wait() != 0:
        sys.exit("the undisturbed loop failed:\n" + "\n".join(go.lines[-5:]))
    print(f"undisturbed: {len(go.ended)} steps in {go.seconds:.0f} s", flush=True)
    return artefacts(workspace), {step: go.ended[step] - go.began[step] for step in go.ended}


def tortured(workspace: Path, expected: dict, usual: dict[str, float], rng: random.Random) -> list[str]:
    """Kill the loop at every moment of the plan, let it end, and return what is wrong with what it left."""
    Workspace.create(workspace, "microworld", SETTINGS)
    kills: list[Kill] = []
    print("kill  after   struck              and there", flush=True)
    for moment in PLAN:
        go = begin(workspace)
        kill = strike(go, workspace, moment, usual, rng)
        if kill is None:
            if go.wait() != 0:
                return ["a go failed by itself:", *go.lines[-5:]]
            continue
        kills.append(kill)
        others = f"; also {', '.join(kill.others)}" if kill.others else ""
        print(f"{len(kills):4}  {kill.seconds:5.2f} s  {kill.step:<18}  {kill.where}{others}", flush=True)
    last = begin(workspace)
    if last.wait() != 0:
        return ["the last go failed:", *last.lines[-5:]]
    return [*unhurt(workspace, expected), *missed(kills)]


def unhurt(workspace: Path, expected: dict) -> list[str]:
    """Say so when a workspace holds exactly what an undisturbed one does; return what is wrong otherwise."""
    found = artefacts(workspace)
    wrong = [f"{workspace / name} is not as undisturbed" for name in differences(found, expected)]
    wrong += [f"{workspace / name} was left behind" for name in leftovers(workspace)]
    if not wrong:
        print(f"all {len(found)} artefacts identical", flush=True)
    return wrong


def missed(kills: list[Kill]) -> list[str]:
    """Return what the kills have not struck: too few of them, a kind of work, work with a checkpoint to go on from."""
    struck = Counter(kill.kind for kill in kills)
    resumed = Counter(kill.kind for kill in kills if kill.has_checkpoint)
    print(", ".join(f"{struck[kind]} in {kind}" for kind in KINDS), flush=True)
    wrong = [f"only {len(kills)} kills"] if len(kills) < FEWEST_KILLS else []
    wrong += [f"no kill struck {kind}" for kind in KINDS if not struck[kind]]
    wrong += [f"no kill left a checkpoint of {kind}" for kind in FROM_CHECKPOINT if not resumed[kind]]
    if not any("report" in kill.where for kill in kills):
        wrong.append("no kill struck the writing of the report")
    return wrong


if __name__ == "__main__":
    main()
