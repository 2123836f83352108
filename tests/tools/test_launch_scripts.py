"""The shell scripts: what they start, from any folder, with awkward arguments.

`python` and `srun` are stand-ins that print what they were given, one item a line.
"""
from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
CLUSTER = ('NNODES', 'NODE_RANK', 'MASTER_ADDR', 'PORT', 'GPUS', 'GPUS_PER_NODE', 'CPUS_PER_TASK', 'SRUN_ARGS',
           'OMP_NUM_THREADS', 'PYTHON', 'PYTHONPATH')


@pytest.fixture
def stand_ins(tmp_path: Path) -> Path:
    """A folder with a space in its name, holding the stand-ins."""
    folder = tmp_path / 'stand ins'
    folder.mkdir()
    for name in ('python', 'srun'):
        program = folder / name
        program.write_text('#!/bin/sh\necho "threads=$OMP_NUM_THREADS"\nprintf "%s\\n" "${0##*/}" "$@"\n')
        program.chmod(0o755)
    return folder


def run(script: str, *args: str, path: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a script in the stand-ins' folder with a clean cluster environment."""
    base = {key: value for key, value in os.environ.items() if key not in CLUSTER}
    base['PATH'] = f'{path}:{base["PATH"]}'
    return subprocess.run(['bash', str(TOOLS / script), *args], cwd=path, env=base | env, capture_output=True,
                          text=True, timeout=180)


def test_train_on_one_node_takes_a_free_port_and_keeps_arguments_whole(stand_ins: Path) -> None:
    done = run('dist_train.sh', 'my config.py', '8', '--cfg-options', 'a.b="x y"', '*', path=stand_ins)
    assert done.stdout.splitlines() == [
        'threads=1', 'python', str(TOOLS / '_launch.py'), '--standalone', '--nproc_per_node=8',
        str(TOOLS / 'train.py'), 'my config.py', '--cfg-options', 'a.b="x y"', '*', '--launcher', 'pytorch',
    ]


def test_test_passes_the_checkpoint_on(stand_ins: Path) -> None:
    done = run('dist_test.sh', 'c.py', 'w.pth', '2', '--out', 'r.pkl', path=stand_ins, OMP_NUM_THREADS='3')
    assert done.stdout.splitlines() == [
        'threads=3', 'python', str(TOOLS / '_launch.py'), '--standalone', '--nproc_per_node=2',
        str(TOOLS / 'test.py'), 'c.py', 'w.pth', '--out', 'r.pkl', '--launcher', 'pytorch',
    ]


def test_several_nodes_meet_at_the_first(stand_ins: Path) -> None:
    done = run('dist_train.sh', 'c.py', '8', path=stand_ins, NNODES='2', NODE_RANK='1', MASTER_ADDR='10.0.0.1')
    assert done.stdout.splitlines()[3:8] == [
        '--nnodes=2', '--node_rank=1', '--master_addr=10.0.0.1', '--master_port=29500', '--nproc_per_node=8']


def test_a_port_alone_is_used_on_this_machine(stand_ins: Path) -> None:
    done = run('dist_train.sh', 'c.py', '2', path=stand_ins, PORT='29511')
    assert done.stdout.splitlines()[3:7] == [
        '--nnodes=1', '--node_rank=0', '--master_addr=127.0.0.1', '--master_port=29511']


@pytest.mark.parametrize(('script', 'args', 'env', 'message'), [
    ('dist_train.sh', ['c.py'], {}, 'usage: '),
    ('dist_train.sh', ['8', 'c.py'], {}, "must be a positive whole number, not 'c.py'"),
    ('dist_train.sh', ['c.py', '0'], {}, "must be a positive whole number, not '0'"),
    ('dist_test.sh', ['c.py', '8'], {}, 'CONFIG CHECKPOINT GPUS'),
    ('dist_train.sh', ['c.py', '8'], {'NNODES': '2'}, 'with NNODES=2 set MASTER_ADDR'),
    ('slurm_train.sh', ['gpu', 'job', 'c.py'], {}, 'PARTITION JOB_NAME CONFIG WORK_DIR'),
])
def test_wrong_command_lines_get_one_sentence(stand_ins: Path, script: str, args: list[str], env: dict[str, str],
                                              message: str) -> None:
    done = run(script, *args, path=stand_ins, **env)
    assert done.returncode == 2
    assert done.stdout == ''
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_slurm_asks_for_whole_nodes_by_default(stand_ins: Path) -> None:
    done = run('slurm_train.sh', 'gpu', 'my job', 'c.py', 'out dir', '--amp', path=stand_ins, GPUS='16')
    assert done.stdout.splitlines()[1:] == [
        'srun', '--partition=gpu', '--job-name=my job', '--gres=gpu:8', '--ntasks=16', '--ntasks-per-node=8',
        '--cpus-per-task=5', '--kill-on-bad-exit=1', 'python', '-u', str(TOOLS / 'train.py'), 'c.py',
        '--work-dir', 'out dir', '--amp', '--launcher', 'slurm',
    ]


def test_slurm_with_fewer_gpus_than_a_node_has(stand_ins: Path) -> None:
    done = run('slurm_train.sh', 'gpu', 'job', 'c.py', 'out', path=stand_ins, GPUS='2',
               SRUN_ARGS='--time=1:00 --mem=8G')
    lines = done.stdout.splitlines()
    assert lines[4:7] == ['--gres=gpu:2', '--ntasks=2', '--ntasks-per-node=2']
    assert lines[9:11] == ['--time=1:00', '--mem=8G']


@pytest.mark.slow
def test_two_cpu_processes_really_meet(tmp_path: Path) -> None:
    tools = tmp_path / 'some tools'
    tools.mkdir()
    for script in [*TOOLS.glob('*.sh'), TOOLS / '_launch.py']:
        shutil.copy(script, tools)
    (tools / 'train.py').write_text(
        'import sys, torch, torch.distributed as dist\n'
        'dist.init_process_group("gloo")\n'
        'x = torch.tensor(float(dist.get_rank() + 1))\n'
        'dist.all_reduce(x)\n'
        'sys.stdout.write(f"sum {x.item()} {sys.argv[1:]}\\n")\n')  # one write, so that two processes do not mix
    env = {key: value for key, value in os.environ.items() if key not in CLUSTER} | {'PYTHON': sys.executable}
    done = subprocess.run(['bash', str(tools / 'dist_train.sh'), 'c d.py', '2'], cwd=tmp_path, env=env,
                          capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines() == ["sum 3.0 ['c d.py', '--launcher', 'pytorch']"] * 2, done.stderr


def real_run(tmp_path: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """dist_train.sh with the real Python, on a config that does not exist."""
    return run('dist_train.sh', 'nowhere.py', '1', path=tmp_path, **env, PYTHON=sys.executable)


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(('127.0.0.1', 0)) as other:
        port = other.getsockname()[1]
        done = real_run(tmp_path, PORT=str(port))
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f'error: port {port} of this machine is in use: set PORT to another, the same on all nodes']


def test_the_first_node_is_not_there(tmp_path: Path) -> None:
    """torchrun waits for 15 minutes; this shortens that."""
    with socket.create_server(('127.0.0.1', 0)) as other:
        port = other.getsockname()[1]
    done = subprocess.run([sys.executable, str(TOOLS / '_launch.py'), '--nnodes=2', '--node_rank=1',
                           '--master_addr=127.0.0.1', f'--master_port={port}', '--rdzv_conf=timeout=2', 'train.py'],
                          cwd=tmp_path, capture_output=True, text=True, timeout=180)
    first, *_, last = done.stderr.splitlines()
    assert first == f'waiting for the first node at 127.0.0.1:{port}'
    assert last.startswith(f'error: the first node was not reached at 127.0.0.1:{port} (')


@pytest.mark.slow
def test_a_failing_process_gets_one_sentence(tmp_path: Path) -> None:
    done = real_run(tmp_path)
    assert done.returncode == 1
    first, last = done.stderr.splitlines()
    assert first.startswith('error: there is no config file nowhere.py')
    assert last == 'error: process 0 ended with status 1, so all were stopped: its message is above'


def test_the_gpu_check_runs_all_checks_and_ends_with_the_worst(stand_ins: Path, tmp_path: Path) -> None:
    done = run('gpu_check.sh', str(tmp_path / 'logs'), path=stand_ins)
    names = [line.split()[0] for line in done.stdout.splitlines() if line.endswith('  ok')]
    assert len(names) == 13 and done.returncode == 0 and 'FAILED' not in done.stdout
    started = {name: (tmp_path / 'logs' / f'{name}.log').read_text().split() for name in names}
    words = started['training-torchrun']
    assert words[words.index('--work-dir'):][:3] == ['--work-dir', f'{tmp_path}/logs/torchrun', '--cfg-options']
    assert started['speed-300--train'][-5:] == ['tools/benchmark.py', 'sparse_rcnn_r50_300pro_3x', '--train',
                                                '--against', 'mmdet']

    (stand_ins / 'python').write_text('#!/bin/sh\n[ "$3" != pytest ] && [ "$2" != pytest ]\n')
    failing = run('gpu_check.sh', str(tmp_path / 'logs'), path=stand_ins)
    assert failing.returncode == 1 and failing.stdout.count('FAILED') == 1
    assert f'FAILED, see {tmp_path}/logs/equality.log' in failing.stdout
