"""`zoo pull`, `zoo mirror` and `zoo cache`: weights onto this machine, and off it again."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo.commands._console import say

if TYPE_CHECKING:
    from zoo.cache import Cached
    from zoo.mirroring import Mirrored

__all__ = ["cache_", "mirror_", "pull_"]

cache_ = typer.Typer(help="What the zoo keeps on this disk.", no_args_is_help=True)

_PATTERN = typer.Argument(help="Part of a name, or a whole name with * and ?; all if left out.")
_JSON = typer.Option("--json", help="Write records as JSON.")


def pull_(
    name: Annotated[
        str, typer.Argument(help="NAME, NAME.TAG or hf-hub:ORG/NAME, maybe with @REVISION.")
    ],
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Fetch weights, check them, and write where they lie."""
    from zoo.mirroring import pull

    done = pull(name)
    if as_json:
        sys.stdout.write(json.dumps(asdict(done), default=str) + "\n")
    else:
        sys.stdout.write(f"{done.path}\n")
    say(f"{done.name} is on this machine, {_human(done.size_bytes)}.")


def mirror_(
    folder: Annotated[Path, typer.Argument(help="Folder that will hold NAME.TAG/ for each.")],
    pattern: Annotated[str, _PATTERN] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Write the table as JSON.")] = False,
) -> None:
    """Fill a folder that serves as a hub without network; goes on where it was stopped."""
    from zoo.mirroring import iter_mirrored, names_to_mirror

    names = names_to_mirror(pattern)
    rows: list[Mirrored] = []
    try:
        for row in iter_mirrored(folder, names):
            rows.append(row)
            reason = f" ({row.detail})" if row.status == "failed" else ""
            say(f"[{len(rows)}/{len(names)}] {row.name}: {row.status}{reason}")
    except KeyboardInterrupt:
        say(f"interrupted: {len(rows)} of {len(names)} were done; the same command goes on.")
        _write_mirrored(rows, as_json=as_json)
        raise typer.Exit(130) from None
    _write_mirrored(rows, as_json=as_json)
    failed = sum(row.status == "failed" for row in rows)
    if failed:
        say(f"{failed} of {len(names)} failed; the same command tries these again.")
        raise typer.Exit(1)
    say(f"with ZOO_HUB={folder.resolve()} weights are taken from there first.")


@cache_.command("list")
def list_(pattern: Annotated[str, _PATTERN] = "", as_json: Annotated[bool, _JSON] = False) -> None:
    """List converted weights and fetched repositories, one a line."""
    from zoo.cache import list_cached

    items = list_cached(pattern)
    if as_json:
        sys.stdout.write(json.dumps([asdict(item) for item in items], default=str, indent=1) + "\n")
    else:
        _write_columns([(i.name, _human(i.size_bytes), str(i.path)) for i in items])
    if not items:
        say(f"nothing in the cache is called like {pattern!r}." if pattern else "it is empty.")


@cache_.command("size")
def size_(pattern: Annotated[str, _PATTERN] = "", as_json: Annotated[bool, _JSON] = False) -> None:
    """Tell how much room they take."""
    from zoo.cache import list_cached

    items = list_cached(pattern)
    total = sum(item.size_bytes for item in items)
    if as_json:
        sys.stdout.write(json.dumps({"items": len(items), "size_bytes": total}) + "\n")
    else:
        sys.stdout.write(f"{_human(total)}\n")


@cache_.command("rm")
def rm_(
    pattern: Annotated[str, _PATTERN] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write what is gone as JSON.")] = False,
) -> None:
    """Delete what fits the pattern, once it was agreed to."""
    from zoo.cache import list_cached, remove_cached

    items = list_cached(pattern)
    if not items:
        raise LookupError(f"Nothing in the cache is called like {pattern!r}; see `zoo cache list`.")
    if not yes and not _agreed(items):
        raise typer.Exit(1)
    freed = remove_cached(items)
    if as_json:
        sys.stdout.write(json.dumps([asdict(item) for item in items], default=str, indent=1) + "\n")
    else:
        sys.stdout.writelines(f"{item.name}\n" for item in items)
    say(f"{len(items)} deleted, {_human(freed)} are free.")


def _agreed(items: Sequence[Cached]) -> bool:
    """Whether the person at the terminal wants these deleted."""
    if not sys.stdin.isatty():
        raise ValueError(
            f"{len(items)} would be deleted, and there is nobody to ask; give --yes if they shall."
        )
    for item in items:
        say(f"{item.name}, {_human(item.size_bytes)}")
    sys.stderr.write(f"Delete these {len(items)}? [y/N] ")
    sys.stderr.flush()  # typer.confirm writes a part of the question to stdout, which is for data
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _write_mirrored(rows: Sequence[Mirrored], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    else:
        _write_columns([(row.name, row.status, row.detail) for row in rows])


def _write_columns(rows: Sequence[tuple[str, str, str]]) -> None:
    widths = [max((len(row[place]) for row in rows), default=0) for place in (0, 1)]
    for first, second, third in rows:
        sys.stdout.write(f"{first:<{widths[0]}}  {second:<{widths[1]}}  {third}\n")


def _human(size_bytes: int) -> str:
    """Bytes as a person reads them, in powers of ten."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
