"""Where the copies of a root are."""

from __future__ import annotations

from pathlib import Path

import pytest

from pantry.backends.admission import Admission
from pantry.daemon.config import DaemonConfig, StorageConfig, load_config
from pantry.daemon.repositories.roots import replica_roots
from pantry.daemon.repositories.service import Repositories
from pantry.errors import ConfigError


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
    repositories = Repositories(config, transfers=admission, queries=admission)
    origin = repositories.opener.origin_for("s3://b/x", {"endpoint_url": "http://127.0.0.1:9"})
    assert [backend.location for backend in origin.backends] == ["s3://b/x", "file:///one/x"]


def test_a_replica_that_is_no_root_is_refused_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "pantryd.yaml"
    file.write_text("storage:\n- {match: 's3://b/', options: {}, replicas: [/one, relative/two]}\n")
    with pytest.raises(ConfigError, match=r"pantryd.yaml: storage\[0\].replicas: 'relative/two'"):
        load_config(str(file))
