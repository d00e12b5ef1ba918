//! A block device that answers EIO on demand: nbdkit with a plugin of ours (`tests/peers/failing_disk.py`), nbdfuse, a loop device, ext4.
//! For kernels without device-mapper and without a network block device.
use crate::harness::tools::{self, Owned};
use crate::harness::wait_until;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What it takes.
pub fn possible() -> Result<(), String> {
    crate::image::possible()?;
    for (path, package) in [
        ("/usr/bin/nbdkit", "nbdkit"),
        ("/usr/bin/nbdfuse", "libnbd-bin"),
        (
            "/usr/lib/x86_64-linux-gnu/nbdkit/plugins/nbdkit-python-plugin.so",
            "nbdkit-plugin-python",
        ),
        ("/usr/bin/fusermount3", "fuse3"),
    ] {
        if !Path::new(path).exists() {
            return Err(format!("{path} is missing (Debian: {package})"));
        }
    }
    Ok(())
}

pub struct FailingDisk {
    folder: PathBuf,
    seed: u64,
    device: Option<String>,
    server: Option<Owned>,
}

impl FailingDisk {
    /// ext4 on it, served and mounted at `folder`/`mnt`.
    pub fn new(folder: &Path, seed: u64) -> Self {
        for name in ["", "fuse", "mnt", "told"] {
            fs::create_dir_all(folder.join(name)).expect("writable");
        }
        let file = folder.join("image");
        let made = File::create(&file).and_then(|made| made.set_len(400 << 20));
        made.expect("sparse");
        let mut command = Command::new(tools::program("mkfs.ext4"));
        // Without the lazy rest, which would write (and fail) in the background for long.
        run(command
            .args(["-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0"])
            .arg(&file));
        let mut disk = Self {
            folder: folder.to_owned(),
            seed,
            device: None,
            server: None,
        };
        disk.up();
        disk
    }

    pub fn mount(&self) -> PathBuf {
        self.folder.join("mnt")
    }

    /// Such requests fail, so great a share of them, from now on.
    pub fn fail(&self, kind: &str, share: f64) {
        fs::write(self.folder.join("told").join(kind), share.to_string()).expect("writable");
    }

    /// All is well again. Answers how many requests had failed.
    pub fn mend(&self, kind: &str) -> usize {
        drop(fs::remove_file(self.folder.join("told").join(kind)));
        let failed = fs::read(self.folder.join("told").join(format!("failed-{kind}")));
        failed.map_or(0, |marks| marks.len())
    }

    /// With cold caches on every level.
    pub fn remount(&mut self) {
        self.down();
        self.up();
    }

    fn up(&mut self) {
        let served = self.folder.join("fuse/disk");
        let mut command = Command::new("nbdfuse");
        command
            .arg(&served)
            .args(["--command", "nbdkit", "-s", "--exit-with-parent", "python"]);
        command.arg(tools::script("failing_disk.py"));
        command.arg(format!("file={}", self.folder.join("image").display()));
        command.arg(format!("folder={}", self.folder.join("told").display()));
        command.arg(format!("seed={}", self.seed));
        let log = File::create(self.folder.join("nbdfuse.log")).expect("writable");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.server = Some(Owned(command.spawn().expect("nbdfuse starts")));
        wait_until("nbdfuse serves the disk", Duration::from_secs(20), || {
            fs::metadata(&served).is_ok_and(|about| about.len() > 0)
        });
        let device = run(Command::new(tools::program("losetup"))
            .args(["-f", "--show"])
            .arg(&served));
        self.device = Some(device.trim().to_owned());
        whole_requests(device.trim());
        // Writes of the file system itself may be lost too: it is checked before it is mounted, as at any start of a machine.
        let mut check = Command::new(tools::program("e2fsck"));
        let checked = check
            .args(["-p", device.trim()])
            .stdout(Stdio::null())
            .status()
            .expect("e2fsck runs");
        if checked.code().is_none_or(|code| code >= 4) {
            let mut check = Command::new(tools::program("e2fsck"));
            let mended = check.args(["-f", "-y", device.trim()]).output().expect("e2fsck runs");
            let said = String::from_utf8_lossy(&mended.stdout);
            assert!(mended.status.code().is_some_and(|code| code < 4), "e2fsck: {said}");
        }
        run(Command::new("mount")
            .args(["-o", "errors=remount-ro", device.trim()])
            .arg(self.mount()));
    }

    fn down(&mut self) {
        self.release(Duration::from_secs(20)).expect("the disk is not busy");
    }

    fn release(&mut self, within: Duration) -> Result<(), String> {
        let Some(device) = self.device.take() else {
            return Ok(());
        };
        let mount = self.mount();
        patiently(within, || {
            Command::new("umount")
                .arg(&mount)
                .output()
                .is_ok_and(|done| done.status.success())
        })
        .map_err(|()| format!("{} stays mounted", mount.display()))?;
        run(Command::new(tools::program("losetup")).arg("-d").arg(&device));
        // The loop device lets go of the file some time after the answer.
        let fuse = self.folder.join("fuse");
        patiently(within, || {
            Command::new("fusermount3")
                .arg("-u")
                .arg(&fuse)
                .output()
                .is_ok_and(|done| done.status.success())
        })
        .map_err(|()| format!("{} stays mounted", fuse.display()))?;
        let mut server = self.server.take().expect("it is up");
        patiently(within, || !server.running()).map_err(|()| "nbdfuse does not end".to_owned())
    }
}

impl Drop for FailingDisk {
    fn drop(&mut self) {
        for kind in ["read", "write", "flush"] {
            self.mend(kind);
        }
        if let Err(why) = self.release(Duration::from_secs(10)) {
            println!("{why}");
        }
    }
}

/// A page for each request. The loop device calls a write that the file below it took in part only a success, and a disk that
/// fails does not: a plain program that flushes lost bytes in every second failure because of it.
fn whole_requests(device: &str) {
    let name = device.trim_start_matches("/dev/");
    let limit = format!("/sys/block/{name}/queue/max_sectors_kb");
    fs::write(limit, "4").expect("root");
}

fn patiently(within: Duration, mut done: impl FnMut() -> bool) -> Result<(), ()> {
    let until = Instant::now() + within;
    while !done() {
        if Instant::now() > until {
            return Err(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// What it printed; it must succeed.
fn run(command: &mut Command) -> String {
    let done = command.output().expect("the program runs");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {said}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}
