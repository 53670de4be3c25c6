"""The units are in order, as far as systemd can tell without running them, and fit the daemon."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.tables import ROOT

from pantry.daemon.config import DaemonConfig, default_config_file
from pantry.wire.paths import SYSTEM_SOCKET

SYSTEMD = ROOT / "systemd"
PANTRYD = Path(sys.executable).with_name("pantryd")


def unit(path: str) -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(interpolation=None, strict=False)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string((SYSTEMD / path).read_text())
    return parsed


def verified(path: str, program: str, tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Ask systemd about a unit whose program is the one of this environment."""
    copy = tmp_path / Path(path).name
    copy.write_text((SYSTEMD / path).read_text().replace(program, str(PANTRYD)))
    (tmp_path / "run").mkdir(mode=0o700)
    return subprocess.run(
        ["systemd-analyze", *options, "verify", "--man=no", str(copy)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")},
    )


@pytest.mark.parametrize(
    ("path", "program", "options"),
    [
        ("pantryd.service", "/usr/bin/pantryd", ()),
        ("pantry-mount.service", "/usr/bin/pantry-mount", ()),
        ("user/pantryd.service", "%h/.local/bin/pantryd", ("--user",)),
    ],
)
def test_systemd_accepts_the_unit(path: str, program: str, options: tuple[str, ...], tmp_path: Path) -> None:
    assert program in (SYSTEMD / path).read_text()
    done = verified(path, program, tmp_path, *options)
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_accepts_the_user() -> None:
    done = subprocess.run(
        ["systemd-sysusers", "--dry-run", str(SYSTEMD / "sysusers.d" / "pantry.conf")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_unit_makes_the_directories_that_the_daemon_uses() -> None:
    service = unit("pantryd.service")["Service"]
    assert SYSTEM_SOCKET.startswith(f"/run/{service['RuntimeDirectory']}/")
    assert default_config_file("system").startswith("/etc/pantry/")
    assert (service["StateDirectory"], service["CacheDirectory"]) == ("pantry", "pantry")
    assert service["User"] == re.search(r"^u (\S+)", (SYSTEMD / "sysusers.d" / "pantry.conf").read_text(), re.M)[1]  # type: ignore[index]


@pytest.mark.parametrize("path", ["pantryd.service", "user/pantryd.service"])
def test_the_units_wait_until_requests_have_ended(path: str) -> None:
    service = unit(path)["Service"]
    assert service["Type"] == "notify"
    assert float(service["TimeoutStopSec"]) > DaemonConfig().shutdown_s


def test_peers_keep_their_identity() -> None:
    service = unit("pantryd.service")["Service"]
    for unfit in ("PrivateUsers", "ProcSubset", "PrivateNetwork"):
        assert unfit not in service
