"""How the regions' answers add up to a job's state."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.rollout import ACTIVE_DEPLOYMENTS, CANCELLED, FINAL_DEPLOYMENTS, DeploymentState, JobState, settle

DEPLOYED, REMOVED, FAILED = DeploymentState.DEPLOYED, DeploymentState.REMOVED, DeploymentState.FAILED


@pytest.mark.parametrize(
    ("answers", "state"),
    [
        ([], JobState.SUCCEEDED),
        ([DEPLOYED], JobState.SUCCEEDED),
        ([DEPLOYED, DEPLOYED], JobState.SUCCEEDED),
        ([REMOVED, REMOVED], JobState.SUCCEEDED),
        ([DEPLOYED, FAILED], JobState.PARTIALLY_SUCCEEDED),
        ([FAILED, REMOVED, FAILED], JobState.PARTIALLY_SUCCEEDED),
        ([FAILED], JobState.FAILED),
        ([FAILED, FAILED], JobState.FAILED),
        ([CANCELLED], JobState.CANCELLED),
        ([DEPLOYED, CANCELLED, FAILED], JobState.CANCELLED),
        ([CANCELLED, None], None),
        ([None], None),
        ([DEPLOYED, None], None),
        ([FAILED, None], None),
    ],
)
def test_the_regions_answers_add_up(answers: list[str | None], state: JobState | None) -> None:
    assert settle(answers) is state


@given(st.lists(st.sampled_from(sorted(FINAL_DEPLOYMENTS))), st.sampled_from([None, *sorted(ACTIVE_DEPLOYMENTS)]))
def test_a_job_is_never_settled_while_a_region_is_at_work(
    answered: list[DeploymentState], at_work: DeploymentState | None
) -> None:
    assert settle([*answered, at_work]) is None
