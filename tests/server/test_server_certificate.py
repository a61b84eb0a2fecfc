"""Certificates that change while a server runs."""

from __future__ import annotations

import asyncio
import ssl

import pytest
import trustme
from facing import LIMIT, Faced

from resolverkit import Resolver
from resolverkit.errors import ConfigurationError
from resolverkit.server.stub import Server


class Renewed:
    """Files of a certificate, and the one that is to take its place."""

    def __init__(self, directory):
        self.ca = trustme.CA()
        self.cert, self.key = directory / "cert.pem", directory / "key.pem"
        self.made = [self.ca.issue_cert("localhost") for _ in range(2)]
        self.write(0, "cert", "key")

    def write(self, which, *parts):
        one = self.made[which]
        if "cert" in parts:
            one.cert_chain_pems[0].write_to_path(str(self.cert))
        if "key" in parts:
            one.private_key_pem.write_to_path(str(self.key))

    async def shown(self, address):
        """Which certificate a server shows."""
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        _, writer = await asyncio.open_connection(
            address.host, address.port, ssl=context, server_hostname="localhost"
        )
        found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        await writer.wait_closed()
        pem = ssl.DER_cert_to_PEM_cert(found).encode()
        return [one.cert_chain_pems[0].bytes().strip() for one in self.made].index(
            pem.strip()
        )


async def half_renewed(files, holder, address):
    assert await files.shown(address) == 0
    files.write(1, "cert")  # its key is not there yet
    with pytest.raises(ConfigurationError, match="mismatch"):
        holder.load_certificate()
    assert await files.shown(address) == 0
    files.write(1, "key")
    holder.load_certificate()
    assert await files.shown(address) == 1


def test_dns_over_tls_goes_on_with_the_certificate_before_one_that_is_not_whole(
    tmp_path,
):
    async def main():
        files = Renewed(tmp_path)
        async with (
            asyncio.timeout(LIMIT),
            Resolver(["192.0.2.1"], configure=False) as resolver,
            Server(
                resolver, [], listen_tls=["127.0.0.1:0"],
                tls_cert=files.cert, tls_key=files.key,
            ) as server,
        ):  # fmt: skip
            await half_renewed(files, server, server.tls_addresses[0])

    asyncio.run(main())


def test_so_does_dns_over_https(tmp_path):
    async def main():
        files = Renewed(tmp_path)
        tls = {"tls_cert": files.cert, "tls_key": files.key}
        async with asyncio.timeout(LIMIT), Faced(pages=False, tls=tls) as stub:
            await half_renewed(files, stub.face, stub.face.address)

    asyncio.run(main())
