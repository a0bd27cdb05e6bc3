"""Batches by number: the same whenever asked, whatever cannot be read."""

import threading

import numpy as np
import pytest

from posenet_jax.data.image_stream import ImageStream
from posenet_jax.errors import ImageError, InputError


class _Source:
    """Items whose image is their position; some cannot be read."""

    def __init__(self, length, bad=()):
        self._length, self._bad = length, set(bad)
        self.reads, self._lock = [], threading.Lock()

    def __len__(self):
        return self._length

    def __getitem__(self, position):
        with self._lock:
            self.reads.append(int(position))
        if position in self._bad:
            raise ImageError(f"image {position}: cut short")
        return int(position)


def _transform(position):
    return {"image": np.full((2, 2, 3), position, np.uint8)}


def _numbers(batch):
    return batch["image"][:, 0, 0, 0].tolist()


def _stream(source, **options):
    return ImageStream(source, _transform, 4, **options)


def test_a_batch_depends_on_its_number_alone():
    stream = _stream(_Source(10), seed=3)
    in_order = [_numbers(stream(number)) for number in range(8)]
    other = _stream(_Source(10), seed=3)
    for number in (5, 6, 2, 7, 0):
        assert _numbers(other(number)) == in_order[number]
    assert [_numbers(_stream(_Source(10), seed=4)(0))] != in_order[:1]


def test_every_epoch_has_every_image_once_in_another_order():
    stream = _stream(_Source(8))
    first, second = ([*_numbers(stream(2 * e)), *_numbers(stream(2 * e + 1))] for e in (0, 1))
    assert sorted(first) == sorted(second) == list(range(8))
    assert first != second


def test_an_image_that_cannot_be_read_is_replaced_and_named_once():
    reports = []
    stream = _stream(_Source(8, bad=(2, 5)), report=lambda error: reports.append(str(error)))
    whole = _stream(_Source(8))
    for number in range(6):
        expected = [{2: 3, 5: 6}.get(n, n) for n in _numbers(whole(number))]
        assert _numbers(stream(number)) == expected
    assert sorted(reports) == ["image 2: cut short", "image 5: cut short"]


def test_what_fits_in_memory_is_read_once():
    source = _Source(8)
    stream = _stream(source, cache_bytes=8 * 12)
    for number in range(10):
        stream(number)
    # Two threads may ask for one image before either has it.
    assert len(source.reads) <= 16
    again = _Source(8)
    stream = _stream(again, cache_bytes=4 * 12)
    for number in range(10):
        stream(number)
    assert 16 < len(again.reads)


def test_sources_of_nothing_are_refused():
    with pytest.raises(InputError, match="no batches"):
        _stream(_Source(0))
    with pytest.raises(InputError, match="none of the 5 images"):
        _stream(_Source(5, bad=range(5)))(0)
