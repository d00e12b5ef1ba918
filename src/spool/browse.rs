//! The instances of a spool from their payload files alone, for whoever only reads: works beside a running box and after the
//! index is lost. The bench looks at heads this way.
use super::db::{Cf, Db};
use super::folder;
use super::inspect::{Found, inspect};
use super::keys;
use super::ledger::{FactKind, decode};
use super::model::Instance;
use super::payload::path_of;
use super::query::Filter;
use super::recover;
use super::schema;
use crate::base::clock::Wall;
use crate::base::names::InstanceId;
use std::collections::BTreeSet;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Calls `visit` with every whole instance that `filter` is about (its source, instance, study and SOP instance) and that
/// arrived at `since` or later, until it breaks: by the age of their files, which is about the order of arrival (files are made
/// ahead). Files that vanish or are still arriving are passed over.
///
/// # Errors
/// The payload folder cannot be listed.
pub fn browse(
    path: &Path,
    filter: &Filter,
    since: Wall,
    mut visit: impl FnMut(&Instance, PathBuf) -> ControlFlow<()>,
) -> io::Result<()> {
    for id in folder::list(path)?.payloads {
        // An id begins with the time its file was made, which is never after the arrival.
        let Ok(Found::Whole(record, _)) = inspect(path, id, false) else {
            continue;
        };
        let wanted = record.instance.arrival >= since && filter.is_about(&record.instance);
        if wanted && visit(&record.instance, path_of(path, id)).is_break() {
            break;
        }
    }
    Ok(())
}

/// How many instances that arrived at `since` or later have been delivered and have left the cache since, as the ledger says: `browse`
/// cannot show them. Reads the index beside a running box. `None` when it cannot be read just now. Blocking.
#[must_use]
pub fn evicted_since(path: &Path, since: Wall) -> Option<u64> {
    let version = schema::version(path).ok().filter(schema::SpoolVersion::is_readable)?;
    let db = Db::open_read_only(&recover::index_path(path), schema::families_since(version.format)).ok()?;
    // By its fact and not by its id: an id has the time of a file that was made ahead, perhaps days before.
    let (mut came, mut gone) = (BTreeSet::new(), 0);
    let counted = db.scan(Cf::Ledger, &keys::ledger(since, 0), &[], |_, value| {
        if let Ok((_, fact)) = decode(value) {
            let id = fact.instance.as_deref().and_then(|id| InstanceId::parse(id).ok());
            match (fact.kind, id) {
                (FactKind::Stored | FactKind::Conflict, Some(id)) if fact.at() >= since => drop(came.insert(id)),
                (FactKind::Evicted, Some(id)) => gone += u64::from(came.remove(&id)),
                _ => {}
            }
        }
        true
    });
    counted.ok().map(|()| gone)
}
