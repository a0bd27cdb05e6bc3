"""What a street scene may look like and how it is seen. Metres and radians throughout."""

import dataclasses
import math

Range = tuple[float, float]


def _degrees(low: float, high: float) -> Range:
    return math.radians(low), math.radians(high)


@dataclasses.dataclass(frozen=True)
class SceneConfig:
    """Everything that is static in a rendering program: hashable, so that `jit` can take it.

    rays: 1, the pixel's centre; 2, quincunx: the centre (weight 1/2) and the four corners that
    neighbouring pixels share (1/8 each), about two rays a pixel; 4, a regular 2x2.
    """

    height: int = 100
    width: int = 100
    rays: int = 2
    field_of_view: Range = _degrees(35.0, 95.0)
    # The target's offset from the image's centre, as a fraction of the field of view, at most.
    centre_jitter: float = 0.05
    roll: float = math.radians(5.0)
    eye_height: Range = (1.5, 3.0)
    angle_between: Range = _degrees(0.0, 100.0)
    # Grazing views of the target's facade are refused below this cosine of incidence.
    least_cosine: float = 0.2
    distance: Range = (4.0, 40.0)
    candidates: int = 32
    street_half_width: Range = (4.5, 15.0)
    building_height: Range = (6.0, 22.0)
    chance_of_gap: float = 0.25
    chance_of_square: float = 0.15
    tile: Range = (9.0, 14.0)
    tint: float = 0.12
    colour_jitter: float = 0.02
    noise: float = 0.02

    def __post_init__(self):
        if self.rays not in (1, 2, 4):
            raise ValueError(f"rays must be 1, 2 or 4, not {self.rays!r}")
        if self.height < 2 or self.width < 2:
            raise ValueError(f"images must be at least 2x2, not {self.height}x{self.width}")
        if not 0.0 < self.field_of_view[0] <= self.field_of_view[1] < math.pi:
            raise ValueError(f"field_of_view must lie in (0, pi), not {self.field_of_view!r}")
        if self.candidates < 2:
            raise ValueError(f"two views need two candidates or more, not {self.candidates!r}")
