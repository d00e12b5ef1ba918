"""Thousands of slow or half-open connections, while one good modality stores. Prints one JSON object.

usage: flood.py PORT PID COUNT BYTES SECONDS

COUNT connections say nothing, half a header, a request byte by byte, or BYTES of a request that never ends; all of them
are kept open for SECONDS. Those that the box ends are opened again.
"""
import json
import resource
import selectors
import socket
import struct
import sys
import time

import wire
from hostile import Box, Good

#: Connections opened between two looks at the others.
STEP = 200


def opening(number, count):
    whole = wire.associate_rq("WAYSTATION", "CT1", [(1, wire.CT, [wire.EXPLICIT])])
    if count:
        return struct.pack(">BBI", 1, 0, (1 << 20) - 10) + bytes(count)
    return [b"", whole[:3], whole[:70], b"\1"][number % 4]


def main():
    port, pid, count, size, seconds = map(int, sys.argv[1:6])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    box, good = Box(pid), Good(port)
    good.start()
    time.sleep(0.3)
    before = box.kib("VmRSS")
    selector = selectors.DefaultSelector()
    opened = ended = refused = 0
    end = None

    def one():
        sock = socket.socket()
        # Loopback is a /8: many clients, so that no pair of addresses runs out of ports.
        sock.bind(("127.0.%d.%d" % (1 + opened % 200, 1 + opened // 200 % 200), 0))
        sock.settimeout(5)
        sock.connect(("127.0.0.1", port))
        said = opening(opened, size)
        try:
            sock.sendall(said)
        except OSError:
            pass
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ)

    peak = 0
    while end is None or time.monotonic() < end:
        for _ in range(STEP):
            if len(selector.get_map()) >= count:
                break
            try:
                one()
            except OSError:
                refused += 1
            opened += 1
        for key, _ in selector.select(0.01):
            try:
                if key.fileobj.recv(4096):
                    continue
            except BlockingIOError:
                continue
            except OSError:
                pass
            selector.unregister(key.fileobj)
            key.fileobj.close()
            ended += 1
        peak = max(peak, len(selector.get_map()))
        if end is None and opened >= count:
            end = time.monotonic() + seconds
    report = good.report()
    report.pop("sops")
    print(json.dumps({"opened": opened, "refused": refused, "ended": ended, "peak_open": peak, "good": report,
                      "same_process": box.same(), "rss_before_kib": before, "rss_after_kib": box.kib("VmRSS"),
                      "rss_peak_kib": box.kib("VmHWM"), "descriptors": box_descriptors(pid)}))


def box_descriptors(pid):
    import os
    return len(os.listdir("/proc/%d/fd" % pid))


if __name__ == "__main__":
    main()
