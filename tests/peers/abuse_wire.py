"""Hostile cases at the DICOM port: name -> (what must be heard, what is said). Answers: docs/conformance.md."""
import random
import struct
import zlib

from abuse import *

BAD_PDU, NOT_NOW, UNKNOWN = "abort 2/6 closed", "abort 2/2 closed", "abort 2/1 closed"
CASES = {}


def case(name, expected, *said, **more):
    assert name not in CASES, name
    CASES[name] = (expected, lambda env: heard(env["port"], *said, **more))


def first_pdus():
    for kind in (0, 8, 9, 0x10, 0x40, 0x7f, 0x80, 0xff):
        case("first_pdu_of_type_%02x" % kind, UNKNOWN, struct.pack(">BBI", kind, 0, 4) + bytes(4))
    for kind in (2, 3, 4, 5, 6):
        case("first_pdu_is_a_%d" % kind, NOT_NOW, wire.pdu(kind, bytes(4)))
    case("abort_first", "closed", wire.pdu(7, bytes(4)))
    case("abort_of_4_gib", BAD_PDU, struct.pack(">BBI", 7, 0, 0xffffffff) + bytes(64))
    for length in (0, 1, 67):
        case("request_of_%d_bytes" % length, BAD_PDU, wire.pdu(1, bytes(length)))
    for name, length in (("4_gib", 0xffffffff), ("2_gib", 0x80000000), ("1_mib_and_1", (1 << 20) + 1)):
        case("request_of_" + name, BAD_PDU, struct.pack(">BBI", 1, 0, length) + bytes(3000))
    case("request_cut_in_its_header", "closed", b"\1\0\0", ends=True)
    case("request_cut_in_its_body", "closed", request()[:100], ends=True)
    case("silence", "closed")
    case("one_byte_then_silence", "closed", b"\1")
    case("half_a_request_then_silence", "closed", request()[:90])
    case("request_dripped", "closed", *[request()[at:at + 1] for at in range(12)], pause=0.25)
    case("nothing_and_gone", "closed", ends=True)
    case("http_request", UNKNOWN, b"GET / HTTP/1.1\r\nHost: box\r\n\r\n")
    case("tls_hello_in_plain", UNKNOWN, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500))
    case("ssh_banner", UNKNOWN, b"SSH-2.0-OpenSSH_9.2\r\n")
    case("proxy_protocol", UNKNOWN, b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + request())
    case("hl7_message", UNKNOWN, b"\x0bMSH|^~\\&|A|B|C|D|20200101||ADT^A01|1|P|2.3\r\x1c\r")
    case("zeros", UNKNOWN, bytes(65536))
    case("noise", UNKNOWN, b"\xa5" + random.Random(7).randbytes(100_000))


def items_of_requests():
    base = application() + context() + user()
    case("no_contexts", "ac rp closed", raw_request(application() + user()) + release())
    case("nothing_variable", "rj 1/1/2 closed", raw_request(b""))
    case("no_user_information", "ac rp closed", raw_request(application() + context()) + release())
    case("items_in_reverse", "ac rp closed", raw_request(user() + context() + application()) + release())
    even = "ac/0/2 rp closed"
    case("even_context_id", even, raw_request(base + context(2)) + release())
    case("context_id_0", even, raw_request(base + context(0)) + release())
    many = b"".join(context(number) for number in range(256))
    case("256_contexts", "ac" + "/0" * 128 + "/2" * 128 + " rp closed", raw_request(application() + many + user()) + release())
    case("duplicate_context_id", BAD_PDU, raw_request(base + context(1)))
    case("context_of_0_bytes", BAD_PDU, raw_request(base + wire.item(0x20, b"")))
    case("context_of_3_bytes", BAD_PDU, raw_request(base + wire.item(0x20, b"\5\0\0")))
    case("context_without_abstract_syntax", "ac/0/3 rp closed", raw_request(base + wire.item(0x20, b"\5\0\0\0")) + release())
    case("context_without_transfer_syntax", "ac/0/4 rp closed", raw_request(base + context(5, syntaxes=())) + release())
    case("item_longer_than_the_request", BAD_PDU, raw_request(base + b"\x20\0\xff\xff\5\0\0\0"))
    case("item_header_cut", BAD_PDU, raw_request(base + b"\x20\0\0"))
    case("sub_item_longer_than_its_item", BAD_PDU, raw_request(base + wire.item(0x20, b"\5\0\0\0\x30\0\xff\xff1.2")))
    case("user_sub_item_cut", BAD_PDU, raw_request(application() + context() + wire.item(0x50, b"\x51\0\0")))
    case("unknown_items", "ac rp closed", raw_request(wire.item(0, b"") + base + wire.item(0xff, bytes(60000))) + release())
    case("two_of_every_item", "ac rp closed", raw_request(application() * 2 + context() + user() * 2) + release())
    case("no_application_context", "rj 1/1/2 closed", raw_request(context() + user()))
    case("other_application_context", "rj 1/1/2 closed", raw_request(application("1.2.3") + context() + user()))
    case("application_context_of_60_kb", "rj 1/1/2 closed", raw_request(application("1" * 60000) + context() + user()))
    case("protocol_version_0", "rj 1/2/2 closed", raw_request(base, version=0))
    case("protocol_version_2", "rj 1/2/2 closed", raw_request(base, version=2))
    refused = lambda result: "ac/0/%d rp closed" % result
    abstract = {"of_65": "1." + "2" * 63, "of_letters": "one.two", "path": "../../etc/passwd", "empty": "", "nul": b"1.2\0.3"}
    for name, uid in abstract.items():
        case("abstract_syntax_" + name, refused(3), raw_request(base + context(5, uid)) + release())
    case("abstract_syntax_of_a_query", refused(3), raw_request(base + context(5, "1.2.840.10008.5.1.4.1.2.2.1")) + release())
    for name, uid in (("of_65", "1." + "2" * 63), ("path", "../../etc/passwd"), ("empty", "")):
        case("transfer_syntax_" + name, refused(4), raw_request(base + context(5, syntaxes=(uid,))) + release())
    many = [wire.EXPLICIT] * 2000
    case("2000_transfer_syntaxes", "ac rp closed", raw_request(application() + context(1, syntaxes=many) + user()) + release())
    for name, size in (("0", 0), ("1", 1), ("7", 7), ("4_gib", 0xffffffff)):
        case("max_pdu_" + name, "ac 0000 rp closed", request(max_pdu=size) + echo() + release())
    for kind in (0, 1, 2, 3, 4, 5, 255):
        identity = wire.item(0x58, bytes([kind, 1]) + struct.pack(">H", 60000) + bytes(60000))
        case("user_identity_%d_of_60_kb" % kind, "ac rp closed", request(extra=identity) + release())
    case("user_identity_longer_than_its_item", "ac rp closed", request(extra=wire.item(0x58, b"\2\1\xff\xff")) + release())
    case("role_selection_cut", "ac rp closed", request(extra=wire.item(0x54, b"\0\xff1.2")) + release())
    case("extended_negotiation_of_noise", "ac rp closed", request(extra=wire.item(0x56, bytes(range(256)))) + release())
    case("implementation_names_of_60_kb", "ac rp closed", request(class_uid=b"1" * 60000) + release())


def titles():
    odd = {"empty": b"", "nul": bytes(16), "path": b"../../etc/passwd", "crlf": b"WAY\r\nSTATION", "ansi": b"\x1b[2JWAYSTATION",
           "latin": b"WAYSTATI\xd6N", "backslash": b"WAY\\STATION", "lower": b"waystation", "html": b"<b>WAYSTATION",
           "label": b'A",evil="1'}
    base = application() + context() + user()
    for name, text in odd.items():
        case("called_ae_" + name, "rj 1/1/7 closed", raw_request(base, called=text))
        case("calling_ae_" + name, "rj 1/1/3 closed", raw_request(base, calling=text))
    case("calling_ae_sql", "rj 1/1/3 closed", raw_request(base, calling=b"' OR 1=1 --"))
    case("calling_ae_percent", "rj 1/1/3 closed", raw_request(base, calling=b"%2e%2e%2f"))


def established():
    def after(name, expected, *said, **more):
        case("then_" + name, "ac " + expected, request(), *said, **more)

    for kind in (0, 8, 0xff):
        after("pdu_of_type_%02x" % kind, UNKNOWN, wire.pdu(kind, bytes(4)))
    for kind, what in ((1, "a_second_request"), (2, "an_accept"), (3, "a_reject"), (6, "a_release_reply")):
        after(what, NOT_NOW, wire.pdu(kind, bytes(80)))
    after("silence", "abort 2/0 closed")
    after("abort", "closed", wire.pdu(7, b"\xff\xff\xff\xff"))
    after("abort_of_2_bytes", BAD_PDU, wire.pdu(7, bytes(2)))
    after("release_of_0_bytes", BAD_PDU, wire.pdu(5, b""))
    after("release_of_4_gib", BAD_PDU, struct.pack(">BBI", 5, 0, 0xffffffff) + bytes(64))
    after("two_releases", "rp closed", release() * 2)
    after("a_store_behind_the_release", "rp closed", release() + store(good))
    after("half_close", "closed", ends=True)
    after("half_a_header_and_gone", "closed", b"\4\0\0", ends=True)
    after("half_a_header_and_silence", "abort 2/0 closed", b"\4\0\0")
    pdv = lambda length, number=3, flags=3, rest=b"": wire.pdu(4, struct.pack(">IBB", length, number, flags) + rest)
    after("pdv_of_length_0", BAD_PDU, pdv(0))
    after("pdv_of_length_1", BAD_PDU, pdv(1))
    after("pdv_of_4_gib", BAD_PDU, pdv(0xffffffff))
    after("pdv_longer_than_its_pdu", BAD_PDU, pdv(100, rest=bytes(8)))
    after("pdv_header_cut", BAD_PDU, wire.pdu(4, bytes(5)))
    after("p_data_of_4_gib", BAD_PDU, struct.pack(">BBI", 4, 0, 0xffffffff) + bytes(100))
    after("p_data_over_16_mib", BAD_PDU, struct.pack(">BBI", 4, 0, (16 << 20) + 1) + bytes(100))
    after("endless_empty_pdus", BAD_PDU, wire.pdu(4, b"") * 5000)
    after("endless_empty_fragments", BAD_PDU, pdv(2, flags=1) * 5000)
    for number in (0, 2, 5, 255):
        after("context_%d" % number, BAD_PDU, wire.pdata(number, 3, wire.echo_rq(1)))
    after("a_data_set_without_command", BAD_PDU, wire.pdata(1, 2, b"abc"))
    after("a_command_on_two_contexts", BAD_PDU, wire.pdata(3, 1, wire.echo_rq(1)[:20]) + wire.pdata(1, 3, wire.echo_rq(1)[20:]))
    begun = command(wire.store_rq(1, wire.CT, "1.2.3"), 1)
    after("a_command_in_the_data_set", BAD_PDU, begun + wire.pdata(1, 3, wire.echo_rq(1)))
    after("the_data_set_on_another_context", BAD_PDU, begun + wire.pdata(3, 2, b"abc"))
    after("release_instead_of_the_data_set", NOT_NOW, begun + release())
    after("release_in_the_command", NOT_NOW, wire.pdata(3, 1, wire.echo_rq(1)[:20]) + release())
    after("abort_in_the_data_set", "closed", begun + wire.pdata(1, 0, bytes(500)) + wire.pdu(7, bytes(4)))
    after("gone_in_the_data_set", "closed", begun + wire.pdata(1, 0, bytes(500)), ends=True)
    after("silence_in_the_data_set", "abort 2/0 closed", begun + wire.pdata(1, 0, good("1.2.3")))
    after("silence_in_the_command", "abort 2/0 closed", wire.pdata(3, 1, wire.echo_rq(1)[:20]))
    after("a_data_set_that_never_ends", "abort 2/0 closed", begun, *[wire.pdata(1, 0, head(wire.CT, "1.2.3"))],
          wire.pdata(1, 0, explicit_header(0x7fe0, 0x10, "OB", 0x7ffffff0)), *[wire.pdata(1, 0, bytes(65000))] * 300)


def commands():
    def ask(name, expected, body, number=3, more=b""):
        case("command_" + name, "ac " + expected, request() + command(body, number) + more + release())

    bare = lambda *elements: wire.command_set(*elements)[12:]
    fine = ((0x0002, "UI", wire.VERIFICATION), (0x0100, "US", 0x30), (0x0110, "US", 1), (0x0800, "US", 0x101))
    ask("without_group_length", "0000 rp closed", bare(*fine))
    ask("with_wrong_group_length", "0000 rp closed", struct.pack("<HHII", 0, 0, 4, 7) + bare(*fine))
    ask("in_reverse_order", "0000 rp closed", bare(*fine[::-1]))
    ask("without_field", "abort 2/0 closed", bare(fine[0], fine[2], fine[3]))
    ask("without_message_id", "abort 2/0 closed", bare(fine[0], fine[1], fine[3]))
    ask("of_noise", "abort 2/0 closed", random.Random(3).randbytes(400))
    ask("of_nothing", "abort 2/0 closed", b"")
    ask("with_an_element_of_4_gib", "abort 2/0 closed", bare(*fine) + struct.pack("<HHI", 0, 0x5110, 0xffffffff))
    ask("in_explicit_vr", "abort 2/0 closed", explicit(0, 2, "UI", wire.VERIFICATION) + explicit(0, 0x100, "US", b"\x30\0"))
    ask("with_a_field_of_1_byte", "abort 2/0 closed", bare((0x0110, "US", 1)) + struct.pack("<HHI", 0, 0x100, 1) + b"\x30")
    case("command_over_64_kib", "ac " + BAD_PDU, request() + wire.pdata(3, 1, bytes(60000)) * 2)
    case("command_that_never_ends", "ac " + BAD_PDU, request() + wire.pdata(3, 1, b"\0") * 70000)
    services = {"find": 0x20, "get": 0x10, "move": 0x21, "n_event_report": 0x100, "n_get": 0x110, "n_set": 0x120,
                "n_action": 0x130, "n_create": 0x140, "n_delete": 0x150, "zero": 0, "unknown": 0x7abc}
    for name, field in services.items():
        body = bare((0x0002, "UI", "1.2.3"), (0x0100, "US", field), fine[2], fine[3])
        # The two of storage commitment are understood, but not of this class.
        ask(name, "0118 rp closed" if name in ("n_event_report", "n_action") else "0211 rp closed", body)
    query = bare((0x0002, "UI", "1.2.3"), (0x0100, "US", 0x20), fine[2], (0x0800, "US", 1))
    ask("find_with_its_query", "0211 rp closed", query, more=wire.pdata(3, 2, bytes(1000)))
    ask("find_without_its_query", NOT_NOW, query)
    ask("cancel_of_nothing", "rp closed", bare((0x0100, "US", 0x0fff), (0x0120, "US", 1), fine[3]))
    ask("echo_answer_unasked", "abort 2/0 closed", wire.echo_rsp(1))
    ask("store_answer_unasked", "abort 2/0 closed", wire.store_rsp(1, wire.CT, "1.2.3", 0), 1)

    def store_with(name, expected, *elements, data=None):
        body = bare(*elements, (0x0100, "US", 1), (0x0110, "US", 1))
        said = wire.pdata(1, 2, good("1.2.3")) if data is None else data
        ask("store_" + name, expected + " rp closed", body, 1, said)

    sop, uid, full = (0x0002, "UI", wire.CT), (0x1000, "UI", "1.2.3"), (0x0800, "US", 0)
    store_with("without_data_set", "C000", sop, uid, (0x0800, "US", 0x101), data=b"")
    store_with("without_class", "0122", uid, full)
    store_with("with_class_of_letters", "0122", (0x0002, "UI", "../../etc"), uid, full)
    store_with("of_another_class", "0122", (0x0002, "UI", wire.MR), uid, full)
    store_with("without_instance", "0117", sop, full)
    for name, text in (("path", "../../../etc/passwd"), ("of_65", "1." + "2" * 63), ("nul", b"1.2\0/x"), ("percent", "%2e%2e/"),
                       ("empty", ""), ("slash", "/")):
        store_with("with_instance_" + name, "0117", sop, (0x1000, "UI", text), full)
    ask("store_on_verification", "0122 rp closed", wire.store_rq(1, wire.VERIFICATION, "1.2.3"), 3, wire.pdata(3, 2, b"ab"))


SYNTAXES = {"implicit": wire.IMPLICIT, "explicit": wire.EXPLICIT, "big": "1.2.840.10008.1.2.2",
            "deflated": "1.2.840.10008.1.2.1.99", "jpeg": "1.2.840.10008.1.2.4.50"}


def deflate(data):
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return stream.compress(data) + stream.flush()


def data_sets():
    def send(name, expected, data, syntax="explicit"):
        def run(env):
            said = wire.associate_rq(CALLED, CALLING, [(1, wire.CT, [SYNTAXES[syntax]])]) + store(data)
            # A good one behind it: the association goes on after a bad instance.
            if syntax == "explicit":
                said += store(good)
            return heard(env["port"], said + release())
        after = " 0000" if syntax == "explicit" else ""
        CASES["data_set_" + name] = ("ac " + expected + after + " rp closed", run)

    noise = random.Random(11)
    for syntax in SYNTAXES:
        send("empty_" + syntax, "C000", b"", syntax)
        send("of_noise_" + syntax, "C000", b"\xde\xad\xbe\xef" * 4 + noise.randbytes(3000), syntax)
        send("of_one_byte_" + syntax, "C000", b"\x08", syntax)
    implicit_head = lambda uid: implicit(8, 0x16, wire.CT) + implicit(8, 0x18, uid)
    big_head = lambda uid: big(8, 0x16, "UI", wire.CT) + big(8, 0x18, "UI", uid)
    send("length_4_gib_implicit", "C000", lambda uid: implicit_head(uid) + implicit(0x10, 0x10, b"x", 0xfffffffe), "implicit")
    send("length_4_gib_explicit", "C000", with_head(explicit_header(0x0040, 0xa160, "UT", 0xfffffffe)))
    send("length_64_k_big", "C000", lambda uid: big_head(uid) + struct.pack(">HH2sH", 0x10, 0x10, b"PN", 0xffff), "big")
    send("undefined_length_of_text", "C000", with_head(explicit_header(0x0040, 0xa160, "UT", 0xffffffff)))
    send("vr_of_noise", "C000", with_head(struct.pack("<HH2sH", 0x0040, 0x10, b"\0\xff", 2) + b"ab"))
    send("little_endian_in_big", "C000", good, "big")
    for depth in (65, 3000, 200_000):
        send("nested_%d" % depth, "C000", with_head(nested(depth, closed=False)))
    send("nested_100_closed", "C000", with_head(nested(100)))
    send("nested_3000_with_lengths", "C000", with_head(nested(3000, lengths=True)))
    send("nested_64", "0000", with_head(nested(64)))
    send("item_at_the_root", "C000", with_head(struct.pack("<HHI", 0xfffe, 0xe000, 0)))
    send("item_end_at_the_root", "C000", with_head(struct.pack("<HHI", 0xfffe, 0xe00d, 0)))
    send("sequence_end_at_the_root", "C000", with_head(struct.pack("<HHI", 0xfffe, 0xe0dd, 0)))
    send("item_longer_than_its_sequence", "C000",
         with_head(explicit_header(0x40, 0x275, "SQ", 16) + struct.pack("<HHI", 0xfffe, 0xe000, 4000) + bytes(8)))
    send("sequence_longer_than_the_data_set", "C000", with_head(explicit_header(0x40, 0x275, "SQ", 0x7ffffff0)))
    send("element_instead_of_item", "C000", with_head(explicit_header(0x40, 0x275, "SQ", 12) + explicit(8, 0x16, "UI", "1.23")))
    send("250000_elements", "C000", lambda uid: head(wire.CT, uid) + explicit(0x51, 0x1010, "SH", b"") * 250_000)
    send("250000_items", "C000", with_head(explicit_header(0x40, 0x275, "SQ", 0xffffffff) + struct.pack("<HHI", 0xfffe, 0xe000, 0) * 250_000))
    send("of_another_instance", "A900", lambda uid: good(uid + ".1"))
    send("of_another_class", "A900", lambda uid: modality.data_set(wire.MR, uid, b"12"))
    wrong = {"sequence": explicit_header(8, 0x18, "SQ", 0), "bytes": explicit(8, 0x18, "OB", b"\xff" * 40), "float": explicit(8, 0x18, "FD", bytes(8))}
    for name, element in wrong.items():
        send("instance_uid_as_" + name, "A900" if name == "float" else "0000", lambda uid, element=element: explicit(8, 0x16, "UI", wire.CT) + element)
    for name, vr in (("sequence", "SQ"), ("number", "US"), ("float", "FD"), ("tag", "AT"), ("unknown", "UN")):
        value = explicit_header(0x10, 0x10, "SQ", 0) if vr == "SQ" else explicit(0x10, 0x10, vr, bytes(8))
        send("patient_name_as_" + name, "0000", lambda uid, value=value: explicit(8, 0x16, "UI", wire.CT) + explicit(8, 0x18, "UI", uid) + value)
    for name, text in (("noise", b"\xff" * 60), ("many", b"ISO 2022 IR 87\\" * 200), ("unknown", b"ISO_IR 999")):
        send("charset_" + name, "0000", lambda uid, text=text: explicit(8, 5, "CS", text) + modality.data_set(wire.CT, uid, b"12"))
    escapes = b"\x1b$B\x1b(J\x1b" * 3000
    send("name_of_escapes", "0000", lambda uid: explicit(8, 5, "CS", "\\ISO 2022 IR 87") + explicit(8, 0x16, "UI", wire.CT)
         + explicit(8, 0x18, "UI", uid) + explicit(0x10, 0x10, "PN", escapes))
    send("tags_descending", "0000", lambda uid: good(uid) + explicit(8, 0x60, "CS", "CT"))
    send("twice_the_same_tag", "0000", lambda uid: explicit(8, 0x16, "UI", wire.CT) + explicit(8, 0x18, "UI", uid) * 2)
    send("group_0002_inside", "0000", lambda uid: explicit(2, 0x10, "UI", wire.IMPLICIT) + good(uid))
    send("group_0000_inside", "0000", lambda uid: explicit(0, 0, "UL", bytes(4)) + good(uid))
    send("deflate_of_noise", "C000", noise.randbytes(5000), "deflated")
    send("deflate_cut", "C000", lambda uid: deflate(head(wire.CT, uid))[:-20], "deflated")
    # Nothing beyond the head's cap is inflated; the bytes are kept as they came.
    send("deflate_bomb", "0000", lambda uid: deflate(head(wire.CT, uid) + explicit_header(0x40, 0xa160, "UT", 64 << 20) + b"A" * (64 << 20)), "deflated")
    send("deflate_of_a_bomb_of_elements", "C000", lambda uid: deflate(head(wire.CT, uid) + explicit(0x51, 0x1010, "SH", b"") * 400_000), "deflated")
    send("deflated_in_zlib", "0000", lambda uid: zlib.compress(good(uid)), "deflated")
    pixels = explicit_header(0x7fe0, 0x10, "OB", 0xffffffff)
    item = lambda length, body=b"": struct.pack("<HHI", 0xfffe, 0xe000, length) + body
    send("fragments_without_end", "C000", with_head(pixels + item(0) + item(4, b"abcd")), "jpeg")
    send("fragment_of_4_gib", "C000", with_head(pixels + item(0) + item(0xfffffffe, b"abcd")), "jpeg")
    # Behind the head, what the box does not understand is the archive's to judge: only a cut element is refused.
    send("fragment_of_undefined_length", "0000", with_head(pixels + item(0xffffffff)), "jpeg")
    send("pixels_longer_than_the_data_set", "C000", with_head(explicit_header(0x7fe0, 0x10, "OW", 1 << 30) + bytes(10)))
    send("part_10_file_instead", "C000", lambda uid: bytes(128) + b"DICM" + explicit(2, 0x10, "UI", wire.EXPLICIT) + good(uid))


for build in (first_pdus, items_of_requests, titles, established, commands, data_sets):
    build()
