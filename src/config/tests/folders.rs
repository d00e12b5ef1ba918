//! Destination folders: what is wrong with one is said, and keeps the box from nothing else.
use super::{RIGHT, Site, assert_says};
use crate::config::Severity;

#[test]
fn a_box_starts_though_the_disk_of_one_destination_is_away() {
    let site = Site::new();
    let text = RIGHT.replace("STATE/var/cad", "/nonexistent/nas/dicom");
    assert_says(
        &site.lines(&text),
        "warning: destinations[1].path: the folder /nonexistent/nas does not exist: make it, or mount its disk; until then nothing is \
         delivered there",
    );
    let report = site.report(&text);
    assert!(report.config.is_some(), "{:?}", report.problems);
    assert!(report.problems.iter().all(|it| it.severity == Severity::Warning));
}
