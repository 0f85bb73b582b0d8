"""Every module can be imported first: none works only because another was imported before it."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from shared import usecases

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]

_EACH_IN_A_CHILD = """
# the layers below import no use case (import-linter holds it): loaded once, they hide nothing and cost nothing again
import importlib, os, pkgutil, sys
import celery, shared
for found in pkgutil.walk_packages(shared.__path__, "shared."):
    if not found.name.startswith("shared.usecases"):
        importlib.import_module(found.name)
for name in sys.argv[1:]:
    child = os.fork()
    if not child:
        try:
            importlib.import_module(name)
        except ImportError as error:
            print(name, error, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.timeout(900)  # a hundred processes: two minutes and more where others work on the same machine
def test_every_use_case_can_be_imported_first() -> None:
    names = [f"{usecases.__name__}.{found.name}" for found in pkgutil.iter_modules(usecases.__path__)]
    answer = subprocess.run(
        [sys.executable, "-c", _EACH_IN_A_CHILD, *names], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout == ""
    assert len(names) > 50


@pytest.mark.parametrize("library", ["alembic", "flask"])
def test_workers_load_nothing_that_only_others_need(library: str) -> None:
    """Each takes MiB of every process: migrating and answering requests are for others."""
    looked = "import sys, services.worker.tasks, services.worker.runtime; sys.exit(sys.argv[1] in sys.modules)"
    subprocess.run([sys.executable, "-c", looked, library], cwd=ROOT, check=True)
