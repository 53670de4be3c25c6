"""Files go where the repository's templates say, and are called as ever by everybody who reads them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from tests.integration.command_line import pantry
from tests.integration.observatory import INSTRUMENT, furnish
from tests.integration.test_import import EXPORT
from tests.servers.mounting import PantryMount
from tests.servers.pantryd import PantryDaemon
from tests.servers.seaweedfs import SeaweedServer
from tests.unit.fusefs.mounted import can_mount, wait_until

from pantry.client import Butler
from pantry.client.staging import export, stage
from pantry.errors import ConfigError, DatasetExistsError, DatasetTypeError, RepositoryNotFoundError
from pantry.wire.operations import EvictObjects

TEMPLATES: dict[str, Any] = {
    "blob": "{instrument}/blobs/{run}/{exposure:08d}/blob_{detector:03d}",
    "con*": "{instrument}/{dataset_type}/{run}/{exposure}",
    "raw": {"path": "{run}/{exposure}_{detector:03d}", "only": {"instrument": INSTRUMENT}},
    "info": "{run}/{dataset_type}/{instrument}_{detector}/file",
}
STORED = f"{INSTRUMENT}/blobs/u/run/0000000{{}}/blob_001.bin"
NAMED = f"u/run/blob/{INSTRUMENT}/{{}}/blob_{INSTRUMENT}_{{}}_1.bin"


@pytest.fixture
def daemon(make_daemon: Callable[..., PantryDaemon], storage_config: dict[str, Any]) -> PantryDaemon:
    return make_daemon(storage_config)


@pytest.fixture
def butler(daemon: PantryDaemon, short_dir: Path) -> Iterator[Butler]:
    with Butler.create("r", str(short_dir / "root"), templates=TEMPLATES, socket=daemon.socket) as made:
        furnish(made, 5)
        yield made.clone(run="u/run")


def below(root: Path) -> set[str]:
    """Files below a repository's root or another directory, without Pantry's own."""
    found = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    # The mark of a write is removed after the answer.
    return {
        name for name in found if name != "pantry.yaml" and "/.pantry-" not in f"/{name}" and name[:8] != ".pantry/"
    }


def blob(exposure: int, detector: int = 1) -> dict[str, Any]:
    return {"instrument": INSTRUMENT, "exposure": exposure, "detector": detector}


@pytest.mark.req("DMS-MWBT-REQ-0066")
def test_every_way_in_follows_the_template(butler: Butler, short_dir: Path) -> None:
    butler.put(b"put", "blob", blob(1))
    for number, transfer in enumerate(("copy", "move", "link", "symlink"), 2):
        source = short_dir / f"in-{transfer}.bin"
        source.write_bytes(transfer.encode())
        butler.ingest("blob", [(str(source), blob(number))], transfer=transfer)  # type: ignore[arg-type]
        assert source.exists() is (transfer != "move")
    butler.put({"a": 1}, "config", instrument=INSTRUMENT, exposure=1)
    root = short_dir / "root"
    expected = {STORED.format(number) for number in range(1, 6)} | {f"{INSTRUMENT}/config/u/run/1.json"}
    assert below(root) == expected
    assert (root / STORED.format(4)).read_bytes() == b"link"
    for number, content in enumerate((b"put", b"copy", b"move", b"link", b"symlink"), 1):
        assert butler.get("blob", blob(number)) == content
    with pytest.raises(DatasetExistsError):
        butler.put(b"again", "blob", blob(1))
    # A file that Pantry did not store is never replaced, nor left with anything beside it.
    other = root / f"{INSTRUMENT}/blobs/other/00000001/blob_001.bin"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"mine")
    with pytest.raises(DatasetExistsError, match="exists in"):
        butler.put(b"new", "blob", blob(1), run="other")
    assert other.read_bytes() == b"mine"
    assert butler.find_dataset("blob", blob(1), collections="u/run") is not None
    assert below(root) == expected | {str(other.relative_to(root))}


@pytest.mark.req("DMS-MWBT-REQ-0066")
def test_an_import_follows_the_template(butler: Butler, short_dir: Path) -> None:
    night = short_dir / "night"
    (night / "info").mkdir(parents=True)
    (night / "export.yaml").write_text(EXPORT)
    (night / "info" / "0.json").write_text('{"n":0}')
    (night / "info" / "both.json").write_text('{"n":12}')
    butler.import_(directory=night)
    # Two datasets of one file share that of the first.
    assert below(short_dir / "root") == {"run/1/info/Cam_0/file.json", "run/1/info/Cam_1/file.json"}
    assert [butler.get("info", instrument="Cam", detector=one, collections="run/1")["n"] for one in (0, 1, 2)] == [
        0,
        12,
        12,
    ]


@pytest.mark.root
@can_mount
@pytest.mark.req("DMS-MWBT-REQ-0066")
@pytest.mark.req("DMS-MWBT-REQ-0078")
def test_one_name_by_mount_stage_and_export_in_a_directory_and_in_s3(
    daemon: PantryDaemon, short_dir: Path, s3_root: str, seaweed: SeaweedServer
) -> None:
    root = short_dir / "root"
    for name, where in (("plain", str(short_dir / "plain")), ("local", str(root)), ("s3", s3_root)):
        made = Butler.create(name, where, templates=None if name == "plain" else TEMPLATES, socket=daemon.socket)
        furnish(made, 3)
        for exposure in (1, 2):
            made.put(f"{exposure}".encode(), "blob", blob(exposure), run="u/run")
    stored = {STORED.format(one) for one in (1, 2)}
    named = {NAMED.format(one, one) for one in (1, 2)}
    assert below(root) == stored
    bucket, _, prefix = s3_root.removeprefix("s3://").partition("/")
    keys = seaweed.client().list_objects_v2(Bucket=bucket, Prefix=prefix + "/")["Contents"]
    assert {one["Key"].removeprefix(prefix + "/") for one in keys} - {"pantry.yaml"} == stored
    assert below(short_dir / "plain") == named  # without templates the stored path is the name
    with PantryMount(daemon.socket, short_dir / "mnt") as mount:
        for name in ("plain", "local", "s3"):
            butler = Butler(name, collections="u/run", socket=daemon.socket)
            butler.connection.call(EvictObjects(everything=True))
            refs = sorted(butler.query_datasets("blob"), key=lambda ref: ref.data_id["exposure"])
            assert butler.prefetch("blob").failed_files == 0
            exported, left_out = export(butler, refs, short_dir / f"export-{name}")
            stage(butler, refs, short_dir / f"stage-{name}")
            assert len(exported) == 2
            assert not left_out
            wait_until(lambda: len(below(mount.directory / name)) == 2)  # noqa: B023 - asked at once
            for place in (short_dir / f"stage-{name}", short_dir / f"export-{name}", mount.directory / name):
                assert below(place) == named
                assert (place / NAMED.format(2, 2)).read_bytes() == b"2"
            shown = os.getxattr(mount.directory / name / NAMED.format(1, 1), "user.pantry.origin").decode()
            assert shown.endswith(NAMED.format(1, 1) if name == "plain" else STORED.format(1))


def test_a_template_that_changes_moves_nothing(butler: Butler, daemon: PantryDaemon, short_dir: Path) -> None:
    root = short_dir / "root"
    old = butler.put(b"old", "blob", blob(1))
    description = yaml.safe_load((root / "pantry.yaml").read_text())
    assert description["templates"] == TEMPLATES
    description["templates"]["blob"] = "new/{run}/{instrument}/b{exposure}/d{detector}"
    (root / "pantry.yaml").write_text(yaml.safe_dump(description))
    daemon.stop()
    daemon.start()
    again = Butler("r", run="u/run", socket=daemon.socket)
    new = again.put(b"new", "blob", blob(2))
    with pytest.raises(DatasetExistsError):
        again.put(b"x", "blob", blob(1))
    assert below(root) == {STORED.format(1), f"new/u/run/{INSTRUMENT}/b2/d1.bin"}
    again.connection.call(EvictObjects(everything=True))
    assert [again.get(ref) for ref in (old, new)] == [b"old", b"new"]
    assert below_names(again, [old, new], short_dir / "stage") == {NAMED.format(one, one) for one in (1, 2)}
    # One that could give two datasets one path: the repository is not opened with it, and says why.
    description["templates"]["blob"] = "new/{run}/{instrument}/{exposure}{detector}"
    (root / "pantry.yaml").write_text(yaml.safe_dump(description))
    daemon.stop()
    daemon.start()
    with pytest.raises(
        ConfigError, match=r"pantry\.yaml: templates\.blob: for blob: '111' can be exposure 1, detector"
    ):
        Butler("r", socket=daemon.socket)


def below_names(butler: Butler, refs: list[Any], directory: Path) -> set[str]:
    stage(butler, refs, directory)
    return below(directory)


def test_templates_are_given_and_shown(daemon: PantryDaemon, short_dir: Path) -> None:
    file = short_dir / "templates.yaml"
    file.write_text(yaml.safe_dump(TEMPLATES))
    with Butler.create("first", str(short_dir / "first"), socket=daemon.socket) as any_butler:
        root = str(short_dir / "second")
        made = pantry(any_butler, "repo", "create", "second", root, "--templates", str(file))
        assert made.returncode == 0, made.stderr
        shown = pantry(any_butler, "repo", "info", "second").stdout
        for name, template in TEMPLATES.items():
            assert f"{name} " in shown
            assert (template if isinstance(template, str) else template["path"]) in shown
        assert f" instrument={INSTRUMENT}\n" in shown
        second = Butler("second", run="r", socket=daemon.socket)
        assert msgspec.to_builtins(second.info.templates) == TEMPLATES
        furnish(second, 1)
        second.register_dataset_type("raw", ["exposure", "detector"], "Bytes")
        second.put(b"x", "raw", blob(1))
        assert below(short_dir / "second") == {"r/1_001.bin"}
        for text, said in (
            ("blob: x/{run}/{exposure}.fits", "templates.yaml: templates.blob: 'x/{run}/{exposure}.fits' has a dot"),
            ("blob: {run}/{exposure}", "begins with '{' stands in quotes"),
            ("blob: {run: 1}", "templates.yaml:1: blob: Object contains unknown field `run`"),
            ("blob: 5", "templates.yaml:1: blob: Expected `str | object`, got `int`"),
            ("- a", "templates.yaml:1: must give each name something"),
        ):
            file.write_text(text)
            wrong = pantry(any_butler, "repo", "create", "third", str(short_dir / "third"), "--templates", str(file))
            assert wrong.returncode != 0
            assert said in wrong.stderr
            assert "Traceback" not in wrong.stderr
        # What only the daemon can know: nothing is made.
        for template, said in (
            ("x/{run}/{exposre}", "unknown field {exposre}"),
            ("x/{run}/{band:02d}", "band is text"),
        ):
            with pytest.raises(ConfigError, match=said):
                Butler.create("third", str(short_dir / "third"), templates={"b": template}, socket=daemon.socket)
            assert not (short_dir / "third").exists()
        with pytest.raises(ConfigError, match="templates.b: Expected"):
            Butler.create("third", "/x", templates={"b": 5}, socket=daemon.socket)
        with pytest.raises(RepositoryNotFoundError):
            Butler("third", socket=daemon.socket)


def test_a_type_that_could_collide_is_refused_when_it_is_registered(butler: Butler) -> None:
    with pytest.raises(DatasetTypeError, match=r"templates\.con\*: it has no \{detector\}") as caught:
        butler.register_dataset_type("contrast", ["exposure", "detector"], "Bytes")
    assert "path-templates" in str(caught.value)
    assert butler.register_dataset_type("contrast", ["exposure"], "Bytes")
