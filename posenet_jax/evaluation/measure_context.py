"""Pictures to measure, and values that several measures need: `Context`.

N pictures and originals, uint8 [N, H, W, C] as the encoder reads them; descriptors [N, …] of the
originals. What a person sees of other numbers of channels than 1 and 3 is `Preprocessing.picture`.
"""

import dataclasses
import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from posenet_jax import metrics
from posenet_jax.encoders.encoder import Encoder, Tap
from posenet_jax.evaluation.feature_networks import Lpips

Array = jax.Array
Need = Literal["originals", "judge", "heads", "lpips"]


@dataclasses.dataclass(frozen=True, eq=False)
class Context:
    """Pictures to measure. Values that several measures need are computed once, at the first use.

    tap: the inverted layer. targets: its descriptors of the originals. judge: a layer of an encoder
    that no inversion saw. encoder: the one whose pose heads are used, if it has any. lpips: the
    network of LPIPS.
    """

    tap: Tap
    targets: np.ndarray
    pictures: np.ndarray
    originals: np.ndarray | None = None
    judge: Tap | None = None
    encoder: Encoder | None = None
    lpips: Lpips | None = None
    _described: dict[tuple[int, int, str, str], np.ndarray] = dataclasses.field(
        default_factory=dict, init=False, repr=False
    )

    @property
    def available(self) -> frozenset[Need]:
        """Needs of measures that are met."""
        met: dict[Need, bool] = {
            "originals": self.originals is not None,
            "judge": self.judge is not None,
            "heads": self.encoder is not None and self.encoder.predicts_poses,
            "lpips": self.lpips is not None,
        }
        return frozenset(need for need, is_met in met.items() if is_met)

    def with_pictures(self, pictures: np.ndarray) -> "Context":
        """Returns the context of other pictures; the same originals are not encoded again."""
        other = dataclasses.replace(self, pictures=pictures)
        known = {key: rows for key, rows in self._described.items() if key[-1] == "originals"}
        other._described.update(known)
        return other

    def described(self, tap: Tap, images: Literal["pictures", "originals"]) -> np.ndarray:
        """Returns the descriptors [N, …] of the pictures or of the originals at a layer.

        An encoder that reads images of another size has them resized, and their colours made grey
        or the other way round, both alike.
        """
        key = (id(tap.params), id(tap.module), tap.layer, images)
        if key not in self._described:
            space = tap.preprocessing
            own = space.channels == self.tap.preprocessing.channels
            shown = getattr(self, images) if own else getattr(self, f"seen_{images}")
            self._described[key] = tap.describe(space.resize_all(shown))
        return self._described[key]

    @functools.cached_property
    def seen_pictures(self) -> np.ndarray:
        """[N, H, W, 3] or [N, H, W, 1] what a person sees of the pictures."""
        return self._seen(self.pictures)

    @functools.cached_property
    def seen_originals(self) -> np.ndarray:
        """Likewise of the originals."""
        assert self.originals is not None
        return self._seen(self.originals)

    def _seen(self, images: np.ndarray) -> np.ndarray:
        return images if images.shape[-1] in (1, 3) else self.tap.preprocessing.picture(images)

    @functools.cached_property
    def correlations(self) -> np.ndarray:
        """[N, N] luminance correlation of every picture (rows) with every original."""
        pair = jnp.asarray(self.seen_pictures), jnp.asarray(self.seen_originals)
        return np.asarray(metrics.luminance_correlations(*pair))

    @functools.cached_property
    def distances(self) -> np.ndarray:
        """[N, N] squared distance of every picture's descriptor (rows) to every target."""
        both = self.described(self.tap, "pictures"), self.targets
        a, b = (x.reshape((len(x), -1)).astype(np.float64) for x in both)
        return np.sum(a**2, axis=1)[:, None] + np.sum(b**2, axis=1) - 2.0 * a @ b.T

    @functools.cached_property
    def pixels(self) -> dict[str, np.ndarray]:
        """Pixel measures of each picture with its original, by their names."""
        return _pixel_measures(self.pictures, self.originals)

    @functools.cached_property
    def other_pixels(self) -> dict[str, np.ndarray]:
        """Pixel measures of each picture with the next original; NaN where there is no other."""
        assert self.originals is not None
        measures = _pixel_measures(self.pictures, np.roll(self.originals, -1, axis=0))
        alone = len(self.pictures) == 1
        return {name: np.full(1, np.nan) if alone else x for name, x in measures.items()}

    @functools.cached_property
    def head_measures(self) -> dict[str, np.ndarray]:
        """Predictions of the pose heads for picture and original, by the measures' names."""
        assert self.encoder is not None
        tap = self.encoder.tap("fc5")
        originals, pictures = (self.described(tap, x) for x in ("originals", "pictures"))
        encoder = jax.device_get(self.encoder)
        following = np.roll(originals, -1, axis=0)
        of_originals, of_pictures, of_others = (
            np.asarray(encoder.poses(first, following))
            for first in (originals, pictures, np.roll(originals, -2, axis=0))
        )
        matches, other_matches = (
            np.asarray(jax.nn.sigmoid(encoder.matches(originals, second)))
            for second in (pictures, np.roll(pictures, -1, axis=0))
        )
        return {
            "pose_disagreement": metrics.rotation_errors(of_pictures, of_originals),
            "other_pose_disagreement": metrics.rotation_errors(of_others, of_originals),
            "match_probability": matches,
            "other_match_probability": other_matches,
        }


@jax.jit
def _pixels(pictures: Array, originals: Array) -> dict[str, Array]:
    def one(pair: tuple[Array, Array]) -> tuple[Array, Array, Array]:
        picture, original = pair
        square = metrics.mean_squared_error(picture, original)
        return metrics.psnr(picture, original), metrics.ssim(picture, original), square

    psnr, ssim, square = jax.lax.map(one, (pictures, originals))
    return {"psnr": psnr, "ssim": ssim, "mean_squared_error": square}


def _pixel_measures(pictures: np.ndarray, originals: np.ndarray | None) -> dict[str, np.ndarray]:
    assert originals is not None
    return {name: np.asarray(x) for name, x in _pixels(pictures, originals).items()}
