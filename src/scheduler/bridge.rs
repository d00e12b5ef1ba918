//! From the spool's words to the sender's: a lease becomes a job, a payload becomes a reader.
use crate::base::names::Uid;
use crate::dicom::dimse;
use crate::dicom::edit::Plan;
use crate::sender::{Job, PayloadReader, ReadFault};
use crate::spool::{Lease, Payload, Priority, ReadError};
use bytes::Bytes;

/// The job as the sender needs to know it.
pub(super) fn job(lease: &Lease) -> Job {
    Job {
        id: lease.job,
        instance: lease.instance.id,
        sop_class: lease.instance.sop_class.clone(),
        sop_instance: lease.instance.sop_instance.clone(),
        transfer_syntax: lease.instance.transfer_syntax.clone(),
        source_ae: lease.instance.calling_ae.clone(),
        plan: lease.plan.clone(),
        priority: match lease.priority {
            Priority::Stat | Priority::High => dimse::Priority::High,
            Priority::Routine => dimse::Priority::Medium,
            Priority::Low => dimse::Priority::Low,
        },
    }
}

/// The SOP Instance UID that a job's plan writes, for the spool, which knows no plan. One that cannot be read writes none: the sender
/// holds its job.
#[must_use]
pub fn written_uid(plan: &[u8]) -> Option<Uid> {
    Plan::decode(plan).ok()?.sop_instance()
}

/// A spool payload, read once from its start.
pub(super) struct Reader(pub Payload);

impl PayloadReader for Reader {
    fn length(&self) -> u64 {
        self.0.length()
    }

    async fn next(&mut self) -> Result<Option<Bytes>, ReadFault> {
        self.0.next().await.map_err(fault)
    }

    fn rewind(&mut self) {
        self.0.rewind();
    }

    fn verify(&mut self) -> Result<(), ReadFault> {
        self.0.verify().map_err(fault)
    }
}

fn fault(error: ReadError) -> ReadFault {
    match error {
        ReadError::Corrupt => ReadFault::Corrupt,
        ReadError::Gone | ReadError::Missing | ReadError::Unreadable(_) => ReadFault::Unreadable(error.to_string()),
        ReadError::Io | ReadError::Deadline | ReadError::GateLatched => ReadFault::Later(error.to_string()),
    }
}
