"""A kind of scene: its names, its configuration and the functions that make and colour it."""

from collections.abc import Callable
from typing import Any, NamedTuple

from posenet_jax.scenes.config import ViewConfig


class SceneFunctions(NamedTuple):
    """Functions that make and colour a kind's scenes; unbatched. `world` is what `build` makes."""

    build: Callable[..., Any]  # (SceneKeys, config) -> world
    targets: Callable[..., Any]  # (key, world) -> points [T, 3], unit normals [T, 3]
    places: Callable[..., Any]  # (key, world, target [3], config) -> camera centres [K, 3]
    texture: Callable[..., Any]  # (world, direction, hit, point, number of facades) -> Texture
    lit: Callable[..., Any]  # (world, point) -> bool [R]: does the main light reach it?
    colour: Callable[..., Any]  # (world, seen, texel, lit) -> display-referred Colour
    semantic: Callable[..., Any]  # (world, seen) -> uint8 [R]
    clutter: Callable[[Any], Any] | None = None  # world -> world without clutter; None: has none


class Kind(NamedTuple):
    """All that a kind of scene must say; everything else is shared.

    A record is made without JAX, so that flags can list the kinds before it is imported: modules
    that need it are imported by `functions`.
    """

    name: str  # in flags and figures: "streets"
    written: str  # in data sets and tables already on disk: "cities"
    title: str  # title of its pictures on a page: "Rendered streets"
    config: type[ViewConfig]
    functions: Callable[[], SceneFunctions]
    figure: int | None = None  # number of its figure in the report's page

    @property
    def figure_titles(self) -> tuple[str, str, str]:
        """File name, heading and words of the figure of its inverted pictures."""
        if self.figure is None:
            return f"scenes_{self.name}", f"Scenes inverted: {self.name}", self.title
        number = self.figure
        return f"figure_{number}_{self.name}", f"Fig. {number}: {self.name} inverted", self.title
