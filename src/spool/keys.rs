//! The keys of the index, big-endian, so that byte order is the order meant. Nothing else builds or cuts a key.
use super::late::Late;
use super::model::{JobKey, Priority};
use crate::base::clock::Wall;
use crate::base::names::{DestinationId, InstanceId, JobId, Uid};
use std::time::Duration;

/// The number of "no destination yet".
pub(super) const UNDECIDED: u32 = 0;

/// In a `seen` entry: to destinations that a rebuild could not learn, so to any.
pub(super) const ANYWHERE: u32 = u32::MAX;

pub(super) fn job(key: JobKey) -> [u8; 12] {
    let mut out = [0; 12];
    out[..4].copy_from_slice(&key.dest.to_be_bytes());
    out[4..].copy_from_slice(&key.job.0.to_be_bytes());
    out
}

pub(super) fn job_of(raw: &[u8]) -> Option<JobKey> {
    (raw.len() == 12).then_some(())?;
    Some(JobKey {
        dest: u32_at(raw, 0)?,
        job: JobId(u64_at(raw, 4)?),
    })
}

/// `dest | priority | due | job`: a dead route stands in nobody's way.
pub(super) fn due(key: JobKey, priority: Priority, at: Wall) -> [u8; 21] {
    let mut out = [0; 21];
    out[..4].copy_from_slice(&key.dest.to_be_bytes());
    out[4] = priority as u8;
    out[5..13].copy_from_slice(&at.0.to_be_bytes());
    out[13..].copy_from_slice(&key.job.0.to_be_bytes());
    out
}

pub(super) fn due_of(raw: &[u8]) -> Option<(JobKey, Priority, Wall)> {
    (raw.len() == 21).then_some(())?;
    let key = JobKey {
        dest: u32_at(raw, 0)?,
        job: JobId(u64_at(raw, 13)?),
    };
    Some((key, Priority::from_byte(raw[4])?, Wall(u64_at(raw, 5)?)))
}

pub(super) fn hold(key: JobKey, since: Wall) -> [u8; 20] {
    let mut out = [0; 20];
    out[..4].copy_from_slice(&key.dest.to_be_bytes());
    out[4..12].copy_from_slice(&since.0.to_be_bytes());
    out[12..].copy_from_slice(&key.job.0.to_be_bytes());
    out
}

pub(super) fn hold_of(raw: &[u8]) -> Option<(JobKey, Wall)> {
    (raw.len() == 20).then_some(())?;
    let key = JobKey {
        dest: u32_at(raw, 0)?,
        job: JobId(u64_at(raw, 12)?),
    };
    Some((key, Wall(u64_at(raw, 4)?)))
}

pub(super) fn reference(id: InstanceId, key: JobKey) -> [u8; 28] {
    let mut out = [0; 28];
    out[..16].copy_from_slice(&id.0);
    out[16..].copy_from_slice(&job(key));
    out
}

pub(super) fn reference_of(raw: &[u8]) -> Option<(InstanceId, JobKey)> {
    (raw.len() == 28).then_some(())?;
    Some((id_at(raw, 0)?, job_of(&raw[16..])?))
}

/// By the SOP Instance UID alone: two sources that send one UID must meet here.
pub(super) fn seen(sop_instance: &Uid) -> [u8; 16] {
    short_hash(sop_instance.as_str())
}

pub(super) fn study_prefix(study: &Uid) -> [u8; 16] {
    short_hash(study.as_str())
}

pub(super) fn study(study: &Uid, id: InstanceId) -> [u8; 32] {
    let mut out = [0; 32];
    out[..16].copy_from_slice(&study_prefix(study));
    out[16..].copy_from_slice(&id.0);
    out
}

/// Whether a key of the family is a study's own record, which stands before those of its instances.
pub(super) fn is_study(raw: &[u8]) -> bool {
    raw.len() == 16
}

/// The map of aliases, in `meta`: `alias/ | kind | 0 | hash of what was written | hash of what was sent`.
pub(super) const ALIAS: &[u8] = b"alias/";
/// The same turned round: by what was sent.
const ALIAS_BACK: &[u8] = b"alias-back/";

pub(super) fn alias_prefix(kind: &str, written: &str) -> Vec<u8> {
    [ALIAS, kind.as_bytes(), &[0], &short_hash(written)].concat()
}

pub(super) fn alias(kind: &str, written: &str, sent: &str) -> Vec<u8> {
    [alias_prefix(kind, written), short_hash(sent).to_vec()].concat()
}

pub(super) fn alias_back_prefix(kind: &str, sent: &str) -> Vec<u8> {
    [ALIAS_BACK, kind.as_bytes(), &[0], &short_hash(sent)].concat()
}

pub(super) fn alias_back(kind: &str, sent: &str, written: &str) -> Vec<u8> {
    [alias_back_prefix(kind, sent), short_hash(written).to_vec()].concat()
}

/// The key of the same pair in the other direction.
pub(super) fn alias_turned(raw: &[u8]) -> Vec<u8> {
    let (other, rest) = match raw.strip_prefix(ALIAS) {
        Some(rest) => (ALIAS_BACK, rest),
        None => (ALIAS, raw.strip_prefix(ALIAS_BACK).unwrap_or(raw)),
    };
    let (kind, hashes) = rest.split_at(rest.len().saturating_sub(32));
    let (first, second) = hashes.split_at(hashes.len() / 2);
    [other, kind, second, first].concat()
}

/// Whether a key of `meta` belongs to the map, in either direction.
pub(super) fn is_alias(raw: &[u8]) -> bool {
    raw.starts_with(ALIAS) || raw.starts_with(ALIAS_BACK)
}

/// Jobs that another destination may take over, in `meta`: `failover/ | dest | after (microseconds) | job`.
pub(super) const FAILOVER: &[u8] = b"failover/";

pub(super) fn failover(key: JobKey, after: Duration) -> Vec<u8> {
    let after = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
    let (dest, job) = (key.dest.to_be_bytes(), key.job.0.to_be_bytes());
    [FAILOVER, &dest, &after.to_be_bytes(), &job].concat()
}

pub(super) fn failover_prefix(dest: u32) -> Vec<u8> {
    [FAILOVER, &dest.to_be_bytes()].concat()
}

pub(super) fn failover_of(raw: &[u8]) -> Option<JobKey> {
    let rest = raw.strip_prefix(FAILOVER)?;
    (rest.len() == 20).then_some(())?;
    Some(JobKey {
        dest: u32_at(rest, 0)?,
        job: JobId(u64_at(rest, 12)?),
    })
}

/// Under which SOP Instance UID renamed instances leave, in `meta`: `as/ | hash of destination and UID as it leaves`, and
/// `from/ | hash of destination and UID as it came`. By the destination's name: its number changes in a rebuild.
pub(super) const LEAVES: &[u8] = b"leaves/";

pub(super) fn leaves_as(destination: &DestinationId, uid: &Uid) -> Vec<u8> {
    [LEAVES, b"as/", &short_hash(&format!("{destination}/{}", uid.as_str()))].concat()
}

pub(super) fn left_from(destination: &DestinationId, uid: &Uid) -> Vec<u8> {
    [
        LEAVES,
        b"from/",
        &short_hash(&format!("{destination}/{}", uid.as_str())),
    ]
    .concat()
}

/// Everything of storage commitment, in `meta`. Below it the families that follow.
pub(super) const COMMITMENT: &[u8] = b"commitment/";
/// Jobs that wait for their destination's commitment: `dest | asked | hash of study UID | job`.
pub(super) const AWAITS: &[u8] = b"commitment/awaits/";
/// Requests that this box has made: `id`; and `hash of transaction UID`.
pub(super) const OUTGOING: &[u8] = b"commitment/out/";
pub(super) const OUTGOING_UID: &[u8] = b"commitment/out-uid/";
/// Requests that sources have made: `id`, what was asked; `id`, how it stands; `hash of source and transaction UID`.
pub(super) const INCOMING: &[u8] = b"commitment/in/";
pub(super) const INCOMING_STATE: &[u8] = b"commitment/in-state/";
pub(super) const INCOMING_UID: &[u8] = b"commitment/in-uid/";
/// Instances that have left the cache: `hash of SOP Instance UID | our id`.
pub(super) const GONE: &[u8] = b"commitment/gone/";

pub(super) fn awaits(key: JobKey, asked: bool, study: [u8; 16]) -> Vec<u8> {
    let (dest, job) = (key.dest.to_be_bytes(), key.job.0.to_be_bytes());
    [AWAITS, &dest, &[u8::from(asked)], &study, &job].concat()
}

pub(super) fn awaits_prefix(dest: u32, asked: bool) -> Vec<u8> {
    [AWAITS, &dest.to_be_bytes(), &[u8::from(asked)]].concat()
}

/// The job, whether its commitment was asked for, and the hash of its study.
pub(super) fn awaits_of(raw: &[u8]) -> Option<(JobKey, bool, [u8; 16])> {
    let rest = raw.strip_prefix(AWAITS)?;
    (rest.len() == 29).then_some(())?;
    let key = JobKey {
        dest: u32_at(rest, 0)?,
        job: JobId(u64_at(rest, 21)?),
    };
    Some((key, rest[4] == 1, rest.get(5..21)?.try_into().ok()?))
}

pub(super) fn numbered(prefix: &[u8], id: u64) -> Vec<u8> {
    [prefix, &id.to_be_bytes()].concat()
}

pub(super) fn number_of(raw: &[u8], prefix: &[u8]) -> Option<u64> {
    let rest = raw.strip_prefix(prefix)?;
    (rest.len() == 8).then_some(())?;
    u64_at(rest, 0)
}

pub(super) fn outgoing_uid(transaction: &Uid) -> Vec<u8> {
    [OUTGOING_UID, &short_hash(transaction.as_str())].concat()
}

/// Two sources that use one transaction UID do not meet.
pub(super) fn incoming_uid(source: &str, transaction: &Uid) -> Vec<u8> {
    [INCOMING_UID, &short_hash(&format!("{source}/{}", transaction.as_str()))].concat()
}

pub(super) fn gone_prefix(sop_instance: &Uid) -> Vec<u8> {
    [GONE, &seen(sop_instance)].concat()
}

pub(super) fn gone(sop_instance: &Uid, id: InstanceId) -> Vec<u8> {
    [&gone_prefix(sop_instance)[..], &id.0].concat()
}

pub(super) fn cached(arrival: Wall, id: InstanceId) -> [u8; 24] {
    let mut out = [0; 24];
    out[..8].copy_from_slice(&arrival.0.to_be_bytes());
    out[8..].copy_from_slice(&id.0);
    out
}

pub(super) fn cached_of(raw: &[u8]) -> Option<InstanceId> {
    (raw.len() == 24).then_some(())?;
    id_at(raw, 8)
}

pub(super) fn ledger(at: Wall, seq: u64) -> [u8; 16] {
    let mut out = [0; 16];
    out[..8].copy_from_slice(&at.0.to_be_bytes());
    out[8..].copy_from_slice(&seq.to_be_bytes());
    out
}

pub(super) fn ledger_of(raw: &[u8]) -> Option<(Wall, u64)> {
    (raw.len() == 16).then_some(())?;
    Some((Wall(u64_at(raw, 0)?), u64_at(raw, 8)?))
}

/// Lines that are late, in `meta`: `ledger/late/ | own time | time | sequence number`.
const LATE: &[u8] = b"ledger/late/";

pub(super) fn late(Late { own, at, seq }: Late) -> Vec<u8> {
    [LATE, &own.0.to_be_bytes(), &ledger(at, seq)].concat()
}

pub(super) fn late_of(raw: &[u8]) -> Option<Late> {
    let (own, line) = raw.strip_prefix(LATE)?.split_first_chunk::<8>()?;
    let own = Wall(u64::from_be_bytes(*own));
    let (at, seq) = ledger_of(line)?;
    Some(Late { own, at, seq })
}

/// `instance | time | sequence number` of a fact that is about the instance.
pub(super) fn history(id: InstanceId, at: Wall, seq: u64) -> [u8; 32] {
    let mut out = [0; 32];
    out[..16].copy_from_slice(&id.0);
    out[16..].copy_from_slice(&ledger(at, seq));
    out
}

pub(super) fn history_of(raw: &[u8]) -> Option<(InstanceId, Wall, u64)> {
    (raw.len() == 32).then_some(())?;
    let (at, seq) = ledger_of(&raw[16..])?;
    Some((id_at(raw, 0)?, at, seq))
}

pub(super) fn instance_of(raw: &[u8]) -> Option<InstanceId> {
    (raw.len() == 16).then_some(())?;
    id_at(raw, 0)
}

/// The first key behind all keys that start with `prefix`; empty when there is none.
pub(super) fn behind(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end
}

fn short_hash(text: &str) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..16]);
    out
}

fn u32_at(raw: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(raw.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(raw: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(raw.get(at..at + 8)?.try_into().ok()?))
}

fn id_at(raw: &[u8], at: usize) -> Option<InstanceId> {
    Some(InstanceId(raw.get(at..at + 16)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_and_sort_as_meant() {
        let key = JobKey { dest: 7, job: JobId(9) };
        assert_eq!(job_of(&job(key)), Some(key));
        let early = due(key, Priority::High, Wall(5));
        assert_eq!(due_of(&early), Some((key, Priority::High, Wall(5))));
        assert!(early < due(key, Priority::High, Wall(6)) && early < due(key, Priority::Low, Wall(1)));
        assert!(due(key, Priority::Low, Wall(u64::MAX)) < due(JobKey { dest: 8, ..key }, Priority::Stat, Wall(0)));
        assert_eq!(hold_of(&hold(key, Wall(3))), Some((key, Wall(3))));
        let id = InstanceId::new(1, 2);
        assert_eq!(reference_of(&reference(id, key)), Some((id, key)));
        assert_eq!(cached_of(&cached(Wall(1), id)), Some(id));
        assert_eq!(due_of(&early[..20]), None);
        let waits = failover(key, Duration::from_secs(900));
        assert_eq!(failover_of(&waits), Some(key));
        assert!(waits.starts_with(&failover_prefix(7)) && waits < failover(key, Duration::from_secs(901)));
        assert_eq!(failover_of(b"failover/"), None);
        let awaited = awaits(key, true, [3; 16]);
        assert_eq!(awaits_of(&awaited), Some((key, true, [3; 16])));
        assert!(awaited.starts_with(&awaits_prefix(7, true)) && !awaited.starts_with(&awaits_prefix(7, false)));
        assert_eq!(number_of(&numbered(OUTGOING, 5), OUTGOING), Some(5));
        let own = |own| Late {
            own,
            at: Wall(9),
            seq: 4,
        };
        assert_eq!(late_of(&late(own(Wall(5)))), Some(own(Wall(5))));
        assert!(
            late(own(Wall(5))) < late(Late::first_of(Wall(6))) && late(Late::first_of(Wall(5))) < late(own(Wall(5)))
        );
        assert_eq!(number_of(&outgoing_uid(&Uid::known("1.2")), OUTGOING), None);
    }

    #[test]
    fn an_alias_is_found_from_both_sides() {
        let (there, back) = (alias("accession", "RA77", "77"), alias_back("accession", "77", "RA77"));
        assert_eq!(
            (alias_turned(&there), alias_turned(&back)),
            (back.clone(), there.clone())
        );
        assert!(there.starts_with(&alias_prefix("accession", "RA77")));
        assert!(back.starts_with(&alias_back_prefix("accession", "77")));
        assert!(!there.starts_with(&alias_prefix("accession", "RA7")) && !back.starts_with(ALIAS));
    }

    #[test]
    fn behind_a_prefix_lies_its_successor() {
        assert_eq!(behind(&[1, 2]), vec![1, 3]);
        assert_eq!(behind(&[1, 255]), vec![2]);
        assert!(behind(&[255, 255]).is_empty());
    }
}
