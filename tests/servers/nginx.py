"""Throw-away nginx: one directory of files over HTTP, with an index as JSON, and places behind credentials."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.servers.process import ServerError, ServerProcess, free_ports, http_answer

_CONFIG = """
daemon off; worker_processes 1; error_log stderr warn; pid {run}/nginx.pid;
events {{ worker_connections 256; }}
http {{
  access_log off; default_type application/octet-stream;
  client_body_temp_path {run}/body; proxy_temp_path {run}/proxy; fastcgi_temp_path {run}/fastcgi;
  uwsgi_temp_path {run}/uwsgi; scgi_temp_path {run}/scgi;
  map $http_authorization $allowed {{ default 0; "Bearer {token}" 1; "Basic {basic}" 1; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ root {files}; autoindex on; autoindex_format json; }}
    location /plain/ {{ alias {files}/; max_ranges 0; }}
    location /private/ {{ if ($allowed = 0) {{ return 401; }} alias {files}/; autoindex on; autoindex_format json; }}
    location /moved/ {{ rewrite ^/moved/(.*)$ /$1 redirect; }}
    location /away/ {{ return 302 http://localhost:{port}$request_uri.seen; }}
    location /loop/ {{ return 302 $request_uri; }}
    location /file/ {{ return 302 file:///etc/passwd; }}
    location /digest/ {{ alias {files}/; add_header Digest "{digest}"; }}
  }}
}}
"""


class NginxServer:
    """One nginx that serves ``files``; a context manager that stops it.

    Attributes
    ----------
    endpoint_url : str
        ``http://127.0.0.1:PORT``: the files. Below ``/plain/`` without ranges and index, below ``/private/``
        only with `token` or with user ``reader`` and password ``secret``; ``/moved/``, ``/away/``, ``/loop/`` and
        ``/file/`` redirect; below ``/digest/`` all have the digest `digest`.
    """

    token = "token-of-the-reader"
    basic = "cmVhZGVyOnNlY3JldA=="
    digest = "md5=XUFAKrxLKna5cZ2REBfFkg=="  # of b"hello"

    def __init__(self, directory: Path) -> None:
        self.files = directory / "files"
        self._run = directory / "run"
        self._process: ServerProcess | None = None
        self.port = 0

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> NginxServer:
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        if program is None:
            raise ServerError("nginx is not installed: apt-get install nginx")
        for path in (self.files, self._run):
            path.mkdir(parents=True)
            path.chmod(0o755)
        self.port = free_ports(1)
        config = self._run / "nginx.conf"
        config.write_text(
            _CONFIG.format(
                run=self._run, files=self.files, port=self.port, token=self.token, basic=self.basic, digest=self.digest
            )
        )
        argv = [program, "-p", str(self._run), "-c", str(config)]
        self._process = ServerProcess("nginx", argv, self._run / "nginx.log", cwd=self._run)
        self._process.wait_ready(lambda: http_answer(f"{self.endpoint_url}/")[0] == 200, timeout_s=20)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.stop()
