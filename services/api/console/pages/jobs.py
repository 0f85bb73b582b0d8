"""Jobs: what was asked for, newest first, and how it went."""

from __future__ import annotations

from typing import Any

from flask import request

from services.api.console.blueprint import NavigationEntry, Pages, signed_in
from services.api.console.language import N_
from services.api.console.rendering import render
from services.api.console.visits import current_visit
from shared.domain.rollout import FINAL_JOBS, JobKind, JobState
from shared.usecases import browsing
from shared.usecases.browsing import JobFilters

blueprint = Pages("jobs", __name__, entry=NavigationEntry(title=N_("Jobs"), address="/jobs", place=40))


@blueprint.get("/jobs")
@signed_in
def index() -> str:
    """Filter and page through them."""
    visit, chosen = current_visit(), _chosen()
    found = browsing.list_jobs(visit.session, visit.caller, JobFilters(**chosen), visit.page(dict(chosen)))
    ids = [job["certificate_id"] for job in found.items]
    return render(
        "jobs.html",
        jobs=found.items,
        names=browsing.names_of_certificates(visit.session, visit.caller, ids),
        next_cursor=found.next_cursor,
        is_later_page=bool(request.args.get("cursor")),
        chosen=chosen,
        final=FINAL_JOBS,
        states=list(JobState),
        kinds=list(JobKind),
    )


def _chosen() -> dict[str, Any]:
    """The filters of the address; what we do not know counts as not given."""
    given = request.args
    return {
        "state": given.get("state") if given.get("state") in set(JobState) else None,
        "kind": given.get("kind") if given.get("kind") in set(JobKind) else None,
        "certificate_id": given.get("certificate_id") or None,
    }
