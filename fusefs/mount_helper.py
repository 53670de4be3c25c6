"""``mount.fuse.pantry``: what mount(8), fstab and autofs run for the type ``fuse.pantry``.

::

    mount.fuse.pantry SOURCE DIRECTORY [-sfnv] [-o OPTIONS]

The source is ``pantry``, or the path of a daemon's socket. Options that are ours become the mount program's; those of
every file system and those that are only mount(8)'s are passed over, and an unknown one is refused.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

from pantry.errors import ConfigError
from pantry.fusefs import main as program

_WITH_VALUE = {
    "repository": "--repository",
    "deadline": "--deadline",
    "patience": "--patience",
    "collections_ttl": "--collections-ttl",
    "read_ahead": "--read-ahead",
    "hung_after": "--hung-after",
    "log_file": "--log-file",
    "socket": "--socket",
}
_ALONE = {"allow_other": "--allow-other", "no_passthrough": "--no-passthrough", "verbose": "--verbose"}
_PASSED_OVER = re.compile(
    r"(defaults|ro|rw|(no)?(suid|dev|exec|atime|diratime|auto|user|users|owner|group|fail)|relatime|strictatime|lazytime|"
    r"a?sync|dirsync|_netdev|default_permissions|comment=.*|x-.*|X-.*)\Z"
)


def arguments_of(words: Sequence[str]) -> list[str]:
    """Turn what mount(8) passes into arguments of the mount program.

    Parameters
    ----------
    words : sequence of str
        Without the program's name.

    Raises
    ------
    ConfigError
        They are not understood.
    """
    places: list[str] = []
    options: list[str] = []
    pending = iter(words)
    for word in pending:
        if word == "-o":
            options += _split(next(pending, ""))
        elif word in ("-t", "-N"):
            next(pending, "")
        elif word.startswith("-") and set(word[1:]) <= set("sfnv"):
            if "f" in word:
                return []
        else:
            places.append(word)
    if len(places) != 2:
        raise ConfigError("a source and a directory are needed", hint="mount -t fuse.pantry pantry DIRECTORY")
    source, directory = places
    found = [f"--socket={source}"] if source.startswith("/") else []
    for option in options:
        key, equals, value = option.partition("=")
        if equals and key in _WITH_VALUE:
            found.append(f"{_WITH_VALUE[key]}={value}")
        elif option in _ALONE:
            found.append(_ALONE[option])
        elif not _PASSED_OVER.match(option):
            known = ", ".join([*_ALONE, *(f"{name}=" for name in _WITH_VALUE)])
            raise ConfigError(f"unknown mount option {option!r}", hint=f"there are {known}, and those of every mount")
    return [*found, "--background", "--", directory]


def _split(text: str) -> list[str]:
    return [option for option in text.split(",") if option]


def main() -> int:
    """Run the command; return its exit status, as mount(8) wants it."""
    try:
        arguments = arguments_of(sys.argv[1:])
    except ConfigError as exc:
        sys.stderr.write(f"mount.fuse.pantry: {exc}\n")
        return 1
    if not arguments:
        return 0  # -f: only say what would be done
    return 32 if program.main(arguments) else 0


if __name__ == "__main__":
    sys.exit(main())
