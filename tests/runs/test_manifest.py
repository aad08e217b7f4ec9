"""What a manifest and other tables of a store are written as, and read from."""

import json

import pytest

from vitlib.runs.manifest import json_bytes, json_table, manifest_of


def test_a_manifest_is_written_as_any_table_is():
    for names in ([], ["a.json"], ["weights.safetensors", "arrays.npz", 'a "name"\\', "ünïcode \U0001f600\n"]):
        digests = {name: f"{place:064x}" for place, name in enumerate(names)}
        assert manifest_of(digests) == json_bytes(digests)
        assert json.loads(manifest_of(digests)) == digests


@pytest.mark.parametrize("value", ["\udcff", "\U0001f600", 1e400, -0.0, 2**70, [[[]]] * 3])
def test_what_json_reads_is_read_alike(value):
    content = json.dumps({"value": value}).encode()
    assert repr(json_table(content)) == repr(json.loads(content))


def test_what_is_as_deep_as_json_reads_is_read_and_what_is_deeper_is_no_table():
    assert json_table(b'{"a":' * 300 + b"1" + b"}" * 300) is not None
    for content in (b'{"a":' * 10**5 + b"1" + b"}" * 10**5, b"[]", b"", b"\xff", b'{"a": 1'):
        assert json_table(content) is None
