"""The mail port: what the product asks of whatever sends mail."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol

MAIL_REFUSED: Final = "mail_refused"
"""The code of a mail that was refused for good for what it says, not for whom it is to."""


class Template(StrEnum):
    """The kinds of mail there are; each one has a text and an HTML form."""

    REMINDER = "reminder"
    NOTICE = "notice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """One mail to one person. ``content`` is what its template shows.

    ``message_id`` is a whole ``<left@right>`` (RFC 5322 §3.6.4) and the same for every attempt at the same mail.
    ``unsubscribe_url`` answers a POST of ``List-Unsubscribe=One-Click`` (RFC 8058).
    """

    recipient: str
    subject: str
    template: Template
    content: object
    message_id: str
    at: datetime
    unsubscribe_url: str | None = field(default=None, repr=False)


class Mailer(Protocol):
    """Sends mail. Returning means that the next mail server has taken responsibility for it (RFC 5321 §4.2.5)."""

    def send(self, mail: Mail) -> None:
        """Send it, within a bounded time.

        Raises:
            Rejected: this recipient or mail is refused for good (``recipient_refused``, ``mail_refused``).
            Transient: anything that may heal by itself or by the operator's hand; send it again later.
        """
        ...


def message_id(kind: str, ids: Iterable[str], *, sender: str) -> str:
    """The same for the same ids, so that a mail that had to be sent twice is recognised as one."""
    digest = hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()[:32]
    host = sender.rpartition("@")[2].strip("> ") or "localhost"
    return f"<{kind}-{digest}@{host}>"


def plain(text: str, *, limit: int = 100) -> str:
    """User text as one line without control or direction characters, cut at ``limit``: fit for headers and text.

    Nor does it begin an encoded word (``=?``, RFC 2047 §2): ``email`` decodes those when a header is set, line breaks
    included, and writes them out (CVE-2024-6923; until Python 3.11.10 and 3.12.5), and mailboxes decode them, too.
    """
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    line = line.replace("=?", "= ?")
    return line if len(line) <= limit else line[: limit - 1] + "…"
