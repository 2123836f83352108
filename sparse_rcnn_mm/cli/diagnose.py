"""sparse-rcnn doctor with data: why a detector does not learn them; exit status 1 if something is wrong."""
from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from mmengine.logging import MMLogger

from sparse_rcnn_mm.diagnosis.examine import Settings, examine
from sparse_rcnn_mm.diagnosis.page import write_page
from sparse_rcnn_mm.diagnosis.patient import Patient
from sparse_rcnn_mm.diagnosis.verdict import FAULT, conclusion, verdicts
from sparse_rcnn_mm.engine.settings import SettingsAction
from sparse_rcnn_mm.evaluation.records import write_json
from sparse_rcnn_mm.own_outputs import mark
from sparse_rcnn_mm.terminal import show

from .parser import Parser


def diagnose(args: argparse.Namespace) -> int:
    """Examine what the arguments of `sparse-rcnn doctor` name, and print the verdict."""
    args.cfg_options = options_of(args.cfg_options)
    patient = (Patient.of_data(args.data, args.config, args.out, args.cfg_options) if args.data else
               Patient.of_target(args.target, args.out, args.cfg_options))
    MMLogger.get_instance('doctor').setLevel('ERROR')  # mmengine lists every weight that it initializes
    settings = Settings(args.load_from, args.images, args.iterations, args.minutes, args.gpus)
    mark(patient.folder)
    done = examine(patient, settings, show)
    found, said = done.found, verdicts(done.found)
    page = patient.folder / 'doctor.html'
    write_page(done, page)
    write_json(page.with_suffix('.json'), {'conclusion': conclusion(found), 'verdicts': [asdict(one) for one in said],
                                           'measured': asdict(found)})
    show('\n' + '\n'.join(f'{one.kind:8}{one}' for one in said))
    show(f'\n{conclusion(found)}\n{page}')
    return 1 if any(one.kind == FAULT for one in said) else 0


def options_of(pairs: list[str]) -> dict[str, Any]:
    """KEY=VALUE as mmengine reads them: its action needs mmengine, without which this command must start."""
    parser = Parser()
    parser.add_argument('--cfg-options', nargs='+', action=SettingsAction, default={})
    return dict(parser.parse_args(['--cfg-options', *pairs] if pairs else []).cfg_options)
