from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from tests.unit.registry.world import create, sqlite_url

from pantry.daemon.registry import Registry, default_universe
from pantry.errors import BackendError, ConfigError, ConflictError, RepositoryNotFoundError, TransientBackendError
from pantry.model.collections import CollectionType
from pantry.model.dimensions import DimensionUniverse


def test_a_registry_is_found_again_as_it_was_made(registry_url: str) -> None:
    made = create(registry_url)
    made.close()
    found = Registry.open(registry_url)
    assert (found.uuid, found.version) == (made.uuid, 2)
    assert list(found.universe.elements) == list(made.universe.elements)
    found.close()


def test_a_registry_is_not_made_over_another(registry_url: str) -> None:
    create(registry_url).close()
    with pytest.raises(ConflictError, match="a registry already"):
        create(registry_url)


def test_nothing_is_no_registry(tmp_path: Path) -> None:
    with pytest.raises(RepositoryNotFoundError):
        Registry.open(sqlite_url(tmp_path))


def test_a_data_model_of_before_the_first_release_is_refused(tmp_path: Path) -> None:
    create(sqlite_url(tmp_path)).close()
    with sqlite3.connect(tmp_path / "registry.sqlite3") as connection:
        connection.execute("UPDATE repository_attributes SET value = '1' WHERE key = 'version'")
    connection.close()
    with pytest.raises(ConfigError, match="data model version 1, of Pantry before its first release"):
        Registry.open(sqlite_url(tmp_path))


def test_a_newer_data_model_is_refused(tmp_path: Path) -> None:
    create(sqlite_url(tmp_path)).close()
    with sqlite3.connect(tmp_path / "registry.sqlite3") as connection:
        connection.execute("UPDATE repository_attributes SET value = '3' WHERE key = 'version'")
    connection.close()
    with pytest.raises(ConfigError, match="data model version 3") as caught:
        Registry.open(sqlite_url(tmp_path))
    assert "update Pantry" in caught.value.hint


@pytest.mark.parametrize("url", ["sqlite://", "mysql://x/y", "not a url", "sqlite:///:memory:"])
def test_urls_that_cannot_hold_a_registry(url: str) -> None:
    with pytest.raises(ConfigError):
        Registry.open(url)


def test_a_password_is_never_shown() -> None:
    with pytest.raises(BackendError) as caught:
        Registry.open("postgresql+psycopg://me:hunter2@127.0.0.1:1/nowhere")
    assert "hunter2" not in str(caught.value) + repr(caught.value.fields)


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TransientBackendError):
        Registry.open(f"sqlite:///{tmp_path}/no/registry.sqlite3")


def test_a_closed_registry_says_so(registry_url: str) -> None:
    registry = create(registry_url)
    registry.close()
    with pytest.raises(TransientBackendError, match="closed"):
        registry.register_collection("x", CollectionType.RUN)
    registry.close()


def test_sqlite_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    create(sqlite_url(tmp_path)).close()
    registry = Registry.open(sqlite_url(tmp_path))
    with registry._database.reading() as session:
        wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
        found = {name: session.connection.execute(f"PRAGMA {name}").fetchone()[0] for name in wanted}
    registry.close()
    assert found == wanted


def test_the_default_universe_has_the_field_s_dimensions() -> None:
    universe = DimensionUniverse(default_universe())
    assert universe.group(["exposure", "detector"]).names == (
        "instrument", "detector", "exposure", "band", "day_obs", "group", "physical_filter",
    )  # fmt: skip
    assert universe["visit"].temporal
    assert universe["patch"].spatial
    assert universe["visit_definition"].always_join
    assert {"htm7", "healpix17"} <= set(universe.elements)
