"""The figures of the proofs are compared, and none is missing."""

import deviations
import pytest
import torch
from scrambling import assert_close


def test_each_proof_has_a_figure_and_each_figure_a_proof():
    assert deviations.figures().keys() == deviations.proofs()


def test_a_larger_deviation_than_the_one_on_record_is_refused():
    deviations.compare("t", 4e-6, {"t": 1e-6})
    deviations.compare("t", 9e-7, {"t": 0.0})
    with pytest.raises(AssertionError, match=r"t deviates by 6\.0e-06 where 1\.0e-06 is on record"):
        deviations.compare("t", 6e-6, {"t": 1e-6})
    with pytest.raises(AssertionError, match="has no figure"):
        deviations.compare("t", 0.0, {})


def test_what_a_test_compares_is_what_is_noted():
    wanted = torch.tensor([1.0, -2.0])
    assert_close(wanted + torch.tensor([0.0, 1e-5]), wanted)
    assert_close(wanted, wanted)
    assert deviations.take() == pytest.approx(0.5e-5, rel=0.05)
    assert deviations.take() is None


@pytest.mark.parametrize(
    ("test", "proof"),
    [("a.py::t[x]", "a.py::t[x]"), ("a.py::u[x]", "a.py::u"), ("a.py::t[y]", None)],
)
def test_a_case_counts_for_its_proof(test, proof):
    assert deviations.proof_of(test, {"a.py::t[x]", "a.py::u"}) == proof


def test_figures_are_written_beside_those_on_record(tmp_path, monkeypatch):
    path = tmp_path / "deviations.csv"
    monkeypatch.setattr(deviations, "PATH", path)
    deviations.write({"tests/test_deviations.py::b": 2e-7})
    deviations.write({"tests/test_deviations.py::a": 1.234e-6, "tests/test_deviations.py::b": 0.0})
    assert path.read_text().splitlines() == [
        "proof,deviation,versions",
        f"tests/test_deviations.py::a,1.2e-06,torch {torch.__version__.partition('+')[0]}",
        f"tests/test_deviations.py::b,0.0e+00,torch {torch.__version__.partition('+')[0]}",
    ]
    assert deviations.figures()["tests/test_deviations.py::a"] == 1.2e-6
