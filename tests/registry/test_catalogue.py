"""Registering, finding and listing models, without importing any of the zoo's own."""

import pytest

import registry
from registry import catalogue, index
from registry.records import UNKNOWN, PackageSource, Paper, Preprocess, Sampling, Weights

SAMPLING = Sampling(
    rule="dense",
    num_frames=16,
    frame_stride=2,
    fps=None,
    num_clips=10,
    num_crops=3,
    average="probabilities",
)
PREPROCESS = Preprocess(
    img_size=112,
    resize=(128, 171),
    interpolation="bilinear",
    antialias=False,
    mean=(0.4, 0.4, 0.4),
    std=(0.2, 0.2, 0.2),
)
PAPER = Paper(title="On pushes", url="https://example.org/pushes", year=2024)


@pytest.fixture(autouse=True)
def _own_catalogue(monkeypatch):
    """Nothing that a test registers outlives it, and no installed package offers models."""
    monkeypatch.setattr(catalogue, "_registered", {})
    monkeypatch.setattr(catalogue, "_entry_points", dict)


def make_weights(tag, num_classes=174):
    return Weights(
        tag=tag,
        source=PackageSource(file=f"{tag}.safetensors", sha256="00"),
        licence=UNKNOWN,
        data="pushes",
        num_classes=num_classes,
        labels=None,
        sampling=SAMPLING,
        preprocess=PREPROCESS,
    )


def make_builder(name, module="lab.pushes", doc="A model of pushes."):
    def build(**kwargs):
        return kwargs

    build.__name__ = build.__qualname__ = name
    build.__module__ = module
    build.__doc__ = doc
    return build


def add(name, module="lab.pushes", **wishes):
    wishes = {"order": "used", "weights": (make_weights("ssv2"),)} | wishes
    return registry.register_model(**wishes)(make_builder(name, module))


def test_the_decorator_returns_the_very_function():
    builder = make_builder("push_net")
    assert registry.register_model(order="used", weights=(make_weights("ssv2"),))(builder) is (
        builder
    )
    assert registry.load("push_net").builder is builder
    assert registry.registered_names() == ["push_net"]


def test_the_record_is_made_from_the_function_and_the_wishes():
    doc = "A model of pushes.\n\n    It has more to say."
    weights = (make_weights("ssv2"), make_weights("k400", num_classes=400))
    layouts = {"lab": object()}
    registry.register_model(order="ignored", paper=PAPER, weights=weights, layouts=layouts)(
        make_builder("push_net", "lab.zoo.pushes", doc)
    )
    entry = registry.load("push_net")
    assert entry.architecture == registry.Architecture(
        name="push_net",
        family="pushes",
        module="lab.zoo.pushes",
        summary="A model of pushes.",
        paper=PAPER,
        order="ignored",
        num_classes=174,
        sampling=SAMPLING,
        preprocess=PREPROCESS,
        weights=weights,
        params=None,
        gflops=None,
    )
    assert entry.layouts == layouts
    assert registry.info("push_net") == entry.architecture


def test_a_builder_without_docstring_has_an_empty_summary():
    builder = make_builder("push_net", doc=None)
    registry.register_model(order="used", weights=(make_weights("ssv2"),))(builder)
    assert registry.info("push_net").summary == ""


def test_an_explicit_recipe_goes_before_the_default_weights():
    other = Sampling(
        rule="uniform",
        num_frames=8,
        frame_stride=1,
        fps=None,
        num_clips=1,
        num_crops=1,
        average="logits",
    )
    # Zero classes are given, not missing.
    add("push_net", num_classes=0, sampling=other)
    found = registry.info("push_net")
    assert (found.num_classes, found.sampling, found.preprocess) == (0, other, PREPROCESS)


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({}, "num_classes, sampling, preprocess"),
        ({"num_classes": 3, "preprocess": PREPROCESS}, "sampling"),
    ],
)
def test_a_model_without_weights_must_give_its_recipe(given, missing):
    sentence = rf"^'push_net' has no weights to take its input recipe from; give {missing}\.$"
    with pytest.raises(ValueError, match=sentence):
        add("push_net", weights=(), **given)
    assert registry.registered_names() == []


def test_two_weights_of_one_tag_are_refused():
    weights = [make_weights(tag) for tag in ("ssv2", "k400", "ssv2")]
    with pytest.raises(
        ValueError,
        match=r"^'push_net' has two weights of one tag in \['ssv2', 'k400', 'ssv2'\]; make each",
    ):
        add("push_net", weights=weights)
    assert registry.registered_names() == []


def test_a_name_of_another_module_is_refused_naming_both():
    first = add("push_net", "lab.pushes")
    with pytest.raises(
        ValueError,
        match=r"^Model 'push_net' is registered by both 'lab\.pushes' and 'shop\.pushes'; rename",
    ):
        add("push_net", "shop.pushes")
    assert registry.load("push_net").builder is first


def test_running_a_module_or_a_notebook_cell_again_replaces_its_own_builder():
    add("push_net", "__main__")
    second = add("push_net", "__main__", num_classes=5)
    assert registry.load("push_net").builder is second
    assert registry.info("push_net").num_classes == 5
    assert registry.registered_names() == ["push_net"]


def test_a_name_of_the_index_is_refused_naming_both_modules():
    with pytest.raises(
        ValueError,
        match=r"^Model 'r3d_18' is registered by both 'zoo\.models\.video_resnet' and '__main__'",
    ):
        add("r3d_18", "__main__")
    assert registry.registered_names() == []


def test_what_a_program_registers_is_found_without_the_index(monkeypatch):
    add("push_net", "__main__")
    monkeypatch.setattr(catalogue, "read_index", dict)
    assert registry.list_models() == ["push_net"]
    assert registry.list_pretrained() == ["push_net.ssv2"]
    assert registry.info("push_net").module == "__main__"


def test_an_indexed_model_is_described_from_the_index_alone(monkeypatch):
    monkeypatch.setattr(catalogue.importlib, "import_module", lambda name: pytest.fail(name))
    found = registry.info("r2p1d_18")
    assert found == index.architecture_from_json(index.read_index()["r2p1d_18"])
    assert (found.family, found.params) == ("video_resnet", 31505325)


def test_a_registered_model_keeps_the_figures_counted_for_the_index():
    add("r3d_18", "zoo.models.video_resnet")
    found = registry.info("r3d_18")
    assert found.summary == "A model of pushes."  # the record that runs, not the index's
    assert (found.params, found.gflops) == (33371472, 40.697)


@pytest.mark.parametrize("find", [registry.info, registry.load])
def test_an_unknown_model_is_refused_with_a_proposal(find):
    total = len(registry.list_models())
    with pytest.raises(
        LookupError,
        match=rf"^Unknown model 'r2p1d18'\. Did you mean 'r2p1d_18'\? "
        rf"`zoo list` shows all {total}\.$",
    ):
        find("r2p1d18")
    with pytest.raises(
        LookupError,
        match=r"^Unknown model 'q'\. `zoo list` shows all \d+\. If this is an image model of timm, "
        r"'i3d:q' makes a video model of it\.$",
    ):
        find("q")


def test_weights_are_found_by_tag_and_the_first_are_the_default():
    weights = (make_weights("ssv2"), make_weights("k400"))
    add("push_net", weights=weights)
    found = registry.info("push_net")
    assert registry.find_weights(found, "") is weights[0]
    assert registry.find_weights(found, "ssv2") is weights[0]
    assert registry.find_weights(found, "k400") is weights[1]
    with pytest.raises(
        LookupError,
        match=r"^Unknown tag 'k40' for 'push_net'\. Known: ssv2, k400\. Did you mean 'k400'\?$",
    ):
        registry.find_weights(found, "k40")
    with pytest.raises(LookupError, match=r"Known: ssv2, k400\.$"):
        registry.find_weights(found, "motion")


def test_weights_of_a_model_without_any_are_refused():
    recipe = {"num_classes": 3, "sampling": SAMPLING, "preprocess": PREPROCESS}
    add("push_net", weights=(), **recipe)
    for tag in ("", "ssv2"):
        with pytest.raises(
            LookupError,
            match=r"^Model 'push_net' has no pretrained weights; create it without `pretrained` "
            r"or give `checkpoint=PATH`\.$",
        ):
            registry.find_weights(registry.info("push_net"), tag)


@pytest.fixture
def shelf(monkeypatch):
    """A small catalogue: two families, a model without weights, a test variant."""
    built_in = {"test_push": {"module": "lab.pushes", "weights": [{"tag": "k400"}]}}
    monkeypatch.setattr(catalogue, "read_index", lambda: built_in)
    recipe = {"num_classes": 3, "sampling": SAMPLING, "preprocess": PREPROCESS}
    add("push_r18", "lab.pushes", weights=(make_weights("ssv2"), make_weights("k400")))
    add("push_r101", "lab.pushes", weights=(), **recipe)
    add("push_r50", "lab.pushes", weights=(make_weights("k400"),))
    add("pull_18", "lab.pulls", weights=(make_weights("ssv2"),))
    add("test_push", "lab.pushes", weights=(make_weights("k400"),))


@pytest.mark.parametrize(
    ("wishes", "names"),
    [
        ({}, ["pull_18", "push_r18", "push_r50", "push_r101"]),
        ({"filter": "18"}, ["pull_18", "push_r18"]),
        ({"filter": "push_r*"}, ["push_r18", "push_r50", "push_r101"]),
        ({"filter": "r*"}, []),
        ({"filter": ["*18", "r50"]}, ["pull_18", "push_r18", "push_r50"]),
        ({"family": "pulls"}, ["pull_18"]),
        ({"family": "pull"}, []),
        ({"pretrained": True}, ["pull_18", "push_r18", "push_r50"]),
        ({"exclude": "push"}, ["pull_18"]),
        ({"exclude": "push_r1*"}, ["pull_18", "push_r50"]),
        ({"exclude": ("pull", "*50")}, ["push_r18", "push_r101"]),
        ({"filter": "push", "exclude": "101", "pretrained": True}, ["push_r18", "push_r50"]),
        # Built-in variants made for tests are shown to those who ask for them only.
        ({"filter": "test_*"}, ["test_push"]),
        ({"filter": ["test", "pull"]}, ["pull_18", "test_push"]),
        ({"filter": "*push"}, []),
    ],
)
def test_models_are_listed_by_filter_family_and_weights(shelf, wishes, names):
    assert registry.list_models(**wishes) == names


@pytest.mark.parametrize(
    ("wishes", "names"),
    [
        ({}, ["pull_18.ssv2", "push_r18.ssv2", "push_r18.k400", "push_r50.k400"]),
        ({"filter": "push_r18"}, ["push_r18.ssv2", "push_r18.k400"]),
        # Wildcards fit the name alone or the name with its tag.
        ({"filter": "*18"}, ["pull_18.ssv2", "push_r18.ssv2", "push_r18.k400"]),
        ({"filter": "*.k400"}, ["push_r18.k400", "push_r50.k400"]),
        ({"filter": "*.k400", "exclude": "*50.*"}, ["push_r18.k400"]),
        ({"exclude": ".ssv2"}, ["push_r18.k400", "push_r50.k400"]),
        ({"family": "pulls"}, ["pull_18.ssv2"]),
        ({"filter": "r101"}, []),
    ],
)
def test_weights_are_listed_default_first(shelf, wishes, names):
    assert registry.list_pretrained(**wishes) == names


def test_what_a_package_offers_is_listed_but_not_as_pretrained(shelf, monkeypatch):
    offers = {"shop_net": ["shop.models"]}
    monkeypatch.setattr(catalogue, "_entry_points", lambda: offers)
    monkeypatch.setattr(catalogue.importlib, "import_module", lambda name: pytest.fail(name))
    assert registry.list_models(family="models") == ["shop_net"]
    assert "shop_net" in registry.list_models()
    assert "shop_net" not in registry.list_models(pretrained=True)
    assert registry.list_pretrained("shop*") == []


def test_weights_arguments_cannot_be_changed_through_the_record():
    arguments = registry.find_weights(registry.info("r2p1d_18"), "in1k_inflated").arguments
    assert arguments == (("stem", "inflated"),)
    hash(registry.info("r2p1d_18"))
