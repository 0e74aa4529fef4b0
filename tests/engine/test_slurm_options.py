"""What `--on slurm:KEY=VALUE` takes: options of sbatch and their values; a misspelt one is refused before any job."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine import slurm_options
from pipeline.engine.slurm_options import KNOWN, OURS, job_parameters, options_here, slurm_settings, unknown_options
from pipeline.engine.slurm_pool import SlurmPool
from pipeline.errors import UserError
from pipeline.paths import Folders
from tests.engine.slurm_jobs import needs_submitit


@pytest.fixture(autouse=True)
def _asked_anew():
    options_here.cache_clear()
    yield
    options_here.cache_clear()


@pytest.mark.parametrize(
    ("detail", "message"),
    [
        ("partitoin=gpu", "sbatch has no option 'partitoin'; did you mean partition?"),
        ("minuts=5", "did you mean minutes?"),
        ("mem-per-gpus=4G", "did you mean mem_per_gpu?"),
        ("reservatoin=x", "did you mean reservation?"),
        ("minutes=abc", "minutes=abc: expected a whole number from 1, for example minutes=60"),
        ("minutes=0", "minutes=0: expected a whole number from 1"),
        ("time=4:00:00", "minutes=4:00:00: expected a whole number"),
        ("cpus_per_task=2.5", "cpus_per_task=2.5: expected a whole number"),
        ("gpus_per_node=two", "gpus_per_node=two: expected a number or TYPE:NUMBER"),
        ("mem_gb=16G", "mem_gb=16G: expected a number of GB, for example mem_gb=16"),
        ("nodes=2", "nodes=2: each training is one task on one machine"),
        ("array=0-3", "array cannot be set: the study sets it itself"),
        ("minutes=5,time=6", "minutes is given twice"),
        ("hold=false", "hold=false: sbatch has no value false; leave it out"),
        ("exclusive=false", "exclusive=false: sbatch has no value false; leave it out"),
        ("requeue=false", "requeue=false: sbatch has no value false; type no_requeue=true"),
    ],
)
def test_a_mistake_in_an_option_of_jobs_is_refused(detail, message):
    with pytest.raises(UserError) as raised:
        slurm_settings(detail)
    assert message in str(raised.value)


def test_options_reach_submitit_with_the_types_that_it_takes():
    settings = slurm_settings(
        "partition=gpu,minutes=240,mem_gb=16,gpus_per_node=a100:1,setup=module load x,exclusive=true"
    )
    assert settings == {
        "slurm_partition": "gpu",
        "timeout_min": 240,
        "mem_gb": 16.0,
        "slurm_gpus_per_node": "a100:1",
        "slurm_setup": ["module load x"],
        "slurm_exclusive": True,
    }
    assert slurm_settings("") == slurm_settings("nodes=1") == {}


def test_gpus_that_the_user_requests_replace_those_of_the_run():
    usual = {"name": "study", "cpus_per_task": 3, "timeout_min": 720}
    assert job_parameters({}, 3, 1, 720) == {**usual, "gpus_per_node": 1}
    for detail in ("gpus=1", "gres=gpu:2", "gpus_per_task=1", "gpus_per_node=0"):
        assert "gpus_per_node" not in job_parameters(slurm_settings(detail), 3, 1, 720)
    assert job_parameters(slurm_settings("gres=lscratch:10"), 3, 1, 720)["gpus_per_node"] == 1


def test_cpus_that_the_user_requests_replace_those_of_the_run():
    for detail, key in (("cpus_per_task=8", "slurm_cpus_per_task"), ("cpus_per_gpu=8", "slurm_cpus_per_gpu")):
        found = job_parameters(slurm_settings(detail), 3, 1, 720)
        assert found[key] == 8 and "cpus_per_task" not in found, "sbatch refuses both together"


def test_options_of_this_machines_sbatch_are_known(tmp_path, monkeypatch):
    assert slurm_settings("qwxz=1") == {"slurm_additional_parameters": {"qwxz": "1"}}
    assert unknown_options(slurm_settings("qwxz=1,reservation=x")) == ["qwxz"]
    with pytest.raises(UserError, match="did you mean container_id"):
        slurm_settings("container_ids=x")
    (tmp_path / "sbatch").write_text("#!/bin/sh\necho '      --container-ids=LIST   of a plugin'\n")
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    own = options_here()
    assert own == {"container_ids"}
    assert slurm_settings("container_ids=x", own) == {"slurm_additional_parameters": {"container-ids": "x"}}
    assert unknown_options(slurm_settings("container_ids=x", own), own) == []


@given(st.sampled_from(sorted(KNOWN - OURS)), st.data())
def test_a_known_option_without_one_letter_is_never_passed_on(option, data):
    cut = data.draw(st.integers(0, len(option) - 1))
    misspelt = option[:cut] + option[cut + 1 :]
    if misspelt in KNOWN or len(misspelt) < 4:
        return
    with pytest.raises(UserError, match="did you mean"):
        slurm_settings(f"{misspelt}=1")


@needs_submitit
@pytest.mark.parametrize(
    "detail",
    [
        "partition=gpu,account=a,qos=q,constraint=c,comment=x,mail_type=ALL,mail_user=a@b.c,nodelist=n,exclude=m,wckey=w",
        "mem=4G,gres=gpu:1,dependency=afterok:1,job_name=mine,signal_delay_s=30,use_srun=false,stderr_to_stdout=true",
        "mem_per_cpu=2G,gpus_per_task=a100:1,cpus_per_gpu=2,setup=true,teardown=true,srun_args=--exact,exclusive=user",
        "mem_gb=1.5,name=mine,mem_per_gpu=4G,minutes=5,nodes=1,hold=true,qwxz=1",
    ],
)
def test_submitit_writes_every_option_into_its_job(tmp_path, monkeypatch, detail):
    import submitit

    monkeypatch.setattr(submitit.SlurmExecutor, "affinity", classmethod(lambda cls: 1))
    executor = submitit.AutoExecutor(folder=tmp_path / "%j", cluster="slurm")
    parameters = job_parameters(slurm_settings(detail), 3, 1, minutes := 90)
    executor.update_parameters(**parameters)
    text = executor._executor._make_submission_file_text("command", "uid")
    minutes = 5 if "minutes" in detail else minutes
    assert f"#SBATCH --time={minutes}\n" in text and executor._executor._num_tasks() == 1
    written = {"mem_gb": "mem=1536MB", "gpus_per_task": "gpus-per-task=a100:1", "hold": "hold\n", "qwxz": "qwxz=1"}
    for key, line in written.items():
        assert key not in detail or f"#SBATCH --{line}" in text
    for part in detail.split(","):
        key, _, value = part.partition("=")
        if key in slurm_options.SUBMITIT_TEXT.split() and key not in ("name", "mem_gb"):
            assert f"#SBATCH --{key.replace('_', '-')}={value}" in text.replace("'", "")


@needs_submitit
def test_what_sbatch_refuses_is_said_in_its_words(tmp_path, monkeypatch):
    for name, text in {
        "srun": "",
        "sbatch": "echo 'sbatch: error: invalid partition specified: gone' >&2; exit 1",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    folders = Folders(tmp_path / "runs", tmp_path / "submissions", tmp_path / "scratch", (), ())
    with (
        SlurmPool("partition=gone", folders) as pool,
        pytest.raises(UserError, match="invalid partition specified: gone"),
    ):
        pool.submit(json.dumps, [1])
