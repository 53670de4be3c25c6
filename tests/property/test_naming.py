"""Names never collide (DMS-MWBT-REQ-0078)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantry.model.naming import dataset_path, directory_parts, extension_of, file_name, quote_value, unquote_value

VALUES = st.one_of(st.integers(-(2**63), 2**63 - 1), st.text(max_size=20))


@given(st.text(max_size=40))
def test_quoting_is_reversible_and_safe(value: str) -> None:
    quoted = quote_value(value)
    assert unquote_value(quoted) == value
    assert quoted
    assert "/" not in quoted
    assert "\0" not in quoted
    assert not quoted.startswith(".")
    assert quoted.isascii()


@given(st.text(max_size=40))
def test_unquoting_accepts_only_what_quoting_writes(name: str) -> None:
    value = unquote_value(name)
    assert value is None or quote_value(value) == name


@pytest.mark.req("DMS-MWBT-REQ-0078")
@given(st.tuples(VALUES, VALUES, VALUES), st.tuples(VALUES, VALUES, VALUES))
def test_two_data_ids_never_share_a_path(one: tuple[int | str, ...], other: tuple[int | str, ...]) -> None:
    if [str(value) for value in one] != [str(value) for value in other]:
        assert dataset_path("run", "raw", one, ".fits") != dataset_path("run", "raw", other, ".fits")


def test_a_raw_is_called_as_people_expect() -> None:
    values = ["LSSTCam", 2025041500228, 94]
    assert directory_parts("raw", values) == ("raw", "LSSTCam", "2025041500228")
    assert file_name("raw", values, ".fits") == "raw_LSSTCam_2025041500228_94.fits"


@pytest.mark.parametrize(
    ("path", "extension"),
    [
        ("a/b.fits", ".fits"),
        ("a.b/c", ""),
        ("x.fits.fz", ".fits.fz"),
        ("x.gz", ".gz"),
        ("R22_S00.1.gz", ".gz"),
        (".hidden", ""),
        ("trailing.", ""),
    ],
)
def test_extension_of(path: str, extension: str) -> None:
    assert extension_of(path) == extension
