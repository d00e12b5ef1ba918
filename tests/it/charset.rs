//! Character sets through the running box: every row of the table of real breakages and one name of every repertoire, judged by
//! pydicom and DCMTK: the declaration, the raw bytes, the text, and the same inside a sequence.
use crate::harness::peers::{modality, path};
use crate::harness::{Setup, tools};
use serde_json::json;
use std::time::Duration;

const RULES: &str = r#"
fn morph(image, from) {
    switch from.calling_ae {
        "KANJI" => charset::declare(image, "SHIFT_JIS", #{ instead_of: "ISO_IR 100" }),
        "CHINESE" => charset::declare(image, "GBK", #{ instead_of: "ISO_IR 100" }),
        _ => charset::repair(image)
    }
}
fn morph_for_utf8(image, from) { charset::to_utf8(image); }
fn route(image, from) { to("repaired"); to("utf8"); }
"#;

#[test]
fn every_row_of_the_breakage_table_is_read_rightly_by_pydicom_and_dcmtk() {
    let source = |name: &str, more: &str| {
        let upper = name.to_uppercase();
        format!("[[sources]]\nname = \"{name}\"\ncalling_ae = [\"{upper}\"]\naddresses = [\"127.0.0.0/8\"]\n{more}\n")
    };
    let sources = [
        source("latin", "charset = \"ISO_IR 100\""),
        source("kanji", ""),
        source("chinese", ""),
        source("right", ""),
    ];
    let station = Setup::new()
        .rules(RULES)
        .folder("repaired")
        .folder("utf8")
        .sources(&sources.concat())
        .start();
    let made = tools::python_json("charset.py", &["make", &path(&station.setup.folder_of("made"))]);
    let files = made.as_array().expect("a list");
    assert!(files.len() >= 37, "{} rows", files.len());
    for file in files {
        let (name, calling) = (
            file["path"].as_str().expect("a path"),
            file["calling"].as_str().expect("an AE"),
        );
        let sent = modality("store", station.setup.dicom, "WAYSTATION", calling, &[name]);
        assert_eq!(sent["sent"][0]["status"], json!(0), "{name}: {sent}");
    }
    station.wait_drained(Duration::from_secs(60));
    assert_eq!(
        station.metric("jobs_held", &[]),
        0.0,
        "{:?}",
        station.jobs(&["--state", "held"])
    );
    let folders = ["repaired", "utf8"].map(|name| path(&station.setup.folder_of(name)));
    let judged = tools::python_json("charset.py", &["judge", &folders[0], &folders[1]]);
    assert_eq!(judged, json!({"rows": 2 * files.len(), "problems": {}}));
    let flagged = |flag: &str| station.metric("rule_flags_total", &[("flag", flag), ("source", "latin")]);
    assert_eq!(
        (flagged("charset_by_fallback"), flagged("charset_utf8_undeclared")),
        (4.0, 2.0)
    );
}
