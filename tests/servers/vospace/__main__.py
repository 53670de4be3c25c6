"""``python -m tests.servers.vospace --config FILE``: serve a space until SIGTERM."""

from __future__ import annotations

import argparse
import signal
import socket
import ssl
import sys
import threading
from pathlib import Path

import msgspec
from tests.servers.vospace.config import ServerConfig
from tests.servers.vospace.control import ControlListener
from tests.servers.vospace.handler import Listener, Space
from tests.servers.vospace.request import ROOT
from tests.servers.vospace.service import Service


def main() -> None:
    """Read the configuration, listen, say so, and wait."""
    parser = argparse.ArgumentParser(prog="vospace")
    parser.add_argument("--config", type=Path, required=True, help="JSON, see config.ServerConfig")
    config = msgspec.json.decode(parser.parse_args().config.read_bytes(), type=ServerConfig)
    space = Space(Service(config))
    listeners = [*_listeners(config, space), ControlListener(config.control_port, space, config.control_secret)]
    dead = socket.socket()
    if config.dead_port:
        dead.bind(("127.0.0.1", config.dead_port))  # and no listen: connections are refused
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    signal.signal(signal.SIGINT, lambda *_: ended.set())
    for listener in listeners:
        threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    print("serves", file=sys.stderr, flush=True)
    ended.wait()
    for listener in listeners:
        listener.shutdown()
        listener.server_close()
    dead.close()
    space.service.tree.close()


def _listeners(config: ServerConfig, space: Space) -> list[Listener]:
    urls = {"http": f"http://127.0.0.1:{config.http_port}/{ROOT}"}
    if config.https_port:
        urls["https"] = f"https://127.0.0.1:{config.https_port}/{ROOT}"
    made = [Listener(("127.0.0.1", config.http_port), space, urls, "service")]
    if config.data_port:
        made.append(Listener((config.data_host, config.data_port), space, urls, "data"))
    if config.https_port:
        made.append(Listener(("127.0.0.1", config.https_port), space, urls, "service", _tls(config)))
        if config.data_https_port:
            made.append(Listener((config.data_host, config.data_https_port), space, urls, "data", _tls(config)))
    return made


def _tls(config: ServerConfig) -> ssl.SSLContext:
    """TLS that asks for a client's certificate, takes none, and takes proxies (RFC 3820)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(config.certificate)
    context.load_verify_locations(config.certificate_authority)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags |= ssl.VERIFY_ALLOW_PROXY_CERTS
    return context


if __name__ == "__main__":
    main()
