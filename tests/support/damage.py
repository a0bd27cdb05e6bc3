"""Damage to files, at random from a seed: what discs, transfers, editors and strangers do to them.

POSENET_FUZZ multiplies the number of damaged files that the tests try.
"""

import copy
import csv
import io
import json
import os
import random
import tracemalloc
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from posenet_jax.errors import InputError

FUZZ = int(os.environ.get("POSENET_FUZZ", "1"))

seeds = st.integers(0, 2**64 - 1).map(random.Random)

# Taken by a parser of a small file, whatever numbers are in it.
_MOST_MEMORY = 32 * 2**20


def tried(count: int) -> settings:
    """As many damaged files, the same in every session."""
    return settings(
        max_examples=count * FUZZ,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def refused(read: Callable[[], Any], *names: object) -> Any:
    """What `read` returns, or the InputError, whose sentence has one of the names in it.

    Fails where anything else is raised, and where far more memory is taken than a small file needs.
    """
    tracemalloc.start()
    try:
        found = read()
    except InputError as error:
        found = error
        sentence = str(error)
        assert any(str(name) in sentence for name in names), sentence
        assert "\n" not in sentence and len(sentence) < 1500, sentence
        sentence.encode()
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < _MOST_MEMORY, peak
    return found


# Bytes ------------------------------------------------------------------------------------------

_TOKENS = (
    *(b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\r", b"\n", b'"', b"'", b",", b"-"),
    *(b"nan", b"inf", b"1e400", b"-1", b"0", b"9" * 30, b"9" * 5000, b"1_0", b"0x10", b"\xd9\xa3"),
    *(b"{", b"[", b"}", b"]", b"null", b"\\ud800", b" " * 4000, b"[" * 3000, b'"' * 3),
)


def damaged_bytes(content: bytes, rng: random.Random) -> bytes:
    """Cut, flipped, with bytes inserted, left out or exchanged, coded otherwise, or empty."""
    at = rng.randrange(len(content) + 1)
    length = rng.choice((1, 1, 8, 100))
    kind = rng.randrange(9)
    if kind == 0:
        return content[:at]
    if kind in (1, 2) and content:
        flipped = bytearray(content)
        for _ in range(rng.choice((1, 1, 1, 5))):
            flipped[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        return bytes(flipped)
    if kind == 3:
        return content[:at] + rng.randbytes(length) + content[at:]
    if kind == 4:
        return content[:at] + rng.choice(_TOKENS) + content[at:]
    if kind == 5:
        return content[:at] + rng.choice(_TOKENS) + content[at + length :]
    if kind == 6:
        return content[:at] + content[at + length :]
    if kind == 7:
        coding = rng.choice(("utf-16", "utf-32", "utf-8-sig", "utf-7"))
        return content.decode("latin-1").encode(coding)
    return rng.choice((b"", b"\n", content * 2, bytes(len(content)), rng.randbytes(len(content))))


# JSON -------------------------------------------------------------------------------------------

_RAW = {f"raw {text[:9]} {len(text)}": text for text in ("1e400", "NaN", "-Infinity", "9" * 5000)}
_DEEP = "raw deep"
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 7, 1.5, -0.0, 2**31, 2**53, 2**63, 10**30, -(10**30), 1e308),
    *("", "x", "0", "nan", "../../x", "/etc/passwd", "\0", "\ud800", "fc5\n", "a" * 100_000),
    *([], {}, [None], [[]], {"": None}, [0] * 5000, *_RAW, _DEEP),
)


def damaged_json(value: Any, rng: random.Random) -> bytes:
    """A node of another type or size, missing, twice, or under another key."""
    whole = [copy.deepcopy(value)]
    at, key = rng.choice(list(_nodes(whole)))
    kind = rng.randrange(6)
    twice = None
    if kind == 0 and isinstance(at, dict):
        del at[key]
    elif kind == 1 and isinstance(at, dict):
        at[rng.choice(("x", "", "\0", str(key).upper()))] = at.pop(key)
    elif kind == 2 and isinstance(at, dict):
        twice = f"{json.dumps(key)}: {json.dumps(rng.choice(_VALUES[:10]))}, {json.dumps(key)}:"
        at["twice"] = at.pop(key)
    elif kind == 3 and type(at[key]) in (int, float):
        at[key] = rng.choice((at[key] + 1, at[key] * 1000, -at[key], str(at[key]), at[key] / 7))
    else:
        at[key] = rng.choice(_VALUES)
    text = json.dumps(whole[0], indent=rng.choice((None, 1)))
    if twice:
        text = text.replace('"twice":', twice, 1)
    for name, raw in _RAW.items():
        text = text.replace(json.dumps(name), raw)
    return text.replace(json.dumps(_DEEP), "[" * 5000 + "]" * 5000).encode()


def _nodes(value: Any):
    """(container, key) of everything in it."""
    for key in range(len(value)) if isinstance(value, list) else list(value):
        yield value, key
        if isinstance(value[key], list | dict):
            yield from _nodes(value[key])


# CSV --------------------------------------------------------------------------------------------

_CELLS = (
    *("", " ", "x", "nan", "inf", "-inf", "1e400", "-1", "0", "1_0", "0x1", "9" * 5000, "1.5"),
    *("\0", "é", 'say "so"', "a,b", "a\nb", "a" * 200_000, "٣", "True", "1e-400", "-0"),
)


def damaged_csv(content: bytes, rng: random.Random) -> bytes:
    """A cell of anything, a line or a column more or less or twice, quotes that do not close."""
    rows = list(csv.reader(io.StringIO(content.decode(), newline="")))
    row = rng.choice(rows)
    column = rng.randrange(len(row))
    kind = rng.randrange(8)
    if kind in (0, 1):
        row[column] = rng.choice(_CELLS)
    elif kind == 2:
        del row[column]
    elif kind == 3:
        row.insert(column, rng.choice(_CELLS))
    elif kind == 4:
        for other in rows:
            del other[column]
    elif kind == 5:
        rows[0][column] = rng.choice((*rows[0], *_CELLS))
    elif kind == 6:
        rows.remove(row)
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=rng.choice(("\n", "\r\n"))).writerows(rows)
    found = text.getvalue()
    if kind == 7:
        found = found.replace(row[column], rng.choice(('"', '"a"b', '""', "'", ";")) + row[column])
    return found.encode(rng.choice(("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16")))
