"""One Ray, one Python, one image, one package version, wherever they are named."""

from __future__ import annotations

import re

import yaml
from cluster_files import CLUSTER, locked, pod_templates, project, ray_clusters

DOCKERFILE = (CLUSTER / "Dockerfile").read_text(encoding="utf-8")


def test_rays_version_is_the_locked_one_everywhere():
    ray = locked("ray")
    [base] = re.findall(r"rayproject/ray:([\d.]+)-", DOCKERFILE)
    assert base == ray
    assert {spec["rayVersion"] for spec in ray_clusters().values()} == {ray}


def test_the_images_python_is_one_that_the_package_supports():
    [minor] = re.findall(r"rayproject/ray:[\d.]+-py3(\d+)-", DOCKERFILE)
    [least] = re.findall(r">=3\.(\d+)", project()["requires-python"])
    assert int(minor) >= int(least)


def test_one_image_is_named_everywhere_and_carries_the_packages_version():
    images = {container["image"] for pod in pod_templates().values() for container in pod["spec"]["containers"]}
    launcher = yaml.safe_load((CLUSTER / "ray-cluster.aws.yaml").read_text(encoding="utf-8"))
    images.add(launcher["docker"]["image"])
    images |= set(re.findall(r"--tag (\S+)", DOCKERFILE))
    assert images == {f"registry.example.com/refine-batch:{project()['version']}"}


def test_pytorch3d_comes_beside_every_other_locked_package():
    assert re.search(r'conda install .*--channel conda-forge "pytorch3d=', DOCKERFILE)
    assert "grep --invert-match '^torch=='" in DOCKERFILE
    assert locked("torch")
