"""A clean root with the package in it, and its service as a service manager would run it."""

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

UNIT = "usr/lib/systemd/system/waystation.service"
STATE = "var/lib/waystation"


class Ran:
    def __init__(self, done):
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    def ok(self):
        assert self.code == 0, f"exit code {self.code}\n{self.out}\n{self.err}"
        return self

    @property
    def all(self):
        return self.out + self.err


def run(*command, **more):
    more.setdefault("timeout", 120)
    return Ran(subprocess.run([str(c) for c in command], stdin=subprocess.DEVNULL, capture_output=True, text=True, **more))


class Root:
    """A folder that is a Debian of its own."""

    def __init__(self, folder, base):
        """A layer over `base`, which stays as it is."""
        self.path = folder / "root"
        self.services = []
        for name in ["root", "changed", "work"]:
            (folder / name).mkdir()
        layers = f"lowerdir={base},upperdir={folder}/changed,workdir={folder}/work"
        run("mount", "-t", "overlay", "overlay", "-o", layers, self.path).ok()
        run("mount", "-t", "proc", "proc", self.path / "proc").ok()
        # As on any installed Debian; mmdebstrap leaves the build machine's.
        (self.path / "etc/hosts").write_text("127.0.0.1 localhost\n")

    def __truediv__(self, name):
        return self.path / name

    def run(self, *command, **more):
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
        return run("chroot", self.path, *command, env=environment, **more)

    def dpkg(self, *arguments):
        """Its terminal is nobody: a question would fail."""
        return self.run("dpkg", *arguments)

    def install(self, deb):
        shutil.copy(deb, self.path / "tmp" / Path(deb).name)
        return self.dpkg("--install", f"/tmp/{Path(deb).name}").ok()

    def apt(self, *arguments):
        """The administrator's own tool; the only repository is the one of `publish`."""
        return self.run("apt-get", "--yes", "--quiet", "-o", "APT::Sandbox::User=root", *arguments)

    def publish(self, debs):
        """A repository of these packages alone, and apt told of it."""
        folder = self.path / "srv/repository"
        folder.mkdir(parents=True, exist_ok=True)
        entries = []
        for deb in debs:
            content = Path(deb).read_bytes()
            (folder / Path(deb).name).write_bytes(content)
            control = run("dpkg-deb", "--field", deb).ok().out.strip()
            entries.append(f"{control}\nFilename: ./{Path(deb).name}\nSize: {len(content)}\nSHA256: {hashlib.sha256(content).hexdigest()}\n")
        (folder / "Packages").write_text("\n".join(entries))
        sources = self.path / "etc/apt"
        shutil.rmtree(sources / "sources.list.d", ignore_errors=True)
        (sources / "sources.list").write_text("deb [trusted=yes] file:/srv/repository ./\n")
        self.apt("update").ok()

    def remove(self):
        for service in self.services:
            service.end()
        run("umount", self.path / "proc").ok()
        run("umount", self.path).ok()

    def state(self, pattern):
        return sorted((self.path / STATE).glob(pattern))

    def pretend_systemd(self):
        """From now on systemd seems to run; what it is told is written down."""
        (self.path / "run/systemd/system").mkdir(parents=True)
        recorder = self.path / "usr/bin/systemctl"
        recorder.rename(self.path / "usr/bin/systemctl.real")
        # What concerns files alone the real one does.
        recorder.write_text(
            "#!/bin/sh\n"
            'echo "$*" >> /run/told\n'
            'case "$*" in\n'
            '*preset*|*is-enabled*|*mask*) exec /usr/bin/systemctl.real --root=/ "$@" ;;\n'
            "esac\n"
        )
        recorder.chmod(0o755)

    def told(self):
        """The orders since the last question, without the questions."""
        log = self.path / "run/told"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        verbs = ("start", "stop", "restart", "try-restart", "daemon-reload", "enable", "disable")
        plain = [" ".join(word for word in line.split() if not word.startswith("-")) for line in lines]
        return [line for line in plain if line.split()[0] in verbs]


def unit_lines(root, key):
    text = (root / UNIT).read_text()
    return [line.split("=", 1)[1] for line in text.splitlines() if line.startswith(key + "=")]


class Service:
    """ExecStart of the unit as the package's user, with a notify socket and the unit's credentials."""

    def __init__(self, root):
        self.root = root
        path = root / "run/notify"
        path.unlink(missing_ok=True)
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(path))
        os.chmod(path, 0o777)
        self.credentials = self.load_credentials()
        self.heard = []
        before = unit_lines(root, "ExecStartPre") + unit_lines(root, "ExecCondition")
        assert not before, f"the box itself says what is wrong, and starts by kept rules: {before}"
        (line,) = unit_lines(root, "ExecStart")
        self.log = open(root / "run/log", "a+")
        self.process = subprocess.Popen(self.command(line), stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        root.services.append(self)
        self.wait_for("READY=1")

    def load_credentials(self):
        """LoadCredential=ID:FOLDER, as systemd.exec says it: each file is ID_FILE, for the unit's user alone."""
        folder = self.root / "run/credentials/waystation.service"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for line in unit_lines(self.root, "LoadCredential"):
            name, source = line.split(":")
            for file in (self.root.path / source.lstrip("/")).iterdir():
                copy = folder / f"{name}_{file.name}"
                shutil.copy(file, copy)
                copy.chmod(0o400)
                run("chroot", self.root.path, "chown", "waystation", "/" + str(copy.relative_to(self.root.path))).ok()
        return "/run/credentials/waystation.service"

    def command(self, line):
        as_user = ["setpriv", "--reuid", "waystation", "--regid", "waystation", "--init-groups", "--no-new-privs"]
        environment = ["env", "-i", "PATH=/usr/bin:/bin", "NOTIFY_SOCKET=/run/notify", f"CREDENTIALS_DIRECTORY={self.credentials}"]
        return ["chroot", str(self.root.path), *as_user, "--inh-caps=-all", "--bounding-set=-all", *environment, *line.split()]

    def wait_for(self, line, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process.poll() is None or line == "STOPPING=1", "the box ended: " + self.said()
            self.manager.settimeout(0.5)
            try:
                self.heard += self.manager.recv(4096).decode().splitlines()
            except TimeoutError:
                pass
            if line in self.heard:
                return
        raise AssertionError(f"no {line} in {self.heard}\n{self.said()}")

    def said(self):
        self.log.flush()
        return (self.root / "run/log").read_text()[-3000:]

    def stop(self):
        """SIGTERM, and an orderly end."""
        # The namespace's chroot and setpriv have replaced themselves: the process is the box.
        self.process.send_signal(signal.SIGTERM)
        self.wait_for("STOPPING=1")
        code = self.process.wait(60)
        assert code == 0, f"exit code {code}\n{self.said()}"
        self.end()

    def end(self):
        """However it stands."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        self.log.close()
        self.manager.close()


def ready():
    with urllib.request.urlopen("http://127.0.0.1:9464/readyz", timeout=5) as answer:
        return answer.status


def wait_until(what, done, seconds=30):
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.1)
