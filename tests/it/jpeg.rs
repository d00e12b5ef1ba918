//! JPEG and JPEG-LS as others write them: every sample as DCMTK decodes it, and what is damaged or lossy against its syntax held.
use crate::harness::peers::path;
use crate::harness::{SOON, Setup, tools};
use crate::syntaxes::{EXPLICIT, peers, send_list};

#[test]
fn every_jpeg_is_unpacked_as_dcmtk_unpacks_it_or_held() {
    let setup = Setup::new();
    let list = path(&setup.path().join("jpegs.json"));
    tools::python_json("syntaxes.py", &["jpegs", &list]);
    let received = setup.folder_of("received");
    let (ports, _serving) = peers(&received, &list, &[("plain", EXPLICIT)]);
    let station = setup
        .rules(r#"fn route(image, from) { to("plain"); }"#)
        .archive("plain", ports[0], "decompress_lossy = true")
        .start();
    send_list(&station, &list);
    station.wait_drained(SOON);
    let found = tools::python_json("syntaxes.py", &["distances", &list, &path(&received.join("plain"))]);
    // A lossy decoder rounds as it likes, and stretches colour as it likes; a lossless one has no choice.
    let most = [
        ("lossless.dcm", 0),
        ("predictor-7.dcm", 0),
        ("transform.dcm", 0),
        ("lossless-colour.dcm", 0),
        ("near.dcm", 0),
        ("baseline-444.dcm", 3),
        ("baseline-422.dcm", 3),
        ("baseline-rgb.dcm", 3),
    ];
    for (name, most) in most {
        assert!(
            found[name].as_u64().is_some_and(|found| found <= most),
            "{name}: {found}"
        );
    }
    // Twelve lossy bits are beyond the decoder.
    let wrong = [
        "half.dcm",
        "baseline-as-lossless.dcm",
        "near-as-lossless.dcm",
        "extended.dcm",
    ];
    for name in wrong {
        assert_eq!(found[name], "it did not arrive", "{name}");
    }
    let held = station.jobs(&["--state", "held"]);
    assert_eq!(held.len(), wrong.len(), "{held:?}");
    assert!(held.iter().all(|job| job["hold_kind"] == "conversion"), "{held:?}");
    let deep = |job: &serde_json::Value| {
        job["reason"]
            .as_str()
            .is_some_and(|why| why.contains("from 12 bits a sample"))
    };
    assert_eq!(held.iter().filter(|job| deep(job)).count(), 1, "{held:?}");
}
