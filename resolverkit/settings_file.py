"""A TOML file of settings, and the place in it that a mistake is at."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resolverkit.errors import ConfigurationError

if TYPE_CHECKING:
    import os
    from collections.abc import Container, Iterator


class SettingsFile:
    """What a file says.

    Args:
        path: of the file.

    Attributes:
        values: by name.

    Raises:
        ConfigurationError: it cannot be read, or is not TOML; with line and column.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        try:
            text = Path(path).read_text("utf-8")
            self.values: dict[str, Any] = tomllib.loads(text)
        except OSError as error:
            raise ConfigurationError(f"{path}: {error.strerror}") from None
        except ValueError as error:
            raise ConfigurationError(f"{path}: {error}") from None
        self._lines = text.splitlines()

    def concerned(self, problem: object, besides: Container[str] = ()) -> bool:
        """Whether a problem is about what the file says, but for `besides`."""
        return any(
            concerns(problem, name, value)
            for name, value in self.values.items()
            if name not in besides
        )

    def place(
        self, problem: object, besides: Container[str] = ()
    ) -> ConfigurationError:
        """The same problem with the file, and the line that it is about.

        tomllib does not tell where values stand. So the line is the first that has the
        value that the problem quotes, or the name that it begins with; but of none
        of `besides`, which were said elsewhere.
        """
        text = str(problem)
        for name, value in self.values.items():
            if name in besides:
                continue
            for quoted in _strings(value):
                if _quotes(text, quoted) and (line := self._find_text(quoted)):
                    return ConfigurationError(f"{self._path}, line {line}: {text}")
            for known in (*_names(value), name):
                named = rf"\s*\[?[\"']?{re.escape(known)}[\"']?\s*[=\]]"
                if re.match(rf"{re.escape(known)}\b", text) and (
                    line := self._find(f"^{named}") or self._find(f"[{{,]{named}")
                ):
                    return ConfigurationError(f"{self._path}, line {line}: {text}")
        return ConfigurationError(f"{self._path}: {text}")

    def _find_text(self, text: str) -> int:
        """The line of a string, or of what may be a bare key."""
        pattern = re.escape(text)
        return self._find(f"[\"']{pattern}") or self._find(pattern)

    def _find(self, pattern: str) -> int:
        """The number of the first line that has it, from 1; 0 if there is none."""
        found = re.compile(pattern)
        for number, line in enumerate(self._lines, 1):
            if found.search(line) and not line.lstrip().startswith("#"):
                return number
        return 0


def concerns(problem: object, name: str, value: Any) -> bool:
    """Whether a problem quotes a value, or begins with its name."""
    text = str(problem)
    names = "|".join(map(re.escape, (*_names(value), name, name.removesuffix("s"))))
    return re.match(rf"(?:{names})\b", text) is not None or any(
        _quotes(text, quoted) for quoted in _strings(value)
    )


def _quotes(text: str, value: str) -> bool:
    wrong, _, _allowed = text.partition(": allowed")
    return bool(value) and f"'{value}" in wrong


def _strings(value: Any) -> Iterator[str]:
    """All that a problem could quote."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)
    elif isinstance(value, dict):
        yield from value
        yield from _strings(list(value.values()))


def _names(value: Any) -> tuple[str, ...]:
    return tuple(value) if isinstance(value, dict) else ()
