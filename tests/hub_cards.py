"""What the Hub says of the metadata at the head of a model card."""

import re

import yaml

LICENSES = {
    *("apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear"),
    *("cc", "cc0-1.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0"),
    *("cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-3.0"),
    *("cc-by-nc-sa-4.0", "cc-by-nd-4.0", "gpl", "gpl-3.0", "agpl-3.0", "lgpl-3.0", "mpl-2.0"),
    *("openrail", "unlicense", "other", "unknown"),
}


def read_metadata(content):
    """The metadata of a card: a mapping, empty where the card has none."""
    found = re.match(r"---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(\r?\n|$)", content, re.DOTALL)
    return (yaml.safe_load(found.group(1)) or {}) if found else {}


def check(content):
    """Errors and warnings, in words."""
    try:
        metadata = read_metadata(content)
    except yaml.YAMLError as error:
        return [f"YAML cannot be read: {error}"], []
    if not isinstance(metadata, dict):
        return ["Metadata must be a mapping"], []
    if not metadata:
        return [], ["empty or missing yaml metadata in repo card"]
    return [*_of_fields(metadata), *_of_results(metadata.get("model-index"))], []


def _of_fields(metadata):
    licenses = metadata.get("license", "unknown")
    for name in licenses if isinstance(licenses, list) else [licenses]:
        if name not in LICENSES:
            yield f'"license" must be one of {sorted(LICENSES)}, not {name!r}'
    for key in ("pipeline_tag", "library_name"):
        if not isinstance(metadata.get(key, ""), str):
            yield f'"{key}" must be a string'
    for key in ("tags", "datasets", "base_model"):
        value = metadata.get(key, [])
        for item in value if isinstance(value, list) else [value]:
            if not isinstance(item, str):
                yield f'"{key}" must hold strings, not {item!r}'
            elif key == "base_model" and not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", item):
                yield f'"base_model" with value {item!r} is not the id of a repository'


def _of_results(index):
    if index is None:
        return
    if not isinstance(index, list):
        yield '"model-index" must be an array'
        return
    for number, model in enumerate(index):
        at = f"model-index[{number}]"
        if not model.get("name"):
            yield f'"{at}.name" is required'
        if not isinstance(model.get("results"), list):
            yield f'"{at}.results" is required'
            continue
        for place, result in enumerate(model["results"]):
            required = [("task", "type"), ("dataset", "type"), ("dataset", "name")]
            for part, key in required:
                if not (result.get(part) or {}).get(key):
                    yield f'"{at}.results[{place}].{part}.{key}" is required'
            for metric in result.get("metrics") or [{}]:
                for key in ("type", "value"):
                    if key not in metric:
                        yield f'"{at}.results[{place}].metrics.{key}" is required'
