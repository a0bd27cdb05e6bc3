"""Configuration of scenes and of views. Metres and radians throughout."""

import dataclasses
import math

Range = tuple[float, float]


def _degrees(low: float, high: float) -> Range:
    return math.radians(low), math.radians(high)


@dataclasses.dataclass(frozen=True)
class DevelopmentConfig:
    """How photographs of a pair vary, and from each other."""

    automatic: Range = (0.6, 1.0)  # how far exposure is corrected toward a middle grey mean
    colour_jitter: float = 0.02
    noise: float = 0.02  # of the sensor, largest standard deviation, 1 = white
    sharpening: float = 0.0  # largest weight of each neighbour that is taken away, after the lens
    # JPEG quality of the stored file, 100 down to this; 100: not compressed.
    lowest_quality: float = 100.0
    # Largest turn of all hues, radians, and change of saturation, a fraction; luma stays.
    hue: float = 0.0
    saturation: float = 0.0
    # Of exposure, tone, colours and lens between the two: 0, the same; 1, drawn apart.
    difference: float = 0.2


@dataclasses.dataclass(frozen=True)
class ViewConfig:
    """How scenes of any kind are seen and photographed. Static: hashable, so that `jit` takes it.

    rays: 1, the pixel's centre; 2, quincunx: the centre (weight 1/2) and the four corners that
    neighbouring pixels share (1/8 each), about two rays a pixel; 4, a regular 2x2.
    """

    height: int = 100
    width: int = 100
    rays: int = 2
    field_of_view: Range = _degrees(35.0, 95.0)
    # Between a pair's two fields of view: 0, the same; 1, drawn apart.
    field_of_view_difference: float = 0.0
    # The target's offset from the image's centre, as a fraction of the field of view, at most.
    centre_jitter: float = 0.05
    # Chance that a pair's views only overlap: each looks past the target, by up to this fraction.
    chance_aside: float = 0.0
    aside: float = 0.45
    # Chance that a pair looks along the scene's first axis, a street's, from about one place, as
    # people who photograph streets do, instead of at its target.
    chance_along: float = 0.0
    roll: float = math.radians(5.0)
    eye_height: Range = (1.5, 3.0)
    angle_between: Range = _degrees(0.0, 100.0)
    # Grazing views of the target's surface are refused below this cosine of incidence.
    least_cosine: float = 0.2
    distance: Range = (4.0, 40.0)
    # Metres between a camera and the nearest thing.
    clearance: float = 1.0
    candidates: int = 32
    development: DevelopmentConfig = DevelopmentConfig()

    def __post_init__(self) -> None:
        if self.rays not in (1, 2, 4):
            raise ValueError(f"rays must be 1, 2 or 4, not {self.rays!r}")
        if self.height < 2 or self.width < 2:
            raise ValueError(f"images must be at least 2x2, not {self.height}x{self.width}")
        if not 0.0 < self.field_of_view[0] <= self.field_of_view[1] < math.pi:
            raise ValueError(f"field_of_view must lie in (0, pi), not {self.field_of_view!r}")
        if self.candidates < 2:
            raise ValueError(f"two views need two candidates or more, not {self.candidates!r}")


@dataclasses.dataclass(frozen=True)
class SceneConfig(ViewConfig):
    """Streets, seen from the street."""

    street_half_width: Range = (4.5, 15.0)
    building_height: Range = (6.0, 22.0)
    chance_of_gap: float = 0.25
    chance_of_square: float = 0.15
    tile: Range = (9.0, 14.0)
    tint: float = 0.12
    # Chances of a closed court in place of an open street, of vehicles of any size in the way and
    # people, and of night, low sun, snow or fog.
    chance_of_court: float = 0.0
    chance_of_traffic: float = 0.0
    chance_of_weather: float = 0.0


@dataclasses.dataclass(frozen=True)
class CarConfig(SceneConfig):
    """A car at the kerb of a street or on a studio's turntable, seen from around it."""

    field_of_view: Range = _degrees(32.0, 75.0)
    eye_height: Range = (0.7, 2.5)
    angle_between: Range = _degrees(0.0, 120.0)
    least_cosine: float = 0.15
    distance: Range = (3.0, 12.0)
    clearance: float = 0.4
    chance_of_studio: float = 0.25


@dataclasses.dataclass(frozen=True)
class RoomConfig(ViewConfig):
    """A furnished room, seen from inside."""

    field_of_view: Range = _degrees(50.0, 95.0)
    eye_height: Range = (1.2, 1.8)
    distance: Range = (1.2, 9.0)
    clearance: float = 0.25
    room_size: Range = (3.4, 7.0)
    room_height: Range = (2.35, 3.2)
