"""A micro transformer, a few images, the methods that are shipped."""

from vitlib.inputs.models import Vit
from vitlib.inputs.sources import Data
from vitlib.papers.teachers.measure import Quality
from vitlib.teachers.teacher import Teacher

MICRO = Vit(embed_dim=8, depth=2, num_heads=2, patch_size=2)
DATA = Data(source="digits", image_size=8, per_class=4, mean=(0.3,), std=(0.4,))
METHODS = ["supervised", "dino", "mae", "convnet"]


def run_quality(origin):
    return Quality(teacher=Teacher(origin=origin), data=Data(source="digits", image_size=8))
