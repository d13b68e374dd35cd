"""Instructions: the package's first texts, versions, and that nothing rewrites what people worked under."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from instructloop.store.tables_people import INSTRUCTION_KINDS


@pytest.mark.parametrize("kind", INSTRUCTION_KINDS)
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_every_kind_ships_with_a_text_and_worked_examples(desk, kind):
    shown = desk.store.desk.instruction(kind)
    assert (shown.kind, shown.version, shown.created_by, shown.created_at) == (kind, 1, None, None)
    assert shown.markdown.startswith("# ")
    assert len(shown.markdown.split()) > 300
    assert ">" in shown.markdown or "## Example" in shown.markdown


def test_a_new_version_is_shown_and_the_old_one_stays(desk):
    shipped = desk.store.desk.instruction("compare").markdown
    made = desk.store.desk.add_instruction("compare", "# Ours", None, desk.now)
    assert (made.version, made.markdown) == (2, "# Ours")
    assert desk.store.desk.instruction("compare") == made
    of_compare = [one for one in desk.store.desk.instructions() if one.kind == "compare"]
    assert [(one.version, one.markdown) for one in of_compare] == [(2, "# Ours"), (1, shipped)]
    assert {one.kind for one in desk.store.desk.instructions()} == set(INSTRUCTION_KINDS)
    assert desk.store.desk.instruction("evaluate").version == 1


def test_the_shown_text_again_adds_no_version(desk):
    shipped = desk.store.desk.instruction("compare").markdown
    assert desk.store.desk.add_instruction("compare", shipped, None, desk.now).version == 1
    desk.store.desk.add_instruction("compare", "# Ours", None, desk.now)
    assert desk.store.desk.add_instruction("compare", "# Ours", None, desk.later(1)).version == 2
    assert desk.store.desk.add_instruction("compare", shipped, None, desk.later(2)).version == 3


def test_a_change_is_in_the_audit_log_without_its_text(desk):
    desk.store.desk.add_instruction("compare", "# Ours", None, desk.now)
    [event] = desk.store.audit.events(action="instruction")
    assert (event.action, event.object_id, event.actor, event.at) == ("instruction.add", "compare-2", None, desk.now)
    assert event.before_hash != event.after_hash
    assert event.details == {}


def test_no_version_can_be_rewritten(desk):
    desk.store.desk.add_instruction("compare", "# Ours", None, desk.now)
    for statement in ("UPDATE instruction SET markdown = 'x'", "DELETE FROM instruction"):
        with (
            pytest.raises(DBAPIError, match="append-only"),
            desk.store._database.write.begin() as connection,
        ):
            connection.execute(text(statement))


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_unknown_kinds_and_blank_texts_are_refused(desk):
    with pytest.raises(ValueError, match="kind 'rules'"):
        desk.store.desk.instruction("rules")
    with pytest.raises(ValueError, match="kind 'rules'"):
        desk.store.desk.add_instruction("rules", "text", None, desk.now)
    with pytest.raises(ValueError, match="blank"):
        desk.store.desk.add_instruction("compare", " \n", None, desk.now)
