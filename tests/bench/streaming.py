"""What the Play screen costs while four columns stream: bytes, repaints, keys.

    python -m tests.bench.streaming [--columns 4] [--rate 40] [--seconds 20] [--keys 100]

A server on loopback speaks as OpenAI's do and writes ``--rate`` tokens a second for each column;
the real program runs in a pty at 120x40 and is driven by keys alone.
"""

import argparse
import asyncio
import json
import random
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from engine.home import open_home
from tests.bench.load import Meter, quantile

WORDS = "this sturdy oak bench seats two people and is oiled by hand so it lasts for years in any "
WORDS += "garden or hall the colour is natural it comes in a flat box with screws and a short guide"
FRAME = b"\x1b[?2026l"
"""The end of a frame, as it is drawn on a terminal that draws whole frames at once."""


class Counting(Meter):
    frames = 0
    keep = b""

    def read_once(self, seconds: float) -> bytes:
        data = super().read_once(seconds)
        self.frames += (self.keep[-8:] + data).count(FRAME) - self.keep[-8:].count(FRAME)
        self.keep = data or self.keep
        return data


def serve(rate: float) -> int:
    """Start the server in a thread; returns its port."""
    started = threading.Event()
    port = [0]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line.split(b":")[1]) for line in head.lower().split(b"\r\n")
             if line.startswith(b"content-length")), 0)  # fmt: skip
        await reader.readexactly(length)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        chance, words = random.Random(0), WORDS.split()
        due = time.monotonic()
        try:
            while True:
                said = {"choices": [{"index": 0, "delta": {"content": f"{chance.choice(words)} "}}]}
                writer.write(f"data: {json.dumps(said)}\n\n".encode())
                await writer.drain()
                due += 1 / rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port[0] = server.sockets[0].getsockname()[1]
        started.set()
        await server.serve_forever()

    threading.Thread(target=lambda: asyncio.run(run()), daemon=True).start()
    started.wait()
    return port[0]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--columns", type=int, default=4)
    parser.add_argument("--rate", type=float, default=40.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--keys", type=int, default=100)
    options = parser.parse_args(arguments)
    port = serve(options.rate)
    with tempfile.TemporaryDirectory() as folder:
        home = open_home(Path(folder))
        with Counting(home.path, 120, 40) as app:
            app.see(rb"2 Train\]")
            app.read_for(2.0)
            app.press("4")
            app.read_for(1.0)
            app.press("c")
            app.see(rb"Columns")
            for number in range(options.columns):
                app.press(f"http://127.0.0.1:{port}/v1#model-{number}")
                app.see(rb"add ")
                app.press("\r")
                app.read_for(0.5)
            app.press("\x03")
            app.read_for(1.0)
            app.press("i")
            app.read_for(0.5)
            app.press("Oak bench\r")
            app.see(rb"writing")
            for name, wait in (("while there is room", 0.0), ("while it scrolls", 1.0)):
                app.read_for(wait)
                began, cpu, count, frames = time.monotonic(), app.cpu(), app.count, app.frames
                app.read_for(options.seconds)
                took = time.monotonic() - began
                print(
                    f"{options.columns} columns at {options.rate:.0f} tokens/s, {name}: "
                    f"{(app.count - count) / took / 1024:.1f} KiB/s, "
                    f"{(app.frames - frames) / took:.1f} frames/s, "
                    f"{100 * (app.cpu() - cpu) / took:.0f} % of a core, {app.memory():.0f} MB"
                )
            times, chance = [], random.Random(1)
            for _ in range(options.keys):
                app.read_for(chance.uniform(0.05, 0.2))
                pressed = time.monotonic()
                app.press("\t")
                times.append(1000 * (app.see("\u250f".encode()) - pressed))
            print(f"tab to the next pane: median {quantile(times, 0.5):.0f} ms, "
                  f"99th {quantile(times, 0.99):.0f} ms, longest {max(times):.0f} ms")  # fmt: skip
            app.press("\x18")
            app.see(rb"stopped by you")


if __name__ == "__main__":
    main()
