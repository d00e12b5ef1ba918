//! The instances of a spool from their payload files alone, for whoever only reads: works beside a running box and after the
//! index is lost. The bench looks at heads this way.
use super::db::{Cf, Db};
use super::keys;
use super::ledger::{FactKind, decode};
use super::model::Instance;
use super::payload::path_of;
use super::query::Filter;
use super::recover::{self, Found};
use super::schema;
use crate::base::clock::Wall;
use crate::base::names::InstanceId;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Calls `visit` with every whole instance that `filter` is about (its source, instance, study and SOP instance) and that
/// arrived at `since` or later, the oldest first, until it breaks. Files that vanish or are still arriving are passed over.
///
/// # Errors
/// The payload folder cannot be listed.
pub fn browse(
    path: &Path,
    filter: &Filter,
    since: Wall,
    mut visit: impl FnMut(&Instance, PathBuf) -> ControlFlow<()>,
) -> io::Result<()> {
    for id in recover::list(path)? {
        // An id begins with the time its file was made, which is never after the arrival.
        let Ok(Found::Whole(record, _)) = recover::inspect(path, id, false) else {
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
    let mut gone = 0;
    let counted = db.scan(Cf::Ledger, &keys::ledger(since, 0), &[], |_, value| {
        if let Ok((_, fact)) = decode(value) {
            let id = fact.instance.as_deref().and_then(|id| InstanceId::parse(id).ok());
            gone += u64::from(fact.kind == FactKind::Evicted && id.is_some_and(|id| came_after(id, since)));
        }
        true
    });
    counted.ok().map(|()| gone)
}

/// An id begins with the time its file was made.
fn came_after(id: InstanceId, since: Wall) -> bool {
    id.0[..8] >= since.0.to_be_bytes()[..]
}
