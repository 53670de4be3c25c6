"""The VOSpace test server follows the standard: transfers, their jobs, and the bytes.

Numbers are sections of VOSpace 2.1.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from tests.contract.vospace.asker import BASIC, CERTIFICATE, CORE, TIMEOUT_S, Asker, begin_put, told, until
from tests.servers.vospace import GROUP

# 5.4 and 3.6: transfers


def test_data_are_pushed_and_pulled_and_the_jobs_end_with_them(owner: Asker) -> None:
    job = owner.job(owner.transfer("f", "pushToVoSpace", "httpput", inside='<vos:param uri="urn:a:b">1</vos:param>'))
    assert owner.ask("GET", f"{job}/phase", params={"WAIT": "5", "PHASE": "QUEUED"}).text == "EXECUTING"
    assert owner.paths() == set()
    endpoint = owner.ask("GET", owner.result(job, "transferDetails")).text.partition("endpoint>")[2].partition("<")[0]
    assert requests.put(endpoint, b"data", timeout=TIMEOUT_S).status_code == 201  # nobody says who it is
    assert owner.end(job) == ("COMPLETED", "")
    assert owner.stored("f") == b"data"
    assert owner.pull("f").content == b"data"
    [(pull, _)] = owner.negotiate("f", "pullFromVoSpace", "httpget")
    assert told(owner.ask("GET", endpoint)) == (403, "PermissionDenied")
    assert told(owner.ask("PUT", pull, b"new")) == (403, "PermissionDenied")
    assert owner.stored("f") == b"data"


def test_new_data_clear_the_properties_but_not_the_rights(owner: Asker) -> None:
    owner.create("f", "DataNode", title="old", groupread=GROUP)
    assert owner.push("f", b"one").status_code == 200
    shown = owner.properties("f")
    assert ("title" in shown, shown["groupread"], shown["length"]) == (False, GROUP, "3")
    owner.server.set_dialect(keep_properties=True)
    owner.set("f", {"title": "kept"})
    owner.push("f", b"other")
    assert owner.properties("f")["title"] == "kept"


def test_protocols_and_security_methods_are_negotiated(owner: Asker) -> None:
    owner.seed("f")
    asked = ["ftpget", "httpget", f"httpget+{CERTIFICATE}", f"httpget+{BASIC}", f"httpsget+{CERTIFICATE}", "httpput"]
    found = owner.negotiate("f", "pullFromVoSpace", *asked)
    assert [(url.partition(":")[0], method) for url, method in found] == [
        ("http", ""),
        ("http", BASIC),
        ("https", CERTIFICATE),
    ]
    open_url, closed_url = found[0][0], found[1][0]
    owner.set("f", {"publicread": "false"})
    assert requests.get(open_url, timeout=TIMEOUT_S).status_code == 200
    assert requests.get(closed_url, timeout=TIMEOUT_S).status_code == 403
    people = owner.server
    login = (people.owner.name, people.owner.password)
    assert requests.get(closed_url, auth=login, timeout=TIMEOUT_S).content == b"0123456789"
    certificate, authority = str(people.owner.certificate), str(people.authority_file)
    with_certificate = requests.get(found[2][0], cert=certificate, verify=authority, timeout=TIMEOUT_S)
    assert with_certificate.content == b"0123456789"


@pytest.mark.parametrize(
    ("name", "direction", "protocol", "view", "fault"),
    [
        ("f", "pullFromVoSpace", "ftpget", "", "ProtocolNotSupported"),
        ("f", "pullFromVoSpace", "httpput", "", "ProtocolNotSupported"),
        ("missing", "pullFromVoSpace", "httpget", "", "NodeNotFound"),
        ("missing/g", "pushToVoSpace", "httpput", "", "ContainerNotFound"),
        ("f", "pullFromVoSpace", "httpget", "anyview", "ViewNotSupported"),
        ("f", "pullFromVoSpace", "httpget", "votable", "ViewNotSupported"),
        ("f", "pushToVoSpace", "httpput", "defaultview", "ViewNotSupported"),
        ("a", "pullFromVoSpace", "httpget", "", "ViewNotSupported"),
        ("f", "urn:x:sideways", "httpget", "", "InvalidArgument"),
    ],
)
def test_negotiations_that_fail_have_no_protocols_and_a_job_that_says_why(
    owner: Asker, name: str, direction: str, protocol: str, view: str, fault: str
) -> None:
    owner.seed("f")
    owner.create("a")
    inside = f'<vos:view uri="{CORE}{view}"/>' if view else ""
    document = owner.transfer(name, direction, inside=f'{inside}<vos:protocol uri="{CORE}{protocol}"/>')
    redirect = owner.ask("POST", "synctrans", document, allow_redirects=False)
    job, _, rest = redirect.headers["Location"].partition("/results/")
    assert (redirect.status_code, rest) == (303, "transferDetails")
    assert "protocol" not in owner.ask("GET", redirect.headers["Location"]).text
    phase, text = owner.end(job)
    assert (phase, text.split()[0]) == ("ERROR", fault)
    summary = owner.ask("GET", job).text.partition("<uws:message>")[2].partition("<")[0]
    assert summary.replace(" ", "") == fault
    owner.server.set_dialect(fault_details=False)
    assert owner.end(job) == ("ERROR", fault)


def test_transfers_by_parameters(owner: Asker) -> None:
    owner.seed("f")
    wanted = {"TARGET": owner.uri("f"), "DIRECTION": "pullFromVoSpace", "PROTOCOL": f"{CORE}httpget"}
    for method in ("GET", "POST"):
        answer = owner.ask(method, "synctrans", params=wanted, allow_redirects=False)
        assert answer.status_code == 200
        assert "endpoint" in answer.text
    redirect = owner.ask("GET", "synctrans", params={**wanted, "REQUEST": "redirect"}, allow_redirects=False)
    assert redirect.status_code == 303
    assert owner.ask("GET", redirect.headers["Location"]).content == b"0123456789"
    missing = {**wanted, "TARGET": owner.uri("missing"), "REQUEST": "redirect"}
    assert told(owner.ask("GET", "synctrans", params=missing)) == (404, "NodeNotFound")
    assert told(owner.ask("GET", "synctrans", params={**wanted, "DIRECTION": "pullToVoSpace"}))[1] == "InvalidArgument"
    owner.server.set_dialect(parameter_transfers=False)
    assert told(owner.ask("GET", "synctrans", params=wanted))[0] == 501


def test_the_service_fetches_and_sends_by_itself(owner: Asker) -> None:
    owner.seed("f", b"carried")
    [(source, _)] = owner.negotiate("f", "pullFromVoSpace", "httpget")
    dead = f"http://127.0.0.1:{owner.server.port + 5}/x"

    def inside(protocol: str, *endpoints: str) -> str:
        return "".join(
            f'<vos:protocol uri="{CORE}{protocol}"><vos:endpoint>{each}</vos:endpoint></vos:protocol>'
            for each in endpoints
        )

    fetch = owner.transfer("g", "pullToVoSpace", inside=inside("httpget", dead, source))
    assert owner.end(owner.job(fetch)) == ("COMPLETED", "")
    assert owner.stored("g") == b"carried"
    [(sink, _)] = owner.negotiate("h", "pushToVoSpace", "httpput")
    send = owner.transfer("g", "pushFromVoSpace", inside=inside("httpput", dead, sink))
    assert owner.end(owner.job(send)) == ("COMPLETED", "")
    assert owner.stored("h") == b"carried"
    lost = owner.transfer("i", "pullToVoSpace", inside=inside("httpget", dead))
    assert owner.end(owner.job(lost))[1].startswith("TransferFailed")
    assert "i" not in owner.paths()


def test_a_node_is_busy_while_its_data_come_and_as_before_if_they_do_not(owner: Asker) -> None:
    owner.seed("f", b"before")
    for name, before in (("f", b"before"), ("new", None)):
        [(endpoint, _)] = owner.negotiate(name, "pushToVoSpace", "httpput")
        with begin_put(endpoint, 100, b"half"):
            until(lambda name=name: 'busy="true"' in owner.get(name).text)  # type: ignore[misc]
            assert owner.end(owner.job(owner.transfer(name, "pushToVoSpace", "httpput")))[1].startswith("NodeBusy")
            assert told(owner.ask("GET", f"files/{owner.path(name)}"))[1] == "NodeBusy"
        until(lambda name=name: 'busy="true"' not in owner.get(name).text)  # type: ignore[misc]
        assert owner.stored(name) == before
    assert owner.server.residue() == set()


def test_who_reads_has_one_version_whatever_is_put_meanwhile(owner: Asker) -> None:
    owner.seed("f", b"1" * (8 << 20))
    with owner.ask("GET", f"files/{owner.path('f')}", stream=True) as answer:
        assert answer.raw.read(100) == b"1" * 100
        assert owner.push("f", b"2").status_code == 200
        rest = answer.raw.read()
    assert rest == b"1" * ((8 << 20) - 100)
    assert owner.pull("f").content == b"2"


def test_without_busy_nodes_the_last_one_to_end_wins(owner: Asker) -> None:
    owner.server.set_dialect(busy=False)
    [(endpoint, _)] = owner.negotiate("f", "pushToVoSpace", "httpput")
    with begin_put(endpoint, 8, b"slow") as connection:
        until(lambda: owner.paths() == {"f"})
        assert 'busy="true"' not in owner.get("f").text
        assert owner.push("f", b"quick").status_code == 200
        assert owner.pull("f").content == b"quick"
        connection.sendall(b"slow")
        until(lambda: owner.stored("f") == b"slowslow")


def test_data_with_a_wrong_digest_are_refused(owner: Asker) -> None:
    owner.seed("f", b"before")
    assert owner.push("f", b"damaged", headers={"Digest": "md5=XrY7u+Ae7tCTyyK7j1rNww=="}).status_code == 412
    assert owner.stored("f") == b"before"
    assert owner.push("f", b"hello world", headers={"Digest": "md5=XrY7u+Ae7tCTyyK7j1rNww=="}).status_code == 200


def test_the_bit_bucket(owner: Asker) -> None:
    assert owner.push(".null", b"away").status_code == 201
    assert owner.paths() == set()
    assert owner.pull(".null").content == b""


def test_habits_of_endpoints(owner: Asker) -> None:
    owner.seed("f")
    owner.server.set_dialect(one_shot=True)
    [(endpoint, _)] = owner.negotiate("f", "pullFromVoSpace", "httpget")
    assert owner.ask("HEAD", endpoint).status_code == 200
    assert [owner.ask("GET", endpoint).status_code for _ in range(2)] == [200, 403]
    owner.server.set_dialect(dead_endpoints=2)
    *dead, good = owner.negotiate("f", "pullFromVoSpace", "httpget")
    assert len(dead) == 2
    with pytest.raises(requests.ConnectionError):
        owner.ask("GET", dead[0][0])
    assert owner.ask("GET", good[0]).status_code == 200
    owner.server.set_dialect(data_on_other_host=True)
    owner.server.forget_requests()
    assert owner.pull("f").url.startswith(f"http://127.0.0.2:{owner.server.port + 3}/")
    assert owner.server.requests()[-1].has_credentials  # a client that sends them there is seen
    owner.server.set_dialect(redirect_endpoints=True)
    answer = owner.push("f", b"elsewhere!")
    assert [each.status_code for each in (*answer.history, answer)] == [307, 200]
    assert owner.stored("f") == b"elsewhere!"
    assert owner.pull("f").content == b"elsewhere!"
    owner.server.set_dialect(files_redirect=True)
    assert owner.ask("GET", f"files/{owner.path('f')}").history[0].status_code == 303
    owner.server.set_dialect(preauthorised=False)
    owner.set("f", {"publicread": "false"})
    [(endpoint, _)] = owner.negotiate("f", "pullFromVoSpace", "httpget")
    assert requests.get(endpoint, timeout=TIMEOUT_S).status_code == 403
    owner.server.set_dialect(create_on_negotiation=True)
    owner.negotiate("g", "pushToVoSpace", "httpput")
    assert owner.stored("g") == b""


# The bytes


def test_ranges(owner: Asker) -> None:
    owner.seed("f")
    for asked, status, data in (
        ("bytes=0-0", 206, b"0"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-2", 206, b"89"),
        ("bytes=8-99", 206, b"89"),
        ("bytes=10-", 416, b""),
        ("bytes=3-2", 200, b"0123456789"),
        ("bytes=0-1,4-5", 200, b"0123456789"),
        ("lines=1-2", 200, b"0123456789"),
    ):
        answer = owner.ask("GET", f"files/{owner.path('f')}", headers={"Range": asked})
        assert (answer.status_code, answer.content) == (status, data), asked
        first = 10 - len(data) if asked != "bytes=0-0" else 0
        told_range = {206: f"bytes {first}-{first + len(data) - 1}/10", 416: "bytes */10"}.get(status)
        assert answer.headers.get("Content-Range") == told_range
    head = owner.ask("HEAD", f"files/{owner.path('f')}")
    assert (head.headers["Content-Length"], head.headers["Digest"]) == ("10", "md5=eB5eJF1ptWaXm4bijSPyxw==")
    owner.server.set_dialect(ranges=False, digests=False, unknown_length=True)
    answer = owner.ask("GET", f"files/{owner.path('f')}", headers={"Range": "bytes=0-0"})
    assert (answer.status_code, answer.content) == (200, b"0123456789")
    assert not {"Digest", "Content-Length", "Accept-Ranges"} & answer.headers.keys()
    assert "MD5" not in owner.properties("f")


def test_conditional_requests(owner: Asker) -> None:
    owner.server.set_dialect(conditional=True)
    url = f"files/{owner.path('f')}"
    first = owner.ask("PUT", url, b"one", headers={"If-None-Match": "*"})
    assert first.status_code == 201
    assert owner.ask("PUT", url, b"two", headers={"If-None-Match": "*"}).status_code == 412
    assert owner.ask("PUT", url, b"two", headers={"If-Match": '"other"'}).status_code == 412
    assert owner.stored("f") == b"one"
    second = owner.ask("PUT", url, b"two", headers={"If-Match": first.headers["ETag"]})
    assert second.status_code == 200
    tag = second.headers["ETag"]
    assert owner.ask("GET", url, headers={"If-None-Match": tag}).status_code == 304
    assert owner.ask("GET", url, headers={"If-Match": first.headers["ETag"]}).status_code == 412
    assert owner.ask("GET", url, headers={"Range": "bytes=0-0", "If-Range": first.headers["ETag"]}).content == b"two"
    owner.server.set_dialect()
    assert owner.ask("PUT", url, b"three", headers={"If-None-Match": "*"}).status_code == 200  # and says nothing of it


def test_a_quota_holds_at_negotiation_and_while_data_come(owner: Asker) -> None:
    owner.seed("a/f")
    owner.server.set_quota(owner.path("a"), 100)
    assert owner.properties("a")["availableSpace"] == "90"
    length = f'<vos:param uri="{CORE}length">91</vos:param>'
    job = owner.job(owner.transfer("a/g", "pushToVoSpace", "httpput", inside=length))
    assert owner.end(job)[1].startswith("QuotaExceeded")
    assert told(owner.push("a/g", b"x" * 91)) == (413, "QuotaExceeded")
    owner.server.set_dialect(quota_status=507)
    chunks = iter([b"x" * 50, b"x" * 41])
    assert told(owner.push("a/g", chunks)) == (507, "QuotaExceeded")  # type: ignore[arg-type]
    assert owner.relocate("a/f", "a/h", keep=True) == ("COMPLETED", "")
    assert owner.push("a/g", b"x" * 80).status_code == 201
    assert owner.relocate("a/f", "a/i", keep=True)[1].startswith("QuotaExceeded")
    assert owner.paths() == {"a", "a/f", "a/g", "a/h"}


# UWS


def test_jobs_wait_are_aborted_and_destroyed(owner: Asker, others: dict[str, Asker]) -> None:
    owner.seed("f")
    owner.server.set_dialect(hold_jobs=True)
    document = owner.transfer("f", owner.uri("g"), inside="<vos:keepBytes>false</vos:keepBytes>")
    job = owner.job(document, run=False)
    assert owner.ask("GET", f"{job}/phase").text == "PENDING"
    owner.phase(job, "RUN")
    assert owner.ask("GET", f"{job}/phase", params={"WAIT": "0.05"}).text == "QUEUED"
    assert told(others["stranger"].ask("GET", job)) == (403, "PermissionDenied")
    assert told(others["anonymous"].ask("POST", f"{job}/phase?PHASE=ABORT")) == (403, "PermissionDenied")
    owner.phase(job, "ABORT")
    assert owner.ask("GET", job, params={"WAIT": "60"}).text.count("ABORTED") == 1
    owner.server.set_dialect()
    second = owner.job(document)
    assert owner.end(second) == ("COMPLETED", "")
    assert owner.paths() == {"g"}
    listed = owner.ask("GET", "transfers", params={"PHASE": "ABORTED"}).text
    assert job.rpartition("/")[2] in listed
    assert second.rpartition("/")[2] not in listed
    assert "jobref" not in owner.ask("GET", "transfers", params={"AFTER": "2999-01-01T00:00:00Z"}).text
    assert owner.ask("GET", "transfers", params={"LAST": "1"}).text.count("<uws:jobref") == 1
    assert told(others["stranger"].ask("DELETE", job)) == (403, "PermissionDenied")
    assert owner.ask("DELETE", job).status_code == 200
    assert owner.ask("GET", job).status_code == 404
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    owner.ask("POST", f"{second}/destruction", "DESTRUCTION=2001-01-01T00:00:00Z", headers=form, allow_redirects=False)
    assert owner.ask("GET", second).status_code == 404


def test_a_blocking_poll_is_answered_when_the_phase_changes(owner: Asker) -> None:
    owner.seed("f")
    owner.server.set_dialect(hold_jobs=True)
    job = owner.job(owner.transfer("f", owner.uri("g"), inside="<vos:keepBytes>false</vos:keepBytes>"))
    owner.server.forget_requests()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(owner.ask, "GET", f"{job}/phase", params={"WAIT": "60", "PHASE": "QUEUED"})
        until(lambda: len(owner.server.requests()) == 1)
        assert not waiting.done()
        owner.server.set_dialect()
        assert waiting.result().text in ("EXECUTING", "COMPLETED")


def test_a_transfer_over_its_time_is_aborted_and_its_url_dead(owner: Asker) -> None:
    job = owner.job(owner.transfer("f", "pushToVoSpace", "httpput"))
    until(lambda: owner.ask("GET", f"{job}/phase").text == "EXECUTING")
    endpoint = owner.ask("GET", owner.result(job, "transferDetails")).text.partition("endpoint>")[2].partition("<")[0]
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    owner.ask("POST", f"{job}/executionduration", "EXECUTIONDURATION=0", headers=form)
    assert owner.ask("GET", f"{job}/executionduration").text == "0"
    assert owner.ask("GET", f"{job}/phase").text == "EXECUTING"  # 0 is no end
    owner.phase(job, "ABORT")
    assert owner.ask("PUT", endpoint, b"late").status_code == 403
    assert owner.paths() == set()
