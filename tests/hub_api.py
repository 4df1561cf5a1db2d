"""The addresses of the Hub of the tests, each with its answer, as the real client asks them.

Every answer takes the call (hub_http.py) and the named parts of the address.
"""

import base64
import hashlib
import hmac
import json
import secrets
from urllib.parse import parse_qs

from hub_cards import check, read_metadata
from hub_repository import Refusal

_KEY = secrets.token_bytes(16)


def whoami(call):
    token = call.token
    if token is None:
        raise Refusal(401, "Invalid username or password.")
    orgs = [{"type": "org", "name": name} for name in token.namespaces if name != token.user]
    role = "write" if token.writes else "read"
    access = {"accessToken": {"displayName": "laptop", "role": role}}
    call.reply({"type": "user", "name": token.user, "orgs": orgs, "auth": access})


def validate_card(call):
    errors, warnings = check(call.json()["content"])
    said = {"errors": [{"message": one} for one in errors]}
    said["warnings"] = [{"message": one} for one in warnings]
    call.reply(said, 400 if errors else 200)


def create(call):
    asked, token = call.json(), call.token
    namespace = asked.get("organization") or (token.user if token else "")
    call.hub.storage.may_write(namespace, token)
    repo_id = f"{namespace}/{asked['name']}"
    url = f"{call.hub.url}/{repo_id}"
    private = asked.get("private") or asked.get("visibility") == "private"
    try:
        call.hub.storage.create(repo_id, private=private)
    except Refusal as refusal:
        refusal.body = {"url": url}
        raise
    call.reply({"url": url, "name": repo_id})


def delete(call):
    asked, token = call.json(), call.token
    repo_id = f"{asked.get('organization') or (token.user if token else '')}/{asked['name']}"
    call.hub.storage.writable(repo_id, token)
    del call.hub.storage.repositories[repo_id]
    call.reply({})


def models(call):
    """Those of an author, whose names hold the words that are searched."""
    unknown = call.query.keys() - {"author", "search", "limit", "sort", "full", "cursor"}
    if unknown:
        raise Refusal(400, f"This Hub does not list models by {sorted(unknown)}.")
    token, found = call.token, []
    for repo_id in sorted(call.hub.storage.repositories):
        namespace = repo_id.partition("/")[0]
        if call.query.get("author", namespace) != namespace:
            continue
        if call.query.get("search", "").lower() not in repo_id.lower():
            continue
        try:
            repository = call.hub.storage.readable(repo_id, token)
        except Refusal:
            continue  # private
        found.append(_model(call.hub, repository, "main", blobs=False))
    _paginate(call, found[: int(call.query.get("limit", len(found)))])


def model(call, repo, revision="main"):
    repository = call.hub.storage.readable(repo, call.token)
    call.reply(_model(call.hub, repository, revision, blobs="blobs" in call.query))


def _model(hub, repository, revision, *, blobs):
    commit = repository.find(revision)
    siblings = []
    for path, entry in sorted(commit.files.items()):
        siblings.append({"rfilename": path})
        if blobs:
            siblings[-1] |= {"size": entry.size, "blobId": entry.oid}
        if blobs and entry.large:
            lfs = entry.describe(path)["lfs"]
            siblings[-1]["lfs"] = {"sha256": lfs["oid"], **lfs}
    readme = commit.files.get("README.md")
    card = read_metadata(hub.storage.contents.read(readme.sha256).decode()) if readme else {}
    return {
        "id": repository.id,
        "modelId": repository.id,
        "author": repository.namespace,
        "sha": commit.oid,
        "lastModified": commit.date,
        "private": repository.private,
        "gated": "manual" if repository.gated else False,
        "disabled": False,
        "tags": card.get("tags", []),
        "cardData": card,
        **{key: card[key] for key in ("library_name", "pipeline_tag") if key in card},
        "siblings": siblings,
    }


def refs(call, repo):
    repository = call.hub.storage.readable(repo, call.token)
    call.reply(repository.refs(pulls="include_prs" in call.query))


def commits(call, repo, revision):
    repository = call.hub.storage.readable(repo, call.token)
    listed = [
        {"id": one.oid, "title": one.title, "message": "", "date": one.date}
        | {"authors": [{"user": one.author}]}
        for one in repository.history(revision)
    ]
    _paginate(call, listed)


def tree(call, repo, revision, path):
    repository = call.hub.storage.readable(repo, call.token)
    options = {name: call.query.get(name, "").lower() == "true" for name in ("recursive", "expand")}
    _paginate(call, repository.tree(revision, path, **options))


def paths_info(call, repo, revision):
    asked = parse_qs(call.body.decode())
    repository = call.hub.storage.readable(repo, call.token)
    expand = asked.get("expand", ["false"])[0].lower() == "true"
    call.reply(repository.paths(revision, asked.get("paths", []), expand=expand))


def _paginate(call, items):
    """Answer with a page, and the address of the next."""
    start = int(call.query.get("cursor", 0))
    stop = start + call.hub.page_size
    headers = {}
    if stop < len(items):
        kept = "".join(f"{key}={value}&" for key, value in call.query.items() if key != "cursor")
        path = call.path.partition("?")[0]
        headers["Link"] = f'<{call.hub.url}{path}?{kept}cursor={stop}>; rel="next"'
    call.reply(items[start:stop], **headers)


def branch(call, repo, name):
    repository = call.hub.storage.writable(repo, call.token)
    with call.hub.storage.lock:
        if call.command == "DELETE":
            repository.find(f"refs/heads/{name}")
            del repository.branches[name]
        elif name in repository.branches:
            raise Refusal(409, f"Reference already exists: refs/heads/{name}")
        else:
            start = call.json().get("startingPoint", "main")
            repository.branches[name] = repository.find(start).oid
    call.reply({})


def tag(call, repo, revision):
    """Tag a revision, or remove the tag of that name."""
    repository = call.hub.storage.writable(repo, call.token)
    with call.hub.storage.lock:
        if call.command == "DELETE":
            repository.find(revision)
            del repository.tags[revision]
        elif (name := call.json()["tag"]) in repository.tags:
            raise Refusal(409, f"Tag reference exists already: refs/tags/{name}")
        else:
            repository.tags[name] = repository.find(revision).oid
    call.reply({})


def preupload(call, repo, revision):
    """Say of each file how it is sent, and which content is there."""
    repository = call.hub.storage.writable(repo, call.token, pull="create_pr" in call.query)
    present, said = repository.find(revision).files, []
    for file in call.json()["files"]:
        path = file["path"]
        mode = "lfs" if repository.is_large(path, file["size"]) else "regular"
        said.append({"path": path, "uploadMode": mode, "shouldIgnore": False})
        if path in present:
            entry = present[path]
            said[-1]["oid"] = entry.sha256 if entry.large else entry.oid
    call.reply({"files": said})


def batch(call, repo):
    """Where to send large files; one that is in the store needs no sending."""
    asked = call.json()
    call.hub.storage.readable(repo, call.token)
    call.hub.storage.may_write(call.token.user if call.token else "", call.token)
    objects = []
    for one in asked["objects"]:
        oid, size = one["oid"], one["size"]
        objects.append({"oid": oid, "size": size})
        if oid in call.hub.storage.contents:
            continue
        upload = {"href": _signed(call.hub, oid)}
        count = -(-size // call.hub.part_size)
        if count > 1 and "multipart" in asked["transfers"]:
            upload["href"] = f"{call.hub.url}/api/complete/{oid}"
            parts = {f"{n:05}": _signed(call.hub, f"{oid}/{n}") for n in range(1, count + 1)}
            upload["header"] = {"chunk_size": str(call.hub.part_size), **parts}
        verify = {"href": f"{call.hub.url}/{repo}.git/info/lfs/objects/verify"}
        objects[-1]["actions"] = {"upload": upload, "verify": verify}
    call.reply({"transfer": "basic", "objects": objects})


def verify(call, repo):
    call.hub.storage.readable(repo, call.token)
    if call.json()["oid"] not in call.hub.storage.contents:
        raise Refusal(404, f"Object {call.json()['oid']} is not in the store")
    call.reply({})


def complete(call, oid):
    """Join the parts of an upload."""
    parts = []
    for part in call.json()["parts"]:
        content = call.hub.uploads[oid, part["partNumber"]]
        if part["etag"].strip('"') != hashlib.md5(content).hexdigest():
            raise Refusal(400, f"Part {part['partNumber']} has another ETag")
        parts.append(content)
    _keep(call.hub, oid, b"".join(parts))
    call.reply({})


def commit(call, repo, revision):
    """Make a commit of lines of JSON: a header, then an operation a line."""
    storage, pull, token = call.hub.storage, "create_pr" in call.query, call.token
    repository = storage.writable(repo, token, pull=pull)
    header, changes = {}, {}
    for line in call.body.splitlines():
        operation = json.loads(line)
        value = operation["value"]
        if operation["key"] == "header":
            header = value
        elif operation["key"] == "file":
            sha256 = storage.contents.add(base64.b64decode(value["content"]))
            changes[value["path"]] = storage.contents.entry(sha256, large=False)
        elif operation["key"] == "lfsFile":
            if value["oid"] not in storage.contents:
                raise Refusal(400, f"LFS pointer of {value['path']} names a file not uploaded")
            changes[value["path"]] = storage.contents.entry(value["oid"], large=True)
        elif operation["key"] == "deletedFile":
            changes[value["path"]] = None
        elif operation["key"] == "deletedFolder":
            changes[value["path"].rstrip("/") + "/"] = None
        else:
            raise Refusal(400, f"Unknown operation {operation['key']!r}")
    with storage.lock:
        oid, number = repository.commit(
            changes,
            title=header["summary"],
            author=token.user,
            revision=revision,
            parent=header.get("parentCommit"),
            pull=pull,
        )
    said = {"success": True, "commitOid": oid, "commitUrl": f"{call.hub.url}/{repo}/commit/{oid}"}
    if number is not None:
        said["pullRequestUrl"] = f"{call.hub.url}/{repo}/discussions/{number}"
    call.reply(said)


def resolve(call, repo, revision, path):
    """A file at a revision: small ones from here, large ones by a redirect to the store."""
    repository = call.hub.storage.readable(repo, call.token, contents=True)
    at, entry = repository.entry(revision, path)
    headers = {"X-Repo-Commit": at.oid}
    if not entry.large:
        content = call.hub.storage.contents.read(entry.sha256)
        return call.send_file(content, entry.oid, **headers)
    headers |= {"X-Linked-Size": str(entry.size), "X-Linked-ETag": f'"{entry.sha256}"'}
    headers["Location"] = _signed(call.hub, entry.sha256)
    return call.send(b"Found. Redirecting.", 302, **headers)


def plain_file(call, path):
    content = call.hub.files.get(path)
    if content is None:
        raise Refusal(404, "Not found")
    call.send_file(content, hashlib.sha256(content).hexdigest())


def fetch(call, oid):
    _check_signature(call, oid)
    call.send_file(call.hub.storage.contents.read(oid), oid)


def keep(call, oid, number):
    _check_signature(call, f"{oid}/{number}" if number else oid)
    if number:
        call.hub.uploads[oid, int(number)] = call.body
    else:
        _keep(call.hub, oid, call.body)
    call.send(b"", ETag=f'"{hashlib.md5(call.body).hexdigest()}"')


def _keep(hub, oid, content):
    if hashlib.sha256(content).hexdigest() != oid:
        raise Refusal(400, "The content does not have the SHA-256 that was announced")
    hub.storage.contents.add(content)


def _signed(hub, what):
    signature = hmac.new(_KEY, what.encode(), "sha256").hexdigest()[:16]
    return f"{hub.store.url}/store/{what}?X-Signature={signature}"


def _check_signature(call, what):
    if "Authorization" in call.headers:
        raise Refusal(400, "Only one auth mechanism allowed")
    if f"{call.hub.store.url}{call.path}" != _signed(call.hub, what):
        raise Refusal(403, "SignatureDoesNotMatch")


_REPO, _REVISION = r"(?P<repo>[\w.-]+/[\w.-]+)", r"(?P<revision>[^/]+)"
_MODEL, _LFS = f"/api/models/{_REPO}", rf"/{_REPO}\.git/info/lfs/objects"
_OID = "(?P<oid>[0-9a-f]{64})"

# Method, address, answer; the first that fits is taken.
HUB_ROUTES = (
    ("GET", "/api/whoami-v2", whoami),
    ("POST", "/api/validate-yaml", validate_card),
    ("POST", "/api/repos/create", create),
    ("DELETE", "/api/repos/delete", delete),
    ("GET", "/api/models", models),
    ("GET", _MODEL, model),
    ("GET", f"{_MODEL}/revision/{_REVISION}", model),
    ("GET", f"{_MODEL}/refs", refs),
    ("GET", f"{_MODEL}/commits/{_REVISION}", commits),
    ("GET", f"{_MODEL}/tree/{_REVISION}(/(?P<path>.+))?", tree),
    ("POST", f"{_MODEL}/paths-info/{_REVISION}", paths_info),
    ("POST", f"{_MODEL}/preupload/{_REVISION}", preupload),
    ("POST", f"{_MODEL}/commit/{_REVISION}", commit),
    ("POST|DELETE", f"{_MODEL}/branch/(?P<name>[^/]+)", branch),
    ("POST|DELETE", f"{_MODEL}/tag/{_REVISION}", tag),
    ("POST", f"{_LFS}/batch", batch),
    ("POST", f"{_LFS}/verify", verify),
    ("POST", f"/api/complete/{_OID}", complete),
    ("GET|HEAD", f"/{_REPO}/resolve/{_REVISION}/(?P<path>.+)", resolve),
    ("GET|HEAD", "/(?P<path>.+)", plain_file),
)
STORE_ROUTES = (
    ("GET|HEAD", f"/store/{_OID}", fetch),
    ("PUT", f"/store/{_OID}(/(?P<number>[0-9]+))?", keep),
)
