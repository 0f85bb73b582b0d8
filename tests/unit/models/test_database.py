"""Which URLs name a database of ours."""

from __future__ import annotations

import pytest

from shared.errors import Misconfigured
from shared.models.database import driver_url
from shared.models.revisions import upgrade

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_every_spelling_of_postgresql_means_psycopg(scheme: str) -> None:
    assert driver_url(f"{scheme}://user:secret@host/name").drivername == "postgresql+psycopg"


@pytest.mark.parametrize(
    "url", ["", "nonsense", "mysql://user:secret@host/name", "postgresql://user:secret@host:port/"]
)
def test_anything_else_is_refused_in_a_sentence_without_the_password(url: str) -> None:
    for refuse in (driver_url, upgrade):
        with pytest.raises(Misconfigured, match="DATABASE_URL: takes postgresql://") as refused:
            refuse(url)
        assert "secret" not in str(refused.value)
