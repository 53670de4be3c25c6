"""What reaches a service of the Virtual Observatory, and what of its answers is believed."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from pantry.backends.admission import Admission
from pantry.backends.placeholders import split_statement
from pantry.backends.querying import Circle, ParameterValue, Point, Polygon, QueryOutcome, Statement
from pantry.backends.tap import TapBackendFactory
from pantry.backends.tap.adql import written
from pantry.backends.tap.parameters import parameters_of
from pantry.errors import BackendError, ConfigError, InvalidQueryError, LimitExceededError, PantryError

_scalars = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",))),
    st.sampled_from(["'", "''", "\\'", "' OR 1=1 --", "*/", "/*", "--", '"', ":m", "\n--", "'; DROP TABLE x; --"]),
)
_values = st.one_of(_scalars, st.lists(_scalars, min_size=1, max_size=4).map(tuple))
_NUMBER = r"\(?-?[0-9.e+-]+\)?|TRUE|FALSE"


def tokens(text: str) -> list[str]:
    """Tokens of ADQL, by rules of the test's own: strings, comments, and all else by character."""
    found, position = [], 0
    while position < len(text):
        if text[position] == "'":
            end = position + 1
            while True:
                end = text.index("'", end) + 1
                if text[end : end + 1] != "'":
                    break
                end += 1
            found.append(text[position:end])
        elif text.startswith("--", position):
            end = text.find("\n", position)
            end = len(text) if end < 0 else end
            found.append("comment")
        else:
            end = position + 1
            found.append(text[position])
        position = end
    return [token for token in found if token.strip()]


@given(_values, _values)
def test_no_value_is_more_than_itself(first: ParameterValue, second: ParameterValue) -> None:
    """Whatever a value holds, what stands around it stays what it was, and each text is one string."""
    statement = Statement(text="SELECT a-:x,'b':y--:x\n FROM t", parameters={"x": first, "y": second})
    several = [value if isinstance(value, tuple) else (value,) for value in (first, second)]
    elements = [one for value in several for one in value]
    if any(isinstance(one, str) and ("--" in one or "\\" in one) for one in elements):
        with pytest.raises(InvalidQueryError, match="minus"):
            written(statement)
        return
    text = written(statement)
    found = tokens(text)
    assert found[: len("SELECTa-")] == list("SELECTa-")
    assert found[-len("FROMt") - 1 :] == ["comment", *"FROMt"]
    given_texts = [
        one
        for value in (first, second)
        for one in (value if isinstance(value, tuple) else (value,))
        if isinstance(one, str)
    ]
    strings = [token[1:-1].replace("''", "'") for token in found if token.startswith("'")]
    assert sorted(strings) == sorted([*given_texts, "b"])
    assert found.count("comment") == 1
    assert all(piece.kind == "text" for piece in split_statement(text))


def test_each_type_is_written_in_its_own_way() -> None:
    values: dict[str, ParameterValue] = {
        "i": -5,
        "f": 1.5e-7,
        "s": "O'Neill",
        "l": ("a", "b'"),
        "p": Point(ra=1.0, dec=-2.0),
        "c": Circle(ra=1.0, dec=-2.0, radius=0.5),
        "q": Polygon(corners=((1.0, 2.0), (3.0, 4.0), (5.0, 6.5))),
    }
    text = " ".join(f":{name}" for name in values)
    assert " ".join(written(Statement(text=text, parameters=values)).split()) == (
        "(-5) 1.5e-07 'O''Neill' ('a', 'b''') POINT('ICRS', 1.0, -2.0) CIRCLE('ICRS', 1.0, -2.0, 0.5) "
        "POLYGON('ICRS', 1.0, 2.0, 3.0, 4.0, 5.0, 6.5)"
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, "a\0b", "\ud800", 2**63, (), (1.0, math.nan), None])
def test_what_has_no_place_in_adql_is_refused(value: Any) -> None:
    with pytest.raises(InvalidQueryError, match="parameter 'x'"):
        written(Statement(text="SELECT :x", parameters={"x": value}))


def test_parameters_of_services_that_are_no_tap() -> None:
    statement = Statement(
        text="CONE = :where AND VERB = '2' AND BAND=:band",
        parameters={"where": Circle(ra=10.0, dec=-5.0, radius=0.1), "band": "a=b&c"},
    )
    assert parameters_of(statement) == [
        *[("RA", "10.0"), ("DEC", "-5.0"), ("SR", "0.1")],
        *[("VERB", "2"), ("BAND", "a=b&c")],
    ]
    for bad in ("CONE :where", "CONE = ", "x", "A = 'b' C", "= :where", "A = :nothing"):
        with pytest.raises(InvalidQueryError):
            parameters_of(Statement(text=bad, parameters={}))


@pytest.mark.parametrize(
    ("root", "options"),
    [
        ("tap+https://user:pa55@example.org/tap", {}),
        ("tap+http://example.org/tap", {"token": "pa55"}),
        ("tap+https://example.org/tap", {"token": "pa55", "username": "x"}),
        ("tap+ftp://example.org/tap", {}),
        ("tap+https://example.org/tap", {"nothing": "pa55"}),
        ("tap+https://example.org/tap", {"read_timeout_s": 0.0}),
        ("tap+https://", {}),
    ],
)
def test_wrong_configuration_is_refused_and_no_secret_told(root: str, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        TapBackendFactory(root, options, Admission(user_limit=1, node_limit=1))
    assert "pa55" not in str(caught.value)


VOTABLE = """<?xml version='1.0'?>{before}
<VOTABLE version="1.3" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE type="results">
<INFO name="QUERY_STATUS" value="{status}">{said}</INFO>
<TABLE><FIELD name="a" datatype="int"/>
<DATA><TABLEDATA><TR><TD>1</TD></TR><TR><TD>2</TD></TR></TABLEDATA></DATA></TABLE>
{after}</RESOURCE></VOTABLE>"""


def votable(*, status: str = "OK", said: str = "", before: str = "", after: str = "") -> bytes:
    return VOTABLE.format(status=status, said=said, before=before, after=after).encode()


class Service:
    """A service that answers what it is told, and remembers what it was sent."""

    def __init__(self) -> None:
        self.status, self.body, self.headers = 200, votable(), {"Content-Type": "application/x-votable+xml"}
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                service.requests.append((self.path, dict(self.headers), body))
                self.send_response(service.status)
                for name, value in service.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(service.body)))
                self.end_headers()
                self.wfile.write(service.body)

            do_GET = do_POST  # noqa: N815 - the name that the base class looks for

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def ask(self, *, max_rows: int = 100, **options: object) -> QueryOutcome:
        backend = TapBackendFactory(f"tap+{self.url}/tap", options, Admission(user_limit=1, node_limit=1))
        with tempfile.TemporaryFile() as file:
            try:
                return trio.run(backend.run_into, Statement(text="SELECT a FROM t", max_rows=max_rows), file.fileno())
            except PantryError:
                assert os.fstat(file.fileno()).st_size == 0
                raise


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.close()


def test_an_answer(service: Service) -> None:
    assert service.ask().rows == 2
    path, _, body = service.requests[0]
    assert path == "/tap/sync"
    assert b"MAXREC=100" in body


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        ({"body": votable(after='<INFO name="QUERY_STATUS" value="OVERFLOW"/>')}, LimitExceededError, "more rows"),
        ({"body": votable(status="ERROR", said="no such table &lt;t&gt;")}, InvalidQueryError, "no such table <t>"),
        ({"status": 400, "body": votable(status="ERROR", said="bad column")}, InvalidQueryError, "bad column"),
        ({"status": 403, "body": b""}, BackendError, "credentials"),
        ({"status": 503, "body": b""}, BackendError, "503"),
        ({"body": b"<html>no table</html>"}, BackendError, "cannot be read"),
        ({"body": b""}, BackendError, "cannot be read"),
        ({"body": votable()[:-200]}, BackendError, "cannot be read"),
        ({"body": votable(before='<!DOCTYPE x [<!ENTITY a "b">]>')}, BackendError, "document type"),
        ({"body": votable(before="<!-- c --> <!DOCTYPE x SYSTEM 'file:///x'>")}, BackendError, "document type"),
        ({"body": votable(before=" " * 70_000 + "<!DOCTYPE x>")}, BackendError, "document type"),
        ({"body": votable().decode().encode("utf-16")}, BackendError, "encoding"),
        ({"status": 302, "headers": {"Location": "file:///etc/passwd"}}, BackendError, ""),
    ],
)  # fmt: skip
def test_answers_that_are_none(service: Service, answer: dict[str, Any], error: type[PantryError], said: str) -> None:
    for name, value in answer.items():
        setattr(service, name, value)
    with pytest.raises(error) as caught:
        service.ask()
    assert said in str(caught.value)


def test_more_rows_than_were_asked_for_are_an_error(service: Service) -> None:
    with pytest.raises(LimitExceededError):
        service.ask(max_rows=1)


def test_an_answer_that_does_not_end(service: Service) -> None:
    service.body = votable(after="<!-- " + "x" * 200_000 + " -->")
    with pytest.raises(LimitExceededError, match="max_answer_bytes"):
        service.ask(max_answer_bytes=100_000)


def test_credentials_go_to_the_service_itself_only(service: Service) -> None:
    other = Service()
    try:
        service.ask(token="pa55")
        assert service.requests[0][1]["Authorization"] == "Bearer pa55"
        service.status, service.headers = 303, {"Location": f"{other.url}/elsewhere"}
        assert service.ask(username="me", password="pa55").rows == 2
        assert service.requests[1][1]["Authorization"].startswith("Basic ")
        assert [path for path, _, _ in other.requests] == ["/elsewhere"]
        assert "Authorization" not in other.requests[0][1]
    finally:
        other.close()
