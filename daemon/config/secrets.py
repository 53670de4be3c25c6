"""Where a secret of the configuration is kept, if not in the configuration itself."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping

import msgspec

from pantry.backends.credentials import Secret
from pantry.errors import BackendAccessError

MAX_SECRET_BYTES = 64 * 1024
CREDENTIALS_DIRECTORY = "CREDENTIALS_DIRECTORY"
"""The variable by which systemd names the directory of a unit's credentials (systemd.exec(5))."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class SecretSource(msgspec.Struct, frozen=True, kw_only=True):
    """Where a secret is: one of the three.

    Attributes
    ----------
    file : str
        Absolute path of a file with the secret and nothing else; newlines at its end do not count.
    env : str
        Variable of the daemon's environment.
    systemd : str
        Name of a credential that systemd gives the unit (``LoadCredential=``).
    """

    file: str = ""
    env: str = ""
    systemd: str = ""

    def __post_init__(self) -> None:
        if sum(bool(one) for one in (self.file, self.env, self.systemd)) != 1:
            raise ValueError("a secret has one of 'file', 'env' and 'systemd'")
        if self.file and not os.path.isabs(self.file):
            raise ValueError("the file of a secret is an absolute path")
        if self.env and not _VARIABLE.fullmatch(self.env):
            raise ValueError("'env' is no name of a variable")
        if self.systemd and ("/" in self.systemd or self.systemd.startswith(".")):
            raise ValueError("'systemd' is no name of a credential")

    def read(self, what: str) -> Secret:
        """Read the secret; blocks.

        Parameters
        ----------
        what : str
            What it is for, for messages.

        Raises
        ------
        BackendAccessError
            It is not there, is nobody's to read or everybody's, or is no text. Never with a part of it.
        """
        try:
            return Secret(self._text())
        except _UnfitError as exc:
            raise BackendAccessError(f"{what}: {exc}", hint=exc.hint) from None

    def _text(self) -> str:
        if self.env:
            where, text = f"the variable {self.env}", os.environ.get(self.env, "")
            if not text:
                raise _UnfitError(
                    f"{where} is not set", "the daemon's environment must have it, as by EnvironmentFile="
                )
        elif self.systemd:
            directory = os.environ.get(CREDENTIALS_DIRECTORY, "")
            if not directory:
                raise _UnfitError(
                    f"there is no credential {self.systemd!r} of systemd",
                    f"the unit needs LoadCredential={self.systemd}:/a/path; without systemd, name a file",
                )
            # systemd lets in the unit's user by an ACL, which looks like a group that may read.
            where, text = f"the credential {self.systemd!r}", _file(os.path.join(directory, self.systemd), strict=False)
        else:
            where, text = self.file, _file(self.file, strict=True)
        text = text.rstrip("\r\n")
        if not text or "\0" in text:
            raise _UnfitError(f"{where} is empty, or no text")
        return text


Options = Mapping[str, str | int | float | bool | SecretSource]
"""Options of a backend as they are configured."""


def has_sources(options: Options) -> bool:
    """Whether a secret of these options is kept elsewhere."""
    return any(isinstance(one, SecretSource) for one in options.values())


def stand_in(options: Options) -> dict[str, object]:
    """Return options with something in the place of each secret: as good for all checks, and for no request."""
    return {name: Secret("stand-in") if isinstance(value, SecretSource) else value for name, value in options.items()}


def read_secrets(options: Options, what: str) -> dict[str, object]:
    """Return options with their secrets; blocks, and raises, as `SecretSource.read`."""
    return {
        name: value.read(f"{what}: {name}") if isinstance(value, SecretSource) else value
        for name, value in options.items()
    }


class _UnfitError(Exception):
    """What is wrong with a secret, and what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def _file(path: str, *, strict: bool) -> str:
    try:
        # A pipe would let wait for whoever writes to it.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (OSError, ValueError) as exc:
        raise _UnfitError(f"{path} cannot be read: {exc.strerror if isinstance(exc, OSError) else 'no path'}") from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise _UnfitError(f"{path} is no regular file")
        if strict:
            _check_owner(path, status)
        data = os.read(fd, MAX_SECRET_BYTES + 1)
    except OSError as exc:
        raise _UnfitError(f"{path} cannot be read: {exc.strerror}") from None
    finally:
        os.close(fd)
    if len(data) > MAX_SECRET_BYTES:
        raise _UnfitError(f"{path} has more than {MAX_SECRET_BYTES} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise _UnfitError(f"{path} is no UTF-8 text") from None


def _check_owner(path: str, status: os.stat_result) -> None:
    own = os.geteuid()
    if status.st_uid not in (0, own):
        raise _UnfitError(
            f"{path} belongs to uid {status.st_uid}, who could change it", "chown it to root or to the daemon"
        )
    # Root may give it to the daemon by its group, as /etc/pantry/pantryd.yaml is.
    others = status.st_mode & (0o027 if status.st_uid == 0 else 0o077)
    if others:
        raise _UnfitError(
            f"{path} has mode {stat.S_IMODE(status.st_mode):04o}, so that others may read or change it",
            "chmod 600; a file of root's may be readable for its group, 640",
        )
