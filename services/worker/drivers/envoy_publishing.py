"""Putting listeners in front of Envoy: offer, wait for its word, and take back what it refuses."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from services.worker.drivers.disk import driver_error
from services.worker.drivers.envoy_admin import Admin, Status, Verdict
from services.worker.drivers.envoy_files import Damaged, Place, Writer
from services.worker.drivers.envoy_lds import (
    Json,
    Offer,
    chain_name,
    chains_of,
    is_empty,
    render,
    render_chain,
    resources_of,
    shown_by,
)
from services.worker.drivers.envoy_settings import EnvoySettings
from shared.errors import Busy, Corrupt, DriverError, InvalidMaterial, OutcomeUnknown, Unsupported
from shared.usecases.driver import Listener

_TRIES: Final = 2
"""A refusal right after our rename may still be about the file before (of a writer that was killed); a second one,
of the same file offered to an idle Envoy, is ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Publisher:
    """Publishes in the name of a writer who holds the lock."""

    writer: Writer
    admin: Admin
    settings: EnvoySettings

    def publish(self, listeners: tuple[Listener, ...]) -> bool:
        """Make Envoy serve exactly these, and the record say so; returns whether anything was changed.

        Raises:
            Unreachable, Busy, Unsupported: nothing was changed.
            InvalidMaterial: Envoy refuses them; the former ones are served on.
            OutcomeUnknown: the file was put in front of Envoy, and there was no word in time.
            Corrupt: what must be written is damaged on the disk.
        """
        self.admin.check_release()
        before = self.admin.status()
        offer = self._rendered(listeners)
        is_served = self._is_served(offer, before)
        if not is_served:
            self._offer(offer, before)
        is_new = (listeners, offer.sha256) != (self.writer.state.listeners, self.writer.state.lds_sha256)
        if is_new:
            with _after_offer(self.writer.place):
                self.writer.save(listeners=listeners, lds_sha256=offer.sha256)
        return is_new or not is_served

    def _rendered(self, listeners: Sequence[Listener]) -> Offer:
        """The file with these; one whose objects are gone or damaged keeps the chain that is served for it."""
        chains = [chain_of(self.writer.place, one, bound=listeners, cluster=self.settings.cluster) for one in listeners]
        lost = {chain_name(one) for chain, one in zip(chains, listeners, strict=True) if chain is None}
        standing = self._standing_chains(lost) if lost else {}
        present = [chain for chain in chains if chain is not None]
        return render([*present, *standing.values()], bind=self.settings.bind)

    def _standing_chains(self, lost: AbstractSet[str]) -> dict[str, Json]:
        """Of ``lost`` what lies in front of Envoy: acknowledged, or changed by hand since and served so.

        What neither holds is not served, and one damaged object must not keep all others from being changed: it is
        left out, until it is staged again.

        Raises:
            Corrupt: Envoy serves one of them from memory only, and would stop.
        """
        content = self.writer.place.read_lds()
        resources = _resources_of(content)
        chains = {name: chain for name, chain in chains_of(resources).items() if name in lost}
        if content and _sha256(content) == self.writer.state.lds_sha256:
            return chains
        served, filed = shown_by(self.admin.listeners()), shown_by(resources)
        kept = {name: chain for name, chain in chains.items() if filed[name] and filed[name] == served.get(name)}
        if lost & served.keys() - kept.keys():
            where = self.writer.place.objects
            raise Corrupt(
                f"A bound object below {where} is gone or damaged, and lds.json was changed by hand.",
                hint="Bind the listeners of that certificate again, or put lds.json back.",
            )
        return kept

    def _acknowledged(self) -> bytes | None:
        content = self.writer.place.read_lds()
        return content if content and _sha256(content) == self.writer.state.lds_sha256 else None

    def _is_served(self, offer: Offer, now: Status) -> bool:
        content = self.writer.place.read_lds()
        if content != offer.content or now.version != offer.version:
            return False
        return shown_by(self.admin.listeners()) == shown_by(resources_of(content))

    def _offer(self, offer: Offer, before: Status) -> None:
        former = self._acknowledged()
        self.writer.offer(offer.content)
        with _after_offer(self.writer.place):
            for _ in range(_TRIES):
                verdict = self.admin.wait_for_verdict(offer.version, before=before)
                if verdict is Verdict.ACCEPTED:
                    return
                if verdict is None:
                    raise OutcomeUnknown("Envoy was given the change and did not acknowledge it in time.")
                before = self.admin.status()
                self.writer.offer(offer.content)
            reason = self.admin.reason()
            self._take_back(former)
        raise _refusal(verdict, reason)

    def _take_back(self, former: bytes | None) -> None:
        """Envoy serves the former content anyway; a restart must not meet the refused one."""
        if former is None:
            standing = self._rendered(self.writer.state.listeners)
            former = standing.content
            self.writer.save(lds_sha256=standing.sha256)
        self.writer.offer(former)


def chain_of(place: Place, listener: Listener, *, bound: Sequence[Listener], cluster: str | None) -> Json | None:
    """The filter chain of a listener from the staged objects; ``None``: one of them is gone or damaged."""
    try:
        server = place.read_object(listener.server.name)
        ca = place.read_object(listener.ca.name) if listener.ca else None
    except (Damaged, FileNotFoundError):
        return None
    return render_chain(listener, server=server, ca=ca, cluster=cluster, bound=bound)


def is_settled(writer: Writer) -> bool:
    """Whether what lies in front of Envoy is what the record says, without asking Envoy."""
    content, state = writer.place.read_lds(), writer.state
    if not state.listeners and (content is None or is_empty(content)):
        return True
    return content is not None and _sha256(content) == state.lds_sha256


def _resources_of(content: bytes | None) -> list[Json]:
    try:
        return resources_of(content or b"{}")
    except ValueError:
        return []


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextmanager
def _after_offer(place: Place) -> Iterator[None]:
    """From here on Envoy may serve the change: failing to write or to read no longer means that nothing happened."""
    try:
        yield
    except OSError as error:
        known: DriverError = driver_error(error, place.root)
    except DriverError as error:
        if not error.retryable or error.may_have_happened:
            raise
        known = error
    else:
        return
    raise OutcomeUnknown(f"The change was made, then: {known.message}", hint=known.hint) from known


def _refusal(verdict: Verdict | None, reason: str) -> DriverError:
    if verdict is Verdict.UNREADABLE:
        hint = "Let Envoy run as the worker's user, and look into its log."
        return Unsupported("Envoy cannot read its lds.json; what was served is served on.", hint=hint)
    if reason.startswith("Failed to load"):
        return InvalidMaterial(f"Envoy refuses to serve this: {reason}.")
    if "Address already in use" in reason:
        return Busy(f"Envoy cannot listen: {reason}.", hint="Stop what listens there, or change the region's bind.")
    return Unsupported(f"Envoy refuses its configuration: {reason}.")
