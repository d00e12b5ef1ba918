"""Hostile cases at the other doors: TLS, HTTP, control socket, folder names, rules, and hostile archives behind the box."""
import json
import os
import socket
import ssl
import struct
import time

import abuse_archive
from abuse import *

CASES = {}


def case(name, expected, run):
    assert name not in CASES, name
    CASES[name] = (expected, run)


def prepare(env):
    return abuse_archive.Archives(env["archives"])


# TLS. Whatever goes wrong before the association ends the connection; nothing is said in plain.

def bytes_heard(port, *said, ends=False):
    """How a connection ends, alerts not told apart: "closed" or "open"."""
    sock = connect(port)
    try:
        for piece in said:
            sock.sendall(piece)
        if ends:
            sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass
        return "closed"
    except (TimeoutError, socket.timeout):
        return "open"
    except OSError:
        return "closed"
    finally:
        sock.close()


def dripped(port, said, pause=0.2):
    """A byte now and then; how that ends."""
    sock = connect(port)
    try:
        for byte in said[:60]:
            sock.sendall(bytes([byte]))
            time.sleep(pause)
        return "open"
    except OSError:
        return "closed"
    finally:
        sock.close()


def secured(env, who=None, newest=None, oldest=None, said=b""):
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=env["ca"])
    context.set_ciphers("ALL:@SECLEVEL=0")
    if newest:
        context.minimum_version = oldest or ssl.TLSVersion.TLSv1
        context.maximum_version = newest
    if who:
        context.load_cert_chain(env[who + "_certificate"], env[who + "_key"])
    try:
        sock = context.wrap_socket(connect(env["tls"]), server_hostname="localhost")
        return heard(0, said or request(calling="TLS1") + release(), sock=sock)
    except (ssl.SSLError, OSError):
        return "closed"


def hello():
    """A ClientHello as OpenSSL writes it."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def tls():
    plain = {"request_in_plain": request(), "noise": os.urandom(4000), "zeros": bytes(4000), "http": b"GET / HTTP/1.1\r\n\r\n",
             "silence": b"", "one_byte": b"\x16", "half_a_hello": hello()[:100], "hello_then_silence": hello(),
             "record_of_64_kib": b"\x16\x03\x03\xff\xff" + bytes(65535), "sslv2": b"\x80\x2e\x01\x00\x02" + bytes(41),
             "alert_first": b"\x15\x03\x03\0\2\2\x28", "data_first": b"\x17\x03\x03\0\x10" + bytes(16),
             "hello_of_ssl_3": hello()[:1] + b"\3\0" + hello()[3:9] + b"\3\0" + hello()[11:],
             "empty_records": b"\x16\x03\x03\0\0" * 3000}
    for name, said in plain.items():
        case("tls_" + name, "closed", lambda env, said=said: bytes_heard(env["tls"], said))
    case("tls_hello_and_gone", "closed", lambda env: bytes_heard(env["tls"], hello(), ends=True))
    case("tls_hello_then_close_notify", "closed", lambda env: bytes_heard(env["tls"], hello(), b"\x15\x03\x03\0\2\1\0"))
    case("tls_hello_byte_by_byte", "closed", lambda env: bytes_heard(env["tls"], *[bytes([byte]) for byte in hello()]))
    def one_byte_records(env):
        said = hello()
        return bytes_heard(env["tls"], b"".join(said[:3] + struct.pack(">H", 1) + bytes([byte]) for byte in said[5:]))
    case("tls_hello_in_records_of_one_byte", "closed", one_byte_records)
    case("tls_without_certificate", "closed", secured)
    case("tls_with_a_stranger_certificate", "closed", lambda env: secured(env, "stranger"))
    case("tls_1_1", "closed", lambda env: secured(env, "client", ssl.TLSVersion.TLSv1_1))
    case("tls_1_2", "ac rp closed", lambda env: secured(env, "client", ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2))
    case("tls_1_3", "ac rp closed", lambda env: secured(env, "client"))
    case("tls_of_another_system", "rj 1/1/3 closed", lambda env: secured(env, "other"))
    case("tls_without_its_title", "rj 1/1/3 closed", lambda env: secured(env, "client", said=request(calling="NOBODY")))
    case("tls_then_noise", "abort 2/1 closed", lambda env: secured(env, "client", said=b"\xa5" * 5000))
    case("tls_then_a_pdu_of_4_gib", "abort 2/6 closed", lambda env: secured(env, "client", said=struct.pack(">BBI", 1, 0, 0xffffffff)))
    case("tls_then_half_a_request", "closed", lambda env: secured(env, "client", said=request()[:60]))


# HTTP.

def status(env, said, pause=0.0):
    sock = connect(env["web"])
    try:
        try:
            for piece in said if isinstance(said, list) else [said]:
                sock.sendall(piece)
                time.sleep(pause)
        except OSError:
            pass
        answer = b""
        while b"\r\n" not in answer:
            piece = sock.recv(4096)
            if not piece:
                return "closed"
            answer += piece
        return answer.split(b" ")[1].decode("ascii", "replace")
    except (TimeoutError, socket.timeout):
        return "open"
    except OSError:
        return "closed"
    finally:
        sock.close()


def web():
    get = lambda path, *more: b"GET " + path + b" HTTP/1.1\r\nHost: box\r\n" + b"".join(more) + b"\r\n"
    asked = {
        "unknown_path": (get(b"/admin"), "404"), "traversal": (get(b"/../../etc/passwd"), "404"),
        "encoded_traversal": (get(b"/%2e%2e/%2e%2e/etc/passwd"), "404"), "absolute": (get(b"http://169.254.169.254/latest"), "404"),
        "post": (b"POST /metrics HTTP/1.1\r\nHost: b\r\nContent-Length: 4\r\n\r\nabcd", "405"),
        "delete": (b"DELETE /metrics HTTP/1.1\r\nHost: b\r\n\r\n", "405"), "trace": (b"TRACE / HTTP/1.1\r\nHost: b\r\n\r\n", "404"),
        "connect": (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", ("404", "405")),
        "length_4_gib": (b"POST /metrics HTTP/1.1\r\nHost: b\r\nContent-Length: 4294967295\r\n\r\nx", "405"),
        "length_of_noise": (b"POST / HTTP/1.1\r\nHost: b\r\nContent-Length: -1\r\n\r\n", "400"),
        "length_twice": (b"POST /metrics HTTP/1.1\r\nHost: b\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "400"),
        "length_and_chunks": (b"POST /metrics HTTP/1.1\r\nHost: b\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET", ("400", "405")),
        "chunk_bomb": (b"POST /metrics HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx", "405"),
        "gzip_body": (b"POST /healthz HTTP/1.1\r\nHost: b\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\0", "405"),
        "version_9": (b"GET / HTTP/9.9\r\n\r\n", "400"), "http_2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ("400", "closed")),
        "method_of_noise": (b"\xff\xfe\xfd / HTTP/1.1\r\n\r\n", "400"), "nul_in_header": (get(b"/healthz", b"X: a\0b\r\n"), "400"),
        "folded_header": (get(b"/healthz", b"X: a\r\n b\r\n"), "400"), "long_uri": (get(b"/" + b"a" * 100_000), ("414", "431", "400")),
        "long_header": (get(b"/healthz", b"X: " + b"a" * 100_000 + b"\r\n"), "431"),
        "many_headers": (get(b"/healthz", b"X: a\r\n" * 1000), "431"), "a_million_headers": (get(b"/healthz", b"X: a\r\n" * 1_000_000), ("431", "closed")),
        "dicom": (request(), ("400", "closed")), "tls": (hello(), ("400", "closed")), "healthz": (get(b"/healthz"), "200"),
    }
    for name, (said, expected) in asked.items():
        case("http_" + name, expected, lambda env, said=said: status(env, said))
    case("http_slow_header", "closed", lambda env: status(env, [b"GET / HTTP/1.1\r\nX: "] + [b"a"] * 22, pause=0.25))
    case("http_silence", "closed", lambda env: status(env, b""))


# The control socket: one line of JSON, one line back.

def control(env, said, ends=True):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(15)
    try:
        sock.connect(env["control"])
        try:
            sock.sendall(said)
            if ends:
                sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        answer = b""
        while True:
            piece = sock.recv(65536)
            if not piece:
                break
            answer += piece
        return json.loads(answer)["answer"] if answer else "closed"
    except (TimeoutError, socket.timeout):
        return "open"
    except OSError:
        return "closed"
    finally:
        sock.close()


def control_socket():
    line = lambda value: json.dumps(value).encode("ascii") + b"\n"
    act = lambda action, **filter: line({"request": "act", "filter": filter, "action": action, "reason": "x", "dry_run": True})
    said = {
        "nothing": b"", "newline": b"\n", "noise": os.urandom(3000) + b"\n", "not_utf8": b"\xff\xfe\n", "no_newline": b'{"request":"lanes"}',
        "100_kb": b"x" * 100_000, "depth_30000": b"[" * 30_000 + b"\n", "depth_of_objects": b'{"a":' * 10_000 + b"\n",
        "unknown": line({"request": "format_disk"}), "number": b"1e999\n", "null": b"null\n", "dicom": request(),
        "act_on_everything": act({"verb": "discard"}), "job_of_2_64": b'{"request":"show","job":18446744073709551616}\n',
        "job_unknown": line({"request": "show", "job": 2 ** 63}), "negative_limit": b'{"request":"list","filter":{},"limit":-1}\n',
        "unknown_filter": act({"verb": "retry"}, everything=True), "path_as_destination": act({"verb": "reroute", "to": "../../etc"}, all=True),
        "unknown_destination": line({"request": "suspend", "destination": "nowhere", "reason": None}),
        "span_of_noise": act({"verb": "retry"}, older_than="99999999999999999999y"), "uid_as_path": act({"verb": "retry"}, study="../../x"),
        "5000_jobs": act({"verb": "retry"}, jobs=list(range(5000, 10_000)))}
    # What is no text is not answered; of what is too long the rest is not read, which may overtake the answer.
    answers = {"5000_jobs": "acted", "noise": "closed", "not_utf8": "closed", "dicom": "closed", "100_kb": ("refused", "closed")}
    for name, text in said.items():
        case("control_" + name, answers.get(name, "refused"), lambda env, text=text: control(env, text))
    case("control_huge_limit", "jobs", lambda env: control(env, line({"request": "list", "filter": {}, "limit": 2 ** 63})))
    case("control_silence", "refused", lambda env: control(env, b"", ends=False))


# Names in a folder destination, from values of the data set.

def folder_case(env, patient, study, uid=None):
    uid = uid or fresh_uid()
    data = b"".join([explicit(8, 0x16, "UI", wire.CT), explicit(8, 0x18, "UI", uid), explicit(0x10, 0x20, "LO", patient),
                     explicit(0x20, 0x0d, "UI", study)])
    answer = heard(env["port"], request() + store(data, uid) + release())
    end = time.time() + 8
    while time.time() < end:
        for place, folders, files in os.walk(env["state"]):
            names = [name for name in files if uid.strip(".") in name and name.endswith(".dcm")]
            if names and uid.strip("."):
                inside = os.path.relpath(os.path.join(place, names[0]), env["keep"])
                parts = inside.split("/")
                safe = all(part and not part.startswith(".") and all(c.isalnum() or c in "._-" for c in part) for part in parts)
                return answer + (" inside" if len(parts) == 3 and safe and len(inside) < 500 else " at " + inside)
        time.sleep(0.05)
    return answer + " nowhere"


def folder_names():
    for name, patient in {"parent": "../../../../tmp/evil", "absolute": "/etc/passwd", "nul": b"a\0/../b", "backslash": "..\\..\\x",
                          "dot": ".", "dots": "..", "hidden": ".ssh", "empty": "", "blank": "   ", "long": "A" * 60_000, "device": "CON",
                          "ansi": b"\x1b[2J\r\n", "percent": "%2e%2e%2f", "shell": "$(reboot);`id`", "latin": b"\xc4\xd6\xdc",
                          "html": "<script>", "unicode": "\u2028\u202e".encode()}.items():
        case("folder_" + name, "ac 0000 rp closed inside", lambda env, patient=patient: folder_case(env, patient, "1.2.3"))
    for name, study in (("study_path", "../../x"), ("study_dots", ".."), ("study_of_noise", b"\xff" * 90)):
        case("folder_" + name, "ac 0000 rp closed inside", lambda env, study=study: folder_case(env, "P", study))


# Rules that misbehave, and hostile archives: what becomes of the job.

def jobs(env, **filter):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(15)
    with sock:
        sock.connect(env["control"])
        sock.sendall(json.dumps({"request": "list", "filter": filter, "limit": 10}).encode("ascii") + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            piece = sock.recv(65536)
            if not piece:
                break
            answer += piece
    return json.loads(answer)["jobs"]


def fate(env, uid, destination, patience=20):
    """`held`, `waits` (after the archive has been asked at least twice, or for long enough) or `delivered`."""
    end = time.time() + patience
    while True:
        found = [job for job in jobs(env, sop_instance=uid) if job["destination"] == destination]
        if not found:
            return "delivered"
        if found[0]["state"] == "held":
            return "held" + (" " + found[0]["hold_kind"] if destination is None else "")
        if time.time() > end:
            return "waits"
        time.sleep(0.1)


def sent(env, station, study_id=""):
    uid = fresh_uid()
    data = b"".join([explicit(8, 0x16, "UI", wire.CT), explicit(8, 0x18, "UI", uid), explicit(8, 0x1010, "SH", station),
                     explicit(0x10, 0x20, "LO", "P"), explicit(0x20, 0x0d, "UI", "1.2.3"), explicit(0x20, 0x10, "SH", study_id)])
    data += explicit(0x7fe0, 0x10, "OW", bytes(200_000))
    return uid, heard(env["port"], request() + store(data, uid) + release())


def archive_case(env, number, outcome):
    destination = "bad_%03d" % number
    uid, answer = sent(env, destination)
    if answer != "ac 0000 rp closed":
        return answer
    return fate(env, uid, destination, 6 if outcome == abuse_archive.WAITS else 20)


def rule_case(env, word):
    uid, answer = sent(env, "", word)
    if answer != "ac 0000 rp closed":
        return answer
    return fate(env, uid, "keep" if word == "REDOS" else None)


def behind():
    for number, (name, outcome) in enumerate(abuse_archive.OUTCOMES.items()):
        case("archive_" + name, outcome, lambda env, number=number, outcome=outcome: archive_case(env, number, outcome))
    for word, kind in {"LOOP": "budget", "DOUBLE": "budget", "PUSH": "budget", "DEEP": "budget", "INDEX": "error", "THROW": "error",
                       "NOWHERE": "error", "REGEX": "error", "DIVIDE": "error", "EDITPATH": "error"}.items():
        case("rule_" + word.lower(), "held " + kind, lambda env, word=word: rule_case(env, word))
    # Linear time: a pattern that would take for ever elsewhere costs nothing here.
    case("rule_regex_of_nested_repeats", "delivered", lambda env: rule_case(env, "REDOS"))


# `behind` waits for those who add archives (`abuse_rows`).
for build in (tls, web, control_socket, folder_names):
    build()
