"""What a blocking Resolver keeps, and its cache, as seen from any thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

import dns.name
import dns.rdatatype
import dns.resolver

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resolverkit.answer import Answer
    from resolverkit.blocking import Resolver
    from resolverkit.cacheview import CacheView
    from resolverkit.contents import Contents, Kept


class BlockingContents:
    """What a Resolver keeps in memory and in its store; see `Resolver.store`."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._contents: Contents = resolver._inner.store

    def __len__(self) -> int:
        return self._resolver._call(len, self._contents)

    def __iter__(self) -> Iterator[Kept]:
        return iter(self._resolver._call(list, self._contents))

    def get(
        self, name: dns.name.Name | str, rdtype: dns.rdatatype.RdataType | str = "A"
    ) -> Kept | None:
        """What is in memory for a name and a type, fresh or not."""
        return self._resolver._call(self._contents.get, name, rdtype)

    def flush(
        self, name: dns.name.Name | str | None = None, *, subtree: bool = False
    ) -> int:
        """Forget answers; see `resolverkit.contents.Contents.flush`."""
        return self._resolver._run(self._contents.flush(name, subtree=subtree))

    def export(self, file: TextIO) -> int:
        """Write positive answers; see `resolverkit.contents.Contents.export`."""
        return self._resolver._run(self._contents.export(file))

    def load(self, lines: Iterable[str]) -> int:
        """Take in what `export` wrote, as old as it is by now; newer answers stay."""
        return self._resolver._call(self._contents.load, list(lines))


class BlockingView(dns.resolver.CacheBase):
    """What `Resolver.cache` gives: the entries that are fresh, by dnspython's keys."""

    def __init__(self, resolver: Resolver, view: CacheView) -> None:
        super().__init__()
        self._resolver = resolver
        self._view = view
        self.statistics: dns.resolver.CacheStatistics = view.statistics

    def get(self, key: dns.resolver.CacheKey) -> Answer | None:
        """The answer for (name, type, class), or None if there is no fresh one."""
        return self._resolver._call(self._view.get, key)

    def flush(self, key: dns.resolver.CacheKey | None = None) -> None:
        """Forget one key, or everything."""
        self._resolver._call(self._view.flush, key)

    def reset_statistics(self) -> None:
        """Set the counts of hits and misses to zero."""
        self._resolver._call(self._view.reset_statistics)
