"""One fault of the kind that a tired engineer makes: a few words of one file, replaced by others."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Fault:
    """A fault in the code.

    Attributes:
        name: what is wrong, in words.
        does: what whoever uses the suite would meet.
        file: from the root of the checkout.
        old, new: what stands there, once, and what stands there instead.
        tests: files and folders that ought to notice, from the root of the checkout.
    """

    name: str
    does: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def made_in(self, root: Path) -> str:
        """The file's text with the fault.

        Raises:
            ValueError: where the old text does not stand there exactly once.
        """
        text = (root / self.file).read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: the old text stands {text.count(self.old)} times in {self.file}; allowed: once")
        return text.replace(self.old, self.new)
