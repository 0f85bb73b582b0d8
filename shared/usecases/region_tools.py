"""What work at a region needs from outside: its driver, somebody who knocks as a client does, and the time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from shared.config.regions import Region
from shared.errors import Unsupported
from shared.usecases.clock import Clock
from shared.usecases.driver import Driver
from shared.usecases.proof import Prober

SETTLING: Final = timedelta(seconds=3)

DriverFor = Callable[[Region], Driver]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionTools:
    """Built once a process (``services/worker/runtime.py``), or by a test.

    ``settling``: how long a balancer may take from its acknowledgement until every one of its threads serves the new.
    """

    driver_for: DriverFor
    prober: Prober
    clock: Clock
    settling: timedelta = SETTLING


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One region while we are its only writer."""

    region_id: str
    region: Region | None
    fence: int
    tools: RegionTools

    def declared(self) -> Region:
        """The operator's declaration.

        Raises:
            Unsupported: there is none any more.
        """
        if self.region is None:
            raise Unsupported(
                "The operator no longer declares this region.",
                code="unknown_region",
                hint="Declare it again in the regions file, then retry.",
            )
        return self.region

    def driver(self) -> Driver:
        """The region's driver, writing in the name of our fencing number.

        Raises:
            Unsupported: the region is no longer declared.
            Misconfigured: its settings are wrong.
        """
        return self.tools.driver_for(self.declared()).fenced(self.fence)
