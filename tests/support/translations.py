"""Take the console's texts out of its sources, one catalogue a page, and compile what is translated.

``make translations`` brings ``services/api/console/translations`` up to date: it keeps what is translated, adds what is
new, and compiles. Babel is needed here only; the API reads the ``.mo`` files.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_file
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

CONSOLE: Final = Path("services/api/console")
TRANSLATIONS: Final = CONSOLE / "translations"
LANGUAGES: Final = ("zh_Hans",)
_KEYWORDS: Final[dict[str, tuple[int, ...] | None]] = {"_": None, "N_": None, "gettext": None, "ngettext": (1, 2)}
_THEN: Final = datetime(2026, 11, 24, tzinfo=UTC)
"""The same texts are the same file, whenever it is written."""

_OPTIONS: Final = {"trimmed": "true", "extensions": "jinja2.ext.do"}


def catalogues() -> dict[str, list[Path]]:
    """The name of each catalogue, and the files whose texts are in it: a page's module and its templates share one."""
    found: dict[str, list[Path]] = {}
    pages = sorted(path.stem for path in (CONSOLE / "pages").glob("*.py") if path.stem != "__init__")
    for path in sorted([*CONSOLE.rglob("*.py"), *CONSOLE.rglob("*.html")]):
        owners = [page for page in pages if path.stem == page or path.stem.startswith(f"{page}_")]
        found.setdefault(max(owners, key=len, default="console"), []).append(path)
    return found


def extracted(paths: list[Path], language: str) -> Catalog:
    """An empty catalogue of the texts of these files; without line numbers, which would change with every edit."""
    catalog = Catalog(
        locale=language, project="certfleet", version="1", charset="utf-8", creation_date=_THEN, revision_date=_THEN
    )
    for path in paths:
        for text in texts(path):
            catalog.add(text, locations=[(str(path), 1)])
    return catalog


def texts(path: Path) -> Iterator[str | tuple[str, ...]]:
    method = "jinja2" if path.suffix == ".html" else "python"
    for _line, text, _comments, _context in extract_from_file(
        _babel(method), str(path), keywords=_KEYWORDS, options=_OPTIONS
    ):
        yield text


def _babel(method: str) -> str:
    return "jinja2.ext:babel_extract" if method == "jinja2" else method


def brought_up_to_date(name: str, language: str) -> Catalog:
    """What the catalogue should be: the sources' texts with the translations that there are."""
    wanted = extracted(catalogues()[name], language)
    kept = TRANSLATIONS / language / f"{name}.po"
    if kept.exists():
        with kept.open("rb") as file:
            known = read_po(file, locale=language)
        for message in wanted:
            if message.id and (old := known.get(message.id)) is not None:
                message.string = old.string
    return wanted


def compiled(catalog: Catalog) -> bytes:
    target = io.BytesIO()
    write_mo(target, catalog)
    return target.getvalue()


def untranslated(catalog: Catalog) -> list[str]:
    return [str(message.id) for message in catalog if message.id and not _is_complete(message.string)]


def _is_complete(string: str | Sequence[str] | None) -> bool:
    return bool(string) and all(string or ())


def write(name: str, language: str) -> None:
    catalog = brought_up_to_date(name, language)
    folder = TRANSLATIONS / language
    folder.mkdir(parents=True, exist_ok=True)
    if not any(message.id for message in catalog):
        return
    with (folder / f"{name}.po").open("wb") as file:
        write_po(file, catalog, omit_header=False, sort_output=True, no_location=True, width=120)
    (folder / f"{name}.mo").write_bytes(compiled(catalog))


def main() -> None:
    for language in LANGUAGES:
        for name in catalogues():
            write(name, language)


if __name__ == "__main__":
    main()
