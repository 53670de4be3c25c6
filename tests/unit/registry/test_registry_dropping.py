"""A registry that is dropped: all of it, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa
from tests.servers.postgresql import PostgresqlServer
from tests.unit.registry.world import create, fill, put_all_raws, sqlite_url

from pantry.daemon.registry import Registry
from pantry.daemon.registry.dropping import drop_registry
from pantry.errors import ConflictError
from pantry.model.datasets import DatasetType
from pantry.model.metadata import MetadataEntry
from pantry.model.provenance import Quantum

THEIRS = ("data_id_9999", "metadata_1", "dimension_notes", "sky_overlap_mine", "notes")


@pytest.fixture
def url(postgresql: PostgresqlServer) -> Iterator[str]:
    with postgresql.database() as made:
        yield made


def run(url: str, *statements: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
    engine.dispose()


def tables(url: str) -> set[str]:
    engine = sa.create_engine(url)
    try:
        return set(sa.inspect(engine).get_table_names())
    finally:
        engine.dispose()


def make(url: str) -> Registry:
    registry = create(url)
    fill(registry)
    ids = put_all_raws(registry, "run")
    entry = MetadataEntry(name="seeing", type="float", key="SEEING")
    declaring = DatasetType(
        name="declaring", dimensions=("instrument",), storage_class="StructuredDataDict", metadata=(entry,)
    )
    registry.register_dataset_type(declaring)
    registry.provenance.record([Quantum(id=uuid4(), task="task", run="run", outputs=(ids[0],))])
    return registry


def test_tables_of_others_stay(url: str) -> None:
    registry = make(url)
    run(url, *[f"CREATE TABLE {name} (id INTEGER)" for name in THEIRS])
    registry.require_droppable()
    registry.close()
    assert {"quantum", "metadata_entry", "removed_file"} < tables(url)
    drop_registry(url, str(uuid4()))
    assert "quantum" in tables(url), "another repository's"
    drop_registry(url, registry.uuid)
    assert tables(url) == set(THEIRS)
    drop_registry(url, registry.uuid)


def test_what_uses_its_tables_is_named_and_stays(url: str) -> None:
    registry = make(url)
    before = tables(url)
    run(
        url,
        "CREATE SCHEMA theirs",
        "CREATE VIEW theirs.recent AS SELECT path FROM dataset",
        "CREATE VIEW theirs.runs AS SELECT name FROM collection",
        "CREATE TABLE notes (dataset_id BIGINT REFERENCES dataset (id), note TEXT)",
    )
    for refused in (registry.require_droppable, lambda: drop_registry(url, registry.uuid)):
        with pytest.raises(ConflictError, match=r"use its tables: notes, theirs\.recent, theirs\.runs") as caught:
            refused()
        assert "drop them" in caught.value.hint
    assert tables(url) == before | {"notes"}
    run(url, "DROP VIEW theirs.recent", "DROP VIEW theirs.runs", "DROP TABLE notes")
    registry.require_droppable()
    registry.close()
    drop_registry(url, registry.uuid)
    assert tables(url) == set()


def test_a_file_goes_with_its_registry_only(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path)
    registry = make(url)
    registry.require_droppable()
    registry.close()
    drop_registry(url, str(uuid4()))
    assert len(list(tmp_path.iterdir())) > 0
    drop_registry(url, registry.uuid)
    assert list(tmp_path.iterdir()) == []
    drop_registry(url, registry.uuid)
    assert list(tmp_path.iterdir()) == []
