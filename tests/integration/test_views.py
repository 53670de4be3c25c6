"""Views: repositories of a part of another one, whose files stay where they are and are read by its rights."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.integration.command_line import pantry
from tests.integration.observatory import INSTRUMENT, furnish
from tests.integration.test_subsets import Source, expected, few
from tests.servers.mounting import PantryMount
from tests.servers.pantryd import PantryDaemon
from tests.servers.postgresql import PostgresqlServer
from tests.servers.seaweedfs import SeaweedServer

from pantry.client import Butler, DatasetRef
from pantry.client.butler.opened import OpenedFile
from pantry.errors import (
    ConfigError,
    ConflictError,
    DatasetNotFoundError,
    IntegrityError,
    InvalidRequestError,
    PantryError,
    RepositoryNotFoundError,
)
from pantry.wire.operations import CopyDatasets


def objects(daemon: PantryDaemon) -> dict[str, int]:
    """How many complete objects the cache has, by realm."""
    found: dict[str, int] = {}
    for path in (daemon.cache / "objects").rglob("*"):
        if path.is_file():
            realm = path.relative_to(daemon.cache / "objects").parts[0]
            found[realm] = found.get(realm, 0) + 1
    return found


def own_files(root: Path) -> set[str]:
    """What lies in a root that is Pantry's data, and not about it."""
    paths = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    return {path for path in paths if path != "pantry.yaml" and "/.pantry" not in f"/{path}"}


def opened(butler: Butler, ref: DatasetRef) -> OpenedFile:
    return OpenedFile.open(butler.connection.link(), butler._to_open(butler.repository, id=ref.id))


def origin(butler: Butler, ref: DatasetRef) -> str:
    with opened(butler, ref) as file:
        return file.opened.origin


@pytest.mark.req("DMS-MWBT-REQ-0010")
def test_a_part_of_an_object_store_is_seen_and_not_copied(
    make_daemon: Callable[..., PantryDaemon],
    seaweed: SeaweedServer,
    storage_config: dict[str, Any],
    s3_root: str,
    short_dir: Path,
) -> None:
    """A view of datasets in S3 reads as they do, holds no file of them, takes outputs, and takes none of them along."""
    daemon = make_daemon(storage_config)
    bucket, _, prefix = s3_root.removeprefix("s3://").partition("/")

    def in_s3() -> set[str]:
        listed = seaweed.client().list_objects_v2(Bucket=bucket, Prefix=prefix + "/")["Contents"]
        return {one["Key"] for one in listed}

    with Butler.create("s", s3_root, socket=daemon.socket) as butler:
        source = Source(butler)
        refs = source.choose()
        before, stored = expected(butler), in_s3()
        done = butler.create_view(refs, "v", short_dir / "v", collections="all")
        assert (done.datasets, done.present, done.quanta) == (len(refs), 0, 2)
        assert butler.create_view(refs, "v", short_dir / "v", collections="all").present == len(refs)
    assert own_files(short_dir / "v") == set()
    cached = objects(daemon)
    with Butler("v", socket=daemon.socket) as view:
        assert expected(view) == before
        assert objects(daemon) == cached, "one copy, whichever way it is read"
        everything = view.query_datasets("*", "*", find_first=False)
        assert {(ref.id, ref.run) for ref in everything} == {(ref.id, ref.run) for ref in refs}
        assert view.provenance(source.model).producer == source.quanta[1]
        assert [one.id for one in view.ancestors(source.model)] == [source.quanta[0].outputs[0], source.raw.id]
        with pytest.raises(PantryError):
            view.get("image", instrument=INSTRUMENT, exposure=2, detector=0, collections="all")
        assert origin(view, source.model).startswith(f"{s3_root}/u/one/model/")
        # What is new is its own.
        own = view.put({"n": 7}, "config", instrument=INSTRUMENT, exposure=6, run="u/new")
        assert view.get(own) == {"n": 7}
        (path,) = own_files(short_dir / "v")
        assert path.startswith("u/new/config/")
        # What is deleted of it stays where it is.
        gone = view.delete(refs[:1])
        assert (gone.datasets, gone.files, gone.kept) == (1, 0, 1)
        with pytest.raises(DatasetNotFoundError):
            view.get(refs[0])
    removed = Butler.remove_repository("v", socket=daemon.socket)
    assert (removed.datasets, removed.files, removed.kept) == (len(refs), 1, len(refs) - 1)
    assert own_files(short_dir / "v") == set()
    assert not (short_dir / "v/pantry.yaml").exists()
    with pytest.raises(RepositoryNotFoundError):
        Butler("v", socket=daemon.socket)
    assert in_s3() == stored
    with Butler("s", socket=daemon.socket) as butler:
        assert expected(butler) == before


@pytest.fixture
def daemon(make_daemon: Callable[..., PantryDaemon]) -> PantryDaemon:
    return make_daemon()


@pytest.fixture
def source(daemon: PantryDaemon, short_dir: Path) -> Iterator[Butler]:
    with Butler.create("d", str(short_dir / "d"), socket=daemon.socket) as made:
        yield made


@pytest.fixture
def refs(source: Butler) -> list[DatasetRef]:
    return few(source)


@pytest.fixture
def view(source: Butler, refs: list[DatasetRef], short_dir: Path) -> Iterator[Butler]:
    """A view of all but the last of the source's datasets."""
    source.create_view(refs[:3], "v", short_dir / "v", data_ids=[refs[3].data_id])
    with Butler("v", collections="u/one", run="u/mine", socket=source._socket) as made:
        yield made


@pytest.mark.req("DMS-MWBT-REQ-0010")
def test_what_is_deleted_in_the_source_is_gone_and_says_so(
    source: Butler, view: Butler, refs: list[DatasetRef]
) -> None:
    assert [view.get(ref) for ref in refs[:3]] == [{"n": 1}, {"n": 2}, {"n": 3}]
    source.delete(refs[:2])
    with pytest.raises(DatasetNotFoundError, match=r"of the view 'v' is no longer in 'd', where its file was") as told:
        view.get(refs[0])
    assert "pantry delete v" in str(told.value.hint)
    # Another one in its place is not it, nor is another content by its id.
    source.put({"n": -1}, "config", refs[0].data_id, run="u/one")
    source.put({"n": -2}, refs[1])
    with pytest.raises(DatasetNotFoundError, match="no longer in 'd'"):
        view.get(refs[0])
    with pytest.raises(IntegrityError, match="in 'd', and in its view 'v'"):
        view.get(refs[1])
    assert view.get(refs[2]) == {"n": 3}
    done = view.prefetch("config")
    assert (done.files_done, done.files_total, done.failed_files) == (3, 3, 2)
    assert {one.code for one in done.failures} == {"dataset_not_found"}
    assert {one.name.rpartition("_")[2] for one in done.failures} == {"1.json", "2.json"}
    assert view.delete(refs[:2]).datasets == 2
    assert view.query_datasets("config") == [refs[2]]


def test_a_source_stays_while_a_view_refers_to_it(source: Butler, view: Butler, refs: list[DatasetRef]) -> None:
    with pytest.raises(ConflictError, match="'v' is a view, and files of it are in 'd'") as told:
        Butler.remove_repository("d", socket=source._socket)
    assert "pantry repo remove v" in str(told.value.hint)
    assert view.get(refs[0]) == {"n": 1}
    Butler.remove_repository("v", socket=source._socket)
    assert source.get(refs[0]) == {"n": 1}
    assert Butler.remove_repository("d", socket=source._socket).files == 4


@pytest.mark.req("DMS-MWBT-REQ-0010")
def test_a_source_that_has_another_name_or_none(
    make_daemon: Callable[..., PantryDaemon], view: Butler, refs: list[DatasetRef], short_dir: Path
) -> None:
    there = {"v": {"root": str(short_dir / "v")}}
    alone = make_daemon({"repositories": there})
    with Butler("v", collections="u/one", socket=alone.socket) as other:
        assert set(other.query_datasets("config")) == set(refs[:3])
        with pytest.raises(
            RepositoryNotFoundError, match=r"'v' is a view, and files of it are in 'd' \(.*not registered"
        ):
            other.get(refs[0])
        other.put({"n": 9}, "config", instrument=INSTRUMENT, exposure=4, run="u/other")
    renamed = make_daemon({"repositories": {**there, "x": {"root": str(short_dir / "d")}}})
    with Butler("v", socket=renamed.socket) as other:
        assert other.get(refs[0]) == {"n": 1}
    # By the source's name now goes another repository, which is not believed to be it.
    with Butler.create("e", str(short_dir / "e"), socket=view._socket) as stranger:
        furnish(stranger, n_exposures=4)
    taken = {**there, "d": {"root": str(short_dir / "e")}}
    other = Butler("v", socket=make_daemon({"repositories": taken}).socket)
    with pytest.raises(RepositoryNotFoundError, match="not registered"):
        other.get(refs[0])


@pytest.mark.req("DMS-MWBT-REQ-0010")
def test_a_view_of_a_chain_and_a_view_of_that(source: Butler, refs: list[DatasetRef], short_dir: Path) -> None:
    """Each file is read from the repository that holds it, and from no view between."""
    with Butler.create("e", str(short_dir / "e"), socket=source._socket) as second:
        furnish(second, n_exposures=5)
        theirs = second.put({"n": 5}, "config", instrument=INSTRUMENT, exposure=5, run="u/two")
    with Butler(["d", "e"], collections=["u/one", "u/two"], socket=source._socket) as chain:
        found = chain.query_datasets("config")
        assert {ref.repository for ref in found} == {"d", "e"}
        chain.create_view(found, "v", short_dir / "v", collections=["u/one", "u/two"])
    with Butler("v", socket=source._socket) as view:
        own = view.put({"n": 6}, "config", instrument=INSTRUMENT, exposure=4, run="u/view")
        view.create_view([*refs[:2], theirs, own], "w", short_dir / "w")
    with Butler("w", socket=source._socket) as second_view:
        read = [second_view.get(ref) for ref in (*refs[:2], theirs, own)]
        assert read == [{"n": 1}, {"n": 2}, {"n": 5}, {"n": 6}]
        roots = [origin(second_view, ref).split("/u/")[0] for ref in (refs[0], theirs, own)]
        assert roots == [f"file://{short_dir / name}" for name in ("d", "e", "v")]
        for name in ("d", "e", "v"):
            with pytest.raises(ConflictError, match="is a view, and files of it are in"):
                Butler.remove_repository(name, socket=source._socket)
        # What is kept for a view is what lies in place: it refers to nothing else of a repository that may go.
        with Butler.create("f", str(short_dir / "f"), socket=source._socket) as third:
            few(third)
        gone = Butler.remove_repository("f", keep_files_of="w", socket=source._socket)
        assert (gone.files, gone.kept) == (4, 0)
        # Without what the view between holds itself, that one may go.
        second_view.delete([own])
        for root in ("v", "w"):
            assert len(own_files(short_dir / root)) == (root == "v")


def test_a_copy_of_a_part_of_a_view_is_used_alone(
    make_daemon: Callable[..., PantryDaemon], source: Butler, view: Butler, refs: list[DatasetRef], short_dir: Path
) -> None:
    own = view.put({"n": 9}, "config", instrument=INSTRUMENT, exposure=4)
    assert view.subset([*refs[:3], own], "copy", short_dir / "copy").datasets == 4
    assert view.subset(refs[:3], "links", short_dir / "links", transfer="hardlink").datasets == 3

    def inodes(root: str) -> set[int]:
        return {path.stat().st_ino for path in (short_dir / root / "u/one/config").glob("**/*.json")}

    assert inodes("links") < inodes("d")
    source.delete(refs[:1])
    with pytest.raises(DatasetNotFoundError):
        view.subset(refs[:3], "late", short_dir / "late")
    shutil.rmtree(short_dir / "d")
    alone = make_daemon({"repositories": {"copy": {"root": str(short_dir / "copy")}}})
    with Butler("copy", socket=alone.socket) as copy:
        assert [copy.get(ref) for ref in (*refs[:3], own)] == [{"n": n} for n in (1, 2, 3, 9)]


def test_staged_mounted_prefetched_pinned_and_exported(
    make_daemon: Callable[..., PantryDaemon], storage_config: dict[str, Any], s3_root: str, short_dir: Path
) -> None:
    """By every way the view's files come from the source, by the names that they have there."""
    daemon = make_daemon(storage_config)
    with Butler.create("s", s3_root, socket=daemon.socket) as source:
        furnish(source, n_exposures=4)
        kept = [source.put(bytes([n]) * 99, "blob", INSTRUMENT_AT(n), run="u/one") for n in (1, 2, 3)]
        with opened(source, kept[0]) as file:
            name = file.opened.name
        source.create_view(kept[:2], "v", short_dir / "v")
    daemon.stop()
    shutil.rmtree(daemon.cache)
    daemon.start()
    with Butler("v", collections="u/one", socket=daemon.socket) as view:
        done = view.prefetch("blob")
        assert (done.fetched_files, done.failed_files) == (2, 0)
        assert list(objects(daemon).values()) == [2]
        assert pantry(view, "cache", "pin", "v", "blob", "-c", "u/one").returncode == 0
        pins = pantry(view, "cache", "pins", "--json")
        assert [one["cached_objects"] for one in json.loads(pins.stdout)] == [2]
        assert view.stage(kept[:2], short_dir / "staged").copies == 2
        assert (short_dir / "staged" / name).read_bytes() == b"\1" * 99
        exported = pantry(view, "cache", "export", "v", str(short_dir / "out"), "blob", "-c", "u/one")
        assert exported.returncode == 0, exported.stderr
        assert (short_dir / "out" / name).read_bytes() == b"\1" * 99
        bundled = view.create_bundle(kept[:2], short_dir / "bundle", collections="u/one")
        assert bundled.datasets == 2
        with PantryMount(daemon.socket, short_dir / "mnt") as mount:
            path = mount.directory / "v" / name
            assert path.read_bytes() == b"\1" * 99
            assert path.stat().st_mtime == (mount.directory / "s" / name).stat().st_mtime
            assert os.getxattr(path, "user.pantry.origin").decode().startswith(s3_root + "/u/one/blob/")
            assert os.getxattr(path, "user.pantry.cached") == os.getxattr(
                mount.directory / "s" / name, "user.pantry.cached"
            )
    assert list(objects(daemon).values()) == [2]
    # Working offline, what is cached reads.
    daemon.stop()
    daemon.config["cache"] = {"offline": True}
    daemon.start()
    with Butler("v", socket=daemon.socket) as view:
        assert view.get(kept[1]) == b"\2" * 99


def INSTRUMENT_AT(exposure: int) -> dict[str, Any]:  # noqa: N802 - reads as what it is
    return {"instrument": INSTRUMENT, "exposure": exposure, "detector": 0}


def test_files_in_a_directory_are_staged_as_links(view: Butler, refs: list[DatasetRef], short_dir: Path) -> None:
    staged = view.stage(refs[:2], short_dir / "staged", transfer="hardlink")
    assert staged.hardlinks == 2
    (mine,) = (short_dir / "staged/u/one/config").glob("**/*_1.json")
    (theirs,) = (short_dir / "d/u/one/config").glob("**/*_1.json")
    assert mine.stat().st_ino == theirs.stat().st_ino


def test_a_forged_reference_reaches_no_file_that_is_no_dataset(
    view: Butler, source: Butler, refs: list[DatasetRef], short_dir: Path, daemon: PantryDaemon
) -> None:
    """Who owns a view's directory may edit its registry: for that he gets nothing but datasets of the source."""
    own = view.put({"n": 9}, "config", instrument=INSTRUMENT, exposure=4)
    secret = short_dir / "d/secret.json"
    secret.write_text('{"n":10}')
    daemon.stop()
    with sqlite3.connect(short_dir / "v/.pantry/registry.sqlite3") as registry:
        forged = f"pantry://{source.info.uuid}/secret.json"
        registry.execute(
            "UPDATE dataset SET path = ?, size_bytes = 8 WHERE uuid IN (?, ?)", [forged, own.id.bytes, refs[0].id.bytes]
        )
    registry.close()
    daemon.start()
    with Butler("v", socket=daemon.socket) as again:
        with pytest.raises(DatasetNotFoundError, match="no longer in 'd'"):
            again.get(own)
        assert again.get(refs[0]) == {"n": 1}, "by its id it is what it always was"


def test_a_view_in_an_object_store_with_postgresql_by_two_daemons(
    make_daemon: Callable[..., PantryDaemon],
    storage_config: dict[str, Any],
    postgresql: PostgresqlServer,
    s3_root: str,
    short_dir: Path,
) -> None:
    """One daemon makes it a view of one repository, then of another: a second daemon, which has it open, follows."""
    with postgresql.database() as url:
        roots = {name: str(short_dir / name) for name in ("d", "e")}
        daemon = make_daemon(storage_config)
        with Butler.create("d", roots["d"], socket=daemon.socket) as first:
            refs = few(first)
        with Butler.create("e", roots["e"], socket=daemon.socket) as second:
            furnish(second, n_exposures=5)
            at = {"instrument": INSTRUMENT, "exposure": 5}
            theirs = second.put({"n": 5}, "config", at, run="u/two")
        with Butler(["d", "e"], socket=daemon.socket) as chain:
            chain.create_view(chain.query_datasets("config", "u/one", where="exposure = 1"), "v", s3_root, registry=url)
            there = {"v": {"root": s3_root, "registry": url}} | {name: {"root": roots[name]} for name in roots}
            other = make_daemon({**storage_config, "repositories": there})
            with Butler("v", socket=other.socket) as view:
                assert view.get(refs[0]) == {"n": 1}
                chain.create_view(chain.query_datasets("config", "u/two"), "v", s3_root, registry=url)
                assert view.get(theirs) == {"n": 5}
                with pytest.raises(ConflictError, match="'v' is a view, and files of it are in 'e'"):
                    Butler.remove_repository("e", socket=other.socket)
                own = view.put({"n": 6}, "config", refs[0].data_id, run="u/new")
                assert origin(view, own).startswith(s3_root)
        with Butler("v", socket=daemon.socket) as view:
            assert view.get(own) == {"n": 6}


def test_a_damaged_list_of_holders_is_told(
    view: Butler, refs: list[DatasetRef], short_dir: Path, daemon: PantryDaemon
) -> None:
    daemon.stop()
    with sqlite3.connect(short_dir / "v/.pantry/registry.sqlite3") as registry:
        registry.execute("UPDATE repository_attributes SET value = '[1]' WHERE key = 'holders'")
    registry.close()
    daemon.start()
    with pytest.raises(ConfigError, match="'holders' is damaged"):
        Butler("v", socket=daemon.socket).get(refs[0])


def test_what_was_cut_off_is_not_readable_and_goes_on(source: Butler, refs: list[DatasetRef], short_dir: Path) -> None:
    class Cut(Exception):  # noqa: N818 - no error
        pass

    def cut(what: str, done: int, total: int) -> None:
        if what == "datasets":
            raise Cut

    with pytest.raises(Cut):
        source.create_view(refs, "v", short_dir / "v", progress=cut)
    with pytest.raises(RepositoryNotFoundError, match="not made to its end"):
        Butler("v", socket=source._socket)
    with pytest.raises(ConflictError, match="none of a subset of 'd'"):
        source.subset(refs, "v", short_dir / "v")
    assert source.create_view(refs, "v", short_dir / "v").present == len(refs)
    with Butler("v", socket=source._socket) as view:
        assert [view.get(ref) for ref in refs] == [source.get(ref) for ref in refs]


def test_a_composite_with_a_component_elsewhere(source: Butler, refs: list[DatasetRef], short_dir: Path) -> None:
    other = Butler.create("e", str(short_dir / "e"), socket=source._socket)
    notes = few(other)[2]
    source.register_dataset_type("bag", ["exposure"], "StructuredDataDict")
    at = {"instrument": INSTRUMENT, "exposure": 2}
    made = source.put_composite({"notes": notes, "flags": ["a", "b"]}, "bag", at, run="u/bags")
    assert source.create_view([made], "v", short_dir / "v").datasets == 3
    with Butler("v", socket=source._socket) as view:
        assert view.get_components(made)["notes"] == notes
        assert view.get(made) == source.get(made) == {"notes": {"n": 3}, "flags": ["a", "b"]}
        assert origin(view, notes).startswith(f"file://{short_dir / 'e'}/")


def test_by_command(source: Butler, refs: list[DatasetRef], short_dir: Path) -> None:
    words = ["repo", "subset", "d", "v", str(short_dir / "v"), "config", "-c", "u/one", "--where", "exposure < 3"]
    for more, told in (
        ([], "Say either --copy or --view."),
        (["--copy", "--view"], "Say either --copy or --view."),
        (["--view", "--transfer", "copy"], "nothing is transferred"),
    ):
        refused = pantry(source, *words, *more)
        assert refused.returncode != 0
        assert told in refused.stderr
    done = pantry(source, *words, "--view")
    assert done.returncode == 0, done.stderr
    assert "2 datasets" in done.stderr
    assert "registered in v" in done.stderr
    assert own_files(short_dir / "v") == set()
    assert "view of" in (info := pantry(source, "repo", "info", "v")).stdout, info.stderr
    assert json.loads(pantry(source, "repo", "info", "v", "--json").stdout)["view_of"] == ["d"]
    got = pantry(source, "get", "v", "config", f"instrument={INSTRUMENT}", "exposure=2", "-c", "u/one")
    assert json.loads(got.stdout) == {"n": 2}


def test_files_of_others_are_only_referred_to_in_a_view(
    source: Butler, refs: list[DatasetRef], short_dir: Path
) -> None:
    source.subset(refs[:1], "copy", short_dir / "copy")
    asked = CopyDatasets(
        repository="copy",
        source="d",
        dataset_type="config",
        run="u/one",
        dimensions=("instrument", "exposure"),
        values=((INSTRUMENT, 2),),
        ids=refs[1].id.bytes,
        transfer="view",
    )
    with pytest.raises(InvalidRequestError, match="'copy' is no view"):
        source.connection.call(asked)


def test_a_part_of_a_large_file_is_read_from_the_source(
    make_daemon: Callable[..., PantryDaemon], storage_config: dict[str, Any], s3_root: str, short_dir: Path
) -> None:
    daemon = make_daemon(storage_config)
    with Butler.create("s", s3_root, socket=daemon.socket) as source:
        furnish(source, n_exposures=1)
        source.register_dataset_type("image", ["exposure", "detector"], "FitsArray")
        pixels = np.random.default_rng(1).random((3000, 2000))
        ref = source.put(pixels, "image", INSTRUMENT_AT(1), run="u/one")
        source.create_view([ref], "v", short_dir / "v")
    daemon.stop()
    shutil.rmtree(daemon.cache)
    daemon.start()
    with Butler("v", socket=daemon.socket) as view:
        part = view.get(ref, parameters={"bbox": (10, 20, 30, 40)})
        assert part.tolist() == pixels[20:40, 10:30].tolist()
