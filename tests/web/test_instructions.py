"""Instructions: a preview changes nothing, a save adds a version that labelers see, and old ones stay."""


def newest(store, kind="demonstrate"):
    return store.desk.instruction(kind)


def edit(client, text, *, action="save", based_on=1, kind="demonstrate"):
    path = f"/research/instructions/{kind}"
    return client.send_form(path, markdown=text, action=action, based_on=based_on)


def test_a_preview_shows_the_text_as_html_and_saves_nothing(researcher, store):
    before = newest(store)
    page = edit(researcher, "# Write *well*\n\nBe kind.", action="preview")
    assert page.status_code == 200
    assert "Write <em>well</em></h3>" in page.text
    assert newest(store) == before


def test_a_saved_text_is_the_next_version_with_its_author(researcher, store, clock):
    answer = edit(researcher, "Write well.")
    assert answer.status_code == 303
    saved = newest(store)
    assert (saved.version, saved.markdown) == (2, "Write well.\n")
    assert (saved.created_by, saved.created_at) == (researcher.account.id, clock())
    first = [one for one in store.desk.instructions() if (one.kind, one.version) == ("demonstrate", 1)]
    assert first[0].markdown != saved.markdown
    events = store.audit.events(action="instruction")
    assert [event.actor for event in events] == [researcher.account.id]


def test_what_was_changed_is_shown_line_by_line(researcher):
    edit(researcher, "one\ntwo\nthree")
    edit(researcher, "one\n2\nthree", based_on=2)
    page = researcher.get("/research/instructions/demonstrate").text
    assert '<div class="diff-removed"><span class="sign">\N{MINUS SIGN}</span>two</div>' in page
    assert '<div class="diff-added"><span class="sign">+</span>2</div>' in page
    assert '<div class="diff-same"><span class="sign"> </span>one</div>' in page


def test_a_text_written_beside_a_newer_version_is_not_saved_over_it(researcher, owner, store):
    edit(owner, "The owner's.")
    answer = edit(researcher, "Mine.", based_on=1)
    assert answer.status_code == 400
    assert "saved meanwhile" in answer.text
    assert "Mine." in answer.text  # what was written is still in the form
    assert newest(store).markdown == "The owner's.\n"


def test_an_empty_text_and_the_same_text_are_refused(researcher, store):
    assert edit(researcher, "   \n ").status_code in (400, 422)
    assert edit(researcher, newest(store).markdown).status_code == 400
    assert newest(store).version == 1


def test_auditors_read_and_do_not_write(auditor, store):
    page = auditor.get("/research/instructions/demonstrate")
    assert page.status_code == 200
    assert "<textarea" not in page.text
    assert edit(auditor, "Mine.").status_code == 403
    assert newest(store).version == 1


def test_labelers_have_no_business_here(labeler):
    assert labeler.get("/research/instructions").status_code == 403


def test_unknown_kinds_and_versions_are_not_found(researcher):
    assert researcher.get("/research/instructions/dance").status_code == 404
    assert researcher.get("/research/instructions/demonstrate?version=7").status_code == 404
    assert edit(researcher, "x", kind="dance").status_code == 404
