"""The client ``vos`` (OpenCADC, AGPL) in a process and a virtual environment of its own, asked line by line."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Any, Self

from tests.servers.vospace import VospaceServer

_PROJECT = Path(__file__).parents[2]
_ENVIRONMENT = _PROJECT / ".venv-vos"


class VosError(Exception):
    """What the client raised: ``kind`` is the name of the class."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


def vos_python() -> Path:
    """The Python that has ``vos``; made on the first use if ``make setup`` did not."""
    python = _ENVIRONMENT / "bin" / "python"
    if not (_ENVIRONMENT / "bin" / "vls").exists():
        subprocess.run([_PROJECT / "scripts" / "make-vos-venv", _ENVIRONMENT], check=True, timeout=600)
    return python


class VosClient:
    """One process with one client for each of "owner" (token), "member" (proxy certificate), "stranger" (password)
    and "anonymous"; a context manager.

    Parameters
    ----------
    server : VospaceServer
        What it talks to, by TLS.
    home : Path
        Where it keeps what it knows of registries, and finds passwords.
    """

    def __init__(self, server: VospaceServer, home: Path) -> None:
        host = f"127.0.0.1:{server.port + 1}"
        registry = home / ".config" / "cadc-registry" / "alt-domains" / host
        registry.mkdir(parents=True)
        resource = "ivo://" + server.authority.replace("!", "/")
        (registry / "resource-caps").write_text(f"{resource} = {server.secure_endpoint}/capabilities\n")
        netrc = home / ".netrc"
        netrc.touch(mode=0o600)
        netrc.write_text(f"machine {host} login {server.stranger.name} password {server.stranger.password}\n")
        self._log = (home / "vos.log").open("wb")
        self._process = subprocess.Popen(
            [vos_python(), Path(__file__).with_name("vos_worker.py")],
            env={"HOME": str(home), "VOSPACE_WEBSERVICE": host, "PATH": os.environ["PATH"]},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=home,
        )
        self._call("", "log_in", "owner", None, server.owner.token)
        self._call("", "log_in", "member", str(server.member.proxy), None)
        self._call("", "log_in", "stranger", None, None)
        self._call("", "log_in", "anonymous", "", None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()
        self._log.close()

    def __call__(self, call: str, *arguments: Any, who: str = "owner") -> Any:
        """Do one operation; `VosError` if the client raises."""
        return self._call(who, call, *arguments)

    def read(self, uri: str, byte_range: str | None = None, *, who: str = "owner") -> bytes:
        return base64.b64decode(self._call(who, "read", uri, byte_range))

    def _call(self, who: str, call: str, *arguments: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({"who": who, "call": call, "arguments": arguments}), file=self._process.stdin, flush=True)
        text = self._process.stdout.readline()
        if not text:
            raise RuntimeError("the client vos ended")
        answer = json.loads(text)
        if "error" in answer:
            raise VosError(answer["error"], answer["text"])
        return answer["value"]
