"""Folders of photographs and of 3D_Street_View that data sets are made of, with bad files."""

import numpy as np
import pytest
import street_view_files as files
from PIL import Image


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """30 in every format and mode, turned, in folders; three that are no images."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(1)
    kinds = [("jpg", "RGB"), ("png", "RGBA"), ("webp", "RGB"), ("jpg", "L"), ("jpg", "CMYK")]
    for number in range(30):
        extension, mode = kinds[number % 5]
        coarse = rng.integers(0, 256, (4, 6, 3)).astype(np.uint8)
        image = Image.fromarray(coarse).resize((36, 24)).convert(mode)
        path = folder / f"{number % 3}" / f"p{number:02d}.{extension}"
        path.parent.mkdir(exist_ok=True)
        turned = Image.Exif()
        turned[0x0112] = 6 if number % 10 == 0 else 1
        image.save(path, exif=turned)
    (folder / "text.jpg").write_text("no picture")
    (folder / "empty.png").touch()
    whole = (folder / "0" / "p00.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.fixture(scope="module")
def street_view(tmp_path_factory):
    """40 targets of three views each in two regions; five files that are wrong in five ways."""
    folder = tmp_path_factory.mktemp("street_view")
    for target in range(40):
        for view in range(3):
            picture = np.full((16, 16, 3), (target * 5, view * 80, 30), np.uint8)
            files.write_view(
                folder / f"{target % 2:04d}",
                view=view,
                dataset=target % 2,
                target=target,
                place=(3.0 * view - 3.0, -20.0, -2.0),
                picture=picture,
                alignment=files.ALIGNMENT if view == 1 else None,
            )
    bad = [files.write_view(folder / "bad", view=v, target=90) for v in range(4)]
    bad[0].write_text("no picture")
    bad[1].with_suffix(".txt").write_text("d 1 2 3\n")
    bad[2].with_suffix(".txt").unlink()
    bad[3].unlink()
    return folder
