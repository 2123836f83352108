"""sparse-rcnn doctor with data: why a detector does not learn them; exit status 1 if something is wrong."""
from __future__ import annotations

import argparse
from typing import Any

from mmengine.logging import MMLogger

from sparse_rcnn_mm.diagnosis.examine import Settings, examine
from sparse_rcnn_mm.diagnosis.patient import Patient
from sparse_rcnn_mm.diagnosis.verdict import FAULT, conclusion, verdicts
from sparse_rcnn_mm.engine.settings import SettingsAction
from sparse_rcnn_mm.terminal import show

from .parser import Parser


def diagnose(args: argparse.Namespace) -> int:
    """Examine what the arguments of `sparse-rcnn doctor` name, and print the verdict."""
    args.cfg_options = options_of(args.cfg_options)
    patient = (Patient.of_data(args.data, args.config, args.out, args.cfg_options) if args.data else
               Patient.of_target(args.target, args.out, args.cfg_options))
    MMLogger.get_instance('doctor', log_level='ERROR')  # mmengine lists every weight that it initializes
    settings = Settings(args.load_from, args.images, args.iterations, args.minutes, args.gpus)
    found = examine(patient, settings, show).found
    said = verdicts(found)
    show('\n' + '\n'.join(f'{one.kind:8}{one}' for one in said))
    show(f'\n{conclusion(found)}')
    return 1 if any(one.kind == FAULT for one in said) else 0


def options_of(pairs: list[str]) -> dict[str, Any]:
    """KEY=VALUE as mmengine reads them: its action needs mmengine, without which this command must start."""
    parser = Parser()
    parser.add_argument('--cfg-options', nargs='+', action=SettingsAction, default={})
    return dict(parser.parse_args(['--cfg-options', *pairs] if pairs else []).cfg_options)
