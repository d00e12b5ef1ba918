//! The other side: the scripted archive, storescp, Orthanc, and the senders of DCMTK.
use super::tools::{self, Owned, Ran};
use super::{Object, SOON, free_port, http, is_free, pki, wait_until};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The scripted archive of `tests/peers/archive.py`. It keeps its journal and its files when it is down.
pub struct Archive {
    pub port: u16,
    folder: PathBuf,
    process: Option<Owned>,
}

impl Archive {
    /// Not yet listening.
    pub fn down(folder: &Path) -> Self {
        fs::create_dir_all(folder.join("keep")).expect("writable");
        let archive = Self {
            port: free_port(),
            folder: folder.to_owned(),
            process: None,
        };
        archive.behave(json!({"mode": "ok"}));
        archive
    }

    pub fn up(folder: &Path) -> Self {
        let mut archive = Self::down(folder);
        archive.start();
        archive
    }

    pub fn start(&mut self) {
        let arguments = [
            self.port.to_string().into(),
            self.journal_path(),
            self.folder.join("behaviour.json"),
            self.keep(),
        ];
        self.process = Some(tools::python_serving("archive.py", &arguments));
    }

    /// Dead at once, its connections with it.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// In force for the next association and the next instance.
    pub fn behave(&self, behaviour: Value) {
        let (path, new) = (self.folder.join("behaviour.json"), self.folder.join("behaviour.new"));
        fs::write(&new, behaviour.to_string()).expect("writable");
        fs::rename(&new, &path).expect("renamed");
    }

    pub fn journal_path(&self) -> PathBuf {
        self.folder.join("journal.jsonl")
    }

    fn keep(&self) -> PathBuf {
        self.folder.join("keep")
    }

    /// All journal lines of one event.
    pub fn events(&self, event: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.journal_path()).unwrap_or_default();
        let complete = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        complete.filter(|line| line["event"] == event).collect()
    }

    /// The SOP Instance UIDs stored, in their order, repeats included.
    pub fn stored(&self) -> Vec<String> {
        self.events("stored")
            .iter()
            .map(|line| line["sop"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// Each of the objects has come exactly once, with exactly its bytes, and nothing else has come.
    #[track_caller]
    pub fn holds_exactly(&self, objects: &[Object]) {
        let mut found: Vec<(String, String)> = Vec::new();
        for line in self.events("stored") {
            found.push((text(&line["sop"]), text(&line["sha256"])));
        }
        let wanted = |object: &Object| (object.sop.clone(), super::objects::sha256(&object.data()));
        let mut wanted: Vec<(String, String)> = objects.iter().map(wanted).collect();
        found.sort();
        wanted.sort();
        assert_eq!(found, wanted, "the archive holds something else than what was sent");
    }

    #[track_caller]
    pub fn wait_stored(&self, count: usize) {
        wait_until(&format!("{count} instances at the archive"), SOON, || {
            self.stored().len() >= count
        });
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// DCMTK's storescp, bit preserving, every file under a name of its own.
pub struct Storescp {
    pub port: u16,
    pub folder: PathBuf,
    _process: Owned,
}

impl Storescp {
    pub fn start(folder: &Path, more: &[&str]) -> Self {
        Self::start_at(free_port(), folder, more)
    }

    pub fn start_at(port: u16, folder: &Path, more: &[&str]) -> Self {
        fs::create_dir_all(folder).expect("writable");
        let mut command = Command::new(tools::program("storescp"));
        let fixed = ["-q", "+B", "+uf", "+xa", "-pm", "-aet", "STORESCP", "-od"];
        command.args(fixed).arg(folder).args(more).arg(port.to_string());
        tools::clean(&mut command);
        let child = command.stdin(Stdio::null()).spawn().expect("storescp starts");
        wait_until("storescp listens", SOON, || !is_free(port));
        Self {
            port,
            folder: folder.to_owned(),
            _process: Owned(child),
        }
    }

    pub fn start_tls(folder: &Path, pair: &pki::Pair, ca: &pki::Authority, peer: &str) -> Self {
        let (key, certificate) = (path(&pair.key), path(&pair.certificate));
        let ca = path(&ca.certificate);
        Self::start(folder, &["+tls", &key, &certificate, "+cf", &ca, peer])
    }

    /// The data sets received.
    pub fn data_sets(&self) -> Vec<Vec<u8>> {
        let files = super::objects::files_in(&self.folder);
        let read = |path: &PathBuf| fs::read(path).expect("a file of storescp");
        files
            .iter()
            .map(|path| super::objects::data_set_of(&read(path)).to_vec())
            .collect()
    }
}

pub fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// `storescu` (or another sender of DCMTK) to a port of this machine.
#[track_caller]
pub fn dcmtk(program: &str, port: u16, calling: &str, options: &[&str], files: &[PathBuf]) -> Ran {
    let mut arguments: Vec<String> = ["-aec", "WAYSTATION", "-aet", calling].map(str::to_owned).into();
    arguments.extend(tools::texts(options));
    arguments.extend(["127.0.0.1".to_owned(), port.to_string()]);
    arguments.extend(tools::texts(files));
    tools::tool(program, &arguments)
}

/// Objects by storescu over one association; all must be answered 0000.
#[track_caller]
pub fn send(port: u16, folder: &Path, objects: &[Object]) {
    let ran = try_send(port, folder, objects);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
}

#[track_caller]
pub fn try_send(port: u16, folder: &Path, objects: &[Object]) -> Ran {
    dcmtk("storescu", port, "STORESCU", &["-R", "-xe"], &written(folder, objects))
}

fn written(folder: &Path, objects: &[Object]) -> Vec<PathBuf> {
    let out = folder.join("modality");
    fs::create_dir_all(&out).expect("writable");
    objects.iter().map(|object| object.write(&out)).collect()
}

/// The same in one association that goes on after a refusal.
#[track_caller]
pub fn try_send_all(port: u16, folder: &Path, objects: &[Object]) -> Ran {
    let files = written(folder, objects);
    dcmtk("storescu", port, "STORESCU", &["-R", "-xe", "-nh"], &files)
}

/// The scripted modality of `tests/peers/modality.py`.
#[track_caller]
pub fn modality(verb: &str, port: u16, called: &str, calling: &str, more: &[&str]) -> Value {
    let port = port.to_string();
    let mut arguments = vec![verb, &port, called, calling];
    arguments.extend(more);
    tools::python_json("modality.py", &arguments)
}

/// Orthanc with one modality allowed, storing below `folder`.
pub struct Orthanc {
    pub dicom: u16,
    http: u16,
    _process: Owned,
}

impl Orthanc {
    pub fn start(folder: &Path) -> Self {
        Self::with(folder, &json!({}))
    }

    /// It knows a box on this port, and tells it there what it commits to.
    pub fn committing(folder: &Path, port: u16) -> Self {
        let modality = json!({"AET": "WAYSTATION", "Host": "127.0.0.1", "Port": port,
            "AllowStorageCommitment": true, "AllowNEventReport": true, "AllowStore": true});
        Self::with(folder, &json!({"box": modality}))
    }

    fn with(folder: &Path, modalities: &Value) -> Self {
        fs::create_dir_all(folder).expect("writable");
        let (dicom, port) = (free_port(), free_port());
        let config = json!({
            "Name": "test", "StorageDirectory": folder.join("storage"), "IndexDirectory": folder.join("storage"),
            "RemoteAccessAllowed": false, "AuthenticationEnabled": false, "HttpPort": port, "DicomPort": dicom,
            "DicomAet": "ORTHANC", "DicomAlwaysAllowStore": true, "DicomCheckCalledAet": true, "HttpDescribeErrors": true,
            "OverwriteInstances": false, "Plugins": [], "UnknownSopClassAccepted": true,
            "DicomModalities": modalities,
        });
        let file = folder.join("orthanc.json");
        fs::write(&file, config.to_string()).expect("writable");
        let log = fs::File::create(folder.join("orthanc.log")).expect("writable");
        let mut command = Command::new(tools::program("Orthanc"));
        tools::clean(&mut command);
        command
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let process = Owned(command.spawn().expect("Orthanc starts"));
        wait_until("Orthanc serves", SOON, || {
            matches!(http::get(port, "/system"), Some((200, _)))
        });
        Self {
            dicom,
            http: port,
            _process: process,
        }
    }

    pub fn instances(&self) -> Vec<String> {
        let (_, body) = http::get(self.http, "/instances").expect("Orthanc answers");
        serde_json::from_slice(&body).expect("a list of names")
    }

    /// The Part 10 file of an instance.
    pub fn file(&self, instance: &str) -> Vec<u8> {
        let (status, body) = http::get(self.http, &format!("/instances/{instance}/file")).expect("Orthanc answers");
        assert_eq!(status, 200);
        body
    }
}
