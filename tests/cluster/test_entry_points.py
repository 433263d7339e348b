"""Whatever a file of cluster/ or the README submits exists, explains itself and takes the options it is given."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pytest
import yaml
from cluster_files import CLUSTER, ROOT, rayjobs

from refine_batch.cli.nightly import nightly
from refine_batch.cli.run import run

COMMANDS = {"jobs/refine.py": run, "jobs/nightly.py": nightly}


def submitted() -> list[str]:
    """Every command line of the form `python …jobs/X.py …` in the files that tell what to submit."""
    pages = [CLUSTER / "ray-cluster.aws.yaml", CLUSTER / "README.md", ROOT / "README.md", ROOT / "docs/operations.md"]
    pages.append(CLUSTER / "kuberay/raycluster.yaml")
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    text = re.sub(r"\\\n#?\s*", " ", text)
    found = re.findall(r"-- (python jobs/\w+\.py[^`\n]*)", text)
    return found + [spec["entrypoint"].replace("/home/ray/refine-batch/", "") for spec in rayjobs().values()]


@pytest.mark.parametrize("line", sorted(set(submitted())))
def test_every_submitted_command_parses(line):
    python, script, *words = shlex.split(line)
    assert python == "python"
    assert (ROOT / script).is_file()
    # Parsing checks names and types of options and arguments without running anything.
    context = COMMANDS[script].make_context(script, [word.rstrip(",") for word in words])
    assert context.params["manifest"]
    assert context.params["output"]


def test_the_kubernetes_files_submit_both_jobs():
    scripts = {spec["entrypoint"].split()[1].removeprefix("/home/ray/refine-batch/") for spec in rayjobs().values()}
    assert scripts == set(COMMANDS)


@pytest.mark.parametrize("script", COMMANDS)
def test_each_job_explains_every_option(script):
    done = subprocess.run([sys.executable, script, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Exit status" in done.stdout
    for parameter in COMMANDS[script].params:
        for name in parameter.opts:
            if name.startswith("--"):
                assert re.search(rf"{re.escape(name)}\b", done.stdout), name
                assert getattr(parameter, "help", None), f"{name} has no help"


def test_the_waiting_script_explains_itself():
    script = CLUSTER / "kuberay/run_rayjob.py"
    done = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "RAYJOB.yaml" in done.stdout


def test_the_bucket_and_the_image_are_all_there_is_to_change():
    text = "".join(f.read_text(encoding="utf-8") for f in sorted((CLUSTER / "kuberay").glob("*.yaml")))
    assert set(re.findall(r"s3://([^/\s]+)", text)) == {"your-bucket"}
    for spec in rayjobs().values():
        assert yaml.safe_load(spec["runtimeEnvYAML"]).keys() == {"env_vars"}, "the code is in the image"
