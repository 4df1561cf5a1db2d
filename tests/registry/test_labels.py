"""Class names in index order."""

import pytest

import registry


def test_kinetics400_names_are_those_of_the_published_weights():
    from torchvision.models.video import R2Plus1D_18_Weights

    categories = R2Plus1D_18_Weights.KINETICS400_V1.meta["categories"]
    assert list(registry.labels("kinetics400")) == categories


@pytest.mark.parametrize(
    ("name", "count"),
    [("kinetics400", 400), ("kinetics600", 600), ("something_something_v2", 174), ("ava", 80)],
)
def test_the_usual_lists_are_complete(name, count):
    assert name in registry.list_labels()
    assert len(registry.labels(name)) == count


@pytest.mark.parametrize("name", registry.list_labels())
def test_every_class_has_one_name_of_its_own(name):
    names = registry.labels(name)
    assert len(set(names)) == len(names)
    assert all(text and text == text.strip() for text in names)


def test_every_weights_record_names_as_many_classes_as_it_has():
    for name in registry.list_models():
        for record in registry.info(name).weights:
            if record.labels is not None:
                assert len(registry.labels(record.labels)) == record.num_classes, record


def test_an_unknown_list_is_refused_with_a_proposal():
    known = ", ".join(registry.list_labels())
    with pytest.raises(
        LookupError,
        match=rf"^Unknown label list 'kinetics40'\. Known: {known}\. Did you mean 'kinetics400'\?",
    ):
        registry.labels("kinetics40")
