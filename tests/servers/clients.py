"""Programs that connect by name, as anybody writes them, but for one line.

    python clients.py PROGRAM CONFIG

CONFIG is JSON: the upstreams and the ports of the servers. For each line that it reads,
the program opens a connection, does something with it, and prints as JSON what came of
that, and how often it has been given stale data.
"""

from __future__ import annotations

import asyncio
import functools
import json
import sys
import time
from types import SimpleNamespace

import resolverkit

WEB, DB, CACHE = (f"{name}.services.example" for name in ("web", "db", "cache"))
at = SimpleNamespace()  # resolver, runner, and the ports of web, db and cache
PROGRAMS = {}


def program(name, *, installed=True, uvloop=False, without=()):
    """Those that are not `installed` say in their own code who looks up names."""

    def decorate(connect):
        PROGRAMS[name] = (connect, installed, uvloop, without)
        return connect

    return decorate


# --- the web -------------------------------------------------------------------------


def web_url():
    return f"http://{WEB}:{at.web}/"


@program("aiohttp")
@program("aiohttp on uvloop", uvloop=True)
@program("aiohttp without aiodns", without=["aiodns"])
async def aiohttp_client():
    import aiohttp

    async with aiohttp.ClientSession() as session, session.get(web_url()) as response:
        return await response.text()


@program("aiohttp by its connector", installed=False)
async def aiohttp_connector():
    import aiohttp

    from resolverkit.integrations.aiohttp import Resolver

    connector = aiohttp.TCPConnector(
        resolver=Resolver(at.resolver), use_dns_cache=False
    )
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(web_url()) as response,
    ):
        return await response.text()


@program("aiohttp server")
async def aiohttp_server():
    """It listens by name; who asks it comes by address."""
    import aiohttp
    from aiohttp import web

    async def greet(_):
        return web.Response(text="hello")

    application = web.Application()
    application.router.add_get("/", greet)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, WEB, 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return await response.text()
    finally:
        await runner.cleanup()


@program("httpx")
def httpx_client():
    import httpx

    with httpx.Client(trust_env=False) as client:
        return client.get(web_url()).text


@program("httpx, async")
async def httpx_async_client():
    import httpx

    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(web_url())).text


@program("httpx by its transport", installed=False)
def httpx_transport():
    import httpx

    from resolverkit.blocking import Resolver
    from resolverkit.integrations.httpx import HTTPTransport

    if not hasattr(at, "blocking"):
        at.blocking = at.resolver = Resolver.over(at.resolver)
    with httpx.Client(transport=HTTPTransport(at.blocking)) as client:
        return client.get(web_url()).text


@program("httpx by its transport, async", installed=False)
async def httpx_async_transport():
    import httpx

    from resolverkit.integrations.httpx import AsyncHTTPTransport

    transport = AsyncHTTPTransport(at.resolver)
    async with httpx.AsyncClient(transport=transport) as client:
        return (await client.get(web_url())).text


@program("requests")
def requests_client():
    import requests

    with requests.Session() as session:
        session.trust_env = False
        return session.get(web_url(), timeout=10).text


@program("urllib3")
def urllib3_client():
    import urllib3

    with urllib3.PoolManager() as pool:
        return pool.request("GET", web_url(), timeout=10).data.decode()


@program("http.client")
def http_client():
    import http.client

    connection = http.client.HTTPConnection(WEB, at.web, timeout=10)
    connection.request("GET", "/")
    text = connection.getresponse().read().decode()
    connection.close()
    return text


async def converse(reader, writer):
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    text = await reader.read()
    writer.close()
    await writer.wait_closed()
    return text.decode().rpartition("\n")[2]


@program("asyncio's streams")
@program("asyncio's streams on uvloop", uvloop=True)
async def streams():
    return await converse(*await asyncio.open_connection(WEB, at.web))


@program("open_connection", installed=False)
async def open_connection():
    connected = await resolverkit.open_connection(WEB, at.web, resolver=at.resolver)
    return await converse(*connected)


# --- PostgreSQL ----------------------------------------------------------------------


@program("asyncpg")
@program("asyncpg on uvloop", uvloop=True)
async def asyncpg_client():
    import asyncpg

    connection = await asyncpg.connect(
        host=DB, port=at.db, user="postgres", database="postgres"
    )
    try:
        return await connection.fetchval("SELECT 'hello'")
    finally:
        await connection.close()


def conninfo():
    return f"host={DB} port={at.db} user=postgres dbname=postgres"


@program("psycopg")
def psycopg_client():
    import psycopg

    with psycopg.connect(conninfo()) as connection:
        return connection.execute("SELECT 'hello'").fetchone()[0]


@program("psycopg, async")
async def psycopg_async_client():
    import psycopg

    connection = await psycopg.AsyncConnection.connect(conninfo())
    async with connection:
        cursor = await connection.execute("SELECT 'hello'")
        return (await cursor.fetchone())[0]


# --- Redis ---------------------------------------------------------------------------


@program("redis-py")
def redis_client():
    import redis

    with redis.Redis(host=CACHE, port=at.cache) as client:
        return client.echo("hello").decode()


@program("redis-py, async")
async def redis_async_client():
    import redis.asyncio

    async with redis.asyncio.Redis(host=CACHE, port=at.cache) as client:
        return (await client.echo("hello")).decode()


# --- all of them ---------------------------------------------------------------------


def main(name, config):
    connect, installed, uvloop, without = PROGRAMS[name]
    sys.modules |= dict.fromkeys(without)  # as if they were not there
    vars(at).update(json.loads(config))
    at.resolver = resolverkit.Resolver(at.upstreams, configure=False)
    if installed:
        at.resolver = resolverkit.install(at.resolver).resolver  # the one line
    loop = asyncio.new_event_loop
    if uvloop:
        from uvloop import new_event_loop as loop
    tell("ready")
    with asyncio.Runner(loop_factory=loop) as runner:
        call = connect
        if asyncio.iscoroutinefunction(connect):
            call = functools.partial(_run, runner, connect)
        for _ in sys.stdin:
            began = time.monotonic()
            try:
                said = call()
            except Exception as error:  # noqa: BLE001  it is told
                said = f"{type(error).__name__}: {error}"
            took = time.monotonic() - began
            stale = at.resolver.stats().stale
            told = {"said": said, "took": round(took, 3), "stale": stale}
            tell(told)


def tell(what):
    sys.stdout.write(f"{json.dumps(what)}\n")
    sys.stdout.flush()


def _run(runner, connect):
    return runner.run(connect())


if __name__ == "__main__":
    main(*sys.argv[1:])
