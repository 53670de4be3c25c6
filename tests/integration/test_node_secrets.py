"""The node's secrets in files, variables and systemd's directory, for every kind of origin; and shown nowhere."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy.engine import make_url
from tests.integration.saying import everything_said
from tests.servers.efd import EfdPair
from tests.servers.nginx import NginxServer
from tests.servers.pantryd import PantryDaemon
from tests.servers.postgresql import PostgresqlServer
from tests.servers.qa_service import Answer, QaService
from tests.servers.seaweedfs import SeaweedServer
from tests.servers.vospace import VospaceServer

from pantry.client import Butler, ObjectPrefix, QueryService
from pantry.client.cli.main import cli
from pantry.client.connection import connect
from pantry.errors import BackendAccessError, PantryError
from pantry.model.queries import NamesQuery
from pantry.wire.operations import RunQuery

LATEST_S = 30.0


@pytest.fixture
def keep(short_dir: Path) -> Callable[[str, str], str]:
    """Put a secret into a file of its own."""

    def made(name: str, secret: str) -> str:
        file = short_dir / name
        file.touch(0o600)
        file.write_text(secret + "\n")
        return str(file)

    return made


@pytest.fixture
def database(postgresql: PostgresqlServer) -> Iterator[str]:
    with postgresql.database() as url:
        yield url


def test_s3_keys_and_the_password_of_a_registry(
    make_daemon: Callable[..., PantryDaemon],
    storage_config: dict[str, Any],
    s3_root: str,
    seaweed: SeaweedServer,
    postgresql: PostgresqlServer,
    database: str,
    keep: Callable[[str, str], str],
) -> None:
    """The key from a variable, its secret from systemd, the database's password from a file; and a wrong secret."""
    url = database
    made = make_daemon(storage_config)
    Butler.create("made", s3_root, registry=url, socket=made.socket)
    options = storage_config["storage"][0]["options"]
    given = Path(keep("seaweed-secret", seaweed.secret_key))
    wrong = seaweed.secret_key[::-1]
    config = {
        "log_level": "debug",
        "storage": [
            {
                "match": "s3://",
                "options": {
                    **options,
                    "access_key_id": {"env": "SEAWEED_KEY"},
                    "secret_access_key": {"systemd": given.name},
                },
            },
            {"match": f"{s3_root}/other", "options": {"secret_access_key": {"file": keep("wrong", wrong)}}},
        ],
        "repositories": {
            "read": {
                "root": s3_root,
                "registry": url.replace(f":{postgresql.password}@", "@"),
                "registry_password": {"file": keep("db", postgresql.password)},
            }
        },
        "prefixes": {"refused": {"root": f"{s3_root}/other"}},
    }
    daemon = make_daemon(config, start=False)
    daemon.start(env={"SEAWEED_KEY": seaweed.access_key, "CREDENTIALS_DIRECTORY": str(given.parent)})
    butler = Butler("read", run="u/me", socket=daemon.socket)
    butler.register_dataset_type("notes", [], "StructuredDataDict")
    butler.put({"a": 1}, "notes")
    assert butler.get("notes") == {"a": 1}
    errors: list[BaseException] = []
    with ObjectPrefix("refused", socket=daemon.socket) as refused, pytest.raises(BackendAccessError) as caught:
        refused.read("x")
    errors.append(caught.value)
    hidden = (seaweed.secret_key, wrong, postgresql.password)
    for where, text in everything_said(daemon, errors):
        assert not [one for one in hidden if one in text], where


def test_a_token_that_is_renewed_in_its_file(
    make_daemon: Callable[..., PantryDaemon], nginx: NginxServer, keep: Callable[[str, str], str]
) -> None:
    (nginx.files / "plain.txt").write_bytes(b"plain")
    wrong = "wrong-" + nginx.token
    file = keep("token", wrong)
    root = f"{nginx.endpoint_url}/private/"
    config = {
        "log_level": "debug",
        "storage": [{"match": root, "options": {"token": {"file": file}}}],
        "prefixes": {"files": {"root": root}},
    }
    daemon = make_daemon(config)
    errors: list[BaseException] = []
    with ObjectPrefix("files", socket=daemon.socket) as files:
        with pytest.raises(BackendAccessError) as caught:
            files.read("plain.txt")
        errors.append(caught.value)
        os.chmod(file, 0o644)
        deadline = time.monotonic() + LATEST_S
        while "mode 0644" not in str(errors[-1]):
            assert time.monotonic() < deadline, str(errors[-1])
            with pytest.raises(BackendAccessError) as caught:
                files.read("plain.txt")
            errors.append(caught.value)
        assert "token" in str(errors[-1])
        assert file in str(errors[-1])
        os.chmod(file, 0o600)
        Path(file).write_text(nginx.token)
        found = b""
        while not found:
            assert time.monotonic() < deadline, "the new token is not used"
            with contextlib.suppress(BackendAccessError):
                found = files.read("plain.txt")
        assert found == b"plain"
        assert "plain.txt" in {one.key for one in files.list()}
    for where, text in everything_said(daemon, errors[-3:]):
        assert nginx.token not in text, where


def test_outputs_in_a_database_whose_password_is_in_a_file(
    make_daemon: Callable[..., PantryDaemon], database: str, keep: Callable[[str, str], str]
) -> None:
    url = make_url(database)
    assert url.password is not None
    root = f"sql+postgresql://{url.host}:{url.port}/{url.database}"
    options = {"username": url.username, "password": {"file": keep("db", str(url.password))}}
    daemon = make_daemon({"log_level": "debug", "storage": [{"match": "sql+postgresql://", "options": options}]})
    Butler.create("outputs", f"{root}/nightly", socket=daemon.socket)
    butler = Butler("outputs", run="u/me", socket=daemon.socket)
    butler.register_dataset_type("notes", [], "StructuredDataDict")
    butler.put({"a": 1}, "notes")
    assert butler.get("notes") == {"a": 1}
    for where, text in everything_said(daemon, []):
        assert str(url.password) not in text, where


@pytest.mark.parametrize("kind", ["password", "certificate"])
def test_a_vospace_by_a_file(
    make_daemon: Callable[..., PantryDaemon], vospace: VospaceServer, keep: Callable[[str, str], str], kind: str
) -> None:
    """With a password, and with a proxy certificate over TLS."""
    person = vospace.owner
    options: dict[str, Any] = {"endpoint_url": vospace.endpoint, "username": person.name}
    secret = person.password
    if kind == "certificate":
        options = {"endpoint_url": vospace.secure_endpoint, "authority_file": str(vospace.authority_file)}
        secret = person.proxy.read_text()
    options[kind] = {"file": keep("secret", secret)}
    daemon = make_daemon({"log_level": "debug", "storage": [{"match": "vos://", "options": options}]})
    Butler.create("space", vospace.uri(f"observatory/by-{kind}"), socket=daemon.socket)
    butler = Butler("space", run="r", socket=daemon.socket)
    butler.register_dataset_type("notes", [], "StructuredDataDict")
    butler.put({"a": 1}, "notes")
    for where, text in everything_said(daemon, []):
        assert not [line for line in secret.splitlines() if "-----" not in line and line in text], where


VOTABLE = b"""<?xml version="1.0"?>
<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE type="results">
<INFO name="QUERY_STATUS" value="OK"/><TABLE><FIELD name="n" datatype="int"/>
<DATA><TABLEDATA><TR><TD>1</TD></TR></TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>"""


def test_a_tap_service_whose_token_is_renewed(
    make_daemon: Callable[..., PantryDaemon], keep: Callable[[str, str], str]
) -> None:
    """What is cached for the old token is not given for the new one, which may see something else."""
    file = keep("token", "first-token")
    with QaService() as service:
        service.always(Answer(body=VOTABLE, headers={"Content-Type": "application/x-votable+xml"}))
        config = {
            "log_level": "debug",
            "services": {
                "gaia": {"root": f"tap+{service.url}/tap", "options": {"token": {"file": file}}, "ttl_s": 3600}
            },
            "queries": {"one": {"service": "gaia", "text": "SELECT n FROM t"}},
        }
        daemon = make_daemon(config)
        queries = QueryService("gaia", socket=daemon.socket)
        for _ in range(2):
            assert list(queries.ask("one")["n"]) == [1]
        assert [one.headers["Authorization"] for one in service.requests] == ["Bearer first-token"]
        Path(file).write_text("second-token")
        deadline = time.monotonic() + LATEST_S
        while len(service.requests) < 2:
            assert time.monotonic() < deadline, "the new token is not used"
            assert list(queries.ask("one")["n"]) == [1]
        assert service.requests[1].headers["Authorization"] == "Bearer second-token"
        for where, text in everything_said(daemon, []):
            assert "first-token" not in text, where
            assert "second-token" not in text, where


@pytest.mark.parametrize("kind", ["base", "transformed"])
def test_an_efd_whose_password_is_in_a_file(
    make_daemon: Callable[..., PantryDaemon], efd: EfdPair, keep: Callable[[str, str], str], kind: str
) -> None:
    found = efd.services()[kind]
    password = found.options["password"]
    options = {**found.options, "password": {"file": keep("password", password)}}
    daemon = make_daemon({"log_level": "debug", "services": {"efd": {"root": found.root, "options": options}}})
    with connect(daemon.socket) as connection:
        answer, fds = connection.call_with_fds(RunQuery(service="efd", question=NamesQuery()))
        assert answer.size_bytes > 0
        for fd in fds:
            os.close(fd)
    for where, text in everything_said(daemon, []):
        assert password not in text, where


def test_json_of_the_configuration_says_where_a_secret_is(
    make_daemon: Callable[..., PantryDaemon], keep: Callable[[str, str], str]
) -> None:
    file = keep("token", "hush-hush")
    daemon = make_daemon({"storage": [{"match": "https://x/", "options": {"token": {"file": file}}}]})
    done = CliRunner().invoke(cli, ["--socket", daemon.socket, "config", "dump", "--json"])
    found = {one["name"]: one["value"] for one in json.loads(done.stdout)}
    assert found["storage[0].options.token.file"] == file
    assert "hush-hush" not in done.output


def test_a_service_whose_secret_is_missing_says_which(make_daemon: Callable[..., PantryDaemon]) -> None:
    options = {"username": "reader", "password": {"env": "NOT_SET_ANYWHERE"}}
    config = {
        "services": {"gaia": {"root": "tap+http://127.0.0.1:1/tap", "options": options}},
        "queries": {"one": {"service": "gaia", "text": "SELECT 1 FROM t"}},
    }
    daemon = make_daemon(config)
    with pytest.raises(PantryError, match="'gaia': password: the variable NOT_SET_ANYWHERE is not set"):
        QueryService("gaia", socket=daemon.socket).ask("one")
