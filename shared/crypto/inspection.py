"""The one entrance to validation: an upload in, every finding and the re-encoded material out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from shared.crypto.certificates import FIELD as CERTIFICATE
from shared.crypto.certificates import Certificate, read_certificate
from shared.crypto.chain import broken_own_signatures, build_chain, find_leaf, without_duplicates
from shared.crypto.contents import Contents, read_field
from shared.crypto.keys import FIELD as PRIVATE_KEY
from shared.crypto.keys import PrivateKey, load_private_key
from shared.crypto.pem import Block, encode
from shared.crypto.samples import is_sample_key
from shared.domain.certificates import CertificateFacts, CertificateType, Material
from shared.domain.findings import Code, Finding, finding, has_errors, sorted_findings
from shared.domain.key_policy import KeyPolicies, key_policy_findings, region_findings
from shared.domain.validation import authority_findings, server_findings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

__all__ = ["Inspection", "Upload", "inspect", "region_findings"]

_NO_POLICIES: Final[KeyPolicies] = MappingProxyType({})
_SWAPPED: Final = " The two fields are swapped."


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """What was pasted, as it was pasted. Also ``certificate`` may hold a key by mistake: treat both as secrets."""

    type: CertificateType
    certificate: str = field(repr=False)
    private_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What an upload is worth.

    ``material`` is ``None`` iff any finding is an error. ``facts`` are the leaf's or the first CA certificate's, also
    given beside errors where it could be read. ``chain`` are the facts of all that would be sent, in that order: the
    leaf first and no root; for ``ca`` every CA certificate. ``policed`` are those whose keys a region's policy
    judges, for ``region_findings``.
    """

    findings: tuple[Finding, ...]
    material: Material | None = None
    facts: CertificateFacts | None = None
    chain: tuple[CertificateFacts, ...] = ()
    policed: tuple[CertificateFacts, ...] = ()

    @property
    def valid(self) -> bool:
        """No errors; warnings and repairs do not matter."""
        return not has_errors(self.findings)


def inspect(upload: Upload, *, now: datetime, key_policies: KeyPolicies = _NO_POLICIES) -> Inspection:
    """Find everything that is wrong with an upload, and encode anew what is right. Never raises for any content.

    ``now`` is aware UTC. ``key_policies`` maps region ids to what they take
    (``shared/domain/key_policy.py``); without any, the default policy decides.
    """
    look = _inspect_ca if upload.type is CertificateType.CA else _inspect_server
    return look(upload, now=now, key_policies=key_policies)


def _inspect_ca(upload: Upload, *, now: datetime, key_policies: KeyPolicies) -> Inspection:
    contents = read_field(upload.certificate, field=CERTIFICATE)
    authorities, found = _certificates(contents)
    policed = tuple(one.facts for one in authorities)
    found += _keys_of_a_ca(upload, contents)
    found += authority_findings([one.presented for one in authorities], now=now)
    found += broken_own_signatures(authorities)
    found += key_policy_findings(policed, key_policies=key_policies)
    found += _samples(authorities)
    material = None if has_errors(found) else _material(CertificateType.CA, authorities)
    return _inspection(found, material, policed, policed=policed)


def _inspect_server(upload: Upload, *, now: datetime, key_policies: KeyPolicies) -> Inspection:
    contents = read_field(upload.certificate, field=CERTIFICATE)
    key_text = upload.private_key if upload.private_key and upload.private_key.strip() else None
    key_contents = read_field(key_text, field=PRIVATE_KEY) if key_text is not None else None
    allowed = frozenset().union(*(policy.allowed for policy in key_policies.values()))
    key, found = _key(key_contents, allowed)
    found += _places(contents, key_contents)
    found += _keys_beside(contents, key_contents, key=key, allowed=allowed)
    presented, about_certificates = _certificates(contents)
    found += about_certificates
    if not presented:
        return _inspection(found, None, ())
    leaf = find_leaf(presented, spki=key.spki if key else None)
    chain = build_chain(presented, leaf=leaf, now=now)
    sent = [leaf, *chain.intermediates]
    facts = tuple(one.facts for one in sent)
    is_whole = _is_whole(about_certificates)
    policed = facts[:1] if is_whole or _is_surely_leaf(leaf, key) else ()
    if is_whole:
        found += chain.findings
    if policed:
        found += _mismatch(key, leaf, presented)
        found += server_findings(leaf.presented, [one.presented for one in chain.intermediates], now=now)
        found += key_policy_findings(policed, key_policies=key_policies)
    found += _samples([leaf])
    material = None if has_errors(found) or key is None else _material(CertificateType.SERVER, sent, key=key)
    return _inspection(found, material, facts, policed=policed)


def _is_whole(about_certificates: Iterable[Finding]) -> bool:
    """Whether every block could be read: otherwise the missing one may be the leaf, or what links the chain."""
    return not any(one.code in {Code.PEM_DAMAGED, Code.PEM_REQUIRED} for one in about_certificates)


def _is_surely_leaf(leaf: Certificate, key: PrivateKey | None) -> bool:
    """Whether rules may judge it although another block could not be read: it is the key's, or issues nothing."""
    return (key is not None and key.spki == leaf.spki) or not leaf.facts.is_ca


def _inspection(
    found: list[Finding],
    material: Material | None,
    chain: tuple[CertificateFacts, ...],
    *,
    policed: tuple[CertificateFacts, ...] = (),
) -> Inspection:
    facts = chain[0] if chain else None
    return Inspection(findings=sorted_findings(found), material=material, facts=facts, chain=chain, policed=policed)


def _certificates(contents: Contents) -> tuple[list[Certificate], list[Finding]]:
    """Every certificate that could be read, once, and all that was found in the field so far."""
    found = list(contents.findings)
    readable: list[Certificate] = []
    for block in contents.certificates:
        certificate, about = read_certificate(block)
        found += about
        readable += [certificate] if certificate is not None else []
    distinct, repeated = without_duplicates(readable)
    return distinct, found + repeated


def _keys_of_a_ca(upload: Upload, contents: Contents) -> list[Finding]:
    found = []
    if upload.private_key and upload.private_key.strip():
        message = "A private key was sent with a CA certificate; none is needed and none must leave its owner."
        found.append(finding(Code.PRIVATE_KEY_NOT_ALLOWED, PRIVATE_KEY, message=message))
    if contents.keys:
        message = "The certificate field contains a private key."
        line = contents.keys[0].line
        found.append(finding(Code.PRIVATE_KEY_NOT_ALLOWED, CERTIFICATE, message=message, line=line))
    return found


def _places(contents: Contents, key_contents: Contents | None) -> list[Finding]:
    """Blocks that stand in the wrong field of a server certificate."""
    is_key_first = bool(contents.keys) and not contents.certificates
    if key_contents is None:
        return [*_key_required(contents), *_not_a_certificate(contents, is_swapped=False)]
    is_swapped = is_key_first and bool(key_contents.certificates) and not key_contents.keys
    return [
        *_not_a_certificate(contents, is_swapped=is_swapped),
        *_not_a_key(key_contents, is_swapped=is_swapped),
    ]


def _key_required(contents: Contents) -> list[Finding]:
    if not contents.keys:
        return [finding(Code.PRIVATE_KEY_REQUIRED, PRIVATE_KEY, message="A server certificate needs its private key.")]
    message = f"The private key stands in the certificate field (line {contents.keys[0].line}), where it is not used."
    hint = "Move the block from BEGIN … PRIVATE KEY to END … PRIVATE KEY into the private_key field."
    return [finding(Code.PRIVATE_KEY_REQUIRED, PRIVATE_KEY, message=message, hint=hint)]


def _not_a_certificate(contents: Contents, *, is_swapped: bool) -> list[Finding]:
    if contents.certificates or not contents.keys:
        return []
    message = "This is a private key, not a certificate." + (_SWAPPED if is_swapped else "")
    hint = "Put the certificate here and the key into private_key."
    return [finding(Code.PEM_REQUIRED, CERTIFICATE, message=message, hint=hint, line=contents.keys[0].line)]


def _not_a_key(key_contents: Contents, *, is_swapped: bool) -> list[Finding]:
    if not key_contents.certificates:
        return []
    line = key_contents.certificates[0].line
    if key_contents.keys:
        message = "Certificates beside the private key were left out."
        return [finding(Code.EXTRA_BLOCKS_REMOVED, PRIVATE_KEY, message=message, line=line)]
    message = "This is a certificate, not a private key." + (_SWAPPED if is_swapped else "")
    hint = "Put the private key here and the certificate into certificate."
    return [finding(Code.PEM_REQUIRED, PRIVATE_KEY, message=message, hint=hint, line=line)]


def _keys_beside(
    contents: Contents, key_contents: Contents | None, *, key: PrivateKey | None, allowed: frozenset[str]
) -> list[Finding]:
    """Keys in the certificate field although the key's own field holds one."""
    if key_contents is None or not contents.keys or not contents.certificates:
        return []
    line = contents.keys[0].line
    distinct = {block.der: block for block in contents.keys}
    is_same = set(distinct) == {block.der for block in key_contents.keys}
    if is_same or (key is not None and _are_copies(list(distinct.values()), key, allowed=allowed)):
        message = "The copy of the private key in the certificate field was left out."
        return [finding(Code.EXTRA_BLOCKS_REMOVED, CERTIFICATE, message=message, line=line)]
    message = "The certificate field contains another private key than the private_key field."
    return [finding(Code.SEVERAL_PRIVATE_KEYS, CERTIFICATE, message=message, line=line)]


def _are_copies(blocks: Sequence[Block], key: PrivateKey, *, allowed: frozenset[str]) -> bool:
    """Whether the blocks are the same key in another encoding. Only one is looked into: checking a key is slow."""
    if len(blocks) > 1:
        return False
    other = load_private_key(blocks[0], allowed=allowed)
    return isinstance(other, PrivateKey) and other.spki == key.spki


def _key(contents: Contents | None, allowed: frozenset[str]) -> tuple[PrivateKey | None, list[Finding]]:
    if contents is None:
        return None, []
    found = list(contents.findings)
    if len(contents.keys) > 1:
        message = f"There are {len(contents.keys)} private keys."
        found.append(finding(Code.SEVERAL_PRIVATE_KEYS, PRIVATE_KEY, message=message, line=contents.keys[1].line))
    if len({block.der for block in contents.keys}) != 1:
        return None, found
    key = load_private_key(contents.keys[0], allowed=allowed)
    if isinstance(key, Finding):
        return None, [*found, key]
    return key, found + _reencoded(key, contents.keys[0])


def _reencoded(key: PrivateKey, block: Block) -> list[Finding]:
    if key.was_canonical:
        return []
    form = "PKCS#1 (BEGIN RSA PRIVATE KEY)" if key.algorithm.startswith("rsa-") else "PKCS#8 (BEGIN PRIVATE KEY)"
    message = f"The private key was encoded anew as {form}."
    return [finding(Code.PRIVATE_KEY_REENCODED, PRIVATE_KEY, message=message, line=block.line)]


def _samples(used: Iterable[Certificate]) -> list[Finding]:
    message = "This is the published sample, or a certificate for the sample's key."
    return [
        finding(Code.SAMPLE_NOT_ALLOWED, CERTIFICATE, message=message, line=one.line)
        for one in used
        if one.spki is not None and is_sample_key(one.spki)
    ]


def _mismatch(key: PrivateKey | None, leaf: Certificate, presented: Iterable[Certificate]) -> list[Finding]:
    if key is None or key.spki == leaf.spki:
        return []
    message = "The private key does not belong to the server certificate"
    owner = next((one for one in presented if one.spki == key.spki), None)
    if owner is not None:
        message += f", but to the certificate at line {owner.line}, which issued another one."
    elif key.algorithm != leaf.facts.key_algorithm:
        message += f": the certificate has {leaf.facts.key_algorithm}, the key is {key.algorithm}."
    else:
        message += f"; both are {key.algorithm}, but of different pairs."
    return [finding(Code.KEY_MISMATCH, PRIVATE_KEY, message=message)]


def _material(type_: CertificateType, ordered: list[Certificate], *, key: PrivateKey | None = None) -> Material:
    """What goes out.

    A server's fingerprint is its leaf's. A bundle's is taken over the DER of all its certificates in a row, so that
    bundles with the same first certificate differ; for a single CA certificate it is its own.
    """
    ders = [one.der for one in ordered]
    content = ders[0] if type_ is CertificateType.SERVER else b"".join(ders)
    return Material(
        type=type_,
        certificate_pem="".join(encode("CERTIFICATE", der) for der in ders),
        private_key_pem=key.pem if key else None,
        fingerprint_sha256=hashlib.sha256(content).hexdigest(),
    )
