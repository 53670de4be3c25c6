"""The configuration that a daemon runs with, value by value, with where each comes from."""

from __future__ import annotations

from pantry.daemon.config import DaemonConfig
from pantry.errors import ConfigError
from pantry.model.configuration import ActiveValue, flattened, origin_of, shown
from pantry.model.loading import read_places

_CHANGED = "the file has been changed since the daemon started"


def active_values(config: DaemonConfig) -> list[ActiveValue]:
    """Return every value; what the file says differently by now is marked."""
    lines: dict[str, int] = {}
    now: dict[str, object] = {}
    if config.source:
        try:
            plain, lines = read_places(config.source)
        except ConfigError:
            now = {}
        else:
            now = dict(flattened(plain))
    defaults = dict(flattened(DaemonConfig()))
    found = []
    for name, value in flattened(config):
        if name == "source":
            continue
        origin = origin_of(name, lines, config.source, "default")
        if name in now and shown(name, now[name]) != shown(name, value):
            origin = f"{origin}: {_CHANGED}" if name not in _ARGUMENTS else "command line"
        elif name not in lines_of(lines) and name in _ARGUMENTS and value != defaults.get(name):
            origin = "command line, or default of the mode"
        found.append(ActiveValue(name, shown(name, value), origin))
    return found


_ARGUMENTS = ("mode", "socket", "state_directory", "cache.directory", "idle_exit_s")
"""What the command line, or the mode, may set."""


def lines_of(lines: dict[str, int]) -> set[str]:
    """Return the names of values that a file has."""
    return {place.removeprefix("$.") for place in lines}
