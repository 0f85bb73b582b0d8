"""What is shipped in other languages: complete, compiled from what can be read, with the same places to fill in."""

from __future__ import annotations

import re

import pytest

from tests.support.translations import LANGUAGES, TRANSLATIONS, brought_up_to_date, catalogues, compiled, untranslated

CATALOGUES = [(name, language) for name in catalogues() for language in LANGUAGES]
_PLACES = re.compile(r"%\(\w+\)[sd]")


@pytest.mark.parametrize(("name", "language"), CATALOGUES)
def test_a_catalogue_has_every_text_of_its_page_and_is_compiled(name: str, language: str) -> None:
    catalog = brought_up_to_date(name, language)
    assert untranslated(catalog) == [], "run make translations, fill in the .po file, run it again"
    if len(catalog):
        assert (TRANSLATIONS / language / f"{name}.mo").read_bytes() == compiled(catalog), "run make translations"


@pytest.mark.parametrize(("name", "language"), CATALOGUES)
def test_a_translation_fills_in_the_same_places(name: str, language: str) -> None:
    for message in brought_up_to_date(name, language):
        if not message.id:
            continue
        said = message.id if isinstance(message.id, str) else message.id[-1]
        translated = [message.string] if isinstance(message.string, str) else list(message.string or ())
        for one in translated:
            assert sorted(_PLACES.findall(one)) == sorted(_PLACES.findall(said)), said


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_text_has_one_translation_whichever_page_it_is_on(language: str) -> None:
    """All catalogues are read as one: of two translations only one would be shown, by chance of the pages' names."""
    known: dict[str, dict[str, str]] = {}
    for name in catalogues():
        for message in brought_up_to_date(name, language):
            if message.id:
                known.setdefault(str(message.id), {})[str(message.string)] = name
    assert {text: said for text, said in known.items() if len(said) > 1} == {}
