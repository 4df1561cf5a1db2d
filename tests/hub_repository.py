"""What the Hub of the tests keeps: repositories, commits, contents and tokens; no HTTP here."""

import hashlib
import json
import re
import threading
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch
from pathlib import PurePosixPath

WRITER = "hf_writer"
READER = "hf_reader"
EXPIRED = "hf_expired"
STRANGER = "hf_stranger"

# A new repository comes with this file; what it names is kept outside of git, as is what is long.
ATTRIBUTES = "".join(
    f"{pattern} filter=lfs diff=lfs merge=lfs -text\n"
    for pattern in ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.onnx", "*.npz", "*.zip")
).encode()
LARGE = 10 * 2**20


class Refusal(Exception):
    """An answer that is an error, with the status, code and sentence of the real Hub."""

    def __init__(self, status, message, code=None, *, body=None, **headers):
        super().__init__(message)
        self.status, self.message, self.code = status, message, code
        self.body, self.headers = body or {}, headers


@dataclass(frozen=True)
class Token:
    """Who asks, and what they may do."""

    user: str
    namespaces: tuple[str, ...]
    writes: bool = True
    expired: bool = False


@dataclass(frozen=True)
class Entry:
    """A file of a commit: `oid` is git's, of the content or of the pointer to a large one."""

    oid: str
    size: int
    sha256: str
    large: bool

    def describe(self, path):
        """The file as a listing gives it."""
        listed = {"type": "file", "path": path, "size": self.size, "oid": self.oid}
        if self.large:
            pointer = len(_pointer(self.sha256, self.size))
            listed["lfs"] = {"oid": self.sha256, "size": self.size, "pointerSize": pointer}
        return listed


@dataclass(frozen=True)
class Commit:
    parent: str | None
    title: str
    author: str
    date: str
    files: dict[str, Entry] = field(hash=False)

    @property
    def oid(self):
        return hashlib.sha1(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def _git_hash(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _pointer(sha256, size):
    version = "version https://git-lfs.github.com/spec/v1"
    return f"{version}\noid sha256:{sha256}\nsize {size}\n".encode()


class Contents:
    """Contents by SHA-256, in files of a folder."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def __contains__(self, sha256):
        return (self.folder / sha256).is_file()

    def add(self, content):
        sha256 = hashlib.sha256(content).hexdigest()
        (self.folder / sha256).write_bytes(content)
        return sha256

    def read(self, sha256):
        return (self.folder / sha256).read_bytes()

    def entry(self, sha256, *, large):
        content = self.read(sha256)
        stored = _pointer(sha256, len(content)) if large else content
        return Entry(_git_hash(stored), len(content), sha256, large)


class Repository:
    def __init__(self, contents, repo_id, *, private=False):
        self.id, self.contents, self.private, self.gated = repo_id, contents, private, False
        self.commits, self.branches, self.tags, self.pulls = {}, {}, {}, {}
        files = {".gitattributes": contents.entry(contents.add(ATTRIBUTES), large=False)}
        self._keep("main", files, "initial commit", self.namespace, None)

    @property
    def namespace(self):
        return self.id.partition("/")[0]

    def find(self, revision):
        """The commit of a branch, tag, pull request, or whole or short hash."""
        refs = self.branches | self.tags | {f"refs/pr/{n}": oid for n, oid in self.pulls.items()}
        refs |= {f"refs/heads/{name}": oid for name, oid in self.branches.items()}
        if revision in refs:
            return self.commits[refs[revision]]
        if re.fullmatch("[0-9a-f]{7,40}", revision):
            for oid, commit in self.commits.items():
                if oid.startswith(revision):
                    return commit
        raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def entry(self, revision, path):
        commit = self.find(revision)
        if path not in commit.files:
            headers = {"X-Repo-Commit": commit.oid}
            raise Refusal(404, "Entry not found", "EntryNotFound", **headers)
        return commit, commit.files[path]

    def tree(self, revision, folder="", *, recursive=False, expand=False):
        """Files and folders below a folder, as a listing gives them."""
        commit, prefix = self.find(revision), f"{folder}/" if folder else ""
        below = {path: entry for path, entry in commit.files.items() if path.startswith(prefix)}
        if folder and not below:
            raise Refusal(404, f"{folder} does not exist on {revision!r}", "EntryNotFound")
        listed = {}
        for path, entry in sorted(below.items()):
            inner = path[len(prefix) :].split("/")
            for depth in range(1, len(inner) if recursive else min(2, len(inner))):
                at = prefix + "/".join(inner[:depth])
                listed[at] = {"type": "directory", "path": at, "size": 0, "oid": _git_hash(b"")}
            if recursive or len(inner) == 1:
                listed[path] = entry.describe(path)
        return [self._with_commit(item, commit, expand) for item in listed.values()]

    def paths(self, revision, paths, *, expand=False):
        """Those of some paths that are there, as a listing gives them."""
        listed = {item["path"]: item for item in self.tree(revision, recursive=True, expand=expand)}
        return [listed[path] for path in paths if path in listed]

    def is_large(self, path, size):
        patterns = re.findall(r"^(\S+) filter=lfs", self._attributes(), re.MULTILINE)
        name = PurePosixPath(path).name
        return size > LARGE or any(fnmatch(name, pattern) for pattern in patterns)

    def commit(self, changes, *, title, author, revision="main", parent=None, pull=False):
        """Add a commit to a branch or pull request.

        Args:
            changes: Entry by path; None removes a file, or all files below a path that ends in /.
            parent: The commit that the author saw; a later one is a conflict.
            pull: Whether to open a pull request instead.

        Returns:
            The commit's hash, and the number of the pull request.
        """
        seen = self.find(revision)
        if parent is not None and not seen.oid.startswith(parent):
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        known = self.branches | {f"refs/pr/{n}": oid for n, oid in self.pulls.items()}
        if revision not in known:
            raise Refusal(400, f"Commits go to a branch, and {revision!r} is none.")
        files = dict(seen.files)
        for path, entry in changes.items():
            gone = [at for at in files if at == path or (path[-1] == "/" and at.startswith(path))]
            if entry is None and not gone:
                raise Refusal(404, "A file with this name doesn't exist", "EntryNotFound")
            for at in gone:
                del files[at]
            if entry is not None:
                files[path] = entry
        name = f"refs/pr/{len(self.pulls) + 1}" if pull else revision
        return self._keep(name, files, title, author, seen.oid), len(self.pulls) if pull else None

    def refs(self, *, pulls):
        groups = {"branches": self.branches, "tags": self.tags}
        named = {
            group: [
                {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": oid}
                for name, oid in refs.items()
            ]
            for (group, refs), kind in zip(groups.items(), ("heads", "tags"), strict=True)
        }
        asked = [
            {"name": f"refs/pr/{n}", "ref": f"refs/pr/{n}", "targetCommit": oid}
            for n, oid in self.pulls.items()
        ]
        return {**named, "converts": [], **({"pullRequests": asked} if pulls else {})}

    def history(self, revision):
        commit = self.find(revision)
        while commit is not None:
            yield commit
            commit = self.commits.get(commit.parent)

    def _keep(self, name, files, title, author, parent):
        # The number of commits stands for the clock, so that the same history has the same hashes.
        date = f"2026-01-01T00:{len(self.commits) // 60:02}:{len(self.commits) % 60:02}.000Z"
        commit = Commit(parent, title, author, date, files)
        self.commits[commit.oid] = commit
        if name.startswith("refs/pr/"):
            self.pulls[int(name.rpartition("/")[2])] = commit.oid
        else:
            self.branches[name] = commit.oid
        return commit.oid

    def _attributes(self):
        entry = self.find("main").files.get(".gitattributes")
        return self.contents.read(entry.sha256).decode() if entry else ""

    def _with_commit(self, item, commit, expand):
        if not expand:
            return item
        last = {"id": commit.oid, "title": commit.title, "date": commit.date}
        return item | {"lastCommit": last}


class Storage:
    """All repositories, and who may see and change them."""

    def __init__(self, folder):
        self.contents, self.repositories = Contents(folder), {}
        self.lock = threading.RLock()
        mine = ("tester", "org")
        self.tokens = {
            WRITER: Token("tester", mine),
            READER: Token("tester", mine, writes=False),
            EXPIRED: Token("tester", mine, expired=True),
            STRANGER: Token("stranger", ("stranger",)),
        }

    def identify(self, authorization):
        """The token of a request, or None without one."""
        if not authorization:
            return None
        token = self.tokens.get(authorization.removeprefix("Bearer "))
        if token is None:
            raise Refusal(401, "Invalid credentials in Authorization header")
        if token.expired:
            raise Refusal(401, 'User Access Token "laptop" is expired')
        return token

    def readable(self, repo_id, token, *, contents=False):
        """A repository, where the asker may know of it, and read its contents."""
        repository = self.repositories.get(repo_id)
        mine = token is not None and repo_id.partition("/")[0] in token.namespaces
        if repository is None or (repository.private and not mine):
            if token is None:
                raise Refusal(401, "Invalid username or password.")
            raise Refusal(404, "Repository not found", "RepoNotFound")
        if contents and repository.gated and not mine:
            who = "be authenticated" if token is None else "be in the authorized list"
            message = f"Access to model {repo_id} is restricted. You must {who} to access it."
            raise Refusal(401 if token is None else 403, message, "GatedRepo")
        return repository

    def writable(self, repo_id, token, *, pull=False):
        """A repository that the asker may change, or open a pull request in."""
        repository = self.readable(repo_id, token)
        if not pull or token is None:
            self.may_write(repository.namespace, token)
        return repository

    def may_write(self, namespace, token):
        if token is None:
            raise Refusal(401, "Invalid username or password.")
        if not token.writes:
            raise Refusal(403, "Forbidden: you must use a write token to upload to a repository.")
        if namespace not in token.namespaces:
            raise Refusal(403, f'You don\'t have the rights to write under "{namespace}"')

    def create(self, repo_id, *, private=False):
        with self.lock:
            if repo_id in self.repositories:
                raise Refusal(409, "You already created this model repo")
            repository = self.repositories[repo_id] = Repository(
                self.contents, repo_id, private=private
            )
            return repository

    def seed(self, repo_id, files, *, revision="main", private=False, gated=False):
        """Put files into a repository, made where it is not there, as one commit.

        Args:
            files: Content by path.
            revision: A branch, made from `main` where it is not there.

        Returns:
            The hash of the commit.
        """
        with self.lock:
            if repo_id not in self.repositories:
                self.create(repo_id, private=private)
            repository = self.repositories[repo_id]
            repository.gated = gated
            repository.branches.setdefault(revision, repository.branches["main"])
            changes = {
                path: self.contents.entry(
                    self.contents.add(content), large=repository.is_large(path, len(content))
                )
                for path, content in files.items()
            }
            author = repository.namespace
            return repository.commit(changes, title="seeded", author=author, revision=revision)[0]
