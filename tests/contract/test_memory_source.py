"""The in-memory double passes the public contract suite, whether it issues at once or later."""

from __future__ import annotations

import pytest

from tests.contract.source_kit import NAMES, ServiceUnderTest, SourceContract
from tests.support import pki
from tests.support.memory_sources import MemoryService, MemorySource, moment

pytestmark = pytest.mark.unit


class TestMemorySource(SourceContract):
    @pytest.fixture(params=[False, True], ids=["at_once", "later"])
    def service(self, request: pytest.FixtureRequest) -> ServiceUnderTest:
        service = MemoryService(moment(pki.NOW), is_slow=request.param)
        for name in NAMES:
            service.issue(name)
        return ServiceUnderTest(new_source=lambda: MemorySource(service), issue=service.issue_pending)
