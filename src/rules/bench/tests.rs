//! The bench's own reports: coverage, JUnit, JSON fixtures, filters.
use super::cli::Said;
use super::cli::{self, Asked};
use crate::base::names::{SourceId, Uid};
use crate::dicom::part10::FileMeta;
use crate::rules::tests::{destinations, facts};
use crate::rules::words_tests::head_of;
use crate::rules::{Config, Facts, Neighbour};
use std::path::Path;

const RULES: &str = "fn morph(image, from) {\n    if image.PatientID == \"A\" {\n        image.PatientID = \"B\";\n    } else {\n        \
    text::trim(image, \"PatientID\");\n    }\n}\nfn route(image, from) {\n    to(\"vna\");\n    switch image.Modality {\n        \
    \"MG\" => to(\"cad\"),\n        _ => ()\n    }\n}\n";

fn folder(fixtures: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("main.rhai"), RULES).unwrap();
    std::fs::create_dir(folder.path().join("fixtures")).unwrap();
    for (name, text) in fixtures {
        std::fs::write(folder.path().join("fixtures").join(name), text).unwrap();
    }
    folder
}

fn run(folder: &Path, asked: &Asked) -> (Said, String) {
    cli::test(folder, &Config::default(), &destinations(), asked)
}

const ONE: &str = "[[case]]\nname = \"a & b\"\njson = \"ct.json\"\n[case.expect]\ndeliveries = { vna = \"routine\" }\nedits = { PatientID = \"B\" }\n\
    [[case]]\nname = \"wrong\"\n[case.input]\nPatientID = \"A\"\n[case.expect]\ndeliveries = { vna = \"routine\" }\nedits = { PatientID = \"<C>\" }\n\
    flags = [\"never\"]\n";

#[test]
fn coverage_names_the_lines_that_no_case_reached() {
    let folder = folder(&[("a.toml", ONE), ("ct.json", r#"{"PatientID": "A", "Modality": "CT"}"#)]);
    let asked = Asked {
        only: "a & b".to_owned(),
        coverage: true,
        at_least: None,
    };
    let (said, _) = run(folder.path(), &asked);
    assert_eq!(said.code, 0, "{}", said.text);
    let expected =
        "never ran: main.rhai 5, 11\ncoverage: 5 of 7 lines, 71 %\nok    a.toml: a & b\n1 passed, 0 failed\n";
    assert_eq!(said.text, expected);
    let strict = Asked {
        at_least: Some(72),
        ..asked
    };
    assert_eq!(run(folder.path(), &strict).0.code, 1);
}

/// What the box runs can be tested: the marks take operations, and count for nothing in what is decided.
#[test]
fn marks_change_no_verdict() {
    let folder = folder(&[(
        "a.toml",
        "[[case]]\nname = \"a\"\n[case.input]\nModality = \"CT\"\n[case.expect]\ndeliveries = { vna = \"routine\" }\n",
    )]);
    let config = Config {
        operations: 1_000,
        ..Config::default()
    };
    let asked = Asked {
        coverage: true,
        ..Asked::default()
    };
    for (turns, code, told) in [
        (125, 0, "coverage: 5 of 6 lines, 83 %\nok    a.toml: a\n"),
        (250, 1, "the rule took more operations than allowed"),
    ] {
        let rules = format!(
            "fn route(image, from) {{\n    let n = 0;\n    while n < {turns} {{\n        n += 1;\n    }}\n    \
            switch `${{if image.Modality == \"CT\" {{ 1 }} else {{ 2 }}}}` {{\n        \"1\" => to(\"vna\"),\n        \
            _ => to(\"cad\")\n    }}\n}}\n"
        );
        std::fs::write(folder.path().join("main.rhai"), rules).unwrap();
        let (said, _) = cli::test(folder.path(), &config, &destinations(), &asked);
        assert_eq!(said.code, code, "{}", said.text);
        assert!(said.text.contains(told), "{}", said.text);
    }
}

#[test]
fn a_failed_case_shows_its_difference_and_stands_in_the_junit_file() {
    let folder = folder(&[
        ("a.toml", ONE),
        ("ct.json", r#"{"00100020": {"vr": "LO", "Value": ["A"]}}"#),
    ]);
    let (said, xml) = run(folder.path(), &Asked::default());
    assert_eq!(said.code, 1);
    for line in [
        "- flag: never",
        "- vna: PatientID = \"<C>\"",
        "+ vna: PatientID = \"B\"",
        "1 passed, 1 failed",
    ] {
        assert!(said.text.contains(line), "{line}\n{}", said.text);
    }
    assert!(
        xml.contains("<testsuites name=\"waystation rules test\" tests=\"2\" failures=\"1\">"),
        "{xml}"
    );
    assert!(xml.contains("name=\"a &amp; b\""), "{xml}");
    assert!(xml.contains("- vna: PatientID = &quot;&lt;C&gt;&quot;"), "{xml}");
}

#[test]
fn a_fixture_that_cannot_be_read_fails_its_case_in_words() {
    let folder = folder(&[("a.toml", ONE), ("ct.json", "{")]);
    let (said, _) = run(folder.path(), &Asked::default());
    assert!(said.text.contains("ct.json: line 1: it is not JSON"), "{}", said.text);
    assert!(said.text.ends_with("0 passed, 2 failed\n"), "{}", said.text);
}

#[test]
fn a_case_says_when_its_image_came() {
    let folder = tempfile::tempdir().unwrap();
    let rules = "fn route(image, from) { to(\"vna\"); if from.arrival != \"2024-01-02T22:30:00Z\" { to(\"cad\") } }";
    std::fs::write(folder.path().join("main.rhai"), rules).unwrap();
    std::fs::create_dir(folder.path().join("fixtures")).unwrap();
    let run_with = |from: &str| {
        let fixture = format!(
            "[[case]]\nname = \"x\"\nfrom = {{ {from} }}\n[case.expect]\ndeliveries = {{ vna = \"routine\" }}\n"
        );
        std::fs::write(folder.path().join("fixtures/a.toml"), fixture).unwrap();
        run(folder.path(), &Asked::default()).0
    };
    for right in [
        "arrival = \"2024-01-02T23:30:00+01:00\"",
        "arrival = 2024-01-02T22:30:00Z",
    ] {
        let said = run_with(right);
        assert_eq!(said.code, 0, "{}", said.text);
    }
    assert!(run_with("").text.contains("+ to cad (routine)"));
    for wrong in [
        "arrival = \"2024-01-02 noon\"",
        "arrival = 7",
        "arrival = \"2024-01-02T22:30:00\"",
    ] {
        let said = run_with(wrong);
        assert!(said.text.contains("with Z or an offset"), "{wrong}: {}", said.text);
    }
}

#[test]
fn a_source_that_the_site_has_not_is_said_and_a_file_that_would_not_run_is_refused() {
    let case =
        "[[case]]\nname = \"a\"\nfrom = { source = \"ct2\" }\n[case.expect]\ndeliveries = { vna = \"routine\" }\n";
    let folder = folder(&[("a.toml", case)]);
    let with = |names: &[&str]| Config {
        sources: names.iter().map(|name| SourceId::parse(name).unwrap()).collect(),
        ..Config::default()
    };
    let test = |config: &Config| cli::test(folder.path(), config, &destinations(), &Asked::default()).0;
    let said = test(&with(&["ct1"]));
    assert!(
        said.code == 0
            && said
                .text
                .contains("a.toml: warning: unknown source `ct2`; did you mean `ct1`?"),
        "{}",
        said.text
    );
    assert!(said.text.ends_with("1 passed, 0 failed\n"), "{}", said.text);
    for config in [with(&["ct2"]), with(&[])] {
        assert!(!test(&config).text.contains("unknown source"));
    }
    let check = cli::check(folder.path(), &with(&["ct1"]), &destinations(), cli::Form::default());
    assert!(check.text.contains("unknown source `ct2`"), "{}", check.text);
    std::fs::write(folder.path().join("fixtures/b.yaml"), "case: []").unwrap();
    let said = test(&with(&[]));
    assert!(
        said.code == 1 && said.text.contains("b.yaml") && said.text.contains("b.toml"),
        "{}",
        said.text
    );
    let check = cli::check(folder.path(), &with(&[]), &destinations(), cli::Form::default());
    assert!(check.text.contains("b.yaml"), "{}", check.text);
}

#[test]
fn what_is_expected_and_never_compared_fails_its_case() {
    let said = |expect: &str| {
        let fixture = format!("[[case]]\nname = \"x\"\n[case.input]\nPatientID = \"1\"\n[case.expect]\n{expect}\n");
        let said = run(folder(&[("a.toml", &fixture)]).path(), &Asked::default()).0;
        (said.code, said.text)
    };
    assert_eq!(said("deliveries = { vna = \"routine\" }").0, 0);
    let of_cad = "edits_for = { cad = { PatientName = \"CAD\" } }";
    for (expect, words) in [
        (
            "deliveries = { vna = \"routine\" }\nedits_for = { vnaa = { PatientName = \"CAD\" } }",
            "! unknown destination `vnaa`; did you mean `vna`?",
        ),
        (
            "deliveries = { vna = \"routine\", cadd = \"routine\" }",
            "! unknown destination `cadd`; did you mean `cad`?",
        ),
        (
            &format!("deliveries = {{ vna = \"routine\" }}\n{of_cad}"),
            "! edits_for.cad: no delivery to `cad` is expected",
        ),
        ("edits = { PatientID = \"2\" }", "! edits: no delivery is expected"),
    ] {
        let (code, text) = said(expect);
        assert!(code == 1 && text.contains(words), "{expect}\n{text}");
    }
}

#[test]
fn a_case_knows_the_loop_guard_of_the_box() {
    let case = "[[case]]\nname = \"a\"\nfrom = { source = \"pacs\" }\n[case.input]\nPatientID = \"1\"\nModality = \"MG\"\n[case.expect]\n\
        deliveries = { cad = \"routine\" }\nflags = [\"loop\"]\n";
    let folder = folder(&[("a.toml", case)]);
    let neighbour = Neighbour {
        destination: destinations()[0].clone(),
        ae: None,
        sources: vec![SourceId::parse("pacs").unwrap()],
    };
    assert_eq!(neighbour.destination.as_str(), "vna");
    let on_box = Config {
        site: Some(("BOX".to_owned(), vec![neighbour])),
        ..Config::default()
    };
    let test = |config: &Config| cli::test(folder.path(), config, &destinations(), &Asked::default()).0;
    let said = test(&on_box);
    assert_eq!(said.code, 0, "{}", said.text);
    let said = test(&Config::default());
    assert!(
        said.code == 1 && said.text.contains("+ to vna (routine)"),
        "{}",
        said.text
    );
}

#[test]
fn a_replay_builds_up_what_had_come_of_a_study() {
    let rules = |text: &str| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("main.rhai"), text).unwrap();
        folder
    };
    let old = rules("fn route(image, from) { to(\"vna\"); }");
    let new = rules("fn route(image, from) { study::same_patient(image); to(\"vna\"); }");
    let config = Config {
        path: Some(old.path().to_owned()),
        site: Some(("BOX".to_owned(), Vec::new())),
        ..Config::default()
    };
    let mut bench =
        cli::Bench::new(&config, &destinations(), new.path()).unwrap_or_else(|said| panic!("{}", said.text));
    assert!(bench.wants_order());
    for (sop, patient) in [("1.1", "1"), ("1.2", "2"), ("1.3", "1")] {
        let facts = Facts {
            sop_instance: Uid::known(sop),
            ..facts()
        };
        let head = head_of(&[("PatientID", patient), ("StudyInstanceUID", "1.2.9")]);
        let meta = FileMeta {
            sop_class: facts.sop_class.clone(),
            sop_instance: facts.sop_instance.clone(),
            transfer_syntax: facts.transfer_syntax.clone(),
            source_ae: None,
            private: None,
        };
        let file = new.path().join("image.dcm");
        std::fs::write(&file, [meta.write(), head.bytes.to_vec()].concat()).unwrap();
        bench.image(&facts, 500, &file);
    }
    bench.left_cache(Some(0));
    let text = bench.text();
    for words in [
        "1.2 from ct1\n    + rule: another patient than the first of its study\n",
        "\n3 images, 1 would differ, 0 unread\nNOT in this report: what had come of a study before this time",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
}
