"""Subsets of a chain of repositories, in directories and in an object store: read alone, from there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.integration.observatory import INSTRUMENT
from tests.integration.test_bundles import fill
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler, DatasetRef
from pantry.errors import ConflictError, DatasetNotFoundError

CHOSEN = "exposure IN (1, 2)"
COLLECTIONS = ["u/mine", "all", "best", "calib"]


@pytest.fixture
def daemon(make_daemon: Callable[..., PantryDaemon], storage_config: dict[str, Any]) -> PantryDaemon:
    return make_daemon(storage_config)


@pytest.fixture
def both(daemon: PantryDaemon, s3_root: str, short_dir: Path) -> Iterator[Butler]:
    """A release in S3, and before it one's own repository, with two datasets of it and an image in place of another."""
    with Butler.create("release", s3_root, socket=daemon.socket) as release:
        fill(release)
        refs = release.query_datasets("config", "u/one", where=CHOSEN)
        release.subset(refs, "mine", short_dir / "mine", data_ids=[{"instrument": INSTRUMENT, "detector": 0}])
    with Butler("mine", socket=daemon.socket) as mine:
        mine.register_dataset_type("image", ["exposure", "detector"], "FitsArray", metadata=["peak:float=PEAK"])
        pixels = np.full((50, 60), -1, np.float32)
        mine.put(pixels, "image", instrument=INSTRUMENT, exposure=1, detector=0, run="u/mine")
    with Butler(["mine", "release"], collections=COLLECTIONS, socket=daemon.socket) as chain:
        yield chain


def chosen(both: Butler) -> list[DatasetRef]:
    refs = both.query_datasets("image", where=CHOSEN)
    refs += both.query_datasets("config", [*COLLECTIONS, "u/one"], where=CHOSEN, find_first=False)
    return [*refs, *both.query_datasets("bias", "calib", find_first=False)]


def expected(butler: Butler) -> dict[str, Any]:
    """Read what the part has: one's own image before that of the release."""
    found: dict[str, Any] = {}
    for number in (1, 2):
        at = {"instrument": INSTRUMENT, "exposure": number}
        found[f"image {number}"] = butler.get("image", at, detector=0).tolist()
        found[f"bias {number}"] = butler.get("bias", at, detector=0)
        found[f"config {number}"] = butler.get("config", at)
    refs = butler.query_datasets(["image", "config"], where=CHOSEN)
    found["refs"] = sorted((str(ref.id), ref.run) for ref in refs)
    found["best"] = sorted(str(ref.id) for ref in butler.query_datasets("config", "best", where=CHOSEN))
    return found


@pytest.mark.req("DMS-MWBT-REQ-0011")
@pytest.mark.parametrize("where", ["directory", "s3"])
def test_a_part_of_a_chain_is_one_repository(
    make_daemon: Callable[..., PantryDaemon],
    storage_config: dict[str, Any],
    daemon: PantryDaemon,
    both: Butler,
    s3_root: str,
    short_dir: Path,
    where: str,
) -> None:
    before = expected(both)
    assert before["image 1"][0][0] == -1
    assert before["image 2"][0][0] == 2
    refs = chosen(both)
    assert {ref.repository for ref in refs} == {"mine", "release"}
    root = f"{s3_root}-part" if where == "s3" else str(short_dir / "part")
    registry = f"sqlite:///{short_dir}/part.sqlite3" if where == "s3" else ""
    done = both.subset(refs, "part", root, collections=COLLECTIONS, registry=registry)
    assert done.datasets == len({ref.id for ref in refs}) == 7
    daemon.stop()
    own = {"root": root, "registry": registry} if registry else {"root": root}
    alone = make_daemon({**storage_config, "repositories": {"part": own}})
    with Butler("part", collections=COLLECTIONS, socket=alone.socket) as part:
        assert expected(part) == before
        with pytest.raises(DatasetNotFoundError):
            part.get("image", instrument=INSTRUMENT, exposure=3, detector=0)


def test_a_run_that_differs_between_repositories_is_told_before_anything_is_made(
    both: Butler, daemon: PantryDaemon, short_dir: Path
) -> None:
    with Butler("mine", socket=daemon.socket) as mine:
        mine.put(np.zeros((5, 6), np.float32), "image", instrument=INSTRUMENT, exposure=2, detector=0, run="u/one")
    refs = both.query_datasets("image", "u/one", where=CHOSEN, find_first=False)
    with pytest.raises(ConflictError, match="'mine' and 'release' have different datasets image"):
        both.subset(refs, "part", short_dir / "part")
    assert not (short_dir / "part").exists()
    assert both.subset(both.query_datasets("image", "u/one", where=CHOSEN), "part", short_dir / "part").datasets == 2
