//! Each mistake by its own key, on its own line, and all of them at once.
use super::{RIGHT, Site, assert_says};

/// The problems, each held against what is wanted, in any order: none more, none less.
fn assert_all(lines: &[String], wanted: &[&str]) {
    for wanted in wanted {
        assert_says(lines, wanted);
    }
    assert_eq!(lines.len(), wanted.len(), "{lines:#?}");
}

/// The line of a text that begins so.
fn line_of(text: &str, start: &str) -> usize {
    1 + text.lines().position(|line| line.starts_with(start)).unwrap()
}

const MAIL: &str =
    "[alarms.mail]\nhost = \"localhost\"\nsecurity = \"none\"\nfrom = \"a@b.example\"\nto = [\"c@d.example\"]\n";

#[test]
fn a_mistake_in_a_list_of_tables_is_said_where_it_stands() {
    let text = format!(
        "{RIGHT}[[alarms.silence]]\nsource = \"ct1\"\nhours = [\"Mon-Fri 07:00-18:00\", \"Mon-Fry 07:00-18:00\"]\n\
         [[alarms.webhooks]]\nname = \"pager\"\nurl = \"http://127.0.0.1/\"\nseverity = \"pge\"\ntimeout = \"30\"\n{MAIL}"
    );
    let at = |start| line_of(&text, start);
    assert_all(
        &Site::new().lines(&text),
        &[
            &format!(
                "w.toml:{}:1: alarms.silence[0].hours[1]: `Mon-Fry 07:00-18:00` is no window",
                at("hours")
            ),
            &format!(
                "w.toml:{}:1: alarms.webhooks[0].severity: `pge` is not one of ticket, page; did you mean `page`?",
                at("severity")
            ),
            &format!(
                "w.toml:{}:1: alarms.webhooks[0].timeout: `30` is not a duration",
                at("timeout")
            ),
        ],
    );
}

#[test]
fn every_caller_is_said_by_its_index() {
    let callers = "[[web.callers]]\nname = \"A B\"\nrole = \"admin\"\n\
                   [[web.callers]]\nname = \"b\"\nrole = \"viewer\"\ntoken_file = \"/none/token\"\n\
                   [[web.callers]]\nname = \"b\"\nrole = 3\ntoken_file = \"/none/token\"\n";
    let lines = Site::new().lines(&format!("{RIGHT}{callers}"));
    assert_all(
        &lines,
        &[
            "web.callers[0].name: must be 1 to 32",
            "web.callers[0].role: `admin` is not one of viewer, custodian",
            "web.callers[0].token_file: is missing",
            "web.callers[1].token_file: /none/token cannot be read",
            "web.callers[2].name: is the name of another caller already",
            "web.callers[2].role: must be a word in quotes, but is `3`",
            "web.callers[2].token_file: /none/token cannot be read",
        ],
    );
    let line = line_of(callers, "token_file") + RIGHT.lines().count();
    assert_says(&lines, &format!("w.toml:{line}:1: web.callers[1].token_file"));
}

#[test]
fn a_wrong_entry_of_a_list_hides_no_other() {
    let text = RIGHT
        .replace("\"10.0.0.0/8\"", "\"10.0.0.0/33\", \"10.0.0.0/8\", \"bad\"")
        .replace("[\"CT1\"]", "[\"A_TITLE_THAT_IS_TOO_LONG\", \"\"]")
        .replace(
            "[[sources]]",
            "[[sources]]\ncertificate_fingerprints = [\"zz\"]\ncharset = \"nope\"",
        )
        .replace(
            "[web]",
            "[alarms]\noff = [\"disk_lo\", \"disk_low\", \"nope\"]\nholidays = [\"x\", \"2026-12-25\", \"y\"]\ninterval = \"2h\"\n[web]",
        );
    assert_all(
        &Site::new().lines(&text),
        &[
            "sources[0].addresses[0]: `10.0.0.0/33` is no network",
            "sources[0].addresses[2]: `bad` is no network",
            "sources[0].calling_ae[0]: is longer than 16 characters",
            "sources[0].calling_ae[1]: is empty",
            "sources[0].certificate_fingerprints[0]: is not a SHA-256",
            "sources[0].charset: ",
            "sources[0]: is bound to a certificate, but no listener asks for one",
            "alarms.off[0]: `disk_lo` is not one of",
            "alarms.off[2]: `nope` is not one of",
            "alarms.holidays[0]: is no day",
            "alarms.holidays[2]: is no day",
            "alarms.interval: is longer than 1min",
        ],
    );
}

#[test]
fn a_wrong_or_missing_required_value_hides_nothing_of_its_entry() {
    let wrong = "[[destinations]]\nkind = \"dicom\"\nname = \"q\"\nhost = \"\"\nport = 0\ncalled_ae = \"A\"\n\
                 calling_ae = \"A_TITLE_THAT_IS_TOO_LONG\"\ntries = 0\nwindow = 0\nretry = { first = \"1h\", max = \"1s\" }\n";
    let bare =
        "[[destinations]]\nkind = \"dicom\"\nbatch = \"many\"\ntries = 0\n[[destinations.ceiling]]\nfrom = \"7:00\"\n";
    assert_all(
        &Site::new().lines(&format!("{RIGHT}{wrong}{bare}")),
        &[
            "destinations[3].host: is empty",
            "destinations[3].port: write 1 to 65535",
            "destinations[3].calling_ae: is longer than 16 characters",
            "destinations[3].tries: write at least 1",
            "destinations[3].window: write 1 to 256",
            "destinations[3].retry.first: must be",
            "destinations[4].name: is missing",
            "destinations[4].host: is missing",
            "destinations[4].port: is missing",
            "destinations[4].called_ae: is missing",
            "destinations[4].calling_ae: is missing",
            "destinations[4].batch: must be a whole number",
            "destinations[4].tries: write at least 1",
            "destinations[4].ceiling[0].rate: is missing",
            "destinations[4].ceiling[0].from: `7:00` is not a time of day",
            "destinations[4].ceiling[0].zone: write an IANA time zone",
        ],
    );
}

#[test]
fn what_stands_in_for_a_missing_value_is_never_spoken_of() {
    let bare = "[[listeners]]\n[[listeners]]\n[listeners.tls]\nclient_certificate = \"none\"\n[[sources]]\n[[sources]]\n\
                [[destinations]]\nkind = \"dicom\"\n[destinations.tls]\nca = 7\n[[destinations]]\nkind = \"folder\"\n\
                [[alarms.silence]]\n[[alarms.webhooks]]\n[alarms.mail]\n[[web.callers]]\n";
    let lines = Site::new().lines(&format!("{RIGHT}{bare}"));
    let other: Vec<&String> = lines.iter().filter(|line| !line.ends_with(": is missing")).collect();
    assert!(
        other.len() == 1 && other[0].contains("destinations[3].tls.ca: "),
        "{other:#?}"
    );
    // name, address, ae_titles of two; certificate and key; name, calling_ae, addresses of two; five and two of destinations; source;
    // name and url; host, from, to; name, role and token_file.
    assert_eq!(lines.len() - 1, 6 + 2 + 6 + 7 + 1 + 2 + 3 + 3, "{lines:#?}");
}

#[test]
fn a_wrong_kind_hides_nothing_of_what_the_entry_plainly_is() {
    let text = RIGHT.replacen("kind = \"folder\"", "kind = \"foldr\"\ntries = 0", 1);
    let text = format!("{text}[[destinations]]\nname = \"q\"\nhost = \"h\"\nport = 70000\ncalled_ae = \"A\"\n");
    assert_all(
        &Site::new().lines(&text),
        &[
            "destinations[0].kind: `foldr` is not one of dicom, folder; did you mean `folder`?",
            "destinations[0].tries: write at least 1",
            "destinations[3].kind: is missing",
            "destinations[3].port: must be a whole number from 1 to 65535, but is `70000`",
            "destinations[3].calling_ae: is missing",
        ],
    );
}

#[test]
fn a_table_that_is_none_hides_nothing_else() {
    let text = RIGHT.replace("[node]", "alarms = 3\nsources = 1\n[node]\ndrain = \"soon\"");
    let text = text
        .replace(
            "[[sources]]\nname = \"ct1\"\ncalling_ae = [\"CT1\"]\naddresses = [\"10.0.0.0/8\"]\n",
            "",
        )
        .replace("[\"BOX\"]", "[]");
    assert_all(
        &Site::new().lines(&text),
        &[
            "alarms: must be a table",
            "sources: must be written as a list: [[sources]]",
            "node.drain: `soon` is not a duration",
            "listeners[0].ae_titles: is empty",
        ],
    );
}

#[test]
fn a_wrong_value_hides_no_relation_between_others() {
    let text = RIGHT.replace(
        "addresses = [\"10.0.0.0/8\"]",
        "addresses = [\"10.0.0.0/8\"]\n[sources.commitment]\npolicy = \"edg\"\nhost = \"x\"\nmax_open = 0",
    );
    assert_all(
        &Site::new().lines(&text),
        &[
            "sources[0].commitment.policy: `edg` is not one of edge, end-to-end, refuse; did you mean `edge`?",
            "sources[0].commitment.port: is missing",
            "sources[0].commitment.max_open: is 0",
        ],
    );
}

#[test]
fn every_file_and_key_of_tls_is_said_beside_the_others() {
    let listener = "[listeners.tls]\ncertificate = \"/none/a.pem\"\nkey = \"/none/a.key\"\n\
                    client_ca = [\"/none/b.pem\", \"/none/c.pem\"]\nclient_crl = \"/none/d.crl\"\n[[sources]]";
    let destination = "[[destinations]]\nkind = \"dicom\"\nname = \"q\"\nhost = \"h\"\nport = 104\ncalled_ae = \"A\"\ncalling_ae = \"B\"\n\
                       [destinations.tls]\nca = \"/none/e.pem\"\nfingerprint = \"zz\"\nserver_name = \"a b\"\ncertificate = \"/none/f.pem\"\n\
                       crl = [\"/none/g.crl\", \"/none/h.crl\"]\n";
    let text = format!("{}{destination}", RIGHT.replacen("[[sources]]", listener, 1));
    assert_all(
        &Site::new().lines(&text),
        &[
            "listeners[0].tls.certificate: cannot read /none/a.pem",
            "listeners[0].tls.key: cannot read /none/a.key",
            "listeners[0].tls.client_ca[0]: cannot read /none/b.pem",
            "listeners[0].tls.client_ca[1]: cannot read /none/c.pem",
            "listeners[0].tls.client_crl: cannot read /none/d.crl",
            "destinations[3].tls.ca: cannot read /none/e.pem",
            "destinations[3].tls.crl[0]: cannot read /none/g.crl",
            "destinations[3].tls.crl[1]: cannot read /none/h.crl",
            "destinations[3].tls.certificate: cannot read /none/f.pem",
            "destinations[3].tls.key: `certificate` and `key` belong together",
            "destinations[3].tls.fingerprint: `fingerprint` is not a SHA-256",
            "destinations[3].tls.server_name: `server_name` is neither",
        ],
    );
}
