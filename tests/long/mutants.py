"""Changes the core's code in one place at a time and shows which changes no test notices.

    pip install mutmut                                      # an optional tool, in no list of requirements
    python -m tests.long.mutants                            # 60 mutants of each module
    python -m tests.long.mutants hits split --sample 0      # all mutants of two modules
    python -m tests.long.mutants hits --only 12 40          # two mutants again, by number

The mutations are mutmut's: swapped operators, numbers one higher, arguments left out, and so on. Left out are texts of
error messages and of `Literal`, `strict=` of `zip`, and fields of classes. A mutant is tried in a process of its own,
forked after the tests are collected: it runs the fast tests that MODULES names, and the module's doctests, the quickest
first, until one fails. Prints each mutant that no test kills, and a table; exit code 1 when one survives. Some
survivors are equivalent: they compute the same.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import difflib
import gc
import importlib
import inspect
import itertools
import json
import multiprocessing
import os
import random
import re
import resource
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, TextIO

import pytest

if TYPE_CHECKING:
    import libcst
    from mutmut.mutation.file_mutation import Mutation

SEGMENTATION, BOXES = "tests/segmentation", "tests/detection"
# Module: the files whose fast tests concern it.
MODULES = {
    "pipeline/segmentation/submission/rle.py": (
        *(f"{SEGMENTATION}/submission/test_rle.py", f"{SEGMENTATION}/test_objects.py"),
        f"{SEGMENTATION}/test_large_images.py::test_a_window_of_runs_is_cut_from_the_whole_mask",
        f"{SEGMENTATION}/test_large_images.py::test_run_lengths_that_are_written_and_read_some_rows_at_a_time_stay_the_same",
    ),
    "pipeline/scores.py": (
        *("tests/test_scores.py", f"{SEGMENTATION}/test_score_kinds.py"),
        *(f"{SEGMENTATION}/test_scores.py", f"{SEGMENTATION}/test_metrics.py"),
    ),
    "pipeline/segmentation/scores.py": (
        *(f"{SEGMENTATION}/test_scores.py", f"{SEGMENTATION}/test_metrics.py"),
        *(f"{SEGMENTATION}/test_score_kinds.py", f"{SEGMENTATION}/test_independent_scores.py"),
    ),
    "pipeline/segmentation/mask_scores.py": (
        *(f"{SEGMENTATION}/test_score_kinds.py", f"{SEGMENTATION}/test_independent_scores.py"),
    ),
    "pipeline/segmentation/ensemble.py": (
        *(f"{SEGMENTATION}/test_ensemble.py", f"{SEGMENTATION}/test_sigmoid.py"),
        f"{SEGMENTATION}/test_components.py::test_the_next_best_class_is_the_best_of_the_others",
    ),
    "pipeline/segmentation/ensemble_weights.py": (
        *(f"{SEGMENTATION}/test_ensemble_weights.py", f"{SEGMENTATION}/test_sigmoid.py"),
        "tests/prediction/test_fewer_members.py::test_weights_are_fitted_on_what_the_members_left_predict_alone",
    ),
    "pipeline/detection/hits.py": (f"{BOXES}/test_hits.py", f"{BOXES}/test_curves.py"),
    "pipeline/detection/curves.py": (f"{BOXES}/test_curves.py",),
    "pipeline/detection/box_fusion.py": (f"{BOXES}/test_box_fusion.py",),
    "pipeline/detection/suppression.py": (f"{BOXES}/test_suppression.py",),
    "pipeline/data/split.py": ("tests/data/test_split.py", "tests/data/test_table.py"),
    "pipeline/data/sequence_folds.py": ("tests/data/test_sequence_folds.py", "tests/data/test_split.py"),
    "pipeline/config/plan.py": ("tests/config/test_plan.py", "tests/training/test_state.py"),
    "pipeline/training/state.py": ("tests/training/test_state.py",),
    "pipeline/intervals.py": (
        *("tests/test_intervals.py", "tests/test_verdicts.py"),
        f"{SEGMENTATION}/test_ensemble_weights.py::test_too_few_sequences_leave_equal_weights",
    ),
    "pipeline/verdicts.py": ("tests/test_verdicts.py",),
}
STRICT = re.compile(r",? ?\bstrict=\w+,? ?")
LONGEST = 10  # times the unchanged module's duration; a mutant that takes longer loops
MOST_MEMORY = 16 * 2**30  # bytes; a mutant that wants more fails


class Survey:
    """A pytest plugin that runs the collected tests once for each mutant, each time in a process of its own."""

    def __init__(self, path: str, mutants: Mapping[int, str], report: TextIO, known: Path) -> None:
        """Keeps the module, its mutants by number, where to print survivors, and a file for what a run shows."""
        self.path, self.mutants, self.report, self.known = path, mutants, report, known
        self.duration_of: Counter[str] = Counter()  # seconds, by test
        self.num_killed: int | None = None  # None: the tests fail without a mutation, or were not collected

    def pytest_collection(self) -> None:
        """Lets hypothesis end at the first failing example, before tests are read."""
        from hypothesis import Phase, settings

        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("mutants", settings.get_profile("suite"), phases=phases)
        settings.load_profile("mutants")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Adds up the durations of a test's parts, in the process that runs it."""
        self.duration_of[report.nodeid] += report.duration

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Replaces the usual run."""
        source = Path(self.path).read_text("utf-8")
        passed, duration_s = self.run(session, source, resource.RLIM_INFINITY)
        if session.testsfailed or not passed:
            return True
        known = json.loads(self.known.read_text())
        session.items.sort(key=lambda item: known["durations"][item.nodeid])  # mostly a quick one fails
        _import_once(known["modules"])
        print(f"{self.path}: {duration_s:.1f} s of processor time without a mutation", file=self.report, flush=True)
        self.num_killed = 0
        for number, code in self.mutants.items():
            if not self.run(session, code, round(LONGEST * duration_s) + 5)[0]:
                self.num_killed += 1
                continue
            changes = difflib.unified_diff(source.splitlines(), code.splitlines(), lineterm="", n=0)
            print(f"{self.path}: mutant {number} survives", *list(changes)[2:], sep="\n", file=self.report, flush=True)
        return True

    def run(self, session: pytest.Session, code: str, limit_s: int) -> tuple[bool, float]:
        """Returns whether all tests pass with this code, within a processor time, and that time in seconds."""
        child = os.fork()
        if child == 0:
            status = 1
            try:
                resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
                resource.setrlimit(resource.RLIMIT_CPU, (limit_s, limit_s))
                put_in(self.path, code)
                for item, following in itertools.zip_longest(session.items, session.items[1:]):
                    session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                    if session.testsfailed:
                        break
                self.known.write_text(json.dumps({"durations": self.duration_of, "modules": list(sys.modules)}))
                status = int(session.testsfailed > 0)
            finally:
                os._exit(status)
        _, status, usage = os.wait4(child, 0)
        return status == 0, usage.ru_utime + usage.ru_stime


def _import_once(names: Iterable[str]) -> None:
    """Imports what tests import while they run, e.g. MONAI, so that the processes of mutants need not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            if name not in sys.modules:
                with contextlib.suppress(Exception):  # not all names of `sys.modules` can be imported
                    importlib.import_module(name)
    gc.collect()
    gc.freeze()  # else each process walks all of the libraries' objects again


def put_in(path: str, code: str) -> None:
    """Changes the loaded module to what the code says: functions in place, so that all who imported them see it."""
    module = sys.modules[path.removesuffix(".py").replace("/", ".")]
    fresh = {"__name__": module.__name__, "__file__": path}
    exec(compile(code, path, "exec"), fresh)
    before = ast.parse(Path(path).read_text("utf-8")).body
    changed = [new for old, new in zip(before, ast.parse(code).body, strict=True) if ast.dump(old) != ast.dump(new)]
    constants = [part for part in changed if isinstance(part, ast.Assign | ast.AnnAssign)]
    names = [node for part in constants for node in ast.walk(part) if isinstance(node, ast.Name)]
    for name in {node.id for node in names if isinstance(node.ctx, ast.Store) and node.id in vars(module)}:
        was, new = getattr(module, name), fresh[name]
        for other in list(sys.modules.values()):
            if getattr(other, "__dict__", {}).get(name) is was:
                setattr(other, name, new)
                if not isinstance(was, int | str):  # equal ones may be the same object by chance
                    _replace_defaults(vars(other).values(), was, new)
    for name, value in fresh.items():
        _replace_functions(vars(module).get(name), value)


def _replace_functions(old: object, new: object) -> None:
    if isinstance(old, type) and isinstance(new, type) and old.__module__ == new.__module__:
        for name, value in vars(new).items():
            _replace_functions(vars(old).get(name), value)
    elif isinstance(old, FunctionType) and isinstance(new, FunctionType) and old is not new:
        old, new = inspect.unwrap(old), inspect.unwrap(new)
        if len(old.__code__.co_freevars) == len(new.__code__.co_freevars):
            old.__code__, old.__defaults__, old.__kwdefaults__ = new.__code__, new.__defaults__, new.__kwdefaults__


def _replace_defaults(values: Iterable[object], was: object, new: object) -> None:
    for function in values:
        if isinstance(function, FunctionType) and function.__defaults__:
            function.__defaults__ = tuple(new if value is was else value for value in function.__defaults__)


def find_mutations(path: str) -> tuple[libcst.Module, list[Mutation]]:
    """Returns the module's syntax tree and its mutations, less those that are left out."""
    import libcst
    from libcst import matchers
    from mutmut.mutation.file_mutation import create_mutations

    module, mutations, *_ = create_mutations(path, Path(path).read_text("utf-8"))
    left_out = [
        text
        for node in matchers.findall(module, matchers.Raise())
        for text in matchers.findall(node, matchers.SimpleString())
    ]
    left_out += [node.value for node in matchers.findall(module, matchers.Arg(keyword=matchers.Name("strict")))]
    for node in matchers.findall(module, matchers.Subscript(value=matchers.Name("Literal"))):
        left_out += matchers.findall(node, matchers.SimpleString())
    ids = {id(node) for node in left_out}
    return module, [
        one
        for one in mutations
        if id(one.original_node) not in ids
        and not isinstance(one.contained_by_top_level_function, libcst.SimpleStatementLine)  # a field
        and _without_strict(module.code_for_node(one.original_node))
        != _without_strict(module.code_for_node(one.mutated_node))
    ]


def _without_strict(code: str) -> str:
    return STRICT.sub("", code).replace(", )", ")")  # mutmut leaves the comma before an argument that it removes


def try_module(path: str, sample: int, seed: int, only: Sequence[int]) -> tuple[int, int, int]:
    """Prints the survivors of a module; returns how many mutants there are, were tried and were killed."""
    module, mutations = find_mutations(path)
    numbers = list(only or range(len(mutations)))
    if not only and 0 < sample < len(numbers):
        numbers = sorted(random.Random(f"{seed} {path}").sample(numbers, sample))
    mutants = {}
    for number in numbers:
        mutants[number] = module.deep_replace(mutations[number].original_node, mutations[number].mutated_node).code
    with tempfile.TemporaryDirectory() as folder, open(os.dup(1), "w") as report:
        output = os.open(f"{folder}/output", os.O_RDWR | os.O_CREAT)
        for stream in (1, 2):
            os.dup2(output, stream)
        survey = Survey(path, mutants, report, Path(folder) / "known.json")
        options = ["-q", "--tb=line", "-m", "not slow", "-p", "no:cacheprovider", f"--basetemp={folder}/tests"]
        pytest.main([*options, *MODULES[path], path], plugins=[survey])
        if survey.num_killed is None:
            printed = Path(f"{folder}/output").read_text("utf-8")
            raise RuntimeError(f"{path}: its tests fail without a mutation\n{printed[-2000:]}")
    return len(mutations), len(numbers), survey.num_killed


def main() -> int:
    """Runs the command above; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="parts of module paths, e.g. hits; default: all")
    parser.add_argument("--sample", type=int, default=60, help="mutants of each module; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, nargs="+", default=(), help="numbers of the mutants to try")
    options = parser.parse_args()
    chosen = [path for path in MODULES if not options.names or any(name in path for name in options.names)]
    rows = []
    for path in chosen:
        with multiprocessing.get_context("spawn").Pool(
            1
        ) as own:  # another pytest cannot be started in the same process
            found, tried, killed = own.apply(try_module, (path, options.sample, options.seed, options.only))
        rows.append(f"| {path} | {found} | {tried} | {killed} | {killed / max(tried, 1):.0%} |")
        print(rows[-1], flush=True)
    print("| module | mutants | tried | killed | share |", "|---|---|---|---|---|", *rows, sep="\n")
    return int(any("100%" not in row for row in rows))


if __name__ == "__main__":
    sys.exit(main())
