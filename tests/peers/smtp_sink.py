"""A mail server that keeps what it gets: one JSON line for each message, with how it came (TLS, log-in, envelope).

smtp_sink.py PORT JOURNAL MODE [CERTIFICATE KEY USER PASSWORD]
MODE: plain, starttls, tls; `refuse` in the file JOURNAL.behaviour makes it answer 451 to each message, `unknown NAME` 550 to each
recipient that begins so.
"""
import base64
import json
import os
import socketserver
import ssl
import sys

PORT, JOURNAL, MODE = int(sys.argv[1]), sys.argv[2], sys.argv[3]
CERTIFICATE, KEY, USER, PASSWORD = (sys.argv[4:] + [None] * 4)[:4]


def context():
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(CERTIFICATE, KEY)
    return made


def behaviour():
    try:
        with open(JOURNAL + ".behaviour", encoding="ascii") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def refuses():
    return "refuse" in behaviour()


def knows(recipient):
    words = behaviour().split()
    return words[:1] != ["unknown"] or not recipient.lstrip("<").startswith(words[1])


class Session(socketserver.StreamRequestHandler):
    def say(self, line):
        self.wfile.write(line.encode() + b"\r\n")

    def setup(self):
        self.request.settimeout(20)
        self.secure = MODE == "tls"
        if self.secure:
            self.request = context().wrap_socket(self.request, server_side=True)
        self.user = None
        super().setup()

    def handle(self):
        self.say("220 sink ESMTP")
        sender, to = None, []
        while line := self.rfile.readline():
            text = line.decode("utf-8", "replace").strip()
            verb = text.split(" ")[0].upper()
            if verb == "EHLO":
                offers = ["250-sink", "250-8BITMIME"]
                if MODE == "starttls" and not self.secure:
                    offers.append("250-STARTTLS")
                if USER:
                    offers.append("250-AUTH PLAIN")
                for offer in offers:
                    self.say(offer)
                self.say("250 SIZE 1000000")
            elif verb == "STARTTLS" and MODE == "starttls":
                self.say("220 go on")
                self.request = context().wrap_socket(self.request, server_side=True)
                self.secure = True
                self.rfile, self.wfile = self.request.makefile("rb"), self.request.makefile("wb", 0)
            elif verb == "AUTH":
                _, name, password = base64.b64decode(text.split(" ")[2]).decode().split("\0")
                if (name, password) == (USER, PASSWORD):
                    self.user = name
                    self.say("235 welcome")
                else:
                    self.say("535 no")
            elif verb == "MAIL":
                if (MODE == "starttls" and not self.secure) or (USER and not self.user):
                    self.say("530 not like this")
                    continue
                sender, to = text[10:], []
                self.say("250 ok")
            elif verb == "RCPT" and not knows(text[8:]):
                self.say("550 5.1.1 no such user")
            elif verb == "RCPT":
                to.append(text[8:])
                self.say("250 ok")
            elif verb == "DATA":
                if refuses():
                    self.say("451 come again")
                    continue
                self.say("354 go on")
                data = b""
                while (part := self.rfile.readline()) != b".\r\n":
                    if not part:
                        return
                    data += part[1:] if part.startswith(b"..") else part
                self.keep(sender, to, data)
                self.say("250 kept")
            elif verb == "QUIT":
                self.say("221 bye")
                return
            else:
                self.say("250 ok")

    def keep(self, sender, to, data):
        import email
        import email.policy

        message = email.message_from_bytes(data, policy=email.policy.default)
        entry = {
            "from": sender, "to": to, "tls": self.secure, "user": self.user, "subject": str(message["subject"]),
            "headers": {name.lower(): str(value) for name, value in message.items()}, "body": message.get_content(), "raw": data.decode("utf-8", "replace"),
        }
        with open(JOURNAL, "a", encoding="utf-8") as journal:
            journal.write(json.dumps(entry) + "\n")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request, client_address):
        # A client that does not trust our certificate breaks the handshake: that is what some tests want.
        pass


if __name__ == "__main__":
    open(JOURNAL, "a", encoding="utf-8").close()
    with Server(("127.0.0.1", PORT), Session) as server:
        os.write(1, b"ready\n")
        server.serve_forever()
