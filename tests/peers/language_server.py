"""Drives a Rhai language server over a rule folder: language_server.py FOLDER SERVER [ARGUMENT...]

Opens the folder as an editor does and asks, over the Language Server Protocol on the server's standard input and output:

- what it completes after each module's name (`accession::`), and at the start of a statement, with only a rule file open,
- what it shows when the pointer rests on each word,
- whether it reads each definition file without a complaint.

What is expected is read from the definition files themselves: every function with its documentation. The last line is
`N passed, N failed`; the exit code is 0 only when nothing failed.
"""

import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from queue import Empty, Queue

DEADLINE = 30.0


class Server:
    """One language server, asked one thing at a time."""

    def __init__(self, command, root):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=root)
        self.answers = Queue()
        self.complaints = {}
        self.number = 0
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        out = self.process.stdout
        while True:
            length = 0
            while line := out.readline().strip():
                name, _, value = line.decode().partition(":")
                if name.lower() == "content-length":
                    length = int(value)
            if not length:
                return
            message = json.loads(out.read(length))
            if message.get("method") == "textDocument/publishDiagnostics":
                said = message["params"]
                self.complaints[said["uri"]] = said["diagnostics"]
            elif "method" in message and "id" in message:
                self._answer(message)
            elif "method" not in message:
                self.answers.put(message)

    def _answer(self, request):
        """What servers ask of an editor: settings (none) and registrations (agreed)."""
        items = request.get("params", {}).get("items", []) if request["method"] == "workspace/configuration" else None
        self._write({"jsonrpc": "2.0", "id": request["id"], "result": None if items is None else [None] * len(items)})

    def _write(self, message):
        body = json.dumps(message).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.process.stdin.flush()

    def tell(self, method, params):
        self._write({"jsonrpc": "2.0", "method": method, "params": params})

    def ask(self, method, params):
        self.number += 1
        self._write({"jsonrpc": "2.0", "id": self.number, "method": method, "params": params})
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            try:
                answer = self.answers.get(timeout=1.0)
            except Empty:
                continue
            if answer.get("id") == self.number:
                return answer.get("result")
        raise TimeoutError(method)


def words_of(text):
    """(module, {name: documentation}) of one definition file."""
    module = re.search(r"^module (\w+);", text, re.MULTILINE).group(1)
    words = {}
    docs = []
    for line in text.splitlines():
        if line.startswith("///"):
            docs.append(line[3:].strip())
        else:
            if named := re.match(r"fn (\w+)\(", line):
                words.setdefault(named.group(1), " ".join(docs))
            docs = []
    return module, words


def labels(completion):
    items = completion.get("items", []) if isinstance(completion, dict) else completion or []
    return {re.split(r"[(\s!]", item["label"])[0].split("::")[-1] for item in items}


def text_of(hover):
    contents = (hover or {}).get("contents", "")
    return contents.get("value", "") if isinstance(contents, dict) else str(contents)


def settled(state, wanted):
    """The state once it is as wanted, or as it is at the deadline: a server reads its folder after it has answered."""
    end = time.monotonic() + DEADLINE
    while (now := state()) != wanted and time.monotonic() < end:
        time.sleep(0.2)
    return now


def judge(server, folder):
    passed, failed = 0, []

    def expect(true, what):
        nonlocal passed
        if true:
            passed += 1
        else:
            failed.append(what)

    root = folder.as_uri()
    server.ask("initialize", {
        "processId": None,
        "rootUri": root,
        "workspaceFolders": [{"uri": root, "name": "rules"}],
        "capabilities": {"textDocument": {"completion": {}, "hover": {}}, "workspace": {"workspaceFolders": True}},
    })
    server.tell("initialized", {})
    modules = []
    for file in sorted(folder.glob("definitions/*.d.rhai")):
        modules.append(words_of(file.read_text()))
    # A rule as somebody writes it: one line for each word, and one that ends where completion is asked for.
    script, places = [], []
    for module, words in modules:
        before = "" if module == "static" else f"{module}::"
        for word, docs in words.items():
            places.append((len(script), len(before) + 1, before + word, docs))
            script.append(f"{before}{word}(image);")
    start = len(script)
    script += ["", "// the end"]
    page = folder / "main.rhai"
    version = 1
    server.tell("textDocument/didOpen", {"textDocument": {"uri": page.as_uri(), "languageId": "rhai", "version": 1, "text": "\n".join(script)}})

    def at(line, column):
        return {"textDocument": {"uri": page.as_uri()}, "position": {"line": line, "character": column}}

    def missing():
        """What an editor would not offer now, somebody having typed: what was opened before the definitions is read anew then."""
        nonlocal version
        version += 1
        typed = {"textDocument": {"uri": page.as_uri(), "version": version}, "contentChanges": [{"text": "\n".join(script)}]}
        server.tell("textDocument/didChange", typed)
        lacks = []
        offered = labels(server.ask("textDocument/completion", at(start, 0)))
        for module, words in modules:
            if module == "static":
                lacks += [f"{word} is not offered at the start of a statement" for word in words if word not in offered]
                continue
            line = next(number for number, _, name, _ in places if name.startswith(f"{module}::"))
            offered_here = labels(server.ask("textDocument/completion", at(line, len(module) + 3)))
            lacks += [f"{module}::{word} is not offered after {module}::" for word in words if word not in offered_here]
        return lacks

    lacks = settled(missing, [])
    failed += lacks
    passed += len(places) - len(lacks)
    for line, column, name, docs in places:
        shown = " ".join(text_of(server.ask("textDocument/hover", at(line, column))).split())
        first = docs.split(". ")[0][:60]
        expect(bool(first) and first in shown, f"{name}: shows {shown[:80]!r}")
    files = sorted(folder.glob("definitions/*.d.rhai"))
    for file in files:
        opened = {"uri": file.as_uri(), "languageId": "rhai", "version": 1, "text": file.read_text()}
        server.tell("textDocument/didOpen", {"textDocument": opened})
    settled(lambda: [file.name for file in files if server.complaints.get(file.as_uri()) != []], [])
    for file in files:
        said = server.complaints.get(file.as_uri())
        expect(said == [], f"{file.name}: {[one['message'] for one in said or []][:3]}")
    return passed, failed


def main():
    folder = Path(sys.argv[1]).resolve()
    server = Server(sys.argv[2:], folder)
    try:
        passed, failed = judge(server, folder)
    finally:
        server.process.kill()
        server.process.wait()
    for what in failed:
        print(f"failed: {what}")
    print(f"{passed} passed, {len(failed)} failed")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
