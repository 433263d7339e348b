"""The Kubernetes files, held to KubeRay's and Kubernetes' field names and to rules of their own."""

from __future__ import annotations

import copy
import re

import kubernetes_validate
import pytest
from cluster_files import KUBERAY, documents, pod_templates, ray_clusters, rayjobs
from rayjob_rules import RAY_CLUSTER, RAY_JOB, cluster_faults, job_faults, pod_faults, schema_faults

KUBERNETES = kubernetes_validate.latest_version()
POD_TEMPLATES = pod_templates()


@pytest.mark.parametrize("name", rayjobs())
def test_every_rayjob_follows_the_schema_and_the_rules(name):
    spec = rayjobs()[name]
    assert schema_faults(spec, RAY_JOB) == []
    assert job_faults(spec) == []


def test_the_development_cluster_follows_the_schema_and_the_rules():
    [cluster] = documents("raycluster.yaml")
    assert (cluster["apiVersion"], cluster["kind"]) == ("ray.io/v1", "RayCluster")
    assert schema_faults(cluster["spec"], RAY_CLUSTER) == []
    assert cluster_faults(cluster["spec"]) == []


def test_the_cluster_is_the_same_in_every_file():
    first, *others = ray_clusters().values()
    assert all(other == first for other in others)


def test_the_scheduled_jobs_differ_in_nothing():
    jobs = rayjobs()
    assert jobs["nightly-rayjob.yaml"] == jobs["raycronjob.yaml"]
    single = jobs["rayjob.yaml"] | {"entrypoint": jobs["nightly-rayjob.yaml"]["entrypoint"]}
    assert single == jobs["nightly-rayjob.yaml"]


def set_to(path, value):
    """A change of one field; a value of `...` removes it."""

    def change(spec):
        *parents, last = path
        for parent in parents:
            spec = spec[parent]
        if value is ...:
            del spec[last]
        else:
            spec[last] = value

    return change


HEAD = ("rayClusterSpec", "headGroupSpec")
WORKERS = ("rayClusterSpec", "workerGroupSpecs", 0)
WORKER_POD = (*WORKERS, "template", "spec")


@pytest.mark.parametrize(
    "change",
    [
        set_to(("activeDeadlineSecond",), 1),
        set_to(("activeDeadlineSeconds",), "36000"),
        set_to(("ttlSecondsAfterFinished",), ...),
        set_to(("submitterConfig", "backOffLimit"), 2),
        set_to(("rayClusterSpec", "rayVersion"), 2.60),
        set_to((*HEAD, "rayStartParams", "num-cpus"), 0),
        set_to((*WORKERS, "maxReplica"), 3),
    ],
)
def test_the_schema_finds_misspelt_and_mistyped_fields(change):
    spec = copy.deepcopy(rayjobs()["rayjob.yaml"])
    change(spec)
    assert len(schema_faults(spec, RAY_JOB)) == 1


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (set_to(("shutdownAfterJobFinishes",), False), "stays"),
        (set_to(("preRunningDeadlineSeconds",), 40_000), "no sooner"),
        (set_to(("runtimeEnvYAML",), 'env_vars: {RAY_JOB_STOP_WAIT_TIME_S: "600"}'), "grace period"),
        (set_to(("runtimeEnvYAML",), "env_vars: {RAY_JOB_STOP_WAIT_TIME_S: 60}"), "no text"),
        (set_to(("ttlSecondsAfterFinished",), 90_000), "idle"),
        (set_to(("entrypoint",), "python jobs/refine.py manifest.csv out"), "shows no GPU"),
        (set_to(("rayClusterSpec", "authOptions", "mode"), "disabled"), "run code"),
        (set_to((*HEAD, "serviceType"), "LoadBalancer"), "exposed"),
        (set_to((*HEAD, "rayStartParams", "num-cpus"), "4"), "compete"),
        (set_to(("rayClusterSpec", "autoscalerOptions", "version"), "v1"), "scales"),
        (set_to((*HEAD, "template", "spec", "nodeSelector"), {"capacity": "spot"}), "taken away"),
        (set_to((*WORKERS, "minReplicas"), 1), "from nothing"),
        (set_to((*WORKER_POD, "nodeSelector"), {"capacity": "on-demand"}), "preemptible"),
        (set_to((*WORKER_POD, "tolerations"), [{"key": "spot", "operator": "Exists"}]), "taint"),
        (set_to((*WORKER_POD, "restartPolicy"), "Always"), "replaced"),
        (set_to((*WORKER_POD, "containers", 0, "resources", "limits", "memory"), "32Gi"), "reckons"),
        (set_to((*WORKER_POD, "securityContext", "runAsNonRoot"), False), "root"),
        (set_to((*WORKER_POD, "containers", 0, "securityContext"), {}), "privileges"),
        (set_to((*WORKER_POD, "containers", 0, "env"), [{"name": "AWS_SECRET_ACCESS_KEY", "value": "x"}]), "secret"),
    ],
)
def test_the_rules_find_what_they_are_for(change, fault):
    # The files share parts between pods (YAML anchors): only one copy is to change.
    spec = unshared(rayjobs()["rayjob.yaml"])
    change(spec)
    faults = job_faults(spec)
    assert len(faults) == 1
    assert fault in faults[0]


def unshared(value):
    if isinstance(value, dict):
        return {name: unshared(inner) for name, inner in value.items()}
    return [unshared(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize("where", POD_TEMPLATES)
def test_every_pod_is_one_that_kubernetes_accepts_and_runs_without_privileges(where):
    template = POD_TEMPLATES[where]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": template["spec"]}
    kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    assert pod_faults(template["spec"]) == []


@pytest.mark.parametrize("name", ["nightly-cronjob.yaml", "network-policy.yaml"])
def test_kubernetes_own_objects_are_valid(name):
    for document in documents(name):
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_strict_validation_finds_a_misspelt_field():
    cronjob = documents("nightly-cronjob.yaml")[0]
    cronjob["spec"]["concurencyPolicy"] = "Forbid"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(cronjob, KUBERNETES, strict=True)


def test_the_cronjob_does_not_overlap_and_waits_for_every_attempt():
    cronjob = documents("nightly-cronjob.yaml")[0]["spec"]
    job, rayjob = cronjob["jobTemplate"]["spec"], rayjobs()["nightly-rayjob.yaml"]
    assert cronjob["concurrencyPolicy"] == "Forbid"
    assert cronjob["timeZone"]
    assert cronjob["successfulJobsHistoryLimit"] > 0
    assert cronjob["failedJobsHistoryLimit"] > 0
    # Kubernetes gives up on a schedule for good after 100 missed ones unless there is such a limit.
    assert 600 <= cronjob["startingDeadlineSeconds"] < 24 * 3600
    attempts = rayjob["backoffLimit"] + 1
    assert attempts * rayjob["activeDeadlineSeconds"] <= job["activeDeadlineSeconds"] < 24 * 3600
    # podFailurePolicy works with this restart policy only.
    assert job["template"]["spec"]["restartPolicy"] == "Never"


def test_names_leave_room_for_what_is_appended_to_them():
    # KubeRay refuses RayJobs of more than 47 characters; a CronJob's Jobs and a RayCronJob's RayJobs get 9 more.
    for name in ("nightly-cronjob.yaml", "raycronjob.yaml"):
        assert len(documents(name)[0]["metadata"]["name"]) <= 36


def test_the_waiting_pod_may_do_what_it_does_and_no_more():
    _, account, role, binding = documents("nightly-cronjob.yaml")
    assert role["rules"] == [{"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["create", "get"]}]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert [subject["name"] for subject in binding["subjects"]] == [account["metadata"]["name"]]
    cronjob = documents("nightly-cronjob.yaml")[0]
    assert (
        cronjob["spec"]["jobTemplate"]["spec"]["template"]["spec"]["serviceAccountName"] == account["metadata"]["name"]
    )


def test_the_waiting_pod_finds_its_files():
    [kustomization] = documents("kustomization.yaml")
    [generator] = kustomization["configMapGenerator"]
    assert all((KUBERAY / name).is_file() for name in generator["files"] + kustomization["resources"])
    pod = POD_TEMPLATES["nightly-cronjob.yaml wait"]["spec"]
    assert pod["volumes"][0]["configMap"]["name"] == generator["name"]
    [mount] = pod["containers"][0]["volumeMounts"]
    named = [word.removeprefix(mount["mountPath"] + "/") for word in pod["containers"][0]["command"][1:]]
    assert sorted(named) == sorted(generator["files"])


def test_nothing_but_the_cluster_reaches_its_pods():
    [policy] = documents("network-policy.yaml")
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    # A rule without `from` lets everybody in.
    assert all(rule["from"] for rule in policy["spec"]["ingress"])


def test_no_file_holds_a_credential():
    for file in KUBERAY.iterdir():
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
        assert not re.search(r"AKIA[0-9A-Z]{16}|aws_secret_access_key\s*[:=]\s*\S", text, re.IGNORECASE), file
