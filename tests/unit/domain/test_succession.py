"""Replaced and served everywhere, or what lacks for it, region by region."""

from __future__ import annotations

from typing import Any

import pytest

from shared.domain.certificates import CertificateState
from shared.domain.rollout import DeploymentState, ServedState
from shared.domain.succession import Lack, Place, remainders

DEPLOYED = DeploymentState.DEPLOYED


def place(**overrides: Any) -> Place:
    values: dict[str, Any] = {
        "region": "eu-1",
        "holds_old": False,
        "serves_old": False,
        "new_state": DEPLOYED,
        "new_served": ServedState.MATCH,
    }
    return Place(**values | overrides)


def lacks(*places: Place, successor: CertificateState = CertificateState.VALID) -> list[tuple[str | None, Lack]]:
    return [(each.region, each.lack) for each in remainders(successor, places)]


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"new_served": ServedState.NOT_CHECKED},
        {"new_state": None, "new_served": ServedState.NOT_CHECKED},
        {"new_state": DeploymentState.REMOVED, "new_served": ServedState.NOT_CHECKED},
        {"new_state": DeploymentState.REMOVING, "new_served": ServedState.NOT_CHECKED},
    ],
)
def test_nothing_lacks_where_the_old_one_is_gone_and_the_new_one_is_not_known_to_be_missed(
    overrides: dict[str, Any],
) -> None:
    assert lacks(place(**overrides)) == []


@pytest.mark.parametrize(
    ("overrides", "lack"),
    [
        ({"serves_old": True}, Lack.OLD_SERVED),
        ({"serves_old": True, "holds_old": True}, Lack.OLD_SERVED),
        ({"holds_old": True}, Lack.OLD_PRESENT),
        ({"holds_old": True, "new_state": DeploymentState.FAILED}, Lack.OLD_PRESENT),
        ({"new_state": DeploymentState.FAILED}, Lack.NEW_NOT_DEPLOYED),
        ({"new_state": DeploymentState.PENDING}, Lack.NEW_NOT_DEPLOYED),
        ({"new_state": DeploymentState.DEPLOYING}, Lack.NEW_NOT_DEPLOYED),
        ({"new_served": ServedState.MISMATCH}, Lack.NEW_NOT_SERVED),
        ({"new_served": ServedState.UNREACHABLE}, Lack.NEW_NOT_SERVED),
    ],
)
def test_what_lacks_is_named(overrides: dict[str, Any], lack: Lack) -> None:
    assert lacks(place(**overrides)) == [("eu-1", lack)]


def test_each_region_answers_for_itself_in_order_of_their_names() -> None:
    places = [place(region="us-1", holds_old=True), place(region="cn-1"), place(region="ap-1", serves_old=True)]

    assert lacks(*places) == [("ap-1", Lack.OLD_SERVED), ("us-1", Lack.OLD_PRESENT)]


def test_a_successor_that_is_still_being_fetched_or_validated_replaces_nothing_yet() -> None:
    assert lacks(place(), successor=CertificateState.VALIDATING) == [(None, Lack.NOT_READY)]


def test_a_successor_that_was_deleted_on_purpose_lacks_nothing_once_the_old_one_is_gone() -> None:
    gone = place(new_state=DeploymentState.REMOVED, new_served=ServedState.NOT_CHECKED)

    assert lacks(gone, successor=CertificateState.DELETED) == []


def test_what_was_in_no_region_is_replaced_as_soon_as_the_new_one_is_valid() -> None:
    assert lacks() == []
