"""How WeCoLoRA's runs are computed: students, and what they cost in time."""

from vitlib.papers.wecolora.compute import students, timing  # noqa: F401
