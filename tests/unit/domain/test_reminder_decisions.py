"""Who is told of what, or why nobody is; and when to look again, one microsecond either side."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.answers import FLOOR, Hold
from shared.domain.deadlines import Deadline, Link, Validity
from shared.domain.reminder_decisions import (
    LOOK_AGAIN,
    LOOK_BACK,
    NOBODY,
    Decision,
    Silence,
    Subject,
    decide,
    held_back,
    next_look,
    recipients_of,
)
from shared.domain.reminders import DAY, EXPIRED
from shared.domain.succession import Lack, Remainder
from tests.support.reminder_rule import due_threshold

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
OPS = "ops@example.com"
BOSS = "boss@example.com"
INSTANT = timedelta(microseconds=1)
SOMEWHERE = (Remainder(region="eu-1", lack=Lack.OLD_SERVED),)

days = st.integers(-50 * 24, 100 * 24).map(lambda hours: timedelta(hours=hours))
thresholds = st.lists(st.integers(0, 120), max_size=6, unique=True).map(
    lambda found: tuple(sorted(found, reverse=True))
)


def deadline(*, left: timedelta, life: timedelta = 398 * DAY, position: int = 0) -> Deadline:
    link = Link(position=position, subject="CN=R3", fingerprint_sha256="cd" * 32) if position else None
    return Deadline(validity=Validity(not_before=NOW + left - life, not_after=NOW + left), link=link)


def subject(*deadlines: Deadline, **overrides: Any) -> Subject:
    values: dict[str, Any] = {
        "deadlines": deadlines or (deadline(left=5 * DAY),),
        "thresholds": (60, 30, 15, 7, 3, 1, 0),
        "hold": Hold(acknowledged_at=None, snoozed_until=None),
        "is_muted": False,
        "remainders": None,
        "recipients": (OPS,),
        "told": {},
    }
    return Subject(**values | overrides)


def told(left: timedelta = 5 * DAY, **people: int) -> dict[datetime, dict[str, int]]:
    return {NOW + left: {{"ops": OPS, "boss": BOSS, "nobody": NOBODY}[name]: at for name, at in people.items()}}


def only(about: Subject) -> Decision:
    (decision,) = decide(about, NOW)
    return decision


def test_whoever_was_not_told_of_this_or_a_nearer_threshold_is_told() -> None:
    decision = only(subject(recipients=(OPS, BOSS), told=told(ops=7, boss=15)))

    assert (decision.threshold, decision.recipients, decision.is_news) == (7, (BOSS,), False)


def test_the_first_to_be_told_makes_it_news() -> None:
    assert only(subject(told=told(ops=15))).is_news
    assert not only(subject(told=told(nobody=7))).is_news


@pytest.mark.parametrize(
    ("overrides", "silence"),
    [
        ({"told": told(ops=7)}, Silence.ALREADY_TOLD),
        ({"is_muted": True}, Silence.MUTED),
        ({"remainders": ()}, Silence.REPLACED),
        ({"hold": Hold(acknowledged_at=NOW, snoozed_until=None)}, Silence.ACKNOWLEDGED),
        ({"hold": Hold(acknowledged_at=None, snoozed_until=NOW + INSTANT)}, Silence.SNOOZED),
        ({"thresholds": (3,)}, Silence.NOT_YET),
        ({"thresholds": ()}, Silence.NOT_YET),
        ({"deadlines": (deadline(left=5 * DAY, life=10 * DAY),)}, Silence.SHORT_LIVED),
    ],
)
def test_each_silence_has_its_reason(overrides: dict[str, Any], silence: Silence) -> None:
    decision = only(subject(**overrides))

    assert (decision.silence, decision.recipients, decision.is_news) == (silence, (), False)


def test_a_replaced_certificate_is_told_of_while_a_region_still_serves_it() -> None:
    assert only(subject(remainders=SOMEWHERE)).recipients == (OPS,)


def test_nothing_is_held_back_at_the_end_of_a_snooze_nor_from_the_floor_on() -> None:
    snoozed = subject(hold=Hold(acknowledged_at=None, snoozed_until=NOW))
    acknowledged = subject(deadline(left=FLOOR), hold=Hold(acknowledged_at=NOW, snoozed_until=None))

    assert only(snoozed).recipients == (OPS,)
    assert only(acknowledged).recipients == (OPS,)


def test_an_intermediate_has_a_floor_of_its_own() -> None:
    about = subject(
        deadline(left=FLOOR, position=1), deadline(left=20 * DAY), hold=Hold(acknowledged_at=NOW, snoozed_until=None)
    )

    assert [decision.silence for decision in decide(about, NOW)] == [None, Silence.ACKNOWLEDGED]


def test_without_thresholds_only_the_expiry_is_told() -> None:
    assert only(subject(deadline(left=timedelta(0)), thresholds=())).silence is Silence.NOT_YET
    assert only(subject(deadline(left=-INSTANT), thresholds=())).threshold == EXPIRED


def test_a_contact_who_comes_later_is_told_of_an_expiry_of_the_last_30_days_only() -> None:
    at, before = deadline(left=-LOOK_BACK), deadline(left=-LOOK_BACK - INSTANT)
    others = {each.at: {OPS: EXPIRED} for each in (at, before)}

    assert only(subject(at, recipients=(OPS, BOSS), told=others)).recipients == (BOSS,)
    assert only(subject(before, recipients=(OPS, BOSS), told=others)).silence is Silence.ALREADY_TOLD


def test_an_old_expiry_that_nobody_was_told_of_is_told() -> None:
    assert only(subject(deadline(left=-365 * DAY))).threshold == EXPIRED


@given(left=days, life=st.integers(1, 800), own=thresholds, recorded=st.sampled_from([(), (7,), (30,), (EXPIRED,)]))
def test_the_event_follows_the_rule_of_thresholds(
    left: timedelta, life: int, own: tuple[int, ...], recorded: tuple[int, ...]
) -> None:
    about = deadline(left=left, life=life * DAY)
    decision = only(
        subject(about, thresholds=own, told={about.at: dict.fromkeys([OPS], *recorded)} if recorded else {})
    )

    expected = due_threshold(about.validity, recorded, NOW, thresholds=own)
    assert (decision.threshold if decision.is_news else None) == expected


@given(
    lefts=st.lists(days, min_size=1, max_size=3, unique=True),
    own=thresholds,
    snooze=st.none() | days,
    remainders=st.sampled_from([None, (), SOMEWHERE]),
    step=days,
)
def test_nothing_becomes_due_before_the_next_look_and_no_look_is_forgotten(
    lefts: list[timedelta],
    own: tuple[int, ...],
    snooze: timedelta | None,
    remainders: tuple[Remainder, ...] | None,
    step: timedelta,
) -> None:
    ends = [deadline(left=left, position=number) for number, left in enumerate(sorted(lefts))]
    hold = Hold(acknowledged_at=None, snoozed_until=None if snooze is None else NOW + snooze)
    before = subject(*ends, thresholds=own, hold=hold, remainders=remainders)
    after = subject(
        *ends,
        thresholds=own,
        hold=hold,
        remainders=remainders,
        told={d.deadline.at: {OPS: d.threshold} for d in decide(before, NOW) if d.recipients},
    )
    look = next_look(after, NOW)

    assert look is None or look > NOW
    later = NOW + abs(step)
    if look is None or later < look:
        assert all(decision.silence is not None for decision in decide(after, later))


def test_the_next_look_is_the_first_instant_of_the_next_threshold_that_counts() -> None:
    assert next_look(subject(deadline(left=40 * DAY)), NOW) == NOW + 9 * DAY + INSTANT
    assert next_look(subject(deadline(left=40 * DAY, life=47 * DAY)), NOW) == NOW + 24 * DAY + INSTANT
    assert next_look(subject(deadline(left=timedelta(0))), NOW) == NOW + INSTANT
    assert next_look(subject(deadline(left=-INSTANT)), NOW) is None


def test_what_is_replaced_and_served_everywhere_is_looked_at_daily_until_30_days_after_its_end() -> None:
    assert next_look(subject(remainders=()), NOW) == NOW + LOOK_AGAIN
    assert next_look(subject(deadline(left=-LOOK_BACK + INSTANT), remainders=()), NOW) == NOW + LOOK_AGAIN
    assert next_look(subject(deadline(left=-LOOK_BACK), remainders=()), NOW) is None


def test_a_mute_holds_everything_back() -> None:
    assert held_back(subject(is_muted=True, remainders=()), NOW, NOW) == (Silence.MUTED, None)


@pytest.mark.parametrize(
    ("own", "general", "unsubscribed", "expected"),
    [
        ([OPS, OPS], [BOSS], [], (OPS,)),
        ([], [BOSS], [], (BOSS,)),
        ([OPS], [BOSS], [OPS], (BOSS,)),
        ([OPS], [BOSS], [OPS, BOSS], (NOBODY,)),
        ([], [], [], (NOBODY,)),
    ],
)
def test_the_certificates_contacts_are_told_else_the_accounts_else_nobody(
    own: list[str], general: list[str], unsubscribed: list[str], expected: tuple[str, ...]
) -> None:
    assert recipients_of(own, general, unsubscribed) == expected
