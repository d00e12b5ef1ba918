//! The demo's folder: configurations, certificates, synthetic studies, and who sends what.
use super::Load;
use super::judge::{Sending, Sent};
use crate::base::names::AeTitle;
use crate::dicom::edit::{Edit, Plan};
use crate::dicom::head::Head;
use crate::dicom::part10::FileMeta;
use crate::dicom::path::Path as DataSetPath;
use crate::dicom::syntax::Syntax;
use crate::rehearse::modality::{self, Options};
use crate::rehearse::synthetic::{Modality, make_study};
use crate::sender::tls;
use anyhow::Result;
use dicom_core::{Tag, VR};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Where everything of one demo lies.
pub struct Layout {
    root: PathBuf,
    pub certificates: PathBuf,
    ports: Ports,
}

struct Ports {
    plain: SocketAddr,
    tls: SocketAddr,
    archive: SocketAddr,
    box_web: SocketAddr,
    archive_web: SocketAddr,
}

/// The shipped rule set, as it is installed.
const RULES: [(&str, &str); 2] = [
    (
        "fixtures/starter.toml",
        include_str!("../../../rules/fixtures/starter.toml"),
    ),
    ("main.rhai", include_str!("../../../rules/main.rhai")),
];

impl Layout {
    /// Makes the folder with rules in it, and finds free ports.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn prepare(root: &Path) -> Result<Self> {
        fs::create_dir_all(root)?;
        let root = root.canonicalize()?;
        fs::create_dir_all(root.join("rules/fixtures"))?;
        for (name, text) in RULES {
            fs::write(root.join("rules").join(name), text)?;
        }
        let free = || TcpListener::bind(("127.0.0.1", 0));
        // All are held at once, so that no two are the same; then let go for the boxes to take.
        let held = [free()?, free()?, free()?, free()?, free()?];
        let at = |index: usize| held[index].local_addr();
        let ports = Ports {
            plain: at(0)?,
            tls: at(1)?,
            archive: at(2)?,
            box_web: at(3)?,
            archive_web: at(4)?,
        };
        Ok(Self {
            certificates: root.join("certificates"),
            root,
            ports,
        })
    }

    #[must_use]
    pub fn config(&self, name: &str) -> PathBuf {
        self.root.join(format!("{name}.toml"))
    }

    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.root.join(format!("{name}.log"))
    }

    #[must_use]
    pub fn web(&self, name: &str) -> SocketAddr {
        if name == "box" {
            self.ports.box_web
        } else {
            self.ports.archive_web
        }
    }

    #[must_use]
    pub fn archive_address(&self) -> SocketAddr {
        self.ports.archive
    }

    /// Where the archive files what it receives.
    #[must_use]
    pub fn archived(&self) -> PathBuf {
        self.root.join("archived")
    }

    /// Where the box's own folder destination files its copies, unedited or not.
    #[must_use]
    pub fn originals(&self) -> PathBuf {
        self.root.join("studies")
    }

    /// The archive: another box, mutual TLS in, files out.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_archive(&self) -> Result<()> {
        let rules = self.root.join("archive-rules");
        fs::create_dir_all(&rules)?;
        fs::write(rules.join("main.rhai"), "fn route(image, from) { to(\"files\"); }\n")?;
        let mut text = self.common("archive", &rules);
        let tls = self.server_tls("archive", "required");
        writeln!(
            text,
            "[[listeners]]\nname = \"archive\"\naddress = \"{}\"\nae_titles = [\"VNA\"]\n{tls}",
            self.ports.archive
        )?;
        let who = "calling_ae = [\"WAYSTATION\"]\naddresses = [\"127.0.0.0/8\"]\ncertificate_names = [\"box\"]";
        writeln!(text, "[[sources]]\nname = \"box\"\n{who}\n")?;
        let template = "{SOPInstanceUID}.dcm";
        let path = self.archived();
        writeln!(
            text,
            "[[destinations]]\nname = \"files\"\nkind = \"folder\"\npath = {path:?}\ntemplate = \"{template}\""
        )?;
        Ok(fs::write(self.config("archive"), text)?)
    }

    /// The box: a plain and a TLS listener in, the archive behind `wan` and a local folder out.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_box(&self, wan: SocketAddr) -> Result<()> {
        let mut text = self.common("box", &self.root.join("rules"));
        writeln!(
            text,
            "[[listeners]]\nname = \"plain\"\naddress = \"{}\"\nae_titles = [\"WAYSTATION\"]\n",
            self.ports.plain
        )?;
        let tls = self.server_tls("box", "required");
        writeln!(
            text,
            "[[listeners]]\nname = \"tls\"\naddress = \"{}\"\nae_titles = [\"WAYSTATION\"]\n{tls}",
            self.ports.tls
        )?;
        for modality in Modality::ALL {
            let (ae, secure, ..) = habits(modality);
            let name = ae.to_lowercase();
            let bound = if secure {
                "certificate_names = [\"modality\"]\n"
            } else {
                ""
            };
            writeln!(
                text,
                "[[sources]]\nname = \"{name}\"\ncalling_ae = [\"{ae}\"]\naddresses = [\"127.0.0.0/8\"]\n{bound}"
            )?;
        }
        let (ca, certificate, key) = self.files("box");
        writeln!(
            text,
            "[[destinations]]\nname = \"vna\"\nkind = \"dicom\"\nhost = \"127.0.0.1\"\nport = {}\ncalled_ae = \"VNA\"\n\
             calling_ae = \"WAYSTATION\"\nassociations = 2\nprobe = \"500ms\"\n[destinations.tls]\nca = {ca:?}\n\
             certificate = {certificate:?}\nkey = {key:?}\nserver_name = \"archive\"\n",
            wan.port()
        )?;
        let path = self.originals();
        for name in ["folder", "cad"] {
            let path = path.join(name);
            writeln!(
                text,
                "[[destinations]]\nname = \"{name}\"\nkind = \"folder\"\npath = {path:?}\n"
            )?;
        }
        Ok(fs::write(self.config("box"), text)?)
    }

    fn common(&self, name: &str, rules: &Path) -> String {
        let spool = self.root.join(format!("{name}-spool"));
        let socket = self.root.join(format!("{name}.sock"));
        format!(
            "[node]\nname = \"{name}\"\nstate = {:?}\n[spool]\npath = {spool:?}\nballast = \"1MiB\"\ncritical = \"16MiB\"\n\
             low_water = \"32MiB\"\ncache_high_water = \"64MiB\"\n[rules]\npath = {rules:?}\n[web]\nlisten = \"{}\"\n\
             [control]\npath = {socket:?}\n\n",
            self.root,
            self.web(name)
        )
    }

    fn server_tls(&self, name: &str, client: &str) -> String {
        let (ca, certificate, key) = self.files(name);
        format!(
            "[listeners.tls]\ncertificate = {certificate:?}\nkey = {key:?}\nclient_certificate = \"{client}\"\nclient_ca = {ca:?}\n"
        )
    }

    fn files(&self, name: &str) -> (PathBuf, PathBuf, PathBuf) {
        let at = |file: String| self.certificates.join(file);
        (
            at("ca.pem".to_owned()),
            at(format!("{name}.pem")),
            at(format!("{name}.key")),
        )
    }

    /// The commands with which to look at what the demo left behind.
    #[must_use]
    pub fn further(&self) -> String {
        let program = std::env::current_exe().map_or_else(|_| "waystation".into(), |path| path.display().to_string());
        let (config, spool) = (self.config("box"), self.root.join("box-spool"));
        format!(
            "Look further, and remove {:?} when done:\n  {program} check --config {config:?}\n  \
             {program} spool fsck --config {config:?}\n  {program} rules test {:?} --config {config:?}\n  less {:?}\n  ls -R {:?}\nand, to look at a running box:\n  {program} run --config {config:?} &\n  \
             {program} queue ls --config {config:?}\n  curl http://{}/metrics\n  (spool: {spool:?})",
            self.root,
            self.root.join("rules"),
            self.log("box"),
            self.archived(),
            self.ports.box_web
        )
    }
}

/// What is to become of an instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Routed,
    /// Its names are burned into the pixels: the shipped rules hold it for a person.
    Held,
}

/// One modality's part in one round: its files are made anew, byte for byte the same each time.
#[derive(Clone)]
pub struct Part {
    files: Vec<(PathBuf, String, Kind)>,
    options: Options,
}

/// AE title, whether it sends over TLS, instances of a study, and their size, for each modality.
fn habits(modality: Modality) -> (&'static str, bool, u16, u16) {
    match modality {
        Modality::Ct => ("CT1", false, 60, 256),
        Modality::Mr => ("MR1", true, 40, 256),
        Modality::Us => ("US1", false, 6, 128),
        Modality::Sr => ("SR1", true, 8, 20),
    }
}

impl Part {
    /// Writes the study of this modality for this round.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn of(layout: &Layout, modality: Modality, round: u64) -> Result<Self> {
        let (ae, secure, instances, size) = habits(modality);
        let folder = layout.root.join(format!("sent/{}-{round}", ae.to_lowercase()));
        fs::create_dir_all(&folder)?;
        let mut files = Vec::new();
        for (index, (name, bytes)) in make_study(round, modality, instances, size).into_iter().enumerate() {
            let held = modality == Modality::Us && round == 1 && index == 0;
            let (bytes, kind) = if held {
                (burned_in(&bytes)?, Kind::Held)
            } else {
                (bytes, Kind::Routed)
            };
            let (meta, _) = FileMeta::read(&bytes)?;
            let path = folder.join(name);
            fs::write(&path, bytes)?;
            files.push((path, meta.sop_instance.to_string(), kind));
        }
        let at = if secure { layout.ports.tls } else { layout.ports.plain };
        let mut options = Options::new(
            "127.0.0.1",
            at.port(),
            AeTitle::parse("WAYSTATION")?,
            AeTitle::parse(ae)?,
        );
        options.associations = 2;
        options.files = files.iter().map(|(path, ..)| path.clone()).collect();
        if secure {
            let (ca, certificate, key) = layout.files("modality");
            options.tls = Some(tls::Config {
                ca: ca.into(),
                certificate: Some(certificate),
                key: Some(key),
                server_name: Some("box".to_owned()),
                ..tls::Config::default()
            });
        }
        Ok(Self { files, options })
    }

    /// Sends it all, as the modality does, and says what was acknowledged and when.
    pub async fn send(self, load: Load) -> Sending {
        let acknowledged = Arc::new(Mutex::new(BTreeMap::new()));
        let seen = acknowledged.clone();
        let note = move |sent: &modality::Sent| {
            if sent.result.is_ok() {
                load.acknowledged();
                let mut map = seen.lock().unwrap_or_else(PoisonError::into_inner);
                map.insert(sent.file.clone(), sent.at);
            }
        };
        modality::send(&self.options, note).await;
        let acknowledged = acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = |(file, sop_instance, kind): (PathBuf, String, Kind)| Sent {
            acknowledged: acknowledged.get(&file).copied(),
            sop_instance,
            file,
            kind,
        };
        Sending {
            instances: self.files.into_iter().map(sent).collect(),
        }
    }
}

/// The same instance with Burned In Annotation (0028,0301) YES.
fn burned_in(file: &[u8]) -> Result<Vec<u8>> {
    let (meta, start) = FileMeta::read(file)?;
    let head = Head::scan(Syntax::of(&meta.transfer_syntax), &file[start..])?;
    let edit = Edit::Set {
        path: DataSetPath::tag(Tag(0x0028, 0x0301)),
        vr: VR::CS,
        value: b"YES ".to_vec(),
    };
    let plan = Plan {
        edits: vec![edit],
        stamp: None,
    };
    let mut bytes = file[..start].to_vec();
    bytes.extend(plan.apply(&head)?);
    bytes.extend(&file[start + head.bytes.len()..]);
    Ok(bytes)
}
