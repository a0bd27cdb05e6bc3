"""Places on the earth as metres about a place near by.

Latitude and longitude are geodetic (WGS-84), in radians, north and east positive; heights are
metres above the ellipsoid or above any level that the places share. All in float64.
"""

import math
from typing import NamedTuple

import numpy as np

# The ellipsoid of WGS-84: semi-major axis in metres, flattening.
SEMI_MAJOR_AXIS = 6_378_137.0
FLATTENING = 1.0 / 298.257223563


class Location(NamedTuple):
    """A place."""

    latitude: float  # radians
    longitude: float  # radians
    height: float  # metres


def east_north_up(place: Location, origin: Location) -> np.ndarray:
    """[3] metres east, north and up of `origin`, in the plane that touches the earth there.

    Differences of latitude and longitude times the radii of curvature along the meridian and across
    it (Snyder, "Map Projections: A Working Manual", 1987, section 4). What is neglected grows with
    the square of the distance: 2 mm at 100 m, below 55 degrees of latitude.
    """
    squared_eccentricity = FLATTENING * (2.0 - FLATTENING)
    bulge = 1.0 - squared_eccentricity * math.sin(origin.latitude) ** 2
    across = SEMI_MAJOR_AXIS / math.sqrt(bulge)
    along = across * (1.0 - squared_eccentricity) / bulge
    # The short way round, for places on either side of the 180th meridian.
    longitude = math.remainder(place.longitude - origin.longitude, math.tau)
    east = (across + origin.height) * math.cos(origin.latitude) * longitude
    north = (along + origin.height) * (place.latitude - origin.latitude)
    return np.array([east, north, place.height - origin.height])
