"""The cache as dnspython's users know one: a `CacheBase` to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dns.resolver

from resolverkit import wire
from resolverkit.answer import Answer
from resolverkit.model import Source

if TYPE_CHECKING:
    from resolverkit.cache import Cache

BYTES_PER_NODE = 1024
"""What one entry of a dnspython cache is taken for when it sets the size: an entry that
is read often, with a message of some size."""


class CacheView(dns.resolver.CacheBase):
    """What `Resolver.cache` gives: the entries that are fresh, by dnspython's keys."""

    def __init__(self, store: Cache) -> None:
        super().__init__()
        self._store = store
        self.statistics: dns.resolver.CacheStatistics = dns.resolver.CacheStatistics(
            store.hits, store.misses
        )

    def get(self, key: dns.resolver.CacheKey) -> Answer | None:
        """The answer for (name, type, class), or None if there is no fresh one."""
        name, rdtype, rdclass = key
        question = wire.make_question(wire.name_to_wire(name), rdtype, rdclass)
        entry = self._store.find(question)
        if entry is None or self._store.clock() >= entry.expires:
            return None
        return Answer(entry, Source.CACHE, self._store)

    def flush(self, key: dns.resolver.CacheKey | None = None) -> None:
        """Forget one key, or everything."""
        if key is None:
            self._store.clear()
            return
        name, rdtype, rdclass = key
        question = wire.make_question(wire.name_to_wire(name), rdtype, rdclass)
        entry = self._store.find(question)
        if entry is not None:
            self._store.drop(entry)

    def reset_statistics(self) -> None:
        """Set the counts of hits and misses to zero."""
        self._store.hits = self._store.misses = 0
        self.statistics.reset()

    @staticmethod
    def size_of(cache: dns.resolver.CacheBase | None, default: int) -> int:
        """Bytes that a cache assigned to a Resolver stands for.

        Args:
            cache: None switches caching off; an LRUCache has a number of entries.
            default: bytes for any other cache.
        """
        if cache is None:
            return 0
        nodes = getattr(cache, "max_size", None)
        return default if nodes is None else int(nodes) * BYTES_PER_NODE
