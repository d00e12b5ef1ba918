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
