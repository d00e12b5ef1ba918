//! A file system in a file, that can lose its power: the shutdown ioctl drops what was never flushed, page cache and journal.
use crate::harness::tools;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

pub struct Image {
    file: PathBuf,
    options: String,
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
        let image = Self {
            file,
            mount,
            options: "loop".to_owned(),
        };
        image.mount();
        image
    }

    /// ext4 with a mount option more.
    pub fn with_options(folder: &Path, name: &str, options: &str) -> Self {
        let mut image = Self::new(folder, name, "ext4", (700, &[]));
        image.options = format!("loop,{options}");
        image.restore();
        image
    }

    /// What ext4 does when its disk gives it an error and it is mounted with `errors=remount-ro`.
    pub fn break_read_only(&self) {
        let mut command = Command::new("findmnt");
        let found = command.args(["-no", "SOURCE"]).arg(&self.mount).output();
        let found = found.expect("findmnt runs");
        let device = String::from_utf8_lossy(&found.stdout).trim().replace("/dev/", "");
        fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "soak").expect("a kernel with ext4");
    }

    /// Does something while the disk is not mounted.
    pub fn without<T>(&self, work: impl FnOnce(&Path) -> T) -> T {
        assert!(
            self.unmount(Duration::from_secs(20)),
            "{} stays busy",
            self.mount.display()
        );
        let done = work(&self.mount);
        self.mount();
        done
    }

    fn mount(&self) {
        let mut command = Command::new("mount");
        let done = command
            .args(["-o", &self.options])
            .arg(&self.file)
            .arg(&self.mount)
            .output();
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
