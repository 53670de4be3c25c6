"""Users' own rights at a VOSpace, by certificate, password and token, and at an engineering facility database."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from typing import Any

import pytest
from tests.integration.saying import everything_said
from tests.integration.test_node_secrets import VOTABLE
from tests.integration.test_own_rights import ADD, ANNA, BEN, LITTLE, NO_CREDENTIAL, READ, REMOVE, SIZE
from tests.servers.efd import EfdPair
from tests.servers.efd_data import NIGHTS_TAI_S, NS, TOPICS
from tests.servers.other_user import run_as
from tests.servers.pantryd import PantryDaemon
from tests.servers.qa_service import Answer, QaService
from tests.servers.vospace import GROUP, Person, VospaceServer
from tests.servers.vospace.names import GROUP_READ, PUBLIC_READ

pytestmark = pytest.mark.root

QUERY = """
import json, os, sys
from pantry.client.connection import connect
from pantry.errors import PantryError
from pantry.model.queries import TopicQuery
from pantry.wire.operations import ListCache, RunQuery
connection = connect(sys.argv[1])
question = TopicQuery(topic=sys.argv[2], start_tai_ns=int(sys.argv[3]), stop_tai_ns=int(sys.argv[4]))
try:
    answer, fds = connection.call_with_fds(RunQuery(service="efd", question=question))
    cached = sum(len(batch.objects) for batch in connection.stream(ListCache()))
    print(json.dumps({"cached": answer.was_cached, "size": os.fstat(fds[0]).st_size > 0, "objects": cached}))
except PantryError as exc:
    print(json.dumps({"code": exc.code, "text": str(exc)}))
"""


def asked(daemon: PantryDaemon, uid: int, code: str, *words: str, **environment: str) -> dict[str, Any]:
    done = run_as(uid, code, daemon.socket, *words, environment=environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def add(daemon: PantryDaemon, uid: int, uri: str, **credential: str) -> None:
    assert asked(daemon, uid, ADD, uri, "600", CREDENTIAL=json.dumps(credential)) == {}


def test_a_vospace_where_a_group_may_read(
    needs_root: None, make_daemon: Callable[..., PantryDaemon], vospace: VospaceServer
) -> None:
    """Anna owns the file and shows her proxy certificate; Ben is in the group, by his password; a stranger is not."""
    path = "observatory/of-a-group"
    vospace.make_containers(path, properties={PUBLIC_READ: "false", GROUP_READ: GROUP})
    content = os.urandom(SIZE)
    vospace.put(f"{path}/image.fits", content)
    root = vospace.uri(path)
    options = {"endpoint_url": vospace.secure_endpoint, "authority_file": str(vospace.authority_file)}
    config = {
        "log_level": "debug",
        "storage": [{"match": "vos://", "options": options, "rights": "user"}],
        "prefixes": {"files": {"root": root, "readers": ["*"], "ttl_s": 0}},
    }
    daemon = make_daemon(config, system=True)
    whole = {"sha": hashlib.sha256(content).hexdigest()}

    def sent(uid: int) -> int:
        vospace.forget_requests()
        assert asked(daemon, uid, READ, "image.fits") == whole
        return sum(one.sent_bytes for one in vospace.requests() if one.endpoint in ("files", "data"))

    def refused(uid: int, why: str) -> None:
        found = asked(daemon, uid, READ, "image.fits")
        assert found.get("code") == "backend_access", found
        assert why in found["text"]

    def as_password(person: Person) -> dict[str, str]:
        return {"username": person.name, "password": person.password}

    refused(ANNA, NO_CREDENTIAL)
    proxy = vospace.owner.proxy.read_text()
    add(daemon, ANNA, root, certificate=proxy)
    assert sent(ANNA) >= SIZE
    assert sent(ANNA) == 0
    refused(BEN, NO_CREDENTIAL)
    add(daemon, BEN, root, token=vospace.stranger.token)
    refused(BEN, "your credential")
    add(daemon, BEN, root, token="of-nobody")
    refused(BEN, "your credential")
    add(daemon, BEN, root, **as_password(vospace.member))
    assert 0 < sent(BEN) < LITTLE, "a piece that proves it"
    assert asked(daemon, ANNA, REMOVE, root) == {}
    refused(ANNA, NO_CREDENTIAL)
    hidden = [vospace.stranger.token, vospace.member.password]
    hidden += [line for line in proxy.splitlines() if "-----" not in line and len(line) > 20]
    for where, text in everything_said(daemon, []):
        assert not [one for one in hidden if one in text], where


def test_answers_of_a_service_are_for_who_asked(
    needs_root: None, make_daemon: Callable[..., PantryDaemon], efd: EfdPair
) -> None:
    options = {name: value for name, value in efd.base.options.items() if name not in ("username", "password")}
    service = {"root": efd.base.root, "options": options, "readers": ["*"], "ttl_s": 3600, "rights": "user"}
    daemon = make_daemon({"log_level": "debug", "services": {"efd": service}}, system=True)
    begin = (NIGHTS_TAI_S[1] - 2) * NS
    words = (TOPICS[3].name, str(begin), str(begin + 3 * NS))
    user, password = efd.influx.reader

    def refused(uid: int) -> str:
        found = asked(daemon, uid, QUERY, *words)
        assert found.get("code") == "backend_access", found
        return str(found["text"])

    assert NO_CREDENTIAL in refused(ANNA)
    add(daemon, ANNA, efd.base.root, username=user, password=password)
    assert asked(daemon, ANNA, QUERY, *words) == {"cached": False, "size": True, "objects": 1}
    assert asked(daemon, ANNA, QUERY, *words) == {"cached": True, "size": True, "objects": 1}
    assert NO_CREDENTIAL in refused(BEN)
    add(daemon, BEN, efd.base.root, username=user, password="wrong" + password)
    refused(BEN)
    add(daemon, BEN, efd.base.root, username=user, password=password)
    assert asked(daemon, BEN, QUERY, *words) == {"cached": False, "size": True, "objects": 1}, "not what Anna has"
    assert asked(daemon, ANNA, REMOVE, efd.base.root) == {}
    assert NO_CREDENTIAL in refused(ANNA)
    for where, text in everything_said(daemon, []):
        assert password not in text, where


def test_a_tap_service_is_shown_each_users_own_token(
    needs_root: None, make_daemon: Callable[..., PantryDaemon]
) -> None:
    ask = """
import json, sys
from pantry.client.connection import connect
from pantry.errors import PantryError
from pantry.wire.operations import RunQuery
try:
    answer, _ = connect(sys.argv[1]).call_with_fds(RunQuery(query="one"))
    print(json.dumps({"cached": answer.was_cached}))
except PantryError as exc:
    print(json.dumps({"code": exc.code, "text": str(exc)}))
"""
    with QaService() as service:
        root = f"tap+{service.url}/tap"
        service.always(Answer(body=VOTABLE, headers={"Content-Type": "application/x-votable+xml"}))
        config = {
            "services": {"gaia": {"root": root, "readers": ["*"], "ttl_s": 3600, "rights": "user"}},
            "queries": {"one": {"service": "gaia", "text": "SELECT n FROM t"}},
        }
        daemon = make_daemon(config, system=True)
        assert NO_CREDENTIAL in asked(daemon, ANNA, ask)["text"]
        assert service.requests == []
        add(daemon, ANNA, root, token="of-anna")
        assert asked(daemon, ANNA, ask) == {"cached": False}
        assert asked(daemon, ANNA, ask) == {"cached": True}
        assert NO_CREDENTIAL in asked(daemon, BEN, ask)["text"]
        add(daemon, BEN, root, token="of-ben")
        said = b"<INFO name='QUERY_STATUS' value='ERROR'>there is no token of-ben here</INFO>"
        service.then(Answer(status=403, body=VOTABLE.replace(b'<INFO name="QUERY_STATUS" value="OK"/>', said)))
        found = asked(daemon, BEN, ask)
        assert found["code"] == "backend_access"
        assert "your credential" in found["text"]
        assert "no token *** here" in found["text"]
        assert asked(daemon, BEN, ask) == {"cached": False}
        shown = [one.headers["Authorization"] for one in service.requests]
        assert shown == ["Bearer of-anna", "Bearer of-ben", "Bearer of-ben"]
        # Another token of hers may see something else.
        add(daemon, ANNA, root, token="of-anna-as-well")
        assert asked(daemon, ANNA, ask) == {"cached": False}
