"""A mail server that delivers to a directory: every mail it takes becomes one ``.eml`` file."""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import signal
from datetime import UTC, datetime
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session


class Mailbox:
    """Keeps mails. A file appears whole (written aside, then renamed); names sort by time of arrival."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        """Keep one mail, with its envelope as the headers that a delivering server adds (RFC 5321, 4.4)."""
        self.keep(str(envelope.mail_from or ""), [str(address) for address in envelope.rcpt_tos], envelope.content)
        return "250 2.0.0 Kept"

    def keep(self, sender: str, recipients: list[str], content: bytes | str | None) -> Path:
        """Write the mail and return its path."""
        body = content.encode() if isinstance(content, str) else content or b""
        head = f"Return-Path: <{sender}>\r\n" + "".join(f"Delivered-To: {address}\r\n" for address in recipients)
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{secrets.token_hex(4)}.eml"
        partial = self._directory / f".{name}.partial"
        partial.write_bytes(head.encode() + body)
        return partial.rename(self._directory / name)


async def serve(port: int, mailbox: Path) -> None:
    """Take mail on 127.0.0.1 until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    handler = Mailbox(mailbox)
    server = await loop.create_server(
        lambda: SMTP(handler, hostname="certfleet.localhost", enable_SMTPUTF8=True), "127.0.0.1", port
    )
    async with server:
        await stopped.wait()


def main() -> None:
    """Serve with what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--mailbox", type=Path, required=True)
    options = parser.parse_args()
    os.umask(0o077)
    asyncio.run(serve(options.port, options.mailbox))


if __name__ == "__main__":
    main()
