"""Backup and restore of a home that no process uses; with the real stack under load: tests/e2e."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Settings
from pipeline.engine.store import ModelRow, Store, now
from pipeline.errors import BackupError, FormatTooNew, StackError, StorageError
from pipeline.stack import places, up
from pipeline.stack.backup import back_up
from pipeline.stack.places import check_whole
from pipeline.stack.restore import RestoreResult, restore
from pipeline.stack.secret_files import PASSPHRASE
from pipeline.stack.snapshot import BackupFolder, StoredFile
from pipeline.stack.state import StackState, ensure_secrets, load_state, save_state
from pipeline.storage import Storage
from tests.fakes.gcs import FakeGcs, running_gcs
from tests.fakes.stack import stack_status
from tests.unit.pipeline.stack.test_databases import make_database

KILLED = 9
EVENTS = ("open", "os.rename", "os.mkdir", "os.remove", "os.link", "os.rmdir", "shutil.copyfile")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("GRAFT_")]:
        monkeypatch.delenv(name)
    return use(tmp_path / "home", monkeypatch)


def use(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRAFT_HOME", str(home))
    return home


def fill(home: Path, text: str) -> None:
    """Make a small state whose every part says `text`."""
    store = Store(home / "engine" / "engine.db")
    with store.begin() as session:
        session.query(ModelRow).delete()
        session.add(ModelRow(name=text, body={}, default_version=None, create_time=now()))
    store.close()
    if not (home / "airflow" / "airflow.db").exists():
        make_database(home / "airflow" / "airflow.db")
    for path in ("buckets/graft/models/m/v1/saved_model.pb", "buckets/graft/datasets/d/latest.json"):
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(text)
    (home / "buckets" / "graft" / "blobs").mkdir(exist_ok=True)
    (home / "buckets" / "graft" / "blobs" / "same").write_text("the same")
    (home / "classifiers").mkdir(exist_ok=True)
    (home / "classifiers" / "mine.yaml").write_text(text)
    ensure_secrets(home)


def state(home: Path) -> dict[str, Any]:
    """Return what a restore must bring back."""
    with closing(sqlite3.connect(home / "engine" / "engine.db")) as database:
        models = database.execute("SELECT name FROM models").fetchall()
    with closing(sqlite3.connect(home / "airflow" / "airflow.db")) as database:
        numbers = database.execute("SELECT count(*) FROM numbers").fetchall()
    files = {
        path.relative_to(home).as_posix(): path.read_text()
        for folder in ("buckets", "classifiers")
        for path in (home / folder).rglob("*")
        if path.is_file()
    }
    return {"models": models, "numbers": numbers, **files}


def secrets(home: Path) -> dict[str, str]:
    value: dict[str, str] = json.loads((home / "secrets.json").read_text())
    return value


class TestRoundTrip:
    def test_an_empty_machine_gets_everything_but_the_secrets(
        self, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fill(home, "one")
        monkeypatch.setenv("GRAFT_USERS", "ann:viewer")
        monkeypatch.setenv("GRAFT_ML_ENGINE_TOKEN", "hush")
        made = back_up(Settings(), str(tmp_path / "backup"))
        before = state(home)
        new = use(tmp_path / "new", monkeypatch)
        result = restore(Settings(), str(tmp_path / "backup"))
        assert state(new) == before
        assert not (new / "secrets.json").exists()
        assert (result.snapshot, result.previous) == (made.snapshot, ())
        assert result.settings == {"GRAFT_USERS": "ann:viewer"}
        assert stat.S_IMODE(new.stat().st_mode) == 0o700
        text = "".join(path.read_text(errors="replace") for path in (tmp_path / "backup").rglob("*.json"))
        assert "hush" not in text

    def test_a_home_with_state_keeps_its_ports_and_secrets_and_the_old_state_beside_it(
        self, home: Path, tmp_path: Path
    ) -> None:
        fill(home, "one")
        back_up(Settings(), str(tmp_path / "backup"))
        fill(home, "two")
        save_state(home, StackState(engine_port=1234, airflow_port=1235))
        before, own = state(home), secrets(home)
        (former,) = restore(Settings(), str(tmp_path / "backup")).previous
        assert state(home)["models"] == [("one",)]
        assert state(Path(former)) == before
        assert secrets(home) == own
        assert (load_state(home).engine_port, load_state(home).airflow_port) == (1234, 1235)

    def test_only_what_is_new_is_read_and_stored(self, home: Path, tmp_path: Path) -> None:
        fill(home, "one")
        target = tmp_path / "backup"
        first = back_up(Settings(), str(target))
        stored = sorted((target / "objects").iterdir())
        (home / "buckets" / "graft" / "blobs" / "new").write_text("new")
        second = back_up(Settings(), str(target))
        assert second.files == first.files + 1
        assert second.files_read == 4  # two databases, a classifier, and the new object
        assert len(sorted((target / "objects").iterdir())) == len(stored) + 1
        restore(Settings(), str(target), name=first.snapshot)
        assert not (home / "buckets" / "graft" / "blobs" / "new").exists()

    def test_logs_of_tasks_are_no_part_of_it(self, home: Path, tmp_path: Path) -> None:
        fill(home, "one")
        before = back_up(Settings(), str(tmp_path / "before")).files
        for name in ("airflow/logs/dag_id=a/attempt=1.log/1-host.log", "airflow/other"):
            path = home / "buckets" / "graft" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        assert back_up(Settings(), str(tmp_path / "after")).files == before + 1

    def test_a_bucket_that_is_mapped_elsewhere_is_restored_there(
        self, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GRAFT_BUCKETS", f"graft={tmp_path / 'elsewhere'}")
        fill(home, "one")
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "object").write_text("one")
        back_up(Settings(), str(tmp_path / "backup"))
        (tmp_path / "elsewhere" / "object").write_text("two")
        restore(Settings(), str(tmp_path / "backup"))
        assert (tmp_path / "elsewhere" / "object").read_text() == "one"

    def test_a_mapped_bucket_can_be_the_target(
        self, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GRAFT_BUCKETS", f"safe={tmp_path / 'safe'}")
        fill(home, "one")
        back_up(Settings(), "gs://safe/graft", with_secrets=True)
        own = secrets(home)
        new = use(tmp_path / "new", monkeypatch)
        restore(Settings(), "gs://safe/graft")
        assert secrets(new) == own

    def test_the_bucket_can_be_left_out(self, home: Path, tmp_path: Path) -> None:
        fill(home, "one")
        assert back_up(Settings(), str(tmp_path / "backup"), with_bucket=False).files == 3


@pytest.fixture
def cloud(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGcs]:
    """A bucket of Google Cloud Storage as the workspace, with two objects that say `one`."""
    with running_gcs() as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://{server.host}")
        monkeypatch.setenv("GRAFT_BUCKET", "prod")
        for key in ("models/a", "models/b"):
            server.put("prod", key, f"one {key}".encode(), generation=None)
        yield server


def objects(cloud: FakeGcs) -> dict[tuple[str, str], bytes]:
    return {name: stored.data for name, stored in cloud.objects.items()}


class TestCloud:
    """The workspace is a bucket of Google Cloud Storage, which cannot be exchanged."""

    def test_objects_that_differ_are_written_again(self, home: Path, tmp_path: Path, cloud: FakeGcs) -> None:
        fill(home, "one")
        back_up(Settings(), str(tmp_path / "backup"))
        before, generation = objects(cloud), cloud.objects["prod", "models/a"].generation
        cloud.put("prod", "models/b", b"two", generation=None)
        restore(Settings(), str(tmp_path / "backup"))
        assert objects(cloud) == before
        assert cloud.objects["prod", "models/a"].generation == generation

    def test_damaged_content_is_never_uploaded(self, home: Path, tmp_path: Path, cloud: FakeGcs) -> None:
        fill(home, "one")
        back_up(Settings(), str(tmp_path / "backup"))
        (tmp_path / "backup" / "objects" / hashlib.sha256(b"one models/b").hexdigest()).write_bytes(b"other")
        for key in ("models/a", "models/b"):
            cloud.put("prod", key, b"two", generation=None)
        before, state_before = objects(cloud), state(home)
        with pytest.raises(BackupError, match="is damaged: .*/objects/"):
            restore(Settings(), str(tmp_path / "backup"))
        assert objects(cloud) == before
        assert state(home) == state_before

    def test_content_that_is_damaged_after_the_check_is_not_uploaded(
        self, tmp_path: Path, cloud: FakeGcs
    ) -> None:
        folder = BackupFolder(Storage.from_environment(), str(tmp_path / "backup"))
        (tmp_path / "file").write_bytes(b"one")
        file = folder.add(tmp_path / "file")
        (tmp_path / "backup" / "objects" / file.sha256).write_bytes(b"two")
        before = objects(cloud)
        with pytest.raises(BackupError, match="is not what was stored"):
            folder.copy(file, "gs://prod/models/a")
        assert objects(cloud) == before

    def test_nothing_is_uploaded_before_the_secrets_are_read_and_the_stack_is_down(
        self, home: Path, tmp_path: Path, cloud: FakeGcs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fill(home, "one")
        monkeypatch.setenv(PASSPHRASE, "correct horse")
        back_up(Settings(), str(tmp_path / "backup"), with_secrets=True)
        cloud.put("prod", "models/b", b"two", generation=None)
        before = objects(cloud)
        monkeypatch.setenv(PASSPHRASE, "wrong")
        with pytest.raises(BackupError, match="is not the passphrase"):
            restore(Settings(), str(tmp_path / "backup"))
        assert objects(cloud) == before
        monkeypatch.setenv(PASSPHRASE, "correct horse")
        at_down = []
        monkeypatch.setattr("pipeline.stack.restore.status", lambda _: stack_status())
        monkeypatch.setattr("pipeline.stack.restore.down", lambda *_: at_down.append(objects(cloud)))
        monkeypatch.setattr("pipeline.stack.restore.up", lambda *_: None)
        restore(Settings(), str(tmp_path / "backup"))
        assert at_down == [before]
        assert objects(cloud) != before

    @pytest.mark.parametrize("is_local", [False, True])
    def test_a_backup_of_another_bucket_is_refused_with_the_remedy(
        self, home: Path, tmp_path: Path, cloud: FakeGcs, monkeypatch: pytest.MonkeyPatch, *, is_local: bool
    ) -> None:
        fill(home, "one")
        back_up(Settings(), str(tmp_path / "backup"))
        cloud.put("prod", "models/b", b"newer", generation=None)
        before, new = objects(cloud), use(tmp_path / "new", monkeypatch)
        monkeypatch.setenv("GRAFT_BUCKET", "test")
        if is_local:
            monkeypatch.setenv("GRAFT_BUCKETS", f"test={tmp_path / 'test'}")
        with pytest.raises(BackupError, match=r"of the bucket prod, .* is test\. Set GRAFT_BUCKET=prod"):
            restore(Settings(), str(tmp_path / "backup"))
        assert objects(cloud) == before
        assert not new.exists()
        monkeypatch.setenv("GRAFT_BUCKET", "prod")
        monkeypatch.setenv("GRAFT_BUCKETS", f"prod={tmp_path / 'prod'}")
        restore(Settings(), str(tmp_path / "backup"))
        assert (tmp_path / "prod" / "models" / "b").read_text() == "one models/b"
        assert objects(cloud) == before


class TestSecrets:
    def test_they_are_in_a_file_that_only_the_owner_reads(
        self, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fill(home, "one")
        made = back_up(Settings(), str(tmp_path / "backup"), with_secrets=True)
        file = tmp_path / "backup" / "secrets" / made.snapshot
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        own = secrets(home)
        new = use(tmp_path / "new", monkeypatch)
        restore(Settings(), str(tmp_path / "backup"))
        assert secrets(new) == own
        assert stat.S_IMODE((new / "secrets.json").stat().st_mode) == 0o600

    def test_a_passphrase_encrypts_them_and_is_needed_again(
        self, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fill(home, "one")
        monkeypatch.setenv(PASSPHRASE, "correct horse")
        made = back_up(Settings(), str(tmp_path / "backup"), with_secrets=True)
        own = secrets(home)
        data = (tmp_path / "backup" / "secrets" / made.snapshot).read_bytes()
        assert own["engine_token"].encode() not in data
        new = use(tmp_path / "new", monkeypatch)
        for wrong, match in (("", f"set {PASSPHRASE}"), ("wrong", "is not the passphrase")):
            monkeypatch.setenv(PASSPHRASE, wrong)
            with pytest.raises(BackupError, match=match):
                restore(Settings(), str(tmp_path / "backup"))
            assert not new.exists()
        monkeypatch.setenv(PASSPHRASE, "correct horse")
        restore(Settings(), str(tmp_path / "backup"))
        assert secrets(new) == own


class TestRefusals:
    def test_a_backup_within_what_is_backed_up_is_refused(self, home: Path) -> None:
        fill(home, "one")
        for target in (home, home / "buckets" / "graft" / "b", home.parent, "gs://graft/backup"):
            with pytest.raises(BackupError, match="Choose another place"):
                back_up(Settings(), str(target))

    @pytest.mark.parametrize(("name", "remedy"), [("engine", "engine rebuild"), ("airflow", "graft restore")])
    def test_a_damaged_database_is_not_backed_up(
        self, home: Path, tmp_path: Path, name: str, remedy: str
    ) -> None:
        fill(home, "one")
        path = home / name / f"{name}.db"
        path.write_bytes(bytes(path.stat().st_size))
        with pytest.raises(BackupError, match=rf"{name}.db is damaged .*{remedy}"):
            back_up(Settings(), str(tmp_path / "backup"))
        assert BackupFolder(Storage.from_environment(), str(tmp_path / "backup")).find_latest() is None

    @pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"other")])
    def test_a_damaged_backup_is_named_and_changes_nothing(
        self, home: Path, tmp_path: Path, damage: Callable[[Path], Any]
    ) -> None:
        fill(home, "one")
        back_up(Settings(), str(tmp_path / "backup"))
        damage(tmp_path / "backup" / "objects" / hashlib.sha256(b"the same").hexdigest())
        fill(home, "two")
        before = state(home)
        with pytest.raises(BackupError, match="is damaged: .*/objects/"):
            restore(Settings(), str(tmp_path / "backup"))
        assert state(home) == before

    def test_no_backup_and_an_unknown_snapshot_are_named(self, home: Path, tmp_path: Path) -> None:
        with pytest.raises(BackupError, match="There is no backup in"):
            restore(Settings(), str(tmp_path / "backup"))
        with pytest.raises(BackupError, match="There is no snapshot x in"):
            restore(Settings(), str(tmp_path / "backup"), name="x")
        with pytest.raises(BackupError, match="nothing to back up"):
            back_up(Settings(), str(tmp_path / "backup"))

    def test_a_backup_of_a_newer_format_is_refused_by_name(self, home: Path, tmp_path: Path) -> None:
        fill(home, "one")
        made = back_up(Settings(), str(tmp_path / "backup"))
        manifest = tmp_path / "backup" / "snapshots" / f"{made.snapshot}.json"
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": 2}))
        with pytest.raises(FormatTooNew, match=r"Snapshot has the format 2.*reads up to 1"):
            restore(Settings(), str(tmp_path / "backup"))


def edit_manifest(backup: Path, **fields: Any) -> None:
    """Change the manifest of the only snapshot, as somebody who can write to a backup may."""
    (manifest,) = (backup / "snapshots").iterdir()
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **fields}))


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


OUTSIDE = ["../planted", "a/../../planted", "/planted", "..", "", ".", "a//b", "a/", "./a", "a/../b", "a\0b"]


class TestForeignManifest:
    """A manifest is no more trusted than the file of a download."""

    def test_a_path_that_leads_out_is_refused_before_anything_is_written(
        self, home: Path, tmp_path: Path
    ) -> None:
        fill(home, "one")
        back_up(Settings(), str(tmp_path / "backup"))
        stored = {"sha256": hashlib.sha256(b"the same").hexdigest(), "size": 8}
        for part in ("home", "objects"):
            for name in (*OUTSIDE, str(tmp_path / "planted")):
                edit_manifest(tmp_path / "backup", **{"home": {}, "objects": {}, part: {name: stored}})
                before = tree(tmp_path)
                with pytest.raises(BackupError, match="expected a path below a directory"):
                    restore(Settings(), str(tmp_path / "backup"))
                assert tree(tmp_path) == before, (part, name)

    def test_what_is_no_digest_is_refused_with_the_manifest(self, home: Path, tmp_path: Path) -> None:
        fill(home, "one")
        back_up(Settings(), str(tmp_path / "backup"))
        for digest in ("../snapshots/x", "", "0" * 63, "0" * 65, "G" * 64, "A" * 64, "/etc/passwd"):
            edit_manifest(tmp_path / "backup", home={"a": {"sha256": digest, "size": 1}})
            before = tree(tmp_path)
            with pytest.raises(BackupError, match=r"(?s)snapshots/.*\.json is damaged: .*SHA-256 of 64 hex"):
                restore(Settings(), str(tmp_path / "backup"))
            assert tree(tmp_path) == before, digest

    def test_a_manifest_that_is_none_is_named(self, home: Path, tmp_path: Path) -> None:
        fill(home, "one")
        made = back_up(Settings(), str(tmp_path / "backup"))
        for text in ("[]", "{", "null", "{}", '{"format": 1, "name": 3}'):
            (tmp_path / "backup" / "snapshots" / f"{made.snapshot}.json").write_text(text)
            with pytest.raises(BackupError, match=r"(?s)snapshots/.*\.json is damaged: .*Name another"):
                restore(Settings(), str(tmp_path / "backup"))

    def test_a_snapshot_has_one_name_which_is_no_path(self, home: Path, tmp_path: Path) -> None:
        fill(home, "one")
        made = back_up(Settings(), str(tmp_path / "backup"), with_secrets=True)
        with pytest.raises(BackupError, match="a name has letters and digits only"):
            restore(Settings(), str(tmp_path / "backup"), name=f"../snapshots/{made.snapshot}")
        edit_manifest(tmp_path / "backup", name="../../secrets")
        with pytest.raises(BackupError, match="it is that of the snapshot"):
            restore(Settings(), str(tmp_path / "backup"))

    def test_no_link_in_the_way_is_followed(self, home: Path, tmp_path: Path) -> None:
        fill(home, "one")
        made = back_up(Settings(), str(tmp_path / "backup"))
        (tmp_path / "elsewhere").mkdir()
        staged = tmp_path / ".home.restoring"
        staged.mkdir()
        (staged / ".restore").write_text(made.snapshot)
        (staged / "classifiers").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(BackupError, match="leads out of .* by a link"):
            restore(Settings(), str(tmp_path / "backup"))
        (staged / "classifiers").unlink()
        staged.rename(tmp_path / "elsewhere" / "staged")
        staged.symlink_to(tmp_path / "elsewhere" / "staged")
        with pytest.raises(BackupError, match="is a link, or another user's"):
            restore(Settings(), str(tmp_path / "backup"))

    def test_a_file_where_a_directory_is_needed_is_an_error_of_the_backup(
        self, home: Path, tmp_path: Path
    ) -> None:
        fill(home, "one")
        back_up(Settings(), str(tmp_path / "backup"))
        stored = {"sha256": hashlib.sha256(b"the same").hexdigest(), "size": 8}
        edit_manifest(tmp_path / "backup", objects={"a": stored, "a/b": stored})
        before = state(home)
        with pytest.raises(BackupError, match="a/b failed: .* The state before stays"):
            restore(Settings(), str(tmp_path / "backup"))
        assert state(home) == before

    def test_objects_that_cannot_be_files_are_left_out_of_a_backup(
        self, home: Path, tmp_path: Path, cloud: FakeGcs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fill(home, "one")
        for key in ("models/", "models//a", "models/../../a"):
            cloud.put("prod", key, b"", generation=None)
        notes: list[str] = []
        back_up(Settings(), str(tmp_path / "backup"), notes.append)
        assert "left out gs://prod/models/../../a, which cannot be a file" in notes
        monkeypatch.setenv("GRAFT_BUCKETS", f"prod={tmp_path / 'prod'}")
        restore(Settings(), str(tmp_path / "backup"))
        assert sorted(path.name for path in (tmp_path / "prod" / "models").iterdir()) == ["a", "b"]


@pytest.fixture
def elsewhere(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bucket outside the home, so that a restore exchanges two directories."""
    monkeypatch.setenv("GRAFT_BUCKETS", f"graft={tmp_path / 'elsewhere'}")
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "elsewhere"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A stack that runs, as far as `restore` can tell; what was done to it."""
    calls: list[str] = []
    monkeypatch.setattr("pipeline.stack.restore.status", lambda _: stack_status())
    monkeypatch.setattr("pipeline.stack.restore.down", lambda *_: calls.append("down"))
    monkeypatch.setattr("pipeline.stack.restore.up", lambda *_: calls.append("up"))
    return calls


class TestHalfRestored:
    """Either all of a snapshot is in place or nothing, and nothing starts on what is neither."""

    def back_up(self, home: Path, bucket: Path, backup: Path) -> None:
        """Back up `one`, and go on to `two`."""
        for text in ("one", "two"):
            fill(home, text)
            (bucket / "object").write_text(text)
            if text == "one":
                back_up(Settings(), str(backup))

    @pytest.mark.parametrize("live", ["home", "home/buckets", "home/engine/a b", "elsewhere"])
    def test_a_mount_point_is_refused_before_anything_is_fetched(
        self, home: Path, tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, live: str
    ) -> None:
        self.back_up(home, elsewhere, tmp_path / "backup")
        place = str(tmp_path / live).replace(" ", r"\040")
        (tmp_path / "mounts").write_text(
            f"28 1 0:25 / / rw - ext4 a rw\n29 28 0:26 / {place} rw - xfs b rw\n"
        )
        monkeypatch.setattr("pipeline.stack.places.MOUNTS", tmp_path / "mounts")
        before = tree(tmp_path)
        with pytest.raises(BackupError, match=f"{live} is a mount point"):
            restore(Settings(), str(tmp_path / "backup"))
        assert tree(tmp_path) == before

    @pytest.mark.parametrize("stuck", ["home", "elsewhere"])
    def test_a_directory_that_cannot_be_exchanged_leaves_all_of_the_old_state(
        self,
        home: Path,
        tmp_path: Path,
        elsewhere: Path,
        started: list[str],
        monkeypatch: pytest.MonkeyPatch,
        stuck: str,
    ) -> None:
        self.back_up(home, elsewhere, tmp_path / "backup")
        old = state(home)
        with monkeypatch.context() as patch:
            patch.setattr("pipeline.stack.places._exchange", refusing(tmp_path / stuck))
            with pytest.raises(BackupError, match="cannot be replaced"):
                restore(Settings(), str(tmp_path / "backup"))
        assert (state(home), (elsewhere / "object").read_text()) == (old, "two")
        assert started == ["down", "up"]
        restore(Settings(), str(tmp_path / "backup"))
        assert (state(home)["models"], (elsewhere / "object").read_text()) == ([("one",)], "one")

    @pytest.mark.parametrize("number", range(1, 5))
    def test_nothing_starts_after_a_kill_between_two_exchanges(
        self, home: Path, tmp_path: Path, elsewhere: Path, number: int
    ) -> None:
        self.back_up(home, elsewhere, tmp_path / "backup")
        kill_in_exchange(number, lambda: restore(Settings(), str(tmp_path / "backup")))
        parts = {*(name for (name,) in state(home)["models"]), (elsewhere / "object").read_text()}
        assert (len(parts) == 2) == (number in (2, 3))
        if len(parts) == 2:
            for work in (lambda: up(Settings()), lambda: back_up(Settings(), str(tmp_path / "other"))):
                with pytest.raises(StackError, match=r"is half restored: .* Run `graft restore` again"):
                    work()
        restore(Settings(), str(tmp_path / "backup"))
        assert (state(home)["models"], (elsewhere / "object").read_text()) == ([("one",)], "one")
        check_whole(home)

    def test_an_upload_that_fails_starts_nothing_and_is_completed_by_the_next_restore(
        self,
        home: Path,
        tmp_path: Path,
        cloud: FakeGcs,
        started: list[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        fill(home, "one")
        back_up(Settings(), str(tmp_path / "backup"))
        wanted = objects(cloud)
        fill(home, "two")
        for key in ("models/a", "models/b"):
            cloud.put("prod", key, b"two", generation=None)
        old, copy = state(home), BackupFolder.copy

        def fail(folder: BackupFolder, file: StoredFile, uri: str) -> None:
            if uri.endswith("models/b"):
                raise StorageError("Writing failed")
            copy(folder, file, uri)

        with monkeypatch.context() as patch:
            patch.setattr(BackupFolder, "copy", fail)
            with pytest.raises(StorageError, match="Writing failed"):
                restore(Settings(), str(tmp_path / "backup"))
        assert (started, state(home)) == (["down"], old)
        with pytest.raises(StackError, match="is half restored"):
            up(Settings())
        restore(Settings(), str(tmp_path / "backup"))
        assert (started, objects(cloud), state(home)["models"]) == (
            ["down", "down", "up"],
            wanted,
            [("one",)],
        )
        check_whole(home)

    def test_a_home_behind_a_link_is_exchanged_where_it_is(
        self, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fill(home, "one")
        back_up(Settings(), str(tmp_path / "backup"))
        fill(home, "two")
        (tmp_path / "link").mkdir()
        link = tmp_path / "link" / "home"
        link.symlink_to(home)
        use(link, monkeypatch)
        (former,) = restore(Settings(), str(tmp_path / "backup")).previous
        assert link.is_symlink()
        assert Path(former).parent == home.parent
        assert state(home)["models"] == [("one",)]

    def test_a_bucket_that_is_no_part_of_the_backup_stays_also_after_a_kill(
        self, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GRAFT_BUCKETS", f"own={home / 'buckets' / 'own'}")
        fill(home, "one")
        (home / "buckets" / "own").mkdir()
        (home / "buckets" / "own" / "object").write_text("own")
        back_up(Settings(), str(tmp_path / "backup"))
        kill_in_exchange(2, lambda: restore(Settings(), str(tmp_path / "backup")))
        assert not (home / "buckets" / "own").exists()
        with pytest.raises(StackError, match="is half restored"):
            up(Settings())
        restore(Settings(), str(tmp_path / "backup"))
        assert (home / "buckets" / "own" / "object").read_text() == "own"


def refusing(stuck: Path) -> Callable[[Path, Path], None]:
    """Return an exchange of directories that one of them refuses, as a mount point does."""
    exchange = places._exchange

    def refuse(staged: Path, live: Path) -> None:
        if live == stuck:
            raise BackupError(f"{live} cannot be replaced: Device or resource busy.")
        exchange(staged, live)

    return refuse


def kill_in_exchange(number: int, work: Callable[[], object]) -> None:
    """Run work in a process that ends itself before (odd) or after (even) its n-th exchange."""
    exchange, count = places._exchange, 0

    def killing(staged: Path, live: Path) -> None:
        nonlocal count
        for step in (lambda: None, lambda: exchange(staged, live)):
            step()
            count += 1
            if count == number:
                os._exit(KILLED)

    pid = os.fork()
    if not pid:
        places._exchange = killing
        work()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == KILLED


def kill_at(event: int, work: Callable[[], object]) -> tuple[int, int]:
    """Run work in a process that ends itself without ado at its n-th change of a file.

    Returns:
        Its exit code, and how many such events it had.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        count = 0

        def watch(name: str, _arguments: object) -> None:
            nonlocal count
            if name in EVENTS:
                count += 1
                if count == event:
                    os._exit(KILLED)

        sys.addaudithook(watch)
        work()
        os.write(writer, str(count).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        count = int(pipe.read() or 0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), count


class TestKills:
    """Ten kills over the whole work: the state is the old or the new one, and the next try completes."""

    def test_a_killed_backup_leaves_the_old_or_the_new_snapshot(self, home: Path, tmp_path: Path) -> None:
        target = str(tmp_path / "backup")
        fill(home, "one")
        first = back_up(Settings(), target).snapshot
        fill(home, "two")
        _, events = kill_at(0, lambda: back_up(Settings(), str(tmp_path / "other")))
        folder = BackupFolder(Storage.from_environment(), target)
        for number in range(1, 11):
            code, _ = kill_at(events * number // 10, lambda: back_up(Settings(), target))
            assert code in (KILLED, 0)
            latest = folder.find_latest()
            assert latest is not None
            restored = self._restored(tmp_path / f"r{number}", target)
            assert restored["models"] == [("one",) if latest.name == first else ("two",)]
        back_up(Settings(), target)
        assert self._restored(tmp_path / "last", target) == state(home)

    def _restored(self, home: Path, target: str) -> dict[str, Any]:
        with pytest.MonkeyPatch.context() as patch:
            use(home, patch)
            restore(Settings(), target)
        return state(home)

    def test_a_killed_restore_leaves_the_old_or_the_new_state(
        self, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        target = str(tmp_path / "backup")
        fill(home, "one")
        back_up(Settings(), target)
        new = state(home)
        fill(home, "two")
        old = state(home)
        use(tmp_path / "count", monkeypatch)
        fill(tmp_path / "count", "x")
        _, events = kill_at(0, lambda: restore(Settings(), target))
        use(home, monkeypatch)
        results = []
        for number in range(1, 11):
            code, _ = kill_at(events * number // 10, lambda: restore(Settings(), target))
            assert code in (KILLED, 0)
            results.append(state(home))
        assert all(result in (old, new) for result in results)
        assert results[0] == old
        result: RestoreResult = restore(Settings(), target)
        assert state(home) == new
        kept = [path for path in tmp_path.glob("home.before-restore-*") if (path / "engine").exists()]
        assert any(state(path) == old for path in kept), result.previous
