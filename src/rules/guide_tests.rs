//! What the repository ships is true: the starter set and its fixtures, the examples, every fenced block of the guide, and the
//! bench's own reports.
use super::tests::{config, destinations, facts};
use super::{Config, RuleSet, cli};
use crate::base::names::{DestinationId, Uid};
use crate::dicom::edit::{Edit, Plan};
use crate::dicom::head::Head;
use crate::dicom::part10::FileMeta;
use crate::dicom::path::Path as ElementPath;
use crate::dicom::syntax::Syntax;
use std::path::{Path, PathBuf};

fn shipped() -> Vec<DestinationId> {
    ["vna", "folder", "cad", "research"]
        .map(|id| DestinationId::parse(id).unwrap())
        .to_vec()
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn folders_in(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_dir()).collect()
}

#[test]
fn the_starter_set_and_every_example_pass_their_fixtures() {
    let mut folders = folders_in(&repository("rules/examples"));
    assert!(!folders.is_empty());
    folders.push(repository("rules"));
    for folder in folders {
        let said = cli::test(&folder, &config(), &shipped());
        assert_eq!(said.code, 0, "{}\n{}", folder.display(), said.text);
        assert!(said.text.contains(", 0 failed"), "{}", said.text);
    }
}

#[test]
fn a_fixture_that_does_not_hold_fails_with_a_difference() {
    let folder = tempfile::tempdir().unwrap();
    let rules = "fn morph(image, from) { image.PatientID = \"B\" } fn route(image, from) { to(\"vna\"); to(\"cad\") }";
    std::fs::write(folder.path().join("main.rhai"), rules).unwrap();
    std::fs::create_dir(folder.path().join("fixtures")).unwrap();
    let nothing = cli::test(folder.path(), &Config::default(), &destinations());
    assert_eq!(nothing.code, 1, "{}", nothing.text);
    let fixture = "[[case]]\nname = \"x\"\n[case.input]\nPatientID = \"A\"\n[case.expect]\ndeliveries = { vna = \"routine\" }\n\
        edits = { PatientID = \"C\" }\nhold = \"never\"\n";
    std::fs::write(folder.path().join("fixtures/a.toml"), fixture).unwrap();
    let said = cli::test(folder.path(), &Config::default(), &destinations());
    assert_eq!(said.code, 1);
    for line in [
        "- vna: PatientID = \"C\"",
        "+ vna: PatientID = \"B\"",
        "+ to cad (routine)",
        "- hold: never",
        "0 passed, 1 failed",
    ] {
        assert!(said.text.contains(line), "{line}\n{}", said.text);
    }
}

#[test]
fn check_prints_file_line_and_column() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("main.rhai"),
        "fn route(image, from) {\n  to(\"vnaa\");\n}",
    )
    .unwrap();
    let said = cli::check(folder.path(), &Config::default(), &destinations());
    assert_eq!(said.code, 1);
    assert!(
        said.text
            .ends_with("main.rhai:2:6: unknown destination `vnaa`; did you mean `vna`?\n"),
        "{}",
        said.text
    );
    std::fs::write(
        folder.path().join("main.rhai"),
        "fn route(image, from) { to(\"vna\"); }",
    )
    .unwrap();
    assert_eq!(cli::check(folder.path(), &Config::default(), &destinations()).code, 0);
}

/// A Part 10 file with a patient's ID and name.
fn image_file(folder: &Path) -> PathBuf {
    let facts = facts();
    let mut head = Head::scan(Syntax::of(&facts.transfer_syntax), &[]).unwrap();
    for (path, value) in [("Modality", "MG"), ("PatientName", "DOE^JANE"), ("PatientID", "4711")] {
        let edit = Edit::text(&head, ElementPath::parse(path).unwrap(), &[value.to_owned()]).unwrap();
        let bytes = Plan {
            edits: vec![edit],
            stamp: None,
        }
        .apply(&head)
        .unwrap();
        head = Head::scan(head.syntax.clone(), &bytes).unwrap();
    }
    let meta = FileMeta {
        sop_class: facts.sop_class,
        sop_instance: facts.sop_instance,
        transfer_syntax: Uid::known("1.2.840.10008.1.2.1"),
        source_ae: None,
        private: None,
    };
    let file = folder.join("image.dcm");
    std::fs::write(&file, [meta.write(), head.bytes.to_vec()].concat()).unwrap();
    file
}

#[test]
fn trace_shows_what_each_line_read_wrote_and_decided() {
    let folder = tempfile::tempdir().unwrap();
    let file = image_file(folder.path());
    let said = cli::trace(
        &repository("rules"),
        &Config::default(),
        &shipped(),
        &file,
        &cli::Origin::default(),
    );
    assert_eq!(said.code, 0, "{}", said.text);
    for line in [
        "helpers.rhai:7  let mrn = image.PatientID;",
        "    read PatientID = \"4711\"",
        "    set PatientID = \"NRT-4711\"",
        "    to cad, stat",
        "to cad (stat)",
        "    PatientID: \"4711\" -> \"NRT-4711\"",
        "    PatientName: \"DOE^JANE\" -> \"CAD\"",
        "    IssuerOfPatientID: absent -> \"NORTH\"",
    ] {
        assert!(said.text.contains(line), "{line}\n{}", said.text);
    }
    let missing = cli::trace(
        &repository("rules"),
        &Config::default(),
        &shipped(),
        &folder.path().join("no.dcm"),
        &cli::Origin::default(),
    );
    assert_eq!(missing.code, 1);
}

/// The fenced `rhai` blocks of a page, each with the words after `rhai` on its fence.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in page.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(fence)) => open = Some((fence.to_owned(), String::new())),
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some((_, text)), None) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    found.retain(|(fence, _)| fence.starts_with("rhai"));
    found
}

/// A block that is no whole rule set gets what it lacks: statements become the body of `morph`, and `route` is added.
fn whole(text: &str) -> String {
    let text = if text.contains("fn ") {
        text.to_owned()
    } else {
        format!("fn morph(image, from) {{\n{text}\n}}")
    };
    if text.contains("fn route(") {
        text
    } else {
        text + "\nfn route(image, from) { to(\"vna\"); }"
    }
}

#[test]
fn every_example_of_the_guide_loads_and_decides_or_fails_as_it_says() {
    let mut count = 0;
    for page in std::fs::read_dir(repository("docs/rules")).unwrap() {
        let path = page.unwrap().path();
        let page = std::fs::read_to_string(&path).unwrap();
        for (fence, text) in blocks(&page) {
            count += 1;
            let helpers = include_str!("../../rules/helpers.rhai").to_owned();
            let sources = [
                ("main.rhai".to_owned(), whole(&text)),
                ("helpers.rhai".to_owned(), helpers),
            ];
            let set = RuleSet::from_sources(&sources, &config(), &shipped());
            if fence.contains("refused") {
                assert!(set.is_err(), "{}:\n{text}", path.display());
                continue;
            }
            let set = set.unwrap_or_else(|problems| panic!("{}: {problems:?}\n{text}", path.display()));
            let head = Head::scan(Syntax::of(&facts().transfer_syntax), &[]).unwrap();
            let hold = set.decide(&facts(), &head).hold.map(|hold| hold.kind.as_str());
            let wanted = fence.contains("fails").then_some("error");
            assert_eq!(hold, wanted, "{}:\n{text}", path.display());
        }
    }
    assert!(count >= 10, "only {count} examples were found");
}
