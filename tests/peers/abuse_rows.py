"""What the table of known faults in DICOM systems asks for beyond the other modules, and which cases stand for each row.

Row ids are those of the project's list of faults; `ROWS` names for each the beginnings of its cases' names, and
`missing` says which have none.
"""
import os
import stat
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import abuse_archive
import abuse_doors
import abuse_states  # its archives are among those that `behind` makes cases of
from abuse import *
from abuse_archive import DELIVERED, HELD, behaves

CASES = {}
UNKNOWN, LATE = "abort 2/1 closed", "abort 2/0 closed"


def case(name, expected, run):
    assert name not in CASES, name
    CASES[name] = (expected, run)


def every_kind(env, before):
    """All PDU types that PS3.8 does not know; the answers that differ from the right one."""
    known = set(range(1, 8))
    answers = {kind: heard(env["port"], *before, struct.pack(">BBI", kind, 0, 4) + bytes(4)) for kind in range(256) if kind not in known}
    right = "ac " * len(before) + UNKNOWN
    return {kind: answer for kind, answer in answers.items() if answer != right} or "all " + UNKNOWN


def sent(name, expected, data, **more):
    case("data_set_" + name, "ac %s rp closed" % expected, lambda env: heard(env["port"], request() + store(data, **more) + release()))


def pdus():
    case("first_pdu_of_every_unknown_type", "all " + UNKNOWN, lambda env: every_kind(env, []))
    case("then_a_pdu_of_every_unknown_type", "all " + UNKNOWN, lambda env: every_kind(env, [request()]))
    syntaxes = [wire.EXPLICIT] + ["1.2.840.10008.1.2.4.%d" % number for number in range(50, 65)]
    large = [(2 * number + 1, wire.CT, syntaxes) for number in range(128)]
    case("128_contexts_of_16_syntaxes", "ac rp closed", lambda env: heard(env["port"], request(proposed=large) + release()))
    more = application() + b"".join(context(number) for number in range(1, 256, 2)) + context(0) + user()
    case("129_contexts", "ac" + "/0" * 128 + "/2 rp closed", lambda env: heard(env["port"], raw_request(more) + release()))

    def in_pieces(size, together):
        def run(env):
            uid = fresh_uid()
            said = b""
            for flags, body in ((1, wire.store_rq(1, wire.CT, uid)), (0, good(uid))):
                pieces = [body[at:at + size] for at in range(0, len(body), size)]
                values = [struct.pack(">IBB", len(piece) + 2, 1, flags | 2 * (number == len(pieces) - 1)) + piece
                          for number, piece in enumerate(pieces)]
                said += wire.pdu(4, b"".join(values)) if together else b"".join(wire.pdu(4, value) for value in values)
            return heard(env["port"], request() + said + release())
        return run

    for size in (1, 3, 7):
        case("fragments_of_%d_in_pdus_of_their_own" % size, "ac 0000 rp closed", in_pieces(size, False))
        case("fragments_of_%d_in_one_pdu" % size, "ac 0000 rp closed", in_pieces(size, True))


def data_sets():
    for vr in ("OB", "OD", "OF", "OL", "OV", "OW", "SV", "UC", "UN", "UR", "UT", "UV"):
        header = struct.pack("<HH2sHI", 0x0041, 0x1001, vr.encode("ascii"), 0, 0xfffffff0)
        sent("length_4_gib_%s" % vr.lower(), "C000", with_head(header))
        sent("of_nothing_but_4_gib_%s" % vr.lower(), "C000", header + bytes(2))
    sent("nested_1000000", "C000", with_head(nested(350_000, closed=False), nested(1)))
    # What the box reads for itself, for the templates and for the rules of this corpus, as what it is not.
    read = {"character_set": (8, 5), "class_uid": (8, 0x16), "instance_uid": (8, 0x18), "study_uid": (0x20, 0x0d), "patient_id": (0x10, 0x20),
            "station_name": (8, 0x1010), "study_id": (0x20, 0x10)}
    for name, (group, number) in read.items():
        for vr in ("SQ", "OB", "UN", "US", "FD", "AT", "ZZ"):
            sent("%s_as_%s" % (name, vr.lower()), wrong_vr(name, vr), lambda uid, tag=(group, number), vr=vr: with_wrong(uid, tag, vr))


def wrong_vr(name, vr):
    """Two letters that are no VR cannot be scanned. A data set that contradicts its command is refused; an identifier
    that is there as nothing that could be compared (a sequence, bytes) contradicts nothing."""
    if vr == "ZZ":
        return "C000"
    return "A900" if name in ("class_uid", "instance_uid") and vr not in ("SQ", "OB") else "0000"


def with_wrong(uid, tag, vr):
    """A good data set, in order, in which one element has this VR."""
    value = explicit_header(*tag, "SQ", 0) if vr == "SQ" else explicit(*tag, vr, b"\x01\x02\x03\x04\x05\x06\x07\x08")
    elements = {(8, 5): ("CS", "ISO_IR 100"), (8, 0x16): ("UI", wire.CT), (8, 0x18): ("UI", uid), (8, 0x1010): ("SH", ""), (0x10, 0x20): ("LO", "P"),
                (0x20, 0x0d): ("UI", "1.2.3"), (0x20, 0x10): ("SH", "")}
    return b"".join(value if at == tag else explicit(*at, *element) for at, element in sorted(elements.items())) + explicit(0x7fe0, 0x10, "OW", b"12")


def names():
    titles = ["X%015d" % number for number in range(150)]

    def metrics(env):
        # The box waits half a second for a rejected peer to go: together.
        with ThreadPoolExecutor(50) as pool:
            said = [request(calling=title) for title in titles] + [request(called=title) for title in titles]
            if set(pool.map(lambda one: heard(env["port"], one), said)) != {"rj 1/1/3 closed", "rj 1/1/7 closed"}:
                return "not rejected"
        sock = connect(env["web"])
        with sock:
            sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n")
            text = b""
            while piece := sock.recv(65536):
                text += piece
        return "%d of them, %s" % (sum(title.encode() in text for title in titles), "answered" if b" 200 " in text[:20] else text[:40])
    case("metrics_of_300_titles", "0 of them, answered", metrics)
    for name, text in (("shell", "$(touch /tmp/x);`id`"), ("newline", b"1.2\n3"), ("backslash", "..\\..\\x"), ("label", '1.2",x="')):
        body = wire.command_set((2, "UI", wire.CT), (0x100, "US", 1), (0x110, "US", 1), (0x800, "US", 0), (0x1000, "UI", text))
        case("command_store_with_instance_" + name, "ac 0117 rp closed",
             lambda env, body=body: heard(env["port"], request() + command(body, 1) + wire.pdata(1, 2, good("1.2.3")) + release()))
    case("folder_file_is_no_program", "ac 0000 rp closed no program", no_program)


def no_program(env):
    """A file for others starts with an empty preamble, whatever was sent, and cannot be run."""
    uid = fresh_uid()
    answer = heard(env["port"], request() + store(good(uid), uid) + release())
    path = os.path.join(env["keep"], "SYN-1", "1.2.826.0.1.3680043.10.1", uid + ".dcm")
    end = time.time() + 8
    while not os.path.exists(path) and time.time() < end:
        time.sleep(0.05)
    with open(path, "rb") as file:
        start = file.read(132)
    runs = os.stat(path).st_mode & (stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return answer + (" no program" if start == bytes(128) + b"DICM" and not runs else " %o %r" % (runs, start))


def doors():
    hello = abuse_doors.hello()
    case("tls_hello_dripped", "closed", lambda env: abuse_doors.dripped(env["tls"], hello))
    post = (b"POST /metrics HTTP/1.1\r\nHost: b\r\nContent-Type: multipart/related\r\nContent-Length: 9\r\n\r\n--x\r\n--x--")
    case("http_multipart_without_boundary", "405", lambda env: abuse_doors.status(env, post))
    case("control_depth_100000", ("refused", "closed"), lambda env: abuse_doors.control(env, b"[" * 100_000 + b"\n"))


#: What the archive of `the_box_aborts_what_it_leaves` heard after its silence.
LEFT = []


def archives():
    @behaves(HELD)
    def heard_after_silence(sock):
        abuse_archive.accept(sock)
        while True:
            context, request = abuse_archive.message(sock)
            if request["field"] == 0x30:
                sock.sendall(abuse_archive.pdv(context, wire.echo_rsp(request["message"])))
                continue
            try:
                wire.read_pdu(sock)
                LEFT.append("another pdu")
            except wire.Aborted:
                LEFT.append("abort")
            except wire.Closed:
                LEFT.append("closed")
            return

    names = list(abuse_archive.OUTCOMES)

    def left(env):
        fate = abuse_doors.archive_case(env, names.index("heard_after_silence"), HELD)
        return "%s after %s" % (fate, " ".join(sorted(set(LEFT))))
    case("the_box_aborts_what_it_leaves", "held after abort", left)
    for name, uid in (("path", "../../../tmp/x"), ("shell", "$(id)"), ("nul", b"1.2\0/x"), ("empty", "")):
        abuse_archive.answers("an_answer_with_instance_" + name, HELD if uid else DELIVERED, abuse_archive.otherwise(
            lambda c, r, uid=uid: abuse_archive.pdv(c, abuse_archive.rsp(r, sop_instance=uid))))


ROWS = {
    "T-PATH-1": ["folder_", "command_store_with_instance_", "abstract_syntax_path", "transfer_syntax_path"],
    "T-PATH-2": ["archive_an_answer_with_instance_", "archive_another_instance"],
    "T-PATH-3": ["called_ae_", "calling_ae_", "metrics_of_300_titles", "control_path_as_destination"],
    "T-EXEC": ["folder_shell", "command_store_with_instance_shell", "archive_an_answer_with_instance_shell"],
    "T-FIND": ["command_find", "command_get", "command_move", "abstract_syntax_of_a_query"],
    "T-DIMSE": ["command_", "then_a_data_set_without_command", "then_context_", "even_context_id", "duplicate_context_id"],
    "T-VR": ["data_set_instance_uid_as_", "data_set_class_uid_as_", "data_set_character_set_as_", "data_set_patient_name_as_", "data_set_study_uid_as_",
             "data_set_patient_id_as_", "data_set_station_name_as_", "data_set_study_id_as_"],
    "T-FILE": ["data_set_part_10_file_instead", "data_set_group_0002_inside", "folder_file_is_no_program"],
    "T-BOMB": ["http_gzip_body", "http_chunk_bomb", "data_set_deflate_bomb", "data_set_deflate_of_a_bomb_of_elements"],
    "T-HTTP-LEN": ["http_length_"],
    "T-LEN-1": ["data_set_length_4_gib_", "data_set_of_nothing_but_4_gib_", "data_set_fragment_of_4_gib", "command_with_an_element_of_4_gib"],
    "T-ASSOC": ["request_of_", "context_of_", "user_", "item_", "sub_item_", "role_selection_cut", "129_contexts", "256_contexts"],
    "T-NEST": ["data_set_nested_"],
    "T-PDU": ["state_", "fragments_of_", "128_contexts_of_16_syntaxes", "first_pdu_", "then_pd", "then_a_pdu_of_every_unknown_type"],
    "T-SCU-ABORT": ["the_box_aborts_what_it_leaves", "archive_when_"],
    "T-STATUS": ["archive_an_unknown_status", "archive_out_of_resources", "archive_pending_for_ever"],
    "T-TLS-SPIN": ["tls_hello_then_close_notify"],
    "T-TLS-FRAG": ["tls_hello_in_records_of_one_byte", "tls_hello_byte_by_byte", "tls_hello_dripped"],
    "T-SSRF": ["http_absolute", "http_connect", "control_unknown_destination"],
    "T-API-FILE": ["http_traversal", "http_encoded_traversal", "control_uid_as_path"],
    "rules": ["rule_"],
    "log injection": ["calling_ae_crlf", "called_ae_ansi", "archive_a_hostile_comment", "folder_ansi", "folder_unicode"],
}


def missing(names):
    """Beginnings in `ROWS` that no case has."""
    return [start for starts in ROWS.values() for start in starts if not any(name.startswith(start) for name in names)]


for build in (pdus, data_sets, names, doors, archives):
    build()
abuse_doors.behind()
