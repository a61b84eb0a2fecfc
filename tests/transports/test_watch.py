"""Many descriptors under one watch; a reader for each where there is no epoll."""

import asyncio
import select
import socket

import pytest

from resolverkit.transports.watch import Watch


@pytest.fixture(params=["epoll", "readers"])
def way(request, monkeypatch):
    if request.param == "readers":
        monkeypatch.delattr(select, "epoll", raising=False)
    elif not hasattr(select, "epoll"):
        pytest.skip("no epoll here")


@pytest.mark.usefixtures("way")
def test_each_item_is_read_until_it_is_removed():
    async def main():
        seen = []

        def read(pair):
            seen.append((pair, pair[0].recv(10)))

        watch = Watch(asyncio.get_running_loop(), read)
        pairs = [socket.socketpair() for _ in range(3)]
        for pair in pairs:
            watch.add(pair[0].fileno(), pair)
        pairs[0][1].send(b"a")
        pairs[2][1].send(b"c")
        await asyncio.sleep(0.01)
        assert sorted(data for _, data in seen) == [b"a", b"c"]
        assert {pair for pair, _ in seen} == {pairs[0], pairs[2]}
        watch.remove(pairs[0][0].fileno())
        pairs[0][1].send(b"a")
        pairs[1][1].send(b"b")
        await asyncio.sleep(0.01)
        assert seen[2:] == [(pairs[1], b"b")]
        for pair in pairs[1:]:
            watch.remove(pair[0].fileno())
        watch.close()
        for end in (end for pair in pairs for end in pair):
            end.close()

    asyncio.run(main())


@pytest.mark.usefixtures("way")
def test_what_is_removed_by_another_s_reading_is_not_read():
    async def main():
        seen = []
        pairs = [socket.socketpair() for _ in range(2)]

        def read(pair):
            seen.append(pair[0].recv(10))
            other = pairs[1 - pairs.index(pair)]
            if len(seen) == 1:
                watch.remove(other[0].fileno())

        watch = Watch(asyncio.get_running_loop(), read)
        for pair in pairs:
            watch.add(pair[0].fileno(), pair)
        for pair in pairs:
            pair[1].send(b"x")
        await asyncio.sleep(0.01)
        assert seen == [b"x"]
        watch.close()
        for end in (end for pair in pairs for end in pair):
            end.close()

    asyncio.run(main())
