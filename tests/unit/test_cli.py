"""The command line, against a repository in memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.client.fake_daemon import Asked, FakeDaemon
from tests.unit.client.fake_repository import FakeRepository

from pantry.client.cli.arguments import parse_data_id
from pantry.client.cli.ingest import read_table
from pantry.client.cli.main import _COMMANDS, cli
from pantry.client.cli.output import printable, size
from pantry.client.cli.output import time as iso
from pantry.errors import InvalidRequestError, NotCachedError
from pantry.wire.operations import (
    CachedObject,
    CacheListing,
    CacheStatus,
    CountDone,
    Done,
    Evicted,
    EvictObjects,
    GetCacheStatus,
    GetMetrics,
    GetStatus,
    ListCache,
    ListPins,
    Metrics,
    OpenDataset,
    Operation,
    Pin,
    PinDatasets,
    PinList,
    Pinned,
    Prefetch,
    PrefetchFailure,
    PrefetchProgress,
    SetOffline,
    Status,
    UnpinDatasets,
)

CACHE = CacheStatus(
    quota_bytes=10 << 30,
    used_bytes=3 << 30,
    reserved_bytes=0,
    objects=7,
    partial_objects=1,
    hits=9,
    misses=1,
    fetches=2,
    fetched_bytes=5 << 20,
    evicted_objects=0,
    evicted_bytes=0,
)
STATUS = Status(
    version="1",
    mode="user",
    pid=1,
    uid=2,
    started_ns=1_700_000_000_000_000_000,
    socket="/s",
    config="",
    connections=1,
    requests=2,
    repositories=1,
    puts_under_way=0,
    cache=CACHE,
)


PIN = Pin(
    id="p1",
    owner="ann",
    repository="r",
    dataset_types=("raw",),
    collections=("a", "b"),
    where="band = 'g'",
    data_id={"detector": 3},
    note="mine",
    created_ns=1,
    expires_ns=1_700_000_000_000_000_000,
    objects=4,
    bytes=4096,
    cached_objects=1,
    cached_bytes=1024,
    problem="over the limit",
)


def progress(done: int, fetched: int, failed: int, *failures: PrefetchFailure) -> PrefetchProgress:
    return PrefetchProgress(
        files_done=done,
        files_total=3,
        bytes_done=1024 * done,
        bytes_total=3072,
        fetched_files=fetched,
        fetched_bytes=1024 * fetched,
        left_out_files=1,
        left_out_bytes=2048,
        failed_files=failed,
        failures=failures,
    )


PROGRESS = [
    progress(0, 0, 0),
    progress(2, 1, 1, PrefetchFailure("u/x/one", "backend", "it is gone")),
    progress(3, 1, 2),
]
GOOD = [progress(3, 2, 0)]


class FakeNode(FakeRepository):
    """A repository and the rest of a daemon."""

    uncached: UUID | None = None

    def __call__(self, operation: Operation[Any], asked: Asked) -> Any:
        if isinstance(operation, GetStatus):
            return STATUS
        if isinstance(operation, GetCacheStatus):
            return CACHE
        if isinstance(operation, ListCache):
            return iter([CacheListing([CachedObject("r", "ab" * 16, 2048, 1024, 10**18, 1, "u/evil\x1b[2Jname")])] * 3)
        if isinstance(operation, EvictObjects):
            return Evicted(3, 4096)
        if isinstance(operation, OpenDataset) and operation.cached_only and operation.id == self.uncached:
            raise NotCachedError("it is not there")
        if isinstance(operation, SetOffline):
            return Done()
        if isinstance(operation, GetMetrics):
            return Metrics("pantry_cache_hits_total 9.0\n")
        if isinstance(operation, PinDatasets):
            return Pinned(id="p1", objects=4, bytes=4096, cached_objects=1, cached_bytes=1024)
        if isinstance(operation, UnpinDatasets):
            return CountDone(2)
        if isinstance(operation, ListPins):
            return PinList((PIN,))
        if isinstance(operation, Prefetch):
            return iter(PROGRESS if operation.partial else PROGRESS[:1] + GOOD)
        return super().__call__(operation, asked)


@pytest.fixture
def node(tmp_path: Path) -> FakeNode:
    (tmp_path / "files").mkdir()
    made = FakeNode(str(tmp_path / "files"))
    made.add_type("config", ("instrument", "detector"), "StructuredDataDict")
    made.add_type("blob", ("instrument", "detector"), "Bytes")
    return made


@pytest.fixture
def daemon(node: FakeNode, tmp_path: Path) -> Iterator[FakeDaemon]:
    made = FakeDaemon(str(tmp_path / "socket"), node)
    yield made
    made.close()
    assert made.errors == []


Run = Callable[..., Result]


@pytest.fixture
def run(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("PANTRY_SOCKET", daemon.path)

    def invoke(*words: str, code: int = 0, stdin: bytes | None = None) -> Result:
        result = CliRunner().invoke(cli, words, input=stdin, catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result

    return invoke


def in_a_process(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pantry.client.cli.main", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


# -- every command ------------------------------------------------------------------------------


def all_commands() -> list[tuple[str, ...]]:
    import click

    found: list[tuple[str, ...]] = []
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        found.append((name,))
        if isinstance(command, click.Group):
            found += [(name, inner) for inner in command.list_commands(context)]
    return found


@pytest.mark.parametrize("words", all_commands(), ids=" ".join)
def test_help_has_an_example(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli, [*words, "--help"])
    assert result.exit_code == 0
    lines = result.output.splitlines()
    begin = next(number for number, line in enumerate(lines) if line.strip().startswith("For example"))
    assert "pantry " in lines[begin + 1]


def test_short_help_of_the_list_is_there_for_all() -> None:
    output = CliRunner().invoke(cli, ["--help"]).output
    for name in _COMMANDS:
        assert f"  {name} " in output


def test_help_imports_little() -> None:
    script = (
        "import sys; from pantry.client.cli.main import cli\n"
        "try: cli(['--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('rich', 'yaml', 'numpy', 'astropy', 'trio', 'lsst') if name in "
        "sys.modules], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stderr == "[]\n"


def test_import_of_the_client_is_light() -> None:
    script = (
        "import sys, pantry.client\n"
        "heavy = ('trio', 'astropy', 'numpy', 'yaml', 'click', 'rich', 'sqlalchemy', 'pyarrow', 'dataclasses', "
        "'subprocess', 'asyncio')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


# -- what they answer ---------------------------------------------------------------------------


def test_status(run: Run) -> None:
    output = run("status").output
    assert "3.0 GiB of 10.0 GiB (30 %)" in output
    assert "2023-11-14T22:13:20Z" in output
    assert json.loads(run("status", "--json").stdout)["cache"]["hits"] == 9


def test_cache(run: Run, daemon: FakeDaemon) -> None:
    assert "10, 90 % from the cache" in run("cache", "status").output
    lines = run("cache", "ls", "--limit", "2").output.splitlines()
    assert len(lines) == 3
    assert "2.0 KiB" in lines[1]
    assert "\x1b" not in lines[1]
    listed = json.loads(run("cache", "ls", "--json").stdout)
    assert [one["size_bytes"] for one in listed] == [2048] * 3
    assert "evicted 3 objects, 4.0 KiB" in run("cache", "evict", "--all").output
    assert json.loads(run("cache", "evict", "ab", "cd", "--json").stdout) == {"objects": 3, "bytes": 4096}
    assert EvictObjects(hashes=("ab", "cd")) in daemon.asked
    run("cache", "evict", code=2)


def test_cache_evict_by_query(run: Run, daemon: FakeDaemon) -> None:
    run("cache", "evict", "r", "raw", "flat", "-c", "a,b", "-w", "x = 1", "-d", "detector=3")
    expected = EvictObjects(
        repository="r",
        dataset_types=("raw", "flat"),
        collections=("a", "b"),
        where="x = 1",
        data_id={"detector": "3"},
    )
    assert daemon.asked[-1] == expected
    for wrong in (["r", "-c", "a"], ["r", "raw", "-c", "a", "--all"], ["r", "raw", "-w", "x = 1"], ["ab", "--all"]):
        run("cache", "evict", *wrong, code=2)


def test_cache_pins(run: Run, daemon: FakeDaemon) -> None:
    before = time.time_ns()
    result = run("cache", "pin", "r", "raw", "-c", "a", "-d", "detector=3", "--expires", "2h", "--note", "mine")
    assert result.stdout == "p1\n"
    assert "4 objects, 4.0 KiB; 1 of them, 1.0 KiB, are in the cache" in result.stderr
    asked = daemon.asked[-1]
    assert isinstance(asked, PinDatasets)
    assert (asked.dataset_types, asked.collections, asked.note) == (("raw",), ("a",), "mine")
    assert 7200 * 10**9 <= asked.expires_ns - before <= 7260 * 10**9
    both = json.loads(run("cache", "pin", "r", "raw", "-c", "a", "--fetch", "--json").stdout)
    assert (both["pin"]["id"], both["prefetch"]["fetched_files"]) == ("p1", 2)
    lines = run("cache", "pins").output.splitlines()
    assert "r raw in a,b band = 'g' detector=3" in lines[1]
    assert "2023-11-14T22:13:20Z" in lines[1]
    assert "mine; over the limit" in lines[1]
    assert "removed 2 pins" in run("cache", "unpin", "p1", "p2").stderr
    assert daemon.asked[-1] == UnpinDatasets(ids=("p1", "p2"))
    run("cache", "unpin", code=2)
    run("cache", "unpin", "p1", "--all", code=2)
    for wrong in ("7", "0d", "1y", "-1d"):
        run("cache", "pin", "r", "raw", "-c", "a", "--expires", wrong, code=2)


def test_cache_prefetch(run: Run) -> None:
    result = run("cache", "prefetch", "r", "raw", "-c", "a")
    assert "fetched 2 files, 2.0 KiB; 1 were in the cache" in result.stdout
    assert "no room for 1 files, 2.0 KiB" in result.stderr
    failed = run("cache", "prefetch", "r", "raw", "-c", "a", "--partial", code=1)
    assert "u/x/one: it is gone" in failed.stderr
    assert "and 1 more" in failed.stderr
    found = json.loads(run("cache", "prefetch", "r", "raw", "-c", "a", "--partial", "--json", code=1).stdout)
    assert found["failed_files"] == 2
    assert found["failures"] == [{"name": "u/x/one", "code": "backend", "message": "it is gone"}]


def test_cache_export(run: Run, node: FakeNode, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text("{}")
    for detector in (3, 4):
        run("put", "r", "config", str(tmp_path / "c.json"), "instrument=Cam", f"detector={detector}", "--run", "u/x")
    node.uncached = next(iter(node.datasets))
    found = json.loads(run("cache", "export", "r", str(tmp_path / "o"), "config", "-c", "u/x", "--json").stdout)
    assert [one["data_id"]["detector"] for one in found["left_out"]] == ["3"]
    assert [Path(one).read_text() for one in found["files"]] == ["{}"]
    result = run("cache", "export", "r", str(tmp_path / "o"), "config", "-c", "u/x")
    assert "1 files in" in result.stderr
    assert "left out, not in the cache: config@" in result.stderr


def test_cache_offline(run: Run, daemon: FakeDaemon) -> None:
    run("cache", "offline", "on")
    assert daemon.asked[-1] == SetOffline(offline=True)
    run("cache", "offline", "off")
    assert daemon.asked[-1] == SetOffline(offline=False)
    run("cache", "offline", code=2)


def test_metrics(run: Run) -> None:
    assert run("metrics").stdout == "pantry_cache_hits_total 9.0\n"


def test_repositories(run: Run) -> None:
    assert "file:///r" in run("repo", "list").output
    assert json.loads(run("repo", "info", "r", "--json").stdout)["uuid"] == "u"


def test_definitions(run: Run) -> None:
    assert "registered" in run("register-dataset-type", "r", "new", "Bytes", "instrument", "detector").stderr
    assert "already" in run("register-dataset-type", "r", "new", "Bytes", "instrument", "detector").stderr
    found = json.loads(run("dataset-types", "r", "--json").stdout)
    assert [one["name"] for one in found] == ["blob", "config", "new"]
    run("collections", "register", "r", "a")
    run("collections", "register", "r", "t", "--type", "tagged")
    run("collections", "chain", "r", "c", "a", "t")
    assert "c     CHAINED  a, t" in run("collections", "list", "r").output
    assert json.loads(run("collections", "list", "r", "--type", "TAGGED", "--json").stdout)[0]["name"] == "t"
    assert "Bytes" in run("register-dataset-type", "--help").output
    run("register-dataset-type", "r", "new", "Nonsense", code=2)


def test_put_query_get(run: Run, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text('{"a": 1}')
    stored = json.loads(
        run(
            "put", "r", "config", str(tmp_path / "c.json"), "instrument=Cam", "detector=3", "--run", "u/x", "--json"
        ).stdout
    )
    assert stored["data_id"] == {"instrument": "Cam", "detector": "3"}
    run("put", "r", "config", "-", "instrument=Cam", "detector=4", "--run", "u/x", stdin=b'{"b": 2}')
    output = run("query-datasets", "r", "config", "-c", "u/x").output
    assert output.splitlines()[0].split() == ["type", "run", "id", "instrument", "detector"]
    assert stored["id"] in output
    found = json.loads(run("query-datasets", "r", "config", "blob", "-c", "u/y,u/x", "--json").stdout)
    assert found[0]["id"] == stored["id"]
    assert json.loads(run("get", "r", "config", "instrument=Cam", "detector=3", "-c", "u/x").stdout) == {"a": 1}
    out = tmp_path / "out.json"
    run("get", "r", "config", "instrument=Cam", "detector=4", "-c", "u/x", "-o", str(out))
    assert out.read_text() == '{"b": 2}'
    result = run("get", "r", "config", "instrument=Cam", "detector=3", "-c", "u/x", "-o", str(out), code=1)
    assert "exists already" in result.stderr
    run("get", "r", "config", "instrument=Cam", "detector=3", "-c", "u/x", "-o", str(out), "--force")
    assert out.read_text() == '{"a": 1}'
    assert run("get", "r", "config", "instrument=Cam", "detector=3", "-c", "u/x", "-o", "-").stdout == '{"a": 1}'


def test_get_of_what_is_no_json(run: Run) -> None:
    run("put", "r", "blob", "-", "instrument=Cam", "detector=4", "--run", "u/x", stdin=b"\0\1")
    result = run("get", "r", "blob", "instrument=Cam", "detector=4", "-c", "u/x", code=1)
    assert "-o FILE" in result.stderr


def test_stage(run: Run, tmp_path: Path) -> None:
    run("put", "r", "blob", "-", "instrument=Cam", "detector=4", "--run", "u/x", stdin=b"content")
    paths = json.loads(run("stage", "r", str(tmp_path / "out"), "blob", "-c", "u/x", "--json").stdout)["files"]
    assert [Path(path).read_bytes() for path in paths] == [b"content"]


def test_ingest(run: Run, node: FakeNode, tmp_path: Path) -> None:
    run("ingest", "r", "blob", "/data/x", "instrument=Cam", "detector=1", "--run", "u/x")
    table = tmp_path / "table.csv"
    table.write_text("path,detector\na,1\nsub/b old,2\n/abs/c,3\n")
    words = ("ingest", "r", "blob", "--table", str(table), "--run", "u/x", "--transfer", "hardlink", "--skip-existing")
    result = run(*words)
    assert "2 files ingested into u/x, 1 were there" in result.stderr
    operation = node.ingested[-1][0]
    assert [item.path for item in operation.items] == [f"{tmp_path}/a", f"{tmp_path}/sub/b old", "/abs/c"]
    assert (operation.transfer, operation.skip_existing) == ("hardlink", True)
    assert json.loads(run(*words, "--json").stdout)[1] is None
    run("ingest", "r", "blob", "--run", "u/x", code=2)
    run("ingest", "r", "blob", "/x", "nonsense", "--run", "u/x", code=2)


# -- tables -------------------------------------------------------------------------------------


def rows(tmp_path: Path, name: str, content: str, **options: Any) -> list[Any]:
    (tmp_path / name).write_text(content)
    return list(read_table(str(tmp_path / name), options.pop("common", {}), in_place=options.pop("in_place", True)))


def test_tables(tmp_path: Path) -> None:
    wanted = [("a b", {"detector": "1", "band": "r"}), ("c", {"detector": "2", "band": "g"})]
    assert rows(tmp_path, "t.csv", 'path,detector,band\n"a b",1,r\nc,2,g\n') == wanted
    ecsv = '# %ECSV 1.0\n# ---\n# datatype:\n# - {name: path, datatype: string}\npath detector band\n"a b" 1 r\nc 2 g\n'
    assert rows(tmp_path, "t.ecsv", ecsv) == wanted
    comma = "# %ECSV 1.0\n# ---\n# delimiter: ','\npath,detector,band\na b,1,r\nc,2,g\n"
    assert rows(tmp_path, "u.ecsv", comma) == wanted
    lines = '{"path": "a b", "detector": 1}\n\n{"path": "c", "detector": 2}\n'
    common: dict[str, Any] = {"instrument": "Cam", "detector": 7}
    assert rows(tmp_path, "t.jsonl", lines, common=common) == [
        ("a b", {"instrument": "Cam", "detector": 1}),
        ("c", {"instrument": "Cam", "detector": 2}),
    ]
    assert rows(tmp_path, "t.csv", "path\nx\n", in_place=False) == [(f"{tmp_path}/x", {})]


def test_astropy_writes_tables_that_are_understood(tmp_path: Path) -> None:
    from astropy.table import Table

    table = Table({"path": ["a b", 'q"uote'], "detector": [1, 2]})
    for delimiter in (" ", ","):
        path = str(tmp_path / "t.ecsv")
        table.write(path, format="ascii.ecsv", delimiter=delimiter, overwrite=True)
        found = list(read_table(path, {}, in_place=True))
        assert found == [("a b", {"detector": "1"}), ('q"uote', {"detector": "2"})]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", ""),
        ("t.csv", "a,b\n1,2\n"),
        ("t.csv", "path,d\nx\n"),
        ("t.csv", "path,d\n,1\n"),
        ("t.csv", "path,d\nx,\n"),
        ("t.jsonl", "[1]\n"),
        ("t.jsonl", "{\n"),
        ("t.jsonl", '{"path": 7}\n'),
        ("t.jsonl", '{"path": "x", "d": 1.5}\n'),
        ("t.jsonl", '{"path": "x", "d": null}\n'),
    ],
)
def test_bad_tables(tmp_path: Path, name: str, content: str) -> None:
    with pytest.raises(InvalidRequestError):
        rows(tmp_path, name, content)


def test_a_table_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"path,d\n\xff\xfe,1\n")
    with pytest.raises(InvalidRequestError, match="UTF-8"):
        list(read_table(str(tmp_path / "t.csv"), {}, in_place=True))


# -- errors and exit codes ----------------------------------------------------------------------


def test_errors_are_two_lines(daemon: FakeDaemon) -> None:
    result = in_a_process("--socket", daemon.path, "repo", "info", "none")
    assert result.returncode == 1
    assert result.stderr == "pantry: error: no repository 'none'\n  hint: `pantry repo list` shows them\n"
    assert "Traceback" in in_a_process("--socket", daemon.path, "-v", "repo", "info", "none").stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((), 2),
        (("nonsense",), 2),
        (("status", "--nonsense"), 2),
        (("--socket", "/none", "status"), 1),
        (("--help",), 0),
        (("--version",), 0),
        (("umount", "/nonexistent"), 1),
        (("ingest-raws", "r", "/nonexistent"), 2),
        (("put", "r", "t", "/nonexistent", "--run", "x"), 2),
    ],
)
def test_exit_codes_without_traceback(words: tuple[str, ...], code: int) -> None:
    result = in_a_process(*words)
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    assert (result.stdout != "") == (words in (("--help",), ("--version",)))


def test_ctrl_c_is_130(tmp_path: Path) -> None:
    asked = []
    daemon = FakeDaemon(str(tmp_path / "s"), lambda op, _: asked.append(op))
    try:
        words = [sys.executable, "-m", "pantry.client.cli.main", "--socket", daemon.path, "status"]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 20
        while not asked:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
        assert process.returncode == 130
        assert "Traceback" not in stderr
    finally:
        daemon.close()


def test_a_reader_that_has_seen_enough(daemon: FakeDaemon, node: FakeNode) -> None:
    words = [sys.executable, "-m", "pantry.client.cli.main", "--socket", daemon.path, "cache", "ls"]
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run(words, stdout=write, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(write)
    assert process.returncode == 141
    assert process.stderr == ""


# -- completion ---------------------------------------------------------------------------------


def complete(words: str, socket: str) -> list[str]:
    environment = {
        **os.environ,
        "_PANTRY_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
        "PANTRY_SOCKET": socket,
    }
    result = in_a_process(env=environment)
    assert result.stderr == ""
    return [line.split(",", 1)[1] for line in result.stdout.splitlines() if line]


def test_completion(daemon: FakeDaemon, node: FakeNode, run: Run) -> None:
    run("collections", "register", "r", "u/a")
    run("collections", "register", "r", "u/b")
    assert "query-datasets" in complete("pantry query-d", daemon.path)
    assert complete("pantry repo info ", daemon.path) == ["r"]
    assert complete("pantry query-datasets r co", daemon.path) == ["config"]
    assert complete("pantry query-datasets r config -c u/", daemon.path) == ["u/a", "u/b"]
    assert complete("pantry query-datasets r config -c u/a,u/", daemon.path) == ["u/a,u/a", "u/a,u/b"]
    assert complete(f"pantry --socket {daemon.path} repo info ", "/none") == ["r"]


def test_completion_is_silent_and_quick_without_a_daemon(tmp_path: Path) -> None:
    assert complete("pantry repo info ", str(tmp_path / "none")) == []
    daemon = FakeDaemon(str(tmp_path / "s"), lambda op, asked: None)  # one that never answers
    try:
        begin = time.monotonic()
        assert complete("pantry repo info ", daemon.path) == []
        assert time.monotonic() - begin < 10
    finally:
        daemon.close()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    result = in_a_process("completion", shell)
    assert result.returncode == 0
    assert "_PANTRY_COMPLETE" in result.stdout


# -- small things -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        ((1 << 20) - 1, "1.0 MiB"),
        (5 << 60, "5.0 EiB"),
    ],
)
def test_sizes(n_bytes: int, text: str) -> None:
    assert size(n_bytes) == text


def test_times() -> None:
    assert iso(0) == ""
    assert iso(1_700_000_000_999_999_999) == "2023-11-14T22:13:20Z"


@given(st.text())
def test_nothing_reaches_the_terminal_that_could_harm_it(text: str) -> None:
    assert printable(text).isprintable()
    assert len(printable(text)) == len(text)


@given(st.dictionaries(st.from_regex(r"[a-z]+", fullmatch=True), st.text(min_size=1), max_size=4))
def test_data_ids(values: dict[str, str]) -> None:
    assert parse_data_id([f"{name}={value}" for name, value in values.items()]) == values
