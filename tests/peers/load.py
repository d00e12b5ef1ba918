"""Modalities under load, for the kill -9 rounds: they send, write down what was acknowledged, and send again what was not.

usage: load.py PORT CALLED JOURNAL SENDERS SEED [COUNT]    (ends when its standard input is closed, or with COUNT when each
sender has had so many acknowledged)

As a modality does: an instance that was not acknowledged is sent again, the same one, until it is. `attempt` is written
before the first byte of an instance leaves, `acknowledged` after the answer 0000 has come.
"""
import hashlib
import random
import sys
import threading
import time
import zlib

import wire
from archive import Journal
from modality import data_set


def sender(number, port, called, journal, seed, stop, limit):
    generator = random.Random("%s.%d" % (seed, number))
    calling, count, pending = "MOD%d" % number, 0, None
    while not stop.is_set() and not (count == limit and pending is None):
        try:
            peer = wire.Association(port, called, calling, [(1, wire.CT, [wire.EXPLICIT])], timeout=20)
            for _ in range(generator.randint(1, 12)):
                if pending is None:
                    if count == limit:
                        break
                    count += 1
                    uid = "1.2.826.0.1.3680043.10.2.%d.%d.%d" % (zlib.crc32(seed.encode()), number, count)
                    size = generator.choice([2_000, 20_000, 20_000, 20_000, 150_000, 400_000, 1_000_000])
                    data = data_set(wire.CT, uid, generator.randbytes(size))
                    pending = uid, data, hashlib.sha256(data).hexdigest()
                    journal.write("attempt", sop=uid, sha256=pending[2], bytes=len(data))
                uid, data, digest = pending
                status = peer.store(1, wire.CT, uid, data)["status"]
                if status == 0:
                    journal.write("acknowledged", sop=uid, sha256=digest)
                    pending = None
                else:
                    journal.write("answered", sop=uid, status=status)
                if stop.is_set():
                    break
            peer.release()
        except (wire.Closed, wire.Aborted, OSError):
            time.sleep(0.01)
        except wire.Rejected as error:
            journal.write("rejected", code=list(error.code))
            time.sleep(0.05)


def main():
    port, called, journal, senders, seed = int(sys.argv[1]), sys.argv[2], Journal(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
    limit = int(sys.argv[6]) if len(sys.argv) > 6 else -1
    stop = threading.Event()
    threads = [threading.Thread(target=sender, args=(number, port, called, journal, seed, stop, limit))
               for number in range(senders)]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    if limit < 0:
        sys.stdin.read()
        stop.set()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
