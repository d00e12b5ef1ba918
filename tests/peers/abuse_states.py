"""Every state of the protocol, from both sides, times what a peer can do in it.

A peer says each kind of PDU, stalls, drips, goes on byte by byte, ends its side or resets the connection. As a client the
peer is at the DICOM port (`CASES`, named `state_STATE_ACT`); as a server it is an archive (behaviours of
`abuse_archive`, named `when_STATE_ACT`).
"""
import socket
import struct
import time

import abuse_archive
from abuse import *
from abuse_archive import DELIVERED, HELD, WAITS, behaves

#: One PDU of each kind of PS3.8 9.3, and one of none.
KINDS = {"request": wire.pdu(1, bytes(68)), "accept": wire.pdu(2, bytes(80)), "reject": wire.pdu(3, b"\0\1\1\1"),
         "data": wire.pdata(1, 0, b"abcd"), "release": wire.pdu(5, bytes(4)), "release_reply": wire.pdu(6, bytes(4)),
         "abort": wire.pdu(7, bytes(4)), "pdu_of_no_kind": wire.pdu(99, bytes(4))}
BAD_PDU, NOT_NOW, UNKNOWN, LATE = "abort 2/6 closed", "abort 2/2 closed", "abort 2/1 closed", "abort 2/0 closed"
CASES = {}


def reset(sock):
    """Ends the connection with a TCP reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


# As a client. One conversation that stores one instance; a state is a place in its bytes.

def conversation():
    """The bytes, and where each state begins. At the states of `WITHIN` a PDU is cut open."""
    uid = fresh_uid()
    command_set, data = wire.store_rq(1, wire.CT, uid), good(uid)
    half = len(data) // 2
    pieces = [("connected", b""), ("in_the_header", request()[:3]), ("in_the_request", request()[3:90]), ("established", request()[90:]),
              ("in_the_command", wire.pdata(1, 1, command_set[:40])), ("announced", wire.pdata(1, 3, command_set[40:])),
              ("in_a_data_header", wire.pdata(1, 0, data[:half])[:9]), ("in_a_fragment", wire.pdata(1, 0, data[:half])[9:60]),
              ("in_the_data", wire.pdata(1, 0, data[:half])[60:]), ("stored", wire.pdata(1, 2, data[half:])),
              ("in_the_release", release()[:4]), ("released", release()[4:])]
    whole, places = b"", {}
    for name, piece in pieces:
        whole += piece
        places[name] = len(whole)
    return whole, places


WITHIN = ("in_the_header", "in_the_request", "in_a_data_header", "in_a_fragment", "in_the_release")
#: What was heard before anything went wrong.
BEFORE = {"connected": "", "in_the_header": "", "in_the_request": "", "stored": "ac 0000 ", "in_the_release": "ac 0000 ", "released": "ac 0000 rp "}
#: What a PDU of this kind is answered, where it is not out of turn.
SAID = {("connected", "request"): "rj 1/2/2 closed", ("established", "data"): BAD_PDU, ("in_the_command", "data"): BAD_PDU, ("announced", "data"): LATE,
        ("in_the_data", "data"): LATE, ("stored", "data"): BAD_PDU, ("established", "release"): "rp closed", ("stored", "release"): "rp closed"}


def said_answer(state, kind):
    if state == "released" or kind == "abort":
        return "closed"
    return SAID.get((state, kind), UNKNOWN if kind == "pdu_of_no_kind" else NOT_NOW)


def client(state, act, expected, run):
    def case(env):
        whole, places = conversation()
        return run(env["port"], whole[:places[state]], whole[places[state]:])
    CASES["state_%s_%s" % (state, act)] = (expected, case)


def goes_on(port, before, after):
    return heard(port, before, *[after[at:at + 1] for at in range(len(after))])


def drips(port, before, after):
    """Twelve bytes in three seconds, twice the box's patience; then the rest."""
    sock = connect(port)
    try:
        sock.sendall(before)
        for at in range(12):
            time.sleep(0.25)
            sock.sendall(after[at:at + 1])
    except OSError:
        after = b""
    return heard(port, after[12:], sock=sock)


def resets(port, before, _after):
    sock = connect(port)
    sock.sendall(before)
    time.sleep(0.1)
    reset(sock)
    return "reset"


def as_a_client():
    _, places = conversation()
    for state in places:
        before, ended = BEFORE.get(state, "ac "), "closed" if state in ("connected", "in_the_header", "in_the_request", "released") else LATE
        if state not in WITHIN:
            for kind, pdu in KINDS.items():
                client(state, "says_" + kind, before + said_answer(state, kind), lambda port, said, _, pdu=pdu: heard(port, said, pdu))
        client(state, "stalls", before + ended, lambda port, said, _: heard(port, said))
        client(state, "goes_on_byte_by_byte", "ac 0000 rp closed", goes_on)
        client(state, "ends_its_side", before + "closed", lambda port, said, _: heard(port, said, ends=True))
        client(state, "resets", "reset", resets)
        if state not in ("in_the_release", "released"):
            # A slow data set is no fault; every header and every command has its deadline.
            slow = state in ("in_a_data_header", "in_a_fragment")
            late = "closed" if before == "" else LATE
            client(state, "drips", "ac 0000 rp closed" if slow else before + late, drips)


# As a server: what becomes of the job when the archive does this.

def walk(sock, state):
    """Plays an archive in order up to this state, and answers what it would say next."""
    if state == "connected":
        return b""
    answer = abuse_archive.accept_bytes(abuse_archive.request(sock))
    if state == "requested":
        return answer
    if state == "accepting":
        sock.sendall(answer[:40])
        return answer[40:]
    sock.sendall(answer)
    if state == "accepted":
        return b""
    while True:
        context, request = command(sock, state)
        if request is None:
            return wire.pdu(wire.RELEASE_RP, bytes(4))
        if request["field"] == 0x30:
            sock.sendall(abuse_archive.pdv(context, wire.echo_rsp(request["message"])))
            continue
        if state == "in_the_data":
            return b""
        answer = abuse_archive.pdv(context, abuse_archive.rsp(request))
        if state == "asked":
            return answer
        if state == "answering":
            sock.sendall(answer[:20])
            return answer[20:]
        sock.sendall(answer)
        if state == "answered":
            return b""


def command(sock, state):
    """The next command, its data set read too, but for the state within it. No command where a release is asked for: it
    is answered, unless that is the state."""
    said, request = b"", None
    while True:
        kind, body = wire.read_pdu(sock)
        if kind == wire.RELEASE_RQ and state == "releasing":
            return 0, None
        if kind == wire.RELEASE_RQ:
            sock.sendall(wire.pdu(wire.RELEASE_RP, bytes(4)))
            raise wire.Closed()
        for context, flags, fragment in wire.pdvs(body):
            if flags & 1:
                said += bytes(fragment)
            elif state == "in_the_data":
                return context, request
            if flags & 3 == 3:
                request = wire.parse_command(said)
                if not request["data_set"]:
                    return context, request
            if flags & 3 == 2:
                return context, request


def server(state, act, outcome, do):
    def behave(sock):
        do(sock, walk(sock, state))
    behave.__name__ = "when_%s_%s" % (state, act)
    behaves(outcome)(behave)


def bytewise(sock, rest):
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for at in range(len(rest)):
        sock.sendall(rest[at:at + 1])
        time.sleep(0.001)
    while True:
        context, request = command(sock, "")
        said = wire.echo_rsp(request["message"]) if request["field"] == 0x30 else abuse_archive.rsp(request)
        sock.sendall(abuse_archive.pdv(context, said))


def says(pdu):
    def do(sock, _rest):
        sock.sendall(pdu)
        abuse_archive.stays(sock)
    return do


#: What becomes of the job when everything up to a state was in order. The archive answers C-ECHO: the instance is to
#: blame for what happens behind the association, and is held after its tries.
FATES = {"connected": WAITS, "requested": WAITS, "accepting": WAITS, "accepted": WAITS, "in_the_data": HELD, "asked": HELD, "answering": HELD,
         "answered": DELIVERED, "releasing": DELIVERED}


def as_a_server():
    for state, fate in FATES.items():
        if state not in ("connected", "accepting", "answering"):
            for kind, pdu in KINDS.items():
                server(state, "says_" + kind, HELD if (state, kind) == ("requested", "accept") else fate, says(pdu))
        server(state, "stalls", fate, lambda sock, _: abuse_archive.stays(sock))
        server(state, "ends_its_side", fate, lambda sock, _: sock.close())
        server(state, "resets", fate, lambda sock, _: reset(sock))
        if state in ("requested", "accepting", "asked", "answering", "releasing"):
            server(state, "goes_on_byte_by_byte", DELIVERED, bytewise)


as_a_client()
as_a_server()
