"""Names never collide (DMS-MWBT-REQ-0078)."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantry.model.data_id import DataCoordinate
from pantry.model.datasets import DatasetRef, DatasetType
from pantry.model.naming import (
    dataset_path,
    directory_parts,
    extension_of,
    file_name,
    name_in_format,
    parse_validity,
    quote_value,
    unquote_value,
    validity_name,
)
from pantry.model.timespan import ALL_TIMES, BEGIN_NS, END_NS, Timespan

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


ORDERS = st.permutations(range(3))
SUFFIXES = st.sampled_from(["", ".fits", ".gz", ".fits.fz", ".ome.tiff"])


@pytest.mark.req("DMS-MWBT-REQ-0078")
@given(st.tuples(VALUES, VALUES, VALUES), ORDERS, SUFFIXES, SUFFIXES)
def test_only_the_suffix_follows_another_format(
    values: tuple[int | str, ...], order: list[int], stored: str, wanted: str
) -> None:
    kind = DatasetType(name="raw.wcs", dimensions=("a", "b", "c"), storage_class="Bytes")
    data_id = DataCoordinate(("a", "b", "c"), values)
    ref = DatasetRef(id=UUID(int=1), dataset_type=kind, data_id=data_id, run="r")
    ordered = [values[number] for number in order]
    name = dataset_path("r", kind.name, ordered, stored)
    assert name_in_format(name, ref, wanted) == dataset_path("r", kind.name, ordered, wanted)
    with pytest.raises(ValueError, match="is no name of"):
        name_in_format(name.replace("raw.wcs_", "bias.wcs_"), ref, wanted)


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


INSTANTS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**33), 2**33).map(lambda seconds: seconds * 1_000_000_000),
    st.sampled_from([BEGIN_NS, END_NS, BEGIN_NS + 1, END_NS - 1]),
)


@given(INSTANTS, INSTANTS)
def test_times_of_validity_have_names_of_their_own(one: int, other: int) -> None:
    span = Timespan(min(one, other), max(one, other))
    name = validity_name(span)
    assert parse_validity(name) == span
    assert quote_value(name) == name


@given(
    st.one_of(st.text(max_size=40), st.from_regex(r"(open|\d{8}T\d{6}(\.\d{9})?)_(open|\d{8}T\d{6})\Z", fullmatch=True))
)
def test_no_other_name_is_a_time_of_validity(name: str) -> None:
    span = parse_validity(name)
    assert span is None or validity_name(span) == name


def test_times_of_validity_are_read_by_people() -> None:
    day = 86_400_000_000_000
    assert validity_name(ALL_TIMES) == "open_open"
    assert validity_name(Timespan(20193 * day, END_NS)) == "20250415T000000_open"
    assert validity_name(Timespan(BEGIN_NS, 20193 * day + 5)) == "open_20250415T000000.000000005"
    for wrong in (
        "20250415T000000",
        "20250230T000000_open",
        "_",
        "open_",
        "open_open_open",
        "20250415T000000.000000000_open",
    ):
        assert parse_validity(wrong) is None
    assert parse_validity("20250415T000001_20250415T000000") is None
