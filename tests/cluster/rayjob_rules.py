"""What a RayJob of this project has to be: a schema of the fields in use, and rules across fields.

The schema lists the fields of KubeRay's v1 API that the files use and no others, so that a misspelt field is an error
here and not a default on the cluster.
"""

from __future__ import annotations

from typing import Any

import yaml
from jsonschema import Draft202012Validator

POSITIVE = {"type": "integer", "minimum": 1}
COUNT = {"type": "integer", "minimum": 0}
# Pod templates are checked by Kubernetes' own schema.
TEMPLATE = {"type": "object", "required": ["spec"]}
# `ray start` takes them as text.
START = {"type": "object", "additionalProperties": {"type": "string"}}


def _object(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


RAY_CLUSTER = _object(
    ("rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions", "headGroupSpec", "workerGroupSpecs"),
    rayVersion={"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
    authOptions=_object(("mode",), mode={"enum": ["token", "disabled"]}, secretName={"type": "string"}),
    enableInTreeAutoscaling={"type": "boolean"},
    autoscalerOptions=_object(
        ("version",),
        version={"enum": ["v1", "v2"]},
        idleTimeoutSeconds=COUNT,
        upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
        resources={"type": "object"},
        securityContext={"type": "object"},
    ),
    headGroupSpec=_object(
        ("rayStartParams", "template"),
        serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
        enableIngress={"type": "boolean"},
        rayStartParams=START,
        template=TEMPLATE,
    ),
    workerGroupSpecs={
        "type": "array",
        "minItems": 1,
        "items": _object(
            ("groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"),
            groupName={"type": "string"},
            replicas=COUNT,
            minReplicas=COUNT,
            maxReplicas=POSITIVE,
            rayStartParams=START,
            template=TEMPLATE,
        ),
    },
)
RAY_JOB = _object(
    (
        *("entrypoint", "runtimeEnvYAML", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "rayClusterSpec"),
        *("activeDeadlineSeconds", "preRunningDeadlineSeconds", "backoffLimit", "submitterConfig"),
    ),
    entrypoint={"type": "string", "minLength": 1},
    runtimeEnvYAML={"type": "string"},
    shutdownAfterJobFinishes={"type": "boolean"},
    ttlSecondsAfterFinished=COUNT,
    activeDeadlineSeconds=POSITIVE,
    preRunningDeadlineSeconds=POSITIVE,
    backoffLimit=COUNT,
    submissionMode={"enum": ["K8sJobMode"]},
    submitterConfig=_object(("backoffLimit",), backoffLimit=COUNT),
    submitterPodTemplate=TEMPLATE,
    rayClusterSpec=RAY_CLUSTER,
)


def schema_faults(spec: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(spec)]


def job_faults(spec: dict[str, Any]) -> list[str]:
    """Rules across the fields of a RayJob spec."""
    faults = []
    if not spec["shutdownAfterJobFinishes"]:
        faults.append("the cluster stays, and costs, after the job")
    if spec["preRunningDeadlineSeconds"] >= spec["activeDeadlineSeconds"]:
        faults.append("a job that cannot start is given up no sooner than one that runs")
    wait = yaml.safe_load(spec["runtimeEnvYAML"])["env_vars"].get("RAY_JOB_STOP_WAIT_TIME_S")
    head = spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    if not isinstance(wait, str) or float(wait) > head["terminationGracePeriodSeconds"]:
        faults.append("RAY_JOB_STOP_WAIT_TIME_S is no text, or longer than the head pod's own grace period")
    if spec["ttlSecondsAfterFinished"] > 3600:
        faults.append("an idle cluster is kept for more than an hour")
    groups = spec["rayClusterSpec"]["workerGroupSpecs"]
    pods = [group["template"]["spec"]["containers"][0]["resources"]["limits"] for group in groups]
    if any("nvidia.com/gpu" in limits for limits in pods) and "--gpus-per-actor" not in spec["entrypoint"]:
        faults.append("a cluster without workers shows no GPU, so none would be asked for")
    return faults + cluster_faults(spec["rayClusterSpec"])


def cluster_faults(spec: dict[str, Any]) -> list[str]:
    """Rules across the fields of a RayCluster spec."""
    faults = []
    head, workers = spec["headGroupSpec"], spec["workerGroupSpecs"]
    if spec["authOptions"]["mode"] != "token":
        faults.append("whoever reaches the cluster can run code on it")
    if head.get("serviceType", "ClusterIP") != "ClusterIP" or head.get("enableIngress"):
        faults.append("the dashboard is exposed")
    if head["rayStartParams"].get("num-cpus") != "0" or head["rayStartParams"].get("num-gpus", "0") != "0":
        faults.append("actors compete with the driver on the head")
    if not (spec["enableInTreeAutoscaling"] and spec["autoscalerOptions"]["version"] == "v2"):
        faults.append("nothing scales the workers")
    if "SPOT" in str(head["template"]["spec"]["nodeSelector"]).upper():
        faults.append("the head may be taken away")
    for group in workers:
        if not group["minReplicas"] == group["replicas"] == 0 < group["maxReplicas"]:
            faults.append(f"group {group['groupName']} does not scale from nothing")
        pod = group["template"]["spec"]
        if "SPOT" not in str(pod["nodeSelector"]).upper():
            faults.append(f"group {group['groupName']} is not preemptible")
        keys = {toleration["key"] for toleration in pod["tolerations"]}
        gpus = pod["containers"][0]["resources"]["limits"].get("nvidia.com/gpu")
        if gpus and "nvidia.com/gpu" not in keys:
            faults.append(f"group {group['groupName']} does not tolerate the taint of GPU nodes")
    for pod in [head["template"]["spec"]] + [group["template"]["spec"] for group in workers]:
        faults += pod_faults(pod)
        if pod.get("restartPolicy") != "Never":
            faults.append("autoscaler v2 wants pods that are replaced, not restarted")
        if pod["containers"][0]["resources"]["limits"] != pod["containers"][0]["resources"]["requests"]:
            faults.append("Ray reckons with resources that the pod may not get")
    return faults


def pod_faults(pod: dict[str, Any]) -> list[str]:
    """Security and limits of any pod."""
    faults = []
    security = pod.get("securityContext", {})
    if not security.get("runAsNonRoot") or security.get("runAsUser", 0) == 0:
        faults.append("the pod runs as root")
    if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        faults.append("the pod has no seccomp profile")
    for container in pod["containers"]:
        inner = container.get("securityContext", {})
        if inner.get("allowPrivilegeEscalation") is not False or inner.get("capabilities", {}).get("drop") != ["ALL"]:
            faults.append(f"container {container['name']} keeps privileges")
        if not {"cpu", "memory"} <= container.get("resources", {}).get("limits", {}).keys():
            faults.append(f"container {container['name']} has no limits")
        for variable in container.get("env", []):
            secret = any(word in variable["name"] for word in ("KEY", "TOKEN", "PASSWORD", "SECRET"))
            if secret and "value" in variable:
                faults.append(f"container {container['name']} holds a secret in plain text")
    return faults
