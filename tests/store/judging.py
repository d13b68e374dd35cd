"""Labelers who judge as they are told: orders written as `0>1=2`, the numbers being those of the policies."""

from collections.abc import Mapping
from datetime import timedelta

from instructloop.core.records import FLAGS
from instructloop.store import ComparisonForm
from instructloop.store.people import Account


def account(desk, role: str = "owner", cohort: str | None = None, name: str = "Olga") -> Account:
    """Sign somebody up and return the account; the first one is the owner."""
    token = desk.store.accounts.first_owner_invite(desk.now)
    if token is None:
        _, token = desk.store.accounts.invite(role, cohort, "", None, desk.now)
    return desk.store.accounts.sign_up(token, name, f"{name.lower()}@example.org", "hash", desk.now)


def tiers_of(order: str, completions) -> list[list[str]]:
    """Return `0>1=2` as tiers of completion ids."""
    by_policy = {completion.policy: completion.id for completion in completions}
    return [[by_policy[f"p{number}"] for number in tier.split("=")] for tier in order.split(">")]


def judge(
    desk,
    task_set: str,
    labeler: str,
    orders: Mapping[str, str],
    *,
    ratings: Mapping[int, int] = {},
    flags: Mapping[int, Mapping[str, bool | None]] = {},
    after: float = 60,
    seconds: float | None = None,
) -> dict[str, str]:
    """Let a labeler do every task of a set: prompt's text -> order; return prompt's text -> submission."""
    done = {}
    while assignment := desk.store.claim(task_set, labeler, desk.now):
        name = assignment.prompt.text
        by_policy = {completion.policy: completion.id for completion in assignment.completions}
        form = ComparisonForm(
            ratings={by_policy[f"p{number}"]: value for number, value in ratings.items()},
            flags={
                key: dict.fromkeys(FLAGS, False) | dict(flags.get(int(policy[1:]), {}))
                for policy, key in by_policy.items()
            },
            tiers=tiers_of(orders[name], assignment.completions),
            seconds=seconds,
        )
        at = desk.now + timedelta(seconds=after)
        done[name] = desk.store.submit_comparison(assignment.id, form, now=at, idempotency_key="k")
    return done
