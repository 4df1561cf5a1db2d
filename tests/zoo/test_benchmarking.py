"""What `zoo bench` measures, says and keeps; no test looks at how long anything takes."""

import json
import re
import sys
from functools import partial

import pytest
import torch
from fresh_python import fresh_python
from torch import nn

import registry
import zoo
from converters import disk
from zoo.benchmarking import machine, measuring, memory, peers, records, table, timing
from zoo.benchmarking.measuring import Measurement, Setting, measure
from zoo.benchmarking.timing import Spread
from zoo.layers import DropPath

NAME = "test_r2p1d"
# Ours takes 2 s in each round, the peer 1, 4 and 8.
TIMES = ([2.0, 2.0, 2.0], [1.0, 4.0, 8.0])


class Clock:
    """Seconds that pass only when a call says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def run(run_zoo):
    """Run `zoo bench ARGUMENTS` in this process: exit code, stdout, stderr."""
    return partial(run_zoo, "bench")


@pytest.fixture(autouse=True)
def _home(cache):
    """The cache of these tests."""


@pytest.fixture
def twin(monkeypatch):
    """A library that builds test models with our own code; the module that it built last."""
    built = []

    def build(model):
        built.append(zoo.create(model.record.architecture))
        return built[-1]

    def prepare(model, clip):
        built.append(clip)
        return (clip,)

    recipe = peers.Recipe(layout="zoo", build=build, prepare=prepare)
    monkeypatch.setitem(peers.PEERS, "torchvision", {NAME: recipe})
    return built


@pytest.fixture
def fixed_times(monkeypatch):
    """Every call is run once, and said to have taken `TIMES`."""

    def take(calls, *, rounds):
        assert rounds == 3
        for call in calls:
            call()
        return list(TIMES[: len(calls)])

    monkeypatch.setattr(measuring, "interleave", take)


# ---- timing ----


def test_calls_take_turns_and_every_second_round_goes_backwards(monkeypatch):
    clock, order = Clock(), []
    monkeypatch.setattr(timing, "perf_counter", clock)

    def call(name, seconds):
        def work():
            order.append(name)
            clock.now += seconds + len(order)

        return work

    found = timing.interleave([call("a", 10), call("b", 20), call("c", 30)], rounds=2)
    assert "".join(order) == "abccbaabc"
    assert found == [[10 + 6, 10 + 7], [20 + 5, 20 + 8], [30 + 4, 30 + 9]]
    assert timing.interleave([call("d", 1)], rounds=1, warm_up=0) == [[1 + 10]]
    with pytest.raises(ValueError, match="rounds=0 is given; give at least 1"):
        timing.interleave([], rounds=0)


def test_to_free_a_result_is_not_timed(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing, "perf_counter", clock)

    class Costly:
        def __del__(self):
            clock.now += 100

    assert timing.interleave([Costly, Costly], rounds=2) == [[0, 0], [0, 0]]
    assert clock.now == 600


def test_ratios_are_of_the_same_round_and_their_mean_is_geometric():
    assert timing.ratios([1.0, 4.0], by=[2.0, 2.0]) == (0.5, 2.0)
    assert timing.geometric_mean([0.5, 2.0]) == pytest.approx(1.0)
    assert timing.geometric_mean([1.0, 2.0, 4.0]) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="shorter"):
        timing.ratios([1.0, 2.0], by=[1.0])


# ---- one measurement ----


def test_latency_ratio_and_throughput_of_known_times(twin, fixed_times):
    found = measure(NAME, Setting(against="torchvision", rounds=3, batch_size=4))
    assert found.seconds == Spread(2.0, 2.0, 2.0)
    assert found.peer_seconds == Spread(1.0, 4.0, 8.0)
    assert found.speed_up == Spread(0.5, 2.0, 4.0)
    assert found.clips_per_second == 2.0
    assert found.difference == 0.0
    assert found.clip == (3, 8, 32, 32)
    row = found.as_json()
    assert row["ms"] == {"min": 2000, "median": 2000, "max": 2000}
    assert row["against"]["ms"] == {"min": 1000, "median": 4000, "max": 8000}
    assert row["against"]["speed_up"] == {"min": 0.5, "median": 2.0, "max": 4.0}
    assert (row["against"]["library"], row["against"]["difference"]) == ("torchvision", 0.0)
    titles, ((*cells,),) = table.as_rows([found])
    assert titles[-4:] == ("torchvision ms", "torchvision peak", "times as fast", "logits differ")
    assert cells[:4] == [NAME, "4 x 8 x 32 x 32", "2000 (2000 to 2000)", "2"]
    assert cells[-2:] == ["2.00 (0.50 to 4.00)", "0.0e+00"]


def test_ours_is_fed_as_by_load_clip_and_the_peer_as_torch_makes_a_clip(twin, monkeypatch):
    seen = []
    forward = type(zoo.create(NAME)).forward_features
    monkeypatch.setattr(
        type(zoo.create(NAME)),
        "forward_features",
        lambda self, x: (seen.append(x), forward(self, x))[1],
    )
    measure(NAME, Setting(against="torchvision", rounds=1, batch_size=2))
    mine, theirs = seen[:2]
    assert torch.equal(mine, theirs)
    assert mine.is_contiguous(memory_format=torch.channels_last_3d)
    assert not mine.is_contiguous()
    assert theirs.is_contiguous()


def test_a_wrong_weight_shows_in_the_difference(twin, fixed_times, monkeypatch):
    real = peers.export

    def spoiled(model, **options):
        state = real(model, **options)
        return state | {"fc.weight": 1.1 * state["fc.weight"]}

    monkeypatch.setattr(peers, "export", spoiled)
    found = measure(NAME, Setting(against="torchvision", rounds=3))
    assert 0.01 < found.difference < 0.2


def test_the_difference_is_part_of_the_peers_largest_logit():
    theirs = torch.tensor([[1.0, -8.0], [2.0, 4.0]])
    assert measuring.difference(theirs + torch.tensor([0.0, 2.0]), theirs) == 0.25


def test_no_branch_of_a_measured_network_is_silent():
    model, _ = measuring.create_pair("test_swin3d", None)
    assert all(bool(parameter.any()) for parameter in model.parameters())
    again, _ = measuring.create_pair("test_swin3d", None)
    bias = [item.norm.bias for item in (model, again)]
    assert torch.equal(*bias)
    assert bias[0].any()


def test_weights_that_a_name_brings_are_kept(trained):
    model, folder = trained
    loaded, _ = measuring.create_pair(f"local-dir:{folder}", None)
    wanted = model.state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in loaded.state_dict().items())


def test_a_step_trains(monkeypatch):
    model, _ = measuring.create_pair(NAME, None)
    clip = measuring.random_clip(model, batch_size=2)
    before = {key: value.clone() for key, value in model.named_parameters()}
    measuring.Side(model, [clip]).stepper()()
    assert model.training
    assert not any(torch.equal(before[key], value) for key, value in model.named_parameters())
    assert all(value.grad is None for value in model.parameters())


def test_a_step_drops_nothing_whatever_a_library_builds():
    class StochasticDepth(nn.Module):
        def __init__(self):
            super().__init__()
            self.p = 1.0

    class SomeDropPath(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop_prob = 1.0

    kinds = (nn.Dropout(1), nn.Dropout3d(1), DropPath(0.9), StochasticDepth(), SomeDropPath())
    module = nn.Sequential(nn.Conv3d(1, 1, 1), *kinds, nn.Flatten())
    measuring.Side(module, [torch.ones(1, 1, 2, 1, 1)]).stepper()
    assert [vars(item).get("p", 0.0) for item in kinds] == [0.0, 0.0, 0.0, 0.0, 0.0]
    assert (kinds[2].rate, kinds[4].drop_prob) == (0.0, 0.0)


@pytest.mark.parametrize("name", [NAME, "r2p1d:resnet10t", "framepool_nano.motion"])
def test_half_precision_and_optimised_copies_are_timed(name, monkeypatch):
    seen = []
    real = measuring.Side.forward
    monkeypatch.setattr(measuring.Side, "forward", lambda self: (seen.append(self), real(self))[1])
    setting = Setting(dtype="bfloat16", optimize=name == NAME, rounds=1)
    found = measure(name, setting).as_json()
    assert {p.dtype for p in seen[0].module.parameters()} == {torch.bfloat16}
    assert (found["dtype"], found["optimize"]) == ("bfloat16", name == NAME)


def test_a_module_that_fills_the_list_of_its_input_can_run_again():
    class Filling(nn.Module):
        def forward(self, paths):
            paths[0] = 2 * paths[0]
            return paths[0]

    side = measuring.Side(Filling(), [[torch.ones(1, 1)]])
    assert torch.equal(side.forward(), side.forward())


def test_an_operation_that_a_device_lacks_is_told_with_the_name():
    class Lacking(nn.Module):
        def forward(self, x):
            raise NotImplementedError("\"pool\" not implemented for 'BFloat16'")

    side = measuring.Side(Lacking(), [torch.zeros(1)])
    with pytest.raises(RuntimeError, match=r'x does not run in bfloat16 on cpu \("pool" not impl'):
        measuring._first(side, "x", Setting(dtype="bfloat16"))


def test_memory_is_what_a_call_holds_above_the_process(monkeypatch, tmp_path):
    size = 2**26
    found = memory.peak_bytes(lambda: bytearray(b"x" * size), torch.device("cpu"))
    if sys.platform == "linux":
        assert size <= found < 4 * size
        assert memory.peak_bytes(lambda: None, torch.device("cpu")) < size
    monkeypatch.setattr(memory, "_CLEAR", tmp_path)  # a folder, which cannot be written
    assert memory.peak_bytes(lambda: None, torch.device("cpu")) is None


# ---- peers ----


def test_every_architecture_of_a_peer_is_ours_and_every_layout_of_a_peer_has_a_builder():
    ours = registry.list_models()
    named = {name for recipes in peers.PEERS.values() for name in recipes}
    assert named <= set(ours)
    for name in ours:
        layouts = registry.load(name).layouts
        libraries = [library for library in peers.PACKAGES if library in layouts]
        having = [library for library in libraries if name in peers.PEERS[library]]
        assert having == libraries or name in peers.WITHOUT_BUILDER, name
        if name not in named:
            with pytest.raises(LookupError, match="without --against"):
                peers.find_recipe("torchvision", name)
    assert not named & peers.WITHOUT_BUILDER.keys()
    assert peers.WITHOUT_BUILDER.keys() <= set(ours)
    assert peers.PEERS.keys() == peers.PACKAGES.keys()


@pytest.mark.parametrize(
    ("library", "name", "message"),
    [
        ("torchvison", "s3d", r"Unknown library 'torchvison'.*Did you mean 'torchvision'"),
        ("torchvision", "x3d_m", "torchvision has no 'x3d_m'; measure it against pytorchvideo"),
        ("torchvision", "r2p1d:resnet18", "has no 'r2p1d:resnet18'; measure it without --against"),
        ("torchvision", "mvit_v2_b", r"has no 'mvit_v2_b' \(torchvision builds no MViTv2 larger"),
    ],
)
def test_what_a_library_lacks_is_said_with_what_can_be_done(library, name, message):
    with pytest.raises(LookupError, match=message):
        peers.find_recipe(library, name)


# ---- the command ----


def test_the_command_measures_each_name_and_keeps_it(run):
    code, out, err = run(NAME, "test_framepool", "r2p1d:resnet10t", "--rounds", 1)
    assert (code, err) == (0, "")
    titles, *rows = (line.split("\t") for line in out.splitlines())
    assert titles == ["model", "clip", "ms", "clips/s", "peak"]
    names = [NAME, "test_framepool", "r2p1d:resnet10t"]
    assert [row[0] for row in rows] == names
    assert [row["name"] for row in records.read()] == names
    found = records.latencies()
    assert found.keys() == set(names)
    assert all(float(row[2].split()[0]) == pytest.approx(found[row[0]], rel=1e-3) for row in rows)


def test_json_holds_what_is_kept(run, twin, fixed_times):
    code, out, _ = run(NAME, "--against", "torchvision", "--rounds", 3, "--json")
    assert code == 0
    data = json.loads(out)
    assert data["measurements"] == records.read()
    assert data["geometric_mean"] == 2.0
    (row,) = data["measurements"]
    assert row["versions"].keys() == {"Python", "torch", "torchvision"}
    assert row["threads"] == torch.get_num_threads()


def test_what_other_threads_take_does_not_become_the_latency_of_a_model(run, twin, fixed_times):
    assert run(NAME, "--rounds", 3)[0] == 0
    kept = records.read()
    assert len(kept) == 1
    code, out, _ = run(NAME, "--rounds", 3, "--threads", 1, "--json")
    assert code == 0
    assert json.loads(out)["measurements"][0]["threads"] == 1
    assert records.read() == kept


def test_several_models_get_a_geometric_mean(run, twin, monkeypatch):
    other = "test_r3d"
    monkeypatch.setitem(peers.PEERS["torchvision"], other, peers.PEERS["torchvision"][NAME])
    times = iter([([1.0], [8.0]), ([1.0], [2.0])])
    monkeypatch.setattr(measuring, "interleave", lambda *_, **__: next(times))
    code, out, err = run(NAME, other, "--against", "torchvision")
    assert code == 0
    assert len(out.splitlines()) == 3
    assert "ours is 4.00 times as fast as torchvision over 2 models (geometric mean)" in err


def test_threads_are_set_for_the_measurement_alone(run, monkeypatch):
    seen = []
    monkeypatch.setattr(
        measuring, "random_clip", lambda *_, **__: seen.append(torch.get_num_threads()) or 1 / 0
    )
    before = torch.get_num_threads()
    run(NAME, "--threads", before + 1)
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["r2p2d_18"], 1, "Unknown model 'r2p2d_18'.*Did you mean 'r2p1d_18'"),
        (["i4d:resnet18"], 1, "Unknown scheme 'i4d:'"),
        ([NAME, "--against", "mmaction"], 1, "Unknown library 'mmaction'. Known: torchvision"),
        ([NAME, "--against", "torchvision"], 1, f"torchvision has no '{NAME}'"),
        ([NAME, "--device", "tpu9"], 1, "This machine has no device 'tpu9'; it has cpu"),
        ([NAME, "--device", "cpu:1"], 1, "This machine has no device 'cpu:1'"),
        ([NAME, "--train", "--optimize"], 1, "zoo.optimize makes a copy for inference"),
        ([NAME, "--dtype", "int8"], 2, "Invalid value for '--dtype'"),
        ([NAME, "--rounds", "0"], 2, "Invalid value for '--rounds'"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_sentence(run, arguments, code, message):
    found, out, err = run(*arguments)
    assert (found, out) == (code, "")
    if code == 1:
        (line,) = err.splitlines()
        assert line.startswith("zoo: ")
    assert re.search(message, err), err
    assert records.read() == []


def test_a_name_that_fails_does_not_keep_the_others_from_being_measured(run):
    code, out, err = run("nonsense", "local-dir:nowhere", NAME, "--rounds", 1)
    assert code == 1
    assert [line.split("\t")[0] for line in out.splitlines()] == ["model", NAME]
    assert [line.split()[1] for line in err.splitlines()] == ["Unknown", "local-dir:nowhere:"]


def test_a_library_that_is_not_installed_is_named_with_the_way_to_get_it(run, monkeypatch):
    monkeypatch.setattr(peers, "find_spec", lambda _: None)
    code, _, err = run("hiera_b", "--against", "hiera")
    assert code == 1
    assert "hiera is not installed; pip install hiera-transformer brings it" in err


def test_a_failing_compilation_is_one_sentence(run, monkeypatch):
    def fails(*_):
        raise TypeError("no such thing\nand forty lines of it")

    monkeypatch.setattr(torch, "compile", lambda _: fails)
    code, _, err = run(NAME, "--compile")
    assert code == 1
    assert err == (
        f"zoo: {NAME}: torch.compile fails on {NAME} of zoo (TypeError: no such thing); leave out "
        f"--compile.\n"
    )


def test_a_cache_that_cannot_be_written_costs_a_warning_and_not_the_table(run, cache):
    cache.write_text("a file where a folder should be")
    code, out, err = run(NAME, "--rounds", 1)
    assert code == 0
    assert NAME in out
    assert "warning: The cache" in err


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("s3d", ["s3d"]),
        ("x3d_[sm]", ["x3d_m", "x3d_s"]),
        ("swin", ["swin3d_b", "swin3d_s", "swin3d_t"]),
        ("r2p1d_18.k400", ["r2p1d_18.k400"]),
        ("i3d:resnet18", ["i3d:resnet18"]),
    ],
)
def test_names_are_taken_as_they_are_and_parts_of_names_as_by_list(pattern, names):
    assert measuring.expand_name(pattern) == names


# ---- what is kept ----


def _line(name, ms, **changes):
    row = records.PLAIN | {"name": name, "device": "cpu", "batch_size": 1}
    row |= {"processor": machine.processor_name(), "ms": {"min": 0, "median": ms, "max": 9}}
    return row | changes


def test_latencies_are_the_newest_plain_ones_of_this_machine():
    records.append([_line("a", 5.0), _line("b", 7.0)])
    records.append([_line("a", 4.0)])
    records.append(
        [
            _line("a", 1.0, dtype="bfloat16"),
            _line("a", 1.0, optimize=True),
            _line("a", 1.0, compile=True),
            _line("a", 1.0, train=True),
            _line("a", 1.0, batch_size=2),
            _line("a", 1.0, processor="an abacus"),
            _line("a", 2.0, device="cuda"),
        ]
    )
    assert records.latencies() == {"a": 4.0, "b": 7.0}
    assert records.latencies("cuda") == {"a": 2.0}


def test_a_torn_line_is_passed_over():
    records.append([_line("a", 5.0)])
    path = disk.assets("bench") / records.FILE
    with path.open("a") as file:
        file.write('{"name": "b", "ms"\n[]\n')
    records.append([_line("c", 6.0)])
    assert records.latencies() == {"a": 5.0, "c": 6.0}


def test_reading_what_was_measured_imports_no_torch(tmp_path):
    code = (
        "from zoo.benchmarking import records\nrecords.latencies()\n"
        "import sys\nprint('torch' in sys.modules, 'timm' in sys.modules)"
    )
    done = fresh_python("-c", code, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "False False\n"), done.stderr


def test_a_measurement_without_a_peer_has_no_figures_of_one():
    item = Measurement(
        name="a", clip=(3, 4, 32, 32), setting=Setting(), seconds=Spread(1, 1, 1), peak=None
    )
    assert item.as_json()["against"] is None
    assert table.as_json([item.as_json()])["geometric_mean"] is None
    assert table.summary([item, item]) == ""
    assert table.as_rows([item])[1] == [("a", "1 x 4 x 32 x 32", "1000 (1000 to 1000)", "1", "")]
