"""The arithmetic and the page of `benchmarks/speed/`."""

import dataclasses
import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks" / "speed"
FACTS = {
    "date": "2026-01-02",
    "machine": {"processor": "abacus", "cores": 2, "threads": 2, "versions": {"torch": "9"}},
}


@pytest.fixture(scope="module", autouse=True)
def _importable():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield


@pytest.fixture(scope="module")
def measured():
    return importlib.import_module("_measure")


@pytest.fixture(scope="module")
def paged():
    return importlib.import_module("_page")


def _models(measured, table, **goal):
    return [
        measured.compare(table, "x3d_s", "timm", [2.0, 1.0], [4.0, 1.0], note="clip of 8", **goal),
        measured.compare(table, "hiera_b", "hiera", [1.0, 1.0], [0.5, 1.0], note="of 4", **goal),
    ]


def test_a_goal_for_a_part_divides_ours_and_one_for_a_multiple_the_peers(measured):
    ours, theirs = [1.0, 2.0, 4.0], [10.0, 10.0, 10.0]
    part = measured.compare("t", "s", "p", ours, theirs, at_most=0.2)
    assert (part.kind, part.ratios, part.goal) == ("ours / peer", (0.1, 0.2, 0.4), "at most 0.2")
    assert (part.ours, part.theirs, part.met) == (2.0, 10.0, True)
    times = measured.compare("t", "s", "p", ours, theirs, at_least=6)
    assert (times.kind, times.ratios, times.met) == ("peer / ours", (10.0, 5.0, 2.5), False)
    assert measured.compare("t", "s", "p", ours, theirs).met is None


def test_the_geometric_mean_is_over_the_medians_of_one_table(measured):
    rows = _models(measured, "x", at_least=1) + _models(measured, "y", at_least=1)
    row = measured.geometric_row("x", [*rows, rows[2]], at_least=1.4)
    # Medians 1.5 and 0.75, smallest 1 and 0.5, largest 2 and 1.
    assert row.ratios == pytest.approx((0.5**0.5, 1.125**0.5, 2**0.5))
    assert (row.ours, row.theirs, row.met, row.goal) == (2.5, 3.25, False, "at least 1.4")


def test_what_is_written_is_read_again(measured, monkeypatch, tmp_path):
    monkeypatch.setattr(measured, "RESULTS", tmp_path / "results")
    rows = _models(measured, "x", at_least=1)
    rows.append(dataclasses.replace(rows[0], met=None, goal="", note='said, "so"', unit="bytes"))
    measured.write(rows, "some")
    found, facts = measured.read("some")
    assert found == rows
    assert facts["machine"]["versions"]["torch"]


def test_how_much_a_goal_is_missed_by(measured, paged):
    slow = measured.compare("t", "s", "p", [3.0], [10.0], at_most=0.2)
    assert paged.missed_by(slow) == pytest.approx(0.5)
    assert paged.missed_by(
        measured.compare("t", "s", "p", [1.0], [1.2], at_least=1.5)
    ) == pytest.approx(0.2)


def test_the_page_says_every_goal_and_every_miss_with_its_reason(measured, paged):
    rows = _models(measured, "forward, float32", at_least=1)
    rows.append(measured.geometric_row("forward, float32", rows, at_least=1.0))
    startup = [
        measured.compare("zoo list", "zoo list", "timm", [0.1], [4.0], at_most=0.05),
        measured.compare("import zoo", "import zoo", "timm", [0.2], [4.0], at_most=0.02),
        measured.compare("import zoo", "import zoo", "pass", [0.4], [0.1], note="whole"),
    ]
    results = {"startup": (startup, FACTS), "forward": (rows, FACTS | {"date": "2026-02-03"})}
    reasons = {("forward, float32", "hiera_b"): "it pools twice"}
    text = paged.page(results, reasons)
    assert (
        "| `zoo list`, whole process | timm | at most 0.05 | 0.025; 100 ms and 4.00 s | met" in text
    )
    assert (
        "| `import zoo` | timm | at most 0.02 | 0.050; 200 ms and 4.00 s | missed by 150%" in text
    )
    assert "| `import zoo` | pass | - | 0.25; 400 ms and 100 ms | whole | 2026-01-02 |" in text
    assert "float32 forward, eval, each of 2 comparisons" in text
    assert "1 of 2 miss it: hiera_b (hiera) by 25%: it pools twice" in text
    assert "float32 forward, eval: geometric mean | all | at least 1 | 1.06 (0.71 to 1.41)" in text
    mean = "float32 forward, eval: geometric mean of the 1"
    assert f"| {mean} convolutional | all | - | 1.50 (1.00 to 2.00); 1.50 s and 2.50 s |" in text
    assert f"| {mean} with attention | all | - | 0.75 (0.50 to 1.00); 1.00 s and 750 ms |" in text
    assert text.count("x3d_s") == 1  # in the table of models alone
    assert "| x3d_s | timm | clip of 8 | 1.50 s | 2.50 s | 1.50 (1.00 to 2.00) |" in text
    assert "Measured (startup): 2026-01-02, abacus" in text
    assert "Measured (forward): 2026-02-03" in text
    assert "| `load_clip` | | | not measured | | |" in text
    assert paged.unexplained(results, reasons) == ["import zoo: import zoo"]
    assert "forward, float32: hiera_b" in paged.unexplained(results, {})


def test_the_readme_shows_what_was_measured(measured, paged):
    results = {}
    for path in sorted((FOLDER / "results").glob("*.csv")):
        results[path.stem] = measured.read(path.stem)
    order = importlib.import_module("run").SCRIPTS
    results = {name: results[name] for name in order if name in results}
    readme = (FOLDER.parents[1] / "README.md").read_text(encoding="utf-8")
    assert paged.into_readme(readme, paged.summary(results)) == readme
    reasons = paged.read_reasons(FOLDER / "reasons.csv")
    assert paged.page(results, reasons) == (FOLDER / "README.md").read_text(encoding="utf-8")
    assert paged.unexplained(results, reasons) == []


def test_the_summary_counts_what_keeps_to_each_goal(measured, paged):
    table = "forward, float32"
    rows = _models(measured, table, at_least=1)
    rows.append(measured.geometric_row(table, rows, at_least=1.4))
    rows.append(measured.compare("zoo list", "zoo list", "timm", [0.1], [4.0], at_most=0.05))
    assert paged.summary({"forward": (rows, FACTS)}).splitlines()[2:] == [
        "| `zoo list`, whole process | at most 0.05 | 0.025 | yes |",
        "| float32 forward, eval | at least 1; mean at least 1.4 "
        "| 0.75 to 1.50; mean 1.06 | 1 of 2 (6 more left out for their size); no |",
    ]
    with pytest.raises(ValueError, match="has no lines '<!-- speed"):
        paged.into_readme("# no marks", "")


def test_smaller_clips_are_of_models_that_are_measured():
    clips = importlib.import_module("_clips")
    assert clips.number_left_out({"mvit_v1_b": "a", "s3d": "b"}) == 3
    with_texts = {name for name in clips.PEERS["transformers"] if name.startswith("xclip")}
    assert clips.NOTES.keys() == with_texts
    known = {name for recipes in clips.PEERS.values() for name in recipes}
    assert clips.FORWARD.keys() | clips.TRAINING.keys() | clips.NOT_TRAINED.keys() <= known
    assert not clips.NOT_TRAINED.keys() & set(clips.NOT_TRAINED.values())


def test_one_model_that_fails_does_not_keep_the_others_from_being_measured(capsys, monkeypatch):
    clips = importlib.import_module("_clips")
    # Nothing is built here that a hundred collections would free.
    monkeypatch.setattr(clips.gc, "collect", lambda: 0)

    def measure(library, name):
        if name == "s3d":
            raise RuntimeError("no such luck")
        return [(library, name)]

    rows, failed = clips.measure_all(measure, ["s3d", "mvit_v1_b"], but={"mvit_v1_b"})
    assert rows == [("torchvision", "mvit_v1_b"), ("pytorchvideo", "mvit_v1_b")]
    assert failed == ["torchvision s3d"]
    assert "no such luck" in capsys.readouterr().err
    rows, _ = clips.measure_all(measure, [], but={"mvit_v1_b"})
    names = [name for _, name in rows]
    assert "r3d_18" in names
    assert "mvit_v1_b" not in names


@pytest.mark.parametrize(
    ("subject", "goals"),
    [
        (
            "frames only, 8 of 900, keyframe every 30",
            {"every": "at least 3", "decord": "at least 1"},
        ),
        ("frames only, 8 of 900, keyframe every 250", {"every": "", "decord": "at least 1"}),
        ("frames only, 32 of 900, keyframe every 30", {"every": "", "decord": "at least 1"}),
    ],
)
def test_reading_is_compared_with_the_fastest_and_where_sparse_with_decoding_all(subject, goals):
    decoding = importlib.import_module("decoding")
    seconds = {"": [1.0, 1.0], decoding.EVERYTHING: [9.0, 9.0], "decord": [2.0, 2.0]}
    rows = {row.peer: row.goal for row in decoding._rows(subject, seconds, "1080p")}
    assert rows == {decoding.EVERYTHING: goals["every"], "decord": goals["decord"]}


def test_with_resizing_torchcodec_reads_as_was_fastest_and_pyav_is_left_out(monkeypatch):
    decoding = importlib.import_module("decoding")
    monkeypatch.setattr(decoding, "find_spec", lambda _: True)
    readers = decoding._readers()
    ways = [name for name in readers if name.startswith("torchcodec")]
    assert [readers[way].keywords for way in ways[1:]] == [
        {"threads": 0},
        {"seek_mode": "approximate"},
    ]
    for fastest in ways:
        seconds = {name: [3.0, 1.0, 3.0] for name in ("", *readers)} | {fastest: [2.0, 2.0, 9.0]}
        assert decoding._worth_resizing(readers, seconds).keys() == {"decord", fastest}
    monkeypatch.setattr(decoding, "find_spec", lambda _: None)
    assert decoding._worth_resizing(decoding._readers(), {decoding.EVERYTHING: [1.0]}) == {}


def test_a_leak_shows_above_what_the_process_held(monkeypatch):
    windows = importlib.import_module("windows")
    monkeypatch.setattr(windows, "MODEL", "test_framepool")
    clip = FOLDER.parents[1] / "examples" / "clips" / "cup-right-to-left.mp4"
    plain = windows._peaks(clip)
    leak = 2**28
    leaking = f"zoo.predict = lambda *_, **__: bytearray(b'x' * {leak})\n"
    monkeypatch.setattr(windows, "CHILD", windows.CHILD.replace("def most", f"{leaking}def most"))
    found = windows._peaks(clip)
    assert plain[windows.WHOLE] > 2**24
    if windows.ABOVE in plain:
        assert plain[windows.ABOVE] < plain[windows.WHOLE] / 2
        assert leak <= found[windows.ABOVE] < found[windows.WHOLE] - 2**26
    row = windows._row(windows.WHOLE, [found], [plain], "an hour")
    assert (row.ours, row.theirs) == (found[windows.WHOLE], plain[windows.WHOLE])
    assert (row.goal, row.subject.rpartition(", ")[2]) == ("at most 1.1", windows.WHOLE)


def test_only_the_scripts_that_are_named_run_and_the_page_is_of_all(
    monkeypatch, measured, paged, tmp_path
):
    run = importlib.import_module("run")
    monkeypatch.setattr(measured, "RESULTS", tmp_path)
    monkeypatch.setattr(run, "RESULTS", tmp_path)
    here = tmp_path / "benchmarks" / "speed"
    here.mkdir(parents=True)
    monkeypatch.setattr(run, "HERE", here)
    (tmp_path / "README.md").write_text(f"# Us\n{paged.START}\nold\n{paged.END}\nlast\n")
    (here / "reasons.csv").write_text("table,subject,why\n")
    measured.write(
        [measured.compare("load_clip", "8 of 900", "decord", [1.0], [2.0], at_most=1)], "decoding"
    )
    ran = []

    def script(name, options):
        ran.append((name, *options))
        return name != "loading"

    monkeypatch.setattr(run, "run", script)
    monkeypatch.setattr("sys.argv", ["run.py", "startup", "loading", "--rounds", "2"])
    with pytest.raises(SystemExit, match="failed: loading"):
        run.main()
    assert ran == [("startup", "--rounds", "2"), ("loading", "--rounds", "2")]
    readme = (tmp_path / "README.md").read_text()
    assert "old" not in readme
    assert "| `load_clip` | at most 1 | 0.500 | yes |\n<!-- end of speed -->\nlast\n" in readme
    page = (here / "README.md").read_text()
    assert "| `load_clip`: 8 of 900 | decord | at most 1 | 0.500; 1.00 s and 2.00 s | met |" in page
