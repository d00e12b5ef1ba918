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
    ["vna", "folder", "cad", "research", "workstation"]
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
        let asked = cli::Asked {
            at_least: Some(90),
            ..cli::Asked::default()
        };
        let said = cli::test(&folder, &config(), &shipped(), &asked).0;
        assert_eq!(said.code, 0, "{}\n{}", folder.display(), said.text);
        assert!(said.text.contains(", 0 failed"), "{}", said.text);
        let strict = cli::Form {
            strict: true,
            ..cli::Form::default()
        };
        let checked = cli::check(&folder, &config(), &shipped(), strict);
        assert_eq!(checked.code, 0, "{}", checked.text);
    }
}

/// The kinds of site for which an example is promised.
#[test]
fn there_is_an_example_for_each_kind_of_site() {
    let folders = folders_in(&repository("rules/examples"));
    let mut names: Vec<String> = folders
        .iter()
        .map(|folder| folder.file_name().unwrap_or_default().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "cerner",
            "epic",
            "mammography",
            "multi-site",
            "night-window",
            "research"
        ]
    );
}

#[test]
fn a_fixture_that_does_not_hold_fails_with_a_difference() {
    let folder = tempfile::tempdir().unwrap();
    let rules = "fn morph(image, from) { image.PatientID = \"B\" } fn route(image, from) { to(\"vna\"); to(\"cad\") }";
    std::fs::write(folder.path().join("main.rhai"), rules).unwrap();
    std::fs::create_dir(folder.path().join("fixtures")).unwrap();
    let nothing = cli::test(
        folder.path(),
        &Config::default(),
        &destinations(),
        &cli::Asked::default(),
    )
    .0;
    assert_eq!(nothing.code, 1, "{}", nothing.text);
    let fixture = "[[case]]\nname = \"x\"\n[case.input]\nPatientID = \"A\"\n[case.expect]\ndeliveries = { vna = \"routine\" }\n\
        edits = { PatientID = \"C\" }\nhold = \"never\"\n";
    std::fs::write(folder.path().join("fixtures/a.toml"), fixture).unwrap();
    let said = cli::test(
        folder.path(),
        &Config::default(),
        &destinations(),
        &cli::Asked::default(),
    )
    .0;
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
    let said = cli::check(folder.path(), &Config::default(), &destinations(), cli::Form::default());
    assert_eq!(said.code, 1);
    assert!(
        said.text
            .ends_with("main.rhai:2:6: error: unknown destination `vnaa`; did you mean `vna`?\n"),
        "{}",
        said.text
    );
    std::fs::write(
        folder.path().join("main.rhai"),
        "fn route(image, from) { to(\"vna\"); }",
    )
    .unwrap();
    assert_eq!(
        cli::check(folder.path(), &Config::default(), &destinations(), cli::Form::default()).code,
        0,
    );
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
        Err(&cli::Origin::default()),
    );
    assert_eq!(said.code, 0, "{}", said.text);
    let mut rules = include_str!("../../rules/main.rhai").lines();
    let number = rules.position(|line| line.contains("identity::prefix(")).unwrap() + 1;
    for line in [
        format!("main.rhai:{number}  identity::prefix(image, global::MRN_PREFIX, global::ISSUER);").as_str(),
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
        Err(&cli::Origin::default()),
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

/// The tables of a page: fenced `csv` blocks with the file's name on their fence.
fn tables(page: &str) -> Vec<(String, String)> {
    let blocks = page.split("\n```csv ").skip(1);
    let table = |block: &str| {
        let (name, rest) = block.split_once('\n')?;
        Some((name.trim().to_owned(), rest.split("```").next()?.to_owned()))
    };
    blocks.filter_map(table).collect()
}

/// Other files of the folder than the main one: `rhai` blocks with the file's name on their fence.
fn modules(page: &str) -> impl Iterator<Item = (String, String)> {
    blocks(page).into_iter().filter_map(|(fence, text)| {
        let name = fence.strip_prefix("rhai ")?.rsplit('/').next()?;
        (name.ends_with(".rhai") && name != "main.rhai").then(|| (name.to_owned(), text))
    })
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
        if path.file_name().is_some_and(|name| name == "words.md") {
            // Generated from samples, which `words_tests` runs, each on its own image.
            continue;
        }
        let page = std::fs::read_to_string(&path).unwrap();
        for (fence, text) in blocks(&page) {
            count += 1;
            let mut sources = tables(&page);
            sources.extend(modules(&page));
            if sources.iter().any(|(_, module)| *module == text) {
                // It is loaded with the blocks that import it.
                continue;
            }
            sources.push(("main.rhai".to_owned(), whole(&text)));
            let set = RuleSet::from_sources(&sources, &config(), &shipped());
            if fence.contains("refused") {
                assert!(set.is_err(), "{}:\n{text}", path.display());
                continue;
            }
            let set = set.unwrap_or_else(|problems| panic!("{}: {problems:?}\n{text}", path.display()));
            // A patient, for what goes by the patient.
            let patient: &[(&str, &str)] = if text.contains("privacy::") {
                &[("PatientID", "1")]
            } else {
                &[]
            };
            let head = super::words_tests::head_of(patient);
            let hold = set.decide(&facts(), &head).hold.map(|hold| hold.kind.as_str());
            let wanted = fence.contains("fails").then_some("error");
            assert_eq!(hold, wanted, "{}:\n{text}", path.display());
        }
    }
    assert!(count >= 10, "only {count} examples were found");
}
