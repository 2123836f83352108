"""Checks that pretrained weights fit. mmengine and mmdet load what fits, and continue if nothing does."""
from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from mmengine.logging import MMLogger
from mmengine.model import BaseModule, PretrainedInit
from torch import Tensor, nn

from sparse_rcnn_mm.downloads import DownloadError
from sparse_rcnn_mm.errors import UserError, refusing
from sparse_rcnn_mm.terminal import shell_word

from .loading import LoadReport, compare, unwrapped

_COUNTER = '.num_batches_tracked'  # of batch norms. It says nothing about where the weights are from.


@contextmanager
def checked_initial_weights(model: nn.Module) -> Iterator[None]:
    """A context for `model.init_weights()`, in which every file of an `init_cfg` must fit its module.

    What of a file does not fit is logged in one line, by number and some names.

    Raises:
        UserError: nothing in a file fits, or it cannot be fetched or used.
    """
    with ExitStack() as all_of_them:
        for name, module in unwrapped(model).named_modules():
            if (files := _files(module)) and hasattr(module, 'init_weights'):
                all_of_them.enter_context(_checked(module, f'model.{name}'.rstrip('.'), ' and '.join(files)))
        yield


def _files(module: nn.Module) -> list[str]:
    settings = getattr(module, 'init_cfg', None)
    return [str(one['checkpoint']) for one in (settings if isinstance(settings, list) else [settings])
            if isinstance(one, Mapping) and 'checkpoint' in one
            and (one.get('type') is PretrainedInit or str(one.get('type')).rpartition('.')[-1] == 'Pretrained')]


@contextmanager
def _checked(module: Any, place: str, file: str) -> Iterator[None]:
    """Watch what is loaded while `module.init_weights` runs.

    A hook sees the names that are really offered, after a module such as Swin has renamed those of the file.
    """
    initialize = module.init_weights

    def check(state: dict[str, Tensor], prefix: str, *_: Any) -> None:
        if not prefix:  # otherwise a larger module loads a file of its own
            _report(state, module, place, file)

    def checked() -> None:
        hook = module._register_load_state_dict_pre_hook(check)
        try:
            with _fetching(place, file), _without_mmengines_list(), refusing(
                    lambda reason: f'the pretrained weights {file} cannot be used for {place} ({reason}): '
                    f'{_advice(place, file)}'):
                initialize()
        finally:
            hook.remove()

    module.init_weights = checked
    try:
        yield
    finally:
        del module.init_weights  # the one of the class is visible again


def _report(state: dict[str, Tensor], module: Any, place: str, file: str) -> None:
    own = {name: value for name, value in module.state_dict().items() if not name.endswith(_COUNTER)}
    report = compare({name: value for name, value in state.items() if not name.endswith(_COUNTER)}, own)
    if not report.loaded:
        # networks with a method of their own, such as mmdet's PVT, do not read `init_cfg.prefix`
        prefix = _prefix(state, own) if type(module).init_weights is BaseModule.init_weights else ''
        raise UserError(f'nothing in the pretrained weights {file} fits {place}, which has weights such as '
                        f'{_some(own)}, and the file {_some(state)}: {_advice(place, file, prefix)}')
    if not report.complete:
        level = logging.WARNING if report.missing or report.reshaped else logging.INFO
        MMLogger.get_current_instance().log(level, f'{file}: {len(report.loaded)} of {len(own)} weights of {place} '
                                            f'were loaded; {_rest(report)}')


def _rest(report: LoadReport) -> str:
    return report.summary().replace('missing', 'not in the file').replace('unknown to the model', 'not used')


def _some(state: dict[str, Tensor]) -> str:
    return ', '.join(name[:60] for name in list(state)[:2]) or 'none'


def _prefix(state: dict[str, Tensor], own: dict[str, Tensor]) -> str:
    """Find the prefix that is before the module's names in the file; '' if there is none."""
    for name in own:
        for other in state:
            if other.endswith(f'.{name}') and compare(
                    {key.removeprefix(other[:-len(name)]): value for key, value in state.items()}, own).loaded:
                return other[:-len(name)]
    return ''


def _advice(place: str, file: str, prefix: str = '') -> str:
    if prefix:
        other = f'set --cfg-options {shell_word(place, "MODULE")}.init_cfg.prefix={shell_word(prefix, "PREFIX")}, or '
    elif '://' in file and not file.startswith(('http', 'hf')):
        other = ''  # convert does not know the names of mmengine, such as torchvision://resnet50
    else:
        other = f'convert it by sparse-rcnn convert {shell_word(file, "FILE")} NEW.pth, or '
    return other + _without(place)


def _without(place: str) -> str:
    return f'train without it: --cfg-options {shell_word(place, "MODULE")}.init_cfg=None'


@contextmanager
def _fetching(place: str, file: str) -> Iterator[None]:
    try:
        yield
    except DownloadError as error:
        raise UserError(
            f'the pretrained weights {file} cannot be fetched ({error.reason}): download them elsewhere and pass '
            f'--cfg-options {shell_word(place, "MODULE")}.init_cfg.checkpoint=FILE, or {_without(place)}') from error


@contextmanager
def _without_mmengines_list() -> Iterator[None]:
    """Hide mmengine's warning that lists all names which do not fit; `_report` says it in one line."""
    def other(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith('The model and loaded state dict do not match exactly')

    logger = MMLogger.get_current_instance()
    logger.addFilter(other)
    try:
        yield
    finally:
        logger.removeFilter(other)
