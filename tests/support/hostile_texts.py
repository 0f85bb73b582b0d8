"""What people and programs put into names to break out of the place where they are shown."""

from __future__ import annotations

from typing import Final

HOSTILE_TEXTS: Final = (
    *("a\r\nBcc: all@example.com", "a\nBcc: all@example.com", "a\rBcc: all@example.com", "a\r\n\r\n<h1>b</h1>"),
    *("a\x0bb", "a\x0cb", "a\x1cb", "a\x1db", "a\x1eb", "a\x85Bcc: all@example.com", "a\u2028b", "a\u2029b"),
    *("a\u202eb", "a\u2066b\u2069", "a\u200bb", "\ufeffa", "a\x1b[31mb", "a\x7fb"),
    *("=?utf-8?q?a=0D=0ABcc:_all@example.com?=", "=?utf-8?b?YQ0KQmNjOiB4QGV2aWwuZXhhbXBsZQ==?=", "==?utf-8?q?=0Ab?="),
    *("</p><script>alert(1)</script>", '"><a href="https://evil.example">', "<img src=https://evil.example/x.png>"),
    *("{{ 7 * 7 }}", "{% raw %}", "%s %(x)s {0}", "a\n.\nb", "--\nUnsubscribe: https://evil.example"),
)
"""Line ends of every kind, direction and invisible characters, encoded words, markup, templates, SMTP's marks.

All of them can be stored: PostgreSQL takes no NUL, which has its own test.
"""
