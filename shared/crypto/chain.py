"""From certificates in any order to the chain that TLS sends: leaf first, each signed by the next, root left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shared.crypto.certificates import FIELD, Certificate, is_signed_by
from shared.domain.findings import Code, Finding, finding
from shared.domain.validation import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

MAX_VERIFICATIONS: Final = 300
"""For one upload. A chain of 100 needs 100; a hundred certificates of one name would otherwise need thousands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The order that will be sent, without a root, and what was found on the way."""

    leaf: Certificate
    intermediates: tuple[Certificate, ...]
    findings: tuple[Finding, ...]


def without_duplicates(certificates: Iterable[Certificate]) -> tuple[list[Certificate], list[Finding]]:
    """Keep the first of each; one repair is said for all others."""
    first: dict[bytes, Certificate] = {}
    repeated = [one for one in certificates if first.setdefault(one.der, one) is not one]
    return list(first.values()), _duplicates(repeated)


def _duplicates(repeated: Sequence[Certificate]) -> list[Finding]:
    if not repeated:
        return []
    message = f"{_names(repeated)} was there more than once."
    return [finding(Code.DUPLICATE_CERTIFICATE, FIELD, message=message, line=repeated[0].line)]


def find_leaf(certificates: Sequence[Certificate], *, spki: bytes | None) -> Certificate:
    """The server certificate among them: the one of the private key, else the one that issued none of the others.

    A key that belongs to another's issuer does not decide: it is the wrong key rather than the wrong certificate.
    ``certificates`` is not empty and free of duplicates.
    """
    issuers = {one.issuer for one in certificates if one.issuer != one.subject}
    ends = [one for one in certificates if one.subject not in issuers] or list(certificates)
    return min(ends, key=lambda one: (spki is None or one.spki != spki, bool(one.facts.is_ca)))


def build_chain(certificates: Sequence[Certificate], *, leaf: Certificate, now: datetime) -> Chain:
    """Order the certificates from the leaf upwards and account for every one of them."""
    path = _Path(leaf, certificates, now)
    path.climb()
    intermediates, root = path.without_root()
    findings = [
        *path.broken,
        *path.unrelated(),
        *_root_included(root),
        *_out_of_order([leaf, *intermediates, *root], certificates),
        *broken_own_signatures([leaf]),
        *_incomplete(leaf, has_issuer=len(path.links) > 1 or bool(path.broken)),
    ]
    return Chain(leaf=leaf, intermediates=tuple(intermediates), findings=tuple(findings))


_MAX_STRANGERS: Final = 10


def broken_own_signatures(certificates: Iterable[Certificate]) -> list[Finding]:
    """Certificates that name themselves as issuer, and whose signature is not their own key's: damaged or forged.

    Two different key identifiers are no damage: the authority changed its key (RFC 5280 §3.2, self-issued).
    """
    return [_broken_own_signature(one) for one in certificates if _claims_itself(one) and not one.facts.is_self_signed]


def _claims_itself(one: Certificate) -> bool:
    return one.subject == one.issuer and (one.issuer_key_id or one.key_id) == one.key_id


def _broken_own_signature(one: Certificate) -> Finding:
    message = f"The signature on {_name(one)} is not its own key's, although it names itself as its issuer."
    return finding(Code.CHAIN_BROKEN, FIELD, message=message, line=one.line)


class _Path:
    """The climb from the leaf to its root. Never goes back: the candidates of each step are ordered instead."""

    def __init__(self, leaf: Certificate, certificates: Sequence[Certificate], now: datetime) -> None:
        self.now = now
        self.links = [leaf]
        self.rest = [one for one in certificates if one is not leaf]
        self.broken: list[Finding] = []
        self.verifications = 0

    def climb(self) -> None:
        while not self.links[-1].facts.is_self_signed:
            child = self.links[-1]
            candidates = sorted((one for one in self.rest if one.subject == child.issuer), key=self._preference)
            issuer = next((one for one in candidates if self._is_issuer(one, child)), None)
            if issuer is None:
                self._stopped(child, candidates)
                return
            self.broken += _unfit(issuer, below=self.links)
            self.links.append(issuer)
            self.rest.remove(issuer)

    def _preference(self, one: Certificate) -> tuple[bool, bool, bool]:
        """Issuers by key identifier first, then those still valid, then cross-signed ones before roots."""
        child = self.links[-1]
        is_named = child.issuer_key_id is not None and child.issuer_key_id == one.key_id
        return not is_named, one.facts.not_after < self.now, one.facts.is_self_signed

    def _is_issuer(self, one: Certificate, child: Certificate) -> bool:
        if self.verifications >= MAX_VERIFICATIONS:
            return False
        self.verifications += 1
        return is_signed_by(child.parsed, one.parsed)

    def _stopped(self, child: Certificate, candidates: Sequence[Certificate]) -> None:
        if not candidates:
            return
        pretender = _name(candidates[0])
        message = f"The signature on {_name(child)} was not made by {pretender}, although that has its issuer's name."
        self.broken.append(finding(Code.CHAIN_BROKEN, FIELD, message=message, line=child.line))
        self.rest = [one for one in self.rest if one not in candidates]

    def without_root(self) -> tuple[list[Certificate], list[Certificate]]:
        """The intermediates, and the root as a list of one or none. A self-signed leaf is not a root."""
        above = self.links[1:]
        if above and above[-1].facts.is_self_signed:
            return above[:-1], above[-1:]
        return above, []

    def unrelated(self) -> list[Finding]:
        """What was not needed: another path to the same authority is left out, anything else breaks the chain.

        A second certificate for the server's own name and key is no other path: choosing one of the two is a guess.
        """
        known = {(one.subject, one.spki) for one in self.links[1:]}
        twins = [one for one in self.rest if (one.subject, one.spki) in known and one.spki is not None]
        strangers = [one for one in self.rest if one not in twins]
        found = [] if not twins else [_twin(twins[0])]
        return found + [_stranger(one) for one in strangers[:_MAX_STRANGERS]]


def _twin(one: Certificate) -> Finding:
    if one.facts.is_self_signed:
        return _root_included([one])[0]
    message = f"{_name(one)} was there in two versions with the same key; one was kept."
    return finding(Code.DUPLICATE_CERTIFICATE, FIELD, message=message, line=one.line)


def _stranger(one: Certificate) -> Finding:
    message = f"{_name(one)} does not belong to the server certificate's chain."
    return finding(Code.CHAIN_BROKEN, FIELD, message=message, line=one.line)


def _unfit(issuer: Certificate, *, below: Sequence[Certificate]) -> list[Finding]:
    """Whether the issuer may have issued at all, and at this depth (RFC 5280 §4.2.1.9, §6.1.4)."""
    depth = sum(1 for one in below[1:] if one.subject != one.issuer)
    limit = issuer.presented.path_length
    if not issuer.facts.is_ca:
        reason = "says CA:FALSE" if issuer.facts.is_ca is False else "has no basicConstraints"
    elif not issuer.presented.may_sign:
        reason = "has a keyUsage without keyCertSign"
    elif limit is not None and depth > limit:
        reason = f"allows {limit} intermediates below it, and there are {depth}"
    else:
        return []
    message = f"{_name(issuer)} may not have issued {_name(below[-1])}: it {reason}."
    return [finding(Code.CHAIN_BROKEN, FIELD, message=message, line=issuer.line)]


def _root_included(root: Sequence[Certificate]) -> list[Finding]:
    if not root:
        return []
    message = f"The root {_name(root[0])} was left out; clients have it themselves."
    return [finding(Code.ROOT_INCLUDED, FIELD, message=message, line=root[0].line)]


def _out_of_order(ordered: Sequence[Certificate], given: Sequence[Certificate]) -> list[Finding]:
    kept = [one for one in given if one in ordered]
    moved = next((one for one, wanted in zip(kept, ordered, strict=True) if one is not wanted), None)
    if moved is None:
        return []
    message = "The certificates were sorted: server certificate first, each followed by its issuer."
    return [finding(Code.CHAIN_OUT_OF_ORDER, FIELD, message=message, line=moved.line)]


def _incomplete(leaf: Certificate, *, has_issuer: bool) -> list[Finding]:
    if has_issuer or leaf.facts.is_self_signed or _claims_itself(leaf):
        return []
    message = f"The issuer of {_name(leaf)} is not in the field: {visible(leaf.facts.issuer)}."
    return [finding(Code.CHAIN_INCOMPLETE, FIELD, message=message, line=leaf.line)]


def _name(one: Certificate) -> str:
    return f"“{visible(one.facts.common_name or one.facts.subject or 'certificate without a name')}”"


def _names(certificates: Sequence[Certificate]) -> str:
    more = len(certificates) - 1
    return _name(certificates[0]) + (f" (and {more} more)" if more else "")
