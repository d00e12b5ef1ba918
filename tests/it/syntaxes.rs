//! Transfer syntaxes at delivery: peers that take one each, witnesses that decode what arrived, and codecs that misbehave.
use crate::harness::peers::{Orthanc, Storescp, path, send};
use crate::harness::{Object, SOON, Setup, Station, free_port, objects, tools, wait_until};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

pub const IMPLICIT: &str = "1.2.840.10008.1.2";
pub const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const BIG: &str = "1.2.840.10008.1.2.2";
const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
pub const JPEG_LS: &str = "1.2.840.10008.1.2.4.80";
const JPEG_2000: &str = "1.2.840.10008.1.2.4.90";
const JPEG_XL: &str = "1.2.840.10008.1.2.4.110";
const RLE: &str = "1.2.840.10008.1.2.5";

/// What each peer of the corpus takes, and how many of the files at least must have come through it.
const PEERS: [(&str, &str, u64); 8] = [
    ("implicit", IMPLICIT, 101),
    ("explicit", EXPLICIT, 101),
    ("big", BIG, 100),
    ("deflated", DEFLATED, 101),
    ("jpegls", JPEG_LS, 43),
    ("jpeg2000", JPEG_2000, 43),
    ("rle", RLE, 44),
    ("jpegxl", JPEG_XL, 12),
];

pub fn list(folder: &Path) -> (String, u64) {
    let list = path(&folder.join("syntaxes-list.json"));
    let found = tools::python_json("syntaxes.py", &["list", &list]);
    (list, found["files"].as_u64().expect("a count"))
}

/// Peers of pynetdicom, each with its one syntax (or several, with `+` between).
pub fn peers(folder: &Path, list: &str, wanted: &[(&str, &str)]) -> (Vec<u16>, tools::Owned) {
    let ports: Vec<u16> = wanted.iter().map(|_| free_port()).collect();
    let mut arguments = vec!["scp".to_owned(), list.to_owned(), path(folder)];
    for ((name, uid), port) in wanted.iter().zip(&ports) {
        arguments.push(format!("{name}={port}={uid}"));
    }
    (ports, tools::python_serving("syntaxes.py", &arguments))
}

pub fn compare(list: &str, folder: &Path) -> Value {
    tools::python_json("syntaxes.py", &["compare", list, &path(folder)])
}

/// The same for what another toolkit has decoded and written again.
pub fn compare_again(list: &str, folder: &Path) -> Value {
    tools::python_json("syntaxes.py", &["compare", list, &path(folder), "again"])
}

#[test]
fn every_file_of_the_corpus_becomes_what_its_destination_takes_and_stays_what_it_is() {
    let setup = Setup::new();
    let (list, files) = list(setup.path());
    let received = setup.folder_of("received");
    let wanted: Vec<(&str, &str)> = PEERS.iter().map(|(name, uid, _)| (*name, *uid)).collect();
    let (ports, _serving) = peers(&received, &list, &wanted);
    let all: Vec<String> = PEERS.iter().map(|(name, ..)| format!("to(\"{name}\");")).collect();
    let mut setup = setup.rules(&format!("fn route(image, from) {{ {} }}", all.concat()));
    for ((name, ..), port) in PEERS.iter().zip(ports) {
        setup = setup.archive(name, port, "");
    }
    let station = setup.start();
    let port = station.setup.dicom.to_string();
    let sent = tools::python_json("corpus.py", &["send", &list, &port, "WAYSTATION", "PYNETDICOM"]);
    assert_eq!(sent, json!({"failed": {}, "sent": files}));
    station.wait_drained(Duration::from_secs(120));
    let held = station.jobs(&["--state", "held", "--limit", "10000"]);
    let mut arrived = 0;
    for (name, uid, least) in PEERS {
        let report = compare(&list, &received.join(name));
        assert_eq!(report["wrong"], json!({}), "{name}");
        let count = report["received"].as_u64().expect("a count");
        assert!(count >= least, "{name}: {report}");
        let syntaxes = report["syntaxes"].as_object().expect("a table");
        assert_eq!(syntaxes.keys().collect::<Vec<_>>(), [uid], "{name}");
        arrived += count;
    }
    let kinds = |kind: &str| held.iter().filter(|job| job["hold_kind"] == kind).count() as u64;
    assert_eq!(
        arrived + held.len() as u64,
        files * 8,
        "each is delivered, or held with its reason"
    );
    assert_eq!(
        kinds("parked") + kinds("conversion") + kinds("edit"),
        held.len() as u64,
        "{held:?}"
    );
    let converted = |kind: &str| station.metric("conversions_total", &[("kind", kind), ("outcome", "converted")]);
    for kind in ["layout", "compress", "decompress", "recompress"] {
        assert!(converted(kind) > 0.0, "{kind}");
    }
    assert_eq!(
        station.metric("conversions_total", &[("outcome", "not_identical")]),
        0.0
    );
    assert_eq!(station.metric("transcode_worker_failures_total", &[]), 0.0);
}

/// One file of pydicom's, as a list of one.
pub fn only(list: &str, name: &str) -> String {
    some(list, &[name])
}

/// Some files of pydicom's, as a list of their own.
pub fn some(list: &str, names: &[&str]) -> String {
    let text = std::fs::read_to_string(list).expect("the list");
    let all: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    let file = |one: &Value| one["path"].as_str().expect("a path").to_owned();
    let is_meant = |one: &&Value| names.iter().any(|name| file(one).ends_with(&format!("/{name}")));
    let found: Vec<&Value> = all.iter().filter(is_meant).collect();
    assert_eq!(found.len(), names.len(), "{names:?}");
    let short = format!("{list}.{}", names[0]);
    std::fs::write(&short, serde_json::to_string(&found).expect("JSON")).expect("writable");
    short
}

pub fn send_list(station: &Station, list: &str) {
    let port = station.setup.dicom.to_string();
    let sent = tools::python_json("corpus.py", &["send", list, &port, "WAYSTATION", "PYNETDICOM"]);
    assert_eq!(sent["failed"], json!({}));
}

/// A box whose codecs misbehave: a destination that takes JPEG-LS only, one that would like it but takes what is stored, and a
/// folder. Answers the box, after one CT image was sent, and what the second destination has.
fn misbehaving(plants: &str) -> (Station, Value, Value) {
    let setup = Setup::new();
    let (all, _) = list(setup.path());
    let list = only(&all, "CT_small.dcm");
    let received = setup.folder_of("received");
    let both = format!("{JPEG_LS}+{EXPLICIT}");
    let (ports, serving) = peers(&received, &list, &[("jpegls", JPEG_LS), ("both", &both)]);
    let mut setup = setup
        .rules(r#"fn route(image, from) { to("jpegls"); to("both"); to("keep"); }"#)
        .folder("keep")
        .toml("[transcode]\ndeadline = \"3s\"\nmemory = \"512MiB\"\n")
        .archive("jpegls", ports[0], "")
        .archive("both", ports[1], "compress = \"jpeg-ls\"");
    setup.plant(plants);
    let station = setup.start();
    send_list(&station, &list);
    station.wait_drained(Duration::from_secs(60));
    let more = Object::many(objects::MR, 2);
    send(station.setup.dicom, station.setup.path(), &more);
    wait_until("the folder has all", SOON, || station.folder("keep").len() == 3);
    let reports = ["jpegls", "both"].map(|name| compare(&list, &received.join(name)));
    drop(serving);
    let [only, both] = reports;
    (station, only, both)
}

#[track_caller]
fn contained(plants: &str, ending: &str) {
    let (station, only, both) = misbehaving(plants);
    assert_eq!(only["received"], 0, "nothing that a codec could not make right is sent");
    let held = station.jobs(&["--state", "held", "--kind", "conversion"]);
    assert_eq!(held.len(), 1, "{held:?}");
    let reason = held[0]["reason"].as_str().expect("a reason");
    assert!(reason.contains("JPEG-LS Lossless"), "{reason}");
    assert_eq!(
        (&both["exact"], &both["wrong"]),
        (&json!(1), &json!({})),
        "as it is stored: {both}"
    );
    assert!(station.metric("conversions_total", &[("destination", "jpegls"), ("kind", "compress")]) >= 1.0);
    match ending {
        "not_identical" => assert!(station.metric("conversions_total", &[("outcome", ending)]) >= 1.0),
        _ => assert!(station.metric("transcode_worker_failures_total", &[("ending", ending)]) >= 1.0),
    }
}

#[test]
fn a_codec_that_crashes_is_its_own_trouble() {
    contained("worker-crash", "crashed");
}

#[test]
fn a_codec_that_never_ends_is_killed() {
    contained("worker-hang", "deadline");
}

#[test]
fn a_codec_that_eats_memory_meets_its_limit() {
    contained("worker-hungry", "memory");
}

#[test]
fn a_codec_that_writes_something_else_is_found_out() {
    contained("worker-garbage", "not_identical");
}

/// The control of the test above: without the second process's look, the garbage would have left.
#[test]
fn without_the_second_look_garbage_would_leave() {
    let (_station, only, _) = misbehaving("worker-garbage,believe-worker");
    assert_eq!(only["received"], 1, "{only}");
    assert_ne!(only["wrong"], json!({}), "{only}");
}

/// Below the low-water mark no codec is started. What its destination takes as it is stored leaves so, whole; what must be converted waits,
/// costs nothing, and fills the full disk with nothing.
#[test]
fn without_room_to_convert_images_leave_as_they_are_or_wait() {
    let setup = Setup::new();
    let (all, _) = list(setup.path());
    let list = only(&all, "CT_small.dcm");
    let received = setup.folder_of("received");
    let both = format!("{JPEG_LS}+{EXPLICIT}");
    let (ports, _serving) = peers(&received, &list, &[("jpegls", JPEG_LS), ("both", &both)]);
    let mut station = setup
        .rules(r#"fn route(image, from) { to("jpegls"); to("both"); }"#)
        .archive("jpegls", ports[0], "retry = { first = \"200ms\", max = \"10m\" }")
        .archive("both", ports[1], "compress = \"jpeg-ls\"")
        .start();
    for name in ["jpegls", "both"] {
        station.cli(&["queue", "suspend", name]).ok();
    }
    send_list(&station, &list);
    station.restart_below_low_water();
    for name in ["jpegls", "both"] {
        station.cli(&["queue", "resume", name]).ok();
    }
    station.wait_metric(
        "deliveries_total",
        &[("destination", "both"), ("outcome", "confirmed")],
        |n| n == 1.0,
    );
    let report = compare(&list, &received.join("both"));
    assert_eq!(
        (&report["exact"], &report["wrong"]),
        (&json!(1), &json!({})),
        "{report}"
    );
    let unready = [("destination", "jpegls"), ("outcome", "unready")];
    station.wait_metric("deliveries_total", &unready, |n| n >= 1.0);
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(
        station.metric("deliveries_total", &unready),
        1.0,
        "not again every second"
    );
    let lines = station
        .cli(&["ledger", "ls", "--kind", "attempt", "--json"])
        .ok()
        .json();
    assert_eq!(lines["lines"].as_array().map(Vec::len), Some(1), "{lines}");
    let waiting = station.jobs(&[]);
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    let (state, why) = (&waiting[0]["state"], waiting[0]["outcome"].as_str().unwrap_or_default());
    assert!(state == "queued" && why.contains("no room"), "{waiting:?}");
    let lanes = station.cli(&["lanes"]).ok().out;
    assert!(lanes.contains("no room"), "{lanes}");
    assert_eq!(station.metric("spool_damaged", &[]), 0.0);

    station.make_room();
    station.restart();
    station.cli(&["queue", "retry", "--destination", "jpegls"]).ok();
    station.wait_drained(SOON);
    let report = compare(&list, &received.join("jpegls"));
    assert_eq!(
        (&report["received"], &report["wrong"]),
        (&json!(1), &json!({})),
        "{report}"
    );
}

#[test]
fn images_are_compressed_for_a_thin_line_and_dcmtk_reads_what_they_became() {
    let setup = Setup::new();
    let (all, _) = list(setup.path());
    let list = only(&all, "CT_small.dcm");
    let names = ["jpegls", "rle", "implicit"];
    let folders = names.map(|name| setup.folder_of(name));
    let scps = [
        Storescp::start(&folders[0], &[]),
        Storescp::start(&folders[1], &[]),
        Storescp::start(&folders[2], &["+xi"]),
    ];
    let mut setup = setup.rules(r#"fn route(image, from) { to("jpegls"); to("rle"); to("implicit"); }"#);
    for ((name, scp), more) in names
        .iter()
        .zip(&scps)
        .zip(["compress = \"jpeg-ls\"", "compress = \"rle\"", ""])
    {
        setup = setup.archive(name, scp.port, more);
    }
    let station = setup.start();
    send_list(&station, &list);
    station.wait_metric("deliveries_total", &[("outcome", "confirmed")], |n| n == 3.0);
    for ((folder, syntax), decoder) in folders
        .iter()
        .zip([JPEG_LS, RLE, IMPLICIT])
        .zip(["dcmdjpls", "dcmdrle", "dcmconv"])
    {
        let report = compare(&list, folder);
        assert_eq!((&report["wrong"], &report["same"]), (&json!({}), &json!(1)), "{report}");
        assert!(report["syntaxes"].get(syntax).is_some(), "{report}");
        let decoded = station.setup.folder_of(decoder);
        std::fs::create_dir_all(&decoded).expect("writable");
        let file = objects::files_in(folder).remove(0);
        let mut arguments = vec![path(&file), path(&decoded.join("decoded"))];
        if decoder == "dcmconv" {
            arguments.insert(0, "+te".to_owned());
        }
        tools::tool(decoder, &arguments).ok();
        let report = compare(&list, &decoded);
        assert_eq!(
            (&report["wrong"], &report["missing"]),
            (&json!({}), &json!([])),
            "{decoder}: {report}"
        );
    }
    assert!(station.metric("conversion_saved_bytes_total", &[("destination", "jpegls")]) > 5_000.0);
    assert_eq!(
        station.metric("conversions_total", &[("destination", "implicit"), ("kind", "layout")]),
        1.0
    );
}

#[test]
fn probe_says_before_go_live_what_would_be_refused_and_what_was_learned_stays() {
    let setup = Setup::new();
    let (all, _) = list(setup.path());
    let ct = only(&all, "CT_small.dcm");
    let lossy = only(&all, "SC_rgb_jpeg_dcmtk.dcm");
    let received = setup.folder_of("received");
    let (ports, serving) = peers(&received, &all, &[("strict", IMPLICIT)]);
    let mut station = setup
        .rules(r#"fn route(image, from) { to("strict"); }"#)
        .archive("strict", ports[0], "")
        .start();
    send_list(&station, &ct);
    station.wait_metric("deliveries_total", &[("outcome", "confirmed")], |n| n == 1.0);
    let probed = station.cli(&["probe", "strict", "--json"]);
    assert_eq!(probed.code, Some(0), "{}{}", probed.out, probed.err);
    let findings = probed.json()["findings"].clone();
    let seen: Vec<&Value> = findings
        .as_array()
        .expect("findings")
        .iter()
        .filter(|f| f["matters"] == true)
        .collect();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0]["consequence"], json!({"then": "converted", "to": IMPLICIT}));

    send_list(&station, &lossy);
    station.wait_drained(SOON);
    let probed = station.cli(&["probe", "strict"]);
    assert_eq!(probed.code, Some(1), "what was seen would be refused: {}", probed.out);
    assert!(
        probed.out.contains("would be held") && probed.out.contains("JPEG Baseline"),
        "{}",
        probed.out
    );
    let named = station.cli(&["probe", "strict", "--classes", "CT"]);
    assert_eq!(named.code, Some(0), "{}", named.out);
    assert!(
        named.out.contains(" asked ") && named.out.contains("takes everything that was asked about"),
        "{}",
        named.out
    );

    // The file is not written for an answer that only repeats another one: the times in it are earlier.
    let known = |station: &Station| -> Vec<(Value, Value, Value)> {
        let lines = station.cli(&["probe", "strict", "--known", "--json"]).ok().json()["lines"].clone();
        let line = |line: &Value| (line["class"].clone(), line["syntax"].clone(), line["result"].clone());
        lines.as_array().expect("lines").iter().map(line).collect()
    };
    let before = known(&station);
    assert!(before.len() > 5, "{before:?}");
    station.terminate();
    assert_eq!(known(&station), before, "read from its file");
    let alone = station.cli(&["probe", "strict"]);
    assert_eq!(
        alone.code,
        Some(1),
        "the same without a box: {}{}",
        alone.out,
        alone.err
    );
    // What waits in the spool was seen, also where the file of what was seen is gone.
    std::fs::remove_file(station.setup.folder_of("syntaxes.json")).expect("it was kept");
    let alone = station.cli(&["probe", "strict"]);
    assert_eq!(alone.code, Some(1), "by the spool alone: {}{}", alone.out, alone.err);
    assert!(alone.out.contains("of what this site sends"), "{}", alone.out);
    drop(serving);
    let gone = station.cli(&["probe", "strict"]);
    assert_eq!(gone.code, Some(1));
    assert!(gone.err.contains("could not be asked"), "{}", gone.err);
}

#[test]
fn what_a_person_allows_is_unpacked_and_lossy_pixels_are_never_packed_again() {
    let setup = Setup::new();
    let (all, _) = list(setup.path());
    let lossy = only(&all, "SC_rgb_jpeg_dcmtk.dcm");
    let received = setup.folder_of("received");
    let (ports, _serving) = peers(&received, &lossy, &[("plain", EXPLICIT), ("packed", JPEG_LS)]);
    let station = setup
        .rules(r#"fn route(image, from) { to("plain"); to("packed"); }"#)
        .archive("plain", ports[0], "decompress_lossy = true")
        .archive("packed", ports[1], "decompress_lossy = true\ncompress = \"jpeg-ls\"")
        .start();
    send_list(&station, &lossy);
    station.wait_drained(SOON);
    let report = compare(&lossy, &received.join("plain"));
    assert_eq!(report["received"], 1, "{report}");
    // Two decoders of lossy JPEG may round differently; that the attributes stay and the shape is right is compared.
    let wrong = report["wrong"].to_string();
    assert!(wrong == "{}" || wrong.contains("pixels differ"), "{report}");
    let arguments = ["distances".to_owned(), lossy.clone(), path(&received.join("plain"))];
    let far = tools::python_json("syntaxes.py", &arguments)["SC_rgb_jpeg_dcmtk.dcm"].clone();
    assert!(far.as_u64().is_some_and(|far| far <= 3), "{far}");
    let held = station.jobs(&["--state", "held", "--destination", "packed"]);
    assert_eq!((held.len(), &held[0]["hold_kind"]), (1, &json!("parked")));
}

#[test]
fn a_thin_line_to_orthanc() {
    let setup = Setup::new();
    let (all, _) = list(setup.path());
    let list = only(&all, "CT_small.dcm");
    let orthanc = Orthanc::start(&setup.folder_of("orthanc"));
    let station = setup
        .rules(r#"fn route(image, from) { to("orthanc"); }"#)
        .archive("orthanc", orthanc.dicom, "compress = \"jpeg-2000\"")
        .start();
    send_list(&station, &list);
    station.wait_metric("deliveries_total", &[("outcome", "confirmed")], |n| n == 1.0);
    let file = orthanc.file(&orthanc.instances()[0]);
    let folder = station.setup.folder_of("from-orthanc");
    std::fs::create_dir_all(&folder).expect("writable");
    std::fs::write(folder.join("one.dcm"), file).expect("writable");
    let report = compare(&list, &folder);
    assert_eq!((&report["same"], &report["wrong"]), (&json!(1), &json!({})), "{report}");
    assert!(report["syntaxes"].get(JPEG_2000).is_some(), "{report}");
}
