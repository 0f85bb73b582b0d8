"""A process that looks once for what expires, and prints what that took.

Run as ``python -m tests.bench.one_scan ORDERS NOW``.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from datetime import datetime

from shared.usecases.reminder_scan import scan
from tests.support.mail_worker import Orders, build_context


def main() -> None:
    """Scan; one JSON document: seconds, CPU seconds, MiB resident at most before and after, what was found."""
    context = build_context(Orders(**json.loads(sys.argv[1])))
    now = datetime.fromisoformat(sys.argv[2])
    with context.transaction() as session:
        session.connection()
    before, cpu, began = _most_resident(), time.process_time(), time.perf_counter()
    result = scan(context, now=now)
    report = {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu,
        "mib_before": before,
        "mib": _most_resident(),
        "events": result.events,
        "reminders": result.reminders,
    }
    print(json.dumps(report))


def _most_resident() -> float:
    """MiB (getrusage(2): ``ru_maxrss`` is in KiB on Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
