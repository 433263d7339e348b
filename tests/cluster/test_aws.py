"""The file for `ray up`, checked by Ray's own validation and against what makes it cheap and safe."""

from __future__ import annotations

import copy

import jsonschema
import pytest
import yaml
from cluster_files import CLUSTER

RAW = yaml.safe_load((CLUSTER / "ray-cluster.aws.yaml").read_text(encoding="utf-8"))


def prepared(config):
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(copy.deepcopy(config))
    validate_config(config)
    return config


def test_ray_accepts_it():
    config = prepared(RAW)
    assert config["available_node_types"]["head"]["max_workers"] == 0
    assert config["available_node_types"]["gpu"]["max_workers"] == config["max_workers"]


def test_rays_validation_would_find_a_fault():
    with pytest.raises(jsonschema.ValidationError):
        prepared(RAW | {"idle_timeout": 5})
    with pytest.raises(ValueError):
        prepared(RAW | {"head_node_type": "boss"})


def test_the_head_does_no_work_and_stays():
    head = RAW["available_node_types"][RAW["head_node_type"]]
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    assert "InstanceMarketOptions" not in head["node_config"]


def test_workers_are_preemptible_and_scale_from_nothing():
    workers = {name: kind for name, kind in RAW["available_node_types"].items() if name != RAW["head_node_type"]}
    assert workers
    for kind in workers.values():
        assert kind["min_workers"] == 0 < kind["max_workers"] <= RAW["max_workers"]
        assert kind["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
        assert kind["resources"]["GPU"] >= 1


def test_access_is_by_role_and_token_and_the_dashboard_is_not_exposed():
    start = " ".join(RAW["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in start
    assert "--env RAY_AUTH_MODE=token" in RAW["docker"]["run_options"]
    assert RAW["file_mounts"]["/home/ray/.ray/auth_token"] == "~/.ray/auth_token"
    for kind in RAW["available_node_types"].values():
        assert kind["node_config"]["IamInstanceProfile"]["Name"]
        assert kind["node_config"]["MetadataOptions"]["HttpTokens"] == "required"
