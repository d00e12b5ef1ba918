//! `tools/disk`, on which the benches run where the machine's own disk is a thin one.
use crate::harness::tools::{Ran, run};
use crate::image;
use std::path::Path;
use std::time::Duration;

fn disk(folder: &Path, kind: &str, gib: &str, script: &str) -> Ran {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/disk");
    let folder = format!("TMPDIR={}", folder.display());
    let tool = tool.to_str().expect("a path");
    let arguments = [&folder, tool, kind, gib, "sh", "-c", script].map(str::to_owned);
    run(Path::new("/usr/bin/env"), &arguments, Duration::from_secs(120))
}

#[test]
fn a_command_gets_a_disk_of_its_own_and_nothing_of_it_is_left_whatever_its_end() {
    let folder = tempfile::tempdir().expect("a folder");
    for (kind, gib) in [("zfs", "1"), ("ext4", "0"), ("ext4", "much")] {
        let refused = disk(folder.path(), kind, gib, "true");
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.err.starts_with("tools/disk: "), "{refused:?}");
    }
    if let Err(why) = image::possible() {
        eprintln!("not tried: {why}");
        return;
    }
    for (kind, named) in [("ext4-nojournal", "ext4"), ("xfs", "xfs")] {
        let script = "findmnt -no FSTYPE,SOURCE -T \"$TMPDIR\"; echo kept > \"$TMPDIR/file\"; exit 3";
        let ran = disk(folder.path(), kind, "1", script);
        assert_eq!(ran.code, Some(3), "{ran:?}");
        let words: Vec<&str> = ran.out.split_whitespace().collect();
        assert_eq!(words[0], named, "{ran:?}");
        let left = run(
            Path::new("/usr/bin/findmnt"),
            &["-S".to_owned(), words[1].to_owned()],
            Duration::from_secs(10),
        );
        assert_ne!(left.code, Some(0), "still mounted: {left:?}");
    }
    assert_eq!(folder.path().read_dir().expect("the folder").count(), 0);
}
