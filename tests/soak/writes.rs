//! A fault at the N-th write to a file, for the script of `syscalls`: SIGKILL, ENOSPC, EIO, or half of the bytes written. N counts
//! the writes of all threads to regular files (`fault.c`, preloaded into the box), so every point is one that a disk can have.
use crate::harness::rig::Rig;
use crate::harness::tools;
use crate::syscalls::{EACH, drained, finish};
use std::path::{Path, PathBuf};
use std::process::Command;

pub const CALLS: [&str; 2] = ["write", "pwrite64"];
/// The kind for `fault.c`, and its name.
pub const KINDS: [(&str, &str); 4] = [
    ("kill", "SIGKILL"),
    ("28", "ENOSPC"),
    ("5", "EIO"),
    ("short", "short write"),
];

/// The library, compiled into a folder of its own.
pub struct Library {
    folder: tempfile::TempDir,
}

impl Library {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let library = Self { folder };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/soak/fault.c");
        let mut command = Command::new(tools::program("cc"));
        command.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]);
        let done = command.arg(library.path()).arg(source).output().expect("cc runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        library
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("fault.so")
    }

    fn rig(&self, seed: u64, (call, kind, at): (&str, &str, usize)) -> Rig {
        let mut rig = Rig::new(seed, None, |setup| setup);
        let log = rig.station.setup.folder_of("faults");
        let text = |path: &Path| path.to_string_lossy().into_owned();
        rig.station.setup.wrapper = [
            "env".to_owned(),
            format!("LD_PRELOAD={}", text(&self.path())),
            format!("FAULT_CALL={call}"),
            format!("FAULT_KIND={kind}"),
            format!("FAULT_AT={at}"),
            format!("FAULT_LOG={}", text(&log)),
        ]
        .into();
        rig
    }

    /// How many such writes a script without faults makes.
    pub fn count(&self, seed: u64, call: &str) -> usize {
        let mut rig = self.rig(seed, (call, "short", 0));
        rig.station.start();
        rig.load(Some(EACH));
        finish(&mut rig);
        rig.verdict().expect("a script without faults");
        rig.station.kill();
        std::fs::read(rig.station.setup.folder_of("faults")).map_or(0, |calls| calls.len())
    }

    pub fn point(&self, seed: u64, call: &str, kind: &str, at: usize) -> Result<String, String> {
        let mut rig = self.rig(seed, (call, kind, at));
        rig.station.launch();
        rig.load(Some(EACH));
        finish(&mut rig);
        rig.end_load();
        drained(&mut rig);
        let notes = std::fs::read_to_string(rig.station.setup.folder_of("faults")).unwrap_or_default();
        let hit = if notes.contains("hit") { "" } else { "not reached; " };
        let refused = || rig.report()["answers"] != serde_json::json!({});
        // A write that is cut short is gone on with: nobody notices.
        if kind == "short" && refused() {
            return Err(format!("an instance was refused for a short write: {}", rig.report()));
        }
        Ok(format!("{hit}{}", rig.verdict()?))
    }
}
