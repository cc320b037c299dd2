"""examples/launch: files for Slurm and Kubernetes whose flags the command takes, and whose numbers agree."""

import re
import shlex
import shutil
import subprocess

import pytest
import yaml
from helpers import ROOT

from vaex.cli.parse import parse_all

LAUNCH = ROOT / "examples" / "launch"
SLURM = sorted(LAUNCH.glob("*.sbatch"))
KUBERNETES = sorted(LAUNCH.glob("*.yaml"))


def documents(name):
    return {document["kind"]: document for document in yaml.safe_load_all((LAUNCH / name).read_text())}


def pod(job):
    return job["spec"]["template"]["spec"]


def flags_of_script(path):
    """Flags of the command that a script ends with, its variables replaced."""
    text = re.sub(r"\\\n", " ", path.read_text()).splitlines()[-1]
    words = shlex.split(text.replace("$SLURM_ARRAY_TASK_ID", "3"))
    return words[words.index("vaex") + 1 :]


@pytest.mark.parametrize("path", SLURM, ids=lambda path: path.name)
def test_scripts_for_slurm(path):
    subprocess.run(["bash", "-n", str(path)], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "--exclude=SC1091", str(path)], check=True)
    text = path.read_text()
    (settings,) = list(parse_all(flags_of_script(path)).runs.values())[:1]
    assert "set -euo pipefail" in text and settings.run.out
    array = re.search(r"--array=1-(\d+)", text)
    assert settings.run.distributed is (array is None)
    if array:
        assert settings.run.part == f"3/{array.group(1)}" and len(parse_all(flags_of_script(path)).runs) >= 1


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.name)
def test_jobs_of_kubernetes(path):
    found = documents(path.name)
    job = found["Job"]
    (container,) = pod(job)["containers"]
    arguments, completions = container["args"], job["spec"]["completions"]
    assert job["apiVersion"] == "batch/v1" and job["spec"]["completionMode"] == "Indexed"
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod(job)["volumes"]}
    if "Service" not in found:
        assert container["command"][2].endswith(f'--part="$((JOB_COMPLETION_INDEX + 1))/{completions}"')
        arguments = [*arguments, f"--part=3/{completions}"]
        assert job["spec"]["backoffLimitPerIndex"]  # valid only where a pod that fails is not restarted in place
        assert pod(job)["restartPolicy"] == "Never"
    else:
        environment = {entry["name"]: entry["value"] for entry in container["env"]}
        service = found["Service"]
        assert service["spec"]["clusterIP"] == "None" and service["spec"]["selector"] == {
            "job-name": job["metadata"]["name"]
        }
        assert pod(job)["subdomain"] == service["metadata"]["name"]
        name = f"{job['metadata']['name']}-0.{service['metadata']['name']}:8476"
        assert environment == {"JAX_COORDINATOR_ADDRESS": name, "JAX_NUM_PROCESSES": str(completions)}
        assert job["spec"]["parallelism"] == completions
        assert next(iter(parse_all(arguments).runs.values())).run.distributed
    assert parse_all(arguments).runs
