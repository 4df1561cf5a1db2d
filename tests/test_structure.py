"""The tree is the architecture: who imports whom, what an import costs, what the wheel holds."""

import ast
import graphlib
import importlib
import json
import pkgutil
import shutil
import sys
import types
import zipfile

import pytest
from fresh_python import ROOT, fresh_python

import converters
import registry
import zoo

PACKAGES = ("registry", "converters", "zoo")
MAY_IMPORT = {
    "registry": {"registry"},
    "converters": {"registry", "converters"},
    "zoo": {"registry", "converters", "zoo"},
}
# They take long to import, and are imported by the function that needs them.
LATE = {"av", "huggingface_hub", "timm", "torchvision", "transformers"}
HEAVY = ("torch", "timm", "torchvision", "av", "numpy", "PIL", "huggingface_hub")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


def find_imports(path):
    """Each import of a file as (module, line, when): `start`, `call` or `types`."""
    found = []

    def visit(node, when):
        if isinstance(node, ast.Import):
            found.extend((alias.name, node.lineno, when) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            # `from zoo import sampling` imports a module, `from zoo import create` a name.
            inside = [f"{base}.{alias.name}" for alias in node.names]
            submodules = [name for name in inside if name in MODULES]
            found.extend((name, node.lineno, when) for name in submodules or [base])
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for child in node.body:
                visit(child, "types")
            for child in node.orelse:
                visit(child, when)
        else:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                when = "call"
            for child in ast.iter_child_nodes(node):
                visit(child, when)

    visit(ast.parse(path.read_text(encoding="utf-8")), "start")
    return found


IMPORTS = [
    (path, module, f"{path.relative_to(ROOT)}:{line} imports {module}", when)
    for path in FILES
    for module, line, when in find_imports(path)
]


def test_the_imports_are_found():
    # What follows holds trivially for a list of imports that is empty.
    assert len(FILES) > 30
    seen = {(path.name, module, when) for path, module, _, when in IMPORTS}
    assert ("catalogue.py", "registry.index", "start") in seen
    assert ("catalogue.py", "importlib.metadata", "call") in seen
    assert ("prediction.py", "zoo.factory", "call") in seen
    assert ("folder.py", "zoo.models._base", "types") in seen
    assert {top(module) for _, module, _, _ in IMPORTS} >= {"torch", "timm", "json", *PACKAGES}


def top(module):
    return module.partition(".")[0]


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package):
    wrong = [
        place
        for path, module, place, _ in IMPORTS
        if module_name(path).partition(".")[0] == package
        and top(module) in PACKAGES
        and top(module) not in MAY_IMPORT[package]
    ]
    assert wrong == []


def test_the_registry_needs_the_standard_library_only():
    allowed = sys.stdlib_module_names | {"registry"}
    wrong = [
        place
        for path, module, place, _ in IMPORTS
        if path.is_relative_to(ROOT / "registry") and top(module) not in allowed
    ]
    assert wrong == []


def test_imports_are_absolute():
    assert [place for _, module, place, _ in IMPORTS if module.startswith(".")] == []


def test_no_import_of_ours_hides_in_a_function():
    # The command line must answer at once, so its commands alone import ours late.
    wrong = [
        place
        for path, module, place, when in IMPORTS
        if when == "call" and top(module) in PACKAGES and path.parent != ROOT / "zoo" / "commands"
    ]
    assert wrong == []


def test_slow_libraries_are_imported_where_they_are_used():
    assert [
        place for _, module, place, when in IMPORTS if when == "start" and top(module) in LATE
    ] == []


def test_modules_import_each_other_without_a_cycle():
    graph = {name: set() for name in MODULES}
    for path, module, _, when in IMPORTS:
        if when == "start" and module in MODULES:
            graph[module_name(path)].add(module)
    assert graph["registry.catalogue"] >= {"registry.index", "registry.names"}
    order = list(graphlib.TopologicalSorter(graph).static_order())  # CycleError names the cycle
    assert order.index("registry.records") < order.index("zoo.factory")


@pytest.mark.parametrize(
    ("package", "others"), [("registry", "converters zoo torch"), ("converters", "zoo")]
)
def test_importing_all_of_a_package_loads_none_above_it(tmp_path, package, others):
    names = [name for name in MODULES if top(name) == package]
    code = (
        f"import importlib, json, sys\nfor name in {names}: importlib.import_module(name)\n"
        f"print(json.dumps([name for name in {others.split()} if name in sys.modules]))"
    )
    done = fresh_python("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_looking_at_the_catalogue_is_silent_and_imports_nothing_heavy(tmp_path):
    code = (
        "import zoo\n"
        "names, facts = zoo.list_models(), zoo.info('r2p1d_18')\n"
        "zoo.list_pretrained(), dir(zoo)\n"
        "import json, sys\n"
        "print(json.dumps([names, facts.params, sorted(sys.modules)]))"
    )
    done = fresh_python("-W", "error", "-c", code, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    names, params, modules = json.loads(done.stdout)  # nothing else is printed
    assert names == registry.list_models()
    assert params == 31505325
    assert sorted({top(name) for name in modules} & {*HEAVY, "typer", "rich"}) == []


def test_the_command_that_lists_imports_nothing_heavy(tmp_path):
    code = (
        "import json, runpy, sys\n"
        "sys.argv = ['zoo', 'list', '--pretrained']\n"
        "try:\n    runpy.run_module('zoo.cli', run_name='__main__')\n"
        "finally:\n    print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    done = fresh_python("-W", "error", "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == registry.list_pretrained()
    modules = json.loads(done.stderr)
    assert "typer" in modules
    assert sorted({top(name) for name in modules} & set(HEAVY)) == []


def test_the_command_that_lists_writes_names_and_nothing_else(tmp_path):
    done = fresh_python("-W", "error", "-m", "zoo.cli", "list", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == registry.list_models()


SHADOW = "videozoo's package {!r} ({}) is hidden by another module of that name, {}; uninstall or "
SHADOW += "rename that one."


def assert_refused(done, sentence):
    """Importing ended in that sentence, and not on the way to another error."""
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"ImportError: {sentence}"
    assert "During handling" not in done.stderr


@pytest.mark.parametrize("name", ["registry", "converters"])
@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("{}/__init__.py", "def register_model(): ..."),
        ("{}.py", "VERSION = '1.0'"),
        # What a foreign module does when it is imported must not matter.
        ("{}.py", "import a_library_that_is_missing"),
        # Ours from another checkout is not what this one was written for.
        ("{0}/__init__.py", "VIDEOZOO = '{0}'"),
    ],
)
def test_a_foreign_module_before_ours_is_named_in_one_sentence(tmp_path, name, file, text):
    foreign = tmp_path / "elsewhere" / file.format(name)
    foreign.parent.mkdir(parents=True)
    foreign.write_text(text.format(name))
    done = fresh_python("-c", "import zoo", cwd=tmp_path, paths=[tmp_path / "elsewhere"])
    assert_refused(done, SHADOW.format(name, ROOT / name / "__init__.py", foreign))


EDITABLE = f"""
import sys
from importlib.util import spec_from_file_location

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in {PACKAGES}:
            return spec_from_file_location(name, {str(ROOT)!r} + '/' + name + '/__init__.py')

sys.meta_path.append(Finder)
import zoo
"""


def test_a_folder_of_the_same_name_before_an_editable_install_is_named(tmp_path):
    # Such an install is asked after the path, where any folder passes for a package.
    (tmp_path / "registry").mkdir()
    done = fresh_python("-S", "-c", EDITABLE, cwd=tmp_path, ours=False)
    folder = tmp_path / "registry"
    assert_refused(done, SHADOW.format("registry", ROOT / "registry" / "__init__.py", folder))
    folder.rmdir()
    assert fresh_python("-S", "-c", EDITABLE, cwd=tmp_path, ours=False).returncode == 0


def test_a_module_made_by_hand_in_place_of_ours_is_named(tmp_path):
    code = "import sys, types\nsys.modules['registry'] = types.ModuleType('registry')\nimport zoo"
    ours = ROOT / "registry" / "__init__.py"
    done = fresh_python("-c", code, cwd=tmp_path)
    assert_refused(done, SHADOW.format("registry", ours, "which has no file"))


@pytest.fixture
def installed(tmp_path):
    """A copy of the packages, which may be spoiled."""
    for package in PACKAGES:
        leave = shutil.ignore_patterns("__pycache__", "*.safetensors")
        shutil.copytree(ROOT / package, tmp_path / "site" / package, ignore=leave)
    return tmp_path / "site"


@pytest.mark.parametrize("name", ["registry", "converters"])
@pytest.mark.parametrize("text", ["VERSION = '1.0'", "import a_library_that_is_missing"])
def test_a_package_that_was_overwritten_is_named(installed, tmp_path, name, text):
    look = ("-c", "import zoo; print(zoo.__file__)")
    whole = fresh_python(*look, cwd=tmp_path, paths=[installed])
    assert whole.stdout.strip() == str(installed / "zoo" / "__init__.py")
    ours = installed / name / "__init__.py"
    ours.write_text(text)
    assert_refused(
        fresh_python(*look, cwd=tmp_path, paths=[installed]),
        f"videozoo's package {name!r} ({ours}) was overwritten by another distribution's, so "
        f"{installed / 'zoo' / '_identity.py'} cannot work; uninstall that one and install "
        f"videozoo again.",
    )


def test_a_package_that_went_with_another_distribution_is_named(installed, tmp_path):
    ours = installed / "registry" / "__init__.py"
    ours.unlink()
    done = fresh_python("-S", "-c", "import zoo", cwd=tmp_path, paths=[installed], ours=False)
    assert_refused(
        done,
        f"videozoo's package 'registry' ({ours}) is gone, so "
        f"{installed / 'zoo' / '_identity.py'} cannot work; install videozoo again.",
    )


@pytest.mark.parametrize(
    "package", [registry, converters, zoo], ids=lambda package: package.__name__
)
def test_every_public_name_resolves_and_is_listed(package):
    assert len(set(package.__all__)) == len(package.__all__)
    for name in package.__all__:
        assert getattr(package, name) is not None
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(
        AttributeError, match=f"module '{package.__name__}' has no attribute 'creat'"
    ):
        _ = package.creat


@pytest.mark.parametrize("package", [converters, zoo], ids=lambda package: package.__name__)
def test_no_module_takes_the_place_of_a_public_name(package):
    # Importing `zoo.preprocess` would set that attribute of the package to the module, for good.
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert "layouts" in modules or "models" in modules
    assert modules & set(package.__all__) == set()


@pytest.mark.parametrize(
    "package", [registry, converters, zoo], ids=lambda package: package.__name__
)
def test_public_names_stay_what_they_are_once_every_module_is_imported(package):
    for name in MODULES:
        importlib.import_module(name)
    modules = [
        name for name in package.__all__ if isinstance(getattr(package, name), types.ModuleType)
    ]
    assert modules == []


@pytest.mark.parametrize("package", ["converters", "zoo"])
def test_type_checkers_are_told_the_lazy_names(package):
    """The names under `TYPE_CHECKING`, those in `__all__` and the lazy ones are one list."""
    path = ROOT / package / "__init__.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    told = {(n.module, alias.name) for n in block.body for alias in n.names}
    (table,) = (node for node in ast.walk(tree) if isinstance(node, ast.Dict))
    lazy = {(home, name) for home, names in ast.literal_eval(table).items() for name in names}
    assert told == lazy
    public = set(importlib.import_module(package).__all__)
    assert {name for _, name in lazy} <= public


def test_no_python_file_is_longer_than_700_lines():
    folders = (*PACKAGES, "tests", "examples", "benchmarks")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > len(FILES)
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in files
    }
    assert {path: lines for path, lines in lengths.items() if lines > 700} == {}


def test_the_wheel_holds_the_three_packages_whole_and_nothing_else(tmp_path):
    # A build writes beside what it builds, so it gets a copy.
    leave = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info")
    shutil.copytree(ROOT, tmp_path / "source", ignore=leave)
    build = ("-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path))
    done = fresh_python(*build, cwd=tmp_path / "source", ours=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
        names = set(archive.namelist())
    assert {top_folder(name) for name in names} - set(PACKAGES) == {
        f"{wheel.name.rpartition('-py3')[0]}.dist-info"
    }
    inside = {name for name in names if top_folder(name) in PACKAGES}
    ours = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert inside == ours
    assert inside >= {
        "registry/index.json",
        "registry/labels/kinetics400.txt",
        *(f"{package}/py.typed" for package in PACKAGES),
    }
    code = "import zoo; print(zoo.__file__, *zoo.list_models())"
    done = fresh_python("-c", code, cwd=tmp_path, paths=[tmp_path / "site"], ours=False)
    assert done.stderr == ""
    assert done.stdout.split() == [
        str(tmp_path / "site" / "zoo" / "__init__.py"),
        *registry.list_models(),
    ]


def top_folder(name):
    return name.partition("/")[0]
