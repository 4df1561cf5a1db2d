"""Hostile folders and repositories: refused in one sentence, nothing run, no memory spent."""

import json
import pickle
import struct
import sys
import textwrap

import pytest
import torch
from fresh_python import fresh_python
from safetensors.torch import load_file, save_file
from scrambling import scramble

import zoo

HUGE = 10**12


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The files of a good model, by name."""
    torch.manual_seed(0)
    model = scramble(zoo.create("test_r2p1d"), torch.zeros(2, 3, 4, 32, 32))
    folder = zoo.save(model, tmp_path_factory.mktemp("good") / "tiny")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(good, tmp_path):
    """A folder that holds them, to be harmed."""
    place = tmp_path / "harmed"
    place.mkdir()
    for name, content in good.items():
        (place / name).write_bytes(content)
    return place


def as_is(folder, hub, monkeypatch):
    return f"local-dir:{folder}"


def on_the_hub(folder, hub, monkeypatch):
    hub.point_client(monkeypatch, folder.parent / "home")
    hub.seed("org/evil", {path.name: path.read_bytes() for path in folder.iterdir()})
    return "hf-hub:org/evil"


# What is read is the same in both; what is fetched matters to the tests with EITHER.
PLACES = pytest.mark.parametrize("place", [as_is, pytest.param(on_the_hub, marks=pytest.mark.slow)])
EITHER = pytest.mark.parametrize("place", [as_is, on_the_hub])


def refused(name, sentence, kind=ValueError):
    with pytest.raises(kind, match=sentence) as error:
        zoo.create(name)
    text = str(error.value)
    assert len(text) < 1000
    assert text.isprintable()


def change(path, harm):
    config = json.loads(path.read_text())
    harm(config)
    path.write_text(json.dumps(config))


def within(*keys, **values):
    """Change values somewhere in a config.json."""

    def harm(config):
        for key in keys:
            config = config[key]
        config.update(values)

    return harm


NO_NAME = "architecture is a registered name, or a scheme and a model of timm"
CONFIGS = {
    "path": (within(architecture="../../etc/passwd"), NO_NAME),
    "module": (within(architecture="os.system"), NO_NAME),
    "scheme": (within(architecture="i3d:hf-hub:evil/repository"), NO_NAME),
    "scheme_path": (within(architecture="i3d:local-dir:/etc"), NO_NAME),
    "own_scheme": (within(architecture="local-dir:/etc"), NO_NAME),
    "escape": (within(architecture="\x1b[31mr2p1d"), NO_NAME),
    "tag": (within(tag="../../x"), r"tag is a text such as 'k400', not '\.\./\.\./x'"),
    "classes": (within("arguments", num_classes=HUGE), f"num_classes is at most .*{HUGE}"),
    "frames": (within("arguments", num_frames=HUGE), f"num_frames is at most .*{HUGE}"),
    "size": (within("arguments", img_size=HUGE), f"img_size is at most .*{HUGE}"),
    "channels": (within("arguments", in_chans=HUGE), f"in_chans is at most .*{HUGE}"),
    "clip": (within("arguments", num_frames=9999, img_size=9999), r"a clip .* values, where"),
    "negative": (within("arguments", num_classes=-1), "num_classes, a whole number of 0 or more"),
    "truth": (within("arguments", num_frames=True), "num_frames, a whole number of 1 or more"),
    "override": (within("arguments", embed_dim=HUGE), "arguments.embed_dim is at most"),
    "unknown": (within("arguments", embed_dim=9), "'test_r2p1d' takes no argument 'embed_dim'"),
    "kind": (within("arguments", drop_rate="x"), "asks for arguments that 'test_r2p1d' cannot"),
    "list": (within("arguments", drop_rate=[1]), r"drop_rate is a number or a text, not \[1\]"),
    "long": (within("arguments", stem="x" * 999), r"arguments\.stem is a text of 999 letters"),
    "no_arguments": (within(arguments=[["num_classes", 7]]), "arguments are values by name"),
    "labels": (within(labels={"0": "a"}), "labels are a list of texts or null"),
    "label": (within(labels=[1] * 7), "labels are a list of texts or null"),
    "colour": (within(labels=["\x1b[2J"] * 7), "labels are texts of one line"),
    "many": (within(labels=["a"] * 99_999), "there are 99999 labels for 7 classes"),
    "source": (within(source=["x"]), "source is a small object or null"),
    "inside": (within(source={"x": [1]}), r"source\.x is a number or a text, not \[1\]"),
    "resize": (
        within("preprocess", resize=HUGE),
        f"preprocess.resize is at most 4096, not {HUGE}",
    ),
    "sides": (within("preprocess", resize=[4096, 4097]), "resize is at most 4096, not 4097"),
    "mean": (within("preprocess", mean=[True] * 3), "mean holds a number a channel"),
    "licence": (within(licence={"a": 1}), "licence is a text of one line"),
    "heading": (within(licence="MIT\n# Mine"), "licence is a text of one line"),
    "crop": (within("preprocess", img_size=64), "img_size is 64, and arguments.img_size 32"),
    "stride": (within("sampling", frame_stride=HUGE), "sampling.frame_stride is at most"),
    "clips": (within("sampling", num_clips=HUGE), "sampling.num_clips is at most"),
    "other": (within("sampling", num_frames=99), "num_frames is 99, and arguments.num_frames 8"),
    "more": (within(on_load="import os"), r"unknown keys \['on_load'\]"),
    "inner": (within("sampling", hook="x"), "holds a wrong value: .*hook"),
    "newer": (within(schema_version=2), "schema_version 2; this videozoo reads 1: upgrade it"),
    "version": (within(schema_version=True), "schema_version True; this videozoo reads 1"),
}


@EITHER
@pytest.mark.parametrize("attack", CONFIGS)
def test_a_hostile_configuration_is_refused_before_the_weights_are_fetched(
    place, attack, folder, hub, monkeypatch
):
    harm, sentence = CONFIGS[attack]
    change(folder / "config.json", harm)
    name = place(folder, hub, monkeypatch)
    refused(name, sentence)
    assert not hub.asked("model.safetensors")


@PLACES
@pytest.mark.parametrize(
    ("architecture", "sentence"),
    [
        ("r2p1d_nan0", r"Unknown model 'r2p1d_nan0'\. Did you mean 'r2p1d_nano'\?"),
        ("i3d:resnet5", r"has no model 'resnet5'; .*Did you mean 'resnet5"),
    ],
)
def test_an_unknown_architecture_is_told_with_the_nearest(
    place, architecture, sentence, folder, hub, monkeypatch
):
    change(folder / "config.json", within(architecture=architecture))
    refused(place(folder, hub, monkeypatch), sentence, LookupError)


@PLACES
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"[" * 100_000, "is not JSON"),
        (b'{"a": 1, "a": 2}', "a key stands twice"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": -Infinity}', "-Infinity is no number"),
        (b'{"a": -1e999}', "-1e999 is no number"),
        (b"\xff\xfe", "is not JSON"),
        (b'{"a": ' + b"9" * 9999 + b"}", "is not JSON"),
        (b"[]", "no JSON object"),
        (b"null", "no JSON object"),
        (b" " * (4 * 2**20 + 1), "bytes, where .* is not (fetched|read)"),
    ],
    ids=lambda value: str(value[:12]) if isinstance(value, bytes) else "",
)
def test_a_configuration_that_is_no_json_is_refused(
    place, content, sentence, folder, hub, monkeypatch
):
    (folder / "config.json").write_bytes(content)
    refused(place(folder, hub, monkeypatch), sentence)


def parts(path):
    """Header and body of a safetensors file."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def write(path, header, body, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + body)


def entry(key="fc.weight", **values):
    """Lie about one tensor."""

    def harm(header, body):
        header[key] |= values
        return header, body

    return harm


def overlap(header, body):
    one, other, *_ = (key for key, facts in header.items() if facts.get("shape") == [8])
    header[one]["data_offsets"] = header[other]["data_offsets"]
    return header, body


def hole(header, body):
    header.pop("fc.weight")
    return header, body


HEADERS = {
    "huge_shape": (entry(shape=[HUGE, HUGE]), "has the shape"),
    "empty_huge": (entry(shape=[0, 2**47, 2**47], data_offsets=[0, 0]), "has the shape"),
    "larger": (entry(shape=[HUGE]), "takes 4000000000000 bytes, and lies at"),
    "negative": (entry(shape=[-7, -12]), "has the shape"),
    "fraction": (entry(shape=[7.0, 12]), "has the shape"),
    "axes": (entry(shape=[1] * 99), "has the shape"),
    "outside": (entry(data_offsets=[HUGE, HUGE + 336]), "begins at byte|take .* bytes, and"),
    "reversed": (entry(data_offsets=[336, 0]), "has the shape .* at bytes"),
    "offsets": (entry(data_offsets=[0]), "has the shape .* at bytes"),
    "no_offsets": (entry(data_offsets=None), "has the shape .* at bytes"),
    "overlap": (overlap, "begins at byte"),
    "hole": (hole, "begins at byte|take .* bytes, and"),
    "dtype": (entry(dtype="F64"), "is of dtype 'F64'. Weights are in F32, F16, BF16"),
    "eighth": (entry(dtype="F8_E4M3"), "is of dtype 'F8_E4M3'"),
    "code": (entry(dtype={"__class__": "os"}), "is of dtype"),
    "more": (entry(hook="x"), "in the header"),
    "metadata": (
        lambda header, body: (header | {"__metadata__": {"a": {"b": 1}}}, body),
        "its metadata are not text",
    ),
    "cut": (lambda header, body: (header, body[:-9]), r"take \d+ bytes, and"),
    "longer": (lambda header, body: (header, body + b"\0" * 9), r"take \d+ bytes, and"),
    "list": (lambda header, body: (b"[]", body), "its header is a list"),
    "number": (lambda header, body: (b"12", body), "is damaged or not"),
    "entry": (lambda header, body: (header | {"fc.weight": 3}, body), "has 3 in the header"),
    "twice": (lambda header, body: (b'{"a": {}, "a": {}}', body), "a key stands twice"),
}


@PLACES
@pytest.mark.parametrize("attack", HEADERS)
def test_a_header_that_lies_is_refused(place, attack, folder, hub, monkeypatch):
    path = folder / "model.safetensors"
    harm, sentence = HEADERS[attack]
    write(path, *harm(*parts(path)))
    refused(place(folder, hub, monkeypatch), sentence)


@PLACES
@pytest.mark.parametrize("length", [0, 1, 2**63, 2**64 - 1, 5 * 2**20, 10**6])
def test_a_header_that_lies_about_its_length_is_refused(place, length, folder, hub, monkeypatch):
    path = folder / "model.safetensors"
    header, body = parts(path)
    write(path, header, body, length)
    refused(place(folder, hub, monkeypatch), f"speaks of a header of {length}|is not JSON")


def counter(state, value):
    """Another number of batches than BatchNorm counted."""
    state[next(key for key in state if key.endswith("num_batches_tracked"))] = value


TENSORS = {
    "float64": (lambda s: s.update({"fc.bias": s["fc.bias"].double()}), "is of dtype 'F64'"),
    "whole": (lambda s: s.update({"fc.bias": s["fc.bias"].long()}), r"fc.bias is int64 \(7,\)"),
    "fraction": (
        lambda s: counter(s, torch.tensor(1.0)),
        r"num_batches_tracked is float32 \(\), must be int64",
    ),
    "small": (
        lambda s: counter(s, torch.tensor(1).int()),
        r"num_batches_tracked is int32 \(\), must be int64",
    ),
    "shape": (lambda s: s.update({"fc.bias": torch.zeros(8)}), r"is float32 \(8,\), must be"),
    "missing": (lambda s: s.pop("fc.bias"), r"missing keys: fc\.bias"),
    "unknown": (lambda s: s.update(hook=torch.zeros(1)), "unknown keys: hook"),
    "nan": (lambda s: s["fc.bias"].fill_(torch.nan), r"NaN or infinite values in fc\.bias"),
    "inf": (lambda s: s["fc.weight"][3].fill_(-torch.inf), r"infinite values in fc\.weight"),
    "half_inf": (
        lambda s: s.update({"fc.bias": torch.full((7,), 1e9).half()}),
        r"infinite values in fc\.bias",
    ),
}


@PLACES
@pytest.mark.parametrize("attack", TENSORS)
def test_wrong_tensors_are_refused(place, attack, folder, hub, monkeypatch):
    path = folder / "model.safetensors"
    state = load_file(path)
    harm, sentence = TENSORS[attack]
    harm(state)
    save_file(state, path)
    refused(place(folder, hub, monkeypatch), sentence)


@EITHER
def test_weights_far_larger_than_their_model_are_not_fetched(place, folder, hub, monkeypatch):
    save_file({"x": torch.zeros(4_000_000)}, folder / "model.safetensors")
    refused(place(folder, hub, monkeypatch), "bytes, where what its configuration tells of takes")
    assert not hub.asked("GET /store/")


@EITHER
@pytest.mark.parametrize(
    ("index", "sentence"),
    [
        ({"weight_map": {"a": "../../../etc/passwd"}}, "names the shard '../../../etc/passwd'"),
        ({"weight_map": {"a": "/etc/model-00001-of-00001.safetensors"}}, "names the shard '/etc"),
        ({"weight_map": {"a": "model-00001-of-00001.bin"}}, "names the shard"),
        ({"weight_map": {"a": "model-00001-of-00001.safetensors\n"}}, "names the shard"),
        ({"weight_map": {"a": ["model-00001-of-00001.safetensors"]}}, "names the shard"),
        ({"weight_map": {"a": "model-00001-of-00001.safetensors"}}, "does not hold the tensors"),
        ({"weight_map": []}, "has no weight_map"),
        ({"weight_map": {}}, "has no weight_map"),
        ([], "has no weight_map"),
    ],
)
def test_a_hostile_index_is_refused(place, index, sentence, folder, hub, monkeypatch):
    path = folder / "model.safetensors"
    path.rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(place(folder, hub, monkeypatch), sentence)
    assert not hub.asked("passwd")


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@EITHER
@pytest.mark.parametrize("filename", ["pytorch_model.bin", "model.safetensors"])
def test_a_pickle_is_never_loaded(place, filename, folder, hub, monkeypatch, tmp_path):
    trap = tmp_path / "sprung"
    (folder / "model.safetensors").unlink()
    (folder / filename).write_bytes(pickle.dumps(Trap(trap)))
    sentence = "holds its weights as pytorch_model.bin and not as safetensors"
    if filename == "model.safetensors":
        sentence = "is damaged or not a safetensors file"
    refused(place(folder, hub, monkeypatch), sentence)
    assert not trap.exists()
    assert not hub.asked("pytorch_model.bin")
    pickle.loads(pickle.dumps(Trap(trap))).close()
    assert trap.exists()  # it would have


def test_code_in_a_repository_is_not_fetched(hub, monkeypatch, tmp_path):
    config = {
        "model_type": "videomae",
        "architectures": ["VideoMAEForVideoClassification"],
        "auto_map": {"AutoModel": "modeling.Evil"},
        "hidden_size": HUGE,
    }
    hub.point_client(monkeypatch, tmp_path / "home")
    files = {"config.json": json.dumps(config).encode(), "modeling.py": b"open('x', 'w')"}
    hub.seed("org/evil", files)
    refused("hf-hub:org/evil", f"is of this size: hidden_size={HUGE}", LookupError)
    assert not hub.asked("modeling")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"architecture": "../x", "pretrained_cfg": {}}, "architecture is the name of a model"),
        ({"architecture": "test_r2p1d", "pretrained_cfg": 3}, "cannot be read"),
        (
            {"architecture": "test_r2p1d", "pretrained_cfg": {}, "num_classes": HUGE},
            "num_classes is at most",
        ),
        (
            {"architecture": "test_r2p1d", "pretrained_cfg": {"input_size": [3, HUGE, 8]}},
            "arguments must hold num_classes|img_size",
        ),
        (
            {
                "architecture": "test_r2p1d",
                "num_classes": 7,
                "pretrained_cfg": {"input_size": [3, 8, 32, 32], "mean": [0], "std": [0]},
            },
            "std must be above 0",
        ),
        (
            {
                "architecture": "test_r2p1d",
                "num_classes": 7,
                "pretrained_cfg": {
                    "input_size": [3, 8, 512, 512],
                    "crop_pct": 0.1,
                    "mean": [0.5] * 3,
                    "std": [0.5] * 3,
                },
            },
            "resize is at most 4096, not 5120",
        ),
        ({"model_type": ["x"]}, "of transformers, which the zoo does not have"),
        ({"model_type": "videomae", "architectures": [{}]}, "cannot be read|the zoo reads"),
        ({"model_type": "videomae", "id2label": [1]}, "cannot be read|is of this size"),
        ({"model_type": "xclip", "vision_config": 3}, "cannot be read"),
    ],
)
def test_a_hostile_configuration_of_another_library_is_refused(folder, data, sentence):
    (folder / "config.json").write_text(json.dumps(data))
    refused(f"local-dir:{folder}", sentence, (ValueError, LookupError))


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (within(tag="other"), "it holds 'r2p1d_nano.other'; publish the right one"),
        (within("arguments", num_frames=9), "num_frames is 8, and arguments.num_frames 9"),
        (within("arguments", num_classes=HUGE), "num_classes is at most"),
        (within(architecture="../x"), NO_NAME),
    ],
)
def test_a_hostile_folder_of_ones_own_hub_is_refused_and_nothing_else_taken(
    harm, sentence, tmp_path
):
    folder = zoo.save(zoo.create("r2p1d_nano", pretrained=True), tmp_path / "r2p1d_nano.motion")
    change(folder / "config.json", harm)
    with pytest.raises(ValueError, match=rf"^The hub '.*' cannot give .*{sentence}"):
        zoo.create("r2p1d_nano", pretrained=True, hub=tmp_path)


@pytest.mark.slow
def test_absurd_sizes_cost_no_memory(good, tmp_path):
    """In a process that may take 200 MB more than it has."""
    cases = {
        name: harm
        for name, (harm, _) in CONFIGS.items()
        if name in ("classes", "frames", "size", "channels", "clip", "override", "resize")
    }
    # Within the limits of each number, and still nothing that the tensors fill.
    cases["within"] = within("arguments", num_classes=2**20)
    cases["labelled"] = within(labels=["x" * 10] * 2**18)
    cases["nested"] = within(source={"x": [[]] * 2**19})
    shapes = {"shape": entry(shape=[HUGE]), "shapes": entry(shape=[2**24, 2**23])}
    for name in ("good", *cases, *shapes):
        (tmp_path / name).mkdir()
        for file, content in good.items():
            (tmp_path / name / file).write_bytes(content)
    for name, harm in cases.items():
        change(tmp_path / name / "config.json", harm)
    for name, harm in shapes.items():
        path = tmp_path / name / "model.safetensors"
        write(path, *harm(*parts(path)))
    program = textwrap.dedent("""
        import pathlib, resource, sys, zoo
        zoo.create("local-dir:good")  # imports all that reading a folder needs
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + 200 * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        for name in sys.argv[1:]:
            try:
                zoo.create(f"local-dir:{name}")
            except ValueError:
                print("refused")
    """)
    names = [*cases, *shapes]
    assert sys.platform == "linux"
    done = fresh_python("-c", program, *names, cwd=tmp_path)
    assert done.stdout.split() == ["refused"] * len(names), done.stderr
