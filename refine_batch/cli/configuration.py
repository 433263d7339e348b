"""Where options come from: defaults, then a file (`--config`), then `--set key=value`, then options of their own."""

from __future__ import annotations

import difflib
import textwrap
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from refine_batch.cli.options import Leaf, leaves
from refine_batch.errors import UsageError

Model = TypeVar("Model", bound=BaseModel)


def build(
    models: tuple[type[BaseModel], ...],
    *,
    config_file: str | None = None,
    assignments: Iterable[str] = (),
    options: Mapping[str, Any] | None = None,
) -> list[BaseModel]:
    """One instance of each model from all sources, the later ones winning.

    Parameters
    ----------
    models
        Their field names must not clash; a key belongs to the model that has it.
    config_file
        YAML or TOML, by its suffix.
    assignments
        `dotted.key=value` each.
    options
        By click parameter name; None counts as not given.

    Raises
    ------
    UsageError
        Naming the key or option, what was found and what would be right.
    """
    known = {leaf.key: leaf for model in models for leaf in leaves(model)}
    values: dict[str, Any] = {}
    if config_file:
        values.update(_from_file(config_file, known))
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise UsageError(f"--set {assignment}: write it as KEY=VALUE, such as --set paper.learning_rate=1e-4")
        values[_known(key.strip(), known, "--set")] = _scalar(value.strip())
    parameters = {leaf.parameter: leaf.key for leaf in known.values()}
    values.update({parameters[name]: value for name, value in (options or {}).items() if value is not None})
    return [_validated(model, values, known) for model in models]


def _from_file(path: str, known: dict[str, Leaf]) -> dict[str, Any]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"--config {path} cannot be read: {reason}") from error
    try:
        content = tomllib.loads(text) if path.lower().endswith(".toml") else yaml.safe_load(text)
    except (tomllib.TOMLDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"--config {path} is not valid: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"--config {path}: expected keys with values, found {type(content).__name__}")
    return {_known(key, known, f"--config {path}"): value for key, value in _flattened(content, known)}


def _flattened(content: dict, known: dict[str, Leaf], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in content.items():
        key = prefix + str(name).replace("-", "_")
        if isinstance(value, dict) and key not in known:
            yield from _flattened(value, known, f"{key}.")
        elif value is not None:
            yield key, value


def _known(key: str, known: dict[str, Leaf], source: str) -> str:
    key = key.replace("-", "_")
    if key in known:
        return key
    similar = difflib.get_close_matches(key, known, n=1, cutoff=0.6) or [k for k in known if k.endswith(f".{key}")][:1]
    hint = f"; did you mean {similar[0]}?" if similar else "; --print-config lists all of them"
    raise UsageError(f"{source}: there is no option {key!r}{hint}")


def _scalar(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _validated(model: type[Model], values: dict[str, Any], known: dict[str, Leaf]) -> Model:
    tree: dict[str, Any] = {}
    for leaf in leaves(model):
        if leaf.key in values:
            *parents, name = leaf.key.split(".")
            node = tree
            for parent in parents:
                node = node.setdefault(parent, {})
            node[name] = values[leaf.key]
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise UsageError(_sentence(error, known)) from error


def _sentence(error: ValidationError, known: dict[str, Leaf]) -> str:
    """The first faulty option in a person's words; a union's several complaints become one."""
    faults: dict[str, list[str]] = {}
    found: dict[str, Any] = {}
    for fault in error.errors(include_url=False):
        parts = [str(part) for part in fault["loc"]]
        key = next((k for n in range(len(parts), 0, -1) if (k := ".".join(parts[:n])) in known), ".".join(parts))
        message = fault["msg"].removeprefix("Value error, ").replace("Input should be", "it should be")
        faults.setdefault(key, []).append(message.split(", unable to parse")[0])
        found[key] = fault["input"]
    key, messages = next(iter(faults.items()))
    name = known[key].option if key in known and known[key].option else key
    # The loose type check of a union's other member only repeats what the tighter message says.
    return f"{name} is {found[key]!r}: " + " or ".join(dict.fromkeys(messages)).replace(" or it should be", ", or")


def as_yaml(models: Iterable[BaseModel]) -> str:
    """Every option with its value and its reason, as a file that `--config` reads."""
    lines: list[str] = []
    for model in models:
        lines += _yaml_lines(model, 0)
    return "\n".join(lines) + "\n"


def _yaml_lines(model: BaseModel, depth: int) -> list[str]:
    indent = "  " * depth
    lines: list[str] = []
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        # A group of options has no description of its own; its class says what they are.
        reason = (type(value).__doc__ or "").partition("\n\n")[0] if isinstance(value, BaseModel) else field.description
        lines += [f"{indent}# {line}" for line in textwrap.wrap(reason or "", 110 - len(indent))]
        if isinstance(value, BaseModel):
            lines += [f"{indent}{name}:", *_yaml_lines(value, depth + 1)]
        else:
            plain = list(value) if isinstance(value, tuple) else value
            text = yaml.safe_dump(plain, allow_unicode=True, default_flow_style=True)
            lines.append(f"{indent}{name}: {text.removesuffix('...' + chr(10)).strip()}")
    return lines
