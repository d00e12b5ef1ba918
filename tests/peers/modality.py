"""A scripted modality at the wire: odd but harmless peers, hostile ones, and loads. Prints one JSON object.

usage: modality.py VERB PORT CALLED CALLING [ARGUMENTS]
"""
import hashlib
import json
import os
import random
import struct
import sys
import threading
import time

import wire

LONG = {"OB", "OW", "SQ", "UN", "UT"}


def explicit(group, number, vr, value):
    if not isinstance(value, bytes):
        value = value.encode("ascii")
    if len(value) % 2:
        value += b"\0" if vr in ("UI", "OB") else b" "
    return explicit_header(group, number, vr, len(value)) + value


def explicit_header(group, number, vr, length):
    head = struct.pack("<HH", group, number) + vr.encode("ascii")
    return head + (struct.pack("<HI", 0, length) if vr in LONG else struct.pack("<H", length))


def head(sop_class, sop_instance, study="1.2.826.0.1.3680043.10.1", patient="SYNTHETIC^PEER", number="SYN-1"):
    return b"".join([
        explicit(0x0008, 0x0016, "UI", sop_class), explicit(0x0008, 0x0018, "UI", sop_instance),
        explicit(0x0008, 0x0060, "CS", "CT"), explicit(0x0010, 0x0010, "PN", patient),
        explicit(0x0010, 0x0020, "LO", number), explicit(0x0020, 0x000d, "UI", study),
        explicit(0x0020, 0x000e, "UI", study + ".1")])


def data_set(sop_class, sop_instance, pixels, **more):
    return head(sop_class, sop_instance, **more) + explicit(0x7fe0, 0x0010, "OW", pixels)


def fresh_uid(generator=random):
    return "1.2.826.0.1.3680043.10.1." + str(generator.getrandbits(100))


def ct_context():
    return [(1, wire.CT, [wire.EXPLICIT])]


def refused(port, called, calling):
    """The code of the rejection, or none."""
    try:
        wire.Association(port, called, calling, [(1, wire.VERIFICATION, [wire.IMPLICIT])]).release()
    except wire.Rejected as error:
        return {"code": list(error.code)}
    return {"code": None}


def limits(port, called, calling, count):
    """Opens associations until one is refused; then one again after a release."""
    opened, code = [], None
    contexts = [(1, wire.VERIFICATION, [wire.IMPLICIT])]
    try:
        for _ in range(int(count)):
            opened.append(wire.Association(port, called, calling, contexts))
    except wire.Rejected as error:
        code = list(error.code)
    opened[0].release()
    deadline, again = time.time() + 5, None
    while again is None and time.time() < deadline:
        try:
            again = wire.Association(port, called, calling, contexts)
        except wire.Rejected:
            time.sleep(0.02)
    works = again is not None and again.echo(1) == 0
    return {"opened": len(opened), "code": code, "works_after_release": works}


def big_request(port, called, calling):
    """128 contexts of 40 transfer syntaxes each, of every kind: the last of them is used."""
    syntaxes = [wire.EXPLICIT, wire.IMPLICIT] + ["1.2.840.10008.1.2.4.%d" % number for number in range(50, 88)]
    contexts = [(2 * number + 1, "1.2.840.10008.5.1.4.1.1.%d" % (900 + number), syntaxes) for number in range(127)]
    contexts.append((255, wire.CT, syntaxes))
    size = len(wire.associate_rq(called, calling, contexts))
    peer = wire.Association(port, called, calling, contexts)
    uid = fresh_uid()
    answer = peer.store(255, wire.CT, uid, data_set(wire.CT, uid, bytes(1000)))
    peer.release()
    return {"bytes": size, "accepted": len(peer.accepted), "status": answer["status"], "sop": uid}


def odd(port, called, calling):
    """Padded UIDs, leading zeros, an odd-length implementation UID, unknown user items, missing type 2 elements."""
    unknown = wire.item(0x5f, b"whatever") + wire.item(0x52, b"1.2.3.4.5")
    contexts = [(1, wire.CT.encode() + b"\0", [wire.EXPLICIT.encode() + b"\0\0"]),
                (3, wire.VERIFICATION.encode() + b" ", [wire.IMPLICIT.encode() + b" "])]
    peer = wire.Association(port, called, calling, contexts, class_uid=b"1.2.826.0.1", extra=unknown,
                            application=wire.APPLICATION.encode() + b"\0")
    results = {"echo": peer.echo(3)}
    padded = "1.2.826.0.1.3680043.10.1.7.%d" % random.getrandbits(60)
    results["space_padded"] = peer.store(1, wire.CT, padded.encode() + b" ", data_set(wire.CT, padded, b"12"))["status"]
    zeros = "1.2.826.0.1.3680043.10.01.007.%d" % random.getrandbits(60)
    results["leading_zeros"] = peer.store(1, wire.CT, zeros, data_set(wire.CT, zeros, b"12"))["status"]
    bare = fresh_uid()
    small = explicit(8, 0x16, "UI", wire.CT) + explicit(8, 0x18, "UI", bare) + explicit(0x10, 0x20, "LO", "")
    results["bare"] = peer.store(1, wire.CT, bare, small)["status"]
    peer.release()
    results["sops"] = [padded, zeros, bare]
    return results


def dribble(port, called, calling):
    """One byte in each segment, and PDUs of one byte of payload."""
    uid = fresh_uid()
    peer = wire.Association(port, called, calling, ct_context())
    whole = b"".join(wire.fragments(1, True, wire.store_rq(1, wire.CT, uid), 7 + 6))
    whole += b"".join(wire.fragments(1, False, data_set(wire.CT, uid, b"1234"), 1 + 6))
    for at in range(0, 300):
        peer.sock.sendall(whole[at:at + 1])
    peer.sock.sendall(whole[300:])
    status = peer.answer()["status"]
    peer.release()
    return {"status": status, "sop": uid}


def bad_instances(port, called, calling):
    """Bad instances in one association, a good one after each."""
    peer = wire.Association(port, called, calling, ct_context())
    results = {"good": [], "sops": []}

    def good():
        uid = fresh_uid()
        results["good"].append(peer.store(1, wire.CT, uid, data_set(wire.CT, uid, bytes(64)))["status"])
        results["sops"].append(uid)

    nested = b"".join(explicit_header(0x0040, 0x0275, "SQ", 0xffffffff) + struct.pack("<HHI", 0xfffe, 0xe000, 0xffffffff)
                      for _ in range(3000))
    uid = fresh_uid()
    cases = {
        "other_instance": data_set(wire.CT, fresh_uid(), b"12"),
        "other_class": data_set(wire.MR, uid, b"12"),
        "garbage": bytes(random.Random(1).randbytes(4000)),
        "truncated": data_set(wire.CT, uid, b"12")[:90],
        "huge_length": head(wire.CT, uid)[:60] + explicit_header(0x0010, 0x4000, "UT", 0xfffffff0) + b"abc",
        "nested": head(wire.CT, uid) + nested,
        "empty": b"",
    }
    for name, data in cases.items():
        results[name] = peer.store(1, wire.CT, uid, data)["status"]
        good()
    peer.release()
    return results


def hostile(port, called, calling):
    """Requests that are no DICOM: each must end its own connection only."""
    import socket
    request = wire.associate_rq(called, calling, ct_context())
    attacks = {
        "four_gib_pdu": struct.pack(">BBI", 1, 0, 0xfffffff0) + b"x" * 100,
        "unknown_pdu": struct.pack(">BBI", 99, 0, 4) + bytes(4),
        "http": b"GET / HTTP/1.1\r\nHost: box\r\n\r\n" + bytes(100),
        "data_first": wire.pdata(1, 2, b"abc"),
        "overrun": request[:80] + b"\x20\0\xff\xff" + request[84:],
        "pdv_overrun": request + struct.pack(">BBIIBB", 4, 0, 8, 4000, 1, 2) + b"ab",
        "command_after_data": request + wire.pdata(1, 2, b"abc"),
        "wrong_context": request + wire.pdata(77, 3, wire.echo_rq(1)),
    }
    ended = {}
    for name, attack in attacks.items():
        # A rejected peer that does not close is closed after the box's ten seconds: more than those, then.
        sock = socket.create_connection(("127.0.0.1", port), timeout=25)
        sock.sendall(attack)
        heard = b""
        try:
            while True:
                piece = sock.recv(65536)
                if not piece:
                    break
                heard += piece
            ended[name] = "closed" if len(heard) < 10 or heard[-10] != wire.ABORT else "aborted"
        except ConnectionResetError:
            ended[name] = "reset"
        except TimeoutError:
            ended[name] = "open"
        sock.close()
    return {"ended": ended, "code_after": refused(port, called, calling)["code"]}


def stall(port, called, calling):
    """Peers that stop in the middle, at each protocol state: how long each is borne, in seconds."""
    import socket
    request = wire.associate_rq(called, calling, ct_context())
    uid = fresh_uid()
    command = b"".join(wire.fragments(1, True, wire.store_rq(1, wire.CT, uid), 16384))
    data = wire.pdata(1, 0, data_set(wire.CT, uid, bytes(500)))
    states = {"connected": b"", "half_request": request[:50], "associated": request,
              "half_command": request + command[:30], "command": request + command,
              "half_data": request + command + data, "half_pdv": request + command + data[:100]}
    borne = {}

    def one(name, said):
        sock = socket.create_connection(("127.0.0.1", port), timeout=30)
        sock.sendall(said)
        began = time.time()
        try:
            while sock.recv(65536):
                pass
        except ConnectionResetError:
            pass
        except TimeoutError:
            began = 0
        borne[name] = time.time() - began

    def drip():
        sock = socket.create_connection(("127.0.0.1", port), timeout=30)
        began = time.time()
        try:
            for at in range(len(request)):
                sock.sendall(request[at:at + 1])
                time.sleep(0.3)
        except OSError:
            pass
        borne["dripping_request"] = time.time() - began

    threads = [threading.Thread(target=one, args=state) for state in states.items()] + [threading.Thread(target=drip)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return borne


def store(port, called, calling, *files):
    """Part 10 files, each in its own transfer syntax, data sets as they stand in the file."""
    import part10
    results = []
    for name in files:
        meta = part10.read(name)
        peer = wire.Association(port, called, calling, [(1, meta.sop_class, [meta.syntax])])
        status = None
        if 1 in peer.accepted:
            status = peer.store(1, meta.sop_class, meta.sop_instance, meta.data)["status"]
        peer.release()
        results.append({"file": name, "sop": meta.sop_instance, "status": status,
                        "sha256": hashlib.sha256(meta.data).hexdigest()})
    return {"sent": results}


def same_uid(port, called, calling):
    """One UID: twice the same content, then other content, then the first again."""
    peer = wire.Association(port, called, calling, ct_context())
    uid = fresh_uid()
    one, two = data_set(wire.CT, uid, b"1111"), data_set(wire.CT, uid, b"2222")
    statuses = [peer.store(1, wire.CT, uid, data)["status"] for data in (one, one, two, one, two)]
    peer.release()
    digest = lambda data: hashlib.sha256(data).hexdigest()
    return {"statuses": statuses, "sop": uid, "first": digest(one), "second": digest(two)}


def zeros(port, called, calling, mebibytes, parallel):
    """Multi-frame objects of zeros, so many at once, each so long; streamed, never held here either."""
    size, statuses = int(mebibytes) << 20, []
    uid = lambda: "1.2.826.0.1.3680043.10.1.9.%d" % random.getrandbits(80)

    def one():
        statuses.append(stream_zeros(port, called, calling, uid(), size))

    threads = [threading.Thread(target=one) for _ in range(int(parallel))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"statuses": statuses}


def stream_zeros(port, called, calling, sop, size):
    """One object of zeros, never held here as a whole; the status."""
    block = bytes(65536 - 6)
    peer = wire.Association(port, called, calling, [(1, wire.SECONDARY, [wire.EXPLICIT])], timeout=300)
    peer.send(1, wire.store_rq(1, wire.SECONDARY, sop))
    peer.sock.sendall(wire.pdata(1, 0, zeros_head(sop, size)))
    whole, left = wire.pdata(1, 0, block), size
    while left > len(block):
        peer.sock.sendall(whole)
        left -= len(block)
    peer.sock.sendall(wire.pdata(1, 2, block[:left]))
    status = peer.answer()["status"]
    peer.release()
    return status


def zeros_head(sop, size):
    return (head(wire.SECONDARY, sop) + explicit(0x28, 8, "IS", "4096")
            + explicit_header(0x7fe0, 0x0010, "OW", size))


def long(port, called, calling, mebibytes, parallel, journal_path):
    """Objects of zeros again and again, so many at once, as load.py does; until this process is ended."""
    from archive import Journal
    journal, size = Journal(journal_path), int(mebibytes) << 20

    def one():
        while True:
            sop = "1.2.826.0.1.3680043.10.1.9.%d" % random.getrandbits(80)
            digest = hashlib.sha256(zeros_head(sop, size))
            digest.update(bytes(size))
            journal.write("attempt", sop=sop, sha256=digest.hexdigest(), bytes=size)
            status = None
            while status != 0:
                try:
                    status = stream_zeros(port, called, calling, sop, size)
                    event = "answered" if status else "acknowledged"
                    journal.write(event, sop=sop, status=status, sha256=digest.hexdigest())
                except (wire.Closed, wire.Aborted, wire.Rejected, OSError):
                    time.sleep(0.05)

    for _ in range(int(parallel)):
        threading.Thread(target=one, daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()
    os._exit(0)


def open_then_wait(port, called, calling, count):
    """So many objects over one association, with a pause after each; prints a line for each answer."""
    peer = wire.Association(port, called, calling, ct_context())
    for number in range(int(count)):
        uid = fresh_uid()
        status = peer.store(1, wire.CT, uid, data_set(wire.CT, uid, os.urandom(20000)))["status"]
        print(json.dumps({"sop": uid, "status": status}), flush=True)
        time.sleep(0.05)
    peer.release()
    return {"done": True}


VERBS = {verb.__name__: verb for verb in (
    refused, limits, big_request, odd, dribble, bad_instances, hostile, stall, store, same_uid, zeros, long, open_then_wait)}

if __name__ == "__main__":
    name, where, called_ae, calling_ae = sys.argv[1:5]
    print(json.dumps(VERBS[name](int(where), called_ae, calling_ae, *sys.argv[5:])))
