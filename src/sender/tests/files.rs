//! Facts about destination folders.
use super::*;
use crate::base::names::DestinationId;
use crate::dicom::part10::FileMeta;
use crate::sender::folder::Shelf;
use crate::sender::transport::Progress;
use crate::sender::{Config, DownKind, Outcome};
use std::path::{Path, PathBuf};

fn shelf(root: &Path, template: &str) -> Shelf {
    let text = format!(
        "kind = \"folder\"\nname = \"out\"\npath = {:?}\ntemplate = \"{template}\"\n",
        root.display().to_string()
    );
    let Config::Folder(folder) = toml::from_str(&text).unwrap() else {
        panic!("not a folder")
    };
    assert_eq!(folder.name, DestinationId::parse("out").unwrap());
    Shelf::new(&folder).unwrap()
}

fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

const STUDY: &str = "{StudyInstanceUID}/{SeriesInstanceUID}/{SOPInstanceUID}.dcm";

#[tokio::test]
async fn a_file_is_part_10_with_the_data_set_untouched() {
    let root = tempfile::tempdir().unwrap();
    let deep = root.path().join("deep/er");
    let shelf = shelf(&deep, STUDY).housed(root.path());
    let bytes = data_set("1.2.3.1", 700_000);
    let outcome = shelf.store(&job(1), Memory::new(&bytes, 1000), &Progress::new()).await;
    assert_eq!(outcome, Outcome::Confirmed { status: 0 });
    let expected = root.path().join("deep/er/1.2.9/1.2.9.1/1.2.3.1.dcm");
    let file = std::fs::read(&expected).unwrap();
    assert_eq!(files(&deep), [expected]);
    let (meta, at) = FileMeta::read(&file).unwrap();
    assert!(file[at..] == bytes);
    assert_eq!(meta.source_ae, Some(AeTitle::parse("MODALITY").unwrap()));
    assert_eq!(
        (meta.sop_instance, meta.transfer_syntax),
        (uid("1.2.3.1"), uid(EXPLICIT))
    );
}

#[tokio::test]
async fn the_same_content_is_there_once_and_other_content_beside_it() {
    let root = tempfile::tempdir().unwrap();
    let shelf = shelf(root.path(), "{SOPInstanceUID}.dcm");
    for pixels in [10, 10, 20, 20, 30] {
        let bytes = data_set("1.2.3.1", pixels);
        let outcome = shelf.store(&job(1), Memory::new(&bytes, 64), &Progress::new()).await;
        assert_eq!(outcome, Outcome::Confirmed { status: 0 });
    }
    let names: Vec<_> = files(root.path())
        .into_iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["1.2.3.1.dcm", "1.2.3.1_1.dcm", "1.2.3.1_2.dcm"]);
}

#[tokio::test]
async fn a_failed_or_cancelled_write_leaves_no_file() {
    let root = tempfile::tempdir().unwrap();
    let shelf = shelf(root.path(), STUDY);
    let bytes = data_set("1.2.3.1", 500_000);
    let mut corrupt = Memory::new(&bytes, 1000);
    corrupt.corrupt = true;
    let outcome = shelf.store(&job(1), corrupt, &Progress::new()).await;
    assert!(matches!(outcome, Outcome::Corrupt { .. }), "{outcome:?}");
    let mut broken = Memory::new(&bytes, 1000);
    broken.unreadable = true;
    let outcome = shelf.store(&job(1), broken, &Progress::new()).await;
    assert!(matches!(outcome, Outcome::Corrupt { .. }), "{outcome:?}");
    assert_eq!(files(root.path()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn hostile_values_stay_inside_the_folder() {
    let outer = tempfile::tempdir().unwrap();
    let root = outer.path().join("in");
    let shelf = shelf(&root, "{SeriesInstanceUID}/{SOPInstanceUID}.dcm");
    let mut bytes = data_set("../../../escape.1", 10);
    let outcome = shelf.store(&job(1), Memory::new(&bytes, 64), &Progress::new()).await;
    assert_eq!(outcome, Outcome::Confirmed { status: 0 });
    bytes = data_set("..", 10);
    let outcome = shelf.store(&job(2), Memory::new(&bytes, 64), &Progress::new()).await;
    assert_eq!(outcome, Outcome::Confirmed { status: 0 });
    let found = files(outer.path());
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|path| path.starts_with(&root)), "{found:?}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_the_lanes_trouble() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    std::fs::write(&file, b"x").unwrap();
    let shelf = shelf(&file.join("below"), STUDY);
    assert_eq!(shelf.probe().await.unwrap_err().kind, DownKind::Storage);
    let fine = self::shelf(&root.path().join("new"), STUDY);
    fine.probe().await.unwrap();
    assert_eq!(files(&root.path().join("new")), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn more_files_of_one_name_than_numbers_are_said_to_be_that() {
    let root = tempfile::tempdir().unwrap();
    let shelf = shelf(root.path(), "image.dcm");
    std::fs::write(root.path().join("image.dcm"), b"x").unwrap();
    for number in 1..=1_000 {
        std::fs::write(root.path().join(format!("image_{number}.dcm")), b"x").unwrap();
    }
    let bytes = data_set("1.2.3.1", 10);
    let Outcome::Refused { why } = shelf.store(&job(1), Memory::new(&bytes, 64), &Progress::new()).await else {
        panic!("there is no name left")
    };
    assert!(why.starts_with("1,001 files of its name"), "{why}");
    assert_eq!(files(root.path()).len(), 1_001);
}

/// Names that no file system takes, in place of folders and files that may not be written: for root there are none of those.
#[tokio::test]
async fn what_one_instance_s_name_leads_to_is_not_the_lanes_trouble() {
    let root = tempfile::tempdir().unwrap();
    let shelf = shelf(root.path(), STUDY);
    let loops = root.path().join("1.2.9");
    std::os::unix::fs::symlink(&loops, &loops).unwrap();
    let bytes = data_set("1.2.3.1", 10);
    let store = |bytes: Vec<u8>| {
        let shelf = &shelf;
        async move { shelf.store(&job(1), Memory::new(&bytes, 64), &Progress::new()).await }
    };
    assert!(matches!(store(bytes.clone()).await, Outcome::Refused { .. }));
    std::fs::remove_file(&loops).unwrap();
    std::fs::create_dir_all(loops.join("1.2.9.1")).unwrap();
    // A folder stands where the unfinished file is written to.
    let part = loops.join(format!("1.2.9.1/.waystation-{}-out.part", job(1).instance));
    std::fs::create_dir(&part).unwrap();
    let Outcome::Refused { why } = store(bytes.clone()).await else {
        panic!("not of this instance")
    };
    assert!(
        why.contains("although the folder takes others: Is a directory"),
        "{why}"
    );
    assert!(!why.contains("1.2"), "{why}");
    assert_eq!(files(root.path()), Vec::<PathBuf>::new(), "no trial stays");
    std::fs::remove_dir(&part).unwrap();
    assert_eq!(store(bytes).await, Outcome::Confirmed { status: 0 });
}

#[tokio::test]
async fn where_files_went_before_no_folder_is_made_again() {
    let (root, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let out = root.path().join("nas/out");
    let shelf = shelf(&out, "{SOPInstanceUID}.dcm").housed(state.path());
    let bytes = data_set("1.2.3.1", 10);
    let send = |number| {
        let (shelf, bytes) = (&shelf, &bytes);
        async move {
            shelf
                .store(&job(number), Memory::new(bytes, 64), &Progress::new())
                .await
        }
    };
    assert!(matches!(send(1).await, Outcome::Down(_)), "its parent is missing");
    assert!(!root.path().join("nas").exists());
    std::fs::create_dir(root.path().join("nas")).unwrap();
    assert_eq!(send(1).await, Outcome::Confirmed { status: 0 });
    std::fs::remove_dir_all(root.path().join("nas")).unwrap();
    for _ in 0..2 {
        let Outcome::Down(down) = send(2).await else {
            panic!("delivered")
        };
        assert!(down.reason.contains("is gone"), "{down}");
        assert_eq!(shelf.probe().await.unwrap_err().kind, DownKind::Storage);
        assert!(!root.path().join("nas").exists(), "{down}");
        std::fs::create_dir_all(root.path().join("nas")).unwrap();
        assert!(
            matches!(send(2).await, Outcome::Down(_)),
            "the mount point is there, the disk is not"
        );
        std::fs::remove_dir_all(root.path().join("nas")).unwrap();
    }
    std::fs::create_dir_all(&out).unwrap();
    assert_eq!(send(2).await, Outcome::Confirmed { status: 0 });
}

#[tokio::test]
async fn what_a_crash_left_is_written_over_though_its_job_has_another_number() {
    let root = tempfile::tempdir().unwrap();
    let shelf = shelf(root.path(), "{SOPInstanceUID}.dcm");
    let mut job = job(1);
    let left = root.path().join(format!(".waystation-{}-out.part", job.instance));
    std::fs::write(&left, b"half").unwrap();
    job.id = JobId(77);
    let bytes = data_set("1.2.3.1", 10);
    let outcome = shelf.store(&job, Memory::new(&bytes, 64), &Progress::new()).await;
    assert_eq!(outcome, Outcome::Confirmed { status: 0 });
    assert_eq!(files(root.path()), [root.path().join("1.2.3.1.dcm")]);
}
