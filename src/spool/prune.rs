//! Old lines of the ledger go after `ledger.keep`, from its beginning. First a fact says up to which line, with that line's hash; then
//! the lines go, batch by batch, and the anchor with them, so that what is left still verifies (`chain.rs`). With the last line
//! about an instance that has left the spool, the index forgets the instance. Called by the keeper.
use super::chain::anchored;
use super::core::Core;
use super::db::Cf;
use super::late::Late;
use super::ledger::{Detail, Fact, FactKind, Head, decode, link};
use super::model::CommitError;
use super::txn::Txn;
use super::{keys, trace};
use crate::base::clock::Wall;
use crate::base::names::InstanceId;
use std::collections::BTreeSet;
use std::time::Duration;

/// Lines that one pruning takes away: what is older is met by the next.
pub(super) const LINES_MAX: usize = 100_000;
/// Lines in one batch.
pub(super) const BATCH: usize = 1_000;
/// Lines are pruned when the oldest is older than `ledger.keep` by this: once a day, and not all the time.
const SLACK: Duration = Duration::from_secs(86_400);

/// The last line to take away now; `None` when it is not time.
pub(super) fn due(core: &Core, now: Wall) -> Option<Head> {
    let keep = core.config.ledger.keep.0;
    let before = |span: Duration| {
        Wall(
            now.0
                .saturating_sub(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)),
        )
    };
    let (old, oldest) = (before(keep), before(keep + SLACK));
    let (mut last, mut looked) = (None, 0);
    let db = core.db().ok()?;
    let scan = db.scan(Cf::Ledger, &[], &[], |key, value| {
        let (at, seq) = keys::ledger_of(key).unwrap_or_default();
        if at >= old || looked == LINES_MAX || (looked == 0 && at >= oldest) {
            return false;
        }
        looked += 1;
        last = Some(Head {
            hash: link(key, value),
            seq,
            at,
        });
        true
    });
    if scan.is_err() {
        core.gate.latch("index_read");
        return None;
    }
    last
}

/// Says up to where.
pub(super) fn announce(txn: &mut Txn<'_>, upto: &Head) {
    let detail = Detail::Pruned {
        seq: upto.seq,
        hash: blake3::Hash::from_bytes(upto.hash).to_hex().to_string(),
    };
    txn.fact(
        Fact::new(FactKind::Pruned)
            .text(format!("lines up to {}", upto.seq))
            .detail(detail),
    );
}

/// Takes the next lines away. True: there are more, up to `upto`.
pub(super) fn batch(txn: &mut Txn<'_>, upto: &Head) -> Result<bool, CommitError> {
    let mut touched = BTreeSet::new();
    let (mut taken, mut more) = (0, false);
    for key in txn.keys(Cf::Ledger, &[], BATCH)? {
        let (at, seq) = keys::ledger_of(&key).unwrap_or_default();
        if (at, seq) > (upto.at, upto.seq) {
            break;
        }
        let Some(record) = txn.get(Cf::Ledger, &key)? else {
            continue;
        };
        let (change_cf, anchor_key, anchor) = anchored(&Head {
            hash: link(&key, &record),
            seq,
            at,
        });
        if let Ok((_, fact)) = decode(&record) {
            touched.extend(fact.about().map(|id| (id, keys::history(id, at, seq))));
            if let Some(own) = fact.own_us.map(Wall) {
                txn.delete(Cf::Meta, keys::late(Late { own, at, seq }));
            }
        }
        txn.delete(Cf::Ledger, key);
        txn.put(change_cf, anchor_key, anchor.unwrap_or_default());
        taken += 1;
        more = (at, seq) < (upto.at, upto.seq);
    }
    forget(txn, touched)?;
    Ok(more && taken > 0)
}

/// The entries of pruned lines go. The one that remembers the instance's traits stays as long as there is anything to find by it.
fn forget(txn: &mut Txn<'_>, touched: BTreeSet<(InstanceId, [u8; 32])>) -> Result<(), CommitError> {
    let ids: BTreeSet<InstanceId> = touched.iter().map(|(id, _)| *id).collect();
    for (_, key) in touched {
        if txn.get(Cf::History, &key)?.is_none_or(|note| note.is_empty()) {
            txn.delete(Cf::History, key);
        }
    }
    for id in ids {
        if txn.get(Cf::Instance, &id.0)?.is_some() {
            continue;
        }
        let left = txn.keys(Cf::History, &id.0, ENTRIES_MAX)?;
        let mut live = false;
        for key in &left {
            let line = keys::history_of(key).map(|(_, at, seq)| keys::ledger(at, seq));
            live |= match line {
                Some(line) => txn.get(Cf::Ledger, &line)?.is_some(),
                None => false,
            };
        }
        if !live {
            for key in left {
                let note = txn.get(Cf::History, &key)?.unwrap_or_default();
                trace::forget(txn, id, &note)?;
                txn.delete(Cf::History, key);
            }
        }
    }
    Ok(())
}

/// Entries of one instance that are looked at.
const ENTRIES_MAX: usize = 10_000;
