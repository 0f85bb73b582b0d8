"""The state diagrams of docs/architecture.md have the states of the code, all of them and no others."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import pytest

from shared.domain.acquisitions import FINAL_ACQUISITIONS, AcquisitionState
from shared.domain.certificates import CertificateState
from shared.domain.listeners import FINAL_LISTENERS, ListenerState
from shared.domain.notices import NoticeState
from shared.domain.reminders import ReminderState
from shared.domain.rollout import FINAL_DEPLOYMENTS, FINAL_JOBS, DeploymentState, JobState
from shared.domain.webhooks import DeliveryState, ReplayState

PAGE: Final = Path(__file__).parents[2] / "docs" / "architecture.md"
_SECTION: Final = re.compile(
    r"^### [^\n]*\(`(\w+)`, (\S+)\)\n\n```mermaid\nstateDiagram-v2\n(.*?)```", re.MULTILINE | re.DOTALL
)
_ARROW: Final = re.compile(r"^(\S+) --> (\w+|\[\*\])")

FINAL: Final[dict[type[StrEnum], frozenset[StrEnum]]] = {
    JobState: frozenset(FINAL_JOBS),
    DeploymentState: frozenset(FINAL_DEPLOYMENTS),
    ListenerState: frozenset(FINAL_LISTENERS),
    CertificateState: frozenset({CertificateState.DELETED}),
    DeliveryState: frozenset(DeliveryState) - {DeliveryState.PENDING},
    ReplayState: frozenset(ReplayState) - {ReplayState.RUNNING},
    ReminderState: frozenset(ReminderState) - {ReminderState.PENDING},
    NoticeState: frozenset(NoticeState) - {NoticeState.PENDING},
    AcquisitionState: frozenset(FINAL_ACQUISITIONS),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagram:
    """One diagram as drawn: who defines its states, and its arrows."""

    module: str
    arrows: frozenset[tuple[str, str]]
    named: frozenset[str]


def diagrams() -> dict[str, Diagram]:
    """The page's state diagrams, by the enum that each one names."""
    found = {}
    for enum, module, body in _SECTION.findall(PAGE.read_text(encoding="utf-8")):
        lines = [line.strip() for line in body.splitlines()]
        arrows = frozenset((match[1], match[2]) for match in map(_ARROW.match, lines) if match)
        declared = {line.partition(":")[0].strip() for line in lines if line and "-->" not in line}
        named = {state for arrow in arrows for state in arrow} | declared
        found[enum] = Diagram(module=module, arrows=arrows, named=frozenset(named - {"[*]"}))
    return found


def test_every_state_machine_has_its_diagram_and_no_diagram_is_left_over() -> None:
    assert set(diagrams()) == {enum.__name__ for enum in FINAL}


@pytest.mark.parametrize("enum", FINAL, ids=lambda enum: enum.__name__)
def test_a_diagram_has_exactly_the_states_of_its_enum(enum: type[StrEnum]) -> None:
    diagram = diagrams()[enum.__name__]
    assert diagram.named == {state.value for state in enum}
    assert diagram.module == enum.__module__.replace(".", "/") + ".py"


@pytest.mark.parametrize("enum", FINAL, ids=lambda enum: enum.__name__)
def test_exactly_the_final_states_may_be_the_end(enum: type[StrEnum]) -> None:
    arrows = diagrams()[enum.__name__].arrows
    assert {source for source, target in arrows if target == "[*]"} == {state.value for state in FINAL[enum]}


@pytest.mark.parametrize("enum", FINAL, ids=lambda enum: enum.__name__)
def test_every_state_that_is_not_final_leads_somewhere_else(enum: type[StrEnum]) -> None:
    arrows = diagrams()[enum.__name__].arrows
    left = {source for source, target in arrows if target not in (source, "[*]")}
    assert left >= {state.value for state in enum} - {state.value for state in FINAL[enum]}
