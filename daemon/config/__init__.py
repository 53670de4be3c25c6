"""The daemon's configuration: parsed once, at the edge, into frozen values."""

from __future__ import annotations

import os
import re

import msgspec

from pantry.daemon.config.publishing import PublishConfig
from pantry.daemon.config.queries import QueryConfig, SelectionConfig, ServiceConfig, problems
from pantry.daemon.config.secrets import SecretSource
from pantry.daemon.config.storage import ROOT, StorageConfig, storage_problems
from pantry.errors import ConfigError
from pantry.model.loading import load_yaml_file
from pantry.wire.paths import SYSTEM_SOCKET, user_socket

MIB = 1024 * 1024
GIB = 1024 * MIB
_PREFIX_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class CacheConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The cache.

    Attributes
    ----------
    directory : str
        Only the daemon enters it; empty for the mode's default.
    quota_bytes : int
        Most that it holds, with what is in flight.
    high_water, low_water : float
        Fractions of the quota: above the first, objects are evicted down to the second.
    chunk_bytes : int
        Size of a chunk of a partly cached file; smaller for small files.
    keep_free_bytes, keep_free_inodes : int
        What the cache leaves free on its file system for others, whatever its quota.
    uncached_bytes : int
        Memory for reads that the cache's disk cannot take.
    probe_interval_s : float
        How often a disk that failed is tried again, in seconds.
    scrub_bytes_per_s, scrub_interval_s : int, float
        How fast objects are read again in the background, 0 for never, and how long one stays checked.
    negative_ttl_s : float
        How long the origin's answer that there is no such object holds, in seconds.
    offline : bool
        Start without asking any origin for anything.
    pin_fraction : float
        Most of the quota that all pins together may take.
    pin_refresh_s : float
        How often the queries of pins are run again, in seconds.
    allow_damage : bool
        Let administrators damage cached objects on purpose, for tests.
    """

    directory: str = ""
    quota_bytes: int = 20 * GIB
    high_water: float = 0.95
    low_water: float = 0.85
    chunk_bytes: int = 4 * MIB
    keep_free_bytes: int = GIB
    keep_free_inodes: int = 10_000
    uncached_bytes: int = 256 * MIB
    probe_interval_s: float = 5.0
    scrub_bytes_per_s: int = 10 * MIB
    scrub_interval_s: float = 7 * 86400.0
    negative_ttl_s: float = 5.0
    offline: bool = False
    pin_fraction: float = 0.5
    pin_refresh_s: float = 300.0
    allow_damage: bool = False


class LimitsConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Limits per user, then per node.

    Attributes
    ----------
    connections_per_user, requests_per_user : int
        Open connections, and requests under way.
    transfers_per_user, transfers : int
        Threads that talk to storage services.
    queries_per_user, queries : int
        Threads that talk to registries.
    services_per_user, services : int
        Queries of services under way.
    streams_per_user : int
        Query results under way; a result that nobody reads holds a registry's connection.
    put_bytes : int
        Longest file that one put may write.
    stall_s : float
        A read of which nothing comes for so long is given up, in seconds.
    spacing_s : float
        While other users are active: time between two starts of one user's transfers, and of his queries.
    credentials_per_user, credential_s : int, float
        Credentials of his own that a user may hand over, and how long one is kept at most, in seconds.
    """

    connections_per_user: int = 1024
    requests_per_user: int = 2048
    transfers_per_user: int = 16
    transfers: int = 32
    queries_per_user: int = 8
    queries: int = 16
    services_per_user: int = 4
    services: int = 16
    streams_per_user: int = 16
    put_bytes: int = 1024 * GIB
    stall_s: float = 90.0
    spacing_s: float = 0.01
    credentials_per_user: int = 32
    credential_s: float = 7 * 86400.0


class RepositoryConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A repository, or a chain of them, that the node's administrator registers by configuration.

    Attributes
    ----------
    root, registry, chain
        As of a registration.
    registry_password : SecretSource or None
        Where the password of the registry's database is, which then does not stand in its URL.
    """

    root: str = ""
    registry: str = ""
    registry_password: SecretSource | None = None
    chain: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.root) == bool(self.chain):
            raise ValueError("a repository has a root, a chain of repositories the names of these: give one of both")
        if self.chain and (self.registry or self.registry_password):
            raise ValueError("a chain of repositories has no registry of its own")


class OverrideConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What users of this node find in place of what they search.

    Attributes
    ----------
    repositories : tuple of str
        Names or patterns of the repositories for which it holds; none for all.
    dataset_types, collections, within : tuple of str
        As of `pantry.daemon.registry.overrides.Override`.
    """

    dataset_types: tuple[str, ...]
    collections: tuple[str, ...]
    within: tuple[str, ...] = ()
    repositories: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.dataset_types or not self.collections:
            raise ValueError("an override needs 'dataset_types' and 'collections'")


class TableConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A table or view beside a registry, for conditions in queries.

    Attributes
    ----------
    table, key, fixed
        As of `pantry.daemon.registry.operator_tables.OperatorTable`.
    repositories : tuple of str
        Names or patterns of the repositories in whose databases it is; none for all.
    """

    table: str
    key: dict[str, str]
    fixed: dict[str, int | str] = {}
    repositories: tuple[str, ...] = ()


class PrefixConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A storage root whose objects no registry knows; they may change, and are read by key.

    Attributes
    ----------
    root : str
        URI or absolute path; options and copies as of ``storage``.
    ttl_s : float
        How long an answer of the origin is believed, in seconds.
    stale_if_error_s : float
        How long after that what is cached is still read if the origin cannot be asked, in seconds; 0: not at all.
    readers : tuple of str
        Users, uids and ``@groups``, or ``*`` for everybody, besides administrators.
    """

    root: str
    ttl_s: float = 60.0
    stale_if_error_s: float = 0.0
    readers: tuple[str, ...] = ()


class DaemonConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything.

    Attributes
    ----------
    mode : str
        ``user``: for one user, started on demand; ``system``: for all users of the node.
    socket : str
        Path of the Unix socket.
    state_directory : str
        The journal, the site index, and registries of repositories in object stores.
    idle_exit_s : float
        When started on demand: leave after so many seconds without a connection; 0 for never.
    shutdown_s : float
        How long requests under way may go on after SIGTERM, in seconds.
    administrators : tuple of str
        Users and ``@groups`` who may create repositories and evict, besides root and the daemon's
        own user.
    trusted : tuple of str
        Users and ``@groups`` who may ask on behalf of others (a mount for all users).
    log_level : str
        ``debug``, ``info``, ``warning`` or ``error``.
    metrics_port : int
        TCP port on 127.0.0.1 that gives metrics to Prometheus; 0 for none.
    cache, limits, storage, repositories, overrides, tables, prefixes, publish, services, queries, selections
        See there.
    source : str
        The file that it was read from; empty for defaults only.
    """

    mode: str = "user"
    socket: str = ""
    state_directory: str = ""
    idle_exit_s: float = 600.0
    shutdown_s: float = 20.0
    administrators: tuple[str, ...] = ()
    trusted: tuple[str, ...] = ()
    log_level: str = "info"
    metrics_port: int = 0
    cache: CacheConfig = CacheConfig()
    limits: LimitsConfig = LimitsConfig()
    storage: tuple[StorageConfig, ...] = ()
    repositories: dict[str, RepositoryConfig] = {}
    overrides: tuple[OverrideConfig, ...] = ()
    tables: dict[str, TableConfig] = {}
    prefixes: dict[str, PrefixConfig] = {}
    publish: dict[str, PublishConfig] = {}
    services: dict[str, ServiceConfig] = {}
    queries: dict[str, QueryConfig] = {}
    selections: dict[str, SelectionConfig] = {}
    source: str = ""


def default_config_file(mode: str) -> str:
    """Return where the configuration of a mode is looked for."""
    if mode == "system":
        return "/etc/pantry/pantryd.yaml"
    return os.path.join(_xdg("XDG_CONFIG_HOME", ".config"), "pantry", "pantryd.yaml")


def load_config(
    path: str = "", *, mode: str = "", socket: str = "", state: str = "", cache: str = "", on_demand: bool = False
) -> DaemonConfig:
    """Read the configuration and fill in the mode's defaults; arguments win over the file.

    Raises
    ------
    ConfigError
        The file cannot be read, has an unknown key, a wrong type or an impossible value.
    """
    file = path or default_config_file(mode or "user")
    config = load_yaml_file(file, DaemonConfig) if path or os.path.exists(file) else DaemonConfig()
    source = file if path or os.path.exists(file) else ""
    config = msgspec.structs.replace(
        config,
        source=source,
        mode=mode or config.mode,
        socket=socket or config.socket,
        state_directory=state or config.state_directory,
        cache=msgspec.structs.replace(config.cache, directory=cache or config.cache.directory),
    )
    _check(config)
    system = config.mode == "system"
    defaults = {
        "socket": SYSTEM_SOCKET if system else user_socket(),
        "state": "/var/lib/pantry" if system else os.path.join(_xdg("XDG_STATE_HOME", ".local/state"), "pantry"),
        "cache": "/var/cache/pantry" if system else os.path.join(_xdg("XDG_CACHE_HOME", ".cache"), "pantry"),
    }
    return msgspec.structs.replace(
        config,
        socket=os.path.abspath(config.socket or defaults["socket"]),
        state_directory=os.path.abspath(config.state_directory or defaults["state"]),
        idle_exit_s=config.idle_exit_s if on_demand and not system else 0.0,
        cache=msgspec.structs.replace(
            config.cache, directory=os.path.abspath(config.cache.directory or defaults["cache"])
        ),
    )


def _xdg(variable: str, below_home: str) -> str:
    return os.environ.get(variable) or os.path.join(os.path.expanduser("~"), below_home)


def _check(config: DaemonConfig) -> None:
    where = config.source or "configuration"
    if config.mode not in ("user", "system"):
        raise ConfigError(f"{where}: mode: must be 'user' or 'system', not {config.mode!r}")
    if config.log_level not in ("debug", "info", "warning", "error"):
        raise ConfigError(f"{where}: log_level: must be debug, info, warning or error, not {config.log_level!r}")
    if not 0 <= config.metrics_port <= 65535:
        raise ConfigError(f"{where}: metrics_port: {config.metrics_port} is no TCP port")
    cache = config.cache
    if not 0 < cache.low_water <= cache.high_water <= 1:
        raise ConfigError(f"{where}: cache: 0 < low_water <= high_water <= 1 does not hold")
    if cache.quota_bytes < MIB:
        raise ConfigError(f"{where}: cache: quota_bytes: {cache.quota_bytes} is less than 1 MiB")
    if cache.chunk_bytes < 64 * 1024 or cache.chunk_bytes & (cache.chunk_bytes - 1):
        raise ConfigError(f"{where}: cache: chunk_bytes: must be a power of two of at least 64 KiB")
    if not 0 <= cache.pin_fraction <= 1:
        raise ConfigError(f"{where}: cache: pin_fraction: must be between 0 and 1")
    for name in ("keep_free_bytes", "keep_free_inodes", "uncached_bytes", "scrub_bytes_per_s", "negative_ttl_s"):
        if getattr(cache, name) < 0:
            raise ConfigError(f"{where}: cache: {name}: must not be negative")
    for name in ("probe_interval_s", "scrub_interval_s", "pin_refresh_s"):
        if getattr(cache, name) <= 0:
            raise ConfigError(f"{where}: cache: {name}: must be positive")
    for name, prefix in config.prefixes.items():
        if not _PREFIX_NAME.fullmatch(name):
            raise ConfigError(f"{where}: prefixes: {name!r} must be letters, digits, '.', '_' and '-', at most 64")
        if not ROOT.match(prefix.root):
            raise ConfigError(f"{where}: prefixes.{name}.root: {prefix.root!r} is no URI and no absolute path")
        if prefix.ttl_s < 0 or prefix.stale_if_error_s < 0:
            raise ConfigError(f"{where}: prefixes.{name}: ttl_s and stale_if_error_s must not be negative")
    found = (
        *storage_problems(config.storage),
        *problems(config.services, config.queries, config.selections),
    )
    for problem in found:
        raise ConfigError(f"{where}: {problem}")
    if config.limits.spacing_s < 0:
        raise ConfigError(f"{where}: limits: spacing_s: must not be negative")
    for name in LimitsConfig.__struct_fields__:
        if name != "spacing_s" and getattr(config.limits, name) < 1:
            raise ConfigError(f"{where}: limits: {name}: must be at least 1")
