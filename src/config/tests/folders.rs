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

/// The box noted where its files went; the folder stands below the disk now, which is not mounted.
#[test]
fn a_mount_point_without_its_disk_is_no_good_folder() {
    let site = Site::new();
    for folder in ["var", "nas"] {
        std::fs::create_dir(site.path(folder)).unwrap();
    }
    let text = RIGHT.replace("STATE/var/cad", "STATE/nas");
    assert_eq!(site.lines(&text), Vec::<String>::new());
    let nas = site.path("nas").display().to_string();
    site.write("var/folder-was-at-cad", &format!("{nas}\n{nas}"));
    assert_says(
        &site.lines(&text),
        "warning: destinations[1].path: nas lay on the disk mounted at nas",
    );
    std::fs::remove_dir(site.path("nas")).unwrap();
    assert_says(
        &site.lines(&text),
        "warning: destinations[1].path: the folder nas is gone",
    );
}

#[test]
fn a_template_that_gives_many_images_one_name_is_warned_of() {
    let site = Site::new();
    let text = RIGHT.replace(
        "path = \"STATE/var/cad\"",
        "path = \"STATE/var/cad\"\ntemplate = \"{StudyInstanceUID}/{Modality}.dcm\"",
    );
    assert_says(
        &site.lines(&text),
        "warning: destinations[1].template: gives all images of a series one name",
    );
    assert!(site.report(&text).config.is_some());
    assert_eq!(site.lines(RIGHT), Vec::<String>::new());
}
