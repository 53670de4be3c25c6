from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.unit.registry.world import CAMERA, DETECTORS, EXPOSURES, create, fill, put_raw, rows_of, sqlite_url, stored

from pantry.daemon.registry import PreparedPut, PutWish, Registry
from pantry.daemon.registry.engine import Database, Prepared, Session, TransactionLostError
from pantry.daemon.registry.writer import MAX_JOBS, Writer
from pantry.errors import (
    ConflictError,
    DataIdValueError,
    DatasetExistsError,
    MissingDatasetTypeError,
    TransientBackendError,
)


def hold(writer: Writer) -> threading.Event:
    """Keep a writer busy until the event is set, so that what is given to it meanwhile queues."""
    gate, inside = threading.Event(), threading.Event()

    def wait(session: Session) -> None:
        inside.set()
        gate.wait(60)

    threading.Thread(target=writer.run, args=(wait,)).start()
    assert inside.wait(60)
    return gate


@pytest.fixture
def held(registry: Registry) -> threading.Event:
    return hold(registry._writer)


def commits(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    sizes: list[int] = []
    commit = registry._writer._group._commit

    def counted(batch: list[object]) -> None:
        sizes.append(len(batch))
        commit(batch)  # type: ignore[arg-type]

    monkeypatch.setattr(registry._writer._group, "_commit", counted)
    return sizes


def insert(registry: Registry, exposure: int, detector: int) -> None:
    registry.insert_datasets("run", "raw", [(uuid4(), (CAMERA, detector, exposure), stored("x"))])


def queued(writer: Writer, count: int) -> None:
    """Wait until so many jobs stand behind the one that runs."""
    deadline = time.monotonic() + 30
    while writer.waiting < count:
        assert time.monotonic() < deadline, f"{writer.waiting} of {count} jobs came"
        threading.Event().wait(0.001)


def test_many_callers_share_a_transaction_and_a_bad_one_fails_alone(
    registry: Registry, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = commits(registry, monkeypatch)
    jobs = [(exposure, detector) for exposure in EXPOSURES for detector in DETECTORS]
    with ThreadPoolExecutor(len(jobs) + 2) as pool:
        # The same twice, and one without a record: two failures among 24 successes.
        running = [pool.submit(insert, registry, *job) for job in [*jobs, jobs[0], (EXPOSURES[0], 5)]]
        queued(registry._writer, len(running))
        held.set()
        errors = [one.exception() for one in running]
    assert sizes == [len(jobs) + 2]
    assert sum(error is not None for error in errors) == 2
    assert sum(isinstance(error, DatasetExistsError) for error in errors) == 1
    assert "detector: 5" in str(errors[-1])
    assert len(rows_of(registry)) == len(jobs)


def test_a_definition_of_a_failed_job_is_forgotten(registry: Registry, held: threading.Event) -> None:
    new = [(uuid4(), (CAMERA, detector, EXPOSURES[0]), stored("x")) for detector in (0, 0)]
    with ThreadPoolExecutor(2) as pool:
        failing = pool.submit(registry.insert_datasets, "fresh", "raw", new)
        queued(registry._writer, 1)
        working = pool.submit(registry.insert_datasets, "fresh", "raw", new[:1])
        queued(registry._writer, 2)
        held.set()
        assert isinstance(failing.exception(), DatasetExistsError)
        assert working.exception() is None
    assert len(rows_of(registry, collections=("fresh",))) == 1


def test_a_transaction_is_bounded(registry: Registry, held: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = commits(registry, monkeypatch)
    with ThreadPoolExecutor(MAX_JOBS + 5) as pool:
        running = [pool.submit(registry._writer.run, lambda session: "done") for _ in range(MAX_JOBS + 5)]
        queued(registry._writer, len(running))
        held.set()
        assert {one.result() for one in running} == {"done"}
    assert sizes == [MAX_JOBS, 5]


def test_a_defect_in_one_job_is_its_own(registry: Registry, held: threading.Event) -> None:
    with ThreadPoolExecutor(2) as pool:
        bad = pool.submit(registry._writer.run, lambda session: 1 // 0)
        queued(registry._writer, 1)
        good = pool.submit(registry._writer.run, lambda session: "done")
        queued(registry._writer, 2)
        held.set()
        assert isinstance(bad.exception(), ZeroDivisionError)
        assert good.result() == "done"


def test_what_is_acknowledged_is_stored(tmp_path: Path) -> None:
    registry = create(sqlite_url(tmp_path))
    fill(registry)
    put_raw(registry, "run")
    # Read by another connection, while the registry is open.
    with sqlite3.connect(tmp_path / "registry.sqlite3") as connection:
        assert connection.execute("SELECT count(*) FROM dataset").fetchone() == (1,)
    connection.close()
    registry.close()


def test_a_failed_commit_fails_all_its_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = create(sqlite_url(tmp_path))
    fill(registry)

    def fail(self: Session, statement: Prepared | None, rows: object) -> None:
        # As after a full disk: SQLite itself has ended the transaction.
        self.run_sql("ROLLBACK")
        raise TransientBackendError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(Session, "run_many", fail)
        with pytest.raises(TransientBackendError, match="disk full"):
            put_raw_directly(registry)
        breaking = partial(fail, statement=None, rows=None)
        errors = registry._writer.run_each([lambda session: None, breaking])
        assert [type(error) for error in errors] == [TransactionLostError, TransactionLostError]
    put_raw_directly(registry)
    assert len(rows_of(registry)) == 1
    registry.close()


def put_raw_directly(registry: Registry) -> None:
    insert(registry, EXPOSURES[0], 0)


def test_closing_finishes_what_was_given(tmp_path: Path) -> None:
    create(sqlite_url(tmp_path)).close()
    database = Database(sqlite_url(tmp_path))
    writer = Writer(database)
    gate = hold(writer)
    done: list[int] = []
    with ThreadPoolExecutor(5) as pool:
        running = [pool.submit(writer.run, lambda session, number=number: done.append(number)) for number in range(3)]
        queued(writer, 3)
        closing = pool.submit(writer.close)
        gate.set()
        closing.result()
        assert all(one.exception() is None for one in running)
    assert sorted(done) == [0, 1, 2]
    with pytest.raises(TransientBackendError, match="closed"):
        writer.run(lambda session: None)
    database.close()


def test_readers_and_writers_in_many_threads(registry: Registry) -> None:
    jobs = [(exposure, detector) for exposure in EXPOSURES for detector in DETECTORS]
    put_raw(registry, "run", *jobs.pop())

    def read(_: int) -> int:
        return len(rows_of(registry))

    with ThreadPoolExecutor(12) as pool:
        writing = [pool.submit(insert, registry, *job) for job in jobs]
        counts = list(pool.map(read, range(60)))
        for one in writing:
            one.result()
    assert counts[-1] <= 24
    assert read(0) == 24
    with pytest.raises(ConflictError):
        insert(registry, *jobs[0])


def test_connections_are_kept_between_transactions_without_what_was_not_committed(tmp_path: Path) -> None:
    create(sqlite_url(tmp_path)).close()
    database = Database(sqlite_url(tmp_path))
    with database.writing() as session:
        first = session.connection.dbapi_connection
    with pytest.raises(ZeroDivisionError), database.writing() as session:
        _write_and_fail(session)
    with database.reading() as session:
        assert session.connection.dbapi_connection is first
        assert session.run_sql("UPDATE repository_attributes SET value = '' WHERE key = 'x'") == 0
    database.close()
    with pytest.raises(sqlite3.ProgrammingError):
        first.execute("SELECT 1")


def _write_and_fail(session: Session) -> None:
    assert session.run_sql("INSERT INTO repository_attributes VALUES ('x', 'y')") == 1
    raise ZeroDivisionError


def test_a_connection_that_comes_back_late_is_closed(tmp_path: Path) -> None:
    create(sqlite_url(tmp_path)).close()
    database = Database(sqlite_url(tmp_path))
    with database.reading() as session:
        late = session.connection.dbapi_connection
        database.close()
    with pytest.raises(sqlite3.ProgrammingError):
        late.execute("SELECT 1")


class Coveted(deque[Any]):
    """Another thread takes what is there between the look and the grasp."""

    def __bool__(self) -> bool:
        return True

    def __len__(self) -> int:
        return 1


def test_a_kept_connection_may_be_taken_by_another_thread(tmp_path: Path) -> None:
    create(sqlite_url(tmp_path)).close()
    database = Database(sqlite_url(tmp_path))
    database._idle = Coveted()
    with database.reading() as session:
        session.run_sql("SELECT 1")
    database.close()


def test_no_more_connections_are_kept_than_so_many(tmp_path: Path) -> None:
    create(sqlite_url(tmp_path)).close()
    database = Database(sqlite_url(tmp_path))
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(database.reading())
    assert len(database._idle) == 16
    database.close()


def test_several_puts_are_prepared_each_for_itself(registry: Registry) -> None:
    known = {"instrument": CAMERA, "exposure": EXPOSURES[0], "detector": DETECTORS[0]}
    wishes = [PutWish("raw", "r", known), PutWish("raw", "r", known | {"detector": 555}), PutWish("none", "r", known)]
    good, no_record, no_type = registry.prepare_each(wishes)
    assert isinstance(good, PreparedPut)
    assert good == registry.prepare_put("raw", "r", known)
    assert isinstance(no_record, DataIdValueError)
    assert isinstance(no_type, MissingDatasetTypeError)
