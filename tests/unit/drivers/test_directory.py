"""What the directory driver leaves on the disk, whatever happens while it writes."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from services.worker.drivers.directory import DirectoryDriver, DirectorySettings, parse_settings
from services.worker.drivers.disk import exclusive_lock
from services.worker.drivers.generations import FileFacts, Generations, Record, sha256
from services.worker.drivers.publishing import writing
from shared.domain.certificates import Material
from shared.errors import Busy, Corrupt, InvalidMaterial, Misconfigured, Replan, Unsupported
from shared.usecases.driver import AnomalyKind, Staged
from tests.contract.driver_kit import absent_ref, ca_material, owner, server_material

pytestmark = pytest.mark.unit

NOBODY = 65534
FOREIGN_GROUP = 54321
ROOT = Path(__file__).parents[3]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "regions" / "local"


def driver(path: Path, **changes: Any) -> DirectoryDriver:
    return DirectoryDriver(DirectorySettings(**{"path": path, "lock_timeout": timedelta(seconds=5), **changes}))


def stage(path: Path, certificate_id: str = "cert_one", *, material: Material | None = None, **changes: Any) -> Staged:
    return driver(path, **changes).stage(material or server_material(), owner=owner(certificate_id=certificate_id))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def pair(path: Path, staged: Staged) -> tuple[Path, Path]:
    stem = path / "current" / staged.ref.name.label
    return stem.with_name(stem.name + ".pem"), stem.with_name(stem.name + ".key")


def on_disk(path: Path) -> set[str]:
    """Every name below the directory that belongs to an object."""
    return {found.name for kind in ("*.pem", "*.key") for found in path.rglob(kind)}


def kinds(path: Path) -> set[tuple[AnomalyKind, str]]:
    return {(one.kind, one.subject) for one in driver(path).snapshot().anomalies}


@contextmanager
def unprivileged() -> Iterator[None]:
    """Without root's rights over files, for as long as the block runs; a no-op for other users."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Writes beyond so many bytes fail, as on a full disk (RLIMIT_FSIZE; Python ignores SIGXFSZ)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def manifest_of(*, name: str, mode: str) -> str:
    """Of one object with one file, in the words that stand in JSON."""
    files = f'{{"{name}": {{"sha256": "", "mode": {mode}}}}}'
    record = f'{{"account_id": "acct_one", "fingerprint_sha256": "", "files": {files}}}'
    return f'{{"format": 1, "generation": 1, "objects": {{"x": {record}}}}}'


def put_there(place: Path, kind: str, *, leads_to: Path) -> None:
    """A file, a directory or a link of that name."""
    if kind == "file":
        place.touch()
    elif kind == "directory":
        place.mkdir()
    else:
        place.symlink_to(leads_to)


class TestFiles:
    def test_a_server_certificate_is_a_pem_and_a_key_as_nginx_reads_them(self, path: Path) -> None:
        pem, key = pair(path, stage(path))
        assert pem.read_text() == server_material().certificate_pem
        assert key.read_text() == server_material().private_key_pem

    def test_a_ca_is_one_pem(self, path: Path) -> None:
        staged = stage(path, material=ca_material(certificates=3))
        assert on_disk(path) == {f"{staged.ref.name.label}.pem"}

    def test_keys_are_for_owner_and_group_and_certificates_for_all(self, path: Path) -> None:
        old = os.umask(0o077)
        try:
            pem, key = pair(path, stage(path))
        finally:
            os.umask(old)
        assert (mode(key), mode(pem)) == (0o640, 0o644)
        assert {mode(path), mode(path / "generations"), mode(pem.parent)} == {0o750}

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files to a group it is not in")
    def test_everything_below_belongs_to_the_configured_group(self, path: Path) -> None:
        stage(path, group_id=FOREIGN_GROUP)
        generation = (path / "current").resolve()
        places = (path, path / "generations", generation, *generation.iterdir())
        assert {place.stat().st_gid for place in places} == {FOREIGN_GROUP}

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files to a group it is not in")
    def test_a_group_configured_later_gets_the_object_anew(self, path: Path) -> None:
        stage(path)
        assert stage(path, group_id=FOREIGN_GROUP).created
        assert pair(path, stage(path))[1].stat().st_gid == FOREIGN_GROUP

    def test_unchanged_files_are_links_and_not_copies(self, path: Path) -> None:
        first = stage(path)
        inode = pair(path, first)[1].stat().st_ino
        stage(path, "cert_two")
        assert pair(path, first)[1].stat().st_ino == inode

    def test_nothing_is_written_when_nothing_changes(self, path: Path) -> None:
        stage(path)
        before = (path / "current").readlink()
        assert not stage(path).created
        assert driver(path).retire(absent_ref()) is False
        assert (path / "current").readlink() == before

    def test_reading_and_retiring_create_nothing(self, path: Path) -> None:
        driver(path).snapshot()
        driver(path).retire(absent_ref())
        assert not path.exists()

    def test_only_so_many_generations_are_kept(self, path: Path) -> None:
        for number in range(6):
            stage(path, f"cert_{number}", keep_generations=2)
        assert {place.name for place in (path / "generations").iterdir()} == {"5", "6"}

    def test_a_change_links_what_changed_and_not_what_lies_there(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        everything = [(server_material(), owner(certificate_id=f"cert_{number}")) for number in range(40)]
        driver(path).stage_all(everything)
        for name in ("a", "b", "c"):
            stage(path, f"cert_{name}")
        linked: list[str] = []
        link = os.link

        def counted(source: str, target: str, **options: Any) -> None:
            linked.append(target)
            link(source, target, **options)

        monkeypatch.setattr(os, "link", counted)
        stage(path, "cert_d")
        assert len(linked) == 2 * 2  # what came since the generation in whose directory it was built: b and c
        assert kinds(path) == set()
        assert len(driver(path).snapshot().objects) == 44

    def test_an_old_generation_that_cannot_be_renamed_is_removed(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As one in a lower layer of an overlay: the directory came with a container's image."""
        for number in range(4):
            stage(path, f"cert_{number}")
        rename = os.rename

        def overlaid(source: Path, target: Path) -> None:
            if Path(source).name.isdecimal():
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            rename(source, target)

        monkeypatch.setattr(os, "rename", overlaid)
        assert stage(path, "cert_4").created
        assert {place.name for place in (path / "generations").iterdir()} == {"3", "4", "5"}
        assert len(driver(path).snapshot().objects) == 5
        assert kinds(path) == set()


class TestRetiring:
    def test_a_retired_key_is_gone_from_every_generation(self, path: Path) -> None:
        old = stage(path)
        for number in range(2):
            stage(path, f"cert_new_{number}", keep_generations=9)
        assert driver(path, keep_generations=9).retire(old.ref)
        assert len(list((path / "generations").iterdir())) == 4
        assert not {name for name in on_disk(path) if old.ref.name.label in name}
        assert old.ref.name.label not in "".join(found.read_text() for found in path.rglob("MANIFEST.json"))

    def test_the_other_objects_stay_in_the_older_generations(self, path: Path) -> None:
        old, kept = stage(path, "cert_old"), stage(path, "cert_kept")
        driver(path).retire(old.ref)
        found = {place.parent.name for place in path.rglob(f"{kept.ref.name.label}.key")}
        assert found == {"2", "3"}

    def test_an_older_generation_that_is_damaged_does_not_stop_it(self, path: Path) -> None:
        old = stage(path)
        stage(path, "cert_two")
        (path / "generations/1/MANIFEST.json").write_text("{")
        assert driver(path).retire(old.ref)
        assert not {name for name in on_disk(path) if old.ref.name.label in name}


class TestDamage:
    def test_an_altered_key_is_seen_and_put_right(self, path: Path) -> None:
        staged = stage(path)
        key = pair(path, staged)[1]
        key.write_text("altered")
        assert kinds(path) == {(AnomalyKind.ALTERED, key.name)}
        assert driver(path).snapshot().objects[0].fingerprint_sha256 is None
        assert stage(path).created
        assert kinds(path) == set()

    def test_a_missing_file_is_seen_outlives_other_changes_and_is_put_right(self, path: Path) -> None:
        staged = stage(path)
        pem = pair(path, staged)[0]
        pem.unlink()
        stage(path, "cert_two")
        assert kinds(path) == {(AnomalyKind.MISSING, pem.name)}
        assert driver(path).snapshot().find(staged.ref.name) is None
        assert stage(path).created
        assert kinds(path) == set()

    def test_a_key_opened_to_the_world_is_seen_and_closed_again(self, path: Path) -> None:
        staged = stage(path)
        pair(path, staged)[1].chmod(0o644)
        assert {kind for kind, _ in kinds(path)} == {AnomalyKind.ACCESS}
        assert stage(path).created
        assert mode(pair(path, staged)[1]) == 0o640

    def test_a_stranger_is_seen_and_not_carried_on(self, path: Path) -> None:
        stage(path)
        (path / "current" / "stranger").write_text("?")
        assert kinds(path) == {(AnomalyKind.UNEXPECTED, "stranger")}
        stage(path, "cert_two")
        assert kinds(path) == set()
        stage(path, "cert_three")
        assert not list(path.rglob("stranger"))

    def test_what_a_stranger_left_in_an_old_generation_goes_with_it(self, path: Path) -> None:
        stage(path, "cert_0")
        (path / "current" / "directory").mkdir()
        (path / "current" / "directory" / "stranger").write_text("?")
        for number in range(1, 5):
            stage(path, f"cert_{number}")
        assert not list(path.rglob("stranger"))
        assert kinds(path) == set()

    def test_an_older_generation_neither_hides_damage_nor_brings_it_back(self, path: Path) -> None:
        staged = stage(path)
        stage(path, "cert_two")
        key = pair(path, staged)[1]
        key.unlink()
        key.write_text("another file")
        key.chmod(0o640)
        for number in range(3):  # each built where a generation lay that has the whole key
            stage(path, f"cert_later_{number}")
            assert kinds(path) == {(AnomalyKind.ALTERED, key.name)}
        assert stage(path).created
        for number in range(3):  # and these where one lay that has the other
            stage(path, f"cert_last_{number}")
            assert kinds(path) == set()

    def test_damage_names_its_account_and_no_other_sees_it(self, path: Path) -> None:
        pair(path, stage(path))[1].unlink()
        snapshot = driver(path).snapshot()
        assert len(snapshot.of_account("acct_one").anomalies) == 1
        assert snapshot.of_account("acct_two").anomalies == ()

    def test_a_link_that_leads_nowhere_is_an_alarm_and_not_an_empty_directory(self, path: Path) -> None:
        stage(path)
        (path / "current").unlink()
        (path / "current").symlink_to("generations/9")
        with pytest.raises(Corrupt, match="generations/9"):
            driver(path).snapshot()
        with pytest.raises(Corrupt, match="generations/9"):
            stage(path, "cert_two")

    def test_without_the_link_the_newest_complete_generation_is_taken(self, path: Path) -> None:
        stage(path)
        (path / "current").unlink()
        assert not stage(path).created
        assert (path / "current").readlink() == Path("generations/1")

    @pytest.mark.parametrize("number", [1, 99])
    def test_a_copy_of_another_generation_stands_for_the_one_that_it_was_put_in_place_of(
        self, path: Path, number: int
    ) -> None:
        """Somebody restored a backup: neither its number nor its place makes it one that is not kept any longer."""
        staged = [stage(path, f"cert_{each}") for each in range(7)]
        shutil.copytree(path / "current", path / "copy")
        shutil.rmtree(path / "generations")
        (path / "generations").mkdir()
        (path / "copy").rename(path / "generations" / str(number))
        (path / "current").unlink()
        (path / "current").symlink_to(f"generations/{number}")
        assert stage(path, "cert_new").created
        assert len(driver(path).snapshot().objects) == len(staged) + 1
        assert (path / "current").readlink() == Path(f"generations/{number + 1}")

    @pytest.mark.parametrize("name", ["0", "03", "\N{ARABIC-INDIC DIGIT THREE}", ".building-7", "5", "6"])
    @pytest.mark.parametrize("kind", ["file", "directory", "link"])
    def test_nothing_is_in_the_way_because_of_what_it_is_called(self, path: Path, name: str, kind: str) -> None:
        elsewhere = path.parent / "elsewhere"
        elsewhere.mkdir(parents=True)
        (elsewhere / "precious").touch()
        for number in range(4):
            stage(path, f"cert_{number}")
        put_there(path / "generations" / name, kind, leads_to=elsewhere)
        for number in range(4, 8):
            assert stage(path, f"cert_{number}").created
        assert len(driver(path).snapshot().objects) == 8
        assert [found.name for found in elsewhere.iterdir()] == ["precious"]

    @pytest.mark.parametrize("number", [2, 3])
    def test_a_link_in_place_of_an_older_generation_is_not_built_in(self, path: Path, number: int) -> None:
        for each in range(4):
            stage(path, f"cert_{each}")
        shutil.rmtree(path / "generations" / str(number))
        (path / "generations" / str(number)).symlink_to("4")
        standing = {found.name for found in (path / "generations/4").iterdir()}
        stage(path, "cert_new")
        assert {found.name for found in (path / "generations/4").iterdir()} == standing
        assert kinds(path) == set()

    @pytest.mark.parametrize("kind", ["directory", "link"])
    def test_what_stands_in_a_files_place_keeps_no_other_object_out(self, path: Path, kind: str) -> None:
        key = pair(path, stage(path))[1]
        key.unlink()
        put_there(key, kind, leads_to=path / "lock")
        assert stage(path, "cert_two").created
        assert kinds(path) == {(AnomalyKind.MISSING, key.name)}
        assert stage(path).created
        assert kinds(path) == set()

    @pytest.mark.parametrize(
        "manifest",
        [
            "",
            "{}",
            "[]",
            '{"format": 2}',
            '{"format": 1, "generation": 1, "objects": {"x": {"files": 1}}}',
            '{"format": 1, "generation": 1e999, "objects": {}}',
            f'{{"format": 1, "generation": 1, "objects": {{\n"x": {"[" * 100_000}\n}}}}\n',
            manifest_of(name="x", mode="1e999"),
            manifest_of(name="\\u0000", mode="416"),
            manifest_of(name="\\ud800", mode="416"),
            manifest_of(name="MANIFEST.json", mode="416"),
        ],
        ids=str.__len__,
    )
    def test_a_damaged_manifest_is_an_alarm(self, path: Path, manifest: str) -> None:
        stage(path)
        (path / "current" / "MANIFEST.json").write_text(manifest)
        with pytest.raises(Corrupt, match=r"MANIFEST\.json"):
            driver(path).snapshot()

    def test_a_manifest_that_somebody_laid_out_anew_is_read(self, path: Path) -> None:
        staged = stage(path)
        manifest = path / "current" / "MANIFEST.json"
        manifest.write_text(json.dumps(json.loads(manifest.read_text()), indent=4))
        assert driver(path).snapshot().find(staged.ref.name) is not None
        assert stage(path, "cert_two").created
        assert len(manifest.read_text().splitlines()) == 4

    def test_a_manifest_cannot_name_files_elsewhere(self, path: Path) -> None:
        stage(path)
        manifest = path / "current" / "MANIFEST.json"
        manifest.write_text(manifest.read_text().replace(".key", "/../../../outside"))
        with pytest.raises(Corrupt, match="outside its directory"):
            stage(path)

    def test_what_a_sick_disk_alters_before_the_swap_is_an_alarm(self, path: Path) -> None:
        [row] = rounds("tamper", path)
        assert row["altered"]
        assert row["error"] == {"kind": "Corrupt", "may_have_happened": True}


class TestRefusals:
    def test_material_that_contradicts_itself_is_refused(self, path: Path) -> None:
        good = server_material()
        for bad in (
            dataclasses.replace(good, private_key_pem=None),
            dataclasses.replace(ca_material(), private_key_pem=good.private_key_pem),
            dataclasses.replace(good, fingerprint_sha256="0" * 64),
            dataclasses.replace(good, certificate_pem="-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"),
        ):
            with pytest.raises(InvalidMaterial):
                stage(path, material=bad)
        assert not path.exists()

    def test_a_file_in_place_of_the_directory_is_permanent(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        for place in (tmp_path / "file", tmp_path / "file" / "below"):
            with pytest.raises(Unsupported, match=str(tmp_path / "file")):
                stage(place)
            with pytest.raises(Unsupported, match=str(tmp_path / "file")):
                driver(place).snapshot()

    def test_a_directory_in_place_of_the_link_is_permanent(self, path: Path) -> None:
        (path / "current").mkdir(parents=True)
        with pytest.raises(Unsupported, match="current"):
            stage(path)

    def test_a_directory_without_rights_is_permanent_and_says_whose(self, tmp_path: Path) -> None:
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o000)
        with unprivileged(), pytest.raises(Unsupported, match=r"permission denied; give the worker's user"):
            stage(closed / "region")

    def test_a_disk_that_fills_up_is_retried_and_nothing_is_left_behind(self, path: Path) -> None:
        stage(path)
        with largest_file(64), pytest.raises(Busy, match="no room"):
            stage(path, "cert_two")
        assert {place.name for place in (path / "generations").iterdir()} == {"1"}
        assert stage(path, "cert_two").created

    def test_a_writer_that_waits_too_long_is_busy(self, path: Path) -> None:
        stage(path)
        with exclusive_lock(path / "lock", timeout=timedelta(0)), pytest.raises(Busy):
            stage(path, "cert_two", lock_timeout=timedelta(milliseconds=10))

    def test_a_writer_without_the_lock_is_noticed_before_the_swap(self, path: Path) -> None:
        stage(path)
        stage(path, "cert_two")
        place = Generations(root=path, keep=3, lock_timeout=timedelta(seconds=5))
        record = Record(
            account_id="acct_one", fingerprint_sha256="", files={"x": FileFacts(sha256=sha256(b"x"), mode=0o644)}
        )
        with writing(place) as publisher:
            (path / "current").unlink()
            (path / "current").symlink_to("generations/1")
            with pytest.raises(Replan):
                publisher.put({"x": record}, content={"x": b"x"})
        assert (path / "current").readlink() == Path("generations/1")

    def test_a_group_that_cannot_reach_the_directory_is_told(self, path: Path) -> None:
        own = os.getegid()
        stage(path, group_id=own)
        path.parent.chmod(0o700)
        found = driver(path, group_id=own).snapshot().anomalies
        assert str(path.parent) in {one.subject for one in found if one.kind is AnomalyKind.ACCESS}
        path.parent.chmod(0o711)
        found = driver(path, group_id=own).snapshot().anomalies
        assert str(path.parent) not in {one.subject for one in found}


class TestSettings:
    def test_a_relative_path_is_relative_to_the_working_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert parse_settings({"path": "var/x"}).path == tmp_path / "var" / "x"

    def test_all_settings_are_read(self) -> None:
        settings = parse_settings({"path": "/srv", "group": 7, "keep_generations": 5, "lock_timeout": 0.5})
        assert settings == DirectorySettings(
            path=Path("/srv"), group_id=7, keep_generations=5, lock_timeout=timedelta(seconds=0.5)
        )

    def test_every_problem_is_listed(self) -> None:
        with pytest.raises(Misconfigured) as refused:
            parse_settings({"path": "", "group": "no such group", "keep_generations": 1, "lock_timeout": "1", "x": 1})
        assert [problem.split()[0] for problem in refused.value.problems] == [
            "group",
            "keep_generations",
            "lock_timeout",
            "path",
            "unknown",
        ]


@cache
def server_materials() -> list[Material]:
    return [server_material(serial=serial) for serial in range(1, 9)]


class TestUnderFire:
    def test_a_kill_at_any_point_leaves_a_whole_generation_and_the_repeated_call_cleans_up(self, path: Path) -> None:
        rows = rounds("kill", path)
        killed = [row for row in rows if row.get("is_stopped")]
        assert len({(row["verb"], row["point"]) for row in killed}) >= 40
        assert {len(row["changed"]) for row in killed} == {0, 1}
        assert_consistent(rows)

    def test_an_error_at_any_point_is_translated_and_says_truly_whether_anything_changed(self, path: Path) -> None:
        rows = rounds("fail", path)
        failed = [row for row in rows if row.get("error")]
        assert {row["error"]["kind"] for row in failed} == {"Unreachable", "OutcomeUnknown"}
        assert [row for row in failed if row["changed"] and not row["error"]["may_have_happened"]] == []
        assert [row for row in rows if row.get("is_stopped") and not row["error"] and not row["changed"]] == []
        assert_consistent(rows)

    def test_who_is_still_in_a_generation_that_is_built_over_reads_nothing_half(self, path: Path) -> None:
        rows = rounds("read", path)
        assert sum(row["count"] for row in rows) > len(rows) > 20
        assert [row for row in rows if row["halves"]] == []

    def test_of_many_processes_at_once_none_loses_an_object(self, path: Path) -> None:
        [row] = rounds("race", path)
        assert row["exit_codes"] == [0] * 8
        assert len(row["objects"]) == 24
        assert_consistent([row])

    def test_a_process_killed_from_outside_frees_the_lock(self, path: Path) -> None:
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD_THE_LOCK, str(path)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(Busy):
                stage(path, lock_timeout=timedelta(0))
            holder.send_signal(signal.SIGKILL)
        assert stage(path).created

    def test_a_reader_through_one_descriptor_never_meets_half_a_pair(self, path: Path) -> None:
        whole = {(one.certificate_pem, one.private_key_pem) for one in server_materials()}
        stage(path, "cert_0", material=server_materials()[0])
        met: list[tuple[str, str | None]] = []
        writer = threading.Thread(target=churn, args=(path,), kwargs={"seen": lambda: len(set(met))})
        writer.start()
        while writer.is_alive():
            met += pairs_through_one_descriptor(path)
        writer.join()
        assert len(set(met)) > 1
        assert set(met) <= whole

    def test_snapshots_taken_while_writers_work_show_no_anomaly(self, path: Path) -> None:
        stage(path)
        taken = [driver(path).snapshot()]
        versions = {"seen": lambda: len({snapshot.version for snapshot in taken})}
        writer = threading.Thread(target=churn, args=(path,), kwargs=versions)
        writer.start()
        while writer.is_alive():
            taken.append(driver(path).snapshot())
        writer.join()
        assert len({snapshot.version for snapshot in taken}) > 1
        assert [snapshot.anomalies for snapshot in taken if snapshot.anomalies] == []


HOLD_THE_LOCK = """
import sys
from datetime import timedelta
from pathlib import Path
from services.worker.drivers.generations import Generations
from services.worker.drivers.publishing import writing
with writing(Generations(root=Path(sys.argv[1]), keep=3, lock_timeout=timedelta(0))):
    print("held", flush=True)
    sys.stdin.read()
"""


def churn(path: Path, *, seen: Callable[[], int]) -> None:
    """Stage and retire, keeping one old generation, so that readers lose theirs now and then.

    At least eight rounds, and on a busy machine until a reader has ``seen`` two states.
    """
    writer = driver(path, keep_generations=2)
    for done in range(400):
        if done >= 8 and seen() > 1:
            return
        staged = [
            writer.stage(material, owner=owner(certificate_id=f"cert_{number}"))
            for number, material in enumerate(server_materials())
        ]
        for one in staged[1:]:
            writer.retire(one.ref)


def pairs_through_one_descriptor(path: Path) -> list[tuple[str, str | None]]:
    directory = os.open(path / "current", os.O_RDONLY | os.O_DIRECTORY)
    try:
        with os.scandir(directory) as entries:
            keys = [entry.name for entry in entries if entry.name.endswith(".key")]
        return [(read(directory, name.replace(".key", ".pem")), read(directory, name)) for name in keys]
    except FileNotFoundError:  # collected or retired under us: a balancer opens ``current`` again
        return []
    finally:
        os.close(directory)


def read(directory: int, name: str) -> str:
    with os.fdopen(os.open(name, os.O_RDONLY, dir_fd=directory)) as file:
        return file.read()


def rounds(kind: str, path: Path) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "tests.support.drivers.directory_rounds", kind, str(path)]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert answer.returncode == 0, answer.stderr
    return [json.loads(line) for line in answer.stdout.splitlines()]


def assert_consistent(rows: list[dict[str, Any]]) -> None:
    faults = ("anomalies", "leftovers", "stray_keys", "faulty_generations")
    assert [row for row in rows if any(row.get(fault) for fault in faults)] == []
