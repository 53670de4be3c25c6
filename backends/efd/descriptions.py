"""Units and descriptions of fields from a file, for services that keep none: InfluxDB has no place for them.

The file is YAML. The key ``topics`` has by topic an optional ``description`` and ``fields``; these have by field, or
by ``name*`` for the elements of an array, ``unit`` (as astropy writes them) and ``description``::

    topics:
      lsst.sal.ESS.temperature:
        description: Temperatures of the environment
        fields:
          temperatureItem*: {unit: deg_C, description: One of the sensors}
"""

from __future__ import annotations

import re

import msgspec

from pantry.backends.efd.topics import Field, Topic
from pantry.errors import ConfigError

_NUMBER = re.compile(r"[0-9]+\Z")
_MOST_BYTES = 64 << 20


class Described(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Unit and description of a field."""

    unit: str = ""
    description: str = ""


class DescribedTopic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Description of a topic and its fields."""

    description: str = ""
    fields: dict[str, Described] = {}

    def of(self, field: str) -> Described:
        """Return what is known of a field, by its own name or as an element of an array."""
        found = self.fields.get(field)
        if found is None:
            base = _NUMBER.sub("", field)
            # Where the array's own name ends in digits, fewer of the last digits are the number.
            names = (field[:end] + "*" for end in range(len(base), len(field)))
            found = next((self.fields[name] for name in names if name in self.fields), None)
        return found or Described()


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    topics: dict[str, DescribedTopic] = {}


def load_descriptions(path: str) -> dict[str, DescribedTopic]:
    """Read the file; an empty path gives nothing.

    Raises
    ------
    ConfigError
        If it cannot be read, or says what is not known here.
    """
    if not path:
        return {}
    import yaml

    try:
        with open(path, "rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise ConfigError(f"{path}: larger than {_MOST_BYTES >> 20} MiB")
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        return msgspec.convert(yaml.load(content, loader) or {}, _File).topics  # noqa: S506 - safe, both
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read: {exc.strerror}") from None
    except msgspec.ValidationError as exc:
        raise ConfigError(f"{path}: {exc}") from None
    except yaml.YAMLError as exc:
        raise ConfigError(f"{path}: not YAML: {exc}") from None


def described(topic: Topic, known: DescribedTopic | None) -> Topic:
    """Return a topic with units and descriptions where it has none of its own."""
    if known is None:
        return topic
    fields: list[Field] = []
    for one in topic.fields:
        more = known.of(one.name)
        fields.append(
            msgspec.structs.replace(one, unit=one.unit or more.unit, description=one.description or more.description)
        )
    return msgspec.structs.replace(topic, fields=tuple(fields), description=topic.description or known.description)
