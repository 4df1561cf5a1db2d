"""`zoo site`: what the pages say, how they are written, and how they behave in a browser."""

import dataclasses
import itertools
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browser import BROWSER, DRIVER, ENTER, browsing

import registry
from registry.names import natural_key
from zoo import cli
from zoo.site import site_files, write_site
from zoo.site.plots import Point, best_for_their_cost, draw_plot
from zoo.site.rows import protocols, rows_of

ARCHITECTURES = [registry.info(name) for name in registry.list_models()]
ROWS = rows_of(ARCHITECTURES)


class Page(HTMLParser):
    """The anchors of a page, its links, and what a browser loads by itself."""

    def __init__(self, text):
        super().__init__()
        self.anchors, self.links, self.loaded, self.rows = set(), [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        told = dict(attributes)
        if "id" in told:
            assert told["id"] not in self.anchors
            self.anchors.add(told["id"])
        if tag == "a":
            self.links.append(told["href"])
        elif "src" in told or "href" in told:
            self.loaded.append(told.get("src", told.get("href")))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "out"
    write_site(folder, site_files(ARCHITECTURES))
    return folder


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def test_every_set_of_weights_has_a_row_and_every_model_a_page(site):
    names = [*registry.list_pretrained()]
    without = {item.name for item in ARCHITECTURES if not item.weights}
    assert sorted(row.name for row in ROWS) == sorted([*names, *without])
    assert {path.stem for path in site.glob("models/*.html")} == set(registry.list_models())
    index = (site / "index.html").read_text(encoding="utf-8")
    (row,) = re.findall(
        r"<tr [^>]*><th scope=\"row\"><a href=\"models/r2p1d_18.html#r2p1d_18.k400\".*", index
    )
    told = re.sub(r"<wbr>", "", row)
    for fact in (">r2p1d_18.k400<", ">16x2<", ">112<", ">5x1<", ">31.51<", ">40.52<", ">67.463 "):
        assert fact in told
    assert "Kinetics-400, validation" in told
    assert "BSD-3-Clause" in told
    card = (site / "models" / "r2p1d_18.html").read_text(encoding="utf-8")
    assert "<td>SHA-256 91a641e6</td>" in card
    assert '<h3 id="r2p1d_18.in1k_inflated">' in card


def test_every_link_resolves_and_nothing_is_loaded_from_elsewhere(site, pages):
    assert len(pages) == len(ARCHITECTURES) + 1
    inside = 0
    for path, page in pages.items():
        for link in page.links:
            if link.startswith("https://"):
                continue
            name, _, anchor = link.partition("#")
            target = (path.parent / name).resolve() if name else path
            assert target in pages, f"{path.name}: {link}"
            assert not anchor or anchor in pages[target].anchors, f"{path.name}: {link}"
            inside += 1
        for address in page.loaded:
            assert address == "data:," or (path.parent / address).is_file(), address
    assert inside > len(ROWS)
    for name in ("style.css", "table.js"):
        assert "//" not in re.sub(r"^\s*//.*$", "", (site / name).read_text(), flags=re.MULTILINE)
    assert "url(" not in (site / "style.css").read_text()


def test_what_a_record_says_is_shown_as_text_and_never_run():
    item = dataclasses.replace(
        registry.info("r2p1d_nano"), summary="<script>alert(1)</script> & more", family="<b>"
    )
    for text in site_files([item]).values():
        assert "<script>alert" not in text
        assert "<b>" not in text
    assert (
        "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more"
        in site_files([item])["models/r2p1d_nano.html"]
    )


def test_a_plot_holds_figures_of_one_protocol_only():
    grouped = protocols(ROWS)
    assert len(grouped) > 5
    sizes = [len(figures) for figures in grouped.values()]
    assert sizes == sorted(sizes, reverse=True)
    assert min(sizes) >= 3
    shown = 0
    for protocol, figures in grouped.items():
        for row, value in figures:
            fitting = [m for m in row.top1 if m.value == value and m.dataset == protocol.dataset]
            assert any(
                (m.split, m.level, m.num_clips, m.num_crops)
                == (protocol.split, protocol.level, protocol.num_clips, protocol.num_crops)
                for m in fitting
            )
            shown += 1
    counts = [len(list(row.top1)) for row in ROWS]
    assert shown < sum(counts)


def _points(*pairs):
    return [Point(f"m{k}", f"models/m{k}.html", *pair) for k, pair in enumerate(pairs)]


def test_points_are_best_where_no_other_is_cheaper_and_as_good():
    points = _points((1, 70), (2, 75), (2, 74), (3, 75), (4, 80), (5, 60), (4, 80))
    assert {point.name for point in best_for_their_cost(points)} == {"m0", "m1", "m4", "m6"}


def test_a_plot_puts_each_point_where_its_figures_say():
    points = _points((0.5, 60), (5, 70.5), (50, 65), (500, 81))
    drawn = draw_plot(points, title="a <title>", cost="GFLOPs")
    spots = re.findall(r'<a href="models/m(\d).html".*?cx="([\d.]+)" cy="([\d.]+)"', drawn)
    place = {int(k): (float(x), float(y)) for k, x, y in spots}
    assert sorted(place) == [0, 1, 2, 3]
    # A factor of ten is the same distance everywhere, and so is a percent.
    steps = [place[k + 1][0] - place[k][0] for k in range(3)]
    assert steps == pytest.approx([steps[0]] * 3, abs=0.2)
    percent = (place[0][1] - place[3][1]) / 21
    assert percent > 0
    assert place[0][1] - place[1][1] == pytest.approx(10.5 * percent, abs=0.2)
    assert "a &lt;title&gt;" in drawn
    assert "m2: 65 %, 50 GFLOPs" in drawn
    assert drawn.count('class="best"') == 3
    # Round numbers beside the axes stand where points of those values would.
    (tick,) = re.findall(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="middle">10</text>', drawn)
    between = place[1][0] + 0.30103 * steps[0]
    assert float(tick) == pytest.approx(between, abs=0.2)


def test_a_short_axis_has_marks_at_1_2_and_5():
    drawn = draw_plot([Point("a", "a", 0.9, 70), Point("b", "b", 11, 80)], title="", cost="G")
    marks = re.findall(r'y="386" text-anchor="middle">([^<]+)<', drawn)
    assert marks == ["1", "2", "5", "10"]


def test_names_in_a_plot_do_not_cover_each_other():
    points = _points(*((2 + k % 3, 70 + k / 50) for k in range(300)))
    drawn = draw_plot(points, title="t", cost="c")
    labels = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="(\w+)">m(\d+)</text>', drawn)
    assert 10 < len(labels) < 300
    assert drawn.count("<title>") == 300
    boxes = []
    for x, y, anchor, name in labels:
        width = 6.1 * len(f"m{name}")
        left = float(x) - {"start": 0, "middle": width / 2, "end": width}[anchor]
        boxes.append((left, float(y), left + width))
    for one, other in itertools.combinations(boxes, 2):
        assert abs(one[1] - other[1]) > 10 or one[2] < other[0] or other[2] < one[0]


# Writing.


def files_of(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_site_is_brought_up_to_date_and_keeps_what_is_not_its_own(tmp_path):
    write_site(tmp_path / "s", {"index.html": "1", "models/a.html": "1"})
    (tmp_path / "s" / "CNAME").write_text("zoo.example")
    write_site(tmp_path / "s", {"index.html": "2", "models/b.html": "2"})
    listed = {"videozoo-site.json", "CNAME"}
    assert files_of(tmp_path / "s") == {"index.html", "models/b.html"} | listed
    assert (tmp_path / "s" / "index.html").read_text() == "2"


def test_other_folders_and_files_are_refused(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    with pytest.raises(FileExistsError, match="full' holds files and is no site of the zoo; name"):
        write_site(tmp_path / "full", {"index.html": "1"})
    assert files_of(tmp_path / "full") == {"thesis.tex"}
    with pytest.raises(FileExistsError, match="thesis.tex' is a file; name a folder"):
        write_site(tmp_path / "full" / "thesis.tex", {"index.html": "1"})
    write_site(tmp_path / "s", {"index.html": "1"})
    (tmp_path / "s" / "about.html").write_text("mine")
    with pytest.raises(FileExistsError, match="about.html' is in the way and is not of the site"):
        write_site(tmp_path / "s", {"index.html": "2", "about.html": "2"})
    assert (tmp_path / "s" / "index.html").read_text() == "1"
    assert (tmp_path / "s" / "about.html").read_text() == "mine"


def test_a_list_of_files_cannot_reach_out_of_its_folder(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    write_site(tmp_path / "s", {"index.html": "1"})
    names = ["../mine.txt", str(tmp_path / "mine.txt"), "index.html"]
    (tmp_path / "s" / "videozoo-site.json").write_text(json.dumps(names))
    write_site(tmp_path / "s", {"index.html": "2"})
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_list_of_files_that_cannot_be_read_is_told(tmp_path):
    write_site(tmp_path / "s", {"index.html": "1"})
    (tmp_path / "s" / "videozoo-site.json").write_text("[")
    with pytest.raises(FileExistsError, match=r"site.json' cannot be read .*; remove the folder"):
        write_site(tmp_path / "s", {"index.html": "2"})
    assert (tmp_path / "s" / "index.html").read_text() == "1"


def test_what_costs_nobody_knows_is_in_no_plot():
    (weights,) = registry.info("x3d_s.k400").weights
    items = [
        dataclasses.replace(
            registry.info("x3d_s"),
            name=name,
            weights=(dataclasses.replace(weights, gflops=gflops),),
        )
        for name, gflops in (("one", 1.0), ("two", 2.0), ("unknown", None))
    ]
    index = site_files(items)["index.html"]
    cost, params = re.findall(r"<svg.*?</svg>", index, flags=re.DOTALL)
    assert [text in cost for text in ("one.k400", "two.k400", "unknown.k400")] == [
        True,
        True,
        False,
    ]
    assert "unknown.k400" in params


@pytest.mark.parametrize("fails", range(1, 6))
def test_a_run_that_ends_early_leaves_whole_files_and_is_mended_by_the_next(
    tmp_path, monkeypatch, fails
):
    texts = {"index.html": "2" * 50, "models/a.html": "2" * 50, "models/b.html": "2" * 50}
    write_site(tmp_path / "s", dict.fromkeys(("index.html", "models/c.html"), "1" * 50))
    replace, calls = Path.replace, itertools.count(1)

    def stop(self, target):
        if next(calls) == fails:
            raise OSError(28, "No space left on device")
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stop)
        with pytest.raises(OSError, match="No space left"):
            write_site(tmp_path / "s", texts)
    for name in files_of(tmp_path / "s") - {"videozoo-site.json"}:
        assert (tmp_path / "s" / name).read_text() in ("1" * 50, "2" * 50)
    write_site(tmp_path / "s", texts)
    assert files_of(tmp_path / "s") == {*texts, "videozoo-site.json"}


@pytest.mark.parametrize("file", [False, True])
def test_the_command_writes_the_site_or_says_in_a_sentence_why_not(
    tmp_path, monkeypatch, capsys, file
):
    if file:
        (tmp_path / "site").write_text("")
    monkeypatch.setattr(sys, "argv", ["zoo", "site", str(tmp_path / "site")])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    out, err = capsys.readouterr()
    if file:
        assert (exit_.value.code, out) == (1, "")
        assert err == f"zoo: error: '{tmp_path / 'site'}' is a file; name a folder for the site.\n"
    else:
        assert (exit_.value.code, out, err) == (0, f"{tmp_path / 'site' / 'index.html'}\n", "")


# In a browser.


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not (BROWSER and DRIVER):
        pytest.skip("no Chromium with its chromedriver is installed")
    with browsing(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def index(browser, site):
    browser.open((site / "index.html").as_uri())
    yield browser
    assert browser.log() == []


CHOOSE = """const select = document.getElementById(arguments[0]); select.value = arguments[1];
    select.dispatchEvent(new Event("input")); return select.value"""
SHOWN = """return [...document.querySelectorAll("#zoo tbody tr")]
    .filter((row) => row.offsetHeight > 0).map((row) => row.cells[arguments[0]].innerText)"""


def column(browser, number):
    return browser.run(SHOWN, number)


def sorted_by(browser):
    return browser.run(
        'return [...document.querySelectorAll("#zoo th[aria-sort]")]'
        ".map((h) => [h.cellIndex, h.ariaSort])"
    )


@pytest.mark.slow
@pytest.mark.parametrize("keyboard", [False, True])
def test_a_click_on_a_header_sorts_by_it(index, keyboard):
    assert column(index, 0) == sorted((row.name for row in ROWS), key=natural_key)
    assert sorted_by(index) == [[0, "ascending"]]
    button = "#zoo thead th:nth-child(7) button"
    press = (lambda: index.type(button, ENTER)) if keyboard else (lambda: index.click(button))
    press()
    known = sorted(row.gflops for row in ROWS)
    assert column(index, 6) == [f"{value:.2f}" for value in known]
    assert sorted_by(index) == [[6, "ascending"]]
    press()
    assert column(index, 6) == [f"{value:.2f}" for value in reversed(known)]
    assert sorted_by(index) == [[6, "descending"]]
    index.click("#zoo thead th:nth-child(2) button")
    assert column(index, 1) == sorted(column(index, 1))


def figures_on(dataset):
    """By row the first figure on a data set, of the rows that have one."""
    found = {row.name: [m.value for m in row.top1 if m.dataset == dataset] for row in ROWS}
    return {name: values[0] for name, values in found.items() if values}


@pytest.mark.slow
def test_figures_of_different_data_are_never_sorted_together(index):
    kinetics, something = figures_on("kinetics400"), figures_on("something_something_v2")
    index.click("#zoo thead th:nth-child(8) button")
    names = column(index, 0)
    told = [kinetics[name] for name in names[: len(kinetics)]]
    assert told == sorted(kinetics.values())
    assert not set(names[len(kinetics) :]) & set(kinetics)  # what is not known goes last ...
    index.click("#zoo thead th:nth-child(8) button")
    names = column(index, 0)
    told = [kinetics[name] for name in names[: len(kinetics)]]
    assert told == sorted(kinetics.values(), reverse=True)  # ... both ways
    # Another data set is chosen: its figures sort, though some of its rows have others too.
    index.run(CHOOSE, "filter-datasets", "something_something_v2")
    told = [something[name] for name in column(index, 0)]
    assert told == sorted(something.values(), reverse=True)
    assert sorted_by(index) == [[7, "descending"]]
    index.click("#zoo thead th:nth-child(7) button")
    index.run(CHOOSE, "filter-datasets", "")
    assert column(index, 6) == [f"{value:.2f}" for value in sorted(row.gflops for row in ROWS)]


@pytest.mark.slow
def test_filters_narrow_the_table_together(index):
    index.type("#filter-text", "R2P1D 112")
    wanted = [row.name for row in ROWS if "r2p1d" in row.name and row.img_size == 112]
    assert sorted(column(index, 0)) == sorted(wanted)
    assert index.run("return count.innerText") == f"{len(wanted)} of {len(ROWS)} shown"
    index.run('const f = document.getElementById("filter-text"); f.value = "";')
    assert (
        index.run(CHOOSE, "filter-datasets", "something_something_v2") == "something_something_v2"
    )
    on_ssv2 = {row for row in ROWS if "something_something_v2" in [m.dataset for m in row.top1]}
    assert set(column(index, 0)) == {row.name for row in on_ssv2}
    assert index.run(CHOOSE, "filter-licence", "MIT") == "MIT"
    assert index.run(CHOOSE, "filter-family", "tsm") == "tsm"
    assert column(index, 0) == []
    index.run(CHOOSE, "filter-family", "")
    assert set(column(index, 0)) == {
        row.name for row in on_ssv2 if str(row.weights.licence) == "MIT"
    }


@pytest.mark.slow
def test_one_protocol_is_plotted_at_a_time_and_points_lead_to_models(index):
    seen = """return [...document.querySelectorAll("figure")]
        .filter((f) => f.offsetHeight).map((f) => f.id)"""
    assert index.run(seen) == ["plot-0"]
    index.run('protocol.value = "plot-2"; protocol.dispatchEvent(new Event("change"))')
    assert index.run(seen) == ["plot-2"]
    index.run('document.querySelector("#plot-2 a").dispatchEvent(new MouseEvent("click"))')
    (_row, _), *_ = list(protocols(ROWS).values())[2]
    names = {row.name for row, _ in list(protocols(ROWS).values())[2]}
    place, _, anchor = index.run("return location.href").rpartition("#")
    assert anchor in names
    assert place.endswith(f"models/{anchor.partition('.')[0]}.html")
    assert index.run('return document.querySelector(":target").innerText') == anchor


@pytest.mark.slow
def test_pages_fit_a_phone(site, tmp_path):
    if not (BROWSER and DRIVER):
        pytest.skip("no Chromium with its chromedriver is installed")
    phone = {"deviceMetrics": {"width": 390, "height": 844, "pixelRatio": 2}}
    with browsing(tmp_path / "profile", mobileEmulation=phone) as browser:
        for page in ("index.html", "models/r2p1d_18.html", "models/timesformer_divided.html"):
            browser.open((site / page).as_uri())
            width = browser.run("return [innerWidth, document.documentElement.scrollWidth]")
            assert width == [390, 390], page
        browser.open((site / "index.html").as_uri())
        sizes = browser.run(
            'const cell = document.querySelector("#zoo tbody th");'
            "return [cell.offsetWidth, parseFloat(getComputedStyle(cell).fontSize)]"
        )
        assert sizes[0] < 0.5 * 390  # the names leave room for what is said of them
        assert sizes[1] >= 13
        assert browser.log() == []
