//! For the fuzz targets, in builds with planted faults only: every record reader on the same bytes. Called by nobody else.
use super::codec::wrap;
use super::record::{InstanceRecord, JobRecord, SeenRecord};
use super::{keys, ledger};

/// Reads a body as each kind of record, whole and behind a right version and checksum, and as each kind of key. What can
/// be read must be written as bytes that are read as the same. Answers which readers took it, one bit each.
///
/// # Panics
/// When a record that was read and written is not read as itself.
#[must_use]
pub fn read_records(body: &[u8]) -> u64 {
    let mut taken = 0;
    for (shift, raw) in [(0, body.to_vec()), (8, wrap(body))] {
        if let Ok(record) = InstanceRecord::decode(&raw) {
            let again = InstanceRecord::decode(&record.encode());
            let kept = again.map(|again| again.instance == record.instance);
            assert_eq!(kept, Ok(true), "an instance record that changes");
            taken |= 1 << shift;
        }
        if let Ok(record) = InstanceRecord::decode_identity(&raw) {
            let again = InstanceRecord::decode_identity(&record.identity());
            assert_eq!(again.as_ref(), Ok(&record), "an identity that changes");
            taken |= 2 << shift;
        }
        if let Ok(record) = JobRecord::decode(&raw) {
            assert_eq!(
                JobRecord::decode(&record.encode()).as_ref(),
                Ok(&record),
                "a job record that changes"
            );
            taken |= 4 << shift;
        }
        if SeenRecord::decode(&raw).is_ok() {
            taken |= 8 << shift;
        }
        if ledger::decode(&raw).is_ok() {
            taken |= 16 << shift;
        }
    }
    let keys = [
        keys::job_of(body).is_some(),
        keys::due_of(body).is_some(),
        keys::hold_of(body).is_some(),
    ];
    keys.iter().fold(taken, |bits, key| (bits << 1) | u64::from(*key))
}
