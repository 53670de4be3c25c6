from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantry.client.formatters import BUILTIN_FORMATTERS, ReadSource, formatter_by_name
from pantry.errors import DaemonUnavailableError, FormatterError

from .formatters_support import read, round_trip, source_of, write

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
)
TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20)
TREES = st.recursive(
    SCALARS | TEXT, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=20
)


def in_memory(name: str, obj: object) -> Any:
    with tempfile.TemporaryDirectory() as directory:
        return round_trip(name, obj, Path(directory, "x"))


@pytest.mark.parametrize("name", ["json", "yaml"])
@given(tree=TREES)
def test_trees_round_trip(name: str, tree: object) -> None:
    assert in_memory(name, tree) == tree


@pytest.mark.parametrize("name", ["json", "yaml"])
def test_numpy_scalars_become_numbers_and_key_order_stays(name: str, tmp_path: Path) -> None:
    found = round_trip(name, {"z": np.float64(1.5), "a": np.int32(2), "t": (np.bool_(True), "x")}, tmp_path / "f")
    assert found == {"z": 1.5, "a": 2, "t": [True, "x"]}
    assert list(found) == ["z", "a", "t"]


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        ({"a": [1.0, float("nan")]}, r"\$\.a\[1\].*nan"),
        ({"a": np.float32("inf")}, r"\$\.a.*inf"),
        ({1: 2}, "1 as a key"),
        ({"a": b"x"}, "builtins.bytes"),
        ({"a": object()}, "builtins.object"),
        (1 << 70, "64 bits"),
        ("\ud800", "cannot be written as JSON"),
    ],
)
def test_json_refuses_what_it_would_change(obj: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(FormatterError, match=message):
        write("json", obj, tmp_path / "f")


def test_yaml_runs_no_code(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("!!python/object/apply:os.system ['true']")
    with pytest.raises(FormatterError, match=r"dataset f cannot be read as YAML"):
        read("yaml", path)


@pytest.mark.parametrize("name", sorted(set(BUILTIN_FORMATTERS) - {"bytes", "yaml"}))
@pytest.mark.parametrize("content", [b"", b"\x00\xff garbage \x80" * 999], ids=["empty", "garbage"])
def test_a_broken_file_is_named(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken"
    path.write_bytes(content)
    with pytest.raises(FormatterError, match="dataset broken") as caught:
        read(name, path)
    assert caught.value.hint


@pytest.mark.parametrize("name", sorted(BUILTIN_FORMATTERS))
def test_unknown_parameters_components_and_types_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x")
    with pytest.raises(FormatterError, match="no component 'nonsense'"):
        read(name, path, "nonsense")
    with pytest.raises(FormatterError, match="unknown read parameters nonsense"):
        read(name, path, nonsense=1)
    with pytest.raises(FormatterError, match="accepted:"):
        write(name, object(), path)


def test_bytes_of_any_kind(tmp_path: Path) -> None:
    for obj in (b"abc", bytearray(b"abc"), memoryview(b"abc"), io.BytesIO(b"abc")):
        assert round_trip("bytes", obj, tmp_path / "f") == b"abc"


def test_an_error_of_the_reader_stays_what_it_is() -> None:
    class Failing(io.RawIOBase):
        position = 0

        def readable(self) -> bool:
            return True

        def seekable(self) -> bool:
            return True

        def seek(self, offset: int, whence: int = 0) -> int:
            self.position = (0, self.position, 500_000)[whence] + offset
            return self.position

        def tell(self) -> int:
            return self.position

        def readinto(self, buffer: Any) -> int:
            raise DaemonUnavailableError("gone")

    source = ReadSource(name="x", size_bytes=500_000, opener=Failing)  # type: ignore[arg-type]
    for name in sorted(BUILTIN_FORMATTERS):
        with pytest.raises(DaemonUnavailableError):
            formatter_by_name(name).read(source, component=None, parameters={})


def test_unknown_formatter_lists_the_known() -> None:
    with pytest.raises(FormatterError, match="known: bytes, composite, csv, ecsv"):
        formatter_by_name("nonsense")


def test_importing_loads_no_format_library() -> None:
    script = (
        "import sys, pantry.client, pantry.client.formatters, pantry.client.instruments, pantry.client.simulation;"
        "heavy = {'astropy', 'numpy', 'pyarrow', 'h5py', 'yaml', 'pandas'};"
        "print(*sorted({m.partition('.')[0] for m in sys.modules} & heavy))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_source_without_path_or_reader_says_so() -> None:
    with pytest.raises(FormatterError, match="neither a path nor a reader"):
        ReadSource(name="x", size_bytes=1).open()


def test_source_of_a_path_reads(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    with source_of(tmp_path / "f").open() as file:
        assert file.read() == b"abc"
