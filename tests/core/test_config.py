"""What decides a result is checked and hashed, every option of it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from refine_batch import RefineConfig, config
from refine_batch.seeding import instance_seed


def leaves(model: BaseModel, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Every option that is a value, with its path."""
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name), value


LEAVES = dict(leaves(RefineConfig()))


def changed(path: tuple[str, ...], value: object, **beside: object) -> RefineConfig:
    """The defaults with one option set, and what it goes with."""
    options: object = value
    for name in reversed(path):
        options = {name: options}
    return RefineConfig.model_validate(options | beside)


def another(value: object) -> object:
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return {"auto": "z", "5,0.1": "5,0.2"}.get(value, value + ":other")
    if isinstance(value, tuple):
        return value[1:]
    if value is None:
        return 7
    return value * 2 if isinstance(value, int) and value else value / 2 if value else 1


@pytest.mark.parametrize("path", LEAVES, ids=".".join)
def test_every_option_changes_the_hash(path):
    named = {("picture", "mask_from"): "mask", ("figures",): "fast"}
    other = named.get(path) or another(LEAVES[path])
    beside = {"method": "refine"} if path == ("paper_exact",) else {}
    usual = RefineConfig(**beside).config_hash()
    assert changed(path, other, **beside).config_hash() != usual
    assert changed(path, LEAVES[path], **beside).config_hash() == usual


def test_the_papers_settings_are_for_the_papers_method():
    with pytest.raises(ValidationError, match="give --method refine as well"):
        RefineConfig(paper_exact=True)
    assert RefineConfig(paper_exact=True, method="refine").paper_exact
    assert RefineConfig(paper_exact=True, method="my_module:method").paper_exact


def test_the_algorithms_version_changes_the_hash(monkeypatch):
    before = RefineConfig().config_hash()
    monkeypatch.setattr(config, "ALGORITHM_VERSION", config.ALGORITHM_VERSION + 1)
    assert RefineConfig().config_hash() != before


def test_hash_is_16_hex_digits_that_the_way_of_writing_does_not_change():
    found = RefineConfig(paper={"weights": {"silhouette": 10}}).config_hash()
    assert found == RefineConfig().config_hash()
    assert len(found) == 16
    int(found, 16)


NUMBERS = [path for path, value in LEAVES.items() if isinstance(value, float)]


@pytest.mark.parametrize("path", NUMBERS, ids=".".join)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0])
def test_numbers_are_finite_and_none_is_negative(path, value):
    with pytest.raises(ValidationError, match=path[-1]):
        changed(path, value)


@pytest.mark.parametrize(
    "options",
    [
        {"step": 10},
        {"paper": {"learningrate": 1e-4}},
        {"steps": 0},
        {"image_size": 15},
        {"image_size": 4096},
        {"seed": -1},
        {"figure_samples": 10},
        {"guard": "perhaps"},
        {"camera_error": "five"},
        {"camera_error": "5,0.1,2"},
        {"camera_error": "-5,0.1"},
        {"camera_error": "5,inf"},
        {"camera_error": ""},
        {"preparation": {"working_faces": 99}},
    ],
)
def test_what_makes_no_sense_is_refused(options):
    with pytest.raises(ValidationError):
        RefineConfig.model_validate(options)


@pytest.mark.parametrize(
    ("said", "degrees", "share"),
    [
        ("5,0.1", 5.0, 0.1),
        (" 5.0 , 0.10 ", 5.0, 0.1),
        (5, 5.0, 0.1),
        ("2", 2.0, 0.1),
        ([2, 0], 2.0, 0.0),
        (0, 0.0, 0.0),
    ],
)
def test_a_cameras_error_may_be_said_in_several_ways(said, degrees, share):
    """A mere 0 is exact in its distance, too; whatever the spelling, alike are hashed alike."""
    found = RefineConfig(camera_error=said)
    assert found.camera_spread == (degrees, share)
    assert found.config_hash() == RefineConfig(camera_error=f"{degrees:g},{share:g}").config_hash()


def test_configurations_do_not_change():
    with pytest.raises(ValidationError, match="frozen"):
        RefineConfig().steps = 3


def test_every_option_says_what_it_is_for():
    for model in (RefineConfig, config.PaperOptions, config.LargeStepsOptions):
        for name, field in model.model_fields.items():
            assert field.description or isinstance(field.default, BaseModel), f"{model.__name__}.{name}"


@given(st.integers(0, 2**70), st.text(), st.text(max_size=8))
def test_seeds_fit_every_generator_and_repeat(seed, name, purpose):
    found = instance_seed(seed, name, purpose)
    assert 0 <= found < 2**63
    assert instance_seed(seed, name, purpose) == found


def test_seeds_differ_by_run_instance_and_purpose():
    seeds = {instance_seed(s, i, p) for s in range(20) for i in "abcde" for p in ("network", "figures")}
    assert len(seeds) == 20 * 5 * 2
    # A fixed value: results must not change with the platform or the version of Python.
    assert instance_seed(0, "chair", "network") == 5_999_273_189_346_817_956
