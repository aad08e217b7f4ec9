"""What runs of every document share that take a pretrained model as it is, or start from it."""

from __future__ import annotations

from vitlib.inputs.foreign.demands import Needs, Uses
from vitlib.inputs.sources import Data
from vitlib.spec import RunSpec
from vitlib.teachers.teacher import Teacher


class OnTeacher(RunSpec):
    """A run on a teacher and images."""

    teacher: Teacher
    data: Data

    def uses(self, *methods: Needs) -> Uses:
        """That the teacher can be built for the images and has what the methods need."""
        return Uses("teacher", self.teacher.model, self.data.image_size, self.teacher.channels, methods)
