//! The instances of a spool from their payload files alone, for whoever only reads: works beside a running box and after the
//! index is lost. The bench looks at heads this way.
use super::model::Instance;
use super::payload::path_of;
use super::query::Filter;
use super::recover::{self, Found};
use crate::base::clock::Wall;
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
