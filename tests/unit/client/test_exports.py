"""Exports of strangers: what is read of them, what is refused and where."""

from __future__ import annotations

import contextlib
import io
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pantry.client.exports import planning, values
from pantry.client.exports.contents import Contents, read_contents
from pantry.client.exports.files import ExportedFiles
from pantry.client.exports.migrations import migrate
from pantry.client.exports.planning import Plan, PlannedFile
from pantry.client.exports.records import make_records
from pantry.client.exports.values import EMPTY, ExportError, Instant, Region
from pantry.daemon.registry import default_universe
from pantry.model.dimensions import DimensionUniverse
from pantry.model.timespan import Timespan

HEAD = "description: Butler Data Repository Export\nversion: 1.0.2\nuniverse_version: 8\ndata:\n"
UNIVERSE = DimensionUniverse(default_universe())


def read(text: str) -> Contents:
    return read_contents(io.BytesIO(text.encode()), "e.yaml")


def record(text: str) -> Any:
    """Read one value, as a column of a record."""
    found = read(f"{HEAD}- {{type: dimension, element: x, records: [{{value: {text}}}]}}\n")
    return found.records["x"][0]["value"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("0x10", 16),
        ("1.5e+3", 1500.0),
        ("'12'", "12"),
        ("null", None),
        ("yes", True),
        ("!!binary aGk=", b"hi"),
        ("!!str 5", "5"),
        ("!butler_time/tai/iso '1970-01-02 00:00:01.000000005'", Instant(86_401_000_000_005)),
        ("!butler_time/tai/iso '1960-01-02'", Instant(0)),
        ("2017-01-01 00:00:00", Instant(1_483_228_837_000_000_000)),
        ("!<lsst.sphgeom.Circle> {encoded: 6300ff}", Region(b"\x63\x00\xff")),
        ("!<!lsst.daf.butler.Timespan> {begin: null, end: null}", Timespan(values.BEGIN_NS, values.END_NS)),
        ("!lsst.daf.butler.Timespan 'EMPTY'", EMPTY),
    ],
)
def test_values(text: str, value: object) -> None:
    found = record(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("!!python/object/apply:os.system ['echo']", "python/object"),
        ("!!python/name:os.system ''", "python/name"),
        ("!<lsst.sphgeom.HtmPixelization> {level: 5}", "HtmPixelization"),
        ("!<lsst.sphgeom.Circle> {encoded: xyz}", "sphgeom.Circle"),
        ("!<lsst.sphgeom.Circle> {level: 1}", "has 'encoded'"),
        ("!uuid 'no'", "badly formed"),
        ("!!set {a, b}", "set"),
        ("{<<: {a: 1}}", "merged mappings"),
        ("{a: 1, a: 2}", "twice"),
        ("*nothing", "nothing"),
        ("1" * 5000, "a number of more than"),
        ("'" + "a" * (values.MAX_SCALAR + 1) + "'", "more than 1048576 characters"),
        ("[" * 30 + "]" * 30, "more than 12 lists"),
        ("!butler_time/tai/iso '2020-13-40 99:00:00'", "bad value"),
        ("2020-01-01", "a date without its time"),
        ("{[1]: 2}", "a key is text"),
        ("!lsst.daf.butler.Timespan {begin: 5, end: null}", "times or null"),
        ("!!int abc", "bad value"),
    ],
)
def test_refused_values_are_named_with_their_line(text: str, said: str) -> None:
    with pytest.raises(ExportError) as caught:
        record(text)
    assert said in caught.value.message
    assert "e.yaml, line 5, column " in caught.value.message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not an export"),
        ("[1, 2]", "not an export"),
        ("a: 1", "no 'version'"),
        ("version: 2\nuuid: x", "no 'data'"),
        ("version: 2.0.0\ndata: []", "version '2.0.0'"),
        ("version: 1.1.0\ndata: []", "version '1.1.0'"),
        ("version: 0\ndata: 5", "'data' is not a list"),
        ("version: 0\ndata:\n- {type: magic}", "line 3: unknown type of item 'magic'"),
        ("version: 0\ndata: [", "line 3, column 1: not YAML"),
        ("version: 0\n--- \nversion: 0", "second document"),
        ("version: 0\ndata:\n- {type: dimension, element: x, records: [5]}", "line 3: a record of x"),
        ("version: 0\ndata:\n- {type: run, name: ../x}", "line 3: bad collection name"),
        ("\x00", "not YAML"),
        ("version: 0\ndata: []\nuniverse_version: x", "universe_version is an integer"),
    ],
)
def test_what_is_no_export(text: str, said: str) -> None:
    with pytest.raises(ExportError, match="e.yaml") as caught:
        read(text)
    assert said in caught.value.message


def test_aliases_cannot_multiply() -> None:
    levels = "".join(f"b{n}: &b{n} [{','.join([f'*b{n - 1}'] * 10)}]\n" for n in range(1, 9))
    with pytest.raises(ExportError, match="an alias for more than 16 values"):
        read("version: 0\nb0: &b0 [a, a, a, a]\n" + levels)
    tracemalloc.start()
    with pytest.raises(ExportError):
        read("version: 0\nb0: &b0 [a, a, a, a]\n" + levels)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_an_alias_of_a_time_is_read() -> None:
    found = record("&t !butler_time/tai/iso '1970-01-01 00:00:01', other: *t")
    assert found == Instant(1_000_000_000)


def test_a_file_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "MAX_BYTES", 100_000)

    class Endless(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            return b"#" * size

    with pytest.raises(ExportError, match="longer than 100000 bytes"):
        read_contents(Endless(), "e.yaml")


# -- records, types, datasets ----------------------------------------------------------------------


def records(text: str, skip: tuple[str, ...] = ()) -> list[Any]:
    return list(make_records(read(HEAD + text), UNIVERSE, skip))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- {type: dimension, element: moon, records: [{a: 1}]}", "line 5: the repository has no dimension element"),
        (
            "- {type: dimension, element: detector, records: [{instrument: A, id: x}]}",
            "line 5: detector.id is an integer, not 'x'",
        ),
        (
            "- {type: dimension, element: detector, records: [{instrument: A, id: 1, shape: 4}]}",
            "line 5: records of detector have no 'shape' here",
        ),
        (
            "- type: dimension\n  element: visit\n  records:\n  - {instrument: A, id: 1}\n"
            "  - {instrument: A, id: 2, region: 5}\n",
            "line 9: visit.region is a region",
        ),
        (
            "- {type: dimension, element: detector, records: [{instrument: A, id: 1, detector: 2}]}",
            "two values for 'id'",
        ),
        ("- {type: dimension, element: detector, records: [{instrument: A, id: 1, raft: 054}]}", "raft is text"),
    ],
)
def test_records_that_do_not_fit(text: str, said: str) -> None:
    with pytest.raises(ExportError) as caught:
        records(text)
    assert said in caught.value.message
    assert records(text, ("moon", "detector", "visit")) == []


def plan(text: str, **storage_classes: str) -> Plan:
    return Plan(read(HEAD + text), UNIVERSE, {}, {}, storage_classes)


TYPE = "- {type: dataset_type, name: bias, dimensions: [instrument, detector], storage_class: Exposure}\n"
ID = "!uuid e15ab039-bc8b-4135-87c5-90902a7c0b22"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- {type: dataset_type, name: a, dimensions: [moon], storage_class: Exposure}", "dimension 'moon'"),
        ("- {type: dataset_type, name: a, dimensions: [], storage_class: Moon}", "storage class 'Moon'"),
        (TYPE + TYPE.replace("Exposure", "Image"), "line 6: the dataset type 'bias' is another one in line 5"),
        (f"- {{type: dataset, dataset_type: x, run: r, records: [{{dataset_id: {ID}, data_id: {{}}}}]}}", "neither in"),
        (
            TYPE + f"- {{type: dataset, dataset_type: bias, run: r, records: [{{dataset_id: {ID}, data_id: {{}}}}]}}",
            "line 6: the data id of a bias lacks instrument, detector",
        ),
        (
            TYPE + "- {type: dataset, dataset_type: bias, run: r, records: [{dataset_id: 1.5, data_id: {}}]}",
            "is a !uuid or a number",
        ),
        ("- {type: collection, collection_type: CHAINED, name: c, children: [d]}", "chain 'c' has 'd'"),
        (
            "- {type: collection, collection_type: TAGGED, name: t}\n"
            f"- {{type: associations, collection: t, collection_type: TAGGED, dataset_ids: [{ID}]}}",
            "line 6: 't' has a dataset that is not in the export",
        ),
        (
            "- type: associations\n  collection: t\n  collection_type: CALIBRATION\n  validity_ranges:\n"
            "  - {timespan: !lsst.daf.butler.Timespan EMPTY, dataset_ids: []}",
            "line 9: datasets that are valid at no time",
        ),
    ],
)
def test_what_cannot_be_planned(text: str, said: str) -> None:
    with pytest.raises(ExportError) as caught:
        plan(text)
    assert said in caught.value.message


def test_ids_that_are_numbers_become_those_of_gen3() -> None:
    found = plan(
        TYPE + "- {type: dataset, dataset_type: bias, run: r, "
        "records: [{dataset_id: 7, data_id: {detector: 1, instrument: A, band: g}}]}"
    )
    (group,) = found.groups
    # uuid3 in the namespace that lsst-daf-butler uses; tests/oracle compares with what it makes.
    assert group.files[0].ids[0].hex() == "84438d17690c3b4da52861850703f1f4"
    assert (group.dimensions, group.files[0].values) == (("instrument", "detector"), (("A", 1),))


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a/../../x", "file:///etc/passwd", "s3://bucket/x", "x\0y", "a/..", "."]
)
def test_files_outside_of_the_directory_are_refused(path: str) -> None:
    finder = ExportedFiles(read("version: 0\ndata: []"), "/exports/night", {})
    with pytest.raises(ExportError, match="line 3"):
        finder.path(PlannedFile(3, (), (), path, ""))


def test_files_below_the_directory_are_found() -> None:
    finder = ExportedFiles(read("version: 0\ndata: []"), "/exports/night", {})
    for path in ("a/b.fits", "/exports/night/a/b.fits", "file:///exports/night/a/b.fits", "a/../a/b.fits"):
        assert finder.path(PlannedFile(3, (), (), path, "")) == "/exports/night/a/b.fits"


def test_formatters_without_an_equal_are_refused_by_name() -> None:
    text = HEAD + "- {type: dataset_type, name: skyMap, dimensions: [skymap], storage_class: SkyMap}\n"
    pickled = PlannedFile(9, (), (), "a.pickle", "lsst.daf.butler.formatters.pickle.PickleFormatter")
    mapped = Plan(read(text), UNIVERSE, {}, {}, {"SkyMap": "Bytes"})
    (kind,) = mapped.dataset_types
    assert ExportedFiles(read(text), "/e", {"SkyMap": "Bytes"}).formatter(pickled, kind) == ""
    with pytest.raises(ExportError, match=r"line 9: the formatter '.*PickleFormatter' of skyMap"):
        ExportedFiles(read(text), "/e", {}).formatter(pickled, kind)
    assert ExportedFiles(read(text), "/e", {}).formatter(pickled._replace(path="a.fits", formatter="x"), kind)


# -- anything at all -------------------------------------------------------------------------------

SAMPLE = (
    HEAD
    + f"""\
- {{type: dimension, element: detector, records: [{{instrument: A, id: 1_0, full_name: "D", purpose: 'S'}}]}}
- type: dimension
  element: visit
  records:
  - instrument: A
    id: 1
    datetime_begin: 2020-01-02 03:04:05.6 +2
    datetime_end: &t !butler_time/tai/iso '2020-01-02 03:05:05.5'
    region: !<lsst.sphgeom.Circle> {{encoded: '00'}}
    exposure_time: 1.5e+1
- {{type: collection, collection_type: CALIBRATION, name: c, doc: *t}}
- {{type: run, name: r}}
{TYPE}- type: dataset
  dataset_type: bias
  run: r
  records:
  - {{dataset_id: [{ID}, 5], data_id: [{{instrument: A, detector: 1}}, {{instrument: A, detector: 2}}], path: x}}
- type: associations
  collection: c
  collection_type: CALIBRATION
  validity_ranges:
  - {{timespan: !lsst.daf.butler.Timespan {{begin: *t, end: null}}, dataset_ids: [{ID}]}}
"""
)


def take(content: bytes) -> None:
    """Read, migrate and plan."""
    contents = read_contents(io.BytesIO(content), "e.yaml")
    migrate(contents, UNIVERSE)
    list(make_records(contents, UNIVERSE, ()))
    Plan(contents, UNIVERSE, {}, {}, {})


def test_the_sample_is_read() -> None:
    take(SAMPLE.encode())


@settings(max_examples=300, derandomize=True, database=None)
@given(st.binary(max_size=200))
def test_any_bytes(content: bytes) -> None:
    with pytest.raises(ExportError, match=r"e\.yaml"):
        take(content)


_SCRAPS = [*"~[]{}'\"=\n\t\0", "", ": ", "- ", "*t", "&t ", "<<", "!!int ", "!!float ", "!!bool ", "!!binary "]
_SCRAPS += ["!uuid ", "!!timestamp ", "!butler_time/tai/iso ", "!lsst.daf.butler.Timespan ", "null", "1e999", "-1"]
_SCRAPS += ["9" * 30, "2020-02-30", "2020-01-02 25:61:61", "12:99:99", "190:20:30", ".inf", "0b1", "08", "a-b"]
_SCRAPS += ["universe_version: 0\n", "%YAML 1.1\n"]


@settings(max_examples=1000, derandomize=True, database=None)
@given(
    st.lists(
        st.tuples(st.integers(0, len(SAMPLE)), st.integers(0, 12), st.sampled_from(_SCRAPS)), min_size=1, max_size=2
    )
)
def test_any_change_of_an_export(changes: list[tuple[int, int, str]]) -> None:
    text = SAMPLE
    for place, length, scrap in changes:
        text = text[:place] + scrap + text[place + length :]
    # A change may leave an export; every error says where it is.
    with contextlib.suppress(ExportError):
        take(text.encode())


def test_a_collection_of_many_members_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "_IDS_AT_ONCE", 2)
    numbers = range(1, 6)
    records = ", ".join(f"{{dataset_id: {n}, data_id: {{instrument: A, detector: {n}}}}}" for n in numbers)
    made = plan(
        f"{TYPE}- {{type: dataset, dataset_type: bias, run: r, records: [{records}]}}\n"
        "- {type: collection, collection_type: TAGGED, name: t}\n"
        "- {type: associations, collection: t, collection_type: TAGGED, dataset_ids: [1, 2, 3, 4, 5]}\n"
    )
    assert [len(one.ids) for one in made.members] == [32, 32, 16]
    assert b"".join(one.ids for one in made.members) == b"".join(
        file.ids[0] for group in made.groups for file in group.files
    )
