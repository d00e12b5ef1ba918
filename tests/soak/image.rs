//! A file system in a file, that can lose its power: the shutdown ioctl drops what was never flushed, page cache and journal.
use crate::harness::tools;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

pub struct Image {
    file: PathBuf,
    pub mount: PathBuf,
}

/// What it takes to mount one.
pub fn possible() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("needs root: it mounts loop devices".to_owned());
    }
    for tool in ["xfs_io", "mkfs.xfs", "mkfs.ext4", "losetup"] {
        let places = ["/usr/sbin", "/sbin", "/usr/bin"];
        if !places.iter().any(|place| Path::new(place).join(tool).exists()) {
            return Err(format!(
                "`{tool}` is not installed (Debian: xfsprogs, e2fsprogs, mount)"
            ));
        }
    }
    if !Path::new("/dev/loop-control").exists() {
        return Err("this machine has no loop devices".to_owned());
    }
    Ok(())
}

impl Image {
    /// A fresh file system of `kind`, sparse, mounted at `folder`/`name`.
    pub fn new(folder: &Path, name: &str, kind: &str, (megabytes, more): (u64, &[&str])) -> Self {
        let (file, mount) = (folder.join(format!("{name}.img")), folder.join(name));
        let made = fs::File::create(&file).expect("writable");
        made.set_len(megabytes << 20).expect("sparse");
        fs::create_dir_all(&mount).expect("writable");
        let force = if kind == "xfs" { ["-q", "-f"] } else { ["-q", "-F"] };
        let mut command = Command::new(tools::program(&format!("mkfs.{kind}")));
        let made = command.args(force).args(more).arg(&file).output().expect("mkfs runs");
        assert!(made.status.success(), "mkfs: {}", String::from_utf8_lossy(&made.stderr));
        let image = Self { file, mount };
        image.mount();
        image
    }

    fn mount(&self) {
        let mut command = Command::new("mount");
        let done = command.args(["-o", "loop"]).arg(&self.file).arg(&self.mount).output();
        let done = done.expect("mount runs");
        assert!(
            done.status.success(),
            "mount: {}",
            String::from_utf8_lossy(&done.stderr)
        );
    }

    /// From here on nothing reaches the disk any more.
    pub fn cut(&self) {
        let mut command = Command::new(tools::program("xfs_io"));
        let done = command.args(["-x", "-c", "shutdown"]).arg(&self.mount).output();
        let done = done.expect("xfs_io runs");
        assert!(
            done.status.success(),
            "shutdown: {}",
            String::from_utf8_lossy(&done.stderr)
        );
    }

    /// The power comes back: mounted anew, with what had reached the disk.
    pub fn restore(&self) {
        assert!(
            self.unmount(Duration::from_secs(20)),
            "{} stays busy",
            self.mount.display()
        );
        self.mount();
    }

    fn unmount(&self, within: Duration) -> bool {
        let until = Instant::now() + within;
        loop {
            let done = Command::new("umount").arg(&self.mount).output();
            if done.is_ok_and(|done| done.status.success()) {
                return true;
            }
            if Instant::now() > until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if !self.unmount(Duration::from_secs(5)) {
            println!("{} could not be unmounted", self.mount.display());
        }
    }
}
