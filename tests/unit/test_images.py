"""Parts of `make images` that need no buildah; tests/e2e/test_images.py runs the rest."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import debian_base
import image_contents
import images
import pytest
from buildah import Buildah, ImageError

REGISTRY = "https://registry.test/simple"


class TestContents:
    def test_tools_of_tests_are_found(self, tmp_path: Path) -> None:
        for name in ("pytest-9.0.0", "numpy-2.0.0", "types_PyYAML-6.0"):
            (tmp_path / image_contents.SITE_PACKAGES / f"{name}.dist-info").mkdir(parents=True)
        assert image_contents.check(tmp_path, "{}", []) == [
            "pytest, a tool of tests",
            "types-pyyaml, a tool of tests",
        ]

    def test_what_an_installer_was_told_is_found(self, tmp_path: Path) -> None:
        (tmp_path / "etc").mkdir()
        (tmp_path / "run" / "secrets").mkdir(parents=True)
        (tmp_path / "run" / "secrets" / "registry").touch()  # where the secret was mounted
        assert image_contents.check(tmp_path, "{}", [REGISTRY]) == []
        (tmp_path / "etc" / "pip.conf").write_text("[global]")
        assert image_contents.check(tmp_path, f'{{"history": "{REGISTRY}"}}', [REGISTRY]) == [
            "/etc/pip.conf, of an installer",
            "the address of a registry, in its configuration",
        ]


class TestRegistries:
    def test_registry_of_pip_is_that_of_uv(self) -> None:
        settings = images.read_pip_settings(
            f":env:.timeout='9'\nglobal.index-url='{REGISTRY}'\n"
            f"global.extra-index-url='\\n{REGISTRY}/a\\nfile:///opt/simple\\n{REGISTRY}/b'\n"
        )
        assert images.registry_settings(settings) == {
            "PIP_INDEX_URL": REGISTRY,
            "PIP_EXTRA_INDEX_URL": f"{REGISTRY}/a {REGISTRY}/b",
            "UV_DEFAULT_INDEX": REGISTRY,
            "UV_INDEX": f"{REGISTRY}/a {REGISTRY}/b",
        }

    def test_a_directory_of_this_machine_is_no_registry_of_the_image(self) -> None:
        assert images.registry_settings({"PIP_INDEX_URL": "file:///opt/simple", "UV_INDEX": ""}) == {}

    def test_uv_keeps_what_it_was_told(self) -> None:
        settings = {"PIP_INDEX_URL": REGISTRY, "UV_DEFAULT_INDEX": f"{REGISTRY}/uv"}
        assert images.registry_settings(settings) == settings


class TestBase:
    def test_the_rest_of_the_dockerfile_begins_at_one_place(self) -> None:
        assert images.dockerfile().count(images.FIRST_STAGE) == 1
        assert images.pinned_base().startswith("python:3.11-slim@sha256:")

    def test_no_stage_is_nothing_but_the_image_of_another(self) -> None:
        stages = re.split(r"^FROM ", images.later_stages(), flags=re.M)[1:]
        names = [stage.splitlines()[0] for stage in stages]
        common = images.COMMON
        assert names == [f"{common} AS engine", f"{common} AS airflow", "airflow AS team"]
        assert all(len(stage.splitlines()) > 3 for stage in stages)

    @pytest.mark.parametrize("is_named", [True, False])
    def test_base_names_neither_a_mirror_nor_a_name_server_of_this_machine(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_named: bool
    ) -> None:
        mirror = "http://mirror.test/debian"
        calls: list[tuple[str, ...]] = []

        def call(*words: str) -> None:
            if words[0] == "debootstrap":
                for name in ("etc/dpkg/dpkg.cfg.d", "etc/apt", "tmp", "usr/local/bin", "var/log"):
                    (tmp_path / name).mkdir(parents=True)
                assert words[5:] == ((mirror,) if is_named else ())
                (tmp_path / debian_base.SOURCES).write_text(f"deb {mirror} bookworm main\n")
                (tmp_path / "etc" / "resolv.conf").write_text("nameserver 10.0.0.1")
                (tmp_path / "etc" / "hostname").write_text("builder")
                (tmp_path / "var" / "log" / "bootstrap.log").write_text("mirror.test")
            else:
                assert "mirror.test/debian-security" in (tmp_path / "etc/apt/sources.list").read_text()
            calls.append(words)

        monkeypatch.setattr(debian_base, "call", call)
        monkeypatch.setenv("DEBIAN_MIRROR", mirror if is_named else "")
        debian_base.bootstrap(tmp_path)
        assert [words[0] for words in calls] == ["debootstrap", *["env"] * (len(calls) - 1)]
        files = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]
        kept = "".join(path.read_text() for path in files)
        assert "mirror.test" not in kept
        assert "nameserver" not in kept
        assert "builder" not in kept
        assert not (tmp_path / debian_base.SETTINGS).exists()

    def test_a_program_that_fails_is_named_with_its_last_words(self) -> None:
        with pytest.raises(ImageError, match=r"`sh -c echo no mirror; exit 3` ended with exit code 3:\nno"):
            debian_base.call("sh", "-c", "echo no mirror; exit 3")


class TestDriver:
    @pytest.mark.parametrize(("code", "driver"), [(0, "overlay"), (1, "vfs")])
    def test_layers_are_whole_copies_where_they_cannot_be_shared(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, driver: str
    ) -> None:
        monkeypatch.delenv("STORAGE_DRIVER", raising=False)
        answer = subprocess.CompletedProcess((), code)
        monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)
        assert Buildah(tmp_path).driver == driver

    def test_a_storage_keeps_its_driver(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("STORAGE_DRIVER", raising=False)
        (tmp_path / "root" / "vfs-images").mkdir(parents=True)
        assert Buildah(tmp_path).driver == "vfs"
