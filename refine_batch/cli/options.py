"""Command-line options made from the fields of pydantic models, so that each option is written once.

A field `image_size` becomes `--image-size`, its description the help. Fields of nested models are set through
`--set a.b=value` or a configuration file, unless a nested field names an option of its own with
`json_schema_extra={"option": "--name"}`.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

METAVARS = {int: "N", float: "X", str: "TEXT"}


@dataclass(frozen=True)
class Leaf:
    """One settable field: its dotted `key`, its field and, where it has one, its command-line `option`."""

    key: str
    field: FieldInfo
    option: str | None

    @property
    def parameter(self) -> str:
        """The click parameter's name: the key, made an identifier."""
        return self.key.replace(".", "__")


def leaves(model: type[BaseModel], prefix: str = "") -> Iterator[Leaf]:
    """Every settable field of `model` and its nested models, in order."""
    for name, field in model.model_fields.items():
        key = prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from leaves(field.annotation, f"{key}.")
            continue
        extra = field.json_schema_extra
        option = extra.get("option") if isinstance(extra, dict) else None
        if option is None and not prefix:
            option = "--" + name.replace("_", "-")
        yield Leaf(key, field, str(option) if option else None)


class SectionOption(click.Option):
    """An option that `--help` shows under a heading, of which a command with dozens needs a few."""

    def __init__(self, *args: Any, section: str, **settings: Any):
        super().__init__(*args, **settings)
        self.section = section


def model_options(sections: Mapping[str, type[BaseModel]]) -> Callable[[Callable], Callable]:
    """Decorator that gives a click command the options of models, by heading. Unset options arrive as None."""

    def decorate(function: Callable) -> Callable:
        own = [(title, leaf) for title, model in sections.items() for leaf in leaves(model) if leaf.option]
        for title, leaf in reversed(own):
            settings = _settings(leaf.field) | {"cls": SectionOption, "section": title}
            function = click.option(_declaration(leaf), leaf.parameter, **settings)(function)
        return function

    return decorate


def _declaration(leaf: Leaf) -> str:
    option = leaf.option or ""
    return f"{option}/--no-{option.removeprefix('--')}" if _types(leaf.field.annotation) == [bool] else option


def _settings(field: FieldInfo) -> dict[str, Any]:
    kinds = _types(field.annotation)
    help_text = field.description or ""
    if field.default is not None:
        help_text += f"  [default: {_shown(field.default)}]"
    settings: dict[str, Any] = {"default": None, "help": help_text.strip()}
    if kinds == [bool]:
        return settings
    literals = [kind for kind in kinds if not isinstance(kind, type)]
    if len(literals) == len(kinds):
        return settings | {"type": click.Choice([str(value) for value in literals])}
    names = [METAVARS.get(kind, "TEXT") if isinstance(kind, type) else str(kind) for kind in kinds]
    return settings | {"type": str, "metavar": "|".join(dict.fromkeys(names))}


def _types(annotation: Any) -> list[Any]:
    """The plain types and literal values of an annotation, without None: `Annotated[int, …] | None` → [int]."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _types(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [kind for part in get_args(annotation) for kind in _types(part) if part is not types.NoneType]
    if origin is Literal:
        return list(get_args(annotation))
    return [annotation]


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
