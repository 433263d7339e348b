"""The type checker that checks the core's annotations, shapes included, while the tests run."""

from __future__ import annotations

import functools
import inspect
import types
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import jaxtyping
import numpy as np
import torch
from beartype import BeartypeConf, beartype

# Warp compiles the source of its kernels, which decorators would change: their modules stay out.
CHECKED = (
    "refine_batch.cameras.camera",
    "refine_batch.losses",
    "refine_batch.mesh.batch",
    "refine_batch.mesh.topology",
    "refine_batch.networks.encoder",
    "refine_batch.networks.refiner",
    "refine_batch.networks.stacked",
    "refine_batch.render.hard",
    "refine_batch.render.pixels",
    "refine_batch.render.silhouette",
    "refine_batch.render.torch_silhouette",
)

# As PEP 484 has it, an int is welcome where a float is asked for.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))

_jaxtyped = jaxtyping.jaxtyped
_describe: dict[type, Callable[[Any], object]] = {}
# By a function's code, for those that are made anew with each call of another: what was passed and what came of it.
_seen: dict[types.CodeType, dict] = defaultdict(dict)


def described(value: object) -> object:
    """All of a value that an annotation may speak of: two that are described alike are both right, or neither is."""
    kind = type(value)
    describe = _describe.get(kind)
    if describe is None:
        describe = _describe[kind] = _describing(kind)
    return describe(value)


def _describing(kind: type) -> Callable[[Any], object]:
    """How a value of this very type is described; asked once for each."""
    if issubclass(kind, torch.Tensor | np.ndarray):
        return lambda value: (kind, value.shape, value.dtype)
    if issubclass(kind, bool | int | str):
        return lambda value: (kind, value)
    if issubclass(kind, tuple | list):
        return lambda value: (kind, tuple([described(item) for item in value]))
    if issubclass(kind, dict):
        return lambda value: (kind, tuple([(described(key), described(item)) for key, item in value.items()]))
    return lambda value: kind


def checked_once(fn=None, *, typechecker):
    """`jaxtyping.jaxtyped`, which takes longer than many a function, for arguments and results unlike any before."""
    if fn is None:
        return functools.partial(checked_once, typechecker=typechecker)
    if not inspect.isfunction(fn):
        return _jaxtyped(fn, typechecker=typechecker)
    seen, made = _seen[fn.__code__], []

    def checked():
        if not made:
            made.append(_jaxtyped(fn, typechecker=typechecker))
        return made[0]

    @functools.wraps(fn)
    def wrapper(*args, **kwargs):
        __tracebackhide__ = True
        passed = described(args), described(kwargs)
        if passed not in seen:
            result = checked()(*args, **kwargs)
            seen[passed] = {described(result)}
            return result
        result = fn(*args, **kwargs)
        came = described(result)
        if came not in seen[passed]:
            _jaxtyped(_giving(fn, result), typechecker=typechecker)(*args, **kwargs)
            seen[passed].add(came)
        return result

    return wrapper


def _giving(fn: types.FunctionType, result: object) -> types.FunctionType:
    """A function of the same signature that has this result."""

    def give(*args, **kwargs):
        return result

    # Annotations are text, and names in it those of the function's module.
    given = types.FunctionType(give.__code__, fn.__globals__, fn.__name__, closure=give.__closure__)
    return functools.wraps(fn)(given)


def install() -> None:
    """Have the modules checked that are imported from now on."""
    jaxtyping.jaxtyped = checked_once
    jaxtyping.install_import_hook(CHECKED, "shape_checks.check")
