"""Regular patterns in pictures: lines in their spectra that photographs do not have."""

import numpy as np
from jaxtyping import Float, UInt8

Squares = UInt8[np.ndarray, "number size size 3"]
Power = Float[np.ndarray, "frequencies"]

# Of an image's side: frequencies from a tenth of it on, neighbours within six hundredths.
_LOWEST = 0.1
_REACH = 0.06

_LUMA = (0.299, 0.587, 0.114)  # as in `pixels`


def grid_index(pictures: Squares, originals: Squares) -> float:
    """How far a line stands out in the spectrum of a set of square pictures [N, S, S, 3].

    A line is the mean power at a frequency from S/10 to S/2 cycles an image over the median of its
    neighbours' within 0.06 S; the pictures' strongest, divided by the originals' [M, S, S, 3] at
    the same frequency. About 1: no grid; 3 can be seen; transposed convolutions leave 10 and more.
    """
    lines, natural = (_lines(line_spectrum(x)) for x in (pictures, originals))
    strongest = int(np.argmax(lines))
    return float(lines[strongest] / natural[strongest])


def line_spectrum(pictures: Squares) -> Power:
    """Mean power [S // 2 + 1] of the rows and columns of grey pictures, by cycles an image.

    Every row and column is taken by itself, through a window that is zero at its ends, where an
    image's opposite borders would meet in an edge.
    """
    size = pictures.shape[1]
    window = np.hanning(size + 1)[:size]
    total = np.zeros(size // 2 + 1)
    for picture in pictures:  # one at a time, as a set may be large
        grey = picture @ np.asarray(_LUMA)
        for lines in (grey, grey.T):
            level = np.sum(lines * window, axis=1, keepdims=True) / np.sum(window)
            power = np.square(np.abs(np.fft.rfft((lines - level) * window, axis=1)))
            total += power.mean(axis=0)
    return total / (2 * len(pictures))


def _lines(power: Power) -> Power:
    """Power from the lowest frequency on over the median of its neighbours'."""
    size = 2 * (len(power) - 1)
    reach = max(2, round(_REACH * size))
    # Far below what rounding to grey levels adds: for pictures of one colour.
    power = power + 1e-4 * size
    return np.array(
        [
            power[i] / np.median(np.delete(power[max(0, i - reach) : i + reach + 1], min(i, reach)))
            for i in range(round(_LOWEST * size), len(power))
        ]
    )
