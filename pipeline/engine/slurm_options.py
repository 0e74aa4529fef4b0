"""What `--on slurm:KEY=VALUE,...` says: options of sbatch and of submitit, checked before a job is submitted."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from collections.abc import Set
from typing import Any

from pipeline.errors import UserError
from pipeline.wording import nearest

HELP_TIMEOUT_S = 20
NEAR = 0.7  # similarity from which an unknown name is taken for a misspelt one
MINUTES, TIME = "minutes", "time"
GPU_COUNTS = frozenset({"gpus", "gpus_per_node", "gpus_per_socket", "gpus_per_task"})
ONE_EACH = frozenset({"nodes", "ntasks", "ntasks_per_node", "tasks_per_node"})
WHOLE = frozenset({MINUTES, "cpus_per_task", "cpus_per_gpu", "signal_delay_s"})
LISTS = frozenset({"setup", "teardown", "srun_args"})
SWITCHES = frozenset({"exclusive", "use_srun", "stderr_to_stdout"})
# What the pool itself decides, and what makes sbatch do something else than submit.
OURS_TEXT = "array chdir error help input open_mode output parsable quiet signal test_only usage version wait wrap"
# Parameters of submitit 1.5 for Slurm; the others are passed to sbatch as they are.
SUBMITIT_TEXT = """
account comment constraint dependency exclude gpus_per_node gpus_per_task gres job_name mail_type mail_user mem mem_gb
mem_per_cpu mem_per_gpu name nodelist partition qos wckey
"""
# Long options of sbatch. Source: https://slurm.schedmd.com/sbatch.html
SBATCH_TEXT = """
acctg_freq batch bb bbf begin burst_buffer cluster_constraint clusters container container_id contiguous core_spec
cores_per_socket cpu_freq deadline delay_boot distribution export export_file extra extra_node_info get_user_env gid
gpu_bind gpu_freq gpus gpus_per_socket gres_flags hint hold ignore_pbs kill_on_invalid_dep licenses mem_bind mincpus
network nice no_kill no_requeue ntasks_per_core ntasks_per_gpu ntasks_per_socket oom_kill_step overcommit oversubscribe
power prefer priority profile propagate reboot requeue reservation resv_ports segment sockets_per_node spread_job
stepmgr switches thread_spec threads_per_core time_min tmp tres_bind tres_per_task uid use_min_nodes verbose
wait_all_nodes x11
"""
OURS = frozenset(OURS_TEXT.split())
OF_SUBMITIT = frozenset(SUBMITIT_TEXT.split()) | LISTS | SWITCHES | WHOLE
OF_SBATCH = frozenset(SBATCH_TEXT.split())
KNOWN = OF_SUBMITIT | OF_SBATCH | ONE_EACH | OURS | {TIME}


def slurm_settings(detail: str, own: Set[str] = frozenset()) -> dict[str, Any]:
    """Returns the parameters for submitit that `--on slurm:KEY=VALUE,...` gives.

    An option that is neither in `KNOWN` nor in `own`, and not similar to one that is, is passed on to sbatch, which
    then accepts or refuses it.

    Args:
        own: more options that sbatch knows on this machine, as from `options_here`.

    >>> slurm_settings("partition=gpu,minutes=240,mem_gb=16")
    {'slurm_partition': 'gpu', 'timeout_min': 240, 'mem_gb': 16.0}
    >>> slurm_settings("reservation=class,hold=true")
    {'slurm_additional_parameters': {'reservation': 'class', 'hold': True}}

    Raises:
        UserError: a misspelt option, one that the pool decides itself, a wrong value, or no KEY=VALUE.
    """
    settings: dict[str, Any] = {}
    others: dict[str, Any] = {}
    seen: set[str] = set()
    for part in filter(None, detail.split(",")):
        key, equals, value = part.partition("=")
        key = key.strip().replace("-", "_")
        if not (key and equals and value):
            raise UserError(
                f"found {part!r}, expected slurm:KEY=VALUE,KEY=VALUE or slurm:local{_near(part, ['local'])}"
            )
        if key in OURS:
            raise UserError(f"{key} cannot be set: the study sets it itself; leave it out")
        if key not in KNOWN and key not in own and (near := nearest(key, KNOWN | own, cutoff=NEAR)):
            raise UserError(f"sbatch has no option {key!r}; did you mean {near[0]}?")
        key = MINUTES if key == TIME else key
        if key in seen:
            raise UserError(f"{key} is given twice; give it once")
        seen.add(key)
        if (found := _value_of(key, value)) is None:
            continue
        if key in (MINUTES, "name", "mem_gb"):
            settings["timeout_min" if key == MINUTES else key] = found
        elif key in OF_SUBMITIT:
            settings[f"slurm_{key}"] = found
        else:
            others[key.replace("_", "-")] = found
    return settings | ({"slurm_additional_parameters": others} if others else {})


def unknown_options(settings: dict[str, Any], own: Set[str] = frozenset()) -> list[str]:
    """Returns the options in `slurm_settings` that are in no list: of a plugin, of a newer Slurm, or mistakes.

    >>> unknown_options(slurm_settings("reservation=class,qwxz=1"))
    ['qwxz']
    """
    others = settings.get("slurm_additional_parameters", {})
    return [key for key in others if key.replace("-", "_") not in KNOWN | own]


def job_parameters(settings: dict[str, Any], cpus: int, gpus: int, minutes: int) -> dict[str, Any]:
    """Returns the parameters of one job: what its run needs, except where the user gives something else.

    >>> sorted(job_parameters(slurm_settings("gres=gpu:a100:1"), cpus=4, gpus=1, minutes=60))
    ['cpus_per_task', 'name', 'slurm_gres', 'timeout_min']
    """
    usual = {"name": "study", "cpus_per_task": cpus, "gpus_per_node": gpus, "timeout_min": minutes}
    others = settings.get("slurm_additional_parameters", {})
    counted = {key.removeprefix("slurm_") for key in settings} | {key.replace("-", "_") for key in others}
    if counted & GPU_COUNTS or str(settings.get("slurm_gres", "")).startswith("gpu"):
        del usual["gpus_per_node"]  # two numbers of GPUs would contradict each other
    if settings.keys() & {"slurm_cpus_per_task", "slurm_cpus_per_gpu"}:
        del usual["cpus_per_task"]  # sbatch takes one of them
    return usual | settings


@functools.lru_cache(maxsize=1)
def options_here() -> frozenset[str]:
    """Returns the options that `sbatch --help` lists here, those of plugins included; empty if there is no sbatch.

    Names have underscores instead of dashes.
    """
    if shutil.which("sbatch") is None:
        return frozenset()
    try:
        done = subprocess.run(["sbatch", "--help"], capture_output=True, timeout=HELP_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return frozenset()
    return frozenset(name.decode().replace("-", "_") for name in re.findall(rb"--([a-z][a-z0-9-]+)", done.stdout))


def _near(word: str, known: list[str]) -> str:
    near = nearest(word, known)
    return f"; did you mean {near[0]}?" if near else ""


def _value_of(key: str, value: str) -> Any:
    """Returns a value as submitit takes it; None where it only repeats what each job has anyway.

    Raises:
        UserError: a value that the option cannot have.
    """
    if key in ONE_EACH:
        if value != "1":
            raise UserError(f"{key}={value}: each training is one task on one machine, so it must be 1; leave it out")
        return None
    if key in WHOLE:
        if not re.fullmatch(r"[0-9]{1,9}", value) or not int(value):
            raise UserError(f"{key}={value}: expected a whole number from 1, for example {key}=60")
        return int(value)
    if key == "mem_gb":
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", value) or not float(value):
            raise UserError(f"{key}={value}: expected a number of GB, for example {key}=16")
        return float(value)
    if key in GPU_COUNTS:
        if not re.fullmatch(r"([A-Za-z][\w.-]*:)?[0-9]+", value):
            raise UserError(f"{key}={value}: expected a number or TYPE:NUMBER, for example {key}=1")
        return int(value) if value.isdigit() else value
    if key in LISTS:
        return [value]
    if value == "false" and (key in OF_SBATCH or key == "exclusive"):
        remedy = f"type no_{key}=true" if f"no_{key}" in OF_SBATCH else "leave it out"
        raise UserError(f"{key}=false: sbatch has no value false; {remedy}")
    if value in ("true", "false") and (key in SWITCHES or key in OF_SBATCH):
        return value == "true"
    return value
