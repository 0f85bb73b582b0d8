"""What work at a region needs from outside: its driver, somebody who knocks as a client does, and the time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from shared.config.regions import DEFAULT_RETRY_LIMITS, Region, RetryLimits
from shared.domain.served import Client, Handshake
from shared.errors import Unsupported
from shared.usecases.circuits import Fuse
from shared.usecases.clock import Clock
from shared.usecases.driver import Driver
from shared.usecases.proof import Prober
from shared.usecases.stopping import Stopping
from shared.usecases.together import Together

SETTLING: Final = timedelta(seconds=3)

DriverFor = Callable[[Region], Driver]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionTools:
    """Built once a process (``services/worker/runtime.py``), or by a test.

    ``settling``: how long a balancer may take from its acknowledgement until every one of its threads serves the new.
    ``stopping``: whether the process is to end; then no row is begun. ``arrivals`` and ``turns``: where threads that
    come to regions, or go on in them, at the same moment share a transaction (``shared/usecases/steps.py``).
    """

    driver_for: DriverFor
    prober: Prober
    clock: Clock
    settling: timedelta = SETTLING
    stopping: Stopping = field(default_factory=Stopping)
    arrivals: Together[Any, Any] = field(default_factory=Together)
    turns: Together[Any, Any] = field(default_factory=Together)


class Superseded(Exception):
    """Another worker owns the region or the row by now: it goes on from what the rows say, and we change nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One region while we are its only writer.

    ``renew``: hold it for another lease; False when somebody else holds it by now. ``fuse``: its circuit breaker.
    """

    region_id: str
    region: Region | None
    fence: int
    tools: RegionTools
    renew: Callable[[], bool]
    fuse: Fuse

    @property
    def retry_limits(self) -> RetryLimits:
        """The operator's, or the usual ones for a region that is no longer declared."""
        return self.region.retry if self.region else DEFAULT_RETRY_LIMITS

    def stay(self) -> None:
        """Go on being the only writer, in work that may take longer than one lease.

        Raises:
            Superseded: somebody else is.
        """
        if not self.renew():
            raise Superseded

    def prober(self) -> Prober:
        """The prober, which goes on holding the region between two handshakes: a hundred names take a while."""
        return _HoldingProber(self)

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


@dataclass(frozen=True, slots=True)
class _HoldingProber:
    site: Site

    def handshake(self, address: str, *, host: str, client: Client, sni: bool = True) -> Handshake:
        self.site.stay()
        return self.site.tools.prober.handshake(address, host=host, client=client, sni=sni)
