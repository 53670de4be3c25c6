"""The services of the configuration: who may ask them what, and how."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping

import msgspec
import trio

from pantry.backends.admission import Admission
from pantry.backends.credentials import Secret
from pantry.backends.loading import make_query_backend
from pantry.backends.placeholders import names_of, split_statement
from pantry.backends.querying import Query, QueryBackend, Statement, TopicQuery, ViewDefinition
from pantry.daemon.cache.object_id import ObjectId, answers_realm, users_realm
from pantry.daemon.cache.objects import ObjectCache
from pantry.daemon.config import DaemonConfig
from pantry.daemon.config.queries import ServiceConfig
from pantry.daemon.credentials.held import HeldCredentials
from pantry.daemon.credentials.own import REFUSED, OwnOptions
from pantry.daemon.credentials.renewed import NodeOptions, OptionSource, Renewed
from pantry.daemon.queries.answers import Answer, Answers, Question
from pantry.daemon.queries.definitions import Definition, Definitions, filled, written
from pantry.daemon.server.identity import Identity
from pantry.daemon.transfers.health import Health
from pantry.errors import BackendAccessError, InvalidQueryError, NotFoundError, PermissionDeniedError
from pantry.model.queries import Parameter, ParameterType, ParameterValue, check_elements, checked_value

OWN_STATEMENT = "statement"


class Service:
    """One service, connected when it is first asked.

    Parameters
    ----------
    name : str
        As configured.
    config : ServiceConfig
        What is configured.
    admission : Admission
        For its backend.
    options : OptionSource
        Who asks.
    limit : Admission or None
        Queries that may be under way, of all users together.
    uid : int or None
        Of a user's own: whose; nobody else finds his answers.
    """

    def __init__(
        self,
        name: str,
        config: ServiceConfig,
        admission: Admission,
        *,
        options: OptionSource,
        limit: Admission | None,
        uid: int | None,
    ) -> None:
        self.name = name
        self.config = config
        self.uid = uid
        self.limit = limit
        self.realm = answers_realm(name) if uid is None else users_realm(answers_realm(name), uid)
        self.renewed: Renewed[QueryBackend] = Renewed(
            options, lambda made: make_query_backend(config.root, made, admission)
        )
        self.backend = self.renewed.model
        self.health = Health(f"the service {name!r}")
        self.views: set[str] = set()
        self.defining = trio.Lock()

    def object_id(self, query: Query, tables: Mapping[str, str], options: Mapping[str, object]) -> ObjectId:
        """Return by which name the cache knows the answer to a query.

        Parameters
        ----------
        query : Query
            What is asked.
        tables : Mapping
            Hashes of what is uploaded.
        options : Mapping
            Of the backend, with the credentials: what other ones may see is another answer.
        """
        if isinstance(query, Statement):
            query = msgspec.structs.replace(query, parameters=dict(sorted(query.parameters.items())), tables={})
        asked = msgspec.msgpack.encode((query, sorted(tables.items())))
        return ObjectId(self.realm, hashlib.blake2b(asked, digest_size=16, key=self._digest(options)).hexdigest())

    def _digest(self, options: Mapping[str, object]) -> bytes:
        plain = [(name, _revealed(value)) for name, value in sorted(options.items())]
        return hashlib.blake2b(msgspec.msgpack.encode((self.config.root, plain)), digest_size=32).digest()


class Services:
    """All of them.

    Parameters
    ----------
    config : DaemonConfig
        What is configured.
    cache, nursery, admission, offline
        As of `Answers`.
    held : HeldCredentials
        Users' own credentials.

    Raises
    ------
    ConfigError
        A query cannot be taken apart.
    """

    def __init__(
        self,
        config: DaemonConfig,
        cache: ObjectCache,
        nursery: trio.Nursery,
        *,
        admission: Admission,
        offline: Callable[[], bool],
        held: HeldCredentials,
    ) -> None:
        self.definitions = Definitions(config.services, config.queries, config.selections)
        self._configured = config.services
        self._admission = admission
        self._answers = Answers(cache, nursery, admission, offline)
        self._held = held
        self._limits = {
            name: Admission(user_limit=one.max_concurrent, node_limit=one.max_concurrent)
            for name, one in config.services.items()
            if one.max_concurrent
        }
        self._open: dict[tuple[str, int | None], Service] = {}

    async def aclose(self) -> None:
        """Close all backends."""
        for service in self._open.values():
            await service.renewed.aclose()
        self._open.clear()

    def may_read(self, name: str, who: Identity, *, administers: bool) -> bool:
        """Whether ``who`` may run the queries of a configured service."""
        return administers or who.matches(self._configured[name].readers)

    def may_state(self, name: str, who: Identity, *, administers: bool) -> bool:
        """Whether ``who`` may send a service statements of their own."""
        return administers or (
            self.may_read(name, who, administers=False) and who.matches(self._configured[name].statements)
        )

    def readable(self, name: str, who: Identity, *, administers: bool) -> Service:
        """Return a service that ``who`` may ask configured queries, or raise."""
        if name not in self._configured:
            raise NotFoundError(
                f"no service is configured by the name {name[:80]!r}",
                hint="`pantry service queries` or `QueryService().queries()` shows those you may ask",
            )
        if not self.may_read(name, who, administers=administers):
            raise PermissionDeniedError(
                f"user {who.user_name} may not ask the service {name!r}",
                hint=f"the node's administrator can add you to services.{name}.readers in the daemon's configuration",
            )
        return self._get(name, who)

    def _get(self, name: str, who: Identity) -> Service:
        config = self._configured[name]
        uid = who.uid if config.rights == "user" else None
        found = self._open.get((name, uid))
        if found is None:
            options: OptionSource = NodeOptions(config.options, f"the service {name!r}")
            if uid is not None:
                options = OwnOptions(config.options, config.root, uid, self._held)
            found = self._open[name, uid] = Service(
                name, config, self._admission, options=options, limit=self._limits.get(name), uid=uid
            )
            if uid is not None:
                self._held.watch(uid, config.root, found.renewed.forget)
        return found

    def opened(self) -> list[Service]:
        """Return the services that were asked for."""
        return list(self._open.values())

    def all_readable(self, who: Identity, *, administers: bool) -> list[str]:
        """Return the names of the services that ``who`` may ask."""
        return [name for name in sorted(self._configured) if self.may_read(name, who, administers=administers)]

    def location(self, name: str, who: Identity) -> str:
        """Return the URI of a service, without any secret."""
        return self._get(name, who).backend.location

    def readable_realms(self, who: Identity, *, administers: bool) -> set[str]:
        """Return in which realms of the cache the answers of such services are."""
        return {self._realm(name, who) for name in self.all_readable(who, administers=administers)}

    def _realm(self, name: str, who: Identity) -> str:
        realm = answers_realm(name)
        return users_realm(realm, who.uid) if self._configured[name].rights == "user" else realm

    async def run(
        self,
        name: str,
        parameters: Mapping[str, ParameterValue],
        tables: Mapping[str, tuple[int, str]],
        who: Identity,
        *,
        administers: bool,
        cached_only: bool = False,
    ) -> tuple[Definition, Service, Answer]:
        """Run a configured query.

        Parameters
        ----------
        name : str
            Of the query or selection.
        parameters : Mapping
            Values of its parameters.
        tables : Mapping
            Of uploaded tables, by parameter: descriptor and hash.
        who, administers
            Who asks.
        cached_only : bool
            As of `Answers.open`.
        """
        definition = self.definitions.get(name)
        service = self.readable(definition.service, who, administers=administers)
        statement = filled(definition, parameters, {key: fd for key, (fd, _) in tables.items()})
        await self._define_views(service, definition.views)
        answer = await self._ask(service, statement, tables, name, definition.ttl_s, who, cached_only=cached_only)
        return definition, service, answer

    async def run_own(
        self,
        name: str,
        query: Query,
        tables: Mapping[str, tuple[int, str]],
        who: Identity,
        *,
        administers: bool,
        cached_only: bool = False,
    ) -> tuple[Service, Answer]:
        """Ask a service what the user made up; arguments as of `run`.

        Topics of an engineering facility database are for all who may ask the service, statements for those who may
        send their own.
        """
        service = self.readable(name, who, administers=administers)
        if not isinstance(query, service.backend.kinds):
            raise InvalidQueryError(
                f"the service {name!r} does not answer a {type(query).__name__}",
                hint=f"it answers {', '.join(one.__name__ for one in service.backend.kinds)}",
            )
        views: tuple[str, ...] = ()
        if isinstance(query, Statement):
            if not self.may_state(name, who, administers=administers):
                raise PermissionDeniedError(
                    f"user {who.user_name} may not send the service {name!r} statements of their own",
                    hint="`pantry service queries` shows what you may ask; the node's administrator can add you to "
                    f"services.{name}.statements",
                )
            asked = self.definitions.with_selections(name, query.text)
            values = _own_values(asked.text, query.parameters, asked.parameters)
            views = asked.views
            query = msgspec.structs.replace(
                query, text=asked.text, parameters=values, tables={key: fd for key, (fd, _) in tables.items()}
            )
        most = min(query.max_rows, service.config.max_rows)
        if most < 1:
            raise InvalidQueryError(f"max_rows is at least 1, not {most}")
        query = msgspec.structs.replace(query, max_rows=most)
        await self._define_views(service, views)
        what = query.topic if isinstance(query, TopicQuery) else OWN_STATEMENT
        answer = await self._ask(service, query, tables, what, service.config.ttl_s, who, cached_only=cached_only)
        return service, answer

    async def _ask(
        self,
        service: Service,
        query: Query,
        tables: Mapping[str, tuple[int, str]],
        name: str,
        ttl_s: float,
        who: Identity,
        *,
        cached_only: bool,
    ) -> Answer:
        hashes = {key: digest for key, (_, digest) in tables.items()}
        async with service.renewed.use() as (options, backend):
            question = Question(
                object_id=service.object_id(query, hashes, options),
                query=query,
                name=f"{service.name}/{name}",
                ttl_s=ttl_s,
                timeout_s=service.config.timeout_s,
                max_bytes=service.config.max_bytes,
            )
            try:
                return await self._answers.open(
                    backend, service.health, question, uid=who.uid, cached_only=cached_only, limit=service.limit
                )
            except BackendAccessError as exc:
                exc.hint = exc.hint if service.uid is None else REFUSED
                raise

    async def _define_views(self, service: Service, names: tuple[str, ...]) -> None:
        """See that selections are views of the service's database, once in this daemon's life."""
        for name in names:
            async with service.defining:
                if name in service.views:
                    continue
                if not isinstance(service.backend, ViewDefinition):
                    raise InvalidQueryError(
                        f"the service {service.name!r} keeps no views",
                        hint=f"leave out selections.{name}.view, so that the selection is put into each query",
                    )
                async with service.renewed.use() as (_, backend):
                    assert isinstance(backend, ViewDefinition)  # noqa: S101 - of the same class as its model
                    await backend.define_view(name, self.definitions.selections[name].text)
                service.views.add(name)


def _revealed(value: object) -> object:
    return value.reveal() if isinstance(value, Secret) else value


def _own_values(
    text: str, given: Mapping[str, ParameterValue], declared: Mapping[str, Parameter]
) -> dict[str, ParameterValue]:
    """Return the values for a statement of a user's own; those of its selections as they are declared."""
    values: dict[str, ParameterValue] = {}
    names = names_of(split_statement(text), "parameter")
    if unknown := given.keys() - set(names):
        raise InvalidQueryError(f"the statement has no parameter {', '.join(sorted(unknown))[:80]!r}")
    for name in names:
        one = declared.get(name)
        value = given.get(name, one.default if one is not None else None)
        if value is None:
            raise InvalidQueryError(f"the statement needs a value for {name!r}")
        if one is None:
            one = Parameter(type=_kind(name, value))
        values[name] = written(checked_value(name, one, value), one.scale)
    return values


_KINDS: dict[ParameterType, ParameterType | None] = {
    "bool": None,
    "int": "ints",
    "float": "floats",
    "text": "texts",
    "time": None,
    "point": None,
    "circle": None,
    "polygon": None,
}
"""Types of single values, and those of lists of them."""


def _kind(name: str, value: ParameterValue) -> ParameterType:
    """Tell the type of a value that nobody declared; an integer never becomes the nearest float."""
    check_elements(name, value)
    for single, several in _KINDS.items():
        kind = several if isinstance(value, tuple) else single
        if kind is None:
            continue
        try:
            checked_value(name, Parameter(type=kind), value)
        except InvalidQueryError:
            continue
        return kind
    raise InvalidQueryError(f"the value of {name!r} is of no type that a statement can have")


def copy_table(source: int, target: int, most_bytes: int) -> int:
    """Copy an uploaded file, which its sender may still change; return its length. For a worker thread."""
    offset = 0
    while chunk := os.pread(source, 1 << 20, offset):
        offset += len(chunk)
        if offset > most_bytes:
            raise InvalidQueryError(f"an uploaded table has at most {most_bytes} bytes")
        os.write(target, chunk)
    return offset
