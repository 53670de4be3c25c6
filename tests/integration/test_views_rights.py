"""Views widen nobody's rights: real users, by the rules of the source, and by their own credentials for its storage."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.observatory import INSTRUMENT, furnish
from tests.integration.test_own_rights import ANNA, BEN, LITTLE, NO_CREDENTIAL, READ, SIZE, Archive, archive
from tests.servers.mounting import PantryMount
from tests.servers.other_user import run_as
from tests.servers.pantryd import PantryDaemon
from tests.servers.qa_service import QaService

from pantry.client import Butler, Node

__all__ = ["archive"]

pytestmark = pytest.mark.root

TRY = """
import json, sys
from pathlib import Path
from pantry.client import Butler
from pantry.client.connection import connect
from pantry.errors import PantryError
from pantry.wire import operations as ops
socket, directory = sys.argv[1:3]
found = {}
def attempt(what, func):
    try:
        found[what] = func()
    except PantryError as exc:
        found[what] = exc.code
view = Butler("v", collections="u/one", socket=socket)
(ref,) = view.query_datasets("blob", where="exposure = 1")
link = connect(socket)
attempt("get", lambda: view.get(ref).decode())
attempt("own", lambda: view.get("blob", instrument="TestCam", exposure=2, detector=0, collections="u/view").decode())
attempt("cached only", lambda: link.call(ops.OpenDataset(repository="v", id=ref.id, cached_only=True)).was_cached)
attempt("prefetch", lambda: view.prefetch("blob", collections="u/one").failed_files)
attempt("stage", lambda: sum(one.copies for one in [view.stage([ref], directory + "/staged")]))
attempt("verify", lambda: list(link.stream(ops.VerifyObjects(repository="v", dataset_types=("blob",),
                                                             collections=("u/one",))))[-1].objects_total)
attempt("shown", lambda: link.call(ops.GetDataset(repository="v", id=ref.id)).file.path.partition(":")[0])
attempt("subset", lambda: view.subset([ref], "mine", directory + "/mine").datasets)
found["in the cache"] = len([one for batch in link.stream(ops.ListCache()) for one in batch.objects])
print(json.dumps(found))
"""


def tried(daemon: PantryDaemon, uid: int, directory: Path) -> dict[str, Any]:
    directory.mkdir()
    directory.chmod(0o777)
    done = run_as(uid, TRY, daemon.socket, str(directory))
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.req("DMS-MWBT-REQ-0010")
def test_who_may_not_read_the_source_does_not_read_it_by_a_view(
    needs_root: None,
    make_daemon: Callable[..., PantryDaemon],
    storage_config: dict[str, Any],
    s3_root: str,
    short_dir: Path,
) -> None:
    """Anna may read the source and gets its files; Ben may read only the view, and gets only what is the view's own."""
    daemon = make_daemon({**storage_config, "administrators": [str(BEN)]}, system=True)
    with Butler.create("s", s3_root, readers=[str(ANNA)], socket=daemon.socket) as source:
        furnish(source, n_exposures=2)
        ref = source.put(b"secret", "blob", where(1), run="u/one")
        source.create_view([ref], "v", short_dir / "v", readers=["*"], data_ids=[where(2)])
    with Butler("v", run="u/view", socket=daemon.socket) as view:
        view.put(b"open", "blob", where(2))
        assert view.get(ref) == b"secret"
    anna = tried(daemon, ANNA, short_dir / "anna")
    assert anna == {
        "get": "secret",
        "own": "open",
        "cached only": True,
        "prefetch": 0,
        "stage": 1,
        "verify": 1,
        "shown": "s3",
        "subset": "permission_denied",
        "in the cache": 2,
    }
    # Though it is cached, and though he may make repositories.
    refused = dict.fromkeys(("get", "cached only", "prefetch", "stage", "verify", "subset"), "permission_denied")
    assert tried(daemon, BEN, short_dir / "ben") == {**refused, "own": "open", "shown": "pantry", "in the cache": 1}
    path = f"v/u/one/blob/{INSTRUMENT}/1/blob_{INSTRUMENT}_1_0.bin"
    with PantryMount(daemon.socket, short_dir / "mnt", allow_other=True) as mount:
        assert cat(ANNA, mount.directory / path) == b"secret"
        assert cat(BEN, mount.directory / path) is None


def cat(uid: int, path: Path) -> bytes | None:
    words = ["/bin/cat", str(path)]
    done = subprocess.run(words, user=uid, group=uid, extra_groups=[], capture_output=True, check=False, timeout=60)
    return done.stdout if done.returncode == 0 else None


def where(exposure: int) -> dict[str, Any]:
    return {"instrument": INSTRUMENT, "exposure": exposure, "detector": 0}


@pytest.mark.req("DMS-MWBT-REQ-0010")
def test_a_source_that_is_read_with_own_rights(archive: Archive, short_dir: Path) -> None:
    """By the view each reads with the credential that he has for the source's storage; without one he finds nothing."""
    keys = archive.server.people["anna"]
    with Node(archive.daemon.socket) as node:
        node.add_credential(archive.root, access_key_id=keys[0], secret_access_key=keys[1])
        with Butler("archive", socket=archive.daemon.socket) as source:
            refs = source.query_datasets("blob", "u/one")
            source.create_view(refs, "v", short_dir / "v", readers=["*"])
        node.remove_credential(archive.root)
    read = READ.replace('"archive"', '"v"')
    assert read != READ

    def bytes_for(uid: int) -> int:
        before = archive.proxy.bytes_answered()
        assert archive.run(uid, read, "dataset") == {"sha": archive.sha}
        return archive.proxy.bytes_answered() - before

    assert NO_CREDENTIAL in archive.run(ANNA, read, "dataset")["text"]
    archive.add(ANNA, "anna")
    assert bytes_for(ANNA) >= SIZE
    assert bytes_for(ANNA) < LITTLE
    assert NO_CREDENTIAL in archive.run(BEN, read, "dataset")["text"]
    archive.add(BEN, "carl")
    assert "your credential" in archive.run(BEN, read, "dataset")["text"]
    archive.add(BEN, "ben")
    assert bytes_for(BEN) < LITTLE, "proven by a piece"
    assert sorted(realm.rpartition("@")[2] for realm in archive.files()) == [str(ANNA), str(BEN)]


def test_what_is_published_is_read_by_the_rights_of_who_asked(
    needs_root: None, make_daemon: Callable[..., PantryDaemon], short_dir: Path
) -> None:
    publish = """
import sys
from pantry.client import Butler
view = Butler("v", collections="u/one", socket=sys.argv[1])
view.publish(view.query_datasets("config"), "qa", wait=True)
"""
    with QaService() as service:
        target = {"url": f"{service.url}/values", "dataset_types": ["config"], "body": {"n": "{content.n}"}}
        target["publishers"] = ["*"]
        daemon = make_daemon({"publish": {"qa": target}}, system=True)
        daemon.expected_log = ("publish",)
        with Butler.create("d", str(short_dir / "d"), readers=[str(ANNA)], socket=daemon.socket) as source:
            furnish(source, n_exposures=2)
            for number in (1, 2):
                ref = source.put({"n": number}, "config", instrument=INSTRUMENT, exposure=number, run="u/one")
            source.create_view([ref], "v", short_dir / "v", readers=["*"])
        refused = run_as(BEN, publish, daemon.socket)
        assert refused.returncode != 0
        assert "may not read the repository 'd'" in refused.stderr
        assert service.requests == []
        done = run_as(ANNA, publish, daemon.socket)
        assert done.returncode == 0, done.stderr
        assert [json.loads(one.body) for one in service.requests] == [{"n": 2}]
