"""Writes docs/reliability.md: python -m tests.reliability runs the tests of every promise and records the results.

Lines that a test prints with the prefix "reliability: " are quoted in the table.
"""
from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import torch

from tests.kit import ROOT

PAGE = ROOT / 'docs/reliability.md'
MARK = '<!-- made by: python -m tests.reliability -->'
# Promise -> file of tests, names of tests in it.
PROMISES: dict[str, tuple[str, list[str]]] = {
    'A training killed at random moments (augmentation, accumulated gradients, EMA, workers, early stopping; by '
    'iterations and by epochs) ends in the same weights, bit for bit': ('engine/test_interruptions.py', [
        'test_killed_at_random_moments']),
    'Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 stop after the iteration, save, and end with 128 + number': (
        'engine/test_interruptions.py', ['test_a_signal_stops_after_the_iteration']),
    'Stopped in validation, in an epoch or between accumulated gradients, it goes on there': (
        'engine/test_interruptions.py', ['test_a_signal_in_validation', 'test_a_signal_in_the_middle_of_an_epoch',
                                         'test_in_the_middle_of_an_accumulation']),
    'Any exception: what was trained is saved': ('engine/test_interruptions.py', ['test_an_error_loses_nothing']),
    'Augmentation does not depend on workers or on where a run started': ('engine/test_data_stream.py', [
        'test_it_does_not_matter_where_it_was_entered_or_by_how_many_workers',
        'test_epochs_differ_and_are_entered_in_the_middle']),
    'Going on far into a large data set takes seconds': ('engine/test_data_stream.py', [
        'test_far_into_a_large_data_set_in_seconds']),
    'A loss, gradient or prediction that is not finite ends training before the step, with all that is known': (
        'engine/test_divergence.py', ['test_training_ends_before_the_step']),
    'Weights or optimizer that are not finite are never saved': ('engine/test_divergence.py', [
        'test_an_optimizer_that_is_not_finite_is_not_saved']),
    'A lower learning rate given with --resume takes effect; so do other schedules and lengths': (
        'engine/test_divergence.py', ['test_the_advice_works', 'test_a_changed_schedule_is_followed']),
    'A checkpoint that was damaged, by a single bit of a weight too, is found out': ('checkpoints/test_writing.py', [
        'test_every_flipped_bit_is_found_or_does_no_harm', 'test_a_flipped_bit_of_a_weight_is_found']),
    'Killed while it writes, or the disk is full: the old checkpoint stays': ('checkpoints/test_writing.py', [
        'test_killed_while_it_writes', 'test_a_full_disk']),
    '--resume finds the newest whole checkpoint, whatever last_checkpoint says': ('checkpoints/test_writing.py', [
        'test_the_files_decide_whatever_last_checkpoint_says',
        'test_a_copied_work_dir_is_gone_on_from_itself',
        'test_a_damaged_newest_one_is_said_and_the_one_before_taken']),
    '--resume never starts anew over checkpoints, nor from weights alone': ('engine/test_resuming.py', [
        'test_weights_cannot_be_gone_on_from', 'test_only_damaged_ones_do_not_start_from_nothing']),
    'Started again as by Slurm (its environment variables are simulated), training goes on by itself': (
        'engine/test_resuming.py', ['test_started_again_by_a_launcher']),
    'A process that dies: the others stop with one sentence each, what was trained is saved': (
        'engine/test_distributed_failures.py', ['test_a_process_that_dies']),
    'A signal to one process stops all after the same iteration': ('engine/test_distributed_failures.py', [
        'test_all_stop_together_after_a_signal_to_one']),
    'torchrun restarts all processes after one was killed: they resume by themselves, though one of them comes late': (
        'engine/test_distributed_failures.py', ['test_torchrun_restarts_it']),
    'What a checkpoint says about its training cannot remove or replace other files, and malformed state ends in one '
    'sentence': ('engine/test_hostile_resume.py', [
        'test_files_that_it_names_stay', 'test_malformed_states_are_one_sentence']),
    'A port in use, a first node that is not there: one sentence': ('tools/test_launch_scripts.py', [
        'test_a_port_in_use', 'test_the_first_node_is_not_there']),
    'Three processes, images without boxes, an uneven validation': ('engine/test_distributed_failures.py', [
        'test_three_processes_with_empty_images_and_an_uneven_validation']),
}


def run_tests() -> ElementTree.Element:
    """Run all tests of `PROMISES`, the slow ones too; their report."""
    names = [f'tests/{file}::{test}' for file, tests in PROMISES.values() for test in tests]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, 'report.xml')
        subprocess.run([sys.executable, '-m', 'pytest', '-m', '', f'--junitxml={report}', '-o',
                        'junit_logging=system-out', *names], cwd=ROOT, env={**os.environ, 'OMP_NUM_THREADS': '1'})
        return ElementTree.parse(report).getroot()


def rows(report: ElementTree.Element) -> list[str]:
    result = []
    for promise, (file, tests) in PROMISES.items():
        module = 'tests.' + file.removesuffix('.py').replace('/', '.')
        named = ', '.join(f'`{test}`' for test in tests)
        cases = [case for case in report.iter('testcase')
                 if case.get('classname') == module and case.get('name', '').split('[')[0] in tests]
        result.append(f'| {promise} | `tests/{file}`: {named} | {outcome(cases)} |')
    return result


def outcome(cases: list[ElementTree.Element]) -> str:
    failed = [str(case.get('name')) for case in cases if len(case.findall('failure') + case.findall('error'))]
    counted = f'**failed**: {", ".join(failed)}' if failed else f'{len(cases)} passed' if cases else '**not run**'
    quoted = [line.removeprefix('reliability: ') for case in cases
              for line in (case.findtext('system-out') or '').splitlines() if line.startswith('reliability: ')]
    return '; '.join([counted, *quoted])


def main() -> None:
    table = ['| promise | test | what happened |', '|---|---|---|', *rows(run_tests())]
    where = f'torch {torch.__version__}, Python {platform.python_version()}, {platform.system()}'
    before = PAGE.read_text().split(MARK)[0]
    PAGE.write_text('\n'.join([before + MARK, '', f'On {where}:', '', *table, '']))


if __name__ == '__main__':
    main()
