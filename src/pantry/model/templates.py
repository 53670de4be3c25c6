"""Where a repository stores the files of its datasets, by configured templates (DMS-MWBT-REQ-0066).

A template such as ``calexps/{run}/{visit:08d}/calexp_{detector:03d}`` decides the stored path of new datasets of a
type; the suffix of the format follows it. What a dataset's file is called elsewhere (in the mount, a stage directory,
an export) stays with `pantry.model.naming`. `pantry.model.path_proofs` shows that no two datasets share a path.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import msgspec

from pantry.errors import ConfigError, DataIdValueError
from pantry.model.data_id import DataIdValue
from pantry.model.naming import SAFE, extension_of, quote_value

if TYPE_CHECKING:
    from pantry.model.dimensions import DimensionUniverse

RUN = "run"
DATASET_TYPE = "dataset_type"
ABSENT = "none"
"""What stands for an implied dimension that has no value."""

MAX_TEMPLATES = 1000
_MAX_LENGTH = 500
_MAX_SEGMENT = 255
_MAX_SUFFIX = 32
_MAX_WIDTH = 19
_TOKEN = re.compile(r"\{([^{}]*)\}|([^{}]+)|(.)")
_FIELD = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::(.*))?\Z")
_WIDTH = re.compile(r"0([1-9][0-9]?)d\Z")
_PATTERN = re.compile(r"[A-Za-z0-9_.*?\[\]!-]{1,128}\Z")


class TemplateRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A template with what it holds for.

    Attributes
    ----------
    path : str
        The template.
    only : dict of str to int or str
        Values of required dimensions, which the path then need not have: other datasets are refused.
    """

    path: str
    only: dict[str, DataIdValue] = {}


TemplateLike = str | TemplateRule
"""A template, alone or with what it holds for."""


class Field(NamedTuple):
    """A place for a value.

    Attributes
    ----------
    name : str
        ``run``, ``dataset_type`` or a dimension.
    width : int
        Integers are filled with zeros up to so many characters; 0 for as they are.
    """

    name: str
    width: int = 0


Segment = tuple[str | Field, ...]
_Wrong = Callable[[str, str], NoReturn]


class PathTemplate(msgspec.Struct, frozen=True):
    """A template, taken apart.

    Attributes
    ----------
    text : str
        As it was written.
    segments : tuple
        Between the slashes: literal text and fields.
    only : dict of str to int or str
        As of `TemplateRule`.
    """

    text: str
    segments: tuple[Segment, ...]
    only: Mapping[str, DataIdValue] = {}

    @property
    def fields(self) -> tuple[Field, ...]:
        """All fields, in order."""
        return tuple(one for segment in self.segments for one in segment if isinstance(one, Field))

    def paths(
        self,
        dataset_type: str,
        run: str,
        columns: Mapping[str, Sequence[DataIdValue | None]],
        suffixes: Sequence[str],
    ) -> list[str]:
        """Give the stored paths of many datasets of one type and run.

        Parameters
        ----------
        dataset_type, run : str
            Which.
        columns : Mapping
            For each dimension that the template names the value of each dataset.
        suffixes : sequence of str
            Of each dataset.
        """
        columns_of_text: list[Iterable[str]] = []
        literal = ""
        for number, segment in enumerate(self.segments):
            literal += "/" if number else ""
            dots = number < len(self.segments) - 1
            for one in segment:
                if not isinstance(one, Field):
                    literal += one
                elif one.name == DATASET_TYPE:
                    literal += written_type(dataset_type, dots=dots)
                elif one.name == RUN:
                    literal += run
                else:
                    columns_of_text += [repeat(literal), _written(columns[one.name], one.width, dots=dots)]
                    literal = ""
        return ["".join(parts) for parts in zip(*columns_of_text, repeat(literal), suffixes, strict=False)]


def _written(values: Sequence[DataIdValue | None], width: int, *, dots: bool) -> list[str]:
    # A file's name occurs once, an instrument's ten thousand times: write what is distinct.
    text = {value: written_value(value, width, dots=dots) for value in set(values)}
    return [text[value] for value in values]


def written_value(value: DataIdValue | None, width: int, *, dots: bool) -> str:
    """Write one value as a path has it.

    ``dots`` is false in a file's name, where the first dot begins the suffix.
    """
    if value is None:
        return ABSENT
    if isinstance(value, int):
        return f"{value:0{width}d}" if width else str(value)
    quoted = quote_value(value)
    return quoted if dots else quoted.replace(".", "%2E")


def written_type(dataset_type: str, *, dots: bool) -> str:
    """Write the name of a dataset type as a path has it; in a file name a component's dot is ``-``."""
    return dataset_type if dots else dataset_type.replace(".", "-")


class Templates:
    """All templates of a repository.

    Parameters
    ----------
    given : Mapping of str to str or TemplateRule
        By the name of the dataset type, or a shell-style pattern; a name wins over patterns, and of patterns that
        match the longest.
    source : str
        What messages call the place where they stand.

    Raises
    ------
    ConfigError
        With the place of what cannot be a template.
    """

    def __init__(self, given: Mapping[str, TemplateLike], source: str = "templates") -> None:
        if len(given) > MAX_TEMPLATES:
            raise ConfigError(f"{source}: more than {MAX_TEMPLATES} templates")
        self.source = source
        self._parsed: dict[str, PathTemplate] = {}
        for name, one in given.items():
            if not _PATTERN.match(name):
                raise ConfigError(f"{source}: {name[:80]!r} is no dataset type's name and no pattern of names")
            rule = TemplateRule(path=one) if isinstance(one, str) else one
            parsed = parse_template(rule.path, self.place(name))
            self._parsed[name] = msgspec.structs.replace(parsed, only=rule.only)

    def __bool__(self) -> bool:
        return bool(self._parsed)

    def place(self, name: str) -> str:
        """Where a template stands, for messages."""
        return f"{self.source}.{name}"

    def key_of(self, dataset_type: str) -> str | None:
        """Return the name or pattern that decides about a dataset type, None if none does."""
        if dataset_type in self._parsed:
            return dataset_type
        matching = [name for name in self._parsed if fnmatchcase(dataset_type, name)]
        return max(matching, key=lambda name: (len(name), name)) if matching else None

    def of_type(self, dataset_type: str) -> PathTemplate | None:
        """Return the template of a dataset type, None if it has the default path."""
        key = self.key_of(dataset_type)
        return None if key is None else self._parsed[key]

    def check_fields(self, universe: DimensionUniverse) -> None:
        """Refuse fields that are no dimensions, and widths of what is no integer, with `ConfigError`."""
        for name, template in self._parsed.items():
            for dimension, value in template.only.items():
                try:
                    right = dimension in universe.dimensions and universe.check_value(dimension, value) == value
                except DataIdValueError:
                    right = False
                if not right:
                    raise ConfigError(f"{self.place(name)}.only: {dimension}: {value!r} is no value of a dimension")
            for field in template.fields:
                if field.name in (RUN, DATASET_TYPE):
                    continue
                if field.name not in universe or not universe[field.name].is_dimension:
                    known = [one for one in universe.dimensions if one not in universe.skypix]
                    raise ConfigError(
                        f"{self.place(name)}: unknown field {{{field.name}}}",
                        hint=f"known: {RUN}, {DATASET_TYPE}, {', '.join(known)}, and pixels such as htm7",
                    )
                if field.width and not is_integer(universe, field.name):
                    raise ConfigError(
                        f"{self.place(name)}: {field.name} is text, and cannot be filled with zeros",
                        hint=f"write it as {{{field.name}}}",
                    )


def is_integer(universe: DimensionUniverse, dimension: str) -> bool:
    """Whether a dimension's values are integers."""
    return universe[dimension].keys[0].type == "int"


def is_plain_suffix(suffix: str) -> bool:
    """Whether a suffix can always be read back from a stored path."""
    return extension_of(f"x{suffix}") == suffix


def parse_template(text: str, place: str) -> PathTemplate:
    """Take a template apart, or raise `ConfigError` with the place and what is wrong."""
    if not text or len(text) > _MAX_LENGTH:
        raise ConfigError(f"{place}: a template has 1 to {_MAX_LENGTH} characters, not {len(text)}")
    if text.startswith("/"):
        raise ConfigError(f"{place}: {text!r} is absolute", hint="paths are relative to the repository's root")
    if "{run:/}" in text:
        raise ConfigError(f"{place}: {text!r}: write {{run}} in place of {{run:/}}", hint="its slashes always stay")
    segments = tuple(_parse_segment(part, text, place) for part in text.split("/"))
    _check_run(segments, text, place)
    dotted = [one for one in segments[-1] if isinstance(one, str) and "." in one]
    if dotted:
        raise ConfigError(
            f"{place}: {text!r} has a dot in the file's name, where only the suffix of the format has one",
            hint=f"leave {dotted[-1][dotted[-1].index('.') :]!r} out: the suffix is always appended",
        )
    return PathTemplate(text, segments)


def _parse_segment(part: str, text: str, place: str) -> Segment:
    def wrong(what: str, hint: str) -> NoReturn:
        raise ConfigError(f"{place}: {text!r}: {what}", hint=hint)

    if not part:
        wrong("there is an empty part", "no '//', and no '/' at the end: the last part is the file's name")
    if part.startswith("."):
        wrong(f"{part!r} begins with a dot", "such names are hidden, or Pantry's own")
    made: list[str | Field] = []
    least = 0
    for inside, literal, stray in _TOKEN.findall(part):
        if stray:
            wrong(f"{stray!r} has no other half", "a field is written as {visit} or {visit:08d}")
        if literal:
            bad = next((char for char in literal if char not in SAFE), "")
            if bad:
                wrong(f"{bad!r} cannot stand in a path", "use letters, digits and any of _ + - . , = @ ~ :")
            made.append(literal)
            least += len(literal)
            continue
        field = _parse_field(inside, wrong)
        made.append(field)
        least += max(1, field.width)
    if least > _MAX_SEGMENT - _MAX_SUFFIX:
        wrong(f"a part has at least {least} bytes", f"file systems take {_MAX_SEGMENT}, of which the suffix needs some")
    return tuple(made)


def _parse_field(inside: str, wrong: _Wrong) -> Field:
    matched = _FIELD.match(inside)
    if matched is None:
        wrong(f"{{{inside}}} is no field", "a field is written as {visit} or {visit:08d}")
    name, spec = matched[1], matched[2]
    if spec is None:
        return Field(name)
    width = _WIDTH.match(spec)
    if width is None or int(width[1]) > _MAX_WIDTH or name in (RUN, DATASET_TYPE):
        wrong(f"{{{inside}}} has a format that is not known", f"only integers have one: 01d to 0{_MAX_WIDTH}d")
    return Field(name, int(width[1]))


def _check_run(segments: Sequence[Segment], text: str, place: str) -> None:
    runs = [number for number, segment in enumerate(segments) for one in segment if one == Field(RUN)]
    if not runs:
        raise ConfigError(
            f"{place}: {text!r} has no {{run}}, so that datasets of two runs would have one path",
            hint="put {run}/ where the run's name shall stand",
        )
    if len(runs) > 1 or segments[runs[0]] != (Field(RUN),) or runs[0] == len(segments) - 1:
        raise ConfigError(
            f"{place}: {text!r}: {{run}} stands once, alone between slashes, and not as the file's name",
            hint="run names have slashes themselves",
        )
