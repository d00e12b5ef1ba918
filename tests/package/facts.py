"""What the package promises, each a fact of its own: facts.py TOOLS TARGET ROOT.tar."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

from box import STATE, UNIT, Root, Service, ready, run, unit_lines, wait_until

TOOLS, TARGET, TAR = (Path(argument) for argument in sys.argv[1:4])
OUT = TARGET / "release/package"
FACTS = []


def fact(function):
    FACTS.append(function)
    return function


def debs():
    """The package, and one of the same content with a lower version."""
    found = sorted(OUT.glob("waystation_*.deb"))
    older = [deb for deb in found if "_0.0.9" in deb.name]
    newer = [deb for deb in found if deb not in older]
    assert len(older) == 1 and len(newer) == 1, found
    return older[0], newer[0]


def make_older():
    """The binary is not built again."""
    environment = dict(os.environ, PATH=f"{TOOLS}/bin:{os.environ['PATH']}")
    run("cargo", "deb", "--quiet", "--no-build", "--locked", "--deb-version", "0.0.9-1", "--output", f"{OUT}/", env=environment).ok()


class Fresh:
    """A clean root for one fact: a layer over the one that was unpacked."""

    base = None

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="waystation-package-")
        self.root = Root(Path(self.folder.name), Fresh.base)
        return self.root

    def __exit__(self, *_):
        self.root.remove()
        self.folder.cleanup()


def send(root, count, seed):
    study = f"/tmp/study-{seed}"
    root.run("waystation", "synthesise", "--instances", str(count), "--seed", str(seed), study).ok()
    root.run("waystation", "send", "--to", "127.0.0.1:11112", study).ok()
    return sorted((root.path / study.lstrip("/")).glob("*"))


def pixels(files):
    """What no rule of the starter set touches: the end of each file."""
    return sorted(hashlib.sha256(Path(file).read_bytes()[-4096:]).hexdigest() for file in files)


def user(root):
    lines = (root / "etc/passwd").read_text().splitlines()
    (line,) = [line.split(":") for line in lines if line.startswith("waystation:")]
    return line


@fact
def debian_has_nothing_to_say_against_it():
    # lintian as root warns of being root.
    said = run("lintian", "--allow-root", "--fail-on", "error,warning", "--tag-display-limit", "0", debs()[1])
    assert said.code == 0 and not said.out.strip(), said.all


@fact
def the_binary_has_no_planted_faults_and_knows_its_crates():
    with tempfile.TemporaryDirectory() as folder:
        run("dpkg-deb", "--extract", debs()[1], folder).ok()
        binary = Path(folder) / "usr/bin/waystation"
        version = run(binary, "version").ok().out
        assert " released 20" in version, f"its clock would not know its own age: {version}"
        assert "planted" not in version and b"WAYSTATION_PLANT=" not in binary.read_bytes(), version
        listed = json.loads(run(TOOLS / "bin/rust-audit-info", binary).ok().out)["packages"]
        runtime = {(one["name"], one["version"]) for one in listed if one.get("kind", "runtime") == "runtime"}
        assert {"rocksdb", "rustls", "dicom-ul", "tokio"} <= {name for name, _ in runtime}, sorted(runtime)
        bill = json.loads((Path(folder) / "usr/share/doc/waystation/waystation.cdx.json").read_text())
        named = {(one["name"], one["version"]) for one in bill["components"]} | {("waystation", bill["metadata"]["component"]["version"])}
        assert runtime <= named, f"not on the bill of materials: {sorted(runtime - named)}"
        unlicensed = [one["name"] for one in bill["components"] if not one.get("licenses")]
        assert not unlicensed, unlicensed


@fact
def the_bill_of_materials_keeps_its_schema():
    from cyclonedx.schema import OutputFormat, SchemaVersion
    from cyclonedx.validation import make_schemabased_validator

    text = (OUT / "waystation.cdx.json").read_text()
    validator = make_schemabased_validator(OutputFormat.JSON, SchemaVersion.V1_5)
    assert validator.validate_str(text) is None, validator.validate_str(text)
    broken = text.replace('"bomFormat"', '"bomFromat"')
    assert validator.validate_str(broken) is not None, "the validator takes anything"


@fact
def installs_where_no_systemd_runs():
    with Fresh() as root:
        root.install(debs()[1])
        account = user(root)
        assert account[5:] == ["/var/lib/waystation", "/usr/sbin/nologin"], account
        for name, mode, owner in [
            (STATE, 0o750, int(account[2])),
            ("etc/waystation/secrets", 0o700, 0),
            ("etc/waystation/tls", 0o750, 0),
            ("etc/waystation/waystation.toml", 0o644, 0),
        ]:
            about = (root / name).stat()
            assert (about.st_mode & 0o777, about.st_uid) == (mode, owner), f"{name}: {about}"
        wanted = root / "etc/systemd/system"
        assert os.path.lexists(wanted / "multi-user.target.wants/waystation.service"), "enabled"
        assert not os.path.lexists(wanted / "sockets.target.wants/waystation.socket"), "the ports are the site's to enable"
        verified = root.run("systemd-analyze", "verify", "waystation.service", "waystation.socket")
        ours = [line for line in verified.all.splitlines() if "waystation" in line]
        assert verified.code == 0 and not ours, verified.all
        exposed = root.run("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=12", f"/{UNIT}")
        assert exposed.code == 0, exposed.all
        page = root.run("man", "waystation").ok().out
        assert "A DICOM router" in page, page[:300]
        pages = {file.name.removesuffix(".gz") for file in (root / "usr/share/man/man1").glob("waystation*")}
        assert {"waystation.1", "waystation-queue-ls.1"} <= pages, pages
        for name in ["bash-completion/completions/waystation", "zsh/vendor-completions/_waystation", "fish/vendor_completions.d/waystation.fish"]:
            assert (root / "usr/share" / name).stat().st_size > 1000, name
        for name in ["rules/first.md", "runbook.md"]:
            assert (root / "usr/share/doc/waystation/guide" / name).exists(), name


@fact
def starts_as_its_user_takes_images_and_stops():
    with Fresh() as root:
        root.install(debs()[1])
        marker = time.time()
        box = Service(root)
        assert ready() == 200
        sent = send(root, 4, 1)
        delivered = lambda: root.state("delivered/**/*.dcm")
        wait_until("delivery", lambda: len(delivered()) == 4)
        assert pixels(delivered()) == pixels(sent)
        box.stop()
        # Nothing outside its state is its own.
        owner = user(root)[0]
        outside = root.run("find", "/", "-xdev", "-user", owner, "-not", "-path", f"/{STATE}*", "-not", "-path", "/proc/*", "-not", "-path", "/run/*")
        assert outside.out == "", outside.out
        assert marker < (root / STATE / "spool").stat().st_mtime + 60


@fact
def a_secret_that_only_root_can_read_reaches_the_box_as_a_credential():
    with Fresh() as root:
        root.install(debs()[1])
        secret = root / "etc/waystation/secrets/site.key"
        secret.write_text("0123456789abcdef" * 4)
        secret.chmod(0o600)
        config = root / "etc/waystation/waystation.toml"
        line = 'key_file = "${CREDENTIALS_DIRECTORY}/secrets_site.key"'
        assert f"# {line}" in config.read_text()
        config.write_text(config.read_text().replace(f"# {line}", line))
        Service(root).stop()
        by_hand = root.run("waystation", "check")
        assert by_hand.code == 1 and "CREDENTIALS_DIRECTORY is not set" in by_hand.err, by_hand.all
        secret.unlink()
        try:
            Service(root)
        except AssertionError as error:
            assert "secrets_site.key" in str(error), error
        else:
            raise AssertionError("started without its key")


@fact
def an_upgrade_keeps_the_spool_and_the_sites_configuration():
    older, newer = debs()
    with Fresh() as root:
        root.install(older)
        config = root / "etc/waystation/waystation.toml"
        config.write_text(config.read_text().replace('name = "waystation"', 'name = "north-edge"'))
        box = Service(root)
        root.run("waystation", "queue", "suspend", "vna").ok()
        sent = send(root, 5, 2)
        box.stop()
        assert not root.state("delivered/**/*.dcm")
        root.install(newer)
        assert '"north-edge"' in config.read_text(), "the site's own words"
        assert "0.0.9" not in root.run("dpkg-query", "-W", "waystation").ok().out
        box = Service(root)
        root.run("waystation", "queue", "resume", "vna").ok()
        wait_until("delivery", lambda: len(root.state("delivered/**/*.dcm")) == 5)
        assert pixels(root.state("delivered/**/*.dcm")) == pixels(sent)
        box.stop()


@fact
def an_upgrade_takes_over_a_spool_of_an_older_format():
    older, newer = debs()
    with Fresh() as root:
        root.install(older)
        # As a box of the first format left it (tests/it/upgrade.rs): two images wait for `vna`.
        spool = root / STATE / "spool"
        spool.mkdir()
        run("tar", "-xzf", "tests/fixtures/spool-v1/spool.tar.gz", "-C", spool).ok()
        root.run("chown", "-R", "waystation:waystation", f"/{STATE}/spool").ok()
        root.install(newer)
        box = Service(root)
        wait_until("delivery", lambda: len(root.state("delivered/**/*.dcm")) == 2)
        box.stop()
        checked = root.run("waystation", "spool", "version").ok()
        assert "nothing is to be done" in checked.out, checked.all


@fact
def apt_upgrades_it_from_a_repository_and_removes_and_purges_it():
    older, newer = debs()
    installed = lambda root: root.run("dpkg-query", "-W", "-f", "${Status} ${Version}", "waystation").out
    with Fresh() as root:
        root.publish([older])
        root.apt("install", "waystation").ok()
        assert installed(root) == "install ok installed 0.0.9-1", installed(root)
        config = root / "etc/waystation/waystation.toml"
        config.write_text(config.read_text().replace('name = "waystation"', 'name = "north-edge"'))
        box = Service(root)
        root.run("waystation", "queue", "suspend", "vna").ok()
        sent = send(root, 2, 5)
        box.stop()
        root.publish([older, newer])
        said = root.apt("upgrade").ok()
        assert "1 upgraded" in said.out, said.all
        assert installed(root).startswith("install ok installed ") and "0.0.9" not in installed(root), installed(root)
        assert '"north-edge"' in config.read_text(), "the site's own words"
        box = Service(root)
        root.run("waystation", "queue", "resume", "vna").ok()
        wait_until("delivery", lambda: len(root.state("delivered/**/*.dcm")) == 2)
        assert pixels(root.state("delivered/**/*.dcm")) == pixels(sent)
        box.stop()
        root.apt("remove", "waystation").ok()
        assert not (root / "usr/bin/waystation").exists() and config.exists()
        root.apt("purge", "waystation").ok()
        assert not config.exists() and "installed" not in installed(root).replace("not-installed", ""), installed(root)


@fact
def with_systemd_running_it_is_started_restarted_and_stopped():
    older, newer = debs()
    with Fresh() as root:
        root.pretend_systemd()
        root.install(older)
        told = root.told()
        assert told.index("daemon-reload") < told.index("start waystation.service"), told
        root.install(newer)
        told = root.told()
        assert "restart waystation.service" in told and not any("stop" in line.split() for line in told), told
        assert not any("waystation.socket" in line for line in told), "the ports stay open"
        root.dpkg("--remove", "waystation").ok()
        stops = [line for line in root.told() if "stop" in line.split()]
        assert [line.split()[-1] for line in stops] == ["waystation.socket", "waystation.service"], stops


@fact
def an_upgrade_does_not_end_a_running_box_that_would_not_come_up_again():
    older, newer = debs()
    with Fresh() as root:
        root.pretend_systemd()
        root.install(older)
        (root / "etc/waystation/secrets/site.key").write_text("0123456789abcdef" * 4)
        config = root / "etc/waystation/waystation.toml"
        right = config.read_text().replace("# key_file =", "key_file =")
        config.write_text(right.replace("[node]", "[node]\nnmae = 'typo'"))
        root.told()
        said = root.install(newer)
        assert "nmae" in said.all and "NOT RESTARTED" in said.all and "systemctl restart waystation" in said.all, said.all
        assert not any("waystation.service" in line for line in root.told()), "the old box goes on"
        # The same with what the manager hands over in its place is no problem, and leaves no copy of a secret.
        config.write_text(right)
        said = root.dpkg("--install", f"/tmp/{newer.name}").ok()
        assert "NOT RESTARTED" not in said.all, said.all
        assert "restart waystation.service" in root.told()
        assert not list((root / "run").glob("waystation-check.*"))


@fact
def what_an_administrator_disabled_stays_disabled():
    older, newer = debs()
    with Fresh() as root:
        root.install(older)
        link = root / "etc/systemd/system/multi-user.target.wants/waystation.service"
        link.unlink()
        root.install(newer)
        assert not os.path.lexists(link)


@fact
def a_removal_and_a_purge_never_delete_an_image():
    _, newer = debs()
    with Fresh() as root:
        root.install(newer)
        (root / "etc/waystation/secrets/box.key").write_text("a key")
        box = Service(root)
        for lane in ["vna", "folder"]:
            root.run("waystation", "queue", "suspend", lane).ok()
        send(root, 3, 3)
        box.stop()
        payload = lambda: [file for file in root.state("spool/payload/**/*.dcm") if file.stat().st_size]
        assert len(payload()) == 3
        removed = root.dpkg("--remove", "waystation").ok()
        assert "the spool stays" in removed.all, removed.all
        assert not (root / "usr/bin/waystation").exists() and (root / "etc/waystation/waystation.toml").exists()
        assert not os.path.lexists(root / "etc/systemd/system/multi-user.target.wants/waystation.service") or os.path.lexists(
            root / "etc/systemd/system/waystation.service"
        ), "masked or gone"
        purged = root.dpkg("--purge", "waystation").ok()
        assert "is KEPT: it holds 3 image files" in purged.all, purged.all
        assert not (root / "etc/waystation/waystation.toml").exists()
        assert (root / "etc/waystation/secrets/box.key").exists() and len(payload()) == 3
        # Installed again, it delivers them.
        root.install(newer)
        box = Service(root)
        for lane in ["vna", "folder"]:
            root.run("waystation", "queue", "resume", lane).ok()
        wait_until("delivery", lambda: len(root.state("delivered/**/*.dcm")) == 3)
        box.stop()


@fact
def a_purge_keeps_images_of_any_name():
    _, newer = debs()
    with Fresh() as root:
        root.install(newer)
        folder = root / STATE / "delivered/CT of today"
        folder.mkdir(parents=True)
        for name, content in [("1.2.3", bytes(128) + b"DICM" + bytes(64)), ("note\n.txt", b"no image")]:
            (folder / name).write_bytes(content)
        root.dpkg("--remove", "waystation").ok()
        purged = root.dpkg("--purge", "waystation").ok()
        assert "is KEPT: it holds 1 image files" in purged.all, purged.all
        assert (folder / "1.2.3").exists()
        (folder / "1.2.3").unlink()
        root.dpkg("--install", f"/tmp/{newer.name}").ok()
        root.dpkg("--remove", "waystation").ok()
        root.dpkg("--purge", "waystation").ok()
        assert not (root / STATE).exists()


@fact
def a_service_starts_by_the_rules_that_were_in_force_last():
    _, newer = debs()
    with Fresh() as root:
        root.install(newer)
        Service(root).stop()
        rules = root / "etc/waystation/rules/main.rhai"
        rules.write_text(rules.read_text() + "\nfn half(image")
        box = Service(root)
        assert ready() == 200 and "refused at the start" in box.said(), box.said()
        checked = root.run("waystation", "check")
        assert checked.code == 1 and "in force last" in checked.err, checked.all
        box.stop()


@fact
def a_purge_without_images_leaves_nothing():
    _, newer = debs()
    with Fresh() as root:
        before = everything(root)
        root.install(newer)
        Service(root).stop()
        root.dpkg("--remove", "waystation").ok()
        purged = root.dpkg("--purge", "waystation").ok()
        assert "KEPT" not in purged.all
        left = everything(root) - before
        assert not left, sorted(left)
        assert not (root / STATE).exists()


def everything(root):
    """Every file but dpkg's own books, what programs cache, and the account, which Debian's packages leave."""
    places = ["etc", "usr", "var/lib", "opt", "srv", "home", "root"]
    found = set()
    for place in places:
        for folder, _, names in os.walk(root / place):
            found |= {str((Path(folder) / name).relative_to(root.path)) for name in names}
    books = ("var/lib/dpkg/", "var/lib/systemd/", "etc/passwd", "etc/group", "etc/shadow", "etc/gshadow", "etc/.pwd.lock")
    return {name for name in found if not name.startswith(books)}


def main():
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    make_older()
    wanted = sys.argv[4:]
    failed = passed = 0
    unpacked = tempfile.TemporaryDirectory(prefix="waystation-package-")
    Fresh.base = Path(unpacked.name)
    run("tar", "-xf", TAR, "-C", Fresh.base, "--numeric-owner").ok()
    for function in FACTS:
        if wanted and function.__name__ not in wanted:
            continue
        began = time.monotonic()
        try:
            function()
        except Exception:
            failed += 1
            print(f"FAILED {function.__name__}\n{traceback.format_exc()}", flush=True)
        else:
            passed += 1
            print(f"ok {function.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
    unpacked.cleanup()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


sys.exit(main())
