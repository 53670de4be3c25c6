"""The mounted view's names are those of the paths that `prepare_put` and `prepare_ingest` give."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.registry.world import create, record, sqlite_url, stored

from pantry.daemon.registry import Registry
from pantry.model.datasets import DatasetType
from pantry.wire.operations.browse import ListTree

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=0, max_size=12)
AWKWARD = st.text("ab./%_ -~\n'é1", max_size=8)
EXTENSIONS = st.sampled_from(["", ".fits", ".gz", ".fits.fz", ".5", ".a.b.c"])


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    made = create(sqlite_url(Path(tmp_path_factory.mktemp("tree"))))
    for name, dimensions in (("one", ("band",)), ("sub", ("subfilter",)), ("two", ("detector", "band"))):
        made.register_dataset_type(DatasetType(name=name, dimensions=dimensions, storage_class="FitsArray"))
    yield made
    made.close()


def walk(registry: Registry, run: str, dataset_type: str, parts: tuple[str, ...] = ()) -> dict[str, UUID]:
    """Paths of all files below a dataset type's directory; looks each name up again on the way."""
    found: dict[str, UUID] = {}
    asked = ListTree(repository="r", collection=run, dataset_type=dataset_type, parts=parts)
    for batch in registry.list_tree(asked):
        for entry in batch.entries:
            again = ListTree(repository="r", collection=run, dataset_type=dataset_type, parts=parts, name=entry.name)
            assert [one for found_batch in registry.list_tree(again) for one in found_batch.entries] == [entry]
            if batch.level:
                found |= walk(registry, run, dataset_type, (*parts, entry.name))
            else:
                assert entry.id is not None
                found["/".join([run, dataset_type, *parts, entry.name])] = entry.id
    return found


@settings(max_examples=100)
@given(
    instrument=st.one_of(TEXT, AWKWARD).filter(bool),
    bands=st.lists(st.one_of(TEXT, AWKWARD), min_size=1, max_size=4, unique=True),
    number=st.integers(-(2**63), 2**63 - 1),
    extension=EXTENSIONS,
)
def test_names_are_paths(registry: Registry, instrument: str, bands: list[str], number: int, extension: str) -> None:
    records = [
        record("instrument", name=instrument),
        record("detector", instrument=instrument, id=number, full_name=f"D{number}"),
    ]
    for band in bands:
        records += [record("band", name=band), record("subfilter", band=band, id=number)]
    registry.insert_dimension_records(records, skip_existing=True)
    run = f"run/{uuid4().hex}"
    for dataset_type, dimensions in (
        ("one", ("band",)),
        ("sub", ("band", "subfilter")),
        ("two", ("band", "instrument", "detector")),
    ):
        wanted: dict[str, UUID] = {}
        rows = [
            tuple(
                {"band": band, "subfilter": number, "detector": number, "instrument": instrument}[name]
                for name in dimensions
            )
            for band in bands
        ]
        many = registry.prepare_ingest(dataset_type, run, dimensions, rows, [extension] * len(rows))
        for row, path in zip(rows, many.paths, strict=True):
            prepared = registry.prepare_put(dataset_type, run, dict(zip(dimensions, row, strict=True)), extension)
            assert prepared.path == path
            assert ".." not in path.split("/")
            new = uuid4()
            registry.insert_datasets(run, dataset_type, [(new, prepared.data_id, stored(path))])
            wanted[path] = new
            assert registry.get_dataset(new).name == path.rsplit("/", 1)[-1]
        assert walk(registry, run, dataset_type) == wanted
