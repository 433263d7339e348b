import itertools
import re

import pytest
import yaml
from pydantic import BaseModel, Field

from refine_batch.cli.configuration import as_yaml, build
from refine_batch.cli.options import leaves
from refine_batch.config import RefineConfig
from refine_batch.errors import UsageError
from refine_batch.job.options import RunOptions

MODELS = (RefineConfig, RunOptions)


def test_the_models_share_no_name():
    assert not RefineConfig.model_fields.keys() & RunOptions.model_fields.keys()


def test_every_option_of_its_own_says_what_it_is_for():
    silent = [leaf.key for model in MODELS for leaf in leaves(model) if leaf.option and not leaf.field.description]
    assert silent == []


def test_later_sources_win(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("steps: 10\nimage-size: 64\npaper:\n  learning_rate: 0.5\n  sigma: 0.5\nactors: 3\n")
    config, options = build(
        MODELS,
        config_file=str(file),
        assignments=["paper.learning_rate=1e-4", "image_size=32"],
        options={"image_size": "16", "seed": None},
    )
    assert config == RefineConfig(steps=10, image_size=16, paper={"learning_rate": 1e-4, "sigma": 0.5})
    assert options == RunOptions(actors=3)


def test_toml_reads_the_same(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text('method = "refine"\nsteps = 7\n[paper.weights]\nsilhouette = 3.5\n')
    (config,) = build((RefineConfig,), config_file=str(file))
    assert config == RefineConfig(method="refine", steps=7, paper={"weights": {"silhouette": 3.5}})


def test_printed_configuration_is_whole_and_reads_back(tmp_path):
    models = (RefineConfig(steps=3, paper={"learning_rate": 0.25}), RunOptions(actors=2, force=True))
    text = as_yaml(models)
    file = tmp_path / "printed.yaml"
    file.write_text(text)
    assert tuple(build(MODELS, config_file=str(file))) == models
    assert yaml.safe_load(text)["paper"]["weights"]["vertex_symmetry"] == 20.0


def test_every_printed_option_or_its_group_says_what_it_is():
    lines = as_yaml(tuple(model() for model in MODELS)).splitlines()
    explained = [False]
    for before, line in itertools.pairwise(["", *lines]):
        if re.match(r" *#", line):
            continue
        depth = (len(line) - len(line.lstrip())) // 2
        explained = [*explained[: depth + 1], re.match(r" *#", before) is not None]
        assert explained[-1] or explained[-2], line


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"assignments": ["paper.learning_rat=1"]}, "'paper.learning_rat'; did you mean paper.learning_rate?"),
        ({"assignments": ["learning_rate=1"]}, "did you mean paper.learning_rate?"),
        ({"assignments": ["qqqq=1"]}, "'qqqq'; --print-config lists all of them"),
        ({"assignments": ["steps"]}, "write it as KEY=VALUE"),
        ({"assignments": ["paper.weights.laplacian=-1"]}, "paper.weights.laplacian is -1: it should be greater than"),
        ({"options": {"steps": "0"}}, "--steps is '0': it should be greater than or equal to 1"),
        ({"options": {"steps": "many"}}, "--steps is 'many': it should be a valid integer"),
        ({"options": {"actors": "lots"}}, "--actors is 'lots': it should be a valid integer, or 'auto'"),
        ({"options": {"max_failed_fraction": "nan"}}, "--max-failed-fraction is 'nan'"),
    ],
)
def test_mistakes_are_named_in_a_sentence(source, message):
    with pytest.raises(UsageError) as caught:
        build(MODELS, **source)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.yaml", "steps: [1", "is not valid"),
        ("c.toml", "steps = ", "is not valid"),
        ("c.yaml", "- 1\n- 2", "expected keys with values, found list"),
        ("c.yaml", "stepz: 1", "did you mean steps?"),
        ("c.yaml", "a: 1\x00", "is not valid"),
        ("c.yaml", "!!python/object/apply:os.system ['touch pwned']", "is not valid"),
        ("missing.yaml", None, "cannot be read"),
    ],
)
def test_a_faulty_file_is_named(tmp_path, monkeypatch, name, content, message):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=name) as caught:
        build(MODELS, config_file=str(tmp_path / name))
    assert message in str(caught.value)
    assert not (tmp_path / "pwned").exists()


def test_a_nested_field_can_have_an_option_of_its_own():
    class Inner(BaseModel):
        weights: str = Field("random", description="…", json_schema_extra={"option": "--encoder-weights"})
        other: int = 1

    class Outer(BaseModel):
        inner: Inner = Inner()

    by_key = {leaf.key: leaf for leaf in leaves(Outer)}
    assert by_key["inner.weights"].option == "--encoder-weights"
    assert by_key["inner.other"].option is None
    (built,) = build((Outer,), options={"inner__weights": "imagenet"})
    assert built.inner == Inner(weights="imagenet")
