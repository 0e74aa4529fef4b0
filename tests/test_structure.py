"""Rules of the layout, read from the source: imports run one way, nothing dangerous, files of a readable size.

A rule holds for whatever there is, so that a new file needs no entry here.
"""

from __future__ import annotations

import ast
import fnmatch
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
PACKAGE = PROJECT / "pipeline"
# A folder or top-level file imports itself and what is to its left: in functions, for types, and by a name such as
# "pipeline.work.train:train" too. `docs/architecture.md` gives the order of the folders.
ORDER = (
    *("errors", "wording", "terminal", "paths", "files", "optional"),  # small, and without packages of others
    *(
        "config",
        "engine",
        "scores",
        "intervals",
        "verdicts",
        "task",
        "demo",
        "data",
        "training",
        "prediction",
        "submission",
    ),
    *(
        "report",
        "segmentation",
        "detection",
        "work",
        "stages",
        "download",
        "bootstrap",
        "notebook",
        "commands",
        "__main__",
    ),
)
TASKS = ("segmentation", "detection")  # which do not know each other
# What only these import.
IMPORTED_BY = {
    "work": ("stages",),
    "stages": ("notebook", "commands", "__main__"),
    "notebook": ("commands", "__main__"),
    "download": ("commands",),
    "bootstrap": ("notebook", "commands"),
    "commands": ("__main__",),
    "__main__": (),
}
EXCEPTIONS = {
    ("pipeline/engine/api.py", "stages"): "opens a run by its config's name; the rest of engine/ is handed the stages",
    ("pipeline/submission/formats.py", "segmentation"): "a table that names the functions of each format",
    ("pipeline/submission/formats.py", "detection"): "likewise",
}
WITHOUT_PACKAGES = ORDER[:6]
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 330, 60
MOST_STAGES_NAMED = 3  # an ensemble starts three stages of its members
FILES = sorted(path for path in PACKAGE.rglob("*.py"))
SOURCES = {path.relative_to(PROJECT).as_posix(): ast.parse(path.read_text()) for path in FILES}
HEAVY = {"torch", "cv2", "pandas", "numpy", "albumentations", "matplotlib", "scipy", "sklearn", "timm"}
NOT_OUR_WORDS = {"img", "imgs", "msk", "gt", "util", "utils", "helper", "helpers", "manager", "pr", "prs"}


NAMED = re.compile(r"(pipeline(?:\.\w+)+)[.:]\w+")  # a function by its name, imported at its first call


def imports_of(tree: ast.AST) -> Iterator[str]:
    """Yields the dotted names that a module imports: anywhere in it, and as text that names a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and NAMED.fullmatch(node.value):
            yield NAMED.fullmatch(node.value)[1]


def part_of(path: str) -> str:
    """Returns the folder of `pipeline/` in which a file is, or the name of a top-level file."""
    return path.split("/")[1].removesuffix(".py")


def wrong_imports(path: str, tree: ast.AST, tasks: tuple[str, ...] = TASKS) -> list[str]:
    """Returns what a file imports against the order."""
    own, wrong = part_of(path), []
    order = (*ORDER[: ORDER.index(TASKS[0])], *tasks, *ORDER[ORDER.index(TASKS[-1]) + 1 :])
    if own not in order:
        return [f"{path} has no place in the order of imports"]
    for other in sorted({name.split(".")[1] for name in imports_of(tree) if name.startswith("pipeline.")} - {own}):
        is_left = other in order[: order.index(own)] and not {own, other} <= set(tasks)
        if not is_left or own not in IMPORTED_BY.get(other, order):
            wrong += [] if (path, other) in EXCEPTIONS else [f"{path} imports {other}"]
    return wrong


def functions_of(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_every_folder_and_top_level_file_is_in_the_order_of_imports():
    assert {part_of(path) for path in SOURCES} == {*ORDER, "__init__"}


def test_every_exception_is_still_needed():
    for path, other in EXCEPTIONS:
        names = {name.split(".")[1] for name in imports_of(SOURCES[path]) if name.startswith("pipeline.")}
        assert other in names, f"{path} imports {other} no more"


def test_the_page_on_the_architecture_has_this_order_of_folders():
    (line,) = re.findall(r"^    config  .+$", (PROJECT / "docs" / "architecture.md").read_text(), re.MULTILINE)
    assert line.split() == [part for part in ORDER if (PACKAGE / part).is_dir()]


def test_the_tasks_are_those_of_the_table():
    from pipeline import stages

    assert {name.split(".")[1] for name in stages.TASKS.values()} == set(TASKS)


def test_imports_run_one_way():
    files = {path: tree for path, tree in SOURCES.items() if path != "pipeline/__init__.py"}
    assert [wrong for path, tree in files.items() for wrong in wrong_imports(path, tree)] == []


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("pipeline/config/load.py", "from pipeline.data.catalog import read_catalog"),
        ("pipeline/engine/chain.py", "def run():\n    import pipeline.training.trainer"),
        ("pipeline/training/step.py", "if TYPE_CHECKING:\n    from pipeline.segmentation.losses import mixed_loss"),
        ("pipeline/data/store.py", "build = lazy('pipeline.segmentation.tiles:build_tile_store')"),
        ("pipeline/data/store.py", "build = named('pipeline.segmentation.tiles.build_tile_store')"),
        ("pipeline/scores.py", "from pipeline.task import Scores"),
        ("pipeline/engine/run.py", "from pipeline.stages import stages_of"),
        ("pipeline/engine/api.py", "from pipeline.work.train import train"),
        ("pipeline/commands/runs.py", "from pipeline.work.train import train"),
        ("pipeline/work/train.py", "import pipeline.stages"),
        ("pipeline/submission/kaggle.py", "from pipeline.segmentation.labels import read_mask"),
        ("pipeline/report/page.py", "from pipeline.commands import table"),
        ("pipeline/segmentation/labels.py", "from pipeline.detection.boxes import read_boxes"),
        ("pipeline/detection/boxes.py", "from pipeline.segmentation.labels import read_mask"),
        ("pipeline/another/file.py", ""),
    ],
)
def test_each_wrong_import_would_be_seen(path, code):
    assert len(wrong_imports(path, ast.parse(code), ("segmentation", "detection"))) == 1


def test_right_imports_pass():
    right = {
        "pipeline/engine/api.py": "def open_run():\n    from pipeline.stages import stages_of",
        "pipeline/detection/boxes.py": "from pipeline.training.encoder import normalise",
        "pipeline/stages.py": "train = lazy('pipeline.work.train:train')",
    }
    tasks = ("segmentation", "detection")
    assert [wrong_imports(path, ast.parse(code), tasks) for path, code in right.items()] == [[], [], []]


def module_of(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def modules_in_circles(trees: dict[str, ast.AST]) -> list[str]:
    """Returns the modules that import each other, and those that import such ones."""

    def modules_in(tree: ast.AST) -> set[str]:  # a package by itself, but not where a module of it is imported
        imported = set(imports_of(tree)) & trees.keys()
        return {name for name in imported if not any(other.startswith(f"{name}.") for other in imported)}

    left = {name: modules_in(tree) - {name} for name, tree in trees.items()}
    while free := {name for name, imported in left.items() if not imported & left.keys()}:
        left = {name: imported for name, imported in left.items() if name not in free}
    return sorted(left)


def test_no_modules_import_each_other():
    assert modules_in_circles({module_of(path): tree for path, tree in SOURCES.items()}) == []
    lazy_circle = {"pipeline.a": "import pipeline.b", "pipeline.b": "do = lazy('pipeline.a:do')", "pipeline.c": ""}
    found = modules_in_circles({name: ast.parse(code) for name, code in lazy_circle.items()})
    assert found == ["pipeline.a", "pipeline.b"]


def test_what_may_be_imported_everywhere_needs_no_package():
    for name in WITHOUT_PACKAGES:
        foreign = {imported.partition(".")[0] for imported in imports_of(SOURCES[f"pipeline/{name}.py"])}
        assert foreign - set(sys.stdlib_module_names) <= {"pipeline"}, name


WORDS_OF_TASKS = re.compile(r"\b(masks?|dice|box|boxes)\b", re.IGNORECASE)


@pytest.mark.parametrize("folder", ["training", "engine"])
def test_training_and_engine_speak_of_no_task(folder):
    texts = {path: (PROJECT / path).read_text() for path in SOURCES if part_of(path) == folder}
    found = [
        f"{path}:{number} {match.group()}"
        for path, text in texts.items()
        for number, line in enumerate(text.splitlines(), start=1)
        for match in WORDS_OF_TASKS.finditer(line.replace("_", " "))
    ]
    assert len(texts) > 5 and found == []


@pytest.mark.parametrize("layer", ["config", "engine"])
def test_config_and_engine_import_no_heavy_package(layer):
    for path, tree in SOURCES.items():
        if part_of(path) == layer:
            assert not {name.partition(".")[0] for name in imports_of(tree)} & HEAVY, path


def test_the_table_of_stages_needs_no_package():
    code = "import pipeline.stages"
    result = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def texts_of(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yields the string literals of a module with their lines, without docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(tree) if isinstance(node, documented)]
    docstrings = {node.body[0].value for node in nodes if ast.get_docstring(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
            yield node.lineno, node.value


def artefact_names() -> set[str]:
    """Returns the names of files and folders that `paths.py` gives."""
    from pipeline import paths

    return {value for name, value in vars(paths).items() if name.isupper() and isinstance(value, str)}


def artefacts_spelled(tree: ast.AST, names: set[str]) -> list[str]:
    """Returns the artefact names that a module spells: as a literal of its own, or a file inside a longer text."""
    files = {name for name in names if "." in name.rpartition("/")[2]}
    return [
        f"{line} {name}"
        for line, text in texts_of(tree)
        for name in sorted(names)
        if text == name or (name in files and re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", text))
    ]


def test_the_names_of_artefacts_are_spelled_in_paths_only():
    names = artefact_names()
    assert {"split.csv", "best.ckpt", "probs/test", ".stages", "refused.json"} <= names
    found = {path: artefacts_spelled(tree, names) for path, tree in SOURCES.items() if path != "pipeline/paths.py"}
    assert {path: spelled for path, spelled in found.items() if spelled} == {}


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("path = folder / 'split.csv'", ["1 split.csv"]),
        ("print(f'see {folder}/split.csv, and more')", ["1 split.csv"]),
        ("def read():\n    'Reads split.csv.'\n    # split.csv\n    return 'my_split.csv'", []),
        ("folder = 'plots'", ["1 plots"]),
        ("print('draws plots')", []),
    ],
)
def test_each_way_to_spell_an_artefact_would_be_seen(code, wanted):
    assert artefacts_spelled(ast.parse(code), {"split.csv", "plots"}) == wanted


def test_the_names_of_the_stages_are_listed_in_the_table_only():
    from pipeline.stages import STAGE_NAMES

    lists = (ast.Tuple, ast.List, ast.Set, ast.Dict)
    found = {}
    for path, tree in SOURCES.items():
        for node in (node for node in ast.walk(tree) if isinstance(node, lists)):
            items = node.keys if isinstance(node, ast.Dict) else node.elts
            named = [item.value for item in items if isinstance(item, ast.Constant) and item.value in STAGE_NAMES]
            if len(named) > MOST_STAGES_NAMED:
                found[f"{path}:{node.lineno}"] = named
    assert found == {}


def test_data_needs_torch_in_its_dataset_and_loaders_only():
    with_torch = {
        path for path, tree in SOURCES.items() if "torch" in {name.partition(".")[0] for name in imports_of(tree)}
    }
    of_data = {path for path in with_torch if part_of(path) == "data"}
    names = ("loaders", "open_loaders", "parts", "sampler", "whole_images")
    assert of_data <= {f"pipeline/data/{name}.py" for name in names}


@pytest.mark.parametrize("layer", ["submission", "report"])
def test_submission_and_report_load_no_torch(layer, python_modules):
    modules = [path.removesuffix(".py").replace("/", ".") for path in SOURCES if part_of(path) == layer]
    loaded = python_modules("\n".join(f"import {module.removesuffix('.__init__')}" for module in modules))
    assert "pipeline" in loaded
    assert not loaded & {"torch", "torchvision", "timm", "segmentation_models_pytorch"}
    for path, tree in SOURCES.items():
        if part_of(path) == layer:
            assert "torch" not in {name.partition(".")[0] for name in imports_of(tree)}, path


def test_the_command_line_starts_without_heavy_packages(python_modules):
    loaded = python_modules("import pipeline.__main__ as main; main.main(['show', 'ExpAAB'])")
    assert not loaded & HEAVY


def test_the_setup_needs_no_package():
    modules = ("bootstrap.environment", "bootstrap.doctor", "errors", "files", "paths", "wording")
    code = "import " + ", ".join(f"pipeline.{module}" for module in modules)
    # -S: without the packages of others, as on a fresh machine.
    result = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def calls_of(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Yields the calls of a module with the dotted name of what is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def keyword_of(call: ast.Call, name: str) -> object:
    """Returns a call's keyword when it is written as a constant."""
    values = [keyword.value for keyword in call.keywords if keyword.arg == name]
    return values[0].value if values and isinstance(values[0], ast.Constant) else None


FORBIDDEN_CALLS = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen"),
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.load", "marshal.loads", "shelve.open", "dill.load"),
    *("yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load", "yaml.full_load_all", "yaml.unsafe_load_all"),
    *("joblib.load", "pd.read_pickle", "pandas.read_pickle", "hub.load", "torch.hub.load", "jsonpickle.decode"),
}


def dangers_of(tree: ast.AST) -> list[str]:
    found = []
    for name, call in calls_of(tree):
        if name in FORBIDDEN_CALLS:
            found.append(f"calls {name}")
        if keyword_of(call, "weights_only") is False or keyword_of(call, "allow_pickle") is True:
            found.append(f"{name} may run pickled code")
        if name == "torch.load" and keyword_of(call, "weights_only") is not True:
            found.append("torch.load without weights_only=True")
        if keyword_of(call, "shell") is True:
            found.append(f"{name} through a shell")
    return found


def test_nothing_in_the_tree_runs_code_from_data():
    found = [f"{path}: {danger}" for path, tree in SOURCES.items() for danger in dangers_of(tree)]
    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        *(
            "eval('1')",
            "yaml.load(text)",
            "yaml.load(text, Loader=yaml.Loader)",
            "pickle.loads(data)",
            "torch.load(path)",
        ),
        *("torch.load(path, weights_only=False)", "np.load(path, allow_pickle=True)", "subprocess.run(x, shell=True)"),
    ],
)
def test_each_danger_would_be_seen(code):
    assert dangers_of(ast.parse(code))


def texts_without_encoding(tree: ast.AST) -> list[str]:
    """Returns the calls that read or write text in whatever encoding the machine's locale has."""
    found = []
    for name, call in calls_of(tree):
        given = {keyword.arg for keyword in call.keywords}
        is_binary = any(isinstance(one, ast.Constant) and "b" in str(one.value) for one in call.args[1:2])
        is_text = name.endswith((".read_text", ".write_text", "TextIOWrapper", "FileHandler"))
        is_text = is_text or (name in ("open", "os.fdopen", "io.open") and not is_binary)
        is_text = is_text or bool(given & {"text", "universal_newlines"})
        if is_text and "encoding" not in given:
            found.append(f"{call.lineno} {name}")
    return found


def test_text_is_read_and_written_in_an_encoding_that_is_named():
    found = {path: texts_without_encoding(tree) for path, tree in SOURCES.items()}
    assert {path: calls for path, calls in found.items() if calls} == {}


@pytest.mark.parametrize(
    ("code", "number"),
    [
        *(("path.read_text()", 1), ("open(path)", 1), ("open(path, 'a', buffering=1)", 1)),
        *(("path.write_text(text)", 1), ("subprocess.run(words, text=True)", 1)),
        *(("open(path, 'rb')", 0), ("open(path, encoding='utf-8')", 0), ("path.read_text(encoding='utf-8')", 0)),
        *(("Image.open(path)", 0), ("subprocess.run(words)", 0)),
    ],
)
def test_each_text_without_an_encoding_would_be_seen(code, number):
    assert len(texts_without_encoding(ast.parse(code))) == number


ONE_READER = {"pd.read_csv": "pipeline/data/table.py"}


def bare_readers(path: str, tree: ast.AST) -> list[str]:
    """Returns the calls of readers that belong into one file, in any other one."""
    return [name for name, _ in calls_of(tree) if name in ONE_READER and path != ONE_READER[name]]


def test_tables_of_a_run_have_one_reader():
    found = [f"{path}: {name}" for path, tree in SOURCES.items() for name in bare_readers(path, tree)]
    assert found == []


def test_another_reader_would_be_seen():
    assert bare_readers("pipeline/work/tile.py", ast.parse("pd.read_csv(run.paths / SPLIT, dtype=str)"))
    assert any(bare_readers("", tree) for path, tree in SOURCES.items() if path == ONE_READER["pd.read_csv"])


def test_no_file_is_longer_than_a_head_can_hold():
    lengths = {path.relative_to(PROJECT).as_posix(): len(path.read_text().splitlines()) for path in FILES}
    assert {path: length for path, length in lengths.items() if length > MOST_LINES} == {}


def test_every_function_fits_a_screen():
    long = {
        f"{path}:{function.lineno} {function.name}": function.end_lineno - function.lineno + 1
        for path, tree in SOURCES.items()
        for function in functions_of(tree)
        if function.end_lineno - function.lineno + 1 > MOST_LINES_OF_A_FUNCTION
    }
    assert long == {}


def test_every_module_and_public_function_says_what_it_is():
    silent = [path for path, tree in SOURCES.items() if tree.body and not ast.get_docstring(tree)]
    for path, tree in SOURCES.items():
        for function in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
            is_one_line = len(function.body) == 1 and isinstance(function.body[0], ast.Return)
            if not function.name.startswith("_") and not is_one_line and not ast.get_docstring(function):
                silent.append(f"{path}:{function.lineno} {function.name}")
    assert silent == []


def names_given_in(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yields the names that a module itself gives: functions, classes, arguments, variables."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id


def test_names_are_our_words():
    wrong = [
        f"{path}:{line} {name}"
        for path, tree in SOURCES.items()
        for line, name in names_given_in(tree)
        if set(name.lower().split("_")) & NOT_OUR_WORDS
    ]
    wrong += [path for path in SOURCES if set(Path(path).stem.split("_")) & NOT_OUR_WORDS]
    assert wrong == []


def test_the_source_is_python_3_10():
    for path in FILES:
        ast.parse(path.read_text(), feature_version=(3, 10))


def test_no_file_names_a_machine_or_leaves_work_for_later():
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=False)
    if listing.returncode != 0:
        pytest.skip("needs git to tell the project's files from others")
    # Put together here, so that this file does not contain them.
    later = "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX"])
    wanted = re.compile(rf"\b({later})\b|(?<![\w.])/(root|home/\w+|work/(main|shared))/")
    found = []
    for name in filter(None, listing.stdout.split("\0")):
        path = PROJECT / name
        if path.is_file() and b"\0" not in path.read_bytes()[:8000]:
            text = path.read_text(errors="replace")
            found += [f"{name}: {match.group()}" for match in wanted.finditer(text)]
    assert found == []


def test_the_readme_shows_every_command():
    from pipeline.commands.table import COMMANDS

    text = (PROJECT / "README.md").read_text()
    assert [name for name in COMMANDS if f"./run.sh {name}" not in text] == []


def test_documents_that_are_named_exist():
    texts = [*SOURCES, "README.md"]
    named = {name for path in texts for name in re.findall(r"\bdocs/[\w.-]+\.md\b", (PROJECT / path).read_text())}
    assert {name for name in named if not (PROJECT / name).is_file()} == set()
    assert "docs/conventions.md" in named


def test_every_folder_of_tests_is_collected(project: Path):
    """A folder called `data` was left out once, since pytest skips a name wherever it stands."""
    settings = (project / "pyproject.toml").read_text()
    skipped = re.search(r"^norecursedirs = \[(.*?)\]", settings, re.MULTILINE)[1].replace('"', "").split(", ")
    folders = {path.name for root in ("tests", "pipeline") for path in (project / root).rglob("*") if path.is_dir()}
    left_out = {name for name in folders for pattern in skipped if fnmatch.fnmatch(name, pattern)}
    assert left_out - {"__pycache__"} == {"benchmarks"}
