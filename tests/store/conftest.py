"""A store on SQLite or PostgreSQL, and a desk that fills it: two labelers a cohort, prompts with completions, forms."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from instructloop.core.records import COHORTS, FLAGS, Completion, Prompt
from instructloop.store import Assignment, ComparisonForm, Store, TaskItem
from tests.store.postgres import BACKENDS, Postgres, name_of, postgres

__all__ = ["postgres"]
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass
class Desk:
    """The store under test and the few things that most tests do with it."""

    store: Store
    now: datetime = NOON

    def later(self, seconds: float) -> datetime:
        return self.now + timedelta(seconds=seconds)

    def prompts(self, number: int, split: str = "train") -> list[Prompt]:
        made = [
            Prompt.make(f"{split} prompt {i}", source="customer", user=f"{split}-{i}", split=split)  # type: ignore[arg-type]
            for i in range(number)
        ]
        self.store.add_prompts(made)
        return made

    def completions(self, prompt: Prompt, number: int) -> list[Completion]:
        sampling = {"temperature": 1.0}
        made = [
            Completion.make(
                prompt.id, f"say {k}", policy=f"p{k}", policy_run="run", index=0, sampling=sampling, finished=True
            )
            for k in range(number)
        ]
        self.store.add_completions(made)
        return made

    def team(self) -> None:
        for cohort in COHORTS:
            for name in ("ann", "bob"):
                self.store.add_labeler(f"{cohort}-{name}", cohort, now=self.now)

    def writing(self, number: int = 1, *, overlap: int = 1, cohort: str = "train", task_set: str = "writing") -> None:
        items = [TaskItem(prompt.id) for prompt in self.prompts(number)]
        self.store.open_tasks(task_set, "demonstrate", items, overlap=overlap, cohort=cohort, now=self.now)  # type: ignore[arg-type]

    def ranking(
        self, number: int = 1, *, k: int = 3, overlap: int = 1, cohort: str = "train", task_set: str = "ranking"
    ) -> None:
        items = [TaskItem(p.id, tuple(c.id for c in self.completions(p, k))) for p in self.prompts(number)]
        self.store.open_tasks(task_set, "compare", items, overlap=overlap, cohort=cohort, now=self.now)  # type: ignore[arg-type]

    def claim(self, task_set: str, labeler: str, after: float = 0) -> Assignment:
        assignment = self.store.claim(task_set, labeler, self.later(after))
        assert assignment is not None
        return assignment

    def write(self, assignment: Assignment, answer: str = "a good answer", after: float = 60, key: str = "k") -> str:
        return self.store.submit_demonstration(assignment.id, answer, now=self.later(after), idempotency_key=key)

    def stored_text(self, submission_id: str) -> str | None:
        with self.store._database.read.connect() as connection:
            query = text("SELECT text FROM demonstration WHERE submission_id = :id")
            return connection.execute(query, {"id": submission_id}).scalar()

    def form(self, assignment: Assignment, **changes: object) -> ComparisonForm:
        shown = [completion.id for completion in assignment.completions]
        whole: dict[str, object] = {
            "ratings": dict.fromkeys(shown, 4),
            "flags": {key: dict.fromkeys(FLAGS, False) for key in shown},
            "tiers": [[key] for key in sorted(shown)],
        }
        return ComparisonForm(**(whole | changes))  # type: ignore[arg-type]

    def rank(self, assignment: Assignment, after: float = 60, key: str = "k", **changes: object) -> str:
        form = self.form(assignment, **changes)
        return self.store.submit_comparison(assignment.id, form, now=self.later(after), idempotency_key=key)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a store that holds its team alone, to copy: faster than migrating for every test."""
    path = tmp_path_factory.mktemp("empty") / "store.db"
    with Store.open(path) as store:
        Desk(store).team()
    return path


@pytest.fixture(scope="session")
def empty_database(postgres: Postgres) -> str:
    """The name of a database on PostgreSQL with the same, to copy."""
    url = postgres.database()
    with Store.open(url) as store:
        Desk(store).team()
    return name_of(url)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """The database of a test; `@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)` for one of them."""
    return request.param


@pytest.fixture
def new_place(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """Where a store may be made: nothing is there yet."""
    if backend == "sqlite":
        yield str(tmp_path / "new.db")
    else:
        yield from passing_database(request.getfixturevalue("postgres"))


@pytest.fixture
def store_place(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """Where a fresh store with its team is."""
    if backend == "sqlite":
        yield str(shutil.copy(request.getfixturevalue("empty_store"), tmp_path / "store.db"))
    else:
        yield from passing_database(request.getfixturevalue("postgres"), request.getfixturevalue("empty_database"))


def passing_database(postgres: Postgres, template: str = "template1") -> Iterator[str]:
    """Yield the URL of a database that is gone after the test."""
    url = postgres.database(template)
    yield url
    postgres.drop(url)


@pytest.fixture
def desk(store_place: str) -> Iterator[Desk]:
    """A fresh store with its team, on each of the databases."""
    with Store.open(store_place) as store:
        yield Desk(store)


ON_BOTH = ("threads", "locks", "desk_threads", "labelling", "freeze", "migrations", "engine", "places", "accounts")
"""Files whose tests run on PostgreSQL each time: what differs between databases. The others do in `make test-all`."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Call the second run of a test, on PostgreSQL, a slow one where nothing of the test hangs on the database."""
    for item in items:
        if "[postgresql" in item.name and item.path.stem.removeprefix("test_") not in ON_BOTH:
            item.add_marker(pytest.mark.slow)
