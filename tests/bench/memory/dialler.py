"""Dials N addresses of 198.18.0.0/15, each once: a byte there, the same byte back."""
import asyncio, ipaddress, sys

FIRST = int(ipaddress.ip_address("198.18.0.1"))


async def dial(addresses):
    for number in addresses:
        address = str(ipaddress.ip_address(number))
        for patience in range(100):  # the listener may be starting
            try:
                reader, writer = await asyncio.open_connection(address, 7777)
                writer.write(b"x")
                got = await asyncio.wait_for(reader.read(1), 10)
                writer.close()
                if got == b"x":
                    break
            except OSError:
                pass
            await asyncio.sleep(0.1)
        else:
            sys.exit(f"{address} does not answer")


async def main():
    addresses = iter(range(FIRST, FIRST + int(sys.argv[1])))
    await asyncio.gather(*(dial(addresses) for _ in range(64)))


asyncio.run(main())
