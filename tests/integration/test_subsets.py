"""Subsets: whole repositories from a part of another one, used when that one cannot be reached."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from tests.fault.proxy import FaultProxy
from tests.integration.observatory import INSTRUMENT, furnish
from tests.integration.test_bundles import fill
from tests.servers.pantryd import PantryDaemon
from tests.servers.seaweedfs import SeaweedServer

from pantry.client import Butler, DatasetRef
from pantry.errors import (
    ConflictError,
    IntegrityError,
    InvalidRequestError,
    MissingCollectionError,
    NotFoundError,
    PantryError,
    RepositoryNotFoundError,
)
from pantry.model.provenance import Quantum, QuantumStatus

CHOSEN = "exposure IN (1, 3, 4, 6)"
TYPES = ["image", "stars", "config", "bias", "model"]


class Source:
    """A repository with provenance, a composite and calibrations, and what a part of it reads as."""

    def __init__(self, butler: Butler) -> None:
        self.butler = butler
        self.refs = fill(butler)
        butler.register_dataset_type("raw", ["exposure", "detector"], "FitsArray")
        butler.register_dataset_type("model", ["exposure"], "StructuredDataDict")
        at = {"instrument": INSTRUMENT, "exposure": 1}
        self.raw = butler.put(np.ones((4, 5), np.int16), "raw", at, detector=0, run="u/raw")
        image = next(ref for ref in self.refs if ref.dataset_type.name == "image" and ref.data_id["exposure"] == 1)
        self.model = butler.put({"chi2": 1.5}, "model", at, run="u/one")
        self.quanta = [
            Quantum(
                id=uuid4(),
                task=task,
                run="u/one",
                data_id=at,
                predicted_inputs=(parent.id,),
                actual_inputs=(parent.id,),
                outputs=(child.id,),
                status=QuantumStatus.SUCCESSFUL,
                environment={"host": "here"},
            )
            for task, parent, child in (("isr", self.raw, image), ("fit", image, self.model))
        ]
        butler.record_quanta(self.quanta)

    def choose(self) -> list[DatasetRef]:
        found = self.butler.query_datasets(TYPES[:3] + TYPES[4:], "all", where=CHOSEN, find_first=False)
        return [*found, *self.butler.query_datasets("bias", ["b/1", "b/2"], find_first=False)]


def expected(butler: Butler) -> dict[str, Any]:
    """Read and ask everything that a part of the source can answer."""
    answers: dict[str, Any] = {}
    at = {"instrument": INSTRUMENT}
    for number in (1, 3, 4, 6):
        where = {**at, "exposure": number}
        image = butler.get("image", where, detector=0, collections="all")
        stars = butler.get("stars", where, collections="all")
        bias = butler.get("bias", where, detector=0, collections="all")
        config = butler.get("config", where, collections="all")
        metadata = butler.get_metadata("image", where, detector=0, collections="all")
        answers[str(number)] = [image.tolist(), list(stars["ra"]), bias, config, metadata]
    red = butler.query_datasets("image", "all", where=f"band = 'r' AND {CHOSEN}")
    answers["red"] = sorted((str(ref.id), ref.run, ref.data_id["exposure"]) for ref in red)
    answers["best"] = sorted(str(ref.id) for ref in butler.query_datasets("config", "best", where=CHOSEN))
    answers["part"] = butler.get(
        "image", {**at, "exposure": 3}, detector=0, collections="all", parameters={"bbox": (5, 6, 15, 16)}
    ).tolist()
    return answers


@pytest.fixture
def storage(storage_config: dict[str, Any], seaweed: SeaweedServer) -> Iterator[FaultProxy]:
    """The S3 server behind a proxy that can refuse."""
    with FaultProxy(("127.0.0.1", seaweed.port)) as proxy:
        storage_config["storage"][0]["options"] |= {"endpoint_url": proxy.endpoint_url, "max_attempts": 1}
        yield proxy


@pytest.mark.req("DMS-MWBT-REQ-0011")
def test_a_part_of_an_object_store_is_used_alone(
    make_daemon: Callable[..., PantryDaemon],
    storage: FaultProxy,
    storage_config: dict[str, Any],
    s3_root: str,
    short_dir: Path,
) -> None:
    """Copied from S3 to a directory, moved, and read by another daemon while neither S3 nor the source answers."""
    daemon = make_daemon(storage_config)
    with Butler.create("s", s3_root, socket=daemon.socket) as butler:
        source = Source(butler)
        refs = source.choose()
        before = expected(butler)
        steps: dict[str, tuple[int, int]] = {}
        done = butler.subset(
            refs,
            "mini",
            short_dir / "mini",
            collections="all",
            progress=lambda what, done, total: steps.__setitem__(what, (done, total)),
        )
        assert (done.datasets, done.present, done.quanta) == (len(refs), 0, 2)
        assert steps["datasets"] == (len(refs), len(refs))
        assert butler.subset(refs, "mini", short_dir / "mini", collections="all").present == len(refs)
    daemon.stop()
    storage.refusing = True
    os.rename(short_dir / "mini", short_dir / "moved")
    alone = make_daemon({"repositories": {"mini": {"root": str(short_dir / "moved")}}})
    with Butler("mini", socket=alone.socket) as mini:
        assert expected(mini) == before
        everything = mini.query_datasets("*", "*", find_first=False)
        assert {(ref.id, ref.run) for ref in everything} == {(ref.id, ref.run) for ref in refs}
        # Provenance: also of what was not taken along.
        said = mini.provenance(source.model)
        assert said.producer == source.quanta[1]
        (image,) = source.quanta[0].outputs
        ancestors = mini.ancestors(source.model)
        assert [(one.id, one.distance, one.ref is None) for one in ancestors] == [
            (image, 1, False),
            (source.raw.id, 2, True),
        ]
        # It is a repository: outputs go into it, calibrations are certified.
        mini.put({"n": 7}, "config", instrument=INSTRUMENT, exposure=6, run="u/new")
        assert mini.get("config", instrument=INSTRUMENT, exposure=6, collections="u/new") == {"n": 7}
        with pytest.raises(PantryError):
            mini.get("image", instrument=INSTRUMENT, exposure=2, detector=0, collections="all")


@pytest.fixture
def butler(make_daemon: Callable[..., PantryDaemon], short_dir: Path) -> Iterator[Butler]:
    with Butler.create("d", str(short_dir / "repo"), socket=make_daemon().socket) as made:
        yield made


INTERRUPTED = """
import os, signal, sys
from pantry.client import Butler
socket, root, dies = sys.argv[1:4]
butler = Butler("d", collections="all", socket=socket)
def progress(what, done, total):
    if what == dies:
        os.kill(os.getpid(), signal.SIGKILL)
refs = butler.query_datasets("*", "*", find_first=False)
butler.subset(refs, "part", root, progress=progress)
"""


@pytest.mark.req("DMS-MWBT-REQ-0011")
@pytest.mark.parametrize("killed", ["client", "client at the end", "daemon"])
def test_what_was_cut_off_is_not_readable_and_goes_on(
    make_daemon: Callable[..., PantryDaemon], short_dir: Path, killed: str
) -> None:
    daemon = make_daemon()
    root = short_dir / "part"
    with Butler.create("d", str(short_dir / "repo"), socket=daemon.socket) as butler:
        source = Source(butler)
        refs = butler.query_datasets("*", "*", find_first=False)
        if killed == "daemon":

            def kill(what: str, done: int, total: int) -> None:
                if what == "datasets":
                    daemon.kill()

            with pytest.raises(PantryError):
                butler.subset(refs, "part", root, collections="all", progress=kill)
            daemon.start()
        else:
            dies = "datasets" if killed == "client" else "members"
            words = [sys.executable, "-c", INTERRUPTED, daemon.socket, str(root), dies]
            done = subprocess.run(words, check=False, timeout=60, capture_output=True, text=True)
            assert done.returncode == -signal.SIGKILL, done.stderr
        for _ in range(2):
            with pytest.raises(RepositoryNotFoundError, match="not made to its end"):
                Butler("part", socket=daemon.socket)
            assert [one.name for one in Butler.repositories(socket=daemon.socket)] == ["d"]
            daemon.stop()
            daemon.start()
        done_now = butler.subset(refs, "part", root, collections="all")
        assert 0 < done_now.present < len(refs) or killed == "client at the end"
        assert done_now.present + done_now.datasets == len(refs)
        with Butler("part", socket=daemon.socket) as part:
            assert expected(part) == expected(butler)
            assert part.provenance(source.model).producer == source.quanta[1]


def test_a_daemon_that_was_killed_before_the_name_was_registered(
    make_daemon: Callable[..., PantryDaemon], butler: Butler, short_dir: Path
) -> None:
    """What a crash left in the root is taken up by the same source, and by no other."""
    refs = few(butler)
    root = short_dir / "part"
    assert butler.subset(refs, "part", root).datasets == len(refs)
    other = make_daemon({"repositories": {"d": {"root": str(short_dir / "repo")}}})
    with Butler("d", socket=other.socket) as again:
        # Complete: that is no subset to go on with, but one to be configured.
        with pytest.raises(ConflictError, match="there is a repository"):
            again.subset(refs, "part", root)
        with sqlite3.connect(root / ".pantry/registry.sqlite3") as registry:
            registry.execute("INSERT INTO repository_attributes VALUES ('unfinished', 'yes')")
        registry.close()
        stranger = Butler.create("e", str(short_dir / "e"), socket=other.socket)
        with pytest.raises(ConflictError, match="there is a repository"):
            stranger.subset(refs, "part", root)
        assert again.subset(refs, "part", root).present == len(refs)
        os.unlink(root / ".pantry/registry.sqlite3")


def few(butler: Butler) -> list[DatasetRef]:
    furnish(butler, n_exposures=4)
    return [butler.put({"n": n}, "config", instrument=INSTRUMENT, exposure=n, run="u/one") for n in range(1, 5)]


def test_mistakes_are_told_before_anything_is_made(butler: Butler, short_dir: Path) -> None:
    refs = few(butler)
    with pytest.raises(NotFoundError, match="no datasets"):
        butler.subset([], "part", short_dir / "part")
    with pytest.raises(MissingCollectionError, match="there is no collection 'u/on'"):
        butler.subset(refs, "part", short_dir / "part", collections="u/on")
    with pytest.raises(ConflictError, match="'d' is the name of another repository"):
        butler.subset(refs, "d", short_dir / "part")
    with pytest.raises(InvalidRequestError, match="in the repository 'd' itself"):
        butler.subset(refs, "part", short_dir / "repo/part")
    (short_dir / "file").write_text("")
    with pytest.raises(PantryError, match="cannot be made: Not a directory"):
        butler.subset(refs, "part", short_dir / "file/part")
    assert not (short_dir / "part").exists()
    assert [one.name for one in butler.repositories(socket=butler._socket)] == ["d"]


def test_a_damaged_file_is_not_copied(butler: Butler, short_dir: Path) -> None:
    refs = few(butler)
    (damaged,) = (short_dir / "repo/u/one/config").glob("**/*_3.json")
    os.chmod(damaged, 0o644)
    damaged.write_text('{"n":4}')
    with pytest.raises(IntegrityError, match="has the hash"):
        butler.subset(refs, "part", short_dir / "part")
    with pytest.raises(RepositoryNotFoundError, match="not made to its end"):
        Butler("part", socket=butler._socket)
    damaged.write_text('{"n":3}')
    assert butler.subset(refs, "part", short_dir / "part").datasets == len(refs)


def test_links_between_directories(butler: Butler, short_dir: Path) -> None:
    refs = few(butler)

    def inodes(root: str) -> set[int]:
        return {path.stat().st_ino for path in (short_dir / root / "u/one/config").glob("**/*.json")}

    butler.subset(refs, "linked", short_dir / "linked", transfer="hardlink")
    assert inodes("linked") == inodes("repo")
    butler.subset(refs, "own", short_dir / "own")
    assert len(inodes("own")) == len(refs)
    assert not inodes("own") & inodes("repo")
