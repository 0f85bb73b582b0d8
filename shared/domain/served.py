"""What is really served: handshakes as a client saw them, and the judgement on them. The only evidence there is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from shared.domain.rollout import ServedState


class Client(StrEnum):
    """Who knocked: without a certificate, or with one that no listener of ours trusts."""

    ANONYMOUS = "anonymous"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """One connection: what the client sent, and what came of it.

    Attributes:
        host: the name asked for.
        sni: whether it stood in the handshake (RFC 6066 §3); in the request it always does.
        client: who knocked.
        chain: SHA-256 of each certificate that the server showed, lower-case hex of the DER, leaf first; empty when
            no handshake came so far.
        subject: the leaf's subject, for people; ``None`` without a chain.
        client_ca_names: the distinguished names (RFC 4514) that the server asks client certificates of; empty when it
            asks for none.
        status: of the HTTP answer to one request after the handshake; ``None``: the connection ended without one
            (TLS 1.3 judges a client's certificate only after the handshake).
        error: why it ended early, one short sentence; ``None`` when an answer came.
        reached: whether a TCP connection was made at all.
        timed_out: whether our patience ended it: the server neither answered nor refused.
    """

    host: str
    sni: bool = True
    client: Client
    reached: bool
    timed_out: bool = False
    chain: tuple[str, ...] = ()
    subject: str | None = None
    client_ca_names: tuple[str, ...] = ()
    status: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a host name should show.

    Attributes:
        chain: SHA-256 of each certificate as staged, leaf first.
        client_ca_names: for mutual authentication the subjects of the CA certificates; empty: one-way.
    """

    chain: tuple[str, ...]
    client_ca_names: tuple[str, ...] = ()

    @property
    def is_mutual(self) -> bool:
        """Whether clients must show a certificate."""
        return bool(self.client_ca_names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the handshakes prove about a listener. ``fingerprint_sha256``: of the leaf that was really shown."""

    state: ServedState
    message: str
    fingerprint_sha256: str | None = None
    faults: tuple[str, ...] = field(default=())


_REFUSALS: Final = (400, 421, 495, 496)
_SHOWN_NAMES: Final = 3
_SHOWN_LENGTH: Final = 100

_WORST_FIRST: Final = (ServedState.MISMATCH, ServedState.UNREACHABLE, ServedState.NOT_CHECKED, ServedState.MATCH)


def worst(states: Iterable[ServedState]) -> ServedState:
    """Several listeners' states as one; none at all is ``not_checked``."""
    found = set(states)
    return next((state for state in _WORST_FIRST if state in found), ServedState.NOT_CHECKED)


def judge(expected: Expected, handshakes: Sequence[Handshake]) -> Verdict:
    """Every handshake with SNI must show the expected chain; mutual: nobody we know may be answered.

    A handshake without SNI proves nothing about the listener's certificate (the balancer may refuse it, or show
    another's), but where clients must show a certificate it must not be answered with the listener's content either.
    """
    named = [one for one in handshakes if one.sni]
    shown = next((one.chain[0] for one in named if one.chain), None)
    if not named or not any(one.reached for one in handshakes):
        return Verdict(state=ServedState.UNREACHABLE, message=_why_unreachable(named))
    faults = tuple(dict.fromkeys(fault for one in handshakes for fault in _faults(expected, one)))
    if faults:
        return Verdict(state=ServedState.MISMATCH, message=faults[0], fingerprint_sha256=shown, faults=faults)
    unreached = [one for one in named if not one.reached]
    if unreached:
        return Verdict(state=ServedState.UNREACHABLE, message=_why_unreachable(unreached), fingerprint_sha256=shown)
    return Verdict(
        state=ServedState.MATCH, message="Every handshake showed what was deployed.", fingerprint_sha256=shown
    )


def _why_unreachable(handshakes: Sequence[Handshake]) -> str:
    error = next((one.error for one in handshakes if one.error), None)
    return f"No connection: {error}" if error else "No connection was tried."


def _faults(expected: Expected, one: Handshake) -> list[str]:
    if not one.reached:
        return []
    found = []
    if one.sni:
        found += _chain_faults(expected, one)
        if expected.is_mutual and one.chain and set(one.client_ca_names) != set(expected.client_ca_names):
            asked = _some(one.client_ca_names) or "nobody"
            found.append(f"{one.host}: clients are asked for certificates of {asked}, not of the listener's CA.")
        if not expected.is_mutual and one.client_ca_names:
            found.append(f"{one.host}: clients are asked for certificates of {_some(one.client_ca_names)}.")
    if expected.is_mutual and one.chain and not _is_refused(one):
        where = one.host if one.sni else f"{one.host} without SNI"
        got = "waited in vain for a refusal" if one.status is None else f"got an answer (HTTP {one.status})"
        found.append(f"{where}: a client with {_certificate_of(one)} {got}.")
    return found


def _some(names: Sequence[str]) -> str:
    """A server may ask for thousands of names, as long as it likes."""
    more = len(names) - _SHOWN_NAMES
    shown = "; ".join(
        name if len(name) <= _SHOWN_LENGTH else f"{name[:_SHOWN_LENGTH]}…" for name in names[:_SHOWN_NAMES]
    )
    return f"{shown} and {more} more" if more > 0 else shown


def _chain_faults(expected: Expected, one: Handshake) -> list[str]:
    if not one.chain:
        return [f"{one.host}: no handshake: {one.error}"]
    if one.chain[0] != expected.chain[0]:
        return [f"{one.host} shows another certificate: {one.subject}, SHA-256 {one.chain[0]}."]
    if one.chain != expected.chain:
        return [f"{one.host} shows the certificate with another chain: {len(one.chain)} certificates."]
    return []


def _is_refused(one: Handshake) -> bool:
    """The balancer ended the connection, or answered as nginx does.

    400 for a client without a good certificate, 421 for another host's connection (RFC 9110 §15.5.20). What an
    application may say (403) is no refusal of the balancer's, and neither is its silence.
    """
    return one.status in _REFUSALS if one.status is not None else not one.timed_out


def _certificate_of(one: Handshake) -> str:
    return "no certificate" if one.client is Client.ANONYMOUS else "a foreign certificate"
