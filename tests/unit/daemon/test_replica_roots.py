"""Where the copies of a root are."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from pantry.backends.admission import Admission
from pantry.daemon.cache.counters import Counters
from pantry.daemon.config import DaemonConfig, StorageConfig, load_config
from pantry.daemon.config.storage import replica_roots
from pantry.daemon.credentials.held import HeldCredentials
from pantry.daemon.repositories.service import Repositories
from pantry.daemon.transfers.storage import Storage
from pantry.errors import BackendAccessError, ConfigError


@pytest.mark.parametrize(
    ("match", "replica", "root", "copy"),
    [
        ("s3://b/", "/mnt/b/", "s3://b/x/y", "/mnt/b/x/y"),
        ("s3://b/", "/mnt/b", "s3://b/x/y", "/mnt/b/x/y"),
        ("s3://b", "/mnt/b/", "s3://b/x/y", "/mnt/b/x/y"),
        ("s3://b", "/mnt/b", "s3://b/x", "/mnt/b/x"),
        ("s3://b/x", "s3://c/x", "s3://b/xy", "s3://c/xy"),
        ("s3://b/x", "s3://c/x/", "s3://b/x", "s3://c/x/"),
    ],
)
def test_a_replica_stands_for_the_match(match: str, replica: str, root: str, copy: str) -> None:
    assert replica_roots(root, [StorageConfig(match=match, options={}, replicas=(replica,))]) == [copy]


def test_the_longest_match_with_replicas_holds() -> None:
    storage = [
        StorageConfig(match="s3://", options={}, replicas=("s3://far/",)),
        StorageConfig(match="s3://b/", options={}, replicas=("/one/", "/two/")),
        StorageConfig(match="s3://b/x", options={}),
    ]
    assert replica_roots("s3://b/x", storage) == ["/one/x", "/two/x"]
    assert replica_roots("/local", storage) == []


def test_an_origin_has_its_copies(tmp_path: Path) -> None:
    config = DaemonConfig(
        state_directory=str(tmp_path), storage=(StorageConfig(match="s3://b/", options={}, replicas=("/one/",)),)
    )
    admission = Admission(user_limit=1, node_limit=1)
    held = HeldCredentials(per_user=0, longest_s=0, wanted=lambda _: False)
    repositories = Repositories(config, transfers=admission, queries=admission, held=held)
    origin = repositories.opener.origin_for("s3://b/x", {"endpoint_url": "http://127.0.0.1:9"})
    assert [backend.location for backend in origin.backends] == ["s3://b/x", "file:///one/x"]


def test_a_replica_that_is_no_root_is_refused_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "pantryd.yaml"
    file.write_text("storage:\n- {match: 's3://b/', options: {}, replicas: [/one, relative/two]}\n")
    with pytest.raises(ConfigError, match=r"pantryd.yaml: storage\[0\].replicas: 'relative/two'"):
        load_config(str(file))


USERS = "{match: 'https://a.org/x/', rights: user, replicas: ['https://b.org/y']}"


@pytest.mark.parametrize(
    ("entries", "refused"),
    [
        ([USERS], "'https://a.org/x/'.*users' own rights.*'https://b.org/y'"),
        ([USERS, "{match: 'https://b.org/y/', rights: user}"], ""),
        ([USERS, "{match: 'https://b.org/', rights: user}"], ""),
        ([USERS, "{match: 'https://b.org/', rights: user}", "{match: 'https://b.org/y/z/', rights: node}"], "x/z"),
        ([USERS, "{match: 'https://b.org/', rights: user}", "{match: 'https://a.org/x/z', rights: node}"], "x/z"),
        (
            [
                USERS,
                "{match: 'https://b.org/', rights: user}",
                "{match: 'https://a.org/x/z/', rights: node}",
                "{match: 'https://b.org/y/z/', rights: node}",
            ],
            "",
        ),
        (
            [
                USERS,
                "{match: 'https://b.org/', rights: user}",
                "{match: 'https://a.org/x/z/', rights: node, replicas: ['https://c.org/']}",
            ],
            "",
        ),
        (
            ["{match: 'https://a.org', replicas: ['https://b.org/']}", "{match: 'https://b.org/', rights: user}"],
            "node's rights",
        ),
        (["{match: 'https://a.org/', rights: user, replicas: [/mnt/a]}"], "users' own rights"),
    ],
)
def test_copies_are_read_with_the_rights_of_their_root(tmp_path: Path, entries: list[str], refused: str) -> None:
    file = tmp_path / "pantryd.yaml"
    file.write_text("storage:\n" + "".join(f"- {one}\n" for one in entries))
    if not refused:
        load_config(str(file))
        return
    with pytest.raises(ConfigError, match=rf"storage\[0\].replicas: .*{refused}"):
        load_config(str(file))


def test_a_users_own_origin_is_asked_with_nothing_else_anywhere() -> None:
    users = StorageConfig(match="https://a.org/x/", rights="user", replicas=("https://b.org/y/",))
    node = StorageConfig(match="https://b.org/y/", options={"token": "of-the-node"})
    held = HeldCredentials(per_user=1, longest_s=10, wanted=lambda _: True)
    admission = Admission(user_limit=1, node_limit=1)
    storage = Storage(DaemonConfig(storage=(users, node)), admission, Counters(), lambda: False, held)

    async def main() -> None:
        origin = storage.origin_for("https://a.org/x", {}, 7)
        for backend in origin.backends:
            with pytest.raises(BackendAccessError, match="none of you"):
                await backend.stat("k")
        await origin.aclose()

    trio.run(main)


def test_a_match_with_a_slash_holds_for_the_root_without() -> None:
    entry = StorageConfig(match="s3://b/")
    assert [entry.holds_for(one) for one in ("s3://b", "s3://b/", "s3://b/x", "s3://bc")] == [True, True, True, False]
