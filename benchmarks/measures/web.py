"""Storage behind HTTP and VOSpace: our backends against the bare library, and against the client ``vos``."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from tests.servers.nginx import NginxServer
from tests.servers.process import ServerError
from tests.servers.vos_client import VosClient, vos_python
from tests.servers.vospace import VospaceServer
from tests.servers.vospace.request import ROOT

from benchmarks.bench import Bench
from benchmarks.channel import Worker
from benchmarks.rows import Measurement, Row, SkippedError, make_row, series
from benchmarks.timing import in_turns

MIB = 1024 * 1024
LARGE = "large"
SMALL_BYTES = 10_000

Read = Callable[[list[str]], dict[str, float]]
FirstByte = Callable[[], float]


def http(bench: Bench) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="pantry-bench-") as directory:
        Path(directory).chmod(0o755)  # the server's own user must come through
        try:
            stack = ExitStack()
            server = stack.enter_context(NginxServer(Path(directory)))
        except ServerError as exc:
            raise SkippedError(str(exc)) from None
        with stack, _worker(bench) as worker:
            _fill(bench, lambda key, data: (server.files / key).write_bytes(data))
            url = f"{server.endpoint_url}/"
            worker.ask("connect", kind="http", root=url, options={}, url=url, headers={}, authority_file="")
            return _rows(bench, worker, "nginx", {})


def vospace(bench: Bench) -> list[Row]:
    with VospaceServer() as server, tempfile.TemporaryDirectory(dir=bench.directory) as home:
        server.start(bench.directory / "vospace")
        _fill(bench, lambda key, data: server.put(f"bench/{key}", data))
        try:
            vos_python()
        except (OSError, RuntimeError) as exc:
            raise SkippedError(f"the client vos is not installed: {exc}") from None
        authority_file = str(server.authority_file)
        options = {
            "endpoint_url": server.secure_endpoint,
            "token": server.owner.token,
            "authority_file": authority_file,
        }
        with _worker(bench) as worker, VosClient(server, Path(home)) as client:
            worker.ask(
                "connect",
                kind="vospace",
                root=server.uri("bench"),
                options=options,
                url=f"https://127.0.0.1:{server.port + 1}/{ROOT}/files/bench/",
                headers={"Authorization": f"Bearer {server.owner.token}"},
                authority_file=authority_file,
            )
            return _rows(bench, worker, "our VOSpace test server, by TLS", _vos(bench, server, client))


def _vos(bench: Bench, server: VospaceServer, client: VosClient) -> dict[str, tuple[Read, FirstByte]]:
    target = bench.directory / "by-vos"

    def read(keys: list[str]) -> dict[str, float]:
        begun, total = time.perf_counter(), 0
        for key in keys:
            client("copy", server.uri(f"bench/{key}"), str(target))
            total += target.stat().st_size
        return {"s": time.perf_counter() - begun, "bytes": total}

    def first_byte() -> float:
        begun = time.perf_counter()
        assert len(client.read(server.uri(f"bench/{LARGE}"), "bytes=0-0")) == 1
        return time.perf_counter() - begun

    return {"vos": (read, first_byte)}


def _rows(bench: Bench, worker: Worker, server: str, others: Mapping[str, tuple[Read, FirstByte]]) -> list[Row]:
    path = str(bench.directory / "by-web-worker")
    large_bytes = bench.sizes.object_mib * MIB
    small = [_small(number) for number in range(bench.sizes.small_objects)]
    readers: dict[str, Read] = {
        "ours": lambda keys: worker.ask("ours", keys=keys, path=path),
        "requests": lambda keys: worker.ask("bare", keys=keys, path=path),
        **{name: read for name, (read, _) in others.items()},
    }
    first: dict[str, FirstByte] = {
        "ours": lambda: worker.ask("our_first_byte", key=LARGE, path=path),
        "requests": lambda: worker.ask("bare_first_byte", key=LARGE, path=path),
        **{name: first_byte for name, (_, first_byte) in others.items()},
    }

    def rate(name: str, keys: list[str], size_bytes: int, amount: float) -> float:
        answer = readers[name]([*keys])
        assert answer["bytes"] == size_bytes, (name, answer)
        return amount / answer["s"]

    def turns(rounds: int, side: Callable[[str], float]) -> Any:
        sides = {name: partial(side, name) for name in readers}
        for one in sides.values():
            one()  # connections, capabilities, pages
        return in_turns(rounds, sides)

    whole = turns(bench.sizes.few_rounds, lambda name: rate(name, [LARGE], large_bytes, large_bytes / MIB))
    many = turns(bench.sizes.few_rounds, lambda name: rate(name, small, len(small) * SMALL_BYTES, len(small)))
    begun = turns(bench.sizes.rounds, lambda name: 1000 * first[name]())
    kind = "VOSpace" if others else "HTTP"
    rows = []
    for peer in (name for name in readers if name != "ours"):
        for what, found, unit, compared in (
            ("whole object", whole, "MiB/s", f"an object of {bench.sizes.object_mib} MiB"),
            ("small objects", many, "1/s", f"{len(small)} objects of {SMALL_BYTES} bytes one after the other"),
        ):
            rows.append(
                make_row(
                    f"{kind}: {what}, against {peer}",
                    ours=found["ours"],
                    peer=found[peer],
                    unit=unit,
                    goal="",
                    compared=f"{compared} from {server} into a local file: described and then read in this version by "
                    f"our backend, against {peer}",
                )
            )
        rows.append(
            make_row(
                f"{kind}: first byte, against {peer}",
                ours=series(begun["ours"].values),
                peer=begun[peer],
                unit="ms",
                goal="",
                compared=f"one byte of an object of {bench.sizes.object_mib} MiB from {server}: our backend, "
                f"which knows no version, against {peer}",
            )
        )
    return rows


def _worker(bench: Bench) -> Worker:
    return Worker([sys.executable, "-m", "benchmarks.web_worker"], log=bench.directory / "web-worker.log")


def _small(number: int) -> str:
    return f"small-{number:05d}"


def _fill(bench: Bench, put: Callable[[str, bytes], object]) -> None:
    put(LARGE, os.urandom(bench.sizes.object_mib * MIB))
    for number in range(bench.sizes.small_objects):
        put(_small(number), os.urandom(SMALL_BYTES))


MEASUREMENTS = (
    Measurement("http", "objects behind a web server, against requests", http),
    Measurement("vospace", "objects in a VOSpace, against requests and the client vos", vospace),
)
