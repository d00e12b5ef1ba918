"""An association of pynetdicom's whose own thread keeps its hands off the answers.

pynetdicom (3.0.4 and before) pauses the association's thread while a request waits for its answer. That thread says that it is
paused before it waits, and goes on saying so for the moment between being let go and running again. A second request that begins
in that moment believes it, and the thread, running at last, takes the answer for an unexpected message ("Received unexpected
C-STORE service message"): the request then waits until its timeout. On a busy machine it was one sending in a hundred.

usage: requestor.py late     of ten requests, how many stay unanswered when that thread always runs late: {"event": N, "gate": N}
"""
import json
import threading
import time

VERIFICATION = "1.2.840.10008.1.1"


class Gate:
    """Takes the place of the event that lets the thread go: only who has left it is called running, and at once."""

    def __init__(self, association):
        self.association, self.changed, self.is_open, self.is_used = association, threading.Condition(), True, False

    def set(self):
        with self.changed:
            self.is_open = True
            self.changed.notify_all()

    def clear(self):
        with self.changed:
            self.is_open = False

    def is_set(self):
        return self.is_open

    def wait(self, timeout=None):
        with self.changed:
            self.is_used = True
            self.changed.notify_all()
            passed = self.changed.wait_for(lambda: self.is_open, timeout)
            self.association._is_paused = False
        return passed

    def begin(self):
        """From here on the thread waits nowhere else."""
        with self.changed:
            while self.association.is_alive() and not self.is_used:
                self.changed.wait(0.01)


def associate(ae, *arguments, **more):
    """As `AE.associate`."""
    association = ae.associate(*arguments, **more)
    if association.is_established:
        association._reactor_checkpoint = Gate(association)
        association._reactor_checkpoint.begin()
    return association


def late():
    from pynetdicom import AE
    server = AE()
    server.add_supported_context(VERIFICATION)
    listening = server.start_server(("127.0.0.1", 0), block=False)
    port = listening.socket.getsockname()[1]
    unanswered = {"event": unanswered_of_ten(AE.associate, port), "gate": unanswered_of_ten(associate, port)}
    listening.shutdown()
    return unanswered


def unanswered_of_ten(connect, port):
    from pynetdicom import AE
    ae = AE()
    ae.add_requested_context(VERIFICATION)
    ae.dimse_timeout = 1
    peer = connect(ae, "127.0.0.1", port)
    checkpoint, dimse = peer._reactor_checkpoint, peer.dimse
    wait, send = checkpoint.wait, dimse.send_msg

    def wait_and_be_late():
        wait()
        time.sleep(0.02)

    def send_and_be_later(*arguments):
        send(*arguments)
        time.sleep(0.05)

    checkpoint.wait, dimse.send_msg = wait_and_be_late, send_and_be_later
    answered = 0
    for _ in range(10):
        # An unanswered request ends the association.
        answered += peer.is_established and "Status" in peer.send_c_echo()
    peer.release()
    return 10 - answered


if __name__ == "__main__":
    print(json.dumps(late()))
