"""Whether the tests find mistakes: changes lines of the package at random, and runs the tests on each change.

    python -m tests.mutants models checkpoints --number 100 --seed 0 --jobs 2 --out mutants.jsonl

In a mutant, a comparison, arithmetic operator, number, True or False, or and/or is another one, a condition is its
opposite, or a sign, named argument, end of a slice or statement is removed. It is killed if a fast test of its room
fails or takes far too long. Mutants run in copies of the working tree. But code that removes files may, when it is
changed, remove others.
"""
from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import json
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from tests.kit import ROOT

PACKAGE = 'sparse_rcnn_mm'
# Rooms whose tests are in a folder or file of another name.
ELSEWHERE = {'__init__': ['test_stack.py'], 'lazy': ['test_stack.py'], 'registry': ['models'], 'mmcv_ops': ['models'],
             'models': ['models', 'parity'], 'models/queryinst': ['queryinst'], 'models/adamixer': ['successors'],
             'models/ddq': ['successors'], 'models/sqr': ['successors', 'queryinst/test_sqr.py'],
             'visualization': ['inference'], 'own_outputs': ['inference', 'own_data'], 'config_files': ['cli'],
             'downloads': ['checkpoints']}
OPERATORS: dict[type, list[type]] = {
    ast.Lt: [ast.LtE, ast.GtE], ast.LtE: [ast.Lt, ast.Gt], ast.Gt: [ast.GtE, ast.LtE], ast.GtE: [ast.Gt, ast.Lt],
    ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq], ast.In: [ast.NotIn], ast.NotIn: [ast.In], ast.Is: [ast.IsNot],
    ast.IsNot: [ast.Is], ast.Add: [ast.Sub], ast.Sub: [ast.Add], ast.Mult: [ast.Div], ast.Div: [ast.Mult],
    ast.And: [ast.Or], ast.Or: [ast.And]}


class Mutant(NamedTuple):
    """One change of one file: `old`, which starts at byte `start`, becomes `new`."""

    file: str
    line: int
    start: int
    old: str
    new: str

    @property
    def room(self) -> str:
        parts = Path(self.file).with_suffix('').parts[1:]
        return '/'.join(parts[:2]) if parts[0] == 'models' and len(parts) > 2 else parts[0]

    def applied(self, source: bytes) -> bytes:
        return source[:self.start] + self.new.encode() + source[self.start + len(self.old.encode()):]


def nodes(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all below it, without types, and without f-strings, whose places Python before 3.12 does not know."""
    yield node
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            for_types = isinstance(child, ast.If) and ast.unparse(child.test) == 'TYPE_CHECKING'
            if isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr) \
                    and name not in ('annotation', 'returns') and not for_types:
                yield from nodes(child)


def changes(node: Any) -> Iterator[tuple[Any, Any]]:
    """What to replace in or at this node, and by what."""
    if isinstance(node, ast.Compare):
        for index, operator in enumerate(node.ops):
            yield from ((node, altered(node, ops=[*node.ops[:index], new(), *node.ops[index + 1:]]))
                        for new in OPERATORS[type(operator)])
    elif isinstance(node, (ast.BinOp, ast.BoolOp, ast.AugAssign)):
        yield from ((node, altered(node, op=new())) for new in OPERATORS.get(type(node.op), []))
    elif isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float)):
        yield node, ast.Constant(not node.value if isinstance(node.value, bool) else node.value + 1)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
        yield node, node.operand
    elif isinstance(node, ast.Call):
        yield from ((node, altered(node, keywords=[other for other in node.keywords if other is not removed]))
                    for removed in node.keywords if removed.arg)
    elif isinstance(node, ast.Slice):
        yield from ((node, altered(node, **{side: None})) for side in ('lower', 'upper') if getattr(node, side))
    yield from negations(node)
    yield from removals(node)


def negations(node: Any) -> Iterator[tuple[Any, Any]]:
    """Conditions become their opposite; comparisons and `not` have their own changes."""
    tests = node.ifs if isinstance(node, ast.comprehension) else \
        [node.test] if isinstance(node, (ast.If, ast.IfExp, ast.While)) else []
    yield from ((test, ast.UnaryOp(ast.Not(), test)) for test in tests
                if not isinstance(test, (ast.Compare, ast.Constant))
                and not (isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)))


def removals(node: Any) -> Iterator[tuple[Any, Any]]:
    """Statements whose absence is not a missing name at once."""
    called = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    stored = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript)
    if called or stored or isinstance(node, (ast.AugAssign, ast.Raise, ast.Continue, ast.Break, ast.Delete)):
        yield node, ast.Pass()


def altered(node: ast.AST, **fields: Any) -> ast.AST:
    changed = copy.copy(node)
    vars(changed).update(fields)
    return changed


def mutants_of(root: Path, file: str) -> list[Mutant]:
    source = (root / file).read_bytes()
    starts = [0]
    for line in source.split(b'\n'):
        starts.append(starts[-1] + len(line) + 1)
    found = []
    for node in nodes(ast.parse(source)):
        for place, new in changes(node):
            start = starts[place.lineno - 1] + place.col_offset
            old = source[start:starts[place.end_lineno - 1] + place.end_col_offset].decode()
            found.append(Mutant(file, place.lineno, start, old, ast.unparse(new)))
    return found


def files_of(root: Path, name: str) -> list[str]:
    """The files of a room or folder, or one file."""
    package = root / PACKAGE
    path = next((path for path in (package / name, package / f'{name}.py', root / name) if path.exists()), None)
    if path is None or not path.resolve().is_relative_to(package):
        sys.exit(f"error: '{name}' is no room and no file of {PACKAGE}: name one such as models or "
                 f'{PACKAGE}/models/box_ops.py')
    paths = [path] if path.is_file() else sorted(path.rglob('*.py'))
    return [path.resolve().relative_to(root).as_posix() for path in paths if '.mim' not in path.parts]


def room_tests(root: Path, room: str) -> list[str]:
    """The tests of a room: those in its folder, or in its file if it is a single module."""
    names = ELSEWHERE.get(room, [room if (root / 'tests' / room).is_dir() else f'test_{room}.py'])
    return [f'tests/{name}' for name in names]


def sample(mutants: list[Mutant], number: int, seed: int) -> list[Mutant]:
    """At random, from each room in proportion to its mutants."""
    chance = random.Random(seed)
    ranked = []
    for room in sorted({mutant.room for mutant in mutants}):
        own = [mutant for mutant in mutants if mutant.room == room]
        ranked += [((rank + 0.5) / len(own), mutant) for rank, mutant in enumerate(chance.sample(own, len(own)))]
    return [mutant for _, mutant in sorted(ranked)[:number]]


def copy_tree(root: Path, folder: Path) -> None:
    """Copy what git tracks or would track, as it is in the working tree."""
    listed = subprocess.run(['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'], cwd=root,
                            check=True, capture_output=True, text=True).stdout
    for name in sorted(set(filter(None, listed.split('\0')))):
        if os.path.lexists(root / name):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, folder / name, follow_symlinks=False)


def passes(tree: Path, tests: list[str], limit: float | None = None) -> bool:
    """Whether the tests pass on this copy, in time. The log is a file beside it."""
    environment = {**os.environ, 'PYTHONPATH': str(tree), 'PYTHONDONTWRITEBYTECODE': '1', 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, '-m', 'pytest', '-x', '-p', 'no:cacheprovider', f'--basetemp={tree}-tmp', *tests]
    with open(f'{tree}.log', 'wb') as log:
        process = subprocess.Popen(command, cwd=tree, env=environment, stdin=subprocess.DEVNULL, stdout=log,
                                   stderr=log, start_new_session=True)
    try:
        return process.wait(limit) == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # and the processes that tests started
        process.wait()


def time_limit(tree: Path, tests: list[str]) -> float:
    """Five times what the tests take without a change, and a minute."""
    start = time.monotonic()
    if not passes(tree, tests):
        log = Path(f'{tree}.log').read_text(errors='replace')
        sys.exit(f'{log}\nerror: {" ".join(tests)} fails without any change: correct this first')
    return 60 + 5 * (time.monotonic() - start)


def survives(tree: Path, mutant: Mutant, limit: float) -> bool:
    """Whether no test of the room fails. The file of tests of the same name is run first: it finds most."""
    source = (tree / mutant.file).read_bytes()
    tests = room_tests(tree, mutant.room)
    nearest = f'{tests[0]}/test_{Path(mutant.file).stem}.py'
    (tree / mutant.file).write_bytes(mutant.applied(source))
    try:
        return (not (tree / nearest).is_file() or passes(tree, [nearest], limit)) and passes(tree, tests, limit)
    finally:
        (tree / mutant.file).write_bytes(source)


def judge(root: Path, mutants: list[Mutant], jobs: int = 1) -> Iterator[tuple[Mutant, bool]]:
    """Each mutant, and whether it survives, with `jobs` copies of the tree at a time."""
    trees: queue.Queue[Path] = queue.Queue()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        for index in range(jobs):
            copy_tree(root, tree := Path(folder, str(index)))
            trees.put(tree)
        limits = {room: time_limit(tree, room_tests(tree, room)) for room in sorted({one.room for one in mutants})}

        def one(mutant: Mutant) -> bool:
            tree = trees.get()
            try:
                return survives(tree, mutant, limits[mutant.room])
            finally:
                trees.put(tree)

        yield from zip(mutants, pool.map(one, mutants), strict=True)


def table(results: list[tuple[Mutant, bool]]) -> list[str]:
    """Numbers by room in the form of Markdown, then all that survive."""
    survivors = [mutant for mutant, lives in results if lives]
    tested, lived = Counter(mutant.room for mutant, _ in results), Counter(mutant.room for mutant in survivors)
    rows = [f'| `{room}` | {tested[room]} | {tested[room] - lived[room]} | {lived[room]} |' for room in sorted(tested)]
    return ['| room | mutants | killed | survived |', '|---|---|---|---|', *rows, '',
            *(f'{one.file}:{one.line} {" ".join(one.old.split())} -> {one.new}' for one in survivors)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('names', nargs='*', default=['.'], help='rooms or files; without any, the whole package')
    parser.add_argument('--number', type=int, default=100, help='how many mutants are tested')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--jobs', type=int, default=1, help='how many are tested at a time')
    parser.add_argument('--out', type=Path, default=Path('mutants.jsonl'), help='one line for each mutant')
    args = parser.parse_args()
    if min(args.number, args.jobs) < 1:
        parser.error('--number and --jobs are at least 1')
    files = dict.fromkeys(file for name in args.names for file in files_of(ROOT, name))
    possible = [mutant for file in files for mutant in mutants_of(ROOT, file)]
    chosen = sample(possible, args.number, args.seed)
    print(f'{len(chosen)} of {len(possible)} possible mutants', flush=True)
    results = []
    with args.out.open('w') as out:
        for mutant, lives in judge(ROOT, chosen, args.jobs):
            results.append((mutant, lives))
            print(json.dumps({**mutant._asdict(), 'survived': lives}), file=out, flush=True)
    print('\n'.join(table(results)))


if __name__ == '__main__':
    main()
