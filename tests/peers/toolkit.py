"""pynetdicom in both roles, as real sites use it. Prints one JSON object.

usage: toolkit.py archive PORT JOURNAL [CERTIFICATE KEY CA]
       toolkit.py send PORT CALLED CALLING FILE...
       toolkit.py echo PORT CALLED CALLING
       toolkit.py echo_tls PORT CALLED CALLING CA [CERTIFICATE KEY]
       toolkit.py trickle PORT CALLED CALLING CA CERTIFICATE KEY FILE...   one association, half a second between two
       toolkit.py sequences PORT CALLED CALLING FILE   the file by an edited pydicom data set, encoded by pynetdicom
"""
import hashlib
import json
import ssl
import sys
import threading

from pynetdicom import AE, AllStoragePresentationContexts, ALL_TRANSFER_SYNTAXES, _config, evt

import requestor

VERIFICATION = "1.2.840.10008.1.1"


def archive(port, journal_path, *tls):
    from archive import Journal
    journal = Journal(journal_path)
    _config.UNRESTRICTED_STORAGE_SERVICE = True

    def on_store(event):
        data = event.request.DataSet.getvalue()
        journal.write("stored", sop=str(event.request.AffectedSOPInstanceUID), bytes=len(data),
                      sha256=hashlib.sha256(data).hexdigest(), syntax=str(event.context.transfer_syntax),
                      calling=event.assoc.requestor.ae_title)
        return 0

    ae = AE(ae_title="PYARCHIVE")
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)
    ae.add_supported_context(VERIFICATION)
    context = None
    if tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tls[2])
        context.load_cert_chain(tls[0], tls[1])
        context.verify_mode = ssl.CERT_REQUIRED
    ae.start_server(("127.0.0.1", int(port)), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)],
                    ssl_context=context)
    print("ready", flush=True)
    threading.Event().wait()


def echo(port, called, calling, tls=None):
    ae = AE(ae_title=calling)
    ae.add_requested_context(VERIFICATION)
    rejected = []

    def on_pdu(event):
        # Read here and not from the association: when the PDU and the end of the connection are seen in one look,
        # pynetdicom sometimes reports the end only.
        if event.pdu.pdu_type == 0x03:
            rejected.append([event.pdu.result, event.pdu.source, event.pdu.reason_diagnostic])

    peer = requestor.associate(ae, "127.0.0.1", int(port), ae_title=called, tls_args=(tls, "localhost") if tls else None,
                               evt_handlers=[(evt.EVT_PDU_RECV, on_pdu)])
    if not peer.is_established:
        return {"code": rejected[0] if rejected else "no answer"}
    status = peer.send_c_echo().Status
    peer.release()
    return {"code": None, "status": status}


def echo_tls(port, called, calling, ca, *own):
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca)
    if own:
        context.load_cert_chain(own[0], own[1])
    return echo(port, called, calling, context)


def send(port, called, calling, *files):
    from corpus import part10
    from corpus import send as send_files
    named = [(name, part10.read(name)) for name in files]
    listed = [{"path": name, "class": file.sop_class, "syntax": file.syntax} for name, file in named]
    return send_files(listed, port, called, calling)


def trickle(port, called, calling, ca, certificate, key, *files):
    import time
    import pydicom
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca)
    context.load_cert_chain(certificate, key)
    sets = [pydicom.dcmread(name) for name in files]
    ae = AE(ae_title=calling)
    ae.add_requested_context(sets[0].SOPClassUID, sets[0].file_meta.TransferSyntaxUID)
    peer = requestor.associate(ae, "127.0.0.1", int(port), ae_title=called, tls_args=(context, "localhost"))
    statuses = []
    for data_set in sets:
        statuses.append(peer.send_c_store(data_set).get("Status"))
        time.sleep(0.5)
    peer.release()
    return {"statuses": statuses}


def sequences(port, called, calling, name):
    import pydicom
    data_set = pydicom.dcmread(name)
    ae = AE(ae_title=calling)
    ae.add_requested_context(data_set.SOPClassUID, data_set.file_meta.TransferSyntaxUID)
    peer = requestor.associate(ae, "127.0.0.1", int(port), ae_title=called)
    status = peer.send_c_store(data_set).Status
    peer.release()
    return {"status": status}


if __name__ == "__main__":
    verbs = {"archive": archive, "send": send, "echo": echo, "echo_tls": echo_tls, "trickle": trickle, "sequences": sequences}
    result = verbs[sys.argv[1]](*sys.argv[2:])
    print(json.dumps(result))
