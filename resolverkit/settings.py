"""What a program is told from outside: by a TOML file, or by the environment.

Names and values are those of `Resolver`. What the code says itself comes first; then,
in this order, the file that it names, ``RESOLVERKIT_UPSTREAMS``, the file in
``RESOLVERKIT_CONFIG``, and the system's own servers.
"""

from __future__ import annotations

import dataclasses
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import quote

from resolverkit.errors import ConfigurationError
from resolverkit.memory import MAX_BYTES
from resolverkit.policy import StalePolicy
from resolverkit.settings_file import SettingsFile, concerns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_T = TypeVar("_T")
_BETWEEN = re.compile(r"[\s,]+")

FILE = "RESOLVERKIT_CONFIG"
"""The variable with the path of a TOML file."""
UPSTREAMS = "RESOLVERKIT_UPSTREAMS"
"""The variable with upstreams, between them commas or spaces."""

FOR_SERVE = frozenset({
    "listen", "listen_tls", "tls_cert", "tls_key", "allow", "rate_limit", "explain",
    "max_in_flight", "max_connections", "workers", "listen_https", "http",
})  # fmt: skip
"""Names in a file that only `resolverkit serve` heeds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that a Resolver can be told in text; names as there.

    Attributes:
        upstreams: who to ask; None for the system's servers.
        ca: PEM file to trust for those that are encrypted and name none.
        stale: a table with `StalePolicy`'s names, or whether to serve stale at all.
        source: by name, the variable that said so, for errors.
    """

    upstreams: Sequence[str] | None = None
    ca: str | None = None
    strategy: str = "hedge"
    stale: bool | Mapping[str, Any] = True
    store: str | None = None
    cache_size: int = MAX_BYTES
    on_block: str = "accept"
    routes: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    source: Mapping[str, str] = dataclasses.field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if field.name == "source":
                continue
            _check(field.name, getattr(self, field.name), str(field.type))
        if self.upstreams is not None and not self.upstreams:
            raise ConfigurationError("upstreams=[]: name at least one")

    @classmethod
    def load(
        cls,
        file: str | os.PathLike[str] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Self:
        """Settings from a file and the environment, with options that come first.

        Args:
            file: in place of that of the environment.
            options: by name; None and what is empty say nothing.

        Raises:
            ConfigurationError: a file cannot be read, or has a name or a value in it
                that cannot be used.
        """
        given = {k: v for k, v in (options or {}).items() if v not in (None, [], ())}
        variable = "" if file is not None else os.environ.get(FILE, "")
        path = variable if file is None else file
        try:
            told = SettingsFile(path) if path else None
            values = {} if told is None else cls._for_us(told)
        except ConfigurationError as error:
            if not variable:
                raise
            raise ConfigurationError(f"{FILE}={variable}: {error}") from None
        source = dict.fromkeys(values, f"{FILE}={variable}") if variable else {}
        upstreams = [
            text for text in _BETWEEN.split(os.environ.get(UPSTREAMS, "")) if text
        ]
        explicit = given if file is None else {**values, **given}
        if upstreams and "upstreams" not in explicit:
            values["upstreams"] = upstreams
            source["upstreams"] = UPSTREAMS
        source = {name: who for name, who in source.items() if name not in given}
        try:
            found = cls(**(values | given))
            found.check()
        except ConfigurationError as error:
            elsewhere = {*given, *(n for n, who in source.items() if who == UPSTREAMS)}
            placed = error
            if told is not None and told.concerned(error, elsewhere):
                placed = told.place(error, elsewhere)
            raise _blamed(error, source, values, placed) from None
        return dataclasses.replace(found, source=source)

    @classmethod
    def _for_us(cls, told: SettingsFile) -> dict[str, Any]:
        """What a file says, as far as it is for this class."""
        known = [f.name for f in dataclasses.fields(cls) if f.name != "source"]
        for name in told.values:
            if name not in known and name not in FOR_SERVE:
                raise told.place(f"{name}: allowed are {', '.join(known)}")
        return {name: value for name, value in told.values.items() if name in known}

    def check(self) -> None:
        """Raise ConfigurationError where nothing can be made from them."""

    def make(self, face: Callable[..., _T], **options: Any) -> _T:
        """The Resolver that they describe.

        Args:
            face: of what class.
            **options: of it, besides.

        Raises:
            ConfigurationError: they describe none.
        """
        try:
            stale, upstreams = self.stale, self.upstreams
            if upstreams is not None:
                upstreams = [with_ca(url, self.ca) for url in upstreams]
            return face(
                upstreams,
                strategy=self.strategy,
                stale=stale if isinstance(stale, bool) else _policy(stale),
                store=self.store,
                cache_size=self.cache_size,
                on_block=self.on_block,
                routes=self.routes,
                **options,
            )
        except ConfigurationError as error:
            said = {name: getattr(self, name) for name in self.source}
            raise _blamed(error, self.source, said) from None


def with_ca(url: str, ca: str | None) -> str:
    """The URL with a CA file, where it is encrypted and has none."""
    if ca is None or not url.startswith(("tls://", "https://")) or "ca=" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}ca={quote(ca)}"


def _blamed(
    error: ConfigurationError,
    source: Mapping[str, str],
    values: Mapping[str, Any],
    placed: ConfigurationError | None = None,
) -> ConfigurationError:
    """The error, or `placed` for it, with the variable to blame, if one is."""
    who = {w: None for name, w in source.items() if concerns(error, name, values[name])}
    told = placed or error
    return ConfigurationError(f"{', '.join(who)}: {told}") if who else told


def _policy(table: Mapping[str, Any]) -> StalePolicy:
    for name, value in table.items():
        try:
            StalePolicy(**{name: value})
        except TypeError:
            allowed = ", ".join(f.name for f in dataclasses.fields(StalePolicy))
            raise ConfigurationError(
                f"{name}={value!r}: allowed in stale are {allowed}; on_denial is a "
                "string, the others are numbers"
            ) from None
    return StalePolicy(**table)


_WORDS = {
    "Sequence[str]": "a list of strings",
    "Sequence[str] | None": "a list of strings",
    "str": "a string",
    "str | None": "a string",
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "bool | Mapping[str, Any]": "true, false or a table",
    "Mapping[str, Sequence[str]]": "a table of lists of strings",
}
"""What a value of a type is called in TOML."""


def _check(name: str, value: Any, kind: str) -> None:
    """Raise ConfigurationError for a value of another type than TOML should have."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    right = {
        "Sequence[str]": _is_strings(value),
        "Sequence[str] | None": value is None or _is_strings(value),
        "str": isinstance(value, str),
        "str | None": value is None or isinstance(value, str),
        "bool": isinstance(value, bool),
        "int": number and isinstance(value, int),
        "float": number,
        "bool | Mapping[str, Any]": isinstance(value, (bool, dict)),
        "Mapping[str, Sequence[str]]": isinstance(value, dict)
        and all(_is_strings(each) for each in value.values()),
    }[kind]
    if not right:
        raise ConfigurationError(f"{name}={value!r}: allowed is {_WORDS[kind]}")


def _is_strings(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(
        isinstance(each, str) for each in value
    )
