//! Style as a test: layers, one-door crates, sizes, banned tokens, and the map that README and `lib.rs` share.
//! Each rule is a function from text to findings, and is shown to find a planted violation.
#[path = "tidy/lexer.rs"]
mod lexer;

use lexer::{Source, functions};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 80;

/// Rooms that a lower layer offers, but that this room must not use all the same.
const NEVER: [(&str, &str, &str); 2] = [
    (
        "spool",
        "dicom",
        "an edit plan and a header are opaque bytes to the spool",
    ),
    ("sender", "spool", "a sender is handed a job and a reader"),
];

/// Foreign crates and the only places that name them.
const DOORS: [(&str, &[&str]); 24] = [
    ("rocksdb", &["src/spool/db.rs"]),
    ("rhai", &["src/rules/"]),
    ("charls", &["src/transcode/codec/jpegls.rs"]),
    ("openjp2", &["src/transcode/codec/jpeg2000.rs"]),
    ("jxl_oxide", &["src/transcode/codec/jpegxl.rs"]),
    ("zune_jpegxl", &["src/transcode/codec/jpegxl.rs"]),
    ("zune_core", &["src/transcode/codec/jpegxl.rs"]),
    ("jpeg_decoder", &["src/transcode/codec/jpeg.rs"]),
    ("dicom_ul", &["src/dicom/"]),
    ("rustls", &["src/pki/", "src/listener/tls/", "src/sender/tls/"]),
    ("tokio_rustls", &["src/listener/tls/", "src/sender/tls/"]),
    ("x509_parser", &["src/pki/"]),
    ("hyper", &["src/web/", "src/alarms/webhook.rs"]),
    ("hyper_util", &["src/web/", "src/alarms/webhook.rs"]),
    ("lettre", &["src/alarms/mail.rs"]),
    ("aws_lc_rs", &["src/alarms/webhook.rs", "src/pki/"]),
    ("axum", &["src/web/"]),
    ("figment", &["src/config/"]),
    ("prometheus", &["src/telemetry/"]),
    ("sd_notify", &["src/appliance.rs"]),
    ("listenfd", &["src/listener/passed.rs"]),
    ("clap_complete", &["src/cli/papers.rs"]),
    ("clap_mangen", &["src/cli/papers.rs"]),
    ("anyhow", &["src/main.rs", "src/rehearse/demo/"]),
];

/// Where lines for a person are printed.
const PRINTERS: [&str; 2] = ["src/main.rs", "src/cli/"];
/// Where a static may live: metrics, what switches planted faults on, and what a panic hook cannot be told.
const STATICS: [&str; 3] = ["src/telemetry/", "src/base/fault.rs", "src/base/panics.rs"];

struct File {
    /// As `src/base/names.rs`.
    path: String,
    text: String,
    source: Source,
}

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn files(folder: &str) -> Vec<File> {
    let mut found = Vec::new();
    let mut folders = vec![repository().join(folder)];
    while let Some(at) = folders.pop() {
        for entry in std::fs::read_dir(&at).unwrap_or_else(|error| panic!("{}: {error}", at.display())) {
            let path = entry.expect("the folder can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path
                    .strip_prefix(repository())
                    .expect("it lies in the repository")
                    .display()
                    .to_string();
                let text = read(&name);
                found.push(File {
                    source: Source::read(&text),
                    path: name,
                    text,
                });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Files of the crate that hold nothing but tests.
fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/") || path.ends_with("_tests.rs")
}

fn assert_none(what: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{what}:\n  {}", findings.join("\n  "));
}

/// `src/spool/db.rs` is of room `spool`, `src/ingest.rs` of `ingest`.
fn room(path: &str) -> &str {
    let inner = path.strip_prefix("src/").unwrap_or(path);
    inner.split('/').next().unwrap_or(inner).trim_end_matches(".rs")
}

/// The lines of the markdown table under `| layer | rooms |`, without comment marks.
fn layer_table(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.trim_start_matches("//!").trim());
    let table = lines.skip_while(|line| !line.starts_with("| layer |"));
    table
        .take_while(|line| line.starts_with('|'))
        .map(str::to_owned)
        .collect()
}

fn layers(table: &[String]) -> BTreeMap<String, usize> {
    let mut layers = BTreeMap::new();
    for row in table.iter().skip(2) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let layer: usize = cells[0].parse().unwrap_or_else(|_| panic!("not a layer: {row}"));
        for room in cells[1].split(',') {
            layers.insert(room.trim().trim_matches('`').to_owned(), layer);
        }
    }
    layers
}

fn wrong_imports(file: &str, source: &Source, layers: &BTreeMap<String, usize>) -> Vec<String> {
    let own = room(file);
    let Some(layer) = layers.get(own) else {
        return vec![format!("{file}: room `{own}` is not in the layer table")];
    };
    let mut findings = Vec::new();
    for (line, other) in source.imported_rooms() {
        let at = format!("{file}:{line}");
        match layers.get(&other) {
            _ if other == own => {}
            None => {}
            Some(below) if below < layer => {
                let banned = NEVER.iter().find(|(from, to, _)| *from == own && *to == other);
                findings.extend(banned.map(|(_, _, why)| format!("{at}: `{own}` uses `{other}`: {why}")));
            }
            Some(above) => findings.push(format!("{at}: `{own}` (layer {layer}) uses `{other}` (layer {above})")),
        }
    }
    findings
}

fn wrong_doors(file: &str, source: &Source) -> Vec<String> {
    let mut findings = Vec::new();
    for (foreign, allowed) in DOORS {
        if allowed.iter().any(|path| file.starts_with(path)) {
            continue;
        }
        for (line, code) in source.lines_outside_tests() {
            if lexer::names_crate(code, foreign) {
                findings.push(format!(
                    "{file}:{line}: only {} may name `{foreign}`",
                    allowed.join(", ")
                ));
            }
        }
    }
    findings
}

fn banned(file: &str, text: &str, source: &Source) -> Vec<String> {
    let mut findings = Vec::new();
    let original: Vec<&str> = text.lines().collect();
    let mut say = |line: usize, what: &str| findings.push(format!("{file}:{line}: {what}"));
    for (line, code) in source.lines() {
        for token in [
            "todo!",
            "unimplemented!",
            "dbg!",
            "unbounded_channel",
            "unbounded()",
            "allow(dead_code)",
        ] {
            if code.contains(token) {
                say(line, token);
            }
        }
        if lexer::has_word(code, "unsafe") {
            say(line, "unsafe");
        }
    }
    for (line, code) in source.lines_outside_tests() {
        let prints = ["println!", "eprintln!", "print!", "eprint!"]
            .iter()
            .any(|token| code.contains(token));
        if prints && !PRINTERS.iter().any(|path| file.starts_with(path)) {
            say(line, "prints: only the command line speaks to a person");
        }
        if (code.contains(".unwrap()") || code.contains(".expect(")) && !explained(&original, line) {
            say(
                line,
                "unwrap or expect without a comment above that says why it cannot fail",
            );
        }
        let is_static = lexer::has_word(code, "static") && !code.contains("'static") && code.contains(": ");
        if is_static && !STATICS.iter().any(|path| file.starts_with(path)) {
            say(line, "a static: state has one owning task");
        }
    }
    for (index, line) in original.iter().enumerate() {
        let comment = line.split_once("//").map_or("", |(_, comment)| comment);
        if ["FIXME", "XXX", "HACK"]
            .iter()
            .any(|mark| lexer::has_word(comment, mark))
        {
            say(index + 1, "an unfinished mark");
        }
    }
    findings
}

/// A comment on one of the four lines above, within the same statement or its function's head.
fn explained(lines: &[&str], line: usize) -> bool {
    let above = lines[..line - 1].iter().rev().take(4);
    let comment = |text: &&str| {
        let text = text.trim_start();
        text.starts_with("//") && !text.starts_with("//!") && !text.starts_with("///")
    };
    above.take_while(|text| !text.trim().is_empty()).any(comment)
}

fn too_long(file: &str, text: &str, source: &Source) -> Vec<String> {
    let mut findings = Vec::new();
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        findings.push(format!("{file}: {lines} lines (at most {FILE_LINES_MAX})"));
    }
    for function in functions(source) {
        if function.lines > FUNCTION_LINES_MAX {
            findings.push(format!(
                "{file}:{}: fn {} has {} lines",
                function.line, function.name, function.lines
            ));
        }
    }
    findings
}

#[test]
fn rooms_import_only_from_layers_below() {
    let layers = layers(&layer_table(&read("src/lib.rs")));
    let mut findings = Vec::new();
    for file in files("src")
        .iter()
        .filter(|file| !is_test_file(&file.path) && file.path != "src/lib.rs")
    {
        findings.extend(wrong_imports(&file.path, &file.source, &layers));
    }
    assert_none("imports against the layers", &findings);
}

#[test]
fn every_room_has_a_layer_and_every_layer_its_rooms() {
    let layers = layers(&layer_table(&read("src/lib.rs")));
    let there =
        |room: &str| Path::new(&format!("src/{room}.rs")).exists() || Path::new(&format!("src/{room}")).is_dir();
    std::env::set_current_dir(repository()).expect("the repository is there");
    let missing: Vec<String> = layers.keys().filter(|room| !there(room)).cloned().collect();
    assert_none("rooms of the table that are not there", &missing);
}

#[test]
fn foreign_crates_have_one_door() {
    let mut findings = Vec::new();
    for file in files("src").iter().filter(|file| !is_test_file(&file.path)) {
        findings.extend(wrong_doors(&file.path, &file.source));
    }
    assert_none("crates named outside their door", &findings);
}

#[test]
fn nothing_is_unfinished_unsafe_or_unexplained() {
    let mut findings = Vec::new();
    for file in files("src") {
        let mut found = banned(&file.path, &file.text, &file.source);
        if is_test_file(&file.path) {
            found.retain(|finding| !finding.contains("unwrap") && !finding.contains("prints"));
        }
        findings.extend(found);
    }
    assert_none("banned tokens", &findings);
}

#[test]
fn files_and_functions_are_short() {
    let mut findings = Vec::new();
    for file in files("src").into_iter().chain(files("tests")).chain(files("fuzz")) {
        findings.extend(too_long(&file.path, &file.text, &file.source));
    }
    assert_none("too long", &findings);
}

#[test]
fn every_file_says_first_what_it_promises() {
    let silent = files("src")
        .into_iter()
        .chain(files("fuzz"))
        .filter(|file| !file.text.starts_with("//!"))
        .map(|file| file.path);
    assert_none("files without a module doc", &silent.collect::<Vec<_>>());
}

#[test]
fn all_crates_forbid_unsafe_code() {
    let targets = files("fuzz").into_iter().map(|file| file.path);
    for path in targets.chain(["src/lib.rs", "src/main.rs"].map(str::to_owned)) {
        assert!(read(&path).contains("#![forbid(unsafe_code)]"), "{path}");
    }
}

#[test]
fn the_readme_and_the_library_draw_the_same_map() {
    let (readme, library) = (layer_table(&read("README.md")), layer_table(&read("src/lib.rs")));
    assert!(readme.len() > 3, "the README has no layer table");
    assert_eq!(readme, library);
}

#[test]
fn the_checks_find_planted_violations() {
    let text = "//! Doc.\nuse crate::{base::names, listener::Config};\nuse rocksdb::DB;\nfn f() {\n    let x = g().unwrap();\n    \
                println!(\"{x}\");\n    unsafe { h() }\n    todo!()\n}\n// XXX later\nstatic S: u8 = 0;\n\
                #[cfg(test)]\nmod tests {\n    use crate::app::run;\n    fn t() { g().unwrap(); println!(); }\n}\n";
    let source = Source::read(text);
    let table = [
        "| layer | rooms | may import |",
        "| --- | --- | --- |",
        "| 0 | `base` | |",
        "| 2 | `spool` | |",
    ];
    let mut layers = layers(&table.map(str::to_owned));
    layers.extend([("listener".to_owned(), 4), ("app".to_owned(), 7)]);
    let imports = wrong_imports("src/spool/x.rs", &source, &layers);
    assert_eq!(
        imports,
        ["src/spool/x.rs:2: `spool` (layer 2) uses `listener` (layer 4)"]
    );
    assert_eq!(
        wrong_doors("src/spool/x.rs", &source),
        ["src/spool/x.rs:3: only src/spool/db.rs may name `rocksdb`"]
    );
    assert!(wrong_doors("src/spool/db.rs", &source).is_empty());
    let found = banned("src/spool/x.rs", text, &source).join("\n");
    for wanted in [
        "x.rs:5: unwrap",
        "x.rs:6: prints",
        "x.rs:7: unsafe",
        "x.rs:8: todo!",
        "x.rs:10: an unf",
        "x.rs:11: a static",
    ] {
        assert!(found.contains(wanted), "{wanted} in {found}");
    }
    assert_eq!(found.lines().count(), 6, "{found}");
    assert_eq!(banned("src/cli/x.rs", text, &source).len(), 5);
    let explained = "//! Doc.\n/// `x.unwrap()` and \"unsafe\" in text are text.\nfn f() {\n    // Parsed above.\n    let x = \"todo!()\".parse().unwrap();\n}\n";
    assert_eq!(
        banned("src/base/x.rs", explained, &Source::read(explained)),
        Vec::<String>::new()
    );
    let long = format!("fn long() {{\n{}}}\n", "    f();\n".repeat(FUNCTION_LINES_MAX));
    assert_eq!(
        too_long("x.rs", &long, &Source::read(&long)),
        ["x.rs:1: fn long has 82 lines"]
    );
    let longer = "\n".repeat(FILE_LINES_MAX + 1);
    assert_eq!(too_long("x.rs", &longer, &Source::read(&longer)).len(), 1);
}
