"""Regular patterns in pictures: lines in their spectra that photographs do not have."""

import numpy as np
from jaxtyping import Float, UInt8

Pictures = UInt8[np.ndarray, "number height width channels"]
Power = Float[np.ndarray, "frequencies"]

# Of an image's side: frequencies from a tenth of it on, neighbours within six hundredths.
_LOWEST = 0.1
_REACH = 0.06

_LUMA = (0.299, 0.587, 0.114)  # as in `pixels`


def grid_index(pictures: Pictures, originals: Pictures) -> float:
    """How far a line stands out in the spectrum of a set of pictures [N, H, W, C], RGB or grey.

    A line is the mean power at a frequency from S/10 to S/2 cycles an image over the median of its
    neighbours' within 0.06 S; the pictures' strongest, divided by the originals' [M, H, W, C] at
    the same frequency. About 1: no grid; 3 can be seen; transposed convolutions leave 10 and more.
    S is the side of square pictures; of others rows and columns are taken apart, each with its own.
    """
    lines, natural = (np.concatenate(list(map(_lines, _powers(x)))) for x in (pictures, originals))
    strongest = int(np.argmax(lines))
    return float(lines[strongest] / natural[strongest])


def line_spectrum(pictures: Pictures) -> Power:
    """Mean power [S // 2 + 1] of the rows and columns of square pictures, by cycles an image.

    Every row and column of their grey values is taken by itself, through a window that is zero at
    its ends, where an image's opposite borders would meet in an edge. Raises ValueError for
    pictures [N, H, W, C] that are not square.
    """
    powers = _powers(pictures)
    if len(powers) > 1:
        raise ValueError(f"a line spectrum needs square pictures; received {list(pictures.shape)}")
    return powers[0]


def _powers(pictures: Pictures) -> list[Power]:
    """Mean power of rows and columns together, of square pictures; of others of each apart."""
    height, width = pictures.shape[1:3]
    along = [np.zeros(size // 2 + 1) for size in (width, height)]
    if height == width:
        along[1] = along[0]
    for picture in pictures:  # one at a time, as a set may be large
        grey = picture @ np.asarray(_LUMA) if picture.shape[-1] == 3 else picture[..., 0]
        for lines, total in zip((grey, grey.T), along, strict=True):
            window = np.hanning(lines.shape[1] + 1)[:-1]
            level = np.sum(lines * window, axis=1, keepdims=True) / np.sum(window)
            power = np.square(np.abs(np.fft.rfft((lines - level) * window, axis=1)))
            total += power.mean(axis=0)
    if height == width:
        return [along[0] / (2 * len(pictures))]
    return [total / len(pictures) for total in along]


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
