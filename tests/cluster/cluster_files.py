"""The files that operators take from cluster/, parsed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
KUBERAY = CLUSTER / "kuberay"


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((KUBERAY / name).read_text(encoding="utf-8")))


def rayjobs() -> dict[str, dict[str, Any]]:
    """Every RayJob spec, by the file that holds it."""
    [single], [nightly], [scheduled] = (documents(n) for n in ("rayjob.yaml", "nightly-rayjob.yaml", "raycronjob.yaml"))
    return {
        "rayjob.yaml": single["spec"],
        "nightly-rayjob.yaml": nightly["spec"],
        "raycronjob.yaml": scheduled["spec"]["jobTemplate"],
    }


def ray_clusters() -> dict[str, dict[str, Any]]:
    """Every RayCluster spec, by the file that holds it."""
    specs = {name: spec["rayClusterSpec"] for name, spec in rayjobs().items()}
    return specs | {"raycluster.yaml": documents("raycluster.yaml")[0]["spec"]}


def pod_templates() -> dict[str, dict[str, Any]]:
    """Every pod template of cluster/kuberay, by where it stands."""
    templates = {}
    for name, spec in ray_clusters().items():
        templates[f"{name} head"] = spec["headGroupSpec"]["template"]
        templates |= {f"{name} {group['groupName']}": group["template"] for group in spec["workerGroupSpecs"]}
    templates |= {f"{name} submitter": spec["submitterPodTemplate"] for name, spec in rayjobs().items()}
    cronjob = documents("nightly-cronjob.yaml")[0]
    return templates | {"nightly-cronjob.yaml wait": cronjob["spec"]["jobTemplate"]["spec"]["template"]}


def locked(package: str) -> str:
    """The version of a package in requirements.lock."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    match = re.search(rf"^{re.escape(package)}==(\S+)$", text, re.MULTILINE)
    assert match, f"{package} is not in requirements.lock"
    return match[1]


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
