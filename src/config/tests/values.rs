//! What is said of a value that cannot be read.
use super::{RIGHT, Site, assert_says};

#[test]
fn a_wrong_type_says_what_to_write() {
    for (wrong, said) in [
        (
            "tries = \"five\"",
            "tries: must be a whole number from 0 to 4294967295, but is the text \"five\"",
        ),
        (
            "tries = -1",
            "tries: must be a whole number from 0 to 4294967295, but is `-1`",
        ),
        (
            "tries = [5]",
            "tries: must be a whole number from 0 to 4294967295, but is a list",
        ),
        ("fsync = \"yes\"", "fsync: unknown key"),
        ("path = 7", "path: must be a text in quotes, but is `7`"),
        ("retry = 5", "retry: must be a table, but is `5`"),
    ] {
        let text = match wrong.split_once(" =") {
            Some(("path", _)) => RIGHT.replace("path = \"STATE/var/cad\"", wrong),
            _ => format!("{RIGHT}{wrong}\n"),
        };
        assert_says(&Site::new().lines(&text), said);
    }
}

#[test]
fn what_cannot_be_read_at_all_is_the_only_thing_that_is_said() {
    for wrong in ["tries = 99999999999999999999", "tries = 1 2"] {
        let lines = Site::new().lines(&format!("{RIGHT}{wrong}\n"));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].starts_with("w.toml:") && lines[0].contains(":9: "),
            "{lines:?}"
        );
    }
}

/// What one parser takes, no second one refuses: it would hide the whole file, and everything in it would be called missing.
#[test]
fn what_newer_toml_allows_is_read() {
    let newer = "commitment = {\n  policy = \"\\x65dge\",\n}\n[reconcile]\nat = 04:30\n[alarms]\nholidays = [2026-12-25,]\n[[destinations]]";
    let text = RIGHT.replacen("[[destinations]]", newer, 1);
    let report = Site::new().report(&text);
    assert_eq!(report.problems, []);
    let config = serde_json::to_value(report.config.unwrap()).unwrap();
    assert_eq!(config["sources"][0]["commitment"]["policy"], "edge");
    assert_eq!(config["reconcile"]["at"], "04:30");
    assert_eq!(config["alarms"]["holidays"][0], "2026-12-25");
    let wrong = RIGHT.replacen("[[destinations]]", &newer.replace("dge", "dg"), 1);
    let lines = Site::new().lines(&wrong);
    assert!(
        lines.len() == 1 && lines[0].starts_with("w.toml:17:3: sources[0].commitment.policy: `edg` is not one of"),
        "{lines:?}"
    );
    let wrong = Site::new().lines(&RIGHT.replace("[rules]", "[reconcile]\nat = 25:00\n[rules]"));
    assert!(wrong.len() == 1 && wrong[0].starts_with("w.toml:5:"), "{wrong:?}");
}

#[test]
fn a_text_without_quotes_is_called_so() {
    for word in ["north", "info", "folder"] {
        let lines = Site::new().lines(&RIGHT.replace("[rules]", &format!("name = {word}\n[rules]")));
        assert_eq!(
            lines,
            [format!(
                "w.toml:4:8: `{word}` is neither a number nor true or false; a text stands in quotes: \"{word}\""
            )]
        );
    }
}

#[test]
fn a_file_in_another_encoding_says_how_to_save_it() {
    let site = Site::new();
    let text = RIGHT.replace("\"CT1\"]", "\"CT1\"] # Gerät");
    let latin1: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    let utf16: Vec<u8> = std::iter::once(0xfeff)
        .chain(text.encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect();
    for (bytes, said) in [(latin1, "w.toml:14:27: has a byte"), (utf16, "w.toml: is UTF-16")] {
        let file = site.path("w.toml");
        std::fs::write(&file, bytes).unwrap();
        let problems = super::report_with(&[file], &[]).problems;
        let line = problems[0].to_string();
        assert!(line.contains(said) && line.contains("as UTF-8"), "{problems:?}");
        assert_eq!(problems.len(), 1, "{problems:?}");
    }
}

#[test]
fn what_is_wrong_with_a_value_says_what_to_write() {
    let mail = |rest: &str| format!("[alarms.mail]\nhost = \"m.example\"\nfrom = \"box@m.example\"\n{rest}[web]");
    let archive =
        "[[destinations]]\nkind = \"dicom\"\nname = \"q\"\nport = 104\ncalled_ae = \"A\"\ncalling_ae = \"B\"\nhost = ";
    let source = "commitment = { host = \"h\", port = 0 }\n[[destinations]]";
    let night = "[[alarms.silence]]\nsource = \"ct1\"\nhours = [\"Mon-Sun 22:00-06:00\"]\n[web]";
    let full = "[spool]\nlow_water = \"900TiB\"\ncache_high_water = \"950TiB\"\n[web]";
    for (text, said) in [
        (
            RIGHT.replace("127.0.0.1:0", "localhost:9464"),
            "w.toml:7:1: web.listen: must be an address and a port, such as",
        ),
        (
            RIGHT.replace("\"127.0.0.1:11112\"", "11112"),
            "listeners[0].address: must be an address and a port, such as",
        ),
        (
            RIGHT.replace("[web]", &mail("to = [\"a@m.example\", \"it(at)m.example\"]\n")),
            "alarms.mail.to: `it(at)m.example` is no mail address",
        ),
        (
            RIGHT.replace(
                "[web]",
                &mail("to = [\"a@m.example\"]\nusername = \"u\"\npassword_file = \"STATE\"\n"),
            ),
            "is no file: name the file that holds the secret",
        ),
        (RIGHT.replace("[web]", night), "a night is two of them"),
        (
            RIGHT.replace("\"RULES\"", "\"RULES\"\nkey_file = \"STATE/none\""),
            "w.toml:6:1: rules.key_file: none cannot be read: No such file",
        ),
        (
            RIGHT.replacen("[[destinations]]", source, 1),
            "sources[0].commitment.port: must be 1 to 65535",
        ),
        (
            format!("{RIGHT}{archive}\"vna.example:104\"\n"),
            "destinations[3].host: must be a name or an address alone",
        ),
        (
            RIGHT.replace("[web]", full),
            "warning: spool.low_water: is the whole disk of the spool, or more",
        ),
    ] {
        assert_says(&Site::new().lines(&text), said);
    }
}

#[test]
fn a_list_where_one_table_belongs_is_called_so_and_nothing_else_is_said() {
    let lines = Site::new().lines(&format!("{RIGHT}[[destinations.retry]]\nfirst = \"5s\"\n"));
    assert!(
        lines.len() == 1
            && lines[0].ends_with(
                "destinations[2].retry: is one table and no list: write [destinations.retry], in single brackets"
            ),
        "{lines:?}"
    );
}

#[test]
fn a_peer_is_named_without_its_port() {
    use crate::sender::config::host_fault;
    for good in ["vna", "vna_1.example", "10.1.2.3", "::1", "fe80::1%eth0"] {
        assert_eq!(host_fault(good), None, "{good}");
    }
    for bad in ["", "vna:104", "dicom://vna", "[::1]", "10.1.2.3:104", "vna 2"] {
        assert!(host_fault(bad).is_some(), "{bad}");
    }
}
