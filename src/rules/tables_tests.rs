//! Tables beside the rules: read with them, part of their epoch, checked with them, reloaded with them; and what the words that use
//! them decide in the cases that matter.
use super::tests::{destinations, element_text, facts, files, reason};
use super::words_tests::head_of;
use super::{Config, HoldKind, RuleSet, RuleStore, Site};
use crate::base::clock::Clock;
use crate::telemetry::metrics::Metrics;
use std::path::Path;

const ROUTE: &str = "fn route(image, from) { to(\"vna\"); }";

fn problems(sources: &[(&str, &str)]) -> Vec<String> {
    match files(sources) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

fn morph(rule: &str) -> String {
    format!("fn morph(image, from) {{ {rule} }} {ROUTE}")
}

#[test]
fn what_a_call_says_wrong_is_found_at_load_with_the_nearest_right() {
    let tables = [
        ("xref.csv", "issuer,value,to_issuer,to_value\nN,1,E,2\n"),
        ("names.csv", "id,name\n1,ONE\n"),
    ];
    for (rule, said) in [
        (
            r#"table::lookup("xreff", image.PatientID);"#,
            "main.rhai:1:39: unknown table `xreff`; did you mean `xref`?",
        ),
        (
            r#"table::lookup("names", "idd", image.PatientID, "name");"#,
            "main.rhai:1:48: unknown column of the table `idd`; did you mean `id`?",
        ),
        (
            r#"identity::map(image, "names");"#,
            "main.rhai:1:46: unknown column of the table `issuer`",
        ),
        (
            r#"identity::map(image, "xref", #{ mising: "hold" });"#,
            "main.rhai:1:57: unknown option `mising`; did you mean `missing`?",
        ),
        (
            r#"identity::map(image, "xref", #{ issuer: from.source, missing: "holds" });"#,
            "main.rhai:1:87: unknown value of the option missing `holds`; did you mean `hold`?",
        ),
        (
            r#"text::map(image, "BodyPartExamined", "names", #{ key: "id", column: "nam" });"#,
            "main.rhai:1:93: unknown column of the table `nam`; did you mean `name`?",
        ),
        (
            r#"text::upper(image, "StatonName");"#,
            "main.rhai:1:44: `StatonName` is not a DICOM keyword; did you mean `StationName`?",
        ),
        (
            r#"accession::rewrite(image, "(", "");"#,
            "main.rhai:1:51: error: unclosed group",
        ),
        (
            r#"identity::normalise(image, #{ policy: "pad-zeros", length: "8" });"#,
            "main.rhai:1:84: the option `length` takes a whole number",
        ),
    ] {
        let text = morph(rule);
        let found = problems(&[("main.rhai", &text), tables[0], tables[1]]);
        assert!(found.contains(&said.to_owned()), "{rule}: {found:?}");
    }
    let good = morph(
        r#"table::lookup("names", "id", image.PatientID, "name");
        text::map(image, "BodyPartExamined", "names", #{ key: "id", column: "name" });
        identity::map(image, "xref", #{ issuer: "N", missing: "flag", former: "forget" });"#,
    );
    assert_eq!(
        problems(&[("main.rhai", &good), tables[0], tables[1]]),
        Vec::<String>::new()
    );
}

#[test]
fn a_table_is_part_of_the_epoch_and_its_faults_refuse_the_set() {
    let epoch = |table: &str| files(&[("main.rhai", ROUTE), ("t.csv", table)]).unwrap().epoch();
    assert_ne!(epoch("a\n1\n"), epoch("a\n2\n"));
    assert_eq!(epoch("a\n1\n"), epoch("a\n1\n"));
    let found = problems(&[("main.rhai", ROUTE), ("t.csv", "a,b\n1\n")]);
    assert_eq!(found, ["t.csv:2: the row has 1 cells where the first line has 2"]);
}

fn write(folder: &Path, name: &str, text: &[u8]) {
    std::fs::write(folder.join(name), text).unwrap();
}

#[test]
fn a_changed_table_is_read_again_and_a_broken_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    write(
        folder.path(),
        "main.rhai",
        morph(r#"text::map(image, "StationName", "t");"#).as_bytes(),
    );
    write(folder.path(), "t.csv", b"value,to_value\nA,B\n");
    let config = Config {
        path: Some(folder.path().to_owned()),
        ..Config::default()
    };
    let site = Site {
        node: "box".to_owned(),
        destinations: destinations(),
        neighbours: Vec::new(),
        state: None,
    };
    let metrics = Metrics::new();
    let store = RuleStore::open(&config, site, metrics, Clock::System).unwrap_or_else(|wrong| panic!("{wrong:?}"));
    let head = head_of(&[("StationName", "A")]);
    let name = || element_text(&store.decide(&facts(), &head), &head, 0, "StationName").unwrap();
    assert_eq!(name(), "B");
    write(folder.path(), "t.csv", "\u{FEFF}value,to_value\r\nA,C\r\n".as_bytes());
    store.reload().unwrap();
    assert_eq!(name(), "C");
    write(folder.path(), "t.csv", b"value,to_value\nA,D\n\xC4,E\n");
    let wrong = store.reload().unwrap_err();
    assert!(
        wrong[0].to_string().ends_with("t.csv:3: is not UTF-8 text"),
        "{wrong:?}"
    );
    assert_eq!(name(), "C");
    let alone = tempfile::tempdir().unwrap();
    write(alone.path(), "t.csv", b"a\n");
    assert!(RuleSet::load(alone.path(), &Config::default(), &destinations()).is_err());
}

#[test]
fn the_cross_reference_never_guesses() {
    let xref =
        "issuer,value,to_issuer,to_value\nN,1,E,100\nS,1,E,200\nN,2,E,300\nN,2,E,301\nN,8,N,9\nN,9,N,8\nE,100,E,900\n";
    let decide = |options: &str, id: &str, issuer: &str| {
        let rule = morph(&format!(r#"identity::map(image, "xref"{options});"#));
        let set = files(&[("main.rhai", &rule), ("xref.csv", xref)]).unwrap_or_else(|wrong| panic!("{wrong:?}"));
        let head = head_of(&[("PatientID", id), ("IssuerOfPatientID", issuer)]);
        let decision = set.decide(&facts(), &head);
        match &decision.hold {
            Some(_) => {
                let (kind, reason) = reason(&decision);
                assert_eq!(kind, HoldKind::Incomplete);
                (reason, decision.flags)
            }
            None => {
                let text = |path| element_text(&decision, &head, 0, path).unwrap_or_default();
                (
                    format!("{}/{}", text("IssuerOfPatientID"), text("PatientID")),
                    decision.flags,
                )
            }
        }
    };
    let ambiguous = "the cross-reference table is ambiguous for this patient";
    let missing = "the cross-reference table has no row for this patient";
    for (options, id, issuer, wanted) in [
        ("", "1", "N", "E/900"),
        ("", "1", "S", "E/200"),
        ("", "200", "E", "E/200"),
        ("", "2", "N", ambiguous),
        (r#", #{ missing: "keep" }"#, "2", "N", ambiguous),
        ("", "8", "N", ambiguous),
        ("", "01", "N", missing),
        ("", "1", "n", missing),
        ("", "1", "", missing),
        ("", "", "N", missing),
        (r#", #{ missing: "keep" }"#, "5", "N", "N/5"),
        (r#", #{ issuer: "S" }"#, "1", "", "E/200"),
    ] {
        assert_eq!(decide(options, id, issuer).0, wanted, "{options} {issuer} {id}");
    }
    let (kept, flags) = decide(r#", #{ missing: "flag" }"#, "5", "N");
    assert_eq!((kept.as_str(), &flags[..]), ("N/5", &["identity_unmapped"][..]));
}

#[test]
fn an_accession_number_is_never_cut_and_its_copies_stay_in_step() {
    let decide = |rule: &str, number: &str| {
        let head = head_of(&[
            ("AccessionNumber", number),
            ("RequestAttributesSequence[0].AccessionNumber", number),
            ("ReferencedRequestSequence[0].AccessionNumber", number),
        ]);
        let decision = files(&[("main.rhai", &morph(rule))]).unwrap().decide(&facts(), &head);
        if let Some(hold) = &decision.hold {
            return (hold.reason.clone(), decision);
        }
        let text = |path: &str| element_text(&decision, &head, 0, path).unwrap();
        let top = text("AccessionNumber");
        assert_eq!(text("RequestAttributesSequence[0].AccessionNumber"), top);
        assert_eq!(text("ReferencedRequestSequence[0].AccessionNumber"), top);
        (top, decision)
    };
    let too_long = "the accession number is longer than 16 characters";
    for (rule, number, wanted) in [
        (r#"accession::pad(image, 8, "RA");"#, "RA77", "RA00000077"),
        (r#"accession::pad(image, 8, "RA");"#, "123456789", "RA123456789"),
        (r#"accession::pad(image, 4, "1");"#, "12", "10012"),
        (r#"accession::pad(image, 4, "1");"#, "10012", "10012"),
        (r#"accession::pad(image, 16, #{ prefix: "X" });"#, "1", too_long),
        (
            r#"accession::pad(image, 16, #{ prefix: "X", too_long: "keep" });"#,
            "1",
            "1",
        ),
        (r#"accession::prefix(image, "N-");"#, "123-032411-4546", too_long),
        (
            r#"accession::prefix(image, "N-");"#,
            "12345678901234",
            "N-12345678901234",
        ),
        (r#"accession::strip(image, "0");"#, "0077", "77"),
        (r#"accession::strip(image, "RA");"#, "RARA", "RA"),
        (
            r#"accession::rewrite(image, "-", "");"#,
            "123-032411-4546",
            "1230324114546",
        ),
        (r#"accession::rewrite(image, ".", "");"#, "77", "77"),
        (r#"accession::set(image, " N1 ");"#, "77", "N1"),
        (r#"accession::set(image, "");"#, "77", "77"),
    ] {
        assert_eq!(decide(rule, number).0, wanted, "{rule} {number}");
    }
    let (_, decision) = decide(r#"accession::pad(image, 4); accession::prefix(image, "N");"#, "77");
    let aliases: Vec<(&str, &String, &String)> = decision
        .aliases
        .iter()
        .map(|alias| (alias.kind, alias.sent.expose(), alias.written.expose()))
        .collect();
    assert_eq!(aliases, [("accession", &"77".to_owned(), &"N0077".to_owned())]);
    let (_, kept) = decide(
        r#"accession::prefix(image, "N-", #{ too_long: "keep" });"#,
        "123-032411-4546",
    );
    assert_eq!(
        (kept.flags.as_slice(), kept.aliases.len()),
        (&["accession_too_long"][..], 0)
    );
}

#[test]
fn several_values_and_undecodable_ones_are_held_not_mended() {
    let set = files(&[(
        "main.rhai",
        &morph(r#"identity::prefix(image, "N-"); accession::prefix(image, "N");"#),
    )])
    .unwrap();
    for element in ["PatientID", "AccessionNumber"] {
        let decision = set.decide(&facts(), &head_of(&[(element, "A\\B")]));
        let wanted = "an element that has one value only came with several".to_owned();
        assert_eq!(reason(&decision), (HoldKind::Incomplete, wanted), "{element}");
        assert_eq!(decision.deliveries[0].plan.edits, [], "{element}");
    }
}

#[test]
fn a_faulty_table_is_said_once_and_not_at_the_rules_that_name_it() {
    let rule = morph(r#"identity::map(image, "xref"); identity::map(image, "xreff");"#);
    let wrong = problems(&[("main.rhai", &rule), ("xref.csv", "issuer,value\nN\n")]);
    assert!(
        wrong.len() == 2 && wrong[0].contains("xreff") && wrong[1].contains("xref.csv:2"),
        "{wrong:?}"
    );
}

#[test]
fn what_a_table_lacks_removes_nothing() {
    let decide = |rule: &str, id: &str| {
        let rules = format!("fn found(id) {{ table::lookup(\"pats\", id) }} {}", morph(rule));
        let set = files(&[("main.rhai", &rules), ("pats.csv", "old,new\n1,901\n2,7\n2,8\n")]).unwrap();
        let head = head_of(&[("PatientID", id)]);
        let decision = set.decide(&facts(), &head);
        match &decision.hold {
            Some(_) => reason(&decision).1,
            None => element_text(&decision, &head, 0, "PatientID").unwrap_or("removed".to_owned()),
        }
    };
    let gap = "a lookup found nothing, and `()` would remove the element";
    for (rule, id, wanted) in [
        (
            r#"image.PatientID = table::lookup("pats", image.PatientID);"#,
            "1",
            "901",
        ),
        (r#"image.PatientID = table::lookup("pats", image.PatientID);"#, "3", gap),
        (
            r#"image["PatientID"] = table::lookup("pats", "old", image.PatientID, "new");"#,
            "3",
            gap,
        ),
        (
            r#"let to = table::lookup("pats", image.PatientID); image.PatientID = to;"#,
            "3",
            gap,
        ),
        (
            r#"let to = #{ id: found(image.PatientID) }; image.PatientID = to.id;"#,
            "3",
            gap,
        ),
        (
            r#"image.PatientID = table::lookup("pats", image.PatientID) ?? "none";"#,
            "3",
            "none",
        ),
        (
            r#"if found(image.PatientID) == () { image.PatientID = "none"; }"#,
            "3",
            "none",
        ),
        // Two answers hold the image, and nothing is removed either.
        (r#"image.PatientID = table::lookup("pats", image.PatientID);"#, "2", gap),
        // What a rule writes to remove still removes.
        ("image.PatientID = ();", "3", "removed"),
        ("let nothing = (); image.PatientID = nothing;", "3", "removed"),
    ] {
        let found = decide(rule, id);
        assert!(found.contains(wanted), "{rule} {id}: {found}");
    }
}

#[test]
fn a_table_with_a_prefix_of_digits_and_no_issuer_is_named() {
    let warned = |table: &str| {
        let rule = morph(r#"identity::prefix_by(image, "sites", from.source);"#);
        let set = files(&[("main.rhai", &rule), ("sites.csv", table)]).unwrap();
        set.warnings().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let found = warned("source,prefix,issuer\nct1,N-,\nct2,1,\n");
    assert!(
        found.len() == 1 && found[0].starts_with("main.rhai:1:52: a prefix of digits only"),
        "{found:?}"
    );
    assert_eq!(warned("source,prefix,issuer\nct1,N-,\nct2,1,SITE1\nct3,,\n"), [""; 0]);
}

#[test]
fn a_prefix_of_digits_is_told_from_a_number_by_its_issuer() {
    let decide = |rule: &str, id: &str, issuer: &str| {
        let head = head_of(&[("PatientID", id), ("IssuerOfPatientID", issuer)]);
        let decision = files(&[("main.rhai", &morph(rule))]).unwrap().decide(&facts(), &head);
        assert_eq!(decision.hold, None, "{rule}");
        element_text(&decision, &head, 0, "PatientID").unwrap()
    };
    let site = r#"identity::prefix(image, "1", "SITE1");"#;
    let normalised = r#"identity::normalise(image, #{ policy: "strip-separators" }); identity::normalise(image, #{ policy: "lower" });
        identity::prefix(image, "NRT-", "NORTH");"#;
    let short = r#"identity::normalise(image, #{ policy: "strip-separators" }); identity::prefix(image, "1-");"#;
    for (rule, id, issuer, wanted) in [
        (site, "234", "", "1234"),
        (site, "1234", "", "11234"),
        (site, "1234", "OTHER", "11234"),
        (site, "1234", "SITE1", "1234"),
        (site, "11234", "SITE1", "11234"),
        // Policies before a prefix: on the second pass they meet what the first one wrote.
        (normalised, "47-11", "", "NRT-4711"),
        (normalised, "NRT-4711", "NORTH", "NRT-4711"),
        (normalised, "NRT-47-11", "NORTH", "NRT-4711"),
        (normalised, "NRT4711", "", "NRT-nrt4711"),
        (normalised, "NRT-nrt4711", "NORTH", "NRT-nrt4711"),
        (short, "2-34", "", "1-234"),
        (short, "1-234", "", "1-234"),
        (short, "1234", "", "1-1234"),
        (short, "1-1234", "", "1-1234"),
    ] {
        assert_eq!(decide(rule, id, issuer), wanted, "{rule} {id} {issuer}");
    }
}
