"""An office beside the desk: people with accounts, for the tests of accounts, audit and deletion."""

from dataclasses import dataclass
from datetime import datetime

from instructloop.store import Store
from instructloop.store.people import Account


@dataclass
class Office:
    """A store with its first owner."""

    store: Store
    now: datetime
    owner: Account

    def person(self, role: str, cohort: str | None = None, name: str = "Ann") -> Account:
        """Invite somebody as the owner and sign them up."""
        accounts = self.store.accounts
        _, token = accounts.invite(role, cohort, "", self.owner.id, self.now)  # type: ignore[arg-type]
        return accounts.sign_up(token, name, f"{name.lower()}@example.org", f"hash of {name}", self.now)

    def labeler(self, name: str = "Ann", cohort: str = "train") -> Account:
        return self.person("labeler", cohort, name)


def open_office(store: Store, now: datetime) -> Office:
    """Sign the first owner up."""
    token = store.accounts.first_owner_invite(now)
    assert token is not None
    return Office(store, now, store.accounts.sign_up(token, "Olga", "olga@example.org", "hash of Olga", now))
