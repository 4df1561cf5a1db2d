"""Which of timm's architectures each lifting method covers, proved on a still clip.

python benchmarks/lift_coverage.py --out build/coverage.jsonl
    measures, and goes on where it left off
python benchmarks/lift_coverage.py --out build/coverage.jsonl --table benchmarks/lift_coverage.md
    writes the table

Every architecture is built with scrambled weights (noise on every parameter, BatchNorm statistics
from a pass on noise) and lifted by every method; a still clip of four frames must give the
picture's logits to 1e-4 of the largest, and another picture must give logits that differ by 1 %,
else nothing is proved. Architectures above `--largest` million parameters are checked with the
one of the same file and class that is most alike by name, and say so.

What a method should cover is told by timm's own modules and not by what lifting finds in them:

- `i3d:`, `r2p1d:`: any `nn.Conv2d` has a kernel larger than its stride.
- `divided:`, `factorised:`, `joint:`: any module's class is named as self-attention (`ATTENTION`)
  and is not listed as something else (`NO_SELF_ATTENTION`); a class that is new in timm counts.
- `tsm:`: a convolution as for i3d, and no self-attention, whether or not there are residual blocks.
"""

from __future__ import annotations

import argparse
import collections
import copy
import csv
import itertools
import json
import re
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from registry.names import LIFTING
from zoo.lifting import LiftedModel, RefusedError, inflate

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from scrambling import scramble

FRAMES = 4
TOLERANCE = 1e-4
SIDES = (64, 96, 112, 128)
BATCH = 8  # pictures for the statistics of BatchNorm, which two pictures at 1x1 would leave near 0
ATTENTION = re.compile(r"Att|XCA|GPSA|MHSA|MHA|SHSA|SHMA|MLA|Lambda")
# Gates on channels or places, pooling, and what asks with other tokens than it answers.
NO_SELF_ATTENTION = (
    *("SelectiveKernelAttn", "SplitAttn", "ChannelAttn", "LightChannelAttn", "SpatialAttn"),
    *("LightSpatialAttn", "CoordAttn", "SimpleCoordAttn", "EfficientLocalAttn", "StripAttn"),
    *("AttentionPoolLatent", "AttentionPoolPrr", "AttentionPool2d", "RotAttentionPool2d"),
    *("ClassAttn", "ClassAttention", "ClassAttentionBlock", "LayerScaleBlockClassAttn"),
    *("CrossAttention", "CrossAttentionBlock", "AttentionDownsample", "Attention2dDownsample"),
)


def logits(output: Any) -> Tensor:
    """The logits of an image model, of whatever form (N, K)."""
    return output[0] if isinstance(output, (tuple, list)) else output


def build(name: str) -> tuple[nn.Module, int]:
    """An architecture with scrambled weights, at the smallest side of pictures that it takes.

    The layers are the same at every size; small pictures let all of timm be measured.
    """
    for side in SIDES:
        for arguments in ({"img_size": side}, {}):
            try:
                torch.manual_seed(0)
                image = timm.create_model(name, **arguments)
                scramble(image, torch.zeros(BATCH, 3, side, side))
                with torch.no_grad():
                    image(torch.zeros(1, 3, side, side))
            except Exception:  # noqa: BLE001, S112 -- this size is not for this model
                continue
            return image, side
    torch.manual_seed(0)
    image = timm.create_model(name)
    side = image.pretrained_cfg["input_size"][-1]
    return scramble(image, torch.zeros(BATCH, 3, side, side)), side


def measure(name: str) -> dict[str, Any]:
    """What each method makes of one architecture."""
    row: dict[str, Any] = {"name": name}
    try:
        image, side = build(name)
        row |= {"side": side, "convolutional": has_wide_convolution(image)}
        row["attention"] = attention_classes(image)
        row["patch_convolutions"] = has_patch_convolution(image)
        pictures = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
        row["listens"] = listens(image, pictures)
    except Exception as error:  # noqa: BLE001 -- one model's failure is a result of this script
        return row | {"unusable": f"{type(error).__name__}: {str(error)[:160]}"}
    for method in LIFTING:
        result = lift(image, method, pictures[:1])
        # Rounding, or a wrong answer? An overflow, or no answer? Doubles tell.
        if result.startswith(("wrong", "deaf")):
            result = lift(copy.deepcopy(image).double(), method, pictures[:1].double())
            result += " in float64"
        row[method] = result
    return row


@torch.no_grad()
def listens(image: nn.Module, pictures: Tensor) -> float:
    """How much two pictures differ, weights made larger until it is enough or they are too many."""
    for _ in range(8):
        want, other = logits(image(pictures))
        found = relative(other, want)
        if not found < 0.01:
            break
        for parameter in image.parameters():
            if parameter.ndim > 1:
                parameter.mul_(1.2)
    return found


def attention_classes(image: nn.Module) -> list[str]:
    """The classes of self-attention in a model, as timm names them."""
    kinds = {type(module).__name__ for module in image.modules()}
    return sorted(kind for kind in kinds - {*NO_SELF_ATTENTION} if ATTENTION.search(kind))


def lift(image: nn.Module, method: str, picture: Tensor) -> str:
    """`exact E`, `wrong E`, `refused REASON` or `failed REASON`."""
    clip = picture[:, :, None].expand(-1, -1, FRAMES, -1, -1)
    try:
        model = inflate(copy.deepcopy(image), method=method, num_frames=FRAMES).eval()
        with torch.no_grad():
            error = relative(model(clip)[0], logits(image(picture))[0])
            heard = hears_order(model, clip)
    except RefusedError as error_:
        reason = str(error_).partition(": ")[2].partition(": ")[2].partition(" These")[0]
        return f"refused {reason or error_}"
    except Exception as error_:  # noqa: BLE001
        return f"failed {type(error_).__name__}: {str(error_)[:200]}"
    if method != "framepool" and not heard >= TOLERANCE:
        return f"deaf to the order of frames once its new parameters have noise, {heard:.1e}"
    return f"{'exact' if error < TOLERANCE else 'wrong'} {error:.1e}"


def hears_order(model: LiftedModel, clip: Tensor) -> float:
    """What another order of frames changes once the new parameters have noise."""
    rng = torch.Generator().manual_seed(2)
    for name in model.new_parameters:
        weight = model.get_parameter(name)
        spread = 0.3 if "embed" in name or weight.ndim == 1 else weight[0].numel() ** -0.5
        spread *= 0.3 if weight.ndim > 2 and "embed" not in name else 1
        weight += spread * torch.randn(weight.shape, generator=rng).to(weight)
    frames = clip + torch.randn(clip.shape, generator=rng).to(clip)
    return relative(model(frames[:, :, [2, 0, 3, 1]]), model(frames))


def relative(found: Tensor, want: Tensor) -> float:
    """The largest difference as a part of the largest value."""
    return ((found - want).abs().max() / want.abs().max()).item()


def has_wide_convolution(image: nn.Module) -> bool:
    """Whether any convolution's kernel is larger than its stride."""
    return any(
        isinstance(m, nn.Conv2d)
        and any(k > s for k, s in zip(m.kernel_size, m.stride, strict=True))
        for m in image.modules()
    )


def has_patch_convolution(image: nn.Module) -> bool:
    """Whether any convolution cuts patches, its kernel as large as its stride."""
    return any(
        isinstance(m, nn.Conv2d) and m.kernel_size == m.stride and m.kernel_size[0] > 1
        for m in image.modules()
    )


def facts_of_all() -> dict[str, Any]:
    """File, class and million parameters of each architecture."""
    facts = {}
    for name in timm.list_models():
        with torch.device("meta"):
            model = timm.create_model(name)
        params = sum(p.numel() for p in model.parameters()) / 1e6
        facts[name] = [type(model).__module__, type(model).__name__, round(params, 2)]
    return facts


def family(name: str) -> str:
    """The letters that a name begins with: `resnet` of `resnet50_gn`."""
    return re.split("[^a-z]", name)[0]


def in_order(facts: dict[str, Any], largest: float) -> list[str]:
    """What is measured: the smallest of each class and family, then the others by size."""
    small = sorted(facts, key=lambda name: facts[name][2])
    first: dict[tuple[str, ...], str] = {}
    for name in small:
        first.setdefault((*facts[name][:2], family(name)), name)
    rest = [name for name in small if facts[name][2] <= largest]
    ahead = [name for name in first.values() if name in rest]
    return list(dict.fromkeys([*ahead, *rest, *first.values()]))


def sibling(name: str, facts: dict[str, Any], measured: set[str]) -> str | None:
    """The architecture itself if it was measured, else the one of its class most alike by name.

    Of those that begin alike for as many letters, the largest.
    """
    if name in measured:
        return name
    kin = [other for other in measured if facts[other][:2] == facts[name][:2]]
    alike = {
        other: sum(
            1
            for _ in itertools.takewhile(lambda ab: ab[0] == ab[1], zip(name, other, strict=False))
        )
        for other in kin
    }
    return max(kin, key=lambda other: (alike[other], facts[other][2]), default=None)


def main() -> None:
    """Measure what is missing, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--largest", type=float, default=40.0, help="million parameters")
    parser.add_argument("--part", default="0/1", help="this process's share, such as 0/2")
    parser.add_argument("--only", default="", help="an expression that names must match")
    parser.add_argument("--table", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    plan = arguments.out.with_suffix(".plan.json")
    if not plan.is_file():
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        plan.write_text(json.dumps(facts_of_all(), indent=1))
    facts = json.loads(plan.read_text())
    if arguments.table:
        write_table(arguments.out, facts, arguments.table)
        return
    done = {json.loads(line)["name"] for line in lines(arguments.out)}
    share, of = map(int, arguments.part.split("/"))
    torch.set_num_threads(1)
    for name in in_order(facts, arguments.largest)[share::of]:
        if name in done or not re.search(arguments.only, name):
            continue
        started = time.perf_counter()
        try:
            row = measure(name)
        except Exception as error:  # noqa: BLE001
            row = {"name": name, "unusable": f"{type(error).__name__}: {str(error)[:160]}"}
        row["seconds"] = round(time.perf_counter() - started, 1)
        with arguments.out.open("a") as file:
            file.write(json.dumps(row) + "\n")


def lines(path: Path) -> list[str]:
    """The lines of a file, if there is one."""
    return path.read_text().splitlines() if path.is_file() else []


def write_table(out: Path, facts: dict[str, Any], table: Path) -> None:
    """Sum up per method, give every reason, and beside it every architecture's results as CSV."""
    rows = {row["name"]: row for row in map(json.loads, lines(out))}
    plan = {name: sibling(name, facts, set(rows)) or "" for name in sorted(facts)}
    reasons: dict[tuple[str, str, bool], list[str]] = collections.defaultdict(list)
    summary, columns = [], []
    for method in LIFTING:
        count: collections.Counter[str] = collections.Counter()
        inside = covered = 0
        column = []
        for name, measured in plan.items():
            row = rows.get(measured, {"unusable": "nothing of its class was measured"})
            word, rest = verdict(row, method)
            scope = in_scope(method, row)
            count[word] += 1
            inside += scope
            covered += scope and word == "exact"
            if word != "exact":
                reasons[method, f"{word}: {rest}", scope].append(name)
            column.append(f"{word} {rest}" if word == "exact" else f"{word}: {rest}")
        columns.append(column)
        summary.append(
            f"| `{method}:` | {count['exact']} | {count['wrong']} | {count['deaf']} "
            f"| {count['refused']} | {count['failed']} | {count['not measured']} "
            f"| {covered} of {inside}, {covered / inside:.1%} |"
        )
    only_patches = sum(
        bool(rows.get(m, {}).get("patch_convolutions")) and not rows.get(m, {}).get("convolutional")
        for m in plan.values()
    )
    text = [*heading(rows, plan, table), *summary, ""]
    text += [f"Architectures whose only larger convolutions cut patches: {only_patches}.", ""]
    numbers: dict[str, int] = {}
    for scoped, title in ((True, "In scope and not covered"), (False, "Out of scope and refused")):
        text += [f"## {title}", ""]
        for (method, reason, inside_scope), names in sorted(reasons.items()):
            if inside_scope != scoped:
                continue
            most = 1000 if method != "joint" and scoped else 12
            more = f" and {len(names) - most} more" if len(names) > most else ""
            number = numbers.setdefault(reason, len(numbers) + 1)
            text.append(
                f"- {number}. `{method}:` {reason} ({len(names)}): {', '.join(names[:most])}{more}"
            )
        text.append("")
    table.write_text("\n".join(text).rstrip() + "\n")
    with table.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["architecture", "measured", *LIFTING])
        cells = [[short(cell, numbers) for cell in column] for column in columns]
        writer.writerows(zip(plan, plan.values(), *cells, strict=True))


def short(cell: str, numbers: dict[str, int]) -> str:
    """A result as the CSV has it: an error, or the number of its reason in the table."""
    return f"{cell.partition(':')[0]} {numbers[cell]}" if cell in numbers else cell


def verdict(row: dict[str, Any], method: str) -> tuple[str, str]:
    """One word on a method, and the error or the reason."""
    if "unusable" in row:
        return "not measured", row["unusable"]
    word, _, rest = str(row[method]).partition(" ")
    if word == "exact" and not row["listens"] >= 0.01:
        return "deaf", "pictures do not differ"
    return word, rest


def heading(rows: dict[str, Any], plan: dict[str, str], table: Path) -> list[str]:
    """What was measured, what each method should cover, and the head of the table."""
    counted = sorted({kind for row in rows.values() for kind in row.get("attention", ())})
    return [
        "# What lifting covers",
        "",
        f"Written by `benchmarks/lift_coverage.py` with timm {timm.__version__} and torch "
        f"{torch.__version__}: {len(plan)} architectures, {len(rows)} of them built and measured "
        f"with scrambled weights at small pictures, {len(plan) - len(rows)} counted as the "
        f"measured one of the same file and class whose name is most alike. Exact: a still clip of "
        f"{FRAMES} frames deviates by less than {TOLERANCE:.0e} of the largest logit, and another "
        f"order of frames changes the answer once the new parameters have noise; deaf: it does "
        f"not. Every architecture's results are in `{table.with_suffix('.csv').name}`, reasons by "
        f"their numbers here.",
        "",
        "In scope of `i3d:` and `r2p1d:` is what has a convolution with a kernel larger than its "
        "stride; of `tsm:` what has such a convolution and no self-attention; of `divided:`, "
        "`joint:` and `factorised:` what has a module of one of timm's classes of self-attention: "
        f"{', '.join(counted)}. Not counted: {', '.join(NO_SELF_ATTENTION)}.",
        "",
        "| method | exact | wrong | deaf | refused | failed | not measured | of its scope |",
        "|---|---|---|---|---|---|---|---|",
    ]


def in_scope(method: str, row: dict[str, Any]) -> bool:
    """Whether a method is meant for an architecture."""
    if method == "framepool":
        return True
    if method in ("i3d", "r2p1d"):
        return bool(row.get("convolutional"))
    if method == "tsm":
        return bool(row.get("convolutional")) and not row.get("attention")
    return bool(row.get("attention"))


if __name__ == "__main__":
    main()
