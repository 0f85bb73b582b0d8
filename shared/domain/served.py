"""What is really served: handshakes as a client saw them, and the judgement on them. The only evidence there is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum, auto
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
        alert: the TLS alert by which the server refused (RFC 8446 §6), ``certificate_required``; ``None``: none came.
    """

    host: str
    sni: bool = True
    client: Client
    reached: bool
    timed_out: bool = False
    alert: str | None = None
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
    """What the handshakes prove about a listener.

    Attributes:
        message: the most telling fault, or why there is none; for people.
        fingerprint_sha256: of the leaf that was really shown; of a wrong one, if any was.
        faults: all of them, the most telling first.
    """

    state: ServedState
    message: str
    fingerprint_sha256: str | None = None
    faults: tuple[str, ...] = field(default=())


class _Weight(IntEnum):
    """How telling a fault is, the most first: who gets in, then what is shown, then who is asked."""

    LET_IN = auto()
    OTHER_CERTIFICATE = auto()
    NO_CERTIFICATE = auto()
    SHUT_OUT = auto()
    OTHER_CHAIN = auto()
    OTHER_CA = auto()


_Fault = tuple[_Weight, str]

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
    One that our patience ended before a certificate was shown is no proof of anything: ``unreachable``.
    """
    named = [one for one in handshakes if one.sni]
    faults = _sorted_faults(expected, handshakes)
    shown = _telling_leaf(expected, named)
    if faults:
        return Verdict(state=ServedState.MISMATCH, message=faults[0], fingerprint_sha256=shown, faults=faults)
    unproven = [one for one in named if not one.reached or _is_silence(one)]
    if unproven or not named:
        return Verdict(state=ServedState.UNREACHABLE, message=_why_unreachable(unproven), fingerprint_sha256=shown)
    return Verdict(
        state=ServedState.MATCH, message="Every handshake showed what was deployed.", fingerprint_sha256=shown
    )


def _sorted_faults(expected: Expected, handshakes: Sequence[Handshake]) -> tuple[str, ...]:
    found = [fault for one in handshakes for fault in _faults(expected, one)]
    found.sort(key=lambda fault: fault[0])
    return tuple(dict.fromkeys(text for _, text in found))


def _telling_leaf(expected: Expected, named: Sequence[Handshake]) -> str | None:
    leaves = [one.chain[0] for one in named if one.chain]
    wrong = (leaf for leaf in leaves if leaf not in expected.chain[:1])
    return next(wrong, leaves[0] if leaves else None)


def _is_silence(one: Handshake) -> bool:
    return one.timed_out and not one.chain


def _why_unreachable(unproven: Sequence[Handshake]) -> str:
    first = next((one for one in unproven if one.error), None)
    if first is None:
        return "No connection was tried."
    return f"No handshake with {first.host}: {first.error}." if first.reached else f"No connection: {first.error}."


def _faults(expected: Expected, one: Handshake) -> Iterator[_Fault]:
    if one.sni and one.reached and not _is_silence(one):
        yield from _chain_faults(expected, one)
        yield from _asking_faults(expected, one)
    if expected.is_mutual and one.chain and not _is_refused(one):
        where = one.host if one.sni else f"{one.host} without SNI"
        got = "waited in vain for a refusal" if one.status is None else f"got an answer (HTTP {one.status})"
        yield _Weight.LET_IN, f"{where}: a client with {_certificate_of(one)} {got}."


def _chain_faults(expected: Expected, one: Handshake) -> Iterator[_Fault]:
    if not one.chain:
        yield _Weight.NO_CERTIFICATE, f"{one.host}: no handshake: {one.error}."
    elif one.chain[:1] != expected.chain[:1]:
        shown = f"{_short(one.subject or 'one without a subject')}, SHA-256 {one.chain[0]}"
        wanted = f", not SHA-256 {expected.chain[0]}" if expected.chain else ""
        yield _Weight.OTHER_CERTIFICATE, f"{one.host} shows another certificate: {shown}{wanted}."
    elif one.chain != expected.chain:
        counts = f"{len(one.chain) - 1} above it, where {len(expected.chain) - 1} were deployed"
        differs = "others above it" if len(one.chain) == len(expected.chain) else counts
        yield _Weight.OTHER_CHAIN, f"{one.host} shows the certificate with another chain: {differs}."


def _asking_faults(expected: Expected, one: Handshake) -> Iterator[_Fault]:
    """Whether clients are asked for the certificates that they should have; a one-way listener asks for none."""
    if expected.is_mutual:
        if one.chain and set(one.client_ca_names) != set(expected.client_ca_names):
            asked, wanted = _some(one.client_ca_names) or "nobody", _some(expected.client_ca_names)
            yield _Weight.OTHER_CA, f"{one.host}: clients are asked for certificates of {asked}, not of {wanted}."
    elif one.client_ca_names:
        yield _Weight.SHUT_OUT, f"{one.host}: clients are asked for certificates of {_some(one.client_ca_names)}."
    elif one.chain and one.alert:
        yield _Weight.SHUT_OUT, f"{one.host}: clients without a certificate are refused (alert {one.alert})."


def _some(names: Sequence[str]) -> str:
    """A server may ask for thousands of names, as long as it likes."""
    more = len(names) - _SHOWN_NAMES
    shown = "; ".join(_short(name or "one without a name") for name in names[:_SHOWN_NAMES])
    return f"{shown} and {more} more" if more > 0 else shown


def _short(name: str) -> str:
    return name if len(name) <= _SHOWN_LENGTH else f"{name[:_SHOWN_LENGTH]}…"


def _is_refused(one: Handshake) -> bool:
    """The balancer ended the connection, or answered as nginx does.

    400 for a client without a good certificate, 421 for another host's connection (RFC 9110 §15.5.20). What an
    application may say (403) is no refusal of the balancer's, and neither is its silence.
    """
    return one.status in _REFUSALS if one.status is not None else not one.timed_out


def _certificate_of(one: Handshake) -> str:
    return "no certificate" if one.client is Client.ANONYMOUS else "a foreign certificate"
