"""What decides, by a text file, the format, the formatter and the Python type of datasets (DMS-MWBT-REQ-0025, 0060).

Two files can say so, in the same form: a repository's ``pantry.yaml`` (the section ``formats``), for all who
use it, and a user's own. What the user's says wins, and within a file what is said of a dataset type wins over
what is said of its storage class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from pantry.errors import ConfigError, DatasetTypeError
from pantry.model.builtin_formats import BUILTIN_FORMATS, WriteOptions
from pantry.model.composites import MAX_COMPONENTS, Source, check_component
from pantry.model.raw_headers import USUAL_RULES, HeaderRules
from pantry.model.storage import STORAGE_CLASSES, StorageClass

OptionValue = str | int | float | bool | list[int] | None

MAX_RULES = 1000
_MAX_SUFFIX = 32


class Form(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How datasets are stored and what they are read as; what is left out is said elsewhere.

    Attributes
    ----------
    formatter : str
        Name of the formatter that writes new datasets.
    extension : str
        Suffix of new files, with the dot; by default the formatter's usual one.
    python_type : str
        Qualified name of what `Butler.get` returns.
    write : dict
        Write options of the formatter.
    disassembled : bool or None
        Whether each component is stored as a dataset of its own.
    delegate : str
        What takes objects apart and puts them together; by default that of the Python type.
    components : dict of str to str
        For components the storage class, if not the usual one of what they are.
    """

    formatter: str = ""
    extension: str = ""
    python_type: str = ""
    write: dict[str, OptionValue] = {}
    disassembled: bool | None = None
    delegate: str = ""
    components: dict[str, str] = {}


class TypeForm(Form, frozen=True, kw_only=True, omit_defaults=True):
    """How datasets of a type are stored and what they are read as.

    Attributes
    ----------
    sources : dict of str to Source
        Where components come from when the dataset is read, in place of what it has itself.
    memory : bool or None
        Whether objects stay in the memory of the process that puts them.
    headers : HeaderRules
        Of raws: which corrections of their headers hold, and what is merged into them.
    """

    sources: dict[str, Source] = {}
    memory: bool | None = None
    headers: HeaderRules = USUAL_RULES


class Formats(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one file says of formats.

    Attributes
    ----------
    storage_classes : dict of str to Form
        By the name of the storage class: a known one, or a new one, which has at least ``formatter`` and
        ``python_type``.
    dataset_types : dict of str to TypeForm
        By the name of the dataset type, or a shell-style pattern; a name wins over patterns, and of
        patterns that match the longest.
    """

    storage_classes: dict[str, Form] = {}
    dataset_types: dict[str, TypeForm] = {}

    @property
    def disassembles(self) -> bool:
        """Whether it says of anything that it is disassembled."""
        return any(
            form.disassembled is not None
            for forms in (self.storage_classes, self.dataset_types)
            for form in forms.values()
        )

    @property
    def gathers(self) -> bool:
        """Whether it says of any dataset type where its components come from."""
        return any(form.sources for form in self.dataset_types.values())

    def of_type(self, dataset_type: str) -> TypeForm | None:
        """Return what is said of a dataset type, None if nothing is."""
        exact = self.dataset_types.get(dataset_type)
        if exact is not None:
            return exact
        matching = [name for name in self.dataset_types if fnmatchcase(dataset_type, name)]
        return self.dataset_types[max(matching, key=lambda name: (len(name), name))] if matching else None


def stays_in_memory(dataset_type: str, layers: Sequence[Formats]) -> bool:
    """Whether datasets of a type are kept in memory in place of being stored (DMS-MWBT-REQ-0027)."""
    forms = (layer.of_type(dataset_type) for layer in layers if layer.dataset_types)
    return next((bool(form.memory) for form in forms if form is not None and form.memory is not None), False)


NO_FORMATS = Formats()
"""What an empty file says."""


class StoredForm(msgspec.Struct, frozen=True, kw_only=True):
    """The complete answer for one dataset type.

    Attributes
    ----------
    formatter, extension, python_type : str
        As in `Form`, none of them empty; ``extension`` only where the formatter has no usual one.
    write, delegate, components : dict, str, dict
        As in `Form`.
    disassembled : bool
        As in `Form`.
    """

    formatter: str
    extension: str
    python_type: str
    write: dict[str, OptionValue] = {}
    disassembled: bool = False
    delegate: str = ""
    components: dict[str, str] = {}


def stored_form(dataset_type: str, storage_class: str, layers: Sequence[Formats]) -> StoredForm:
    """Decide how datasets of a type are stored.

    Parameters
    ----------
    dataset_type, storage_class : str
        Its name and that of its storage class.
    layers : sequence of Formats
        What the files say, the one that wins first.

    Raises
    ------
    DatasetTypeError
        Nobody knows the storage class.
    """
    said: list[Form] = []
    for layer in layers:
        said += [
            one for one in (layer.of_type(dataset_type), layer.storage_classes.get(storage_class)) if one is not None
        ]
    known = STORAGE_CLASSES.get(storage_class)
    if known is not None:
        said.append(Form(formatter=known.formatter, extension=known.extension, python_type=known.python_type))
    formatter = next((one.formatter for one in said if one.formatter), "")
    python_type = next((one.python_type for one in said if one.python_type), "")
    if not formatter or not python_type:
        raise DatasetTypeError(
            f"unknown storage class {storage_class!r}",
            hint=f"known: {', '.join(known_storage_classes(layers))}; a repository's pantry.yaml may define others",
        )
    # A suffix and options belong to the formatter that they were said of, and to no other.
    write: dict[str, OptionValue] = {}
    extension = ""
    for one in said:
        if one.formatter not in ("", formatter):
            continue
        write = {**one.write, **write}
        extension = extension or one.extension
    return StoredForm(
        formatter=formatter,
        extension=extension or usual_extension(formatter),
        python_type=python_type,
        write=write,
        disassembled=next((one.disassembled for one in said if one.disassembled is not None), False),
        delegate=next((one.delegate for one in said if one.delegate), ""),
        components={name: kind for one in reversed(said) for name, kind in one.components.items()},
    )


def sources_of(dataset_type: str, layers: Sequence[Formats]) -> dict[str, Source]:
    """Return where components of a dataset type come from when it is read; what wins comes first in ``layers``."""
    found: dict[str, Source] = {}
    for layer in reversed(layers):
        form = layer.of_type(dataset_type)
        if form is not None:
            found |= form.sources
    return found


def usual_extension(formatter: str) -> str:
    """Return the usual suffix of a formatter of Pantry's own; empty for others."""
    known = BUILTIN_FORMATS.get(formatter)
    return known.extensions[0] if known is not None and known.extensions else ""


def known_storage_classes(layers: Iterable[Formats]) -> list[str]:
    """Return the names of all storage classes, sorted."""
    found = set(STORAGE_CLASSES)
    for layer in layers:
        found.update(layer.storage_classes)
    return sorted(found)


def defined_storage_class(name: str, layers: Sequence[Formats]) -> StorageClass:
    """Return a storage class as the files define it; `DatasetTypeError` lists the known ones."""
    form = stored_form("", name, layers)
    return StorageClass(name=name, python_type=form.python_type, formatter=form.formatter, extension=form.extension)


def header_rules(dataset_type: str, layers: Iterable[Formats]) -> HeaderRules:
    """Return what is said of the headers of a type of raws; the first file that says something wins."""
    for layer in layers:
        form = layer.of_type(dataset_type)
        if form is not None and form.headers != USUAL_RULES:
            return form.headers
    return USUAL_RULES


OptionsOf = Callable[[str], "type[Any] | None"]
"""From the name of a formatter to its write options, None if it is unknown."""


def builtin_options(formatter: str) -> type[WriteOptions] | None:
    """Return the write options of a formatter of Pantry's own."""
    known = BUILTIN_FORMATS.get(formatter)
    return None if known is None else known.options


def convert_options(formatter: str, options_type: type[Any], given: Mapping[str, OptionValue]) -> Any:
    """Return write options as the formatter takes them, or raise `ConfigError` that lists the possible ones."""
    try:
        return msgspec.convert(dict(given), options_type, strict=True)
    except msgspec.ValidationError as exc:
        names = [field.name for field in msgspec.structs.fields(options_type)] if options_type is not dict else []
        raise ConfigError(
            f"write options of {formatter}: {str(exc).replace('Object', 'it')}",
            hint=f"its options: {', '.join(names) or 'none'}",
        ) from None


def check_formats(formats: Formats, *, source: str, options_of: OptionsOf, below: Sequence[Formats] = ()) -> None:
    """Find what is wrong with a file when it is loaded, not at the first write.

    Parameters
    ----------
    formats : Formats
        What it says.
    source : str
        What messages call it.
    options_of : callable
        Gives the write options of each formatter that is known here. One that gives None for a
        formatter's name refuses it.
    below : sequence of Formats
        What it lies over, as the repository's file below a user's.

    Raises
    ------
    ConfigError
        With the place.
    """
    if len(formats.storage_classes) + len(formats.dataset_types) > MAX_RULES:
        raise ConfigError(f"{source}: more than {MAX_RULES} rules")
    layers = (formats, *below)
    for name, form in formats.storage_classes.items():
        place = f"{source}: storage_classes.{name}"
        if not name.isidentifier():
            raise ConfigError(f"{place}: the name of a storage class is one word of letters, digits and _")
        try:
            whole = stored_form("", name, layers)
        except DatasetTypeError:
            raise ConfigError(
                f"{place}: a new storage class has formatter and python_type",
                hint=f"known ones: {', '.join(known_storage_classes(below))}",
            ) from None
        _check_form(place, form, whole.formatter, whole.python_type, options_of)
        _check_components(place, form, layers)
    for name, form in formats.dataset_types.items():
        place = f"{source}: dataset_types.{name}"
        if not form.formatter and (form.extension or form.write):
            raise ConfigError(f"{place}: extension and write need formatter beside them")
        _check_form(place, form, form.formatter, form.python_type, options_of)
        _check_components(place, form, layers)
        if len(form.sources) > MAX_COMPONENTS:
            raise ConfigError(f"{place}: more than {MAX_COMPONENTS} sources")
        form.headers.check(f"{place}.headers")
        for component, origin in form.sources.items():
            check_component(component, f"{place}.sources")
            origin.check(f"{place}.sources.{component}")


def _check_components(place: str, form: Form, layers: Sequence[Formats]) -> None:
    if len(form.components) > MAX_COMPONENTS:
        raise ConfigError(f"{place}: more than {MAX_COMPONENTS} components")
    for name, kind in form.components.items():
        check_component(name, f"{place}.components")
        try:
            stored_form("", kind, layers)
        except DatasetTypeError as exc:
            raise ConfigError(f"{place}.components.{name}: {exc.message}", hint=exc.hint) from None


def _check_form(place: str, form: Form, formatter: str, python_type: str, options_of: OptionsOf) -> None:
    check_extension(form.extension, place)
    if not formatter:
        return
    options = options_of(formatter)
    if options is None:
        raise ConfigError(
            f"{place}: unknown formatter {formatter!r}", hint=f"known: {', '.join(sorted(BUILTIN_FORMATS))}"
        )
    try:
        convert_options(formatter, options, form.write)
    except ConfigError as exc:
        raise ConfigError(f"{place}.write: {exc.message}", hint=exc.hint) from None
    known = BUILTIN_FORMATS.get(formatter)
    if known is None:
        return
    if form.extension and known.extensions and form.extension not in known.extensions:
        raise ConfigError(
            f"{place}.extension: {form.extension!r} is no suffix of {formatter}",
            hint=f"its suffixes: {', '.join(known.extensions)}",
        )
    if python_type and python_type not in known.python_types:
        raise ConfigError(
            f"{place}.python_type: {formatter} has no {python_type}",
            hint=f"its Python types: {', '.join(known.python_types)}",
        )


def check_extension(extension: str, place: str) -> None:
    """Refuse a suffix that could not be one of a file's name; empty is none."""
    if extension and (
        extension[0] != "."
        or len(extension) > _MAX_SUFFIX
        or not extension.replace(".", "").isalnum()
        or not extension.isascii()
        or ".." in extension
        or extension.endswith(".")
    ):
        raise ConfigError(f"{place}: {extension[:40]!r} cannot be the suffix of a file", hint="such as '.fits'")
