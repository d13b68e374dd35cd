"""Personal data: each kind is found in a sentence, and what only looks like it is left alone."""

import re
import time

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instructloop.core.pii import KINDS, contains_pii, find_pii

# Numbers are the documented test numbers of their issuers and registries; people and hosts are invented.
PERSONAL = [
    ("email", "Write to ann.lee+list@mail.example.co.uk please"),
    ("phone", "call (415) 555-2671 today"),
    ("phone", "Ruf mich an: +49 30 901820"),
    ("phone", "my number is 415-555-2671"),
    ("phone", "+1 415 555 2671"),
    ("phone", "4155552671"),
    ("phone", "+44 20 7946 0958 is the office"),
    ("ssn", "SSN 219-09-9999"),
    ("credit_card", "card 4111 1111 1111 1111 exp 09/30"),
    ("credit_card", "4111 1111 1111 1111 09 30"),
    ("credit_card", "4 4111 1111 1111 1111"),
    ("credit_card", "amex 378282246310005"),
    ("iban", "IBAN DE89 3704 0044 0532 0130 00 bitte"),
    ("iban", "GB82WEST12345698765432"),
    ("iban", "AB12 DE89 3704 0044 0532 0130 00 BITTE"),
    ("ip", "from 81.2.69.142 at noon"),
    ("ip", "host 2a02:8308:a18f::1 answered"),
]
HARMLESS = [
    "Add 4111 1111 1111 1112 to the sum",
    "ISBN 978-3-16-148410-0",
    "born in 1984-2005, pages 123-456",
    "version 3.11.4 released",
    "pi is 3.14159265358979323846",
    "192.168.0.1 is my router",
    "the ratio 16:9:4:3 and time 12:30:45",
    "order number 123456789012",
    "Compute 1234567890 * 17",
    "handle @someone on the site",
    "2026-11-22 10:30",
    "std::vector<int>::iterator",
    "123-45-67890",
    "000-12-3456",
    "ZIP 94103-1234",
]


@pytest.mark.parametrize(("kind", "text"), PERSONAL)
def test_personal_data_is_found_with_its_kind(kind: str, text: str):
    assert find_pii(text) == [kind]
    assert contains_pii(f"Dear assistant,\n{text}\nThank you.")


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_like_it_is_left_alone(text: str):
    assert find_pii(text) == []


def test_several_kinds_come_in_one_fixed_order():
    text = "219-09-9999, then ann@example.org, then +49 30 901820"
    assert find_pii(text) == ["email", "phone", "ssn"]
    assert find_pii("") == []


@pytest.mark.parametrize("text", ["GB82WEST12345698765433", "DE88 3704 0044 0532 0130 00", "4111111111111112"])
def test_one_wrong_digit_breaks_the_checksum(text: str):
    assert find_pii(text) == []


@pytest.mark.parametrize("text", ["666-12-3456", "912-12-3456", "219-00-9999", "219-09-0000", "219-09 9999"])
def test_numbers_that_social_security_never_gives_out_are_none(text: str):
    assert "ssn" not in find_pii(text)


@pytest.mark.parametrize("text", ["127.0.0.1", "10.0.0.8", "256.1.1.1", "::1", "fe80::1", "1.2.3", "203.0.113.9"])
def test_addresses_of_nobody_are_none(text: str):
    assert find_pii(text) == []


def test_national_phone_numbers_count_in_the_regions_given():
    assert find_pii("appelez le 01 70 18 99 00", regions=("FR",)) == ["phone"]
    assert find_pii("appelez le 01 70 18 99 00", regions=()) == []
    assert find_pii("call (415) 555-2671", regions=("FR",)) == []
    assert find_pii("appelez le +33 1 70 18 99 00", regions=()) == ["phone"]


@pytest.mark.parametrize("region", ["US", "GB", "DE", "FR", "IN", "BR", "JP", "NG", "AU", "MX"])
def test_the_example_number_of_each_country_is_found(region: str):
    number = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
    written = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.INTERNATIONAL)
    assert find_pii(f"Please call {written} after six.") == ["phone"]


def luhn_digit(body: str) -> str:
    """Return the check digit by Luhn's patent (1960): double every second digit from the right, sum all digits."""
    doubled = "".join(str(int(d) * (2 if i % 2 == 0 else 1)) for i, d in enumerate(reversed(body)))
    return str(-sum(map(int, doubled)) % 10)


@settings(deadline=None)
@given(st.from_regex(r"(4[0-9]{14}|5[1-5][0-9]{13}|3[47][0-9]{12})", fullmatch=True))
def test_every_card_with_a_right_check_digit_is_found_and_with_a_wrong_one_is_not(body: str):
    digit = luhn_digit(body)
    wrong = str((int(digit) + 1) % 10)
    assert "credit_card" in find_pii(f"pay with {body}{digit} now")
    assert "credit_card" not in find_pii(f"pay with {body}{wrong} now")


def iban_of(country: str, account: str) -> str:
    """Return the IBAN by ISO 13616: check digits 98 - (number with letters as 10..35 and 00 at the end) mod 97."""
    digits = re.sub("[A-Z]", lambda letter: str(ord(letter.group()) - 55), account + country + "00")
    return f"{country}{98 - int(digits) % 97:02d}{account}"


@settings(deadline=None)
@given(st.sampled_from(["DE", "GB", "FR", "NO"]), st.from_regex(r"[A-Z0-9]{11,26}", fullmatch=True))
def test_every_iban_with_right_check_digits_is_found_in_groups_of_four_too(country: str, account: str):
    iban = iban_of(country, account)
    grouped = " ".join(iban[i : i + 4] for i in range(0, len(iban), 4))
    assert "iban" in find_pii(f"to {iban} today")
    assert "iban" in find_pii(f"to {grouped} today")


@pytest.mark.parametrize("unit", ["a", "1", "1 ", "a.", "a@", "1.", "AB12 ", "4", "1:", "+1", "a-"])
def test_a_hostile_text_of_a_hundred_thousand_characters_takes_no_minute(unit: str):
    started = time.perf_counter()
    find_pii(unit * (100_000 // len(unit)))
    # The patterns are linear: about a second at most here. A quadratic one takes minutes.
    assert time.perf_counter() - started < 10


def test_every_kind_has_an_example_here():
    assert {kind for kind, _ in PERSONAL} == set(KINDS)
