//! The tools that the benches run in: `tools/disk`, where the machine's own disk is a thin one, and `tools/swept`, which leaves nothing behind.
use crate::harness::tools::{Ran, run};
use crate::image;
use std::path::Path;
use std::time::Duration;

/// A shell's script below a tool, its words and a folder for temporary files.
fn below(tool: &str, words: &[&str], folder: &Path, script: &str) -> Ran {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools").join(tool);
    let folder = format!("TMPDIR={}", folder.display());
    let arguments = [&[&folder, tool.to_str().expect("a path")], words, &["sh", "-c", script]].concat();
    let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
    run(Path::new("/usr/bin/env"), &arguments, Duration::from_secs(120))
}

fn disk(folder: &Path, kind: &str, gib: &str, script: &str) -> Ran {
    below("disk", &[kind, gib], folder, script)
}

#[test]
fn what_a_command_leaves_is_swept_whatever_its_end() {
    let folder = tempfile::tempdir().expect("a folder");
    for (end, code) in [("true", 0), ("exit 3", 3), ("kill -9 $$", 137)] {
        let script = format!("echo left > \"$TMPDIR/file\"; ls \"$TMPDIR\"; {end}");
        let ran = below("swept", &[], folder.path(), &script);
        assert_eq!((ran.code, ran.out.trim()), (Some(code), "file"), "{ran:?}");
        assert_eq!(folder.path().read_dir().expect("the folder").count(), 0, "{end}");
    }
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
