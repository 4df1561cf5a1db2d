"""Each public checkpoint has a record and a proof, or a reason; the table is data, not a claim."""

import pytest
from fresh_python import ROOT

import registry
from registry.records import ImageSource, PackageSource
from zoo._generate import checkpoints

ROWS = checkpoints()
FOUND = [row for row in ROWS if row["weights"]]
REASONS = (
    "raw pickle",
    "needs a TensorFlow reader",
    "needs a Flax reader",
    "no public address",
    "a TorchScript program",
    "two files",
)


def _name(row):
    return f"{row['upstream']}-{row['variant']}-{row['dataset']}"


def test_a_checkpoint_is_listed_once():
    names = [_name(row) for row in ROWS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("row", ROWS, ids=_name)
def test_a_checkpoint_has_a_record_or_a_reason(row):
    assert bool(row["weights"]) != bool(row["refused"])
    if row["weights"]:
        assert row["weights"] in registry.list_pretrained()
    else:
        assert row["refused"].startswith(REASONS)


@pytest.mark.parametrize("row", FOUND, ids=_name)
def test_its_proof_exists(row):
    path, _, name = row["proof"].partition("::")
    assert f"def {name.partition(chr(91))[0]}(" in (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("row", FOUND, ids=_name)
def test_its_record_names_that_upstream_layout_or_a_mirror_of_it(row):
    name, _, tag = row["weights"].partition(".")
    record = registry.find_weights(registry.info(name), tag)
    layouts = registry.load(name).layouts
    for source in (record.source, *record.mirrors):
        assert source.layout in layouts


def test_every_upstream_record_stands_in_the_table():
    listed = {row["weights"] for row in FOUND}
    upstream = {
        f"{name}.{record.tag}"
        for name in registry.list_models(exclude=("test_*",))
        for record in registry.info(name).weights
        if not isinstance(record.source, (ImageSource, PackageSource))
    }
    assert upstream - listed == set()
