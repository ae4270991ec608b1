"""What a release consists of, and that its parts fit together."""

import importlib.util
import shutil
import tarfile
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from tests.deploy.charts import CHART, REPOSITORY, example, texts


def script(name: str) -> ModuleType:
    """Return a script of .ci/ as a module."""
    loader = SourceFileLoader(name, str(REPOSITORY / ".ci" / name))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_every_file_names_the_same_version() -> None:
    assert len(script("version").versions()) == 1


def test_every_file_names_the_projects_address_as_the_package_does() -> None:
    assert [path.name for path, _ in script("address").outdated()] == [], "run make docs"


def test_a_new_version_is_written_everywhere_and_takes_the_changes_into_the_changelog(tmp_path: Path) -> None:
    version = script("version")
    for place in (*version.PLACES, "CHANGELOG.md"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / place, tmp_path / place)
    (tmp_path / "changelog.d").mkdir()
    for name, text in {
        "README.md": "How it is done.",
        "b.fixed.md": "It no longer\nforgets.",
        "a.added.md": "It remembers.",
        "c.added.md": "It counts.",
    }.items():
        (tmp_path / "changelog.d" / name).write_text(text, encoding="utf-8")

    version.rename(tmp_path, "9.8.7", "6.5.4")
    version.collect(tmp_path, "9.8.7", "2030-01-31")
    (tmp_path / "changelog.d" / "d.removed.md").write_text("It is gone.", encoding="utf-8")
    version.collect(tmp_path, "9.9.0", "2030-02-28")

    assert version.versions(tmp_path) == {"9.8.7"}
    assert yaml.safe_load((tmp_path / version.CHART).read_text(encoding="utf-8"))["version"] == "6.5.4"
    assert [path.name for path in (tmp_path / "changelog.d").iterdir()] == ["README.md"]
    assert (tmp_path / "CHANGELOG.md").read_text(encoding="utf-8").partition("\n## ")[2] == (
        "9.9.0 - 2030-02-28\n\n### Removed\n\n- It is gone.\n\n"
        "## 9.8.7 - 2030-01-31\n\n### Added\n\n- It remembers.\n- It counts.\n\n### Fixed\n\n- It no longer forgets.\n"
    )


def test_a_change_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "changelog.d").mkdir()
    (tmp_path / "changelog.d" / "a.improved.md").write_text("It is better.", encoding="utf-8")

    with pytest.raises(SystemExit, match="improved is none of added, changed, fixed, removed"):
        script("version").collect(tmp_path, "1.0.0", "2030-01-01")


def test_every_change_is_of_a_known_kind() -> None:
    kinds = {path.name.split(".")[1] for path in (REPOSITORY / "changelog.d").glob("*.*.md")}

    assert kinds <= set(script("version").KINDS)


def test_a_packaged_chart_is_the_same_each_time_and_renders_as_its_folder_does(tmp_path: Path) -> None:
    packaged = script("chart").packaged
    (tmp_path / "touched").mkdir()
    copy = Path(shutil.copytree(CHART, tmp_path / "touched" / CHART.name))
    for path in copy.rglob("*"):
        path.touch()
    (copy / "values.yaml~").write_text("left by an editor", encoding="utf-8")
    archive = tmp_path / "chart.tgz"

    archive.write_bytes(packaged(CHART, 1_700_000_000))

    assert packaged(copy, 1_700_000_000) == archive.read_bytes()
    with tarfile.open(archive) as opened:
        assert "vendor-alert-exporter/values.yaml" in opened.getnames()
    assert texts(example("vendors"), archive) == texts(example("vendors"))


def test_the_bill_of_an_image_has_the_packages_of_its_base(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text('NAME="Debian"\nID=debian\nVERSION_ID="13"\n', encoding="utf-8")
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/status").write_text(
        "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:2.41-1+b1\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n",
        encoding="utf-8",
    )

    (found,) = script("bill").debian_components(tmp_path)

    assert found["purl"] == "pkg:deb/debian/libc6@1%3A2.41-1%2Bb1?arch=amd64&distro=debian-13"
