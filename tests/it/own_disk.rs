//! The tools that the benches run in: `tools/disk`, where the machine's own disk is a thin one, and `tools/swept`, which leaves nothing behind.
use crate::harness::tools::{Owned, Ran, run};
use crate::harness::{SOON, wait_until};
use crate::image;
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::process::{Command, Stdio};
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
fn a_signal_to_the_script_ends_its_command_and_nothing_is_left_though_somebody_goes_on_writing() {
    // Who writes is in a session of its own, as a server may be, and begins when the command has ended.
    let writer =
        "while kill -0 $0; do sleep 0.02; done; for n in 1 2 3 4 5; do echo late > \"$TMPDIR/$n\"; sleep 0.1; done";
    let script = format!("setsid sh -c '{writer}' $$ & echo $$ > \"$TMPDIR/../command\"; sleep 60; echo over");
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let folder = tempfile::tempdir().expect("a folder");
        let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/swept");
        // A test run in the background of a script ignores INT, and a shell that was born so cannot hear it.
        let mut swept = Command::new("/usr/bin/env");
        swept.arg("--default-signal=INT").arg(tool).args(["sh", "-c", &script]);
        swept.env("TMPDIR", folder.path());
        swept.stdout(Stdio::null()).stderr(Stdio::null());
        let mut swept = Owned(swept.spawn().expect("it starts"));
        let named = folder.path().join("command");
        let command = || std::fs::read_to_string(&named).unwrap_or_default();
        wait_until("the command", SOON, || command().ends_with('\n'));
        kill_process(Pid::from_child(&swept.0), signal).expect("it runs");
        wait_until("the end", SOON, || !swept.running());
        assert_eq!(swept.0.wait().expect("ended").code(), Some(code));
        assert!(
            !Path::new("/proc").join(command().trim()).exists(),
            "the command runs on"
        );
        let left = folder.path().read_dir().expect("the folder").flatten();
        assert_eq!(left.map(|entry| entry.file_name()).collect::<Vec<_>>(), ["command"]);
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
    let refused = disk(folder.path(), "ext4", "1000000", "true");
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.err.contains("GiB free"), "{refused:?}");
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
    // A grandchild that holds a file of the disk open for a second after the end.
    let held = "exec 9> \"$TMPDIR/file\"; setsid sleep 1 & exit 3";
    let ran = disk(folder.path(), "ext4-nojournal", "1", held);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert_eq!(folder.path().read_dir().expect("the folder").count(), 0);
}
