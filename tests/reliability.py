"""Writes docs/reliability.md: python -m tests.reliability runs the tests of every promise and records the results.

Lines that a test prints with the prefix "reliability: " are quoted in the table. `python -m tests.reliability FILE.xml`
uses the report of an earlier run of all tests, made by `pytest -m "" --junitxml=FILE.xml -o junit_logging=system-out`.
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
    'Killed after a checkpoint was written, before old ones are removed: resuming removes them': (
        'engine/test_interruptions.py', ['test_killed_before_old_checkpoints_are_removed', 'test_stopped_twice']),
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
    'A checkpoint made to harm, given to every command: nothing in it runs, nothing that it names is written, one '
    'sentence': ('tools/test_hostile_checkpoints.py', ['test_nothing_runs_and_nothing_else_is_written']),
    'A type, function or path that is put at any place of a stored config is refused or not used': (
        'checkpoints/test_stored_config.py', ['test_nothing_foreign_survives_at_any_place',
                                              'test_building_takes_registered_classes_only']),
    'Whatever is malformed in a stored config is one sentence': (
        'checkpoints/test_stored_config.py', ['test_whatever_is_malformed_is_one_sentence']),
    'Weights by any name or address that mmengine knows are data': ('checkpoints/test_reading.py', [
        'test_names_of_mmengine_run_no_code', 'test_every_scheme_of_mmengine_runs_no_code',
        'test_code_in_a_file_is_refused_and_does_not_run']),
    'Pretrained weights of which nothing fits stop training before its first step': (
        'checkpoints/test_initial_weights.py', ['test_nothing_fits', 'test_training_ends_before_the_first_step']),
    'Exported files made to harm, given to every command: one sentence': ('runtime/test_hostile_files.py', [
        'test_by_every_tool', 'test_malformed_metadata', 'test_outputs_that_are_not_detections']),
    'OpenVINO files with anything but operations, numbers and their weights are not opened': (
        'runtime/test_openvino_files.py', ['test_what_is_refused']),
    'Data that is broken or made to harm: train, doctor and stages end in one sentence, or use what is whole': (
        'tools/test_hostile_folders.py', [
            'test_training_is_refused_before_the_first_step', 'test_training_uses_what_is_whole',
            'test_the_doctor_says_why_training_does_not_start', 'test_the_doctor_learns_what_is_whole',
            'test_stages_of_images', 'test_stages_of_what_is_no_image']),
    'Files damaged at random: only clear messages from every reader': ('own_data/test_fuzz.py', [
        'test_only_sentences_escape']),
    'A cache that came with an annotation file is not used, and a damaged one is found out': (
        'datasets/test_columns.py', ['test_columns_that_came_with_the_file_are_not_used', 'test_any_damage_is_found']),
    'Masks that do not fit their image are refused before training and before any C code reads them': (
        'evaluation/test_coco_metric.py', ['test_wrong_masks_are_refused_before_training']),
    'Names reach the terminal, tables and suggested commands as text only': ('test_terminal.py', [
        'test_every_way_out', 'test_suggested_commands_can_be_pasted', 'test_infer_shows_hostile_names']),
    'Pictures never run programs, and huge ones are refused': ('datasets/test_pictures.py', [
        'test_postscript_is_never_run', 'test_large_pictures_up_to_a_limit']),
    '1 to 1,203 classes, 0 to 1,000 objects, 1 to 1,000 proposals, 1x1 to 64x4000 pixels: finite losses and boxes': (
        'models/test_extremes.py', ['test_every_size', 'test_boxes_that_run_away_stay_finite']),
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
    report = ElementTree.parse(sys.argv[1]).getroot() if len(sys.argv) > 1 else run_tests()
    table = ['| promise | test | what happened |', '|---|---|---|', *rows(report)]
    where = f'torch {torch.__version__}, Python {platform.python_version()}, {platform.system()}'
    before = PAGE.read_text().split(MARK)[0]
    PAGE.write_text('\n'.join([before + MARK, '', f'On {where}:', '', *table, '']))


if __name__ == '__main__':
    main()
