"""The table of planted bugs fits the code as it is, and a verdict is what pytest said; `make mutants` plants them."""

import pytest

from tests.mutants.bug import ROOT, Bug
from tests.mutants.bugs import BUGS
from tests.mutants.plant import judge


def test_there_are_forty_bugs_or_more_each_with_a_name_of_its_own():
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= 40
    assert len({(bug.file, bug.old, bug.new) for bug in BUGS}) == len(BUGS)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_bug_can_be_planted_and_is_no_syntax_error(bug: Bug):
    source = (ROOT / bug.file).read_text()
    planted = bug.planted(source)  # ValueError unless its old text stands there exactly once
    assert planted != source
    compile(planted, bug.file, "exec")
    assert bug.file.startswith("instructloop/")
    for test in bug.tests:
        file, _, name = test.partition("::")
        assert f"def {name}" in (ROOT / file).read_text(), f"{test} is not there"


@pytest.mark.parametrize("source", ["", "loss = 1\nloss = 1\n"])
def test_a_bug_whose_place_is_gone_or_ambiguous_is_refused(source: str):
    bug = Bug("sign_flipped", "pitfall 28", "loss.py", "loss = 1", "loss = -1", ("test_loss.py",))
    with pytest.raises(ValueError, match=r"sign_flipped: its old text stands \d times in loss.py"):
        bug.planted(source)


@pytest.mark.parametrize(
    ("code", "output", "outcome", "detail"),
    [
        (1, "FAILED tests/a.py::test_b[x y] - assert 1 == 2\n1 failed in 2s", "caught", "tests/a.py::test_b[x y]"),
        (1, "FAILED tests/a.py::test_b\n1 failed", "caught", "tests/a.py::test_b"),
        (0, "12 passed in 2s", "survived", "every test passed"),
        (1, "ERROR tests/a.py::test_b - fixture\n1 error in 2s", "no verdict", "pytest ended with 1: 1 error in 2s"),
        (2, "ERROR tests/a.py\n1 error in 1s\n", "no verdict", "pytest ended with 2: 1 error in 1s"),
        (5, "no tests ran", "no verdict", "pytest ended with 5: no tests ran"),
        (-11, "", "no verdict", "pytest ended with -11: no output"),
        (None, "....", "no verdict", "out of time: ...."),
    ],
)
def test_only_a_failed_test_catches_a_bug(code: int | None, output: str, outcome: str, detail: str):
    verdict = judge(code, output)
    assert (verdict.outcome, verdict.detail) == (outcome, detail)
