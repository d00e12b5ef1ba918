"""Storage commitment with pynetdicom: the modality that asks, the address that it is told at, and the archive that commits.

usage: commitment.py ask PORT CALLED CALLING SPEC    one N-ACTION; prints its status and the reports on the same association
       commitment.py listen PORT JOURNAL AE [CERTIFICATE KEY CA]   takes N-EVENT-REPORTs on associations of their own
       commitment.py archive PORT JOURNAL BEHAVIOUR [CERTIFICATE KEY CA]  stores, and commits as the behaviour file says
       commitment.py tell PORT CALLED CALLING SPEC   an archive that says something about a transaction

SPEC is JSON, or @FILE with it: "transaction", "refs" ([[class, instance]…]), "stay" (seconds to wait for "reports"), and to be wrong: "type",
"instance", "class", "omit" (attributes), "twice" (the same again); "tls": [CERTIFICATE, KEY, CA] for `ask` and `tell`.
BEHAVIOUR is a JSON file, read anew for each request: "how" ("same", "new", "never", "refuse"), "port" (of the box, for "new"), "fail"
({instance: reason}), "omit" (instances that the answer leaves out), "delay" (seconds), "status" (of a refusal), "refuse" (instances whose
request it refuses), "first" (a transaction that is told of before, over the same association).
"""
import copy
import json
import ssl
import sys
import threading
import time

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, _config, build_role, evt

import requestor

CLASS = "1.2.840.10008.1.20.1"
INSTANCE = "1.2.840.10008.1.20.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"


def item(ref, reason=None):
    one = Dataset()
    one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID = ref
    if reason is not None:
        one.FailureReason = reason
    return one


def information(spec):
    data = Dataset()
    omit = spec.get("omit", [])
    if "TransactionUID" not in omit:
        data.TransactionUID = spec["transaction"]
    if "ReferencedSOPSequence" not in omit:
        data.ReferencedSOPSequence = [item(ref) for ref in spec["refs"]]
    for one in data.get("ReferencedSOPSequence", []):
        for keyword in omit:
            if keyword in one:
                delattr(one, keyword)
    return data


def client(files):
    """For `associate`: nothing without files."""
    if not files:
        return None
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=files[2])
    context.load_cert_chain(files[0], files[1])
    return context, "localhost"


def said(event):
    """A report as JSON."""
    data = event.event_information
    pairs = [[str(i.ReferencedSOPClassUID), str(i.ReferencedSOPInstanceUID)] for i in data.get("ReferencedSOPSequence", [])]
    failed = {str(i.ReferencedSOPInstanceUID): i.FailureReason for i in data.get("FailedSOPSequence", [])}
    return {"type": event.event_type, "transaction": str(data.TransactionUID), "committed": pairs, "failed": failed,
            "retrieve": str(data.get("RetrieveAETitle", "")), "instance": str(event.request.AffectedSOPInstanceUID)}


def ask(port, called, calling, spec):
    if spec.startswith("@"):
        with open(spec[1:]) as file:
            spec = file.read()
    spec, reports = json.loads(spec), []

    def on_report(event):
        reports.append(said(event))
        return 0, None

    ae = AE(ae_title=calling)
    ae.add_requested_context(CLASS, [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
    ae.add_requested_context(CT)
    role = [build_role(CLASS, scu_role=True, scp_role=spec.get("scp", False))] if "scp" in spec else []
    peer = requestor.associate(ae, "127.0.0.1", int(port), ae_title=called, ext_neg=role, evt_handlers=[(evt.EVT_N_EVENT_REPORT, on_report)],
                               tls_args=client(spec.get("tls")))
    if not peer.is_established:
        return {"associated": False}
    accepted = [context.abstract_syntax for context in peer.accepted_contexts]
    roles = {str(c.abstract_syntax): [c.as_scu, c.as_scp] for c in peer.accepted_contexts}
    answer = {"associated": True, "accepted": [str(uid) for uid in accepted], "roles": roles, "status": None}
    if CLASS in accepted:
        for _ in range(2 if spec.get("twice") else 1):
            status, _ = peer.send_n_action(information(spec), spec.get("type", 1), spec.get("class", CLASS),
                                           spec.get("instance", INSTANCE))
            answer["status"] = status.get("Status")
    until = time.time() + spec.get("stay", 0)
    while time.time() < until and len(reports) < spec.get("reports", 1):
        time.sleep(0.05)
    if peer.is_established:
        peer.release()
    answer["reports"] = reports
    return answer


def tls_context(files):
    if not files:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=files[2])
    context.load_cert_chain(files[0], files[1])
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def listen(port, journal, title, *tls):
    from archive import Journal
    journal = Journal(journal)

    def on_report(event):
        facts = said(event)
        facts["kind"] = facts.pop("type")
        ours = [c for c in event.assoc.accepted_contexts if c.context_id == event.context.context_id][0]
        journal.write("report", calling=event.assoc.requestor.ae_title, called=event.assoc.acceptor.ae_title,
                      we_are=[ours.as_scu, ours.as_scp], **facts)
        return 0, None

    ae = AE(ae_title=title)
    ae.add_supported_context(CLASS, [ImplicitVRLittleEndian, ExplicitVRLittleEndian], scu_role=False, scp_role=True)
    ae.start_server(("127.0.0.1", int(port)), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, on_report)],
                    ssl_context=tls_context(tls))
    print("ready", flush=True)
    threading.Event().wait()


def archive(port, journal_path, behaviour_path, *tls):
    from archive import Journal
    journal = Journal(journal_path)
    _config.UNRESTRICTED_STORAGE_SERVICE = True

    def behaviour():
        with open(behaviour_path) as file:
            return json.load(file)

    def on_store(event):
        journal.write("stored", sop=str(event.request.AffectedSOPInstanceUID))
        return 0

    def report(request, rules):
        failures = rules.get("fail", {})
        data = Dataset()
        data.TransactionUID = request.TransactionUID
        pairs = [(str(i.ReferencedSOPClassUID), str(i.ReferencedSOPInstanceUID)) for i in request.ReferencedSOPSequence]
        pairs = [pair for pair in pairs if pair[1] not in rules.get("omit", [])]
        kept = [pair for pair in pairs if pair[1] not in failures]
        failed = [pair for pair in pairs if pair[1] in failures]
        if kept:
            data.ReferencedSOPSequence = [item(pair) for pair in kept]
        if failed:
            data.FailedSOPSequence = [item(pair, failures[pair[1]]) for pair in failed]
        return data, 2 if failed else 1

    def answer(assoc, request, rules):
        time.sleep(rules.get("delay", 0.2))
        data, kind = report(request, rules)
        if rules["how"] == "same":
            try:
                if "first" in rules:
                    older = copy.deepcopy(data)
                    older.TransactionUID = rules["first"]
                    journal.write("first", status=assoc.send_n_event_report(older, kind, CLASS, INSTANCE)[0].get("Status"))
                status, _ = assoc.send_n_event_report(data, kind, CLASS, INSTANCE)
            except RuntimeError:  # The asker has gone.
                status = None
        else:
            status = tell_with(rules["port"], data, kind, "VNA", tls=tls)
        journal.write("answered", status=status.get("Status") if status is not None else None)

    def on_action(event):
        rules, request = behaviour(), event.action_information
        uids = [str(i.ReferencedSOPInstanceUID) for i in request.ReferencedSOPSequence]
        journal.write("asked", transaction=str(request.TransactionUID), sops=uids, calling=event.assoc.requestor.ae_title)
        if rules["how"] == "refuse" or set(uids) & set(rules.get("refuse", [])):
            return rules.get("status", 0x0110), None
        if rules["how"] in ("same", "new"):
            threading.Thread(target=answer, args=(event.assoc, request, rules), daemon=True).start()
        return 0, None

    ae = AE(ae_title="VNA")
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)
    ae.add_supported_context("1.2.840.10008.1.1")
    ae.add_supported_context(CLASS)
    ae.start_server(("127.0.0.1", int(port)), block=False,
                    evt_handlers=[(evt.EVT_C_STORE, on_store), (evt.EVT_N_ACTION, on_action)], ssl_context=tls_context(tls))
    print("ready", flush=True)
    threading.Event().wait()


def tell_with(port, data, kind, calling, called="WAYSTATION", tls=()):
    ae = AE(ae_title=calling)
    ae.add_requested_context(CLASS)
    peer = requestor.associate(ae, "127.0.0.1", int(port), ae_title=called, ext_neg=[build_role(CLASS, scp_role=True)],
                               tls_args=client(tls))
    if not peer.is_established:
        return None
    try:
        status, _ = peer.send_n_event_report(data, kind, CLASS, INSTANCE)
    finally:
        peer.release()
    return status


def tell(port, called, calling, spec):
    spec = json.loads(spec)
    data = information(spec)
    try:
        status = tell_with(port, data, spec.get("type", 1), calling, called, spec.get("tls"))
    except ValueError as error:
        return {"associated": True, "status": None, "error": str(error)}
    return {"associated": status is not None, "status": status.get("Status") if status is not None else None}


if __name__ == "__main__":
    verb, arguments = sys.argv[1], sys.argv[2:]
    result = {"ask": ask, "listen": listen, "archive": archive, "tell": tell}[verb](*arguments)
    print(json.dumps(result))
