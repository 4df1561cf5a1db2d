"""Models of other packages: listed by their metadata, imported only to be built.

The package in tests/third_party is installed by pip into `tmp_path`; what is wrong on purpose is a
folder of metadata written here. Each look at it is an interpreter of its own.
"""

import json
import shutil
import subprocess
import sys

import pytest
from fresh_python import ROOT, fresh_python


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder of installed packages that holds the lab's."""
    folder = tmp_path_factory.mktemp("third_party")
    shutil.copytree(ROOT / "tests" / "third_party", folder / "source")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-index", "--no-deps", "--no-build-isolation"]
    installed = subprocess.run(
        [*pip, *offline, "--target", str(folder / "site"), str(folder / "source")],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert installed.returncode == 0, installed.stderr
    return folder / "site"


@pytest.fixture
def look(tmp_path):
    """Run code that prints JSON, with further folders of installed packages."""

    def run(code, *paths):
        done = fresh_python("-c", code, cwd=tmp_path, paths=paths)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def offer(folder, name, module, distribution="shop"):
    """Write the metadata of a distribution that offers one model."""
    metadata = folder / f"{distribution}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n"
    )
    (metadata / "entry_points.txt").write_text(f"[zoo.models]\n{name} = {module}\n")
    return folder


REFUSED = """
import json, registry
try:
    registry.load({name!r})
except Exception as error:
    cause = type(error.__cause__).__name__
    print(json.dumps([type(error).__name__, str(error.args[0]), cause]))
"""


def test_listing_reads_the_metadata_and_imports_nothing(look, site):
    found = look(
        "import json, sys, zoo\n"
        "names = zoo.list_models(), zoo.list_models('frame_*'), zoo.list_models(family='lab')\n"
        "family = zoo.list_models(family='frame_difference')\n"
        "heavy = [n for n in ('lab_models', 'torch') if n in sys.modules]\n"
        "print(json.dumps([*names, family, zoo.list_models(pretrained=True), heavy]))",
        site,
    )
    everything, by_name, of_no_family, by_family, pretrained, imported = found
    assert "frame_difference_r2" in everything
    assert "r2p1d_18" in everything
    assert by_name == by_family == ["frame_difference_r2"]
    assert of_no_family == []
    assert "frame_difference_r2" not in pretrained
    assert imported == []


def test_create_imports_the_package_and_builds_its_model(look, site, tmp_path):
    found = look(
        "import json, sys, torch, zoo\n"
        "model = zoo.create('frame_difference_r2', num_classes=3, num_frames=6, width=6)\n"
        "clip = torch.rand(2, 3, 6, 16, 16)\n"
        "folder = zoo.save(model, 'saved')\n"
        "again = zoo.create(f'local-dir:{folder}')\n"
        "same = torch.equal(again(clip), model(clip)) and bool(model(clip).std() > 0)\n"
        "facts = zoo.info('frame_difference_r2')\n"
        "try:\n    zoo.create('frame_difference_r2', widht=6)\n"
        "except ValueError as error:\n    refused = str(error)\n"
        "print(json.dumps([refused, type(model).__module__, list(model(clip).shape), same,\n"
        "    model.num_features, model.record.architecture, model.record.sampling.num_frames,\n"
        "    facts.family, facts.summary, facts.params,\n"
        "    sorted(n for n in sys.modules if n.startswith('zoo.models.'))]))",
        site,
    )
    assert found == [
        "'frame_difference_r2' takes no argument 'widht'. Allowed: img_size, in_chans, "
        "num_classes, num_frames, width. Did you mean 'width'?",
        "lab_models.frame_difference",
        [2, 3],
        True,
        12,
        "frame_difference_r2",
        6,
        "frame_difference",
        "Two convolutions on differences of frames, from another package.",
        None,
        ["zoo.models._base", "zoo.models._staged"],  # none of the zoo's own families
    ]


def test_a_module_that_does_not_register_what_is_offered_is_named(look, tmp_path):
    (tmp_path / "shop_models.py").write_text("SOLD = 'out'\n")
    place = offer(tmp_path / "site", "shop_net", "shop_models")
    kind, sentence, _ = look(REFUSED.format(name="shop_net"), place)
    assert (kind, sentence) == (
        "LookupError",
        "Module 'shop_models' is said to register the model 'shop_net', but does not; its "
        "package's entry points and its builders disagree.",
    )


def test_a_module_that_cannot_be_imported_is_named_with_the_reason(look, tmp_path):
    (tmp_path / "shop_models.py").write_text("import a_library_that_is_missing\n")
    place = offer(tmp_path / "site", "shop_net", "shop_models")
    kind, sentence, cause = look(REFUSED.format(name="shop_net"), place)
    assert (kind, cause) == ("LookupError", "ModuleNotFoundError")
    assert sentence == (
        "Module 'shop_models' of the model 'shop_net' cannot be imported (No module named "
        "'a_library_that_is_missing'); install what it needs, or uninstall the package that "
        "offers it."
    )


def test_a_package_that_offers_a_name_of_ours_is_refused_naming_both_modules(look, tmp_path):
    place = offer(tmp_path / "site", "r3d_18", "shop_models")
    kind, sentence, _ = look(REFUSED.format(name="r3d_18"), place)
    assert (kind, sentence) == (
        "ValueError",
        "Model 'r3d_18' is offered by both 'zoo.models.video_resnet' and 'shop_models'; uninstall "
        "or rename one of them.",
    )
    # The name is listed once, and the other models are not in the way.
    assert look("import json, zoo; print(json.dumps(zoo.list_models('r3d_18')))", place) == [
        "r3d_18"
    ]


def test_two_packages_that_offer_one_name_are_refused_naming_both_modules(look, tmp_path):
    place = offer(tmp_path / "site", "push_net", "shop_models", "shop")
    offer(place, "push_net", "mall_models", "mall")
    kind, sentence, _ = look(REFUSED.format(name="push_net"), place)
    assert kind == "ValueError"
    assert sentence.startswith("Model 'push_net' is offered by both '")
    assert "'shop_models'" in sentence
    assert "'mall_models'" in sentence


def test_a_name_offered_by_a_package_and_registered_by_the_program_is_refused(look, site):
    found = look(
        "import json, registry\n"
        "def frame_difference_r2(**kwargs): return kwargs\n"
        "facts = registry.info('r2p1d_18')\n"
        "registry.register_model(order='used', num_classes=1, sampling=facts.sampling,\n"
        "    preprocess=facts.preprocess)(frame_difference_r2)\n"
        "try:\n    registry.load('frame_difference_r2')\n"
        "except ValueError as error:\n    print(json.dumps(str(error)))",
        site,
    )
    assert found == (
        "Model 'frame_difference_r2' is offered by both '__main__' and "
        "'lab_models.frame_difference'; uninstall or rename one of them."
    )
