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
