//! Who is measured: started afresh in an empty folder for each figure, ended and cleared away after it.
//!
//! | name | what it is |
//! | --- | --- |
//! | `waystation` | the binary of this build with the shipped rules; its destination is down, so each instance waits with its job |
//! | `storescp` | DCMTK with a child for each association, received as it comes (`+B`), the longest PDU that it offers |
//! | `storescp-fsync` | the same with `fsync_on_close.c` preloaded: `fdatasync` before a written file is closed, and so before the answer |
//! | `orthanc` | Debian's, with Debian's setting `SyncStorageArea: true`: files are flushed, its SQLite index is not at each commit |
//! | `orthanc-nosync` | the same with `SyncStorageArea: false` |
//! | `floor-files`, `floor-reused`, `floor-log`, `floor-none` | the least that a receiver can be (`floor.rs`) |
//! | `pynetdicom` | its `storescp` application, for 100 associations instead of 10 |
use super::harness::tools::{self, Owned};
use super::harness::{self, SOON, Setup, Station, wait_until};
use super::load::Target;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The peers that take instances in.
pub const NAMES: [&str; 6] = [
    "waystation",
    "storescp",
    "storescp-fsync",
    "orthanc",
    "orthanc-nosync",
    "pynetdicom",
];

/// A peer that serves.
pub struct Peer {
    pub target: Target,
    running: Running,
}

enum Running {
    Station(Box<Station>),
    Other { process: Owned, folder: tempfile::TempDir },
}

/// Everybody: who takes instances in, and the least that could.
pub fn everybody() -> Vec<&'static str> {
    [&NAMES[..], &super::floor::NAMES[..]].concat()
}

/// Starts a peer by its name.
///
/// # Panics
/// When it does not start.
pub fn start(name: &str) -> Peer {
    match name {
        "waystation" => station(ingest_only()),
        "storescp" => storescp(&[], false),
        "storescp-fsync" => storescp(&[], true),
        "orthanc" => orthanc(true),
        "orthanc-nosync" => orthanc(false),
        "pynetdicom" => pynetdicom(),
        name if super::floor::NAMES.contains(&name) => floor(name),
        other => unreachable!("{other} is none of everybody"),
    }
}

impl Peer {
    /// Ends it and clears its files away, so that nobody after it pays for its pages.
    pub fn stop(self) {
        drop(self.end());
        settle();
    }

    /// Ends it; its files stay until the answer is dropped. Deleting thousands of files and making others within minutes is slow
    /// on ext4 (it looks for inodes that were not deleted lately, one by one), and whoever comes next would pay for it.
    pub fn end(self) -> Remains {
        let remains = match self.running {
            Running::Station(mut station) => {
                station.kill();
                Remains::Station { station }
            }
            Running::Other { process, folder } => {
                drop(process);
                Remains::Folder { folder }
            }
        };
        settle();
        remains
    }
}

/// The files of a peer that has ended.
pub enum Remains {
    Station { station: Box<Station> },
    Folder { folder: tempfile::TempDir },
}

impl Remains {
    /// Gives the disk its room back; the files themselves stay, empty, for the same reason as above.
    pub fn emptied(self) -> Self {
        let folder = match &self {
            Self::Station { station } => station.setup.path(),
            Self::Folder { folder } => folder.path(),
        };
        empty(folder).expect("the bench's own files");
        settle();
        self
    }
}

/// Takes the content of each file below a folder.
fn empty(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            empty(&entry.path())?;
        } else if kind.is_file() {
            fs::OpenOptions::new().write(true).open(entry.path())?.set_len(0)?;
        }
    }
    Ok(())
}

/// What is still to be written is written before the next clock starts.
pub fn settle() {
    rustix::fs::sync();
}

/// A box with the shipped rules whose destination cannot be reached.
pub fn ingest_only() -> Setup {
    to_archive(harness::free_port(), "")
}

/// A box with the shipped rules and one archive on a port of this machine.
pub fn to_archive(port: u16, more: &str) -> Setup {
    let rules =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("rules/main.rhai")).expect("the shipped rules");
    // The shipped set names three destinations: one is enough, and a folder would take part in the figures.
    let rules = rules.replace("    to(\"folder\", #{ priority: \"low\" });\n", "");
    let rules = rules.replace("to(\"cad\"", "to(\"vna\"");
    let rules = rules
        .split("// The CAD wants no names.")
        .next()
        .expect("a first part")
        .to_owned();
    plain().rules(&rules).archive("vna", port, more)
}

/// So many associations a box of the bench admits.
pub const ADMITTED: usize = 128;

/// A box with its ordinary log, and room for every association of a bench.
pub fn plain() -> Setup {
    let most = format!("max_associations = {ADMITTED}");
    let source = "[[sources]]\nname = \"test\"\ncalling_ae = [\"MOD0\"]\naddresses = [\"127.0.0.0/8\"]\n";
    let setup = Setup::new().log("level = \"info\"").listener(&most);
    setup.sources(&format!("{source}{most}\n"))
}

pub fn station(setup: Setup) -> Peer {
    let station = setup.start();
    let address = ([127, 0, 0, 1], station.setup.dicom).into();
    let target = Target {
        address,
        called: "WAYSTATION".to_owned(),
        pid: station.pid(),
    };
    Peer {
        target,
        running: Running::Station(Box::new(station)),
    }
}

impl Peer {
    /// Where it stores.
    ///
    /// # Panics
    /// A box knows by itself.
    pub fn folder(&self) -> PathBuf {
        match &self.running {
            Running::Station(_) => panic!("a box has no folder of its own"),
            Running::Other { folder, .. } => folder.path().to_owned(),
        }
    }

    /// The box, when it is one.
    pub fn as_station(&self) -> Option<&Station> {
        match &self.running {
            Running::Station(station) => Some(station),
            Running::Other { .. } => None,
        }
    }
}

/// DCMTK's storescp. `more` are further options; with `flushed` each file is durable before it is closed.
pub fn storescp(more: &[String], flushed: bool) -> Peer {
    let folder = folder();
    let port = harness::free_port();
    let mut command = Command::new(tools::program("storescp"));
    command.args([
        "-q", "--fork", "-dhl", "+B", "-pdu", "131072", "-aet", "STORESCP", "-od",
    ]);
    command.arg(folder.path()).args(more).arg(port.to_string());
    if flushed {
        command.env("LD_PRELOAD", preload(folder.path()));
    }
    serve(command, folder, port, "STORESCP", || !harness::is_free(port))
}

/// Orthanc as Debian configures it, but for names, ports and folders.
fn orthanc(sync: bool) -> Peer {
    let folder = folder();
    let (port, http) = (harness::free_port(), harness::free_port());
    let storage = folder.path().join("storage");
    let config = serde_json::json!({
        "Name": "bench", "StorageDirectory": storage, "IndexDirectory": storage, "RemoteAccessAllowed": false,
        "AuthenticationEnabled": false, "HttpPort": http, "DicomPort": port, "DicomAet": "ORTHANC",
        "DicomAlwaysAllowStore": true, "SyncStorageArea": sync, "StorageCompression": false, "Plugins": [],
    });
    let file = folder.path().join("orthanc.json");
    fs::write(&file, config.to_string()).expect("writable");
    let mut command = Command::new(tools::program("Orthanc"));
    command.arg(&file);
    serve(command, folder, port, "ORTHANC", || {
        matches!(harness::http::get(http, "/system"), Some((200, _))) && !harness::is_free(port)
    })
}

/// The least that a receiver can be (`floor.rs`): this program once more.
fn floor(kind: &str) -> Peer {
    let folder = folder();
    let port = harness::free_port();
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.args(["floor", kind]).arg(port.to_string()).arg(folder.path());
    serve(command, folder, port, "FLOOR", || !harness::is_free(port))
}

fn pynetdicom() -> Peer {
    let folder = folder();
    let port = harness::free_port();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/house/pynetdicom_storescp.py");
    let mut command = Command::new(tools::python());
    command
        .arg(script)
        .args(["-q", "-aet", "PYNETDICOM", "-od"])
        .arg(folder.path())
        .arg(port.to_string());
    serve(command, folder, port, "PYNETDICOM", || !harness::is_free(port))
}

fn serve(
    mut command: Command,
    folder: tempfile::TempDir,
    port: u16,
    called: &str,
    is_up: impl FnMut() -> bool,
) -> Peer {
    tools::clean(&mut command);
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let process = Owned(child.unwrap_or_else(|error| panic!("{called} does not start: {error}")));
    let pid = process.0.id();
    wait_until(&format!("{called} serves"), SOON, is_up);
    let target = Target {
        address: ([127, 0, 0, 1], port).into(),
        called: called.to_owned(),
        pid,
    };
    Peer {
        target,
        running: Running::Other { process, folder },
    }
}

pub fn folder() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("waystation-bench-")
        .tempdir()
        .expect("a folder for the bench")
}

/// The library that makes `fclose` durable, compiled into the peer's own folder: it goes with it.
fn preload(folder: &Path) -> PathBuf {
    let out = folder.join("fsync_on_close.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/house/fsync_on_close.c");
    let built = Command::new("gcc")
        .args(["-O2", "-shared", "-fPIC", "-o"])
        .arg(&out)
        .arg(source)
        .arg("-ldl")
        .status();
    assert!(
        built.is_ok_and(|status| status.success()),
        "gcc makes the preloaded library"
    );
    out
}
