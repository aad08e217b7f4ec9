"""Models and folders of pictures that tests of demands share."""

from pathlib import Path

from tests.support import make_images
from vitlib.inputs.sources import Data

NOWHERE = Path("/nowhere")


def photos(tmp_path, classes=("cat", "dog"), images=3):
    make_images(tmp_path / "photos", classes=classes, images=images)
    return Data(source="folder/photos", image_size=8)
