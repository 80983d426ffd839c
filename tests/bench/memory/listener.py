"""Answers each connection to port 7777 with what it says, whatever its address."""
import asyncio


async def answer(reader, writer):
    writer.write(await reader.read(1))
    await writer.drain()
    writer.close()


async def main():
    server = await asyncio.start_server(answer, "0.0.0.0", 7777, backlog=1024)
    await server.serve_forever()


asyncio.run(main())
