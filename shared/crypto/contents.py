"""What one pasted field holds, sorted into certificates, keys and what belongs to neither."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shared.crypto import certificates, formats, keys
from shared.crypto.formats import Format
from shared.crypto.pem import Block, refusals, scan
from shared.domain.findings import Code, Finding, finding

if TYPE_CHECKING:
    from collections.abc import Iterable

_DH_LABELS: Final = frozenset({"DH PARAMETERS", "X9.42 DH PARAMETERS"})
_EC_PARAMETERS: Final = "EC PARAMETERS"
_MAX_FOREIGN: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The usable blocks of a field, in their order, and what was said about the rest."""

    certificates: tuple[Block, ...] = ()
    keys: tuple[Block, ...] = ()
    findings: tuple[Finding, ...] = ()


def read_field(text: str, *, field: str) -> Contents:
    """Read a field's text. Never raises; a text too large is not looked into at all."""
    refused = refusals(text, field=field)
    if any(one.code == Code.TOO_LARGE for one in refused):
        return Contents(findings=tuple(refused))
    scanned = scan(text, field=field)
    if not scanned.blocks:
        return Contents(findings=tuple(refused or _no_block(text, scanned.damages, field=field)))
    return Contents(
        certificates=_labelled(scanned.blocks, certificates.LABELS),
        keys=_labelled(scanned.blocks, keys.LABELS),
        findings=(*refused, *scanned.damages, *scanned.repairs, *_about_labels(scanned.blocks, field=field)),
    )


def _no_block(text: str, damages: tuple[Finding, ...], *, field: str) -> Iterable[Finding]:
    found = formats.of_text(text)
    if found is Format.UNKNOWN and damages:
        return damages
    message = f"The field is {found.phrase}." if found in {Format.EMPTY, Format.UNKNOWN} else f"This is {found.phrase}."
    return [finding(Code.PEM_REQUIRED, field, message=message, hint=found.remedy)]


def _labelled(blocks: Iterable[Block], labels: frozenset[str]) -> tuple[Block, ...]:
    return tuple(block for block in blocks if block.label in labels)


def _about_labels(blocks: tuple[Block, ...], *, field: str) -> list[Finding]:
    expected = certificates.LABELS | keys.LABELS | _DH_LABELS | {_EC_PARAMETERS}
    foreign = [block for block in blocks if block.label not in expected]
    obsolete = [block for block in blocks if block.label in certificates.LABELS - {"CERTIFICATE"}]
    parameters = [block for block in blocks if block.label == _EC_PARAMETERS]
    return [
        *(_foreign(block, field=field) for block in foreign[:_MAX_FOREIGN]),
        *(_repair(Code.LABEL_NORMALIZED, block, field, "is labelled CERTIFICATE now") for block in obsolete[:1]),
        *(_repair(Code.EC_PARAMETERS_REMOVED, block, field, "was removed") for block in parameters[:1]),
    ]


def _foreign(block: Block, *, field: str) -> Finding:
    found = formats.of_label(block.label)
    what = f"{found.phrase}" if found is not Format.UNKNOWN else "neither a certificate nor a private key"
    message = f"The block BEGIN {block.label} is {what}."
    hint = found.remedy if found is not Format.UNKNOWN else Format.PARAMETERS.remedy
    return finding(Code.PEM_REQUIRED, field, message=message, hint=hint, line=block.line)


def _repair(code: Code, block: Block, field: str, what: str) -> Finding:
    return finding(code, field, message=f"The block BEGIN {block.label} {what}.", line=block.line)
