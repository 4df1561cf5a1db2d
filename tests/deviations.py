"""How far each proof of a conversion is off, and the figures of `MODEL_CARDS/deviations.csv`.

`pytest --write-deviations TESTS` writes the figures of the proofs among those tests; without it,
each proof is compared with its figure.
"""

import csv
import re
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]
PATH = ROOT / "MODEL_CARDS" / "deviations.csv"
COLUMNS = ("proof", "deviation", "versions")

# Kernels differ between processors and threads, and the rounding of float32 with them.
SLACK, FLOOR = 5.0, 1e-6
PEERS = {
    "torchvision": "torchvision",
    "pytorchvideo": "pytorchvideo",
    "transformers": "transformers",
    "hiera": "hiera-transformer",
}

_seen = []


def note(error):
    """Remember a deviation that the running test measured."""
    _seen.append(float(error.detach()))


def take():
    """The largest deviation since the last call, or None."""
    largest = max(_seen, default=None)
    _seen.clear()
    return largest


def proofs():
    """The proofs that `MODEL_CARDS/checkpoints.csv` names."""
    with (PATH.parent / "checkpoints.csv").open(encoding="utf-8", newline="") as file:
        return {row["proof"] for row in csv.DictReader(file) if row["proof"]}


def figures():
    """The figures on record by proof."""
    with PATH.open(encoding="utf-8", newline="") as file:
        return {row["proof"]: float(row["deviation"]) for row in csv.DictReader(file)}


def proof_of(test, known):
    """The proof that a test is, or one of its cases is; None for other tests."""
    return next((name for name in (test, test.partition("[")[0]) if name in known), None)


def compare(proof, found, known):
    """Refuse a deviation that is larger than the one on record."""
    assert proof in known, f"{proof} has no figure; write it with pytest --write-deviations."
    assert found <= max(SLACK * known[proof], FLOOR), (
        f"{proof} deviates by {found:.1e} where {known[proof]:.1e} is on record; mend the "
        f"conversion, or write the figure anew with pytest --write-deviations."
    )


def write(found):
    """Put new figures, by proof, among those on record."""
    rows = {}
    if PATH.is_file():
        with PATH.open(encoding="utf-8", newline="") as file:
            rows = {row["proof"]: row for row in csv.DictReader(file)}
    for proof, deviation in found.items():
        rows[proof] = {
            "proof": proof,
            "deviation": f"{deviation:.1e}",
            "versions": _versions(proof),
        }
    with PATH.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[proof] for proof in sorted(rows))


def _versions(proof):
    """The libraries that the test's file imports or asks `beside` for, with their versions."""
    source = (ROOT / proof.partition("::")[0]).read_text(encoding="utf-8")
    used = [
        name
        for name in PEERS
        if re.search(rf"^\s*(from|import) {name}\b|\bbeside\(\"{name}\"", source, re.MULTILINE)
    ]
    names = ["torch", *(PEERS[name] for name in used)]
    return ", ".join(f"{name} {version(name).partition('+')[0]}" for name in names)
