"""Tables of an operator's beside the registry's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from tests.unit.registry.test_registry_queries import data_ids
from tests.unit.registry.world import CAMERA, DETECTORS, EXPOSURES, create, fill, put, put_all_raws, record, rows_of

from pantry.daemon.registry import Registry
from pantry.daemon.registry.operator_tables import OperatorTable
from pantry.errors import InvalidQueryError, PermissionDeniedError
from pantry.wire.operations.registry import QueryDimensionRecords

SEEING = dict(zip(EXPOSURES, (0.6, 0.7, 0.8, None, 1.1), strict=False))
"""Of all exposures but the last, which the table does not know."""
FLAGS = [(EXPOSURES[0], 0, "streak"), (EXPOSURES[0], 0, "ghost"), (EXPOSURES[1], 94, "ghost")]

QUALITY = OperatorTable(
    name="quality", table="exposure_quality", key={"exposure": "exp_id"}, fixed={"instrument": CAMERA}
)
FLAGGED = OperatorTable(
    name="flagged", table="flags", key={"instrument": "camera", "exposure": "exp", "detector": "ccd"}
)
VISITS = OperatorTable(name="visits", table="visit_list", key={"instrument": "camera", "visit": "number"})
MISSING = OperatorTable(name="missing", table="no_such_table", key={"instrument": "camera"})


@pytest.fixture
def made(registry_url: str) -> Iterator[tuple[Registry, Callable[[str], None]]]:
    first = create(registry_url)
    fill(first)
    put_all_raws(first, "run")
    first.close()
    url = registry_url.replace("postgresql://", "postgresql+psycopg://")
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "CREATE TABLE exposure_quality (exp_id BIGINT PRIMARY KEY, seeing DOUBLE PRECISION,"
                ' airmass NUMERIC(5, 2), verdict VARCHAR(20), good BOOLEAN, taken DATE, "strange name" INTEGER)'
            )
        )
        connection.execute(
            sa.text("INSERT INTO exposure_quality VALUES (:e, :s, 1.25, :v, :g, NULL, 1)"),
            [
                {"e": exposure, "s": seeing, "v": "good" if seeing else None, "g": bool(seeing and seeing < 1)}
                for exposure, seeing in SEEING.items()
            ],
        )
        connection.execute(sa.text("CREATE TABLE flag (camera VARCHAR(20), exp BIGINT, ccd BIGINT, what VARCHAR(20))"))
        connection.execute(
            sa.text("INSERT INTO flag VALUES (:c, :e, :d, :w)"),
            [{"c": CAMERA, "e": exposure, "d": detector, "w": what} for exposure, detector, what in FLAGS],
        )
        connection.execute(sa.text("CREATE VIEW flags AS SELECT * FROM flag"))
        connection.execute(sa.text("CREATE TABLE visit_list (camera VARCHAR(20), number BIGINT, depth INTEGER)"))
        connection.execute(
            sa.text("INSERT INTO visit_list VALUES (:c, :v, :d)"),
            [{"c": CAMERA, "v": visit, "d": visit % 7} for visit in EXPOSURES],
        )

    def change(sql: str) -> None:
        with engine.begin() as connection:
            connection.execute(sa.text(sql))

    registry = Registry.open(registry_url, tables=[QUALITY, FLAGGED, VISITS, MISSING])
    yield registry, change
    registry.close()
    engine.dispose()


@pytest.fixture
def registry(made: tuple[Registry, Any]) -> Registry:
    return made[0]


def found(registry: Registry, where: str, **more: object) -> list[tuple[object, object]]:
    return [(row["exposure"], row["detector"]) for row in rows_of(registry, where=where, **more)]


def every(*exposures: int) -> list[tuple[int, int]]:
    return [(exposure, detector) for exposure in exposures for detector in DETECTORS]


@pytest.mark.req("DMS-MWBT-REQ-0088")
@pytest.mark.req("DMS-MWBT-REQ-0089")
def test_datasets_by_values_of_another_table(made: tuple[Registry, Callable[[str], None]]) -> None:
    registry, change = made
    assert sorted(found(registry, "quality.seeing < 0.75")) == every(*EXPOSURES[:2])
    assert sorted(found(registry, "seeing >= 0.75 AND quality.airmass > 1.2")) == every(EXPOSURES[2], EXPOSURES[4])
    assert sorted(found(registry, "quality.verdict = 'good' AND detector = 94")) == [
        (exposure, 94) for exposure in (*EXPOSURES[:3], EXPOSURES[4])
    ]
    assert sorted(found(registry, "quality.good AND exposure.seq_num > 1")) == every(*EXPOSURES[1:3])
    # An exposure that the table does not know has no verdict either.
    assert sorted(found(registry, "quality.verdict IS NULL")) == every(EXPOSURES[3], EXPOSURES[5])
    # Leaving out what is flagged as bad leaves what nobody has assessed.
    assert sorted(found(registry, "NOT (quality.verdict IS NULL)")) == every(*EXPOSURES[:3], EXPOSURES[4])
    change("UPDATE exposure_quality SET seeing = 2 WHERE seeing < 0.65")
    assert sorted(found(registry, "quality.seeing < 0.75")) == every(EXPOSURES[1])


def test_sorted_by_another_table(registry: Registry) -> None:
    expected = [4, 2, 1, 0]
    rows = found(registry, "detector = 0 AND seeing > 0", order_by=("-quality.seeing",))
    assert rows == [(EXPOSURES[number], 0) for number in expected]
    ids = data_ids(registry, "exposure", where="quality.seeing < 1", order_by=("-quality.seeing",), limit=2)
    assert [row["exposure"] for row in ids] == [EXPOSURES[2], EXPOSURES[1]]


@pytest.mark.req("DMS-MWBT-REQ-0089")
def test_several_rows_give_each_result_once(registry: Registry) -> None:
    assert found(registry, "flagged.what IN ('streak', 'ghost')", order_by=("exposure",)) == [
        (EXPOSURES[0], 0),
        (EXPOSURES[1], 94),
    ]
    assert len(data_ids(registry, "exposure", "detector", where="flagged.what IN ('streak', 'ghost')")) == 2
    unflagged = found(registry, "flagged.what IS NULL")
    assert sorted(unflagged) == sorted({*every(*EXPOSURES)} - {(EXPOSURES[0], 0), (EXPOSURES[1], 94)})
    everything = found(registry, "flagged.what = 'ghost' OR flagged.what = 'streak' OR flagged.what IS NULL")
    assert sorted(everything) == every(*EXPOSURES)


def test_results_without_the_dimensions_of_the_table(registry: Registry) -> None:
    put(registry, "bias", "cal", instrument=CAMERA, detector=94)
    put(registry, "bias", "cal", instrument=CAMERA, detector=1)
    rows = rows_of(registry, dataset_types=("bias",), collections=("cal",), where="flagged.what = 'ghost'")
    assert [row["detector"] for row in rows] == [94]


def test_a_table_is_browsed_as_records_are(registry: Registry) -> None:
    query = QueryDimensionRecords(repository="r", element="quality", where="seeing < 0.75", order_by=("-seeing",))
    records = [one for batch in registry.query_dimension_records(query) for one in batch.records]
    assert [(one.exposure, one.seeing, one.airmass, one.verdict, one.good) for one in records] == [
        (EXPOSURES[1], 0.7, 1.25, "good", True),
        (EXPOSURES[0], 0.6, 1.25, "good", True),
    ]
    # A date and a name that no expression can write are left out.
    assert set(records[0].values) == {"instrument", "exposure", "seeing", "airmass", "verdict", "good"}


def test_it_is_not_written_to(registry: Registry) -> None:
    with pytest.raises(PermissionDeniedError, match="operator"):
        registry.insert_dimension_records([record("quality", instrument=CAMERA, exposure=EXPOSURES[5], seeing=0.1)])


def test_mistakes_are_told(registry: Registry) -> None:
    with pytest.raises(InvalidQueryError) as caught:
        found(registry, "quality.seing < 1")
    assert "quality.seeing" in caught.value.hint
    with pytest.raises(InvalidQueryError, match="unknown name 'missing.value'"):
        found(registry, "missing.value = 1")
    with pytest.raises(InvalidQueryError):
        found(registry, "quality.taken < 3")


@pytest.mark.parametrize(
    ("table", "why"),
    [
        (MISSING, "NoSuchTableError"),
        (OperatorTable(name="visit", table="flags", key={"instrument": "camera"}), "cannot be its name"),
        (OperatorTable(name='a"; DROP TABLE flag', table="flags", key={"instrument": "camera"}), "cannot be its name"),
        (OperatorTable(name="q", table='flags"; DROP TABLE flag --', key={"instrument": "camera"}), "NoSuchTable"),
        (OperatorTable(name="q", table="flags", key={"exposure": "exp"}), "its key lacks instrument"),
        (OperatorTable(name="q", table="flags", key={"camera": "camera"}), "no dimensions camera"),
        (OperatorTable(name="q", table="flags", key={"instrument": "cam"}), "no column cam; it has camera"),
        (OperatorTable(name="q", table="flags", key={}, fixed={"instrument": "x"}), "one column at least"),
    ],
)
def test_a_table_that_is_not_as_configured_is_left_out(
    registry: Registry, registry_url: str, table: OperatorTable, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    with_it = Registry.open(registry_url, tables=[table, QUALITY])
    assert why in caplog.text
    assert len(found(with_it, "quality.seeing < 0.75")) == 2 * len(DETECTORS)
    with_it.close()
