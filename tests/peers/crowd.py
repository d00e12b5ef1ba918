"""A peer that is allowed to send, and asks for far too much. Prints one JSON object.

usage: crowd.py crowd PORT PID COUNT    COUNT associations from one address at once, while another modality stores
       crowd.py leak PORT PID COUNT     COUNT associations one after another, released, aborted and dropped in turn
"""
import json
import socket
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import wire
from hostile import Box, Good

CONTEXTS = [(1, wire.CT, [wire.EXPLICIT])]


def crowd(port, box, count):
    good = Good(port)
    good.start()
    answers, opened = Counter(), []
    for _ in range(count):
        try:
            opened.append(wire.Association(port, "WAYSTATION", "CT1", CONTEXTS))
            answers["accepted"] += 1
        except wire.Rejected as error:
            answers["%d/%d/%d" % error.code] += 1
    time.sleep(1)
    report = good.report()
    report.pop("sops")
    return {"answers": answers, "good": report, "same_process": box.same()}


def leave(port, number):
    peer = wire.Association(port, "WAYSTATION", "CT1", CONTEXTS)
    if number % 3 == 0:
        peer.release()
    elif number % 3 == 1:
        peer.abort()
    else:
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
        peer.sock.close()


def leak(port, box, count):
    """The memory after the first fifth, when every pool is filled, and at the end."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: leave(port, number), range(count // 5)))
        early = box.kib("VmRSS")
        list(pool.map(lambda number: leave(port, number), range(count // 5, count)))
    return {"count": count, "rss_early_kib": early, "rss_late_kib": box.kib("VmRSS"), "same_process": box.same()}


if __name__ == "__main__":
    verb, port, pid, count = sys.argv[1], *map(int, sys.argv[2:5])
    print(json.dumps({"crowd": crowd, "leak": leak}[verb](port, Box(pid), count)))
