"""Datasets published to a web service by a real daemon: mappings, failures, retries, crashes, rights."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from astropy.table import MaskedColumn, Table
from astropy.time import Time
from tests.integration.command_line import pantry
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.other_user import run_as
from tests.servers.pantryd import PantryDaemon
from tests.servers.process import http_answer
from tests.servers.qa_service import Answer, QaService
from tests.servers.seaweedfs import SeaweedServer

from pantry.client import Butler, DatasetRef
from pantry.errors import DatasetExistsError, InvalidRequestError, NotFoundError, PublishError

USERS = (40001, 40002)
SECRET = "s3cr3t-token-of-the-test"
EAGER = {"retry_first_s": 0.01, "retry_most_s": 0.05}


@pytest.fixture
def service() -> Iterator[QaService]:
    with QaService() as made:
        yield made


class World:
    """A daemon with a repository, and a service that it publishes to."""

    def __init__(self, daemon: PantryDaemon, root: Path) -> None:
        self.daemon = daemon
        with Butler.create("d", str(root), socket=daemon.socket) as made:
            furnish(made, 20)
            made.register_dataset_type("metric_seeing", ["instrument", "exposure"], "StructuredDataDict")
            made.register_dataset_type("metric_table", ["instrument", "exposure"], "ArrowAstropy")
        self.butler = Butler("d", collections="out", run="out", socket=daemon.socket)

    def put(self, exposure: int = 1, value: Any = 0.7, kind: str = "metric_seeing") -> DatasetRef:
        content = {"metric": "seeing", "value": value, "unit": "arcsec"} if kind == "metric_seeing" else value
        return self.butler.put(content, kind, instrument=INSTRUMENT, exposure=exposure)

    def states(self) -> dict[str, int]:
        return {one.state: one.count for one in self.butler.publish_status().counts}

    def wait_for(self, **states: int) -> None:
        """Wait until publications are in these states: the service answers before the daemon has written it down."""
        until = time.monotonic() + 30
        while self.states() != states:
            assert time.monotonic() < until, (self.states(), states, self.butler.publish_status())
            time.sleep(0.01)


@pytest.fixture
def make_world(make_daemon: Callable[..., PantryDaemon], tmp_path: Path, service: QaService) -> Callable[..., World]:
    def make(*, log: tuple[str, ...] = (), start: dict[str, Any] | None = None, **target: Any) -> World:
        config = {"url": service.url + "/m/{id}", "method": "PUT", "dataset_types": ["metric_*"], **EAGER, **target}
        daemon = make_daemon({"publish": {"qa": config}, **(start or {})})
        daemon.expected_log = ("publish", *log)
        return World(daemon, tmp_path / "repo")

    return make


# -- what is sent ----------------------------------------------------------------------------------


@pytest.mark.req("DMS-MWBT-REQ-0072")
def test_metric_values_reach_the_service(make_world: Callable[..., World], service: QaService, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(SECRET + "\n")
    world = make_world(
        credential_file=str(token),
        headers={"X-Source": "pantry"},
        body={
            "metric": "{content.metric}",
            "value": "{content.value}",
            "unit": "{content.unit}",
            "what": "{dataset_type} of {data_id.instrument}/{data_id.exposure}",
            "data_id": "{data_id}",
            "blob_ref": None,
            "provenance": {"run": "{run}", "id": "{id}", "{run}": "{{braces}}"},
            "notes": ["{content.absent}", 3],
        },
    )
    ref = world.put(7)
    (sent,) = world.butler.publish(ref, "qa", wait=True)
    assert (sent.state, sent.status, sent.id, sent.problem) == ("accepted", 200, ref.id, "")
    (got,) = service.requests
    assert (got.method, got.path, got.key) == ("PUT", f"/m/{ref.id}", str(ref.id))
    assert got.headers["Authorization"] == f"Bearer {SECRET}"
    assert (got.headers["X-Source"], got.headers["Content-Type"]) == ("pantry", "application/json")
    assert got.document == {
        "metric": "seeing",
        "value": 0.7,
        "unit": "arcsec",
        "what": f"metric_seeing of {INSTRUMENT}/7",
        "data_id": {"instrument": INSTRUMENT, "exposure": 7, "band": "r", "day_obs": 20260315, "group": "g",
                    "physical_filter": "r_1"},
        "blob_ref": None,
        "provenance": {"run": "out", "id": str(ref.id), "out": "{braces}"},
        "notes": [None, 3],
    }  # fmt: skip
    # Again: it is known that it was accepted.
    assert world.butler.publish([ref, ref.id], "qa", wait=True)[0].number == sent.number
    assert len(service.requests) == 1
    assert SECRET not in world.daemon.log.read_text()
    assert SECRET.encode() not in b"".join(path.read_bytes() for path in world.daemon.state.glob("outbox*"))


def test_rows_go_in_envelopes_of_a_rest_proxy(make_world: Callable[..., World], service: QaService) -> None:
    """As the Kafka REST proxy (v2) has them: records of which each has a status of its own."""
    world = make_world(
        url=service.url + "/topics/{dataset_type}",
        method="POST",
        content_type="application/vnd.kafka.json.v2+json",
        rows="{content.rows}",
        row={"key": "{id}", "value": {"visit": "{data_id.exposure}", "flux": "{row.flux}", "t": "{row.t}"}},
        body={"records": "{rows}", "units": "{content.units}"},
        rows_per_request=2,
        answer={"offsets.*.error_code": None},
    )
    table = Table(
        {"flux": MaskedColumn([1.5, np.nan, 3.0], mask=[0, 0, 1], unit="nJy"), "t": Time([0, 1, 2], format="unix")}
    )
    service.then(Answer(body=b'{"offsets": [{"offset": 1, "error_code": null}, {"offset": 2}]}'))
    ref = world.put(3, table, "metric_table")
    world.butler.publish(ref, "qa", wait=True)
    first, second = service.requests
    assert first.path == "/topics/metric_table"
    assert first.headers["Content-Type"] == "application/vnd.kafka.json.v2+json"
    assert [first.key, second.key] == [str(ref.id), f"{ref.id}-2"]
    assert first.document == {
        "records": [
            {"key": str(ref.id), "value": {"visit": 3, "flux": 1.5, "t": "1970-01-01T00:00:00.000"}},
            {"key": str(ref.id), "value": {"visit": 3, "flux": None, "t": "1970-01-01T00:00:01.000"}},
        ],
        "units": {"flux": "nJy"},
    }
    assert second.document["records"][0]["value"]["flux"] is None
    # Success that is none: one record was not taken.
    service.then(Answer(body=b'{"offsets": [{"error_code": null}, {"error_code": 1, "error": "bad"}]}'))
    with pytest.raises(PublishError, match=r"offsets\.\*\.error_code is '1'"):
        world.butler.publish(world.put(4, table, "metric_table"), "qa", wait=True)


def test_parts_that_were_accepted_are_not_sent_again(make_world: Callable[..., World], service: QaService) -> None:
    world = make_world(rows="{content.rows}", row={"x": "{row.x}"}, rows_per_request=10)
    service.then(Answer(), Answer(), Answer(503, accepts=False))
    world.butler.publish(world.put(1, Table({"x": np.arange(40)}), "metric_table"), "qa", wait=True)
    assert [got.key[36:] for got in service.requests] == ["", "-2", "-3", "-3", "-4"]
    assert [one["x"] for got in service.done.values() for one in got.document] == list(range(40))


def test_files_go_as_they_are(make_world: Callable[..., World], service: QaService) -> None:
    world = make_world(
        form="file", dataset_types=["blob"], content_type="application/fits", url=service.url + "/f/{hash}"
    )
    content = os.urandom(3_000_000)
    service.then(Answer(500, accepts=False))
    ref = world.butler.put(content, "blob", instrument=INSTRUMENT, exposure=1, detector=0)
    world.butler.publish(ref, "qa", wait=True)
    assert [got.body == content for got in service.requests] == [True, True]
    assert service.requests[0].headers["Content-Type"] == "application/fits"


UNFIT: list[tuple[dict[str, Any], Any, str]] = [
    ({"body": {"v": "x{content.nothing}"}}, {"a": 1}, "stands nothing"),
    ({"url": "http://127.0.0.1:9/{content.path}"}, {"path": ".."}, "leads to another place"),
    ({"rows": "{content.list}", "row": "{row}"}, {"list": 3}, "a int at {content.list}, where rows should be"),
    ({"most_bytes": 10}, {"a": "0123456789"}, "documents of at most 10"),
    ({"most_bytes": 60, "body": ["{content}"] * 9}, {"a": "0123456789"}, "makes a body of"),
]


def test_what_does_not_fit_is_refused(make_world: Callable[..., World], service: QaService) -> None:
    common = {"url": service.url, "dataset_types": ["*"]}
    targets = {f"t{number}": {**common, **target} for number, (target, _, _) in enumerate(UNFIT)}
    world = make_world(start={"publish": targets})
    for number, (_, content, text) in enumerate(UNFIT):
        ref = world.butler.put(content, "metric_seeing", instrument=INSTRUMENT, exposure=number + 1)
        with pytest.raises(PublishError) as caught:
            world.butler.publish(ref, f"t{number}", wait=True)
        assert text in str(caught.value)
    image = world.butler.put(b"no document", "blob", instrument=INSTRUMENT, exposure=1, detector=0)
    with pytest.raises(PublishError, match=r"is no document and no table.*form: file"):
        world.butler.publish(image, "t0", wait=True)
    assert not service.requests


def test_paths_cannot_be_left_by_values(make_world: Callable[..., World], service: QaService) -> None:
    world = make_world(url=service.url + "/a/{content.name}?q={content.name}")
    for number, name in enumerate(["x/../../admin", "a b?c#d&e=f", "日本\r\nX: y"], 1):
        ref = world.butler.put({"name": name}, "metric_seeing", instrument=INSTRUMENT, exposure=number)
        world.butler.publish(ref, "qa", wait=True)
    assert [got.path for got in service.requests] == [
        "/a/x%2F..%2F..%2Fadmin?q=x%2F..%2F..%2Fadmin",
        "/a/a%20b%3Fc%23d%26e%3Df?q=a%20b%3Fc%23d%26e%3Df",
        "/a/%E6%97%A5%E6%9C%AC%0D%0AX%3A%20y?q=%E6%97%A5%E6%9C%AC%0D%0AX%3A%20y",
    ]


# -- failures --------------------------------------------------------------------------------------

FAULTS = {
    "500": Answer(500, b"oops", accepts=False),
    "429": Answer(429, headers={"Retry-After": "0"}, accepts=False),
    "503 with a date": Answer(503, headers={"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}, accepts=False),
    "reset after it was done": Answer(reset=True),
    "garbage": Answer(raw=b"\x00\x01 this is no HTTP\r\n\r\n"),
    "401": Answer(401, b"who are you", accepts=False),
}


@pytest.mark.req("DMS-MWBT-REQ-0072")
def test_what_may_pass_is_tried_again_with_the_same_key(make_world: Callable[..., World], service: QaService) -> None:
    world = make_world()
    for number, (name, fault) in enumerate(FAULTS.items(), 1):
        service.then(fault, fault)
        (sent,) = world.butler.publish(ref := world.put(number), "qa", wait=True)
        assert (sent.state, sent.attempts) == ("accepted", 3), name
        assert [got.key for got in service.requests] == [str(ref.id)] * 3, name
        assert len({got.body for got in service.requests}) == 1, name
        service.requests.clear()
    assert len(service.done) == len(FAULTS)


def test_an_answer_that_breaks_off_says_nothing(make_world: Callable[..., World], service: QaService) -> None:
    world = make_world(answer={"ok": True})
    service.always(Answer(body=b'{"ok": true}'))
    service.then(Answer(raw=b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"ok'), Answer(body=b"[" * 200_000))
    (sent,) = world.butler.publish(world.put(), "qa", wait=True)
    assert (sent.state, sent.attempts) == ("accepted", 3)


def test_retry_after_is_honoured_for_all(make_world: Callable[..., World], service: QaService) -> None:
    world = make_world(connections=1)
    service.then(Answer(429, headers={"Retry-After": "1"}, accepts=False))
    world.butler.publish([world.put(n) for n in (1, 2)], "qa", wait=True)
    first, *later = [got.at for got in service.requests]
    assert len(later) == 2
    assert min(later) - first >= 1.0


REFUSALS = [
    (Answer(400, b'{"error": "no such metric"}'), 'answered 400 Bad Request: {"error": "no such metric"}'),
    (Answer(302, headers={"Location": "http://127.0.0.1:9/x"}), "redirections are not followed"),
    (Answer(404, b"\x1b[31m" + b"x" * 100_000), "404 Not Found: \ufffd[31mxxxx"),
]


def test_refusals_are_final(make_world: Callable[..., World], service: QaService) -> None:
    world = make_world()
    for number, (answer, text) in enumerate(REFUSALS):
        service.always(answer)
        service.requests.clear()
        with pytest.raises(PublishError) as caught:
            world.butler.publish([world.put(2 * number + 1), world.put(2 * number + 2)], "qa", wait=True)
        assert "2 of 2 datasets are not published to 'qa'" in str(caught.value)
        assert text in str(caught.value)
        assert len(str(caught.value)) < 1000
        assert caught.value.fields["status"] == answer.status
        assert len(service.requests) == 2
    # The operator mends it; then it is tried again.
    service.always(Answer())
    assert world.butler.retry_publications(target="qa") == 6
    world.wait_for(accepted=6)


def test_a_service_that_says_nothing(make_world: Callable[..., World], service: QaService) -> None:
    world = make_world(timeout_s=0.3, if_unknown="ask")
    service.then(Answer(hang=True))
    with pytest.raises(PublishError, match=r"did not answer within 0\.3 s"):
        world.butler.publish(world.put(), "qa", wait=True)
    assert world.states() == {"unknown": 1}
    (one,) = world.butler.publish_status(states=["unknown"]).publications
    assert world.butler.forget_publications([one]) == 1
    assert world.states() == {}


def test_the_credential_is_never_told(make_world: Callable[..., World], service: QaService, tmp_path: Path) -> None:
    token = tmp_path / "token"
    world = make_world(credential_file=str(token))
    sent = world.butler.publish(world.put(), "qa")
    (target,) = world.butler.publish_targets()
    until = time.monotonic() + 30
    while not target.problem and time.monotonic() < until:
        (target,) = world.butler.publish_targets()
    assert "cannot be read: No such file" in target.problem
    assert not service.requests
    token.write_text(SECRET)
    service.then(Answer(403, f"bad token {SECRET}".encode(), accepts=False))
    world.wait_for(accepted=1)
    assert sent[0].state == "waiting"
    assert SECRET not in world.daemon.log.read_text()
    assert (
        "bad token (the credential)" in world.daemon.log.read_text() or "cannot be read" in world.daemon.log.read_text()
    )


def test_one_bad_dataset_does_not_hold_up_the_others(make_world: Callable[..., World], service: QaService) -> None:
    world = make_world(connections=2, body={"value": "{content.value}"})
    bad = world.put(1, "bad")
    refs = [bad, *(world.put(n, n) for n in range(2, 12))]

    def serve(handler: Any, got: Any) -> None:
        service.always(Answer(500, accepts=False) if b"bad" in got.body else Answer())
        original(handler, got)

    original = service._serve
    service._serve = serve  # type: ignore[method-assign]
    world.butler.publish(refs, "qa")
    world.wait_for(accepted=10, waiting=1)


# -- what survives -----------------------------------------------------------------------------------


@pytest.mark.req("DMS-MWBT-REQ-0072")
def test_what_waits_survives_kill_9(make_world: Callable[..., World], service: QaService) -> None:
    world = make_world(log=("WARNING",))
    service.always(Answer(503, accepts=False))
    refs = [world.put(number) for number in range(1, 6)]
    world.butler.publish(refs, "qa")
    service.wait(lambda: len(service.requests) > 2)
    world.daemon.kill()
    service.always(Answer())
    world.daemon.start()
    service.wait(lambda: len(service.done) == 5)
    assert set(service.done) == {str(ref.id) for ref in refs}
    world.wait_for(accepted=5)


@pytest.mark.req("DMS-MWBT-REQ-0072")
def test_every_put_is_published_by_itself(make_world: Callable[..., World], service: QaService, tmp_path: Path) -> None:
    world = make_world(automatic=True, repositories=["d"])
    # By a ticket, by one request, and as a group into two repositories.
    refs = [world.put(1), world.put(2), world.put(3)]
    world.butler.put(b"not this", "blob", instrument=INSTRUMENT, exposure=1, detector=0)
    with Butler.create("e", str(tmp_path / "other"), socket=world.daemon.socket) as other:
        furnish(other, 20)
        other.register_dataset_type("metric_seeing", ["instrument", "exposure"], "StructuredDataDict")
    refs.append(world.butler.put({"value": 4}, "metric_seeing", instrument=INSTRUMENT, exposure=4, outputs=["d", "e"]))
    world.wait_for(accepted=4)
    assert set(service.done) == {str(ref.id) for ref in refs}
    for exposure in (1, 4):
        for outputs in (None, ["d"], ["e", "d"]):
            with pytest.raises(DatasetExistsError):
                world.butler.put(
                    {"value": 1}, "metric_seeing", instrument=INSTRUMENT, exposure=exposure, outputs=outputs
                )
    world.wait_for(accepted=4)
    assert len(service.requests) == 4, "a put that failed is not published"


# -- a put that waits ------------------------------------------------------------------------------


def stored(world: World, root: Path) -> tuple[int, list[Path]]:
    """What is registered, and the files of the repository; markers of writes go just after their answers."""
    files = [
        path
        for path in root.rglob("*")
        if path.is_file() and "out" in path.parts and not path.name.startswith(".pantry-")
    ]
    return world.butler.count_datasets("metric_*", "*"), files


@pytest.mark.req("DMS-MWBT-REQ-0072")
@pytest.mark.parametrize("outputs", [None, ["d"], ["d", "e"]], ids=["alone", "group", "two"])
def test_a_put_waits_until_it_was_accepted_or_leaves_nothing(
    make_world: Callable[..., World], service: QaService, tmp_path: Path, outputs: Any
) -> None:
    world = make_world()
    with Butler.create("e", str(tmp_path / "other"), socket=world.daemon.socket) as other:
        furnish(other, 20)
        other.register_dataset_type("metric_seeing", ["instrument", "exposure"], "StructuredDataDict")

    def put(exposure: int, **more: Any) -> DatasetRef:
        content = {"value": exposure}
        more = {"publish": "qa", "wait": True, "outputs": outputs, **more}
        return world.butler.put(content, "metric_seeing", instrument=INSTRUMENT, exposure=exposure, **more)

    service.then(Answer(503, accepts=False), Answer(reset=True))
    ref = put(1)
    assert list(service.done) == [str(ref.id)]
    assert len(service.requests) == 3
    assert service.requests[0].document["content"] == {"value": 1}
    world.wait_for(accepted=1)
    service.always(Answer(400, b"no such metric", accepts=False))
    before = [stored(world, tmp_path / name) for name in ("repo", "other")]
    with pytest.raises(PublishError, match="was refused.*no such metric"):
        put(2)
    assert [stored(world, tmp_path / name) for name in ("repo", "other")] == before
    assert world.states() == {"accepted": 1}
    service.always(Answer(503, accepts=False))
    with pytest.raises(PublishError, match=r"was not accepted within 0\.3 s: .*503"):
        put(2, wait=0.3)
    assert [stored(world, tmp_path / name) for name in ("repo", "other")] == before
    assert world.states() == {"accepted": 1}
    # And then it goes as if nothing had been.
    service.always(Answer())
    assert world.butler.get(put(2)) == {"value": 2}
    with pytest.raises(NotFoundError, match="known: qa"):
        put(3, publish="qq")
    with pytest.raises(InvalidRequestError, match="nothing to wait for"):
        put(3, publish=())
    with pytest.raises(InvalidRequestError, match="'qa' does not take blob"):
        world.butler.put(b"x", "blob", instrument=INSTRUMENT, exposure=1, detector=0, publish="qa")
    assert world.butler.count_datasets("*", "*") == 2


@pytest.mark.req("DMS-MWBT-REQ-0072")
@pytest.mark.parametrize("undo", [True, False])
@pytest.mark.parametrize("how", ["the user goes", "kill -9"])
def test_what_was_accepted_of_a_put_that_failed_is_told_and_taken_back(
    make_world: Callable[..., World], service: QaService, tmp_path: Path, undo: bool, how: str
) -> None:
    """The service has taken it, and says so too late: the dataset is not committed."""
    world = make_world(undo=undo)
    before = stored(world, tmp_path / "repo")
    service.then(Answer(hang=True))
    code = (
        "import sys; from pantry.client import Butler; b = Butler('d', socket=sys.argv[1]);"
        "b.put({'value': 1}, 'metric_seeing', instrument='TestCam', exposure=5, run='out', publish='qa', wait=60)"
    )
    user = subprocess.Popen([sys.executable, "-c", code, world.daemon.socket], stderr=subprocess.DEVNULL)
    service.wait(lambda: len(service.requests) == 1)
    if how == "kill -9":
        world.daemon.kill()
        user.wait(30)
        world.daemon.start()
    else:
        user.kill()
        user.wait(30)
    if undo:
        service.wait(lambda: len(service.requests) == 2)
        assert (service.requests[1].method, service.requests[1].path) == ("DELETE", service.requests[0].path)
        world.wait_for()
    else:
        world.wait_for(orphan=1)
        (orphan,) = world.butler.publish_status().publications
        assert "it was not committed" in orphan.problem
        assert len(service.requests) == 1
    assert stored(world, tmp_path / "repo") == before


def test_a_crash_between_commit_and_delivery(make_world: Callable[..., World], service: QaService) -> None:
    """As a kill leaves it: one begun publication whose dataset was committed, one whose dataset never was."""
    world = make_world()
    ref = world.put(1)
    world.butler.publish(ref, "qa", wait=True)
    world.daemon.stop()
    with contextlib.closing(sqlite3.connect(world.daemon.state / "outbox.sqlite3", isolation_level=None)) as db:
        db.execute("UPDATE publication SET state = 'begun'")
        db.execute(
            "INSERT INTO publication (target, dataset, repository, dataset_type, uid, state, next_ns, created_ns,"
            " changed_ns) SELECT target, ?, repository, dataset_type, uid, state, next_ns, created_ns, changed_ns"
            " FROM publication",
            (uuid4().bytes,),
        )
    world.daemon.start()
    service.wait(lambda: len(service.requests) == 2)
    world.wait_for(accepted=1)
    assert [got.key for got in service.requests] == [str(ref.id)] * 2


@pytest.mark.req("DMS-MWBT-REQ-0072")
def test_a_service_of_others(
    make_world: Callable[..., World], service: QaService, seaweed: SeaweedServer, tmp_path: Path
) -> None:
    """SeaweedFS's filer has a REST interface: what was PUT is there to GET, once, however often it was sent."""
    address = "http://" + seaweed.filer_address.rpartition(".")[0]
    world = make_world(
        url=address + "/qa/{dataset_type}/{id}.json",
        body={"value": "{content.value}", "visit": "{data_id.exposure}"},
    )
    refs = [world.put(number, number / 10) for number in range(1, 21)]
    world.butler.publish(refs, "qa", wait=True)
    for number, ref in enumerate(refs, 1):
        status, content = http_answer(f"{address}/qa/metric_seeing/{ref.id}.json")
        assert (status, json.loads(content)) == (200, {"value": number / 10, "visit": number})
    assert http_answer(f"{address}/qa/metric_seeing/{uuid4()}.json")[0] == 404


def test_rights_and_mistakes(make_world: Callable[..., World], service: QaService) -> None:
    world = make_world(repositories=["other"])
    ref = world.put()
    with pytest.raises(NotFoundError, match="no target for publishing is called 'qq'") as caught:
        world.butler.publish(ref, "qq")
    assert "known: qa" in caught.value.hint
    with pytest.raises(InvalidRequestError, match="'qa' does not take metric_seeing of 'd'") as wrong:
        world.butler.publish(ref, "qa")
    assert "from other" in wrong.value.hint
    with pytest.raises(NotFoundError, match="no dataset has the id"):
        world.butler.publish(uuid4(), "qa")
    with pytest.raises(NotFoundError, match="no publication has the number 77"):
        world.butler.forget_publications([77])
    assert not service.requests


ASK = """
import sys
from pantry.client import Butler
from pantry.errors import PantryError
from uuid import UUID
socket, id_, number = sys.argv[1:4]
butler = Butler("d", socket=socket)
for ask in (
    lambda: butler.publish(UUID(id_), "qa"),
    lambda: butler.forget_publications([int(number)]),
    lambda: butler.retry_publications([int(number)]),
    lambda: butler.retry_publications(),
    lambda: len(butler.publish_status(states=["accepted", "waiting"]).publications),
    lambda: butler.publish(UUID(id_), "open", wait=True)[0].state,
):
    try:
        print(ask())
    except PantryError as exc:
        print(exc.code)
"""


@pytest.mark.root
def test_who_may_publish(
    needs_root: None, make_daemon: Callable[..., PantryDaemon], service: QaService, tmp_path: Path
) -> None:
    common = {"url": service.url + "/{id}", "dataset_types": ["metric_*"], **EAGER}
    config = {"publish": {"qa": common, "open": {**common, "publishers": [str(USERS[0])]}}}
    daemon = make_daemon(config, system=True)
    daemon.expected_log = ("publish",)
    with Butler.create("d", str(tmp_path / "repo"), readers=["*"], socket=daemon.socket) as butler:
        furnish(butler, 3)
        butler.register_dataset_type("metric_seeing", ["instrument", "exposure"], "StructuredDataDict")
        ref = butler.put({"value": 1}, "metric_seeing", instrument=INSTRUMENT, exposure=1, run="out")
        (own,) = butler.publish(ref, "qa", wait=True)
        other = ref.id
        words = (daemon.socket, str(other), str(own.number))
        reader = run_as(USERS[0], ASK, *words).stdout.splitlines()
        assert reader == ["permission_denied", "not_found", "not_found", "0", "0", "accepted"]
        assert run_as(USERS[1], ASK, *words).stdout.splitlines()[-2:] == ["0", "permission_denied"]
        assert {one.owner: one.target for one in butler.publish_status(states=["accepted"]).publications} == {
            "root": "qa",
            str(USERS[0]): "open",
        }


def test_command_line(make_world: Callable[..., World], service: QaService) -> None:
    world = make_world()
    refs = [world.put(number) for number in range(1, 4)]
    listed = pantry(world.butler, "publish", "targets")
    assert listed.stdout.split()[-4:] == ["qa", "PUT", f"{service.url}/m/{{id}}", "metric_*"]
    service.then(Answer(422, b"bad unit", accepts=False))
    done = pantry(world.butler, "publish", "datasets", "d", "metric_seeing", "-c", "out", "--to", "qa", "--wait")
    assert done.returncode == 1
    assert "1 of 3 datasets are not published to 'qa'" in done.stderr
    assert "bad unit" in done.stderr
    assert "Traceback" not in done.stderr
    status = pantry(world.butler, "publish", "status")
    assert status.stdout.splitlines()[0] == "qa: 2 accepted, 1 refused"
    assert "bad unit" in status.stdout
    (bad,) = json.loads(pantry(world.butler, "publish", "status", "qa", "--json").stdout)["publications"]
    assert pantry(world.butler, "publish", "retry", str(bad["number"])).stdout == "1 are tried again\n"
    world.wait_for(accepted=3)
    assert set(service.done) == {str(ref.id) for ref in refs}
    none = pantry(world.butler, "publish", "datasets", "d", "metric_seeing", "-c", "out", "--to", "nowhere")
    assert "known: qa" in none.stderr
    assert pantry(world.butler, "publish", "retry").returncode == 2
