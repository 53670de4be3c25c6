"""The Butler against a repository in memory, over the real wire."""

from __future__ import annotations

import io
import os
import pickle
import signal
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.unit.client.conftest import open_descriptors, wait_for
from tests.unit.client.fake_daemon import FakeDaemon
from tests.unit.client.fake_repository import FakeRepository

import pantry.client.butler.ingesting as ingesting
from pantry.client import Butler, CollectionType, DataCoordinate, DatasetType, DimensionRecord, Timespan
from pantry.client.butler.access import data_id_values
from pantry.errors import (
    DataIdValueError,
    DatasetExistsError,
    DatasetNotFoundError,
    DimensionNameError,
    FormatterError,
    InvalidRequestError,
    MissingCollectionError,
    MissingDatasetTypeError,
    NotFoundError,
    PermissionDeniedError,
    RepositoryNotFoundError,
    TransientBackendError,
)
from pantry.wire.operations import BeginPut, CommitPut, OpenDataset, PutContent, QueryDatasets
from pantry.wire.operations.data import MAX_CONTENT_BYTES

ID: dict[str, Any] = {"instrument": "Cam", "detector": 3}


def test_put_and_get(butler: Butler, daemon: FakeDaemon) -> None:
    before = open_descriptors()
    ref = butler.put({"a": [1, 2]}, "config", ID)
    assert (ref.run, ref.data_id) == ("u/run", ID)
    assert butler.get("config", ID) == {"a": [1, 2]}
    assert butler.get("config", instrument="Cam", detector=3) == {"a": [1, 2]}
    assert butler.get("config", {"instrument": "Cam"}, detector=3) == {"a": [1, 2]}
    assert butler.get(ref) == {"a": [1, 2]}
    assert butler.get(ref.dataset_type, ref.data_id) == {"a": [1, 2]}
    wait_for(lambda: open_descriptors() <= before)


def test_get_is_one_round_trip(butler: Butler, daemon: FakeDaemon) -> None:
    ref = butler.put({}, "config", ID)
    daemon.asked.clear()
    butler.get("config", ID)
    butler.get(ref)
    assert [type(op) for op in daemon.asked] == [OpenDataset, OpenDataset]


def test_put_by_reference_keeps_its_id(butler: Butler) -> None:
    ref = butler.put({"a": 1}, "config", ID)
    copy = msgspec.structs.replace(ref, id=uuid.uuid4(), run="other")
    assert butler.put({"a": 2}, copy).id == copy.id
    assert butler.get(copy) == {"a": 2}
    assert butler.put({"a": 3}, copy, run="third").run == "third"
    with pytest.raises(InvalidRequestError, match="complete"):
        butler.get(ref, detector=3)
    with pytest.raises(InvalidRequestError, match="complete"):
        butler.put({}, ref, detector=3)


def test_nothing_is_overwritten(butler: Butler, repository: FakeRepository) -> None:
    butler.put({"a": 1}, "config", ID)
    with pytest.raises(DatasetExistsError):
        butler.put({"a": 2}, "config", ID)
    assert repository.puts == {}


def test_a_failing_formatter_aborts_the_put(butler: Butler, repository: FakeRepository) -> None:
    before = open_descriptors()
    with pytest.raises(FormatterError):
        butler.put({"a": object()}, "config", ID)
    assert repository.puts == {}
    wait_for(lambda: open_descriptors() <= before)
    butler.put({"a": 1}, "config", ID)  # and it can be tried again at once


def test_a_failing_commit_is_told(butler: Butler, repository: FakeRepository) -> None:
    repository.commit_error = TransientBackendError("the store is down")
    with pytest.raises(TransientBackendError, match="down"):
        butler.put({"a": 1}, "config", ID)
    assert not butler.exists("config", ID)


def puts_asked(daemon: FakeDaemon) -> list[str]:
    asked = [type(op).__name__ for op in daemon.asked if isinstance(op, BeginPut | CommitPut | PutContent)]
    daemon.asked.clear()
    return asked


def test_from_the_second_small_put_on_it_is_one_request(butler: Butler, daemon: FakeDaemon) -> None:
    butler.put({"a": 1}, "config", instrument="Cam", detector=1)
    assert puts_asked(daemon) == ["BeginPut", "CommitPut"]
    butler.put({"a": 2}, "config", instrument="Cam", detector=2)
    assert puts_asked(daemon) == ["PutContent"]
    butler.put({"a": "x" * MAX_CONTENT_BYTES}, "config", instrument="Cam", detector=3)
    assert puts_asked(daemon) == ["BeginPut", "CommitPut"]
    butler.put({"a": 4}, "config", instrument="Cam", detector=4)
    assert puts_asked(daemon) == ["BeginPut", "CommitPut"], "the last one was long, so this may be"
    for detector in (2, 4):
        assert butler.get("config", instrument="Cam", detector=detector) == {"a": detector}
    assert len(butler.get("config", instrument="Cam", detector=3)["a"]) == MAX_CONTENT_BYTES  # type: ignore[index]


def test_a_small_put_of_a_type_that_has_another_formatter_now(
    butler: Butler, daemon: FakeDaemon, repository: FakeRepository
) -> None:
    butler.put(b"1", "blob", instrument="Cam", detector=1)
    kind = repository.types["blob"]
    repository.types["blob"] = msgspec.structs.replace(kind, storage_class="StructuredDataDict")
    daemon.asked.clear()
    with pytest.raises(FormatterError, match="JSON"):
        butler.put(b"2", "blob", instrument="Cam", detector=2)
    assert puts_asked(daemon) == ["PutContent", "BeginPut"]
    repository.types["blob"] = kind
    assert butler.get(butler.put(b"3", "blob", instrument="Cam", detector=2)) == b"3"


def test_a_stream_is_never_read_for_a_small_put(butler: Butler, daemon: FakeDaemon) -> None:
    butler.put(b"abc", "blob", instrument="Cam", detector=1)
    daemon.asked.clear()
    ref = butler.put(io.BytesIO(b"defg"), "blob", instrument="Cam", detector=2)
    assert puts_asked(daemon) == ["BeginPut", "CommitPut"]
    assert butler.get(ref) == b"defg"


def test_ctrl_c_while_writing_aborts(butler: Butler, repository: FakeRepository) -> None:
    class Slow(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            os.kill(os.getpid(), signal.SIGINT)
            return 0

    with pytest.raises(KeyboardInterrupt):
        butler.put_file(io.BufferedReader(Slow()), "blob", ID)
    butler.collections.query()  # a round trip: the abort was posted before
    wait_for(lambda: repository.puts == {})


def test_put_file_and_open(butler: Butler) -> None:
    ref = butler.put_file(io.BytesIO(b"abc" * 1000), "blob", ID)
    with butler.open(ref) as file:
        assert file.seek(3) == 3
        assert file.read(3) == b"abc"
        assert file.fileno() > 2
    with butler.path("blob", ID) as path:
        assert path.startswith("/proc/self/fd/")
        assert Path(path).read_bytes() == b"abc" * 1000
    assert not os.path.exists(path)


def test_deferred(butler: Butler) -> None:
    ref = butler.put({"a": 1}, "config", ID)
    handle = butler.get_deferred("config", ID)
    assert handle.ref == ref
    assert handle.data_id == ID
    assert handle.get() == {"a": 1}
    assert butler.get_deferred(ref).get() == {"a": 1}
    with pytest.raises(DatasetNotFoundError):
        butler.get_deferred("config", ID, detector=4)
    with pytest.raises(FormatterError):
        handle.get(component="no")
    with pytest.raises(FormatterError):
        handle.get(parameters={"no": 1})


def test_a_handle_can_go_to_another_process(butler: Butler) -> None:
    butler.put({"a": 1}, "config", ID)
    again = pickle.loads(pickle.dumps(butler.get_deferred("config", ID)))  # noqa: S301
    assert again.get() == {"a": 1}


def test_find_and_exists(butler: Butler) -> None:
    ref = butler.put({"a": 1}, "config", ID)
    assert butler.find_dataset("config", ID) == ref
    assert butler.find_dataset("config", ID, detector=4) is None
    assert butler.get_dataset(ref.id) == ref
    assert butler.get_dataset(str(ref.id)) == ref
    assert butler.get_dataset(uuid.uuid4()) is None
    assert butler.exists(ref)
    assert butler.exists("config", ID)
    assert not butler.exists("config", ID, collections="other")
    with pytest.raises(InvalidRequestError, match="not a dataset id"):
        butler.get_dataset("x")


def test_components_and_parameters_ask_for_parts(butler: Butler, daemon: FakeDaemon) -> None:
    import numpy as np

    pixels = np.arange(10_000, dtype="f4").reshape(100, 100)
    ref = butler.put(pixels, "image", ID)
    daemon.asked.clear()
    assert butler.get("image", ID).shape == (100, 100)
    header = butler.get("image.header", ID)
    assert header["NAXIS1"] == 100
    part = butler.get("image", ID, parameters={"bbox": (0, 0, 10, 10)})
    assert np.array_equal(part, butler.get_deferred(ref).get(parameters={"bbox": (0, 0, 10, 10)}))
    assert butler.get(ref, storage_class="CCDData").data.shape == (100, 100)
    opens = [op for op in daemon.asked if isinstance(op, OpenDataset)]
    assert [op.partial for op in opens] == [False, True, True, True, False]
    assert opens[1].dataset_type == "image"
    with pytest.raises(FormatterError, match="cannot be converted"):
        butler.get(ref, storage_class="StructuredDataDict")


def test_only_what_is_read_is_fetched(butler: Butler, repository: FakeRepository) -> None:
    content = os.urandom(1_000_000)
    butler.put(content, "blob", ID)
    repository.partial = True
    before = open_descriptors()
    with butler.open("blob", ID, partial=True) as file:
        file.seek(500_000)
        assert file.read(10) == content[500_000:500_010]
        assert repository.fetched == [(458752, 524288)]
        file.seek(-10, os.SEEK_END)
        assert file.read() == content[-10:]
        file.seek(458752)
        assert file.read(100_000) == content[458752:558752]
        assert repository.fetched[-1][0] == 524288
        file.seek(0)
        assert file.read() == content
    wait_for(lambda: repository.opened == {})  # given back
    wait_for(lambda: open_descriptors() <= before)


def test_a_part_that_is_dropped_is_given_back(butler: Butler, repository: FakeRepository) -> None:
    butler.put(b"x" * 10, "blob", ID)
    repository.partial = True
    file = butler.open("blob", ID, partial=True)
    assert file.read() == b"x" * 10
    del file
    wait_for(lambda: repository.opened == {})


# -- defaults and data ids ----------------------------------------------------------------------


def test_no_collections_is_an_error_that_lists_some(daemon: FakeDaemon) -> None:
    butler = Butler("r", socket=daemon.path)
    butler.collections.register("a/b")
    with pytest.raises(InvalidRequestError) as caught:
        butler.get("config", ID)
    assert "'a/b'" in caught.value.hint
    with pytest.raises(InvalidRequestError, match="no run"):
        butler.put({}, "config", ID)


def test_defaults(daemon: FakeDaemon) -> None:
    with Butler("r", collections=["a", "b"], run="c", socket=daemon.path) as butler:
        assert butler.collections.default == ("a", "b")
        assert butler.run == "c"
        assert butler.clone(run="d").collections.default == ("d",)
        assert butler.clone(collections="e").collections.default == ("e",)
        assert butler.clone(collections="e").run == "c"
        assert repr(butler) == "Butler('r', collections=['a', 'b'], run='c')"
        assert "file:///r" in butler._repr_html_()
        assert repr(pickle.loads(pickle.dumps(butler))) == repr(butler)  # noqa: S301
    assert Butler("r", run="c", socket=daemon.path).collections.default == ("c",)


def test_read_only(daemon: FakeDaemon) -> None:
    butler = Butler("r", run="c", writeable=False, socket=daemon.path)
    for change in (
        lambda: butler.put({}, "config", ID),
        lambda: butler.ingest("config", []),
        lambda: butler.register_dataset_type("x", ["instrument"], "Bytes"),
        lambda: butler.collections.register("x"),
        lambda: butler.collections.redefine_chain("x", "y"),
        lambda: butler.insert_dimension_records("instrument", {"name": "x"}),
        lambda: butler.associate("x", []),
    ):
        with pytest.raises(PermissionDeniedError, match="read-only"):
            change()
    with pytest.raises(PermissionDeniedError):
        butler.clone().put({}, "config", ID)


def test_unknown_repository(daemon: FakeDaemon) -> None:
    with pytest.raises(RepositoryNotFoundError):
        Butler("none", socket=daemon.path)
    assert [info.name for info in Butler.repositories(socket=daemon.path)] == ["r"]


def test_data_id_values() -> None:
    import numpy as np

    values = data_id_values({"a": np.int32(4), "b": np.str_("x")}, {"a": 5})
    assert values == {"a": 5, "b": "x"}
    assert type(values["b"]) is str
    assert type(data_id_values({"a": np.int64(4)}, {})["a"]) is int
    coordinate = DataCoordinate(("a",), (1,), ("b",), ("g",))
    assert data_id_values(coordinate, {}) == {"a": 1}
    for bad in (1.5, True, None, object()):
        with pytest.raises(DataIdValueError):
            data_id_values({"a": bad}, {})
    with pytest.raises(DataIdValueError) as caught:
        data_id_values(None, {"dataId": {}})
    assert "data_id" in caught.value.hint
    with pytest.raises(DataIdValueError):
        data_id_values(3, {})  # type: ignore[arg-type]


# -- queries ------------------------------------------------------------------------------------


def test_query_datasets(butler: Butler, daemon: FakeDaemon) -> None:
    refs = [butler.put({"n": n}, "config", instrument="Cam", detector=n) for n in range(10)]
    found = butler.query_datasets("config")
    assert found == refs
    assert [ref.data_id for ref in found] == [ref.data_id for ref in refs]
    assert [ref.run for ref in found] == ["u/run"] * 10
    assert butler.query_datasets(["config", "blob"], collections=["other"]) == []
    assert next(butler.iter_datasets("config")) == refs[0]
    assert found[3].id == refs[3].id
    assert hash(found[3].id) == hash(refs[3].id)
    assert str(found[3].id) == str(refs[3].id)


def test_query_arguments(butler: Butler, daemon: FakeDaemon) -> None:
    import numpy as np

    butler.query_datasets(
        butler.get_dataset_type("config"),
        "a",
        find_first=False,
        data_id={"instrument": "Cam"},
        detector=4,
        where="detector IN (x)",
        bind={"x": np.array([1, 2]), "y": {"a"}, "z": np.float64(1.5), "b": True},
        with_dimension_records=True,
        order_by="-detector",
        limit=5,
    )
    assert daemon.asked[-1] == QueryDatasets(
        repository="r",
        dataset_types=("config",),
        collections=("a",),
        find_first=False,
        data_id={"instrument": "Cam", "detector": 4},
        where="detector IN (x)",
        bind={"x": (1, 2), "y": ("a",), "z": 1.5, "b": True},
        order_by=("-detector",),
        limit=5,
        with_dimension_records=True,
    )
    with pytest.raises(InvalidRequestError, match="bind"):
        butler.query_datasets("config", bind={"x": object()})


# -- definitions --------------------------------------------------------------------------------


def test_dataset_types(butler: Butler) -> None:
    assert butler.register_dataset_type("new", ["instrument"], "Bytes")
    assert not butler.register_dataset_type(DatasetType(name="new", dimensions=("instrument",), storage_class="Bytes"))
    assert butler.get_dataset_type("new.part").name == "new"
    with pytest.raises(MissingDatasetTypeError):
        butler.get_dataset_type("none")
    with pytest.raises(InvalidRequestError):
        butler.register_dataset_type("x")


def test_collections(butler: Butler) -> None:
    butler.collections.register("a", doc="what")
    butler.collections.register("c", "tagged")
    butler.collections.register("d", CollectionType.CHAINED)
    butler.collections.redefine_chain("d", ["c", "a"])
    assert butler.collections.query() == ["a", "c", "d"]
    assert butler.collections.query(collection_types=CollectionType.TAGGED) == ["c"]
    assert butler.collections.get_info("d").children == ("c", "a")
    with pytest.raises(MissingCollectionError):
        butler.collections.get_info("none")
    with pytest.raises(InvalidRequestError, match="unknown collection type"):
        butler.collections.register("e", "heap")


def test_dimension_records(butler: Butler, repository: FakeRepository) -> None:
    import numpy as np

    count = butler.insert_dimension_records(
        "exposure",
        {"instrument": "Cam", "id": np.int64(1), "timespan": (1, 2)},
        {"instrument": "Cam", "id": 2, "timespan_begin": 3, "timespan_end": 4},
        DimensionRecord(element="exposure", values={"id": 3}),
    )
    assert count == 3
    first, second, third = repository.records
    assert (first.values, first.timespan) == ({"instrument": "Cam", "id": 1}, Timespan(1, 2))
    assert second.timespan == Timespan(3, 4)
    assert third.values == {"id": 3}
    for bad in ({"id": object()}, {"id": 1, "timespan": (2, 1)}, {"id": 1, "timespan": 7}):
        with pytest.raises(InvalidRequestError):
            butler.insert_dimension_records("exposure", bad)
    with pytest.raises(InvalidRequestError, match="given for"):
        butler.insert_dimension_records("detector", third)


# -- ingest -------------------------------------------------------------------------------------


def test_ingest_in_batches(butler: Butler, repository: FakeRepository) -> None:
    done: list[int] = []
    files = ((f"/x/{n}", {"instrument": "Cam", "detector": n}) for n in range(ingesting.MAX_ITEMS + 1))
    ids = butler.ingest("blob", files, progress=done.append)
    assert len(set(ids)) == ingesting.MAX_ITEMS + 1
    assert done == [ingesting.MAX_ITEMS, ingesting.MAX_ITEMS + 1]
    assert [n_fds for _, n_fds in repository.ingested] == [0, 0]
    first = max((asked for asked, _ in repository.ingested), key=lambda asked: len(asked.items))
    assert first.dimensions == ("instrument", "detector")
    assert (first.items[7].path, first.items[7].values) == ("/x/7", ("Cam", 7))


def test_ctrl_c_while_ingesting_waits_for_no_request(
    butler: Butler, repository: FakeRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingesting, "MAX_ITEMS", 1)
    asked_for, released = threading.Event(), threading.Event()

    def never(op: Any, asked: Any) -> Any:
        if not asked_for.is_set():  # one Ctrl-C
            asked_for.set()
            os.kill(os.getpid(), signal.SIGINT)
        released.wait(60)

    monkeypatch.setattr(repository, "_IngestFiles", never)
    try:
        with pytest.raises(KeyboardInterrupt):
            butler.ingest("blob", [(f"/x/{n}", {"instrument": "Cam", "detector": n}) for n in range(5)])
        # None of the threads waits for an answer; one that was just being started ends when it runs.
        wait_for(lambda: not any(one.name.startswith("pantry-ingest") for one in threading.enumerate()))
    finally:
        released.set()


def test_ingest_for_another_user_sends_descriptors(
    make_daemon: Callable[..., FakeDaemon], repository: FakeRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    daemon = make_daemon(repository, uid=os.getuid() + 1)
    butler = Butler("r", run="u/run", socket=daemon.path)
    for n in range(150):
        (tmp_path / str(n)).write_text(str(n))
    files = [(Path(str(n)), {"detector": n}) for n in range(150)]
    before = open_descriptors()
    butler.ingest("blob", files, transfer="move")
    # Two requests are under way at once, and may arrive in any order.
    sent = {asked.items[0].path: n_fds for asked, n_fds in repository.ingested}
    assert sent == {str(tmp_path / "0"): 100, str(tmp_path / "100"): 50}
    butler.ingest("blob", [("key", {"detector": 1})], transfer="in_place")
    assert repository.ingested[-1][1] == 0
    assert repository.ingested[-1][0].items[0].path == "key"
    with pytest.raises(NotFoundError, match="no such file"):
        butler.ingest("blob", [("none", {"detector": 1})])
    with pytest.raises(InvalidRequestError, match="not a regular file"):
        butler.ingest("blob", [(tmp_path, {"detector": 1})])
    os.mkfifo("fifo")
    with pytest.raises(InvalidRequestError, match="not a regular file"):
        butler.ingest("blob", [("fifo", {"detector": 1})])
    wait_for(lambda: open_descriptors() <= before)


def test_ingest_tells_what_was_passed_over(butler: Butler) -> None:
    ids = butler.ingest("blob", [("/x/old", {"detector": 1}), ("/x/new", {"detector": 2})], skip_existing=True)
    assert ids[0] is None
    assert ids[1] is not None


def test_ingest_wants_equal_dimensions(butler: Butler) -> None:
    with pytest.raises(DimensionNameError, match="first file"):
        butler.ingest("blob", [("/a", {"detector": 1}), ("/b", {"visit": 1})])
    with pytest.raises(InvalidRequestError, match="transfer"):
        butler.ingest("blob", [], transfer="teleport")  # type: ignore[arg-type]
    assert butler.ingest("blob", []) == []


def test_threads_share_a_butler(butler: Butler) -> None:
    wrong: list[object] = []

    def work(base: int) -> None:
        for n in range(base, base + 25):
            butler.put({"n": n}, "config", instrument="Cam", detector=n)
            if butler.get("config", instrument="Cam", detector=n) != {"n": n}:
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(100 * n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert wrong == []
