//! What the index forgets some time after it was last used: families of entries, looked through a stretch at a time.
use super::core::Core;
use super::db::Cf;
use super::keys;
use super::model::CommitError;
use super::txn::Txn;
use crate::base::clock::Wall;

/// Keys looked at in one stretch.
const STRETCH: usize = 2_048;

/// Forgets an entry that is old: its key, and the bytes that stand there inside this batch.
pub(super) type Forget = fn(&mut Txn<'_>, Vec<u8>, Vec<u8>) -> Result<(), CommitError>;

/// Entries of one kind.
pub(super) struct Family {
    pub cf: Cf,
    /// With which its keys begin; empty when the column family holds nothing else.
    pub prefix: &'static [u8],
    /// Whether the entry of a key was last used before a moment. True also of one that cannot be read: `forget` puts it aside.
    pub is_old: fn(&[u8], &[u8], Wall) -> bool,
    pub forget: Forget,
}

impl Family {
    /// The keys of the next stretch that are old, from `from` on (empty: from the first), and where to go on: empty at the end.
    pub(super) fn old(&self, core: &Core, from: &[u8], before: Wall) -> (Vec<Vec<u8>>, Vec<u8>) {
        let (mut found, mut next, mut looked) = (Vec::new(), Vec::new(), 0);
        let Ok(db) = core.db() else {
            return (found, next);
        };
        let scan = db.scan(
            self.cf,
            from.max(self.prefix),
            &keys::behind(self.prefix),
            |key, value| {
                if looked == STRETCH {
                    next = key.to_vec();
                    return false;
                }
                looked += 1;
                if (self.is_old)(key, value, before) {
                    found.push(key.to_vec());
                }
                true
            },
        );
        if scan.is_err() {
            core.gate.latch("index_read");
        }
        (found, next)
    }

    /// Forgets what `old` found. Each is read again inside the batch: it may have been used meanwhile.
    ///
    /// # Errors
    /// The index cannot be read; nothing was forgotten.
    pub(super) fn sweep(&self, txn: &mut Txn<'_>, found: Vec<Vec<u8>>, before: Wall) -> Result<(), CommitError> {
        for key in found {
            if let Some(raw) = txn.get(self.cf, &key)?
                && (self.is_old)(&key, &raw, before)
            {
                (self.forget)(txn, key, raw)?;
            }
        }
        Ok(())
    }
}
