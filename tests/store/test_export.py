"""Exports: what they hold agrees with what the loop freezes, tells nobody who somebody is, and harms no spreadsheet."""

import csv
import hashlib
import io
import json
import re
import shutil
from datetime import timedelta
from itertools import combinations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from instructloop.core.records import COHORTS, Prompt
from instructloop.store import ComparisonForm, Store, TaskItem, export, freeze_demonstrations, freeze_rankings
from instructloop.store.export_rows import COLUMNS
from instructloop.store.reports import ExportOptions
from tests.store.conftest import Desk
from tests.store.judging import account, judge, tiers_of

SQLITE = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
PSEUDONYM = re.compile(r"(person|submission|prompt|completion|task)-[0-9a-f]{16}")
KINDS = ("judgements", "sft", "rankings", "pairs")
TRAINING = ("sft", "rankings", "pairs")


def exported(desk, kind, path, **options):
    """Export and return the rows and the manifest."""
    done = export(desk.store, kind, path, options=ExportOptions(**options), now=desk.now)
    text = done.path.read_bytes().decode()
    if done.manifest["format"] == "csv":
        return list(csv.DictReader(io.StringIO(text, newline=""))), done.manifest
    return [json.loads(line) for line in text.split("\n")[:-1]], done.manifest


@pytest.fixture
def full(desk):
    """Two labelers on four rankings, one on four demonstrations, a held-out one on two others; one adjudication."""
    desk.ranking(4, overlap=2)
    desk.ranking(2, cohort="heldout", task_set="evaluation")
    desk.writing(4)
    names = [f"train prompt {i}" for i in range(4)]
    judge(desk, "ranking", "train-ann", dict.fromkeys(names, "0>1=2"), ratings={0: 7, 1: 2}, seconds=30)
    done = judge(desk, "ranking", "train-bob", dict.fromkeys(names, "2>1>0"))
    judge(desk, "evaluation", "heldout-ann", dict.fromkeys(names, "0>1>2"))
    for i in range(4):
        desk.write(desk.claim("writing", "train-ann", i), f"written {i}", after=i + 0.5)
    desk.owner = account(desk).id
    assignment = desk.store.items("ranking")[0]
    assert assignment.prompt_id == desk.prompts(1)[0].id
    task = desk.store.research.conflicts(below=1.1).rows[0]
    desk.adjudicated = task
    tiers = tiers_of("0>1>2", desk.completions(task.prompt, 3))
    desk.store.research.adjudicate(task.task_id, tiers, "0 is right", by=desk.owner, now=desk.now)
    desk.done = done
    return desk


def test_ranking_rows_say_what_the_frozen_ones_say(full, tmp_path):
    rows, manifest = exported(full, "rankings", tmp_path / "e.jsonl", task_sets=("ranking",))
    frozen = freeze_rankings(
        full.store, ["ranking"], cohorts=frozenset({"train"}), purpose="train", path=tmp_path / "f.jsonl"
    )
    lines = [json.loads(line) for line in frozen.path.read_text().splitlines()]
    assert sorted(map(in_words, rows)) == sorted(map(in_words, lines))
    assert manifest["num_rows"] == frozen.num_rows == 8
    assert manifest["dropped"] == frozen.dropped


def in_words(line):
    """Return a ranking as its texts say it, whatever its ids are."""
    text = {one["id"]: one["text"] for one in line["completions"]}
    return json.dumps(
        [
            line["prompt"],
            [(one["text"], one["policy"]) for one in line["completions"]],
            [text[key] for key in line["shown"]],
            [sorted(text[key] for key in tier) for tier in line["tiers"]],
            sorted((text[key], value) for key, value in line["ratings"].items()),
            sorted((text[key], sorted(flags.items())) for key, flags in line["flags"].items()),
            [line[name] for name in ("cohort", "origin", "task_set", "split", "category")],
        ]
    )


def test_pairs_are_those_of_the_frozen_rankings_and_a_tie_makes_none(full, tmp_path):
    rows, _ = exported(full, "pairs", tmp_path / "e.jsonl")
    expected = []
    for prompt in range(4):
        # ann: 0>1=2 gives two pairs; bob: 2>1>0 gives three.
        expected += [(f"train prompt {prompt}", f"say {a}", f"say {b}", 2) for a, b in ((0, 1), (0, 2))]
        expected += [(f"train prompt {prompt}", f"say {a}", f"say {b}", 3) for a, b in ((2, 1), (2, 0), (1, 0))]
    assert sorted((r["prompt"], r["chosen"], r["rejected"], r["num_pairs"]) for r in rows) == sorted(expected)
    # The researcher said 0>1>2 on one task: ann's two pairs are the same, bob's three the opposite.
    decided = [row for row in rows if row["prompt"] == full.adjudicated.prompt.text]
    assert sorted(row["adjudicated"] for row in decided) == ["opposite"] * 3 + ["same"] * 2
    assert {row["adjudicated"] for row in rows if row not in decided} == {None}
    assert all(row["chosen_policy"] == f"p{row['chosen'][-1]}" for row in rows)


def test_demonstrations_are_those_of_the_frozen_file(full, tmp_path):
    rows, _ = exported(full, "sft", tmp_path / "e.jsonl")
    frozen = freeze_demonstrations(
        full.store, ["writing"], cohorts=frozenset({"train"}), purpose="train", path=tmp_path / "f.jsonl"
    )
    lines = [json.loads(line) for line in frozen.path.read_text().splitlines()]
    assert sorted((row["prompt"], row["completion"]) for row in rows) == sorted(
        (line["prompt"], line["completion"]) for line in lines
    )


def test_judgements_are_all_that_was_ever_given(full, tmp_path):
    first = full.done["train prompt 0"]
    shown = [completion.id for completion in full.completions(full.prompts(1)[0], 3)]
    form = ComparisonForm(ratings={}, flags={}, tiers=[shown])
    full.store.revise_comparison(first, form, now=full.later(90), idempotency_key="r")
    rows, manifest = exported(full, "judgements", tmp_path / "e.jsonl")
    assert len(rows) == manifest["num_rows"] == 8 + 2 + 4 + 1
    assert sum(not row["is_latest"] for row in rows) == 1
    (revision,) = (row for row in rows if row["revision_of"])
    (old,) = (row for row in rows if row["id"] == revision["revision_of"])
    assert (old["is_latest"], old["labeler"], old["task"]) == (False, revision["labeler"], revision["task"])
    assert {row["cohort"] for row in rows} == {"train", "heldout"}
    assert {(row["kind"], row["completion"] is None) for row in rows} == {("demonstrate", False), ("compare", True)}
    assert sum(row["seconds"] == 30 for row in rows) == 4
    # Every ranking of the adjudicated task carries the researcher's word, a revision too.
    told = [row for row in rows if row["adjudicated_tiers"]]
    assert {row["prompt"] for row in told} == {full.adjudicated.prompt.text}
    assert {len(row["adjudicated_tiers"]) for row in told} == {3}


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_has_the_columns_of_its_kind(full, tmp_path, kind):
    rows, manifest = exported(full, kind, tmp_path / "e.jsonl")
    assert manifest["columns"] == list(COLUMNS[kind])
    assert all(set(row) == set(COLUMNS[kind]) for row in rows)
    assert rows


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("file_format", ["jsonl", "csv"])
@SQLITE
def test_two_exports_share_no_id_and_neither_holds_one_of_the_store(full, tmp_path, kind, file_format):
    texts = []
    for name in ("one", "two"):
        exported(full, kind, tmp_path / name, format=file_format)
        texts.append((tmp_path / name).read_text() + (tmp_path / f"{name}.manifest.json").read_text())
    found = [{match.group() for match in PSEUDONYM.finditer(text)} for text in texts]
    assert found[0]
    assert len(found[0]) == len(found[1])
    assert not found[0] & found[1]
    store = (*(person.id for person in full.store.labelers()), *(prompt.id for prompt in full.store.prompts()))
    users = {prompt.user for prompt in full.store.prompts()}
    ids = [*store, *users, *full.done.values(), *(completion.id for completion in full.store.completions())]
    assert not [key for key in ids if any(key in text for text in texts)]


@SQLITE
def test_one_person_has_one_name_in_an_export_as_judge_and_as_author(desk, tmp_path):
    own = Prompt.make("my own", source="labeler", user="train-ann", split="train")
    desk.store.add_prompts([own])
    desk.store.open_tasks("own", "demonstrate", [TaskItem(own.id)], overlap=2, cohort="train", now=desk.now)
    for labeler in ("train-ann", "train-bob"):
        desk.write(desk.claim("own", labeler), labeler)
    rows, _ = exported(desk, "sft", tmp_path / "e.jsonl")
    by_text = {row["completion"]: row for row in rows}
    assert by_text["train-ann"]["labeler"] == by_text["train-ann"]["user"] == by_text["train-bob"]["user"]
    assert by_text["train-bob"]["labeler"] != by_text["train-ann"]["labeler"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("file_format", ["jsonl", "csv"])
@SQLITE
def test_the_manifest_tells_hash_size_and_number_of_rows(full, tmp_path, kind, file_format):
    path = tmp_path / f"e.{file_format}"
    rows, manifest = exported(full, kind, path, format=file_format)
    assert manifest["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert manifest["num_bytes"] == len(path.read_bytes())
    assert manifest["num_rows"] == len(rows) > 0
    assert json.loads((tmp_path / f"e.{file_format}.manifest.json").read_text()) == manifest
    assert sorted(file.name for file in tmp_path.iterdir() if file.name.startswith((".e", "e"))) == [
        path.name,
        f"{path.name}.manifest.json",
    ]


EVIL = [
    '=HYPERLINK("http://x","y")',
    "+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "\uff1d1",
    'a";=1',
    "a\r\n=b",
    "fine",
]


@SQLITE
def test_no_cell_of_a_csv_file_begins_like_a_formula(desk, tmp_path):
    prompts = [
        Prompt.make(f"{text} {i}", source="customer", user=f"={i}", split="train") for i, text in enumerate(EVIL)
    ]
    desk.store.add_prompts(prompts)
    desk.store.open_tasks(
        "=evil", "demonstrate", [TaskItem(p.id) for p in prompts], overlap=1, cohort="train", now=desk.now
    )
    for i, text in enumerate(EVIL):
        desk.write(desk.claim("=evil", "train-ann", i), text, after=i + 0.5)
    rows, _ = exported(desk, "sft", tmp_path / "e.csv", format="csv")
    cells = [cell for row in rows for cell in row.values()]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"))]
    # Nothing else is changed: one ' in front, and what was no formula is as it was.
    assert sorted(row["completion"] for row in rows) == sorted(
        f"'{text}" if text[0] in "=+-@\t\r\n\uff1d" else text for text in EVIL
    )
    assert {row["task_set"] for row in rows} == {"'=evil"}


@SQLITE
def test_csv_and_json_lines_say_the_same(full, tmp_path):
    for kind in KINDS:
        cells, _ = exported(full, kind, tmp_path / "e.csv", format="csv")
        lines, _ = exported(full, kind, tmp_path / "e.jsonl")
        plain = ("prompt", "cohort", "task_set", "origin")
        assert [[row[name] for name in plain] for row in cells] == [[line[name] for name in plain] for line in lines]
        if kind == "rankings":
            shapes = [[len(tier) for tier in json.loads(row["tiers"])] for row in cells]
            assert shapes == [[len(tier) for tier in line["tiers"]] for line in lines]
            assert [row["category"] for row in cells] == [""] * len(lines)  # null is empty


def test_no_training_kind_takes_the_heldout_cohort(full, tmp_path):
    for kind in TRAINING:
        for cohorts in (("heldout",), ("train", "heldout")):
            for ask in (
                lambda options, kind=kind: export(full.store, kind, tmp_path / "x", options=options, now=full.now),
                lambda options, kind=kind: full.store.exports.create(kind, options, by=full.owner, now=full.now),
            ):
                with pytest.raises(ValueError, match="'heldout' may not enter training data"):
                    ask(ExportOptions(cohorts=cohorts))
        # Named outright, the held-out cohort's set gives nothing.
        if kind != "sft":
            rows, manifest = exported(full, kind, tmp_path / "y", task_sets=("evaluation",))
            assert (rows, manifest["dropped"]) == ([], {"cohort heldout": 2})


def test_who_was_held_out_and_no_longer_is_leaves_those_judgements_behind(full, tmp_path):
    with full.store._database.write.begin() as connection:
        connection.exec_driver_sql("UPDATE labeler SET cohort = 'train' WHERE id = 'heldout-ann'")
    for kind in ("rankings", "pairs"):
        rows, manifest = exported(full, kind, tmp_path / "e", task_sets=("evaluation", "ranking"))
        assert {row["task_set"] for row in rows} == {"ranking"}
        assert manifest["dropped"] == {"task of cohort heldout": 2}


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(COHORTS), st.sampled_from(("ann", "bob")), st.sampled_from(("compare", "demonstrate", "move"))
    ),
    min_size=3,
    max_size=25,
)
COHORT_SETS = [tuple(some) for size in range(1, 5) for some in combinations(COHORTS, size)]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=ACTIONS, wanted=st.sampled_from([None, *COHORT_SETS]), number=st.integers(1, 2))
def test_whatever_people_do_no_training_export_holds_a_heldout_judgement(
    empty_store, tmp_path_factory, actions, wanted, number
):
    folder = tmp_path_factory.mktemp("held")
    with Store.open(shutil.copy(empty_store, folder / "s.db")) as store:
        desk = Desk(store)
        given_by = work(desk, actions, number)
        for kind in TRAINING:
            if wanted and "heldout" in wanted:
                with pytest.raises(ValueError, match="held-out labelers"):
                    exported(desk, kind, folder / "e", cohorts=wanted)
                continue
            rows, _ = exported(desk, kind, folder / "e", cohorts=wanted)
            allowed = set(wanted or ("train",))
            for row in rows:
                asked, now = given_by[row["task_set"], row["prompt"], told(row)]
                assert asked in allowed
                assert now in allowed
                assert "heldout" not in (asked, now)
                assert row["split"] != "test"


def told(row):
    """Return whose a demonstration is, as its text says; of a comparison there is one for each set and prompt."""
    return row.get("completion")


def work(desk, actions, number):
    """Let people work and be moved between cohorts; return (set, prompt, text) -> cohorts when asked and now."""
    prompts = [*desk.prompts(number), *desk.prompts(number, split="test")]
    made = {}
    for cohort in COHORTS:
        items = {
            "demonstrate": [TaskItem(p.id) for p in prompts],
            "compare": [TaskItem(p.id, tuple(c.id for c in desk.completions(p, 2))) for p in prompts],
        }
        for kind, asked in items.items():
            overlap = 2 if kind == "demonstrate" else 1
            desk.store.open_tasks(f"{kind}-{cohort}", kind, asked, overlap=overlap, cohort=cohort, now=desk.now)
    home = {f"{cohort}-{name}": cohort for cohort in COHORTS for name in ("ann", "bob")}
    for i, (cohort, name, action) in enumerate(actions):
        labeler = f"{cohort}-{name}"
        if action == "move":
            home[labeler] = COHORTS[i % 4]
            with desk.store._database.write.begin() as connection:
                statement = f"UPDATE labeler SET cohort = '{home[labeler]}' WHERE id = '{labeler}'"
                connection.exec_driver_sql(statement)
            continue
        task_set = f"{action}-{home[labeler]}"
        if not (assignment := desk.store.claim(task_set, labeler, desk.later(i))):
            continue
        if action == "demonstrate":
            desk.write(assignment, labeler, after=i)
            made[task_set, assignment.prompt.text, labeler] = (home[labeler], labeler)
        else:
            desk.rank(assignment, after=i)
            made[task_set, assignment.prompt.text, None] = (home[labeler], labeler)
    return {key: (asked, home[labeler]) for key, (asked, labeler) in made.items()}


def test_a_selection_that_means_nothing_is_refused(full, tmp_path):
    cases = [
        ("sft", {"task_sets": ("ranking",)}, "task set 'ranking' must be one of writing"),
        ("rankings", {"task_sets": "ranking"}, "must be a collection"),
        ("rankings", {"task_sets": ()}, "must name at least one"),
        ("rankings", {"cohorts": ("trian",)}, "cohort 'trian' must be one of"),
        ("rankings", {"format": "xlsx"}, "format 'xlsx'"),
        ("rewards", {}, "kind 'rewards'"),
        ("frozen", {"task_sets": ("ranking",)}, "one task set of one cohort"),
        ("frozen", {"task_sets": ("ranking",), "cohorts": ("train",), "format": "csv"}, "as JSON lines"),
    ]
    for kind, options, said in cases:
        with pytest.raises(ValueError, match=said):
            exported(full, kind, tmp_path / "x.jsonl", **options)
        with pytest.raises(ValueError, match=said):
            full.store.exports.create(kind, ExportOptions(**options), by=full.owner, now=full.now)
    assert full.store.exports.jobs() == []
    assert not list(tmp_path.glob("*x.jsonl*"))


def test_sets_of_screening_and_calibration_are_exported_when_named_only(full, tmp_path):
    items = [TaskItem(p.id, tuple(c.id for c in full.completions(p, 2))) for p in full.prompts(1)]
    common = {"purpose": "calibration", "cohort": "train", "num_people": 5, "by": full.owner, "now": full.now}
    full.store.screening.open_sets(items, **common)
    judge(full, "calibration", "train-ann", {"train prompt 0": "0>1"})
    for kind in ("judgements", "rankings"):
        rows, manifest = exported(full, kind, tmp_path / "e")
        assert "calibration" not in {*manifest["task_sets"], *(row["task_set"] for row in rows)}
        rows, _ = exported(full, kind, tmp_path / "e", task_sets=("calibration",))
        assert len(rows) == 1


@pytest.mark.parametrize(
    ("task_set", "cohort", "freeze"),
    [
        ("ranking", "train", freeze_rankings),
        ("evaluation", "heldout", freeze_rankings),
        ("writing", "train", freeze_demonstrations),
    ],
)
@SQLITE
def test_a_frozen_file_is_the_loops_own_to_the_byte(full, tmp_path, task_set, cohort, freeze):
    _, manifest = exported(full, "frozen", tmp_path / "e.jsonl", task_sets=(task_set,), cohorts=(cohort,))
    purpose = "evaluation" if cohort == "heldout" else "train"
    own = freeze(full.store, [task_set], cohorts=frozenset({cohort}), purpose=purpose, path=tmp_path / "f.jsonl")
    assert (tmp_path / "e.jsonl").read_bytes() == own.path.read_bytes()
    assert (manifest["sha256"], manifest["purpose"]) == (own.sha256, purpose)


def test_a_job_goes_from_waiting_to_done_once(full, tmp_path):
    exports = full.store.exports
    job = exports.create("rankings", ExportOptions(), by=full.owner, now=full.now)
    assert (job.state, job.options.task_sets, job.options.cohorts) == ("waiting", ("evaluation", "ranking"), ("train",))
    assert exports.start(job.id)
    assert not exports.start(job.id)
    exports.finish(job.id, "e.jsonl", {"num_rows": 8}, now=full.later(5))
    done = exports.job(job.id)
    assert (done.state, done.file, done.manifest, done.finished_at) == (
        "done",
        "e.jsonl",
        {"num_rows": 8},
        full.later(5),
    )
    later = exports.create("sft", ExportOptions(format="csv"), by=full.owner, now=full.now + timedelta(hours=1))
    exports.fail(later.id, "disk is full", now=full.later(9))
    assert [(one.id, one.state, one.error) for one in exports.jobs()] == [
        (later.id, "failed", "disk is full"),
        (job.id, "done", None),
    ]
    assert exports.job("export-x") is None
    with pytest.raises(ValueError, match="'export-x' is not in the store"):
        exports.fail("export-x", "no", now=full.now)
    events = full.store.audit.events(action="export")
    assert [(event.object_id, event.details["kind"]) for event in events] == [(later.id, "sft"), (job.id, "rankings")]


def test_what_a_dead_server_left_is_failed(full):
    exports = full.store.exports
    jobs = [exports.create("sft", ExportOptions(), by=full.owner, now=full.now) for _ in range(3)]
    exports.start(jobs[0].id)
    exports.finish(jobs[2].id, "f", {}, now=full.now)
    assert exports.abandon(now=full.now) == 2
    assert [exports.job(job.id).state for job in jobs] == ["failed", "failed", "done"]
