"""`python -m tests.mutants [NAME ...]`: plant the bugs of the table, or those named, and print who caught them."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from tests.mutants.bug import ROOT, Bug
from tests.mutants.bugs import BUGS
from tests.mutants.plant import check_copy, try_bug

AT_A_TIME = 2


def main(names: Sequence[str]) -> int:
    """Return 0 when every bug was caught, else 1."""
    if unknown := sorted(set(names) - {bug.name for bug in BUGS}):
        print(f"no bug is called {', '.join(unknown)}")
        return 1
    bugs = [bug for bug in BUGS if not names or bug.name in names]
    for bug in bugs:
        bug.planted((ROOT / bug.file).read_text())
    if wrong := unfit_copy(bugs):
        print(wrong)
        return 1
    survivors = plant_all(bugs)
    print(f"planted {len(bugs)}, caught {len(bugs) - len(survivors)}")
    for name in survivors:
        print(f"not caught: {name}")
    return 1 if survivors else 0


def unfit_copy(bugs: Sequence[Bug]) -> str:
    """Run all the tests concerned without any bug, in as many parts as run at a time; return what is wrong."""
    started = time.monotonic()
    tests = sorted({test for bug in bugs for test in bug.tests})
    parts = [part for number in range(AT_A_TIME) if (part := tests[number::AT_A_TIME])]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        wrong = "\n".join(filter(None, pool.map(check_copy, parts)))
    if not wrong:
        print(f"without a bug every test passes ({time.monotonic() - started:.0f} s); now {len(bugs)} bugs", flush=True)
    return wrong


def plant_all(bugs: Sequence[Bug]) -> list[str]:
    """Print a line per bug as its verdict comes; return the names of those that no test caught."""
    started = time.monotonic()
    survivors: list[str] = []
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        bug_of = {pool.submit(try_bug, bug): bug for bug in bugs}
        for number, done in enumerate(as_completed(bug_of), start=1):
            bug, verdict = bug_of[done], done.result()
            survivors += [] if verdict.outcome == "caught" else [bug.name]
            place = f"{number:3}/{len(bugs)} {time.monotonic() - started:5.0f} s"
            print(f"{place}  {verdict.outcome:10} {verdict.seconds:3.0f} s  {bug.name:45} {verdict.detail}", flush=True)
    return survivors


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
