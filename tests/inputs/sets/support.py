"""What tests of folders of pictures share."""

from vitlib.inputs.sources import Data

PETS = Data(source="folder/pets", image_size=8, mean=(0.5,), std=(0.5,))
ACUTE = "caf\u00e9"
