"""Files that say what is stored in which format: what is found when they are loaded, and what wins."""

from __future__ import annotations

from pathlib import Path

import pytest

from pantry.client.butler.forms import user_formats
from pantry.client.formatters import BUILTIN_FORMATTERS, formatter_by_name
from pantry.errors import ConfigError, DatasetTypeError
from pantry.model.builtin_formats import BUILTIN_FORMATS
from pantry.model.formats import Form, Formats, StoredForm, TypeForm, stored_form
from pantry.model.storage import STORAGE_CLASSES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dataset_type: {}", "unknown key 'dataset_type'"),
        ("dataset_types: {a: {formatter: jsn}}", "unknown formatter 'jsn'"),
        (
            "dataset_types: {a: {formatter: json, write: {indent: wide}}}",
            "a.write: write options of json",
        ),
        ("dataset_types: {a: {formatter: parquet, write: {codec: zstd}}}", "unknown field `codec`"),
        ("dataset_types: {a: {formatter: json, extension: .fits}}", "'.fits' is no suffix of json"),
        ("dataset_types: {a: {formatter: json, extension: /../x}}", "cannot be the suffix of a file"),
        ("dataset_types: {a: {formatter: json, python_type: pandas.DataFrame}}", "json has no pandas.DataFrame"),
        ("dataset_types: {a: {write: {indent: 2}}}", "need formatter beside them"),
        ("storage_classes: {New: {formatter: json}}", "has formatter and python_type"),
        ("storage_classes: {'a b': {formatter: json, python_type: dict}}", "one word"),
        (
            "dataset_types: {a: {formatter: fits_image, write: {compression: rice, quantize_level: 0}}}",
            "needs gzip or gzip_2",
        ),
    ],
)
def test_mistakes_are_found_when_a_file_is_loaded(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        user_formats(path)
    assert caught.value.message.startswith(str(path))
    assert message in caught.value.message


def test_what_is_said_last_and_nearest_wins() -> None:
    own = Formats(
        storage_classes={"DataFrame": Form(formatter="hdf5", write={"compression": "gzip"})},
        dataset_types={"s*": TypeForm(python_type="astropy.table.Table"), "src": TypeForm(python_type="pyarrow.Table")},
    )
    repository = Formats(
        storage_classes={"DataFrame": Form(formatter="hdf5", extension=".hdf5", write={"shuffle": False})},
        dataset_types={"src_*": TypeForm(formatter="fits_table")},
    )
    layers = (own, repository)
    mixed: dict[str, object] = {"compression": "gzip", "shuffle": False}
    assert stored_form("src", "DataFrame", layers) == StoredForm(
        formatter="hdf5", extension=".hdf5", python_type="pyarrow.Table", write=mixed
    )
    # The user's storage class comes before the repository's dataset type; without it, that holds.
    assert stored_form("src_all", "DataFrame", layers).formatter == "hdf5"
    assert stored_form("src_all", "DataFrame", (repository,)) == StoredForm(
        formatter="fits_table", extension=".fits", python_type="pandas.DataFrame"
    )
    assert stored_form("other", "DataFrame", ()) == StoredForm(
        formatter="parquet", extension=".parq", python_type="pandas.DataFrame"
    )
    with pytest.raises(DatasetTypeError, match="unknown storage class 'No'"):
        stored_form("other", "No", layers)


def test_the_facts_about_formats_are_those_of_the_formatters() -> None:
    assert BUILTIN_FORMATS.keys() == BUILTIN_FORMATTERS.keys()
    for name, known in BUILTIN_FORMATS.items():
        assert not known.extensions or formatter_by_name(name).extension == known.extensions[0]
    for kind in STORAGE_CLASSES.values():
        known = BUILTIN_FORMATS[kind.formatter]
        assert kind.python_type in known.python_types
        assert not known.extensions or kind.extension in known.extensions
