from __future__ import annotations

import pytest

from pantry.errors import ConfigError
from pantry.fusefs.mount_helper import arguments_of


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        (["pantry", "/p"], []),
        (["pantry", "/p", "-o", "rw"], []),
        (["pantry", "/p", "-n", "-o", "rw,noexec,nosuid,nodev,_netdev,nofail,x-systemd.automount"], []),
        (["/run/d.sock", "/p", "-o", "ro,allow_other"], ["--socket=/run/d.sock", "--allow-other"]),
        (
            ["-sv", "pantry", "/p", "-o", "repository=a,repository=b", "-o", "deadline=3,no_passthrough"],
            ["--repository=a", "--repository=b", "--deadline=3", "--no-passthrough"],
        ),
        (["pantry", "/p", "-t", "fuse.pantry", "-o", "log_file=/l"], ["--log-file=/l"]),
    ],
)
def test_options_of_fstab_become_those_of_the_program(words: list[str], arguments: list[str]) -> None:
    assert arguments_of(words) == [*arguments, "--background", "--", "/p"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pantry", "/p", "-o", "alow_other"], "unknown mount option 'alow_other'"),
        (["pantry", "/p", "-o", "unmount"], "unknown mount option"),
        (["pantry", "/p", "-o", "deadline"], "unknown mount option"),
        (["pantry"], "a source and a directory"),
        (["pantry", "/p", "/q"], "a source and a directory"),
    ],
)
def test_what_is_not_understood_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        arguments_of(words)


def test_a_directory_is_no_option() -> None:
    assert arguments_of(["pantry", "/-o"])[-2:] == ["--", "/-o"]


def test_a_dry_run_mounts_nothing() -> None:
    assert arguments_of(["pantry", "/p", "-f"]) == []
