"""The readers of JSON and CSV: what `json` and `csv` read, or a sentence that names the file."""

import csv
import io
import json
import math
import os
import re

import numpy as np
import pytest
from damage import damaged_bytes, damaged_csv, damaged_json, refused, seeds, tried
from hypothesis import given
from hypothesis import strategies as st

from posenet_jax.errors import InputError
from posenet_jax.io import files, run_files
from posenet_jax.io.run_files import COUNT, read_csv, read_json

_RECORD = {
    "file": "descriptors-00000-of-00002.safetensors",
    "images": 7,
    "share": 0.25,
    "left_out": [{"name": "é.png", "reason": "damaged"}],
    "sizes": {"batch": 4, "shard": 8},
    "dtype": "float32",
    "done": True,
}
_SCHEMA = {
    "file": run_files.FILE_NAME,
    "images": COUNT,
    "share": float,
    "left_out": [{"name": str, "reason": str}],
    "sizes": {str: range(1, 100)},
    "dtype": ("float32", "float16"),
    "done": bool,
}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("run") / "a.json"


# JSON -------------------------------------------------------------------------------------------


def test_what_was_written_is_read(path):
    files.write_json(path, _RECORD)
    assert read_json(path, _SCHEMA) == _RECORD
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # as some editors begin a file
    assert read_json(path, _SCHEMA) == _RECORD


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"images": -1}, "images is -1, not a whole number from 0 to"),
        ({"images": 7.0}, "images is 7.0, not a whole number"),
        ({"images": True}, "images is True, not a whole number"),
        ({"images": 2**53}, "images is 9007199254740992, not a whole number"),
        ({"share": "0.25"}, "share is '0.25', not a number"),
        ({"share": False}, "share is False, not a number"),
        ({"share": 10**400}, "share is 1000"),
        ({"left_out": None}, "left_out is None, not a list"),
        ({"left_out": [{"name": "a"}]}, r"left_out\[0\] lacks reason"),
        ({"left_out": [{"name": 3, "reason": ""}]}, r"left_out\[0\].name is 3, not a text"),
        ({"sizes": []}, r"sizes is \[\], not an object"),
        ({"sizes": {"batch": 0}}, r"sizes.batch is 0, not a whole number from 1 to 99"),
        ({"dtype": "int8"}, "dtype is 'int8', not one of float32, float16"),
        ({"dtype": ["float32"]}, r"dtype is \['float32'\], not one of"),
        ({"done": 1}, "done is 1, not true or false"),
        ({"file": "../a"}, r"file is '\.\./a'"),
        ({"file": "/a"}, "file is '/a'"),
        ({"file": ".."}, "file is '..'"),
        ({"file": "a\0b"}, "file is"),
        ({"file": ""}, "file is ''"),
    ],
)
def test_what_is_not_of_the_schema_is_named_by_its_place(path, change, fault):
    path.write_text(json.dumps(_RECORD | change))
    with pytest.raises(InputError, match=fault) as error:
        read_json(path, _SCHEMA, remedy="do this")
    assert str(path) in str(error.value) and str(error.value).endswith("; do this")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b'{"a": NaN}', "NaN is no number of JSON"),
        (b'{"a": -Infinity}', "-Infinity is no number"),
        (b'{"a": 1e400}', "'1e400' is too large"),
        (b'{"a": ' + b"9" * 5000 + b"}", "integer string conversion"),
        (b'{"a": 1, "a": 1}', "the key 'a' stands twice"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'["\\ud800"]', "surrogates not allowed"),
        (b'["\xff"]', "invalid start byte"),
        ('{"a": 1}'.encode("utf-16"), "invalid start byte"),
        (b'["a\0"]', "Invalid control character"),
    ],
)
def test_what_is_no_json_is_refused(path, content, fault):
    path.write_bytes(content)
    with pytest.raises(InputError, match=fault) as error:
        read_json(path)
    assert str(error.value).startswith(str(path))


def test_many_keys_of_which_two_are_alike_take_no_time(path):
    keys = [f'"{number}": 0' for number in range(200_000)]
    path.write_text("{" + ", ".join([*keys, keys[-1]]) + "}")
    with pytest.raises(InputError, match="the key '199999' stands twice"):
        read_json(path)


def test_a_value_in_an_error_is_short(path):
    path.write_text(json.dumps({"images": [["a" * 1000] * 100] * 20}))
    with pytest.raises(InputError) as error:
        read_json(path, {"images": COUNT})
    assert len(str(error.value)) < 1500


@given(seeds)
@tried(150)
def test_json_is_read_as_by_json_or_refused(path, rng):
    whole = json.dumps(_RECORD, indent=1, ensure_ascii=False).encode()
    structured = rng.random() < 0.5
    content = damaged_json(_RECORD, rng) if structured else damaged_bytes(whole, rng)
    path.write_bytes(content)
    found = refused(lambda: read_json(path), path)
    if not isinstance(found, InputError):
        assert found == json.loads(content)
    of_schema = refused(lambda: read_json(path, _SCHEMA), path)
    if not isinstance(of_schema, InputError):
        assert set(_SCHEMA) <= set(of_schema) and of_schema["images"] in COUNT
        assert math.isfinite(of_schema["share"]) and "/" not in of_schema["file"]


@given(seeds)
@tried(100)
def test_a_checksum_notices_what_is_still_json(path, rng):
    content = json.dumps(run_files.checksummed(_RECORD), indent=1, ensure_ascii=False).encode()
    path.write_bytes(damaged_bytes(content, rng))
    found = refused(lambda: read_json(path, _SCHEMA), path)
    # What only spoilt the checksum's own key leaves the rest as it was.
    assert isinstance(found, InputError) or found.items() >= _RECORD.items()


def test_every_digit_counts(path):
    content = json.dumps(run_files.checksummed(_RECORD)).encode()
    key = content.index(b"sha256_of_rest")
    for place in {match.start() for match in re.finditer(rb"\d", content)} - {
        *range(key, key + 14)
    }:
        other = b"%d" % ((content[place] - ord("0") + 1) % 10)
        path.write_bytes(content[:place] + other + content[place + 1 :])
        with pytest.raises(InputError, match="damaged or changed"):
            read_json(path)


# CSV --------------------------------------------------------------------------------------------

_ROWS = [
    {"image": 'a,"b"\n.png', "step": 3, "loss": 0.125, "other": None},
    {"image": "é.png", "step": 40, "loss": float("nan"), "other": math.inf},
    {"image": "", "step": -5, "loss": 1e-9, "other": -0.0},
]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "a.csv"
    files.write_csv(path, _ROWS)
    return path, path.read_bytes()


def test_a_table_that_was_written_is_read(table):
    path, _ = table
    rows = list(read_csv(path, ["step", "image"]))
    assert [row.cells["image"] for row in rows] == [row["image"] for row in _ROWS]
    assert [row.whole("step") for row in rows] == [3, 40, -5]
    np.testing.assert_array_equal([row.number("loss") for row in rows], [0.125, math.nan, 1e-9])
    np.testing.assert_array_equal([row.number("other") for row in rows], [math.nan, math.inf, 0.0])
    assert rows[1].where == f"{path}, line 4"  # the first has two lines


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", "it is empty"),
        ("image,loss\n", "it lacks the columns step"),
        ("step,loss,step\n", "a column stands twice"),
        ("step,loss\n1\n", "line 2: 1 cells under 2 columns"),
        ("step,loss\n1,2\n1,2,3\n", "line 3: 3 cells under 2 columns"),
        ("step,loss\n1,2", "its last line is cut"),
        ("step,loss\n1,\0\n", "line 2: bytes that are zero"),
        ('step,loss\n1,"2\n', "unexpected end of data|its last line is cut"),
        ('step,loss\n1,"2"3\n', "expected after"),
        ("step,loss\n1," + "a" * 200_000 + "\n", "field larger than field limit"),
        ("step,loss\n1,\udcff\n", "invalid start byte"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, content, fault):
    path = tmp_path / "b.csv"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=fault) as error:
        list(read_csv(path, ["step"], remedy="do this"))
    assert str(error.value).startswith(str(path)) and str(error.value).endswith("; do this")


@pytest.mark.parametrize("cell", ["x", "1_0", "0x10", "1,5", "--1", "1e", "a" * 1000])
def test_a_cell_that_is_no_number_is_named_by_line_and_column(tmp_path, cell):
    path = tmp_path / "b.csv"
    files.write_csv(path, [{"loss": "1"}, {"loss": cell}])
    good, bad = read_csv(path)
    assert good.number("loss") == 1.0 and good.whole("loss") == 1
    for read in (bad.number, bad.whole):
        with pytest.raises(InputError, match=r"b\.csv, line 3: loss is '.*number") as error:
            read("loss")
        assert len(str(error.value)) < 400


def test_a_number_may_have_bounds(tmp_path):
    path = tmp_path / "b.csv"
    files.write_csv(path, [{"rate": rate} for rate in (0.5, 1e400, math.nan, "")])
    half, infinite, nan, empty = read_csv(path)
    assert half.number("rate", (0.0, 1.0)) == 0.5 and infinite.number("rate") == math.inf
    for row in (infinite, nan, empty):
        with pytest.raises(InputError, match="rate is .* not a number from 0 to 1"):
            row.number("rate", (0.0, 1.0))


def test_by_hand_a_table_may_end_in_its_last_line_and_have_empty_ones(tmp_path):
    path = tmp_path / "b.csv"
    path.write_bytes(b"\xef\xbb\xbfstep,loss\r\n1,2\r\n\r\n3,4")
    assert [row.cells["step"] for row in read_csv(path, ["step"], open_end=True)] == ["1", "3"]


@given(seeds)
@tried(150)
def test_a_table_is_read_as_by_csv_or_refused(table, rng):
    path, whole = table
    damage = damaged_csv if rng.random() < 0.6 else damaged_bytes
    content = damage(whole, rng)
    path.write_bytes(content)
    rows = refused(lambda: list(read_csv(path, ["step"], open_end=rng.random() < 0.5)), path)
    if not isinstance(rows, InputError):
        text = io.StringIO(content.decode("utf-8-sig"), newline="")
        assert [row.cells for row in rows] == list(csv.DictReader(text))
        for row in rows:
            for read in (row.number, row.whole):
                for name in row.cells:
                    refused(lambda read=read, name=name: read(name), path)


# Files ------------------------------------------------------------------------------------------


def _pipe(path):
    os.mkfifo(path)


@pytest.mark.parametrize("read", [read_json, lambda path: list(read_csv(path))])
@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda path: None, "cannot be opened .No such file"),
        (lambda path: path.mkdir(), "is not a file"),
        (_pipe, "is not a file"),
        (lambda path: path.symlink_to("nowhere"), "cannot be opened"),
        (lambda path: path.symlink_to(path), "cannot be opened"),
    ],
)
def test_what_is_no_file_is_refused_at_once(tmp_path, read, make, fault):
    make(tmp_path / "a")
    with pytest.raises(InputError, match=fault) as error:
        read(tmp_path / "a")
    assert str(error.value).startswith(str(tmp_path / "a"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_refused(tmp_path):
    (tmp_path / "a").write_text("{}")
    (tmp_path / "a").chmod(0)
    with pytest.raises(InputError, match="Permission denied"):
        read_json(tmp_path / "a")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
@tried(30)
def test_any_value_can_be_shown_in_one_line(value):
    assert "\n" not in run_files.brief(value) and len(run_files.brief(value)) < 2000
