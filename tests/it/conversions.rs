//! Conversions by default, from outside: every acceptance mode of DCMTK's storescp, several operations in flight, the ledger.
use crate::harness::objects::Object;
use crate::harness::peers::{Storescp, path, send};
use crate::harness::{SOON, Setup, Station, free_port, objects, tools};
use crate::syntaxes::{EXPLICIT, IMPLICIT, JPEG_LS, compare, compare_again, list, only, peers, send_list, some};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What storescp of Debian can be told to take (`storescp --help`, "preferred network transfer syntaxes").
const MODES: [&str; 23] = [
    "+x=", "+xe", "+xb", "+xs", "+xy", "+xx", "+xv", "+xw", "+xt", "+xu", "+xm", "+xh", "+xn", "+xl", "+x2", "+x3",
    "+xo", "+x4", "+x5", "+xr", "+xd", "+xi", "+xa",
];

/// Small ones of every kind: uncompressed in three layouts, the four lossless codings, four lossy ones, and without pixels.
const MIXED: [&str; 15] = [
    "CT_small.dcm",
    "SC_rgb_jpeg_dcmd.dcm",
    "ExplVR_BigEnd.dcm",
    "SC_rgb_small_odd_big_endian.dcm",
    "SC_rgb_jpeg_gdcm.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "GDCMJ2K_TextGBR.dcm",
    "rtdose_rle.dcm",
    "test-SR.dcm",
    "UN_sequence.dcm",
    "waveform_ecg.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "JPEG-lossy.dcm",
    "JPEGLSNearLossless_08.dcm",
    "693_J2KI.dcm",
];

/// JPEG Baseline and Extended, JPEG-LS Near-lossless, JPEG 2000.
const LOSSY: [&str; 4] = [
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.91",
];

fn entries(list: &str) -> Vec<Value> {
    serde_json::from_str(&std::fs::read_to_string(list).expect("the list")).expect("JSON")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Everything lossless arrives at every receiver, whatever it takes: as it is where it takes that, byte for byte, else with the
/// same pixels in something that it takes. Lossy images arrive as they are, or are held with a reason.
#[test]
fn every_mode_of_storescp_gets_all_that_it_can_take() {
    let setup = Setup::new();
    let (all, _) = list(setup.path());
    let list = some(&all, &MIXED);
    let received = setup.folder_of("received");
    let names: Vec<String> = (0..MODES.len()).map(|at| format!("mode{at}")).collect();
    let mut setup = setup;
    let mut scps = Vec::new();
    let mut rules = String::new();
    for (name, mode) in names.iter().zip(MODES) {
        let scp = Storescp::start(&received.join(name), &[mode]);
        setup = setup.archive(name, scp.port, "");
        rules.push_str(&format!("to(\"{name}\"); "));
        scps.push(scp);
    }
    let station = setup.rules(&format!("fn route(image, from) {{ {rules} }}")).start();
    let accepted = accepted_by(&scps);
    send_list(&station, &list);
    station.wait_drained(Duration::from_secs(120));

    let mut arguments = vec!["compares".to_owned(), list.clone(), path(&received)];
    arguments.extend(names.clone());
    let reports = tools::python_json("syntaxes.py", &arguments);
    let held = station.jobs(&["--state", "held", "--limit", "10000"]);
    for ((name, mode), accepted) in names.iter().zip(MODES).zip(&accepted) {
        let report = &reports[name];
        assert_eq!(report["wrong"], json!({}), "{mode}");
        let strange: Vec<&String> = report["syntaxes"]
            .as_object()
            .expect("a table")
            .keys()
            .filter(|syntax| !accepted.contains(*syntax))
            .collect();
        assert_eq!(strange, Vec::<&String>::new(), "{mode}");
        let as_it_is = |one: &&Value| accepted.contains(&text(&one["syntax"]));
        let files = entries(&list);
        let exact = files.iter().filter(as_it_is).count();
        assert_eq!(
            report["exact"],
            json!(exact),
            "{mode}: what is accepted is not converted: {report}"
        );
        let can_go = |one: &&Value| as_it_is(one) || !LOSSY.contains(&text(&one["syntax"]).as_str());
        let wanted: BTreeSet<String> = files.iter().filter(can_go).map(|one| text(&one["sop"])).collect();
        let arrived: BTreeSet<String> = report["arrived"].as_array().expect("a list").iter().map(text).collect();
        assert_eq!(arrived, wanted, "{mode}: {held:?}");
        let here: Vec<&Value> = held.iter().filter(|job| job["destination"] == json!(name)).collect();
        assert_eq!(here.len(), files.len() - wanted.len(), "{mode}: the others are held");
        for job in here {
            assert_eq!(job["hold_kind"], "parked", "{job}");
            assert!(text(&job["reason"]).contains("transfer syntax"), "{job}");
        }
    }
    assert_eq!(
        station.metric("conversions_total", &[("outcome", "not_identical")]),
        0.0
    );
    assert_eq!(station.metric("transcode_worker_failures_total", &[]), 0.0);
    shown_by_lanes(&station, &accepted);
}

/// What each accepts of CT and Secondary Capture, asked from outside.
fn accepted_by(scps: &[Storescp]) -> Vec<BTreeSet<String>> {
    let mut arguments = vec!["accepted".to_owned(), objects::CT.to_owned()];
    arguments.extend(scps.iter().map(|scp| scp.port.to_string()));
    let asked = tools::python_json("syntaxes.py", &arguments);
    scps.iter()
        .map(|scp| {
            asked[scp.port.to_string()]
                .as_array()
                .expect("a list")
                .iter()
                .map(text)
                .collect()
        })
        .collect()
}

/// The learned matrix says what was asked from outside.
fn shown_by_lanes(station: &Station, accepted: &[BTreeSet<String>]) {
    let lanes = station.cli(&["lanes", "--json"]).ok().json()["lanes"].clone();
    let lanes = lanes.as_array().expect("lanes");
    assert_eq!(lanes.len(), accepted.len());
    for (lane, accepted) in lanes.iter().zip(accepted) {
        assert!(
            lane["wanted"].as_u64().is_some() && lane["associations"].as_u64().is_some(),
            "{lane}"
        );
        let learned = lane["learned"].as_array().expect("a matrix");
        let of_ct: BTreeMap<String, bool> = learned
            .iter()
            .filter(|cell| cell["class"] == objects::CT)
            .map(|cell| (text(&cell["syntax"]), cell["result"] == 0))
            .collect();
        assert!(of_ct.len() >= 3, "{lane}");
        for (syntax, is_accepted) in of_ct {
            assert_eq!(is_accepted, accepted.contains(&syntax), "{syntax}: {lane}");
        }
        for cell in learned {
            assert!(text(&cell["until"]) > text(&cell["learned"]), "{cell}");
        }
    }
    let shown = station.cli(&["lanes"]).ok().out;
    for word in [
        "wanted",
        "accepts",
        "refuses",
        "counts until 20",
        "Explicit VR Little Endian",
    ] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
}

/// An archive of the other side of a thin line that takes JPEG-LS, or plain explicit: images come compressed, everything else as it
/// is; DCMTK's own decoder makes the stored pixels of them.
#[test]
fn a_thin_line_carries_jpeg_ls_to_a_receiver_that_prefers_it() {
    let setup = Setup::new();
    let (all, _) = list(setup.path());
    let images = [
        "CT_small.dcm",
        "examples_rgb_color.dcm",
        "examples_overlay.dcm",
        "ExplVR_BigEnd.dcm",
    ];
    let mut names: Vec<&str> = images.into();
    names.extend(["test-SR.dcm", "MR_small_jpeg_ls_lossless.dcm"]);
    let list = some(&all, &names);
    let scp = Storescp::start(&setup.folder_of("thin"), &["+xt"]);
    let station = setup
        .rules(r#"fn route(image, from) { to("thin"); }"#)
        .archive("thin", scp.port, "compress = \"jpeg-ls\"")
        .start();
    send_list(&station, &list);
    station.wait_metric("deliveries_total", &[("outcome", "confirmed")], |n| {
        n == names.len() as f64
    });
    let report = compare(&list, &scp.folder);
    assert_eq!(report["wrong"], json!({}), "{report}");
    assert_eq!(report["syntaxes"], json!({JPEG_LS: 5, EXPLICIT: 1}), "{report}");
    assert_eq!(report["unseen"], json!([]));
    let decoded = station.setup.folder_of("decoded");
    std::fs::create_dir_all(&decoded).expect("writable");
    for (number, file) in objects::files_in(&scp.folder).iter().enumerate() {
        let target = decoded.join(format!("{number}.dcm"));
        tools::tool("dcmdjpls", &[path(file), path(&target)]).ok();
    }
    let report = compare_again(&list, &decoded);
    assert_eq!(
        (&report["wrong"], &report["missing"]),
        (&json!({}), &json!([])),
        "{report}"
    );
    assert_eq!(report["syntaxes"], json!({EXPLICIT: 6}), "{report}");
    assert!(station.metric("conversion_saved_bytes_total", &[("destination", "thin")]) > 100_000.0);
}

/// Conversions of every kind on associations with several operations in flight, answered in the reverse order; some of them break
/// with instances stored and not answered. Nothing is lost and nothing is wrong.
#[test]
fn conversions_and_several_operations_in_flight_go_together() {
    const WINDOW: u64 = 6;
    const CUTS: u64 = 3;
    let setup = Setup::new();
    let (all, _) = list(setup.path());
    // Many of pydicom's files are one series without pixels.
    let names: Vec<String> = entries(&all)
        .iter()
        .map(|one| text(&one["path"]).rsplit('/').next().expect("a name").to_owned())
        .filter(|name| !name.starts_with("IM0000"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (list, files) = (some(&all, &names), names.len() as u64);
    let (received, journal) = (setup.folder_of("received"), setup.folder_of("journal"));
    let port = free_port();
    let arguments = [
        port.to_string(),
        path(&received),
        path(&journal),
        WINDOW.to_string(),
        CUTS.to_string(),
        format!("{JPEG_LS}+{IMPLICIT}"),
    ];
    let _archive = tools::python_serving("windowed.py", &arguments);
    let station = setup
        .rules(r#"fn route(image, from) { to("vna"); }"#)
        .archive("vna", port, "compress = \"jpeg-ls\"\nwindow = 6\nassociations = 2")
        .start();
    send_list(&station, &list);
    station.wait_drained(Duration::from_secs(120));
    let report = compare(&list, &received);
    assert_eq!(report["wrong"], json!({}), "{report}");
    let held = station.jobs(&["--state", "held", "--limit", "10000"]);
    assert_eq!(report["received"].as_u64().expect("a count") + held.len() as u64, files);
    let lossy = entries(&list)
        .iter()
        .filter(|one| LOSSY.contains(&text(&one["syntax"]).as_str()))
        .count();
    assert!(held.iter().all(|job| job["hold_kind"] == "parked"), "{held:?}");
    assert_eq!(
        held.len(),
        lossy,
        "what has lost something already is not unpacked unasked"
    );
    let journal = std::fs::read_to_string(&journal).expect("a journal");
    let answers: Vec<Value> = journal
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let most = answers
        .iter()
        .map(|one| one["outstanding"].as_u64().expect("a count"))
        .max();
    assert_eq!(most, Some(WINDOW), "the window was used");
    assert_eq!(answers.iter().filter(|one| one["cut"] == true).count() as u64, CUTS);
    let mixed = answers.iter().any(|one| {
        let syntaxes: BTreeSet<String> = one["syntaxes"].as_array().expect("a list").iter().map(text).collect();
        syntaxes.len() == 2
    });
    assert!(mixed, "both syntaxes were in flight at once");
    for kind in ["layout", "compress", "decompress"] {
        assert!(
            station.metric("conversions_total", &[("kind", kind), ("outcome", "converted")]) > 1.0,
            "{kind}"
        );
    }
}

/// The ledger's line of a conversion: which syntaxes, and the hash of the pixels before and after, which anyone can compute.
#[test]
fn a_conversion_stands_on_the_ledger_with_its_pixels_before_and_after() {
    let setup = Setup::new();
    let (all, _) = list(setup.path());
    let list = only(&all, "CT_small.dcm");
    let received = setup.folder_of("received");
    let takes = [
        ("strict", JPEG_LS),
        ("open", EXPLICIT),
        ("implicit", IMPLICIT),
        ("big", "1.2.840.10008.1.2.2"),
        ("deflated", "1.2.840.10008.1.2.1.99"),
    ];
    let (ports, _serving) = peers(&received, &list, &takes);
    let mut setup = setup.rules(
        r#"fn route(image, from) { for name in ["strict", "open", "implicit", "big", "deflated"] { to(name); } }"#,
    );
    for ((name, _), port) in takes.iter().zip(ports) {
        setup = setup.archive(name, port, "");
    }
    let station = setup.start();
    send_list(&station, &list);
    station.wait_metric("deliveries_total", &[("outcome", "confirmed")], |n| n == 5.0);
    station.wait_drained(SOON);
    let sent = &entries(&list)[0];
    let traced = station.cli(&["trace", &text(&sent["sop"]), "--json"]).ok().json();
    let steps = traced["instances"][0]["steps"].as_array().expect("steps");
    let converted: Vec<&Value> = steps.iter().filter(|step| step["what"] == "converted").collect();
    assert_eq!(converted.len(), 1, "the other destination took it as it is: {traced}");
    assert_eq!(converted[0]["destination"], "strict", "{traced}");
    // The file ends with its pixels: 128 x 128 of 16 bits, little endian, and a padding element.
    let file = std::fs::read(text(&sent["path"])).expect("pydicom's file");
    let header = [&[0xE0, 0x7F, 0x10, 0x00][..], b"OW\0\0", &32_768_u32.to_le_bytes()].concat();
    let at = file.windows(12).position(|window| window == header).expect("pixels") + 12;
    let pixels = blake3::hash(&file[at..at + 32_768]).to_hex();
    let said = text(&converted[0]["text"]);
    for word in [
        format!("from {EXPLICIT} to {JPEG_LS}"),
        "1 frames".to_owned(),
        format!("before blake3:{pixels}"),
        format!("after blake3:{pixels}"),
    ] {
        assert!(said.contains(&word), "{word}: {said}");
    }
    // What goes in another layout, or deflated, says so where it was delivered.
    let delivered = |name: &str| {
        let found = |step: &&Value| step["what"] == "delivered" && step["destination"] == name;
        text(&steps.iter().find(found).expect("delivered")["text"])
    };
    assert_eq!(delivered("open"), "0000");
    let (name, jpeg_ls) = (" left as JPEG-LS Lossless", JPEG_LS);
    assert_eq!(delivered("strict"), format!("0000{name} ({jpeg_ls})"));
    for (name, syntax) in &takes[2..] {
        let said = delivered(name);
        for word in [
            format!("({syntax})"),
            format!("pixels before and after blake3:{pixels}"),
        ] {
            assert!(said.contains(&word), "{word}: {said}");
        }
    }
}

/// What does not become smaller leaves as it is stored: it was converted once, and nothing says that it had left so.
#[test]
fn a_conversion_that_does_not_leave_is_not_on_the_ledger() {
    let setup = Setup::new();
    let scp = Storescp::start(&setup.folder_of("thin"), &["+xt"]);
    let station = setup
        .rules(r#"fn route(image, from) { to("thin"); }"#)
        .archive("thin", scp.port, "compress = \"jpeg-ls\"")
        .start();
    // The second one finds what the first one's association has taught, and is converted ahead.
    for number in 1..=2 {
        let image = tiny();
        send(station.setup.dicom, station.setup.path(), std::slice::from_ref(&image));
        let wanted = f64::from(number);
        station.wait_metric("deliveries_total", &[("outcome", "confirmed")], |n| n == wanted);
        let traced = station.cli(&["trace", &image.sop]).ok().out;
        assert!(
            traced.contains("delivered") && !traced.contains("converted"),
            "{traced}"
        );
        let count = |outcome: &str| {
            let labels = [("kind", "compress"), ("outcome", outcome)];
            station.metric("conversions_total", &labels)
        };
        assert_eq!((count("larger"), count("converted")), (wanted, 0.0));
        let made = station.metric("conversion_seconds_count", &[("destination", "thin")]);
        assert_eq!(made, wanted, "once for each");
    }
    let arrived = objects::files_in(&scp.folder);
    assert_eq!(arrived.len(), 2);
    for file in arrived {
        let syntax = tools::tool("dcmdump", &["+P".into(), "0002,0010".into(), path(&file)])
            .ok()
            .out;
        assert!(syntax.contains("=LittleEndianExplicit"), "{syntax}");
    }
}

/// One row of two pixels: no codec makes it smaller.
fn tiny() -> Object {
    let image = Object::new(objects::CT);
    let mut data = image.data();
    let at = data
        .windows(4)
        .position(|tag| tag == [0x28, 0, 2, 0])
        .expect("its image");
    data.truncate(at);
    let mut put = |number: u16, vr: &[u8; 2], value: &[u8]| {
        data.extend_from_slice(&[0x28, 0]);
        data.extend_from_slice(&number.to_le_bytes());
        data.extend_from_slice(vr);
        data.extend_from_slice(&[u8::try_from(value.len()).expect("short"), 0]);
        data.extend_from_slice(value);
    };
    put(0x0002, b"US", &[1, 0]);
    put(0x0004, b"CS", b"MONOCHROME2 ");
    let numbers = [
        (0x0010, 1),
        (0x0011, 2),
        (0x0100, 8),
        (0x0101, 8),
        (0x0102, 7),
        (0x0103, 0),
    ];
    for (number, value) in numbers {
        put(number, b"US", &[value, 0]);
    }
    data.extend_from_slice(b"\xE0\x7F\x10\x00OB\0\0\x02\0\0\0\x11\xEE");
    image.with_data(data)
}

/// Before go-live nothing was ever sent to the archive: what went to a folder, and what waits for another that is down, was seen.
#[test]
fn probe_asks_about_what_lies_in_the_spool() {
    let setup = Setup::new();
    let (all, _) = list(setup.path());
    let (folded, waiting) = ("SC_rgb_jpeg_dcmtk.dcm", "MR_small_jpeg_ls_lossless.dcm");
    let scp = Storescp::start(&setup.folder_of("vna"), &["+xi"]);
    let rules = r#"fn route(image, from) { if image.Modality == "MR" { to("absent"); } else { to("keep"); } }"#;
    let station = setup
        .rules(rules)
        .folder("keep")
        .archive("absent", free_port(), "")
        .archive("vna", scp.port, "")
        .start();
    let probed = station.cli(&["probe", "vna"]);
    assert_eq!(probed.code, Some(0), "nothing was seen yet: {}", probed.out);
    assert!(probed.out.contains("nothing was seen here yet"), "{}", probed.out);
    assert!(!probed.out.contains(" yes "), "{}", probed.out);
    send_list(&station, &some(&all, &[folded, waiting]));
    station.wait_metric("deliveries_total", &[("outcome", "confirmed")], |n| n == 1.0);
    let probed = station.cli(&["probe", "vna", "--json"]);
    assert_eq!(probed.code, Some(1), "one of them would be held: {}", probed.out);
    let answer: serde_json::Value = serde_json::from_str(&probed.out).expect("JSON");
    let findings = answer["findings"].clone();
    let seen = findings
        .as_array()
        .expect("findings")
        .iter()
        .filter(|one| one["matters"] == true);
    let seen: BTreeMap<String, String> = seen
        .map(|one| (text(&one["stored"]), text(&one["consequence"]["then"])))
        .collect();
    let wanted = [(LOSSY[0], "held"), (JPEG_LS, "converted")];
    assert_eq!(
        seen,
        wanted.map(|(syntax, then)| (syntax.to_owned(), then.to_owned())).into()
    );
}
