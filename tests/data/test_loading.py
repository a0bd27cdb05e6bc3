"""Images of a source in memory: those that can be read, each at its place in the source."""

import numpy as np
import pytest
from PIL import Image

from posenet_jax.data.loading import load_images, readable
from posenet_jax.data.sources import FirstImages, FolderImages
from posenet_jax.images.image_files import read_images
from posenet_jax.images.image_list import list_images
from posenet_jax.images.preprocessing import Preprocessing

SPACE = Preprocessing(means=(0.0, 0.0, 0.0), size=20)


@pytest.fixture
def folder(tmp_path):
    """Three images, two of one stem, and in their midst a file that is none."""
    rng = np.random.default_rng(0)
    for name in ("a.png", "more/a.png", "more/b.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(rng.integers(0, 256, (30, 40, 3)).astype(np.uint8)).save(path)
    (tmp_path / "photos" / "aa.png").write_text("not a picture")
    return tmp_path / "photos"


def test_images_keep_their_positions_and_the_names_of_their_files(folder):
    source = FolderImages(folder)
    loaded = load_images(source, SPACE, threads=2)
    assert loaded.positions == [0, 2, 3]
    assert loaded.names == ["a.png", "more/a.png", "more/b.png"]
    assert loaded.names == [source.name(i) for i in loaded.positions]
    assert [str(failure).split(":")[0] for failure in loaded.failures] == [f"{folder}/aa.png"]
    apart = read_images(list_images(folder), SPACE)
    assert loaded.stems == apart.names and len(set(loaded.stems)) == 3
    np.testing.assert_array_equal(loaded.pixels, np.stack(apart.images))


def test_names_of_files_do_not_depend_on_what_can_be_read(folder):
    """Not even where the one that cannot be read would have had the same."""
    before = load_images(FolderImages(folder), SPACE).stems
    (folder / "a.png").write_text("not a picture")
    assert load_images(FolderImages(folder), SPACE).stems == before[1:]


def test_of_nothing_that_can_be_read_nothing_is_loaded(folder):
    loaded = load_images(FolderImages(folder / "aa.png"), SPACE)
    assert loaded.pixels.shape == (0, 20, 20, 3) and not loaded.names and len(loaded.failures) == 1


def test_images_are_read_until_enough_can_be(folder):
    told = []
    found = readable(FolderImages(folder), SPACE, threads=1, report=told.append)
    assert next(found).name == "a.png" and not told
    name, image = next(found)
    assert name == "more/a.png" and image.shape == (20, 20, 3) and "aa.png" in str(told)
    found.close()


def test_the_first_images_of_a_source(folder):
    whole = FolderImages(folder)
    first = FirstImages(whole, 1)
    assert len(first) == 1 and first.name(0) == "a.png"
    np.testing.assert_array_equal(first[0].image, whole[0].image)
    with pytest.raises(IndexError, match="position 1 of the first 1 images"):
        first[1]
    prints = {first.fingerprint, FirstImages(whole, 2).fingerprint, whole.fingerprint}
    assert len(prints) == 3
