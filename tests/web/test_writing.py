"""Own prompts and own history over HTTP: forms are posted and looked for in the store."""

import json
from html import escape

import pytest

from instructloop.store import TaskItem
from tests.web.desk_tasks import NOON, comparison_answer, open_comparison, open_demonstrations, submission
from tests.web.test_work import claim, post, rows, shown


def test_a_plain_prompt_is_stored_with_its_writer(store, labeler):
    done = labeler.send_form("/write", kind="plain", instruction="List five birds.\r\nOne a line.")
    assert (done.status_code, done.headers["location"]) == (303, "/write?kind=plain")
    [prompt] = store.prompts(source="labeler")
    assert (prompt.text, prompt.kind, prompt.split) == ("List five birds.\nOne a line.", "plain", None)
    assert prompt.user == labeler.account.labeler_id
    [row] = rows(store, "SELECT instruction FROM written_prompt")
    assert row.instruction == "List five birds.\nOne a line."  # browsers send CR LF
    assert "is in the store" in labeler.get("/write?kind=plain").text


def test_a_few_shot_prompt_keeps_its_pairs_and_blank_ones_do_not_count(store, labeler):
    pairs = {"query": ["cat", "", "dog", " "], "completion": ["meow", "", "woof", "\r\n"]}
    done = labeler.send_form("/write", kind="few_shot", instruction="Say what it says.", **pairs)
    assert done.status_code == 303, done.text
    [row] = rows(store, "SELECT instruction, pairs, use_case FROM written_prompt")
    assert (row.instruction, json.loads(row.pairs), row.use_case) == (
        "Say what it says.",
        [["cat", "meow"], ["dog", "woof"]],
        "",
    )
    assert [prompt.kind for prompt in store.prompts(source="labeler")] == ["few_shot"]


def test_a_user_based_prompt_keeps_its_use_case(store, labeler):
    fields = {"kind": "user_based", "instruction": "Which chain fits my bicycle?", "use_case": "a bicycle shop"}
    assert labeler.send_form("/write", **fields).status_code == 303
    assert [row.use_case for row in rows(store, "SELECT use_case FROM written_prompt")] == ["a bicycle shop"]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"kind": "plain", "instruction": " \r\n "}, "Nothing is written yet."),
        ({"kind": "user_based", "instruction": "Which chain?", "use_case": " "}, "Name the use case"),
        ({"kind": "few_shot", "instruction": "Say.", "query": ["cat"], "completion": ["meow"]}, "at least two pairs"),
        (
            {"kind": "few_shot", "instruction": "Say.", "query": ["cat", "<b>dog"], "completion": ["meow", ""]},
            "Every pair needs both",
        ),
        (
            {"kind": "few_shot", "instruction": "Say.", "query": list("ab" * 16), "completion": list("cd" * 16)},
            "At most 30 pairs",
        ),
        ({"kind": "plain", "instruction": "NUL \x00"}, "NUL"),
    ],
)
def test_a_form_that_is_not_complete_comes_back_filled_in(store, labeler, fields, sentence):
    answer = labeler.send_form("/write", **fields)
    assert answer.status_code == 400
    assert sentence in answer.text
    assert rows(store, "SELECT * FROM written_prompt") == []
    assert store.prompts(source="labeler") == []
    for text in fields.get("query", [fields["instruction"].strip("\x00 \r\n")]):
        assert escape(text) in answer.text


def test_an_unknown_kind_of_prompt_is_refused(store, labeler):
    assert labeler.send_form("/write", kind="poem", instruction="x").status_code == 400
    assert store.prompts(source="labeler") == []


def test_history_shows_ones_own_work_and_leads_to_its_correction(store, labeler, client_of):
    open_demonstrations(store)
    assignment = claim(labeler)
    post(labeler, assignment, "submit", submission({"text": "rain"}))
    labeler.send_form("/write", kind="plain", instruction="A prompt of Lea's")
    page = labeler.get("/history").text
    assert "Write 1 lines about rain." in page
    assert f'href="/work/{assignment["id"]}"' in page
    assert "32 s" in page  # 31.5 s of active time, rounded half to even
    assert "A prompt of Lea&#39;s" in page
    other = client_of("labeler", "train", "Otto Other").get("/history").text
    assert "lines about rain" not in other
    assert "A prompt of Lea" not in other


def test_history_says_how_far_others_agree(store, labeler, client_of):
    open_comparison(store, texts=("one", "two", "three"))
    other = client_of("labeler", "train", "Otto Other")
    first = claim(labeler)
    a, b, c = shown(first)
    post(labeler, first, "submit", submission(comparison_answer([a, b, c], [1, 2, 3])))
    assert "Nobody else has ranked" in labeler.get("/history").text
    # a before b and a before c in both, b and c the other way round: 2 of 3 pairs agree
    post(other, claim(other), "submit", submission(comparison_answer([a, b, c], [1, 3, 2])))
    page = labeler.get("/history").text
    assert "67\N{NARROW NO-BREAK SPACE}%" in page
    assert "3 such pairs in 1 prompts" in page


def test_history_goes_back_page_by_page(store, labeler, clock):
    open_demonstrations(store, 52)
    for place in range(52):
        clock.forward(60)
        assignment = store.desk.next_assignment(labeler.account.labeler_id, clock())
        store.desk.submit(
            assignment.id,
            labeler.account.labeler_id,
            f"rain {place}",
            key=f"key-{place:04}",
            active_seconds=1,
            wall_seconds=1,
            instruction=1,
            now=clock(),
        )
    first = labeler.get("/history").text
    assert first.count("lines about rain") // 2 == 50  # once to read and once in the link's name
    assert "Write 1 lines" not in first
    [older] = {part.split('"')[0] for part in first.split('href="/history?before=')[1:]}
    second = labeler.get(f"/history?before={older}").text
    assert "Write 1 lines" in second
    assert "Write 2 lines" in second
    assert second.count("lines about rain") // 2 == 2
    assert labeler.get("/history?before=assignment-0").status_code == 400


def test_the_language_of_a_prompt_is_what_its_writer_says_and_it_is_shown_in_it_to_others(store, labeler, client_of):
    fields = {"kind": "plain", "instruction": "Nenne fünf Vögel."}
    assert labeler.send_form("/write", **fields, language="de").status_code == 303
    [prompt] = store.prompts(source="labeler")
    store.open_tasks("w", "demonstrate", [TaskItem(prompt.id)], overlap=1, cohort="train", now=NOON)
    page = client_of("labeler", "train", "Bea").get("/work", follow_redirects=True).text
    assert '<div class="text-raw said" dir="auto" lang="de">Nenne fünf Vögel.</div>' in page
    assert '<textarea id="text" name="text" rows="14" dir="auto" lang="de"' in page


def test_a_language_that_nobody_said_is_not_said_to_be_english(store, labeler):
    open_comparison(store)
    page = labeler.get(f"/work/{claim(labeler)['id']}").text
    assert page.count('class="text-raw said" dir="auto" lang=""') == 5  # the prompt and four completions
    assert 'lang="en"' in page.partition("<head>")[0]


def test_a_language_that_is_no_tag_is_refused_and_the_form_kept(store, labeler):
    page = labeler.send_form("/write", kind="plain", instruction="List five birds.", language='"><script>')
    assert page.status_code == 400
    assert "There is no such language." in page.text
    assert "List five birds." in page.text
    assert "<script>" not in page.text
    assert store.prompts() == []


def test_who_reads_one_language_need_not_say_it(store, labeler, clock):
    store.accounts.set_profile(labeler.account.id, ["sv"], "", {})
    assert '<option value="sv" lang="sv" selected>' in labeler.get("/write").text
    store.accounts.set_profile(labeler.account.id, ["sv", "fi"], "", {})
    assert " selected>" not in labeler.get("/write").text
