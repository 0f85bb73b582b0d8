"""A strict, line-aware PEM scanner (RFC 7468) over text, and the one encoder whose output leaves the system.

The scanner repairs what cannot change the meaning (line ends, blanks, text around blocks, line lengths) and says so;
everything else that it does not understand is a finding with a line. Work is linear in the size of the text.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Final

from shared.domain.findings import Code, Finding, finding

MAX_BYTES: Final = 1024 * 1024
"""One field; the HTTP contract's limit for a whole body."""

MAX_CERTIFICATES: Final = 100
"""In one field; DESIGN §5, and the most that a region holds."""

MAX_DAMAGES: Final = 10
"""So many places are named in one field; a page of nonsense must not become a page of findings."""

COLUMNS: Final = 64
"""RFC 7468 §2: "MUST wrap … so that each line consists of exactly 64 characters except for the final line"."""

_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_ESCAPED_LINE_END: Final = re.compile(r"(?:\\r)?\\n")
_MARKER: Final = re.compile(r"-----(BEGIN|END) ([A-Z0-9.#]{1,30}(?: [A-Z0-9.#]{1,30}){0,4})-----")
_LOOKS_LIKE_MARKER: Final = re.compile(
    r"^[\W_]{0,20}(?:BEGIN|END)[ _]+[A-Z0-9. ]{0,40}"
    r"(?:CERTIFICATE|PRIVATE ?KEY|PUBLIC KEY|PARAMETERS|REQUEST|PKCS7|CRL)[\W_]{0,20}$",
    re.IGNORECASE,
)
_CERTIFICATE_BEGINS: Final = re.compile(r"-----BEGIN (?:TRUSTED |X509 |X\.509 )?CERTIFICATE-----")
_DH_PARAMETERS: Final = re.compile(r"BEGIN (?:X9\.42 )?DH PARAMETERS")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/=]*")
_BOMS: Final = ("\ufeff", "\u00ef\u00bb\u00bf")
"""The byte order mark, and its UTF-8 bytes read as Latin-1."""

_INVISIBLE: Final = str.maketrans(dict.fromkeys("\u00a0\u200b\u200c\u200d\u2060\u00ad\ufeff\u3000", " "))
"""What word processors and web pages leave in copied text, read as spaces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One well-formed PEM block. ``line`` is that of its BEGIN; the repr shows neither content nor size."""

    label: str
    line: int
    der: bytes = field(repr=False)
    is_encrypted: bool = False
    """True with the header ``Proc-Type: 4,ENCRYPTED`` (RFC 1421 §4.6.1.1); ``der`` is empty then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What a field holds: its blocks in order, what was repaired, and what is damaged."""

    blocks: tuple[Block, ...] = ()
    repairs: tuple[Finding, ...] = ()
    damages: tuple[Finding, ...] = ()


def encode(label: str, der: bytes) -> str:
    """Canonical PEM: LF, 64 columns, no text, a final newline (RFC 7468 §3, ABNF "strict")."""
    body = base64.b64encode(der).decode("ascii")
    lines = [body[start : start + COLUMNS] for start in range(0, len(body), COLUMNS)]
    return "\n".join((f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""))


def refusals(text: str, *, field: str) -> list[Finding]:
    """What must be refused before anything is parsed: size, number of certificates, DH parameters.

    With ``too_large`` among them the text must not be scanned.
    """
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        return [finding(Code.TOO_LARGE, field, message=f"The field is larger than {MAX_BYTES} bytes (1 MiB).")]
    if sum(1 for _ in _CERTIFICATE_BEGINS.finditer(text)) > MAX_CERTIFICATES:
        message = f"The field holds more than {MAX_CERTIFICATES} certificates."
        return [finding(Code.TOO_LARGE, field, message=message)]
    begin = _DH_PARAMETERS.search(text)
    if begin is None:
        return []
    line = len(_LINE_END.findall(text, 0, begin.start())) + 1
    message = "The text contains BEGIN DH PARAMETERS, which HTTPS listeners do not take."
    return [finding(Code.DH_PARAMETERS_NOT_SUPPORTED, field, message=message, line=line)]


def scan(text: str, *, field: str) -> Scan:
    """Find the blocks of a text that ``refusals`` has let through. Never raises."""
    scanner = _Scanner(field)
    scanner.read(text)
    return Scan(blocks=tuple(scanner.blocks), repairs=tuple(scanner.repairs.values()), damages=tuple(scanner.damages))


@dataclass(slots=True)
class _Open:
    """A block whose END has not come yet."""

    label: str
    line: int
    parts: list[tuple[int, str]]
    is_encrypted: bool = False
    in_headers: bool = False


class _Scanner:
    """Reads line by line; ``repairs`` keeps the first place of each kind, ``damages`` the first few places."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.blocks: list[Block] = []
        self.repairs: dict[Code, Finding] = {}
        self.damages: list[Finding] = []
        self.open: _Open | None = None

    def read(self, text: str) -> None:
        lines = _LINE_END.split(self._prepared(text))
        if lines[-1] == "":
            lines.pop()
        for number, line in enumerate(lines, start=1):
            self._line(number, line)
        if self.open is not None:
            self._unclosed(self.open)

    def _prepared(self, text: str) -> str:
        for bom in _BOMS:
            if text.startswith(bom):
                self._repaired(Code.BOM_REMOVED, 1, "A byte order mark at the beginning was removed.")
                text = text.removeprefix(bom)
        if "\r" in text:
            line = text.count("\n", 0, text.index("\r")) + 1
            self._repaired(Code.LINE_ENDINGS_NORMALIZED, line, "Line ends were CR LF or CR; they are LF now.")
        if "\\n" in text and "-----" in text:
            self._repaired(Code.ESCAPED_NEWLINES_DECODED, 1, "Backslash-n was written in place of line breaks.")
            text = _ESCAPED_LINE_END.sub("\n", text)
        return text

    def _line(self, number: int, line: str) -> None:
        visible = line if line.isascii() else line.translate(_INVISIBLE)
        content = visible.strip()
        if not content:
            self._blank(number)
            return
        if content != line:
            self._repaired(
                Code.WHITESPACE_REMOVED, number, "Spaces or invisible characters around a line were removed."
            )
        position = 0
        for marker in _MARKER.finditer(content) if "-----" in content else ():
            self._between(number, content[position : marker.start()], beside_marker=True)
            if position and marker[1] == "BEGIN":
                self._repaired(Code.LINES_REWRAPPED, number, "A block began on the line on which another one ended.")
            self._marker(number, marker[1], marker[2])
            position = marker.end()
        self._between(number, content[position:], beside_marker=position > 0)

    def _blank(self, number: int) -> None:
        if self.open is not None and self.open.in_headers:
            self.open.in_headers = False
            return
        self._repaired(Code.BLANK_LINES_REMOVED, number, "Blank lines were removed.")

    def _between(self, number: int, text: str, *, beside_marker: bool) -> None:
        content = text.strip()
        if not content:
            return
        if beside_marker and not content.strip("-"):
            self._damaged(number, "The dashes around BEGIN or END are not exactly five on each side.")
        elif len(content) < COLUMNS * 2 and _LOOKS_LIKE_MARKER.match(content):
            self._damaged(
                number, "This line is nearly a BEGIN or END line: it needs capitals and five dashes each side."
            )
        elif self.open is None:
            self._repaired(Code.TEXT_REMOVED, number, "Text outside the PEM blocks was removed.")
        else:
            self._inside(self.open, number, content, beside_marker=beside_marker)

    def _inside(self, block: _Open, number: int, content: str, *, beside_marker: bool) -> None:
        if not block.parts and ":" in content:
            block.in_headers = True
            block.is_encrypted |= content.startswith("Proc-Type:") and "ENCRYPTED" in content
            if not block.is_encrypted:
                self._repaired(Code.TEXT_REMOVED, number, "Header lines inside a block were removed.")
            return
        block.in_headers = False
        if beside_marker:
            self._repaired(Code.LINES_REWRAPPED, number, "Content stood on the same line as BEGIN or END.")
        block.parts.append((number, content))

    def _marker(self, number: int, kind: str, label: str) -> None:
        if kind == "BEGIN":
            if self.open is not None:
                self._unclosed(self.open)
            self.open = _Open(label=label, line=number, parts=[])
        elif self.open is None:
            self._damaged(number, f"There is an END {label} line without a BEGIN {label} line before it.")
        else:
            block, self.open = self.open, None
            self._close(block, number, label)

    def _close(self, block: _Open, number: int, label: str) -> None:
        if label != block.label:
            self._damaged(number, f"The block that begins with BEGIN {block.label} ends with END {label}.")
        elif block.is_encrypted:
            self.blocks.append(Block(label=label, line=block.line, der=b"", is_encrypted=True))
        else:
            der = self._decoded(block)
            if der is not None:
                self.blocks.append(Block(label=label, line=block.line, der=der))

    def _decoded(self, block: _Open) -> bytes | None:
        parts = [(number, "".join(content.split())) for number, content in block.parts]
        for (number, content), (_, original) in zip(parts, block.parts, strict=True):
            if not _BASE64.fullmatch(content):
                self._damaged(number, f"A character in the {block.label} block is not base64{_culprit(content)}.")
                return None
            if content != original:
                self._repaired(Code.WHITESPACE_REMOVED, number, "Spaces inside the content were removed.")
        uneven = [number for number, content in parts[:-1] if len(content) != COLUMNS]
        uneven += [number for number, content in parts[-1:] if len(content) > COLUMNS]
        if uneven:
            self._repaired(Code.LINES_REWRAPPED, uneven[0], f"Lines were not {COLUMNS} characters long.")
        return self._base64(block, "".join(content for _, content in parts))

    def _base64(self, block: _Open, body: str) -> bytes | None:
        try:
            der = binascii.a2b_base64(body, strict_mode=True)
        except (binascii.Error, ValueError):
            self._damaged(block.line, f"The {block.label} block that begins here is cut off or not base64.")
            return None
        if not der:
            self._damaged(block.line, f"The {block.label} block that begins here is empty.")
        return der or None

    def _unclosed(self, block: _Open) -> None:
        self._damaged(block.line, f"The block that begins here has no END {block.label} line.")

    def _repaired(self, code: Code, line: int, message: str) -> None:
        if code not in self.repairs:
            self.repairs[code] = finding(code, self.name, message=message, line=line)

    def _damaged(self, line: int, message: str) -> None:
        if len(self.damages) < MAX_DAMAGES:
            self.damages.append(finding(Code.PEM_DAMAGED, self.name, message=message, line=line))


def _culprit(content: str) -> str:
    """Which character it is, by its number: a message must stay readable and must not quote content."""
    wrong = _BASE64.sub("", content)[:1]
    return f" (U+{ord(wrong):04X})" if wrong else ""
