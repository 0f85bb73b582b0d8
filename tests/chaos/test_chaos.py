"""Everything is killed, and nothing is lost: jobs, regions, webhooks and reminders against the ledger.

``make chaos`` runs it long; ``CERTFLEET_CHAOS_DEEDS``, ``CERTFLEET_CHAOS_REGIONS`` and ``CERTFLEET_CHAOS_SEED`` say how
long, how wide and which. ``make test`` runs it short.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Final

import pytest

from shared.domain.repairs import FIRST_PAUSE
from tests.support.chaos.customers import customers_at_work
from tests.support.chaos.ledger import Outside, Report, read_ledger, unsettled
from tests.support.chaos.stack import OURS, ChaosStack, chaos_stack
from tests.support.chaos.trouble import Trouble
from tests.support.receiver import Receiver, Reply, running_receiver

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("chaos"), pytest.mark.timeout(3600)]

SHORT_DEEDS: Final = 60
SHORT_REGIONS: Final = 4
SEED: Final = 20261124
PAUSE: Final = 0.5
"""Seconds between two deeds of a customer."""
STILLNESS: Final = 60.0 + (FIRST_PAUSE * 2).total_seconds()
"""Seconds without any progress after which nothing will come any more: more than all the pauses between retries, and
than the longest between two repairs of one object, two of whose workers were killed."""


def test_nothing_is_lost_and_nothing_done_twice_while_everything_is_killed(place: Path) -> None:
    deeds = int(os.environ.get("CERTFLEET_CHAOS_DEEDS", SHORT_DEEDS))
    regions = int(os.environ.get("CERTFLEET_CHAOS_REGIONS", SHORT_REGIONS))
    seed = int(os.environ.get("CERTFLEET_CHAOS_SEED", SEED))
    replies = moody_replies(seed)
    with chaos_stack(place, seed=seed, regions=regions) as stack, running_receiver(*replies) as receiver:
        begin(stack, receiver)
        trouble = Trouble(stack, seed=seed)
        with customers_at_work(stack, seed=seed, deeds=deeds, pause=PAUSE) as (customers, threads):
            while any(thread.is_alive() for thread in threads) or len(trouble.done) < len(trouble.kinds):
                trouble.strike()
            trouble.make_good()
        seconds = recovery(stack)
        outside = Outside(received=receiver.received, replies=replies, mailbox=place / "mailbox")
        report = read_ledger(stack, customers.accepted, outside)
        print(figures(stack, report, seed=seed, seconds=seconds))  # noqa: T201 - what a run of it is for
        assert report.wrong() == [], stack.log()
        assert report.idle(deeds=deeds) == [], customers.accepted.refused


def begin(stack: ChaosStack, receiver: Receiver) -> None:
    """One endpoint for every event, and every program."""
    stack.hear(receiver.url)
    stack.start(*OURS)
    stack.wait_until_ready()


def recovery(stack: ChaosStack) -> float:
    """Seconds until nothing is due any more; what died by its own region's trouble is started again meanwhile."""
    began = progressed = time.monotonic()
    left = unsettled(stack)
    while left:
        stack.revive()
        time.sleep(0.2)
        before, left = left, unsettled(stack)
        if left != before:
            progressed = time.monotonic()
        assert time.monotonic() < progressed + STILLNESS, "\n".join(["nothing moves:", *left, stack.log()])
    return time.monotonic() - began


def moody_replies(seed: int) -> list[Reply]:
    """A receiver that fails, and hangs now and then, and is well in the end."""
    chance = random.Random(seed)  # noqa: S311 - reproducible, not secret
    kinds = [Reply(), Reply(status=500), Reply(hang=True)]
    return [*chance.choices(kinds, (90, 9, 1), k=2000), Reply()]


def figures(stack: ChaosStack, report: Report, *, seed: int, seconds: float) -> str:
    """What a run shows."""
    kills = ", ".join(f"{name} {count}" for name, count in sorted(stack.kills.items()))
    return (
        f"\nchaos, seed {seed}: {report.jobs.total()} jobs ({dict(report.jobs)}), {report.deployments} deployments\n"
        f"  kills: {sum(stack.kills.values())} ({kills})\n"
        f"  lost {len(report.lost)}, untrue {len(report.untrue)}, doubled outside {len(report.doubled)}, "
        f"webhooks missing {len(report.unheard)} of {report.events} (again: {report.webhooks_again}), "
        f"reminders wrong {len(report.reminders)} of {report.mails} (again: {report.mails_again})\n"
        f"  settled {seconds:.1f} s after the last kill"
    )
