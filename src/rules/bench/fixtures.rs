//! `rules test`: the fixtures beside the rules. A fixture file is TOML with `[[case]]` tables: an input (a DICOM file,
//! attributes in JSON, attributes in the case itself, or several: later ones are put over earlier ones), where it came from,
//! and everything that is expected: deliveries, edits, flags and hold. What is not expected must not happen.
use super::dataset_json;
use super::probe::Steps;
use super::trace::path_text;
use crate::base::clock::Wall;
use crate::base::names::{AeTitle, DestinationId, NameError, SourceId, Uid};
use crate::dicom::edit::{Edit, Plan};
use crate::dicom::head::{Head, Scanner};
use crate::dicom::part10::{FileMeta, META_MAX};
use crate::dicom::path::Path as ElementPath;
use crate::dicom::syntax::Syntax;
use crate::rules::context::Earlier;
use crate::rules::lint::unknown;
use crate::rules::set::Outcome;
use crate::rules::state::Change;
use crate::rules::{Facts, RuleSet, StudySeen};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Files in a fixtures folder, and the length of one.
const FILES_MAX: usize = 1_000;
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The arrival of every fixture that names none, so that a test says the same tomorrow: 2024-01-01T00:00:00Z, a Monday.
const ARRIVAL: Wall = Wall(1_704_067_200_000_000);
const EXPLICIT_LITTLE: &str = "1.2.840.10008.1.2.1";
const SECONDARY_CAPTURE: &str = "1.2.840.10008.5.1.4.1.1.7";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default)]
    from: Origin,
    file: Option<PathBuf>,
    /// A JSON file beside the fixture.
    json: Option<PathBuf>,
    #[serde(default)]
    input: BTreeMap<String, toml::Value>,
    #[serde(default)]
    expect: Expect,
}

/// Where an image came from, as fixtures and `rules trace` give it. What is missing has a default.
#[derive(Clone, Default, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Origin {
    pub source: Option<SourceId>,
    pub calling_ae: Option<AeTitle>,
    pub called_ae: Option<AeTitle>,
    pub sop_class: Option<Uid>,
    pub sop_instance: Option<Uid>,
    pub transfer_syntax: Option<Uid>,
    pub arrival: Option<Arrival>,
    /// What had come of the study before.
    pub study: Option<Earlier>,
}

/// When an image came: ISO 8601 with `Z` or an offset, as a text or as a date of TOML.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "toml::Value")]
pub struct Arrival(Wall);

impl TryFrom<toml::Value> for Arrival {
    type Error = &'static str;

    fn try_from(value: toml::Value) -> Result<Self, Self::Error> {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let at: Option<jiff::Timestamp> = text.parse().ok();
        let micros = at.and_then(|at| u64::try_from(at.as_microsecond()).ok());
        let wall = micros.map(|micros| Self(Wall(micros)));
        wall.ok_or("arrival is written 2024-01-02T14:30:00Z, with Z or an offset")
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Expect {
    /// Destination and priority.
    deliveries: BTreeMap<String, String>,
    /// In every delivery: path and value, `false` for removed.
    edits: BTreeMap<String, toml::Value>,
    /// Besides, for one destination.
    edits_for: BTreeMap<String, BTreeMap<String, toml::Value>>,
    /// The reason.
    hold: Option<String>,
    /// Since when a delivery may go, in UTC, and `quiet` when it also waits for the rest of the study.
    waits: BTreeMap<String, String>,
    /// Instead of the reason: error, budget, no_destination, edit, incomplete or rule.
    hold_kind: Option<String>,
    /// What words of the vocabulary remark without holding.
    flags: BTreeSet<String>,
}

/// How one case ended.
pub(super) struct Ran {
    /// The fixture file's name.
    pub(super) file: String,
    pub(super) name: String,
    /// Lines that are expected and missing (`-`), that came unexpected (`+`), or why the case could not run or not be compared (`!`).
    pub(super) differences: Vec<String>,
    pub(super) took: Duration,
    /// The lines of the rules that ran, when the set is a probed one.
    pub(super) steps: Steps,
    /// The destinations that it was delivered to.
    pub(super) reached: Vec<String>,
    /// Where it says that it came from.
    pub(super) source: Option<SourceId>,
}

/// Runs the cases of all `*.toml` files of `folder` whose name contains `only`.
///
/// # Errors
/// The folder or a file of it cannot be read.
pub(super) fn run(set: &RuleSet, folder: &Path, only: &str) -> Result<Vec<Ran>, String> {
    let mut all = Vec::new();
    for path in files(folder)? {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let cases = read(&path).map_err(|message| format!("{}: {message}", path.display()))?;
        for case in cases.case.into_iter().filter(|case| case.name.contains(only)) {
            let began = Instant::now();
            let (differences, steps, reached) = match judge(set, folder, &case) {
                Ok((differences, outcome)) => {
                    let to = outcome.decision.deliveries.iter();
                    (
                        differences,
                        outcome.steps,
                        to.map(|d| d.destination.to_string()).collect(),
                    )
                }
                Err(message) => (vec![format!("! {message}")], Steps::default(), Vec::new()),
            };
            all.push(Ran {
                file: file.clone(),
                name: case.name,
                differences,
                took: began.elapsed(),
                steps,
                reached,
                source: case.from.source,
            });
        }
    }
    Ok(all)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries =
        std::fs::read_dir(folder).map_err(|e| format!("{}: cannot be read: {}", folder.display(), e.kind()))?;
    let paths = entries
        .take(FILES_MAX)
        .filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let is = |path: &Path, kinds: &[&str]| {
        let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or_default();
        kinds.iter().any(|known| kind.eq_ignore_ascii_case(known))
    };
    let paths: Vec<PathBuf> = paths.collect();
    if let Some(path) = paths.iter().find(|path| is(path, &["yaml", "yml"])) {
        return Err(format!(
            "{}: cases are written in TOML, and no case of this file would run: write them as {}, or move the file out of the folder",
            path.display(),
            path.with_extension("toml").file_name().unwrap_or_default().display()
        ));
    }
    let mut files: Vec<PathBuf> = paths
        .into_iter()
        .filter(|path| path.extension().is_some_and(|kind| kind == "toml"))
        .collect();
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<File, String> {
    toml::from_str(&text(path)?).map_err(|e| e.to_string())
}

fn text(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|e| e.kind().to_string())?;
    file.take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|e| e.kind().to_string())?;
    if text.starts_with('\u{FEFF}') {
        text.remove(0);
    }
    Ok(text)
}

fn judge(set: &RuleSet, folder: &Path, case: &Case) -> Result<(Vec<String>, Outcome), String> {
    let (head, meta) = match &case.file {
        Some(file) => load(&folder.join(file)).map(|(head, meta)| (head, Some(meta)))?,
        None => (Head::scan(syntax(&case.from), &[]).map_err(|e| e.to_string())?, None),
    };
    let head = match &case.json {
        None => head,
        Some(file) => with_input(head, &from_json(&folder.join(file))?)?,
    };
    let given: Result<BTreeMap<String, _>, String> = case
        .input
        .iter()
        .map(|(path, value)| Ok((path.clone(), texts(value)?)))
        .collect();
    let head = with_input(head, &given?)?;
    let facts = facts(&case.from, &head, meta.as_ref());
    let outcome = set.run_out(&facts, &head, true);
    let (wanted, got) = (expected(&case.expect)?, happened(&outcome, &case.expect));
    let idle = idle(&case.expect, set).into_iter().map(|line| format!("! {line}"));
    let missing = wanted.difference(&got).map(|line| format!("- {line}"));
    let surplus = got.difference(&wanted).map(|line| format!("+ {line}"));
    Ok((idle.chain(missing).chain(surplus).collect(), outcome))
}

/// What is expected and could not be compared with anything, in words: a destination that there is not, and edits of what is not delivered.
fn idle(expect: &Expect, set: &RuleSet) -> Vec<String> {
    let names = || set.destinations().iter().map(DestinationId::as_str);
    let there = |name: &String| names().any(|known| known == name);
    let named: BTreeSet<&String> = expect
        .deliveries
        .keys()
        .chain(expect.edits_for.keys())
        .chain(expect.waits.keys())
        .collect();
    let mut lines: Vec<String> = named
        .into_iter()
        .filter(|name| !there(name))
        .map(|name| unknown("destination", name, names()))
        .collect();
    for (name, edits) in &expect.edits_for {
        if there(name) && !edits.is_empty() && !expect.deliveries.contains_key(name) {
            lines.push(format!("edits_for.{name}: no delivery to `{name}` is expected"));
        }
    }
    if !expect.edits.is_empty() && expect.deliveries.is_empty() {
        let line = "edits: no delivery is expected, and only what is delivered is edited";
        lines.push(line.to_owned());
    }
    lines
}

fn syntax(from: &Origin) -> Syntax {
    Syntax::of(
        &from
            .transfer_syntax
            .clone()
            .unwrap_or_else(|| Uid::known(EXPLICIT_LITTLE)),
    )
}

fn expected(expect: &Expect) -> Result<BTreeSet<String>, String> {
    let mut lines = BTreeSet::new();
    for (destination, priority) in &expect.deliveries {
        lines.insert(format!("to {destination} ({priority})"));
        let own = expect.edits_for.get(destination);
        let common = expect
            .edits
            .iter()
            .filter(|(path, _)| !own.is_some_and(|own| own.contains_key(*path)));
        for (path, value) in common.chain(own.into_iter().flatten()) {
            let path = ElementPath::parse(path).map_err(|e| e.to_string())?;
            if value.as_bool() == Some(true) {
                lines.insert(any_line(destination, &path));
            } else {
                lines.insert(edit_line(destination, &path, texts(value)?.as_deref()));
            }
        }
    }
    lines.extend(expect.flags.iter().map(|flag| format!("flag: {flag}")));
    lines.extend(expect.waits.iter().map(|(to, until)| format!("wait for {to}: {until}")));
    lines.extend(expect.hold.iter().map(|reason| format!("hold: {reason}")));
    lines.extend(expect.hold_kind.iter().map(|kind| format!("hold kind: {kind}")));
    Ok(lines)
}

fn happened(outcome: &Outcome, expect: &Expect) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for (delivery, changes) in outcome.decision.deliveries.iter().zip(&outcome.changes) {
        let destination = delivery.destination.as_str();
        lines.insert(format!("to {destination} ({})", delivery.priority.as_str()));
        let terms = &delivery.terms;
        let since = terms.not_before.map(Wall::iso).into_iter();
        let wait: Vec<String> = since.chain(terms.quiet.map(|_| "quiet".to_owned())).collect();
        if !wait.is_empty() {
            lines.insert(format!("wait for {destination}: {}", wait.join(", ")));
        }
        let own = expect.edits_for.get(destination).into_iter().flatten();
        let any = own
            .chain(&expect.edits)
            .filter(|(_, value)| value.as_bool() == Some(true));
        let any: Vec<ElementPath> = any.filter_map(|(path, _)| ElementPath::parse(path).ok()).collect();
        let line = |change: &Change| match &change.values {
            Some(_) if any.contains(&change.path) => any_line(destination, &change.path),
            values => edit_line(destination, &change.path, values.as_deref()),
        };
        lines.extend(changes.iter().map(line));
    }
    lines.extend(outcome.decision.flags.iter().map(|flag| format!("flag: {flag}")));
    if let Some(hold) = &outcome.decision.hold {
        if expect.hold_kind.is_some() {
            lines.insert(format!("hold kind: {}", hold.kind.as_str()));
        }
        if expect.hold.is_some() || expect.hold_kind.is_none() {
            lines.insert(format!("hold: {}", hold.reason));
        }
    }
    lines
}

/// For values that hang on a site's key: any will do.
fn any_line(destination: &str, path: &ElementPath) -> String {
    format!("{destination}: {} = anything", path_text(path))
}

fn edit_line(destination: &str, path: &ElementPath, values: Option<&[String]>) -> String {
    match values {
        None => format!("{destination}: {} removed", path_text(path)),
        Some(values) => format!("{destination}: {} = {:?}", path_text(path), values.join("\\")),
    }
}

/// A TOML value as element values; `None` for `false`.
fn texts(value: &toml::Value) -> Result<Option<Vec<String>>, String> {
    match value {
        toml::Value::Boolean(false) => Ok(None),
        toml::Value::String(text) => Ok(Some(text.split('\\').map(str::to_owned).collect())),
        toml::Value::Integer(number) => Ok(Some(vec![number.to_string()])),
        toml::Value::Float(number) => Ok(Some(vec![number.to_string()])),
        toml::Value::Array(all) => {
            let all: Result<Vec<Option<Vec<String>>>, String> = all.iter().map(texts).collect();
            Ok(Some(all?.into_iter().flatten().flatten().collect()))
        }
        toml::Value::Boolean(true) | toml::Value::Datetime(_) | toml::Value::Table(_) => {
            Err("a value is a text, a number, an array of these, or false for removed (true, among expected edits: any value)".to_owned())
        }
    }
}

fn from_json(path: &Path) -> Result<BTreeMap<String, Option<Vec<String>>>, String> {
    let text = text(path).map_err(|message| format!("{}: {message}", path.display()))?;
    let found = dataset_json::attributes(&text).map_err(|message| format!("{}: {message}", path.display()))?;
    Ok(found.into_iter().map(|(path, values)| (path, Some(values))).collect())
}

/// `head` with the attributes of a fixture set one by one, so that items are made in their order.
fn with_input(head: Head, input: &BTreeMap<String, Option<Vec<String>>>) -> Result<Head, String> {
    let mut wanted = BTreeMap::new();
    for (text, values) in input {
        let path = ElementPath::parse(text).map_err(|e| e.to_string())?;
        wanted.insert(path, values.clone());
    }
    let mut head = head;
    for (path, values) in wanted {
        let text = path_text(&path);
        let edit = match values {
            None => Edit::Remove { path },
            Some(values) => Edit::text(&head, path, &values).map_err(|e| format!("input {text}: {e}"))?,
        };
        let plan = Plan {
            edits: vec![edit],
            stamp: None,
        };
        let bytes = plan.apply(&head).map_err(|e| format!("input {text}: {e}"))?;
        let plain = Syntax {
            deflated: false,
            ..head.syntax.clone()
        };
        head = Head::scan(plain, &bytes).map_err(|e| e.to_string())?;
    }
    Ok(head)
}

/// The facts of an image: what is given, else what the file or the head says, else a default.
pub(in crate::rules) fn facts(from: &Origin, head: &Head, meta: Option<&FileMeta>) -> Facts {
    let uid = |tag, default: &'static str| Uid::parse(&head.first(tag)).unwrap_or_else(|_| Uid::known(default));
    let class = || uid(dicom_core::Tag(0x0008, 0x0016), SECONDARY_CAPTURE);
    let instance = || uid(dicom_core::Tag(0x0008, 0x0018), "2.25.1");
    let said = meta.and_then(|meta| meta.source_ae.clone());
    Facts {
        source: from
            .source
            .clone()
            .unwrap_or_else(|| known(SourceId::parse("modality"))),
        calling_ae: from
            .calling_ae
            .clone()
            .or(said)
            .unwrap_or_else(|| known(AeTitle::parse("MODALITY"))),
        called_ae: from
            .called_ae
            .clone()
            .unwrap_or_else(|| known(AeTitle::parse("WAYSTATION"))),
        sop_class: from
            .sop_class
            .clone()
            .or_else(|| meta.map(|m| m.sop_class.clone()))
            .unwrap_or_else(class),
        sop_instance: from
            .sop_instance
            .clone()
            .or_else(|| meta.map(|m| m.sop_instance.clone()))
            .unwrap_or_else(instance),
        transfer_syntax: from.transfer_syntax.clone().unwrap_or_else(|| head.syntax.uid.clone()),
        arrival: from.arrival.map_or(ARRIVAL, |Arrival(at)| at),
        study: from.study.clone().map(StudySeen::from),
    }
}

fn known<T>(name: Result<T, NameError>) -> T {
    // Only called with literals of this file, which are well formed (tested by every fixture).
    name.expect("a well-formed name")
}

/// Reads a DICOM file up to the end of its head.
pub(in crate::rules) fn load(path: &Path) -> Result<(Head, FileMeta), String> {
    let wrong = |message: String| format!("{}: {message}", path.display());
    let mut file = std::fs::File::open(path).map_err(|e| wrong(e.kind().to_string()))?;
    let mut piece = Vec::with_capacity(META_MAX);
    let mut more = |piece: &mut Vec<u8>| {
        piece.clear();
        let taken = (&mut file).take(META_MAX as u64).read_to_end(piece);
        taken.map_err(|e| wrong(e.kind().to_string()))
    };
    more(&mut piece)?;
    let (meta, start) = FileMeta::read(&piece).map_err(|e| wrong(e.to_string()))?;
    let mut scanner = Scanner::new(Syntax::of(&meta.transfer_syntax));
    let mut rest = piece[start..].to_vec();
    loop {
        // To the end, although the head comes first: words of privacy ask what stands behind the pixels.
        scanner.push(&rest).map_err(|e| wrong(e.to_string()))?;
        if more(&mut rest)? == 0 {
            return scanner
                .finish()
                .map(|head| (head, meta))
                .map_err(|e| wrong(e.to_string()));
        }
    }
}
