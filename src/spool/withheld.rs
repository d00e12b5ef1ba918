//! Which instances a person, a rule or the box has kept back, and why: for an export, which reads the payload files alone, and those do not
//! tell. Asks the index where it can be read, and the list of a person's orders, which is there without it.
use super::db::{Cf, Db};
use super::keys;
use super::record::{InstanceRecord, JobRecord};
use super::recover;
use super::schema;
use super::txn::{DESTINATION, decode_number};
use super::witness;
use crate::base::names::{DestinationId, InstanceId};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What could be learned of holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldsKnown {
    /// Every hold, and what a person has discarded.
    All,
    /// Only what a person has held: the index cannot be read.
    PersonsOnly,
    /// Nothing: every instance may have been held.
    Nothing,
}

/// What must not leave with the rest.
pub(super) struct Withheld {
    why: BTreeMap<InstanceId, BTreeSet<String>>,
    /// All that the index has.
    indexed: BTreeSet<InstanceId>,
    is_listed: bool,
    pub known: HoldsKnown,
    /// Destinations that a person has suspended.
    pub suspended: Vec<DestinationId>,
}

const UNKNOWN: &str = "nobody knows whether a person had held it: neither the index nor the list of orders tells";

impl Withheld {
    /// Looks at a spool, beside a running box too. What it makes while it is looked at may be missing.
    pub(super) fn look(root: &Path) -> Self {
        let mut found = Self {
            why: BTreeMap::new(),
            indexed: BTreeSet::new(),
            is_listed: false,
            known: HoldsKnown::All,
            suspended: Vec::new(),
        };
        let is_index_read = found.read_index(root).is_some();
        let orders = witness::standing(root);
        found.known = match (is_index_read, &orders) {
            (true, _) => HoldsKnown::All,
            (false, Some(_)) => HoldsKnown::PersonsOnly,
            (false, None) => HoldsKnown::Nothing,
        };
        found.is_listed = orders.is_some();
        let orders = orders.unwrap_or_default();
        found.suspended = orders.suspended.into_keys().collect();
        for (id, reason) in orders.held {
            let why = found.why.entry(id).or_default();
            if why.is_empty() {
                why.insert(format!("{}: {}", reason.kind.word(), reason.text));
            }
        }
        found
    }

    /// Why an instance is kept back; `None` when nothing keeps it.
    pub(super) fn of(&self, id: InstanceId) -> Option<String> {
        let told = self
            .why
            .get(&id)
            .map(|why| why.iter().cloned().collect::<Vec<_>>().join("\n"));
        // An older index, put back over newer payloads, does not know them.
        let is_unknown = !self.is_listed && (self.known == HoldsKnown::Nothing || !self.indexed.contains(&id));
        told.or_else(|| is_unknown.then(|| UNKNOWN.to_owned()))
    }

    /// `None` when it cannot be read, or not to its end.
    fn read_index(&mut self, root: &Path) -> Option<()> {
        let version = schema::version(root).ok().filter(schema::SpoolVersion::is_readable)?;
        let since = schema::families_since(version.format);
        let db = Db::open_read_only(&recover::index_path(root), since).ok()?;
        let names = names(&db)?;
        let holds = self.read_holds(&db, &names);
        self.read_discards(&db, &names).and(holds)
    }

    fn read_holds(&mut self, db: &Db, names: &BTreeMap<u32, String>) -> Option<()> {
        let mut is_whole = true;
        let scan = db.scan(Cf::Hold, &[], &[], |key, _| {
            let job = keys::hold_of(key).and_then(|(key, _)| {
                let raw = db.get(Cf::Job, &keys::job(key)).ok()??;
                Some((key, JobRecord::decode(&raw).ok()?))
            });
            let Some((key, job)) = job else {
                is_whole = false;
                return true;
            };
            if let Some((since, reason)) = job.hold
                && reason.kind.is_on_purpose()
            {
                let (word, text, since) = (reason.kind.word(), reason.text, since.iso());
                let line = format!("{word}: {text} (for {}, held since {since})", name(names, key.dest));
                self.why.entry(job.instance).or_default().insert(line);
            }
            true
        });
        scan.ok().filter(|()| is_whole)
    }

    /// Instances that still wait, and that a person has given up for another destination.
    fn read_discards(&mut self, db: &Db, names: &BTreeMap<u32, String>) -> Option<()> {
        let mut is_whole = true;
        let scan = db.scan(Cf::Instance, &[], &[], |_, value| {
            let Ok(record) = InstanceRecord::decode(value) else {
                is_whole = false;
                return true;
            };
            self.indexed.insert(record.instance.id);
            if record.delivered || !record.is_discarded() {
                return true;
            }
            for end in record.done.iter().filter(|end| end.status.is_none()) {
                let line = format!(
                    "discarded by a person for {}, and still waits for another",
                    name(names, end.dest)
                );
                self.why.entry(record.instance.id).or_default().insert(line);
            }
            true
        });
        scan.ok().filter(|()| is_whole)
    }
}

/// The destinations' names by their numbers.
fn names(db: &Db) -> Option<BTreeMap<u32, String>> {
    let mut names = BTreeMap::new();
    let scan = db.scan(Cf::Meta, DESTINATION, &keys::behind(DESTINATION), |key, value| {
        let name = String::from_utf8_lossy(&key[DESTINATION.len()..]).into_owned();
        let number = decode_number(value).ok().and_then(|number| u32::try_from(number).ok());
        names.extend(number.map(|number| (number, name)));
        true
    });
    scan.ok().map(|()| names)
}

fn name(names: &BTreeMap<u32, String>, number: u32) -> &str {
    names.get(&number).map_or("no destination yet", String::as_str)
}
