"""`zoo push` and `zoo publish`: weights into repositories of the Hub."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from zoo.commands._console import say

if TYPE_CHECKING:
    from converters.hub_upload import Push
    from zoo.publishing import Published

__all__ = ["publish_", "push_"]


def push_(
    model: Annotated[
        str, typer.Argument(help="Name, name.tag, METHOD:NAME, local-dir:PATH or a folder.")
    ],
    repo: Annotated[str, typer.Option(help="Repository of the Hub, ORG/NAME.")],
    private: Annotated[
        bool, typer.Option("--private", help="A new repository is seen by its owners only.")
    ] = False,
    revision: Annotated[
        str | None, typer.Option(help="Branch to commit to; the main one if left out.")
    ] = None,
    create_pr: Annotated[
        bool, typer.Option("--create-pr", help="Offer the commit as a pull request.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Send nothing; write the files into ./NAME.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write what was sent as JSON.")] = False,
) -> None:
    """Put a model with its card into a repository of the Hub, in one commit."""
    from zoo.publishing import push

    logging.basicConfig(level=logging.WARNING, format="zoo: %(message)s")
    done = push(
        model,
        repo,
        private=private,
        revision=revision,
        create_pr=create_pr,
        dry_run=dry_run,
    )
    if as_json:
        sys.stdout.write(json.dumps(asdict(done), indent=1) + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in _sent_lines(done))
    where = f"{done.repo_id}@{done.revision}" if done.revision else done.repo_id
    if not done.changes:
        say(f"'{where}' has all of it already; nothing is sent.")
    elif dry_run:
        new = ", a new repository" if done.is_new else ""
        say(f"nothing is sent; this, in '{done.folder}', would go to '{where}'{new}.")
    else:
        say(f"sent to '{where}': {done.url}")


def publish_(
    org: Annotated[str, typer.Option(help="Organisation or user on the Hub.")],
    pattern: Annotated[
        str, typer.Argument(help="Part of a name, or a whole name with * and ?; all if left out.")
    ] = "",
    private: Annotated[
        bool, typer.Option("--private", help="New repositories are seen by their owners only.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Fetch and send nothing; say what would be done.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write the table as JSON.")] = False,
) -> None:
    """Put the zoo's weights into repositories ORG/NAME.TAG; goes on where it was stopped."""
    from zoo.publishing import iter_published, names_to_publish

    total = len(names_to_publish(org, pattern))
    rows = []
    try:
        for row in iter_published(org, pattern, private=private, dry_run=dry_run):
            rows.append(row)
            say(f"[{len(rows)}/{total}] {row.name}: {row.status}{_reason(row)}")
    except KeyboardInterrupt:
        say(f"interrupted: {len(rows)} of {total} were done; the same command goes on from here.")
        _write_table(rows, as_json=as_json)
        raise typer.Exit(130) from None
    _write_table(rows, as_json=as_json)
    failed = [row for row in rows if row.status == "failed"]
    if failed:
        say(f"{len(failed)} of {total} failed; the same command tries these again.")
        raise typer.Exit(1)


def _sent_lines(done: Push) -> list[str]:
    return [
        *(f"send    {name}  {size:,} bytes" for name, size in done.sent.items()),
        *(f"remove  {name}" for name in done.removed),
        *(f"keep    {name}" for name in done.kept),
    ]


def _reason(row: Published) -> str:
    return f" ({row.detail})" if row.detail else ""


def _write_table(rows: list[Published], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
        return
    columns = [(row.repo_id, row.status, row.detail) for row in rows]
    widths = [max((len(row[place]) for row in columns), default=0) for place in (0, 1)]
    for repo_id, status, detail in columns:
        sys.stdout.write(f"{repo_id:<{widths[0]}}  {status:<{widths[1]}}  {detail}".rstrip() + "\n")
