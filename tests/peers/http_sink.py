"""A web hook that keeps what it gets: one JSON line for each POST, with its headers and its body as it came.

http_sink.py PORT JOURNAL [CERTIFICATE KEY]
The file JOURNAL.behaviour may hold a status that is answered instead of 204, or `silent`.
"""
import http.server
import json
import os
import ssl
import sys
import time

PORT, JOURNAL = int(sys.argv[1]), sys.argv[2]


def behaviour():
    try:
        with open(JOURNAL + ".behaviour", encoding="ascii") as file:
            return file.read().strip()
    except FileNotFoundError:
        return "204"


class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        if behaviour() == "silent":
            time.sleep(30)
            return
        status = int(behaviour())
        entry = {"path": self.path, "status": status, "headers": {name.lower(): value for name, value in self.headers.items()}, "body": body}
        with open(JOURNAL, "a", encoding="utf-8") as journal:
            journal.write(json.dumps(entry) + "\n")
        self.send_response(status)
        if status == 302:
            self.send_header("location", "http://127.0.0.1:9/")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        pass


if __name__ == "__main__":
    open(JOURNAL, "a", encoding="utf-8").close()
    server = Server(("127.0.0.1", PORT), Hook)
    if len(sys.argv) > 3:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[3], sys.argv[4])
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    os.write(1, b"ready\n")
    server.serve_forever()
