//! What is remembered of an instance that has left the cache, so that a source that asks for its commitment long after is
//! answered rightly. Kept for `spool.commitment_memory`.
use crate::base::clock::Wall;
use crate::base::names::Uid;
use crate::spool::codec::{Damaged, Reader, Writer};
use crate::spool::db::Cf;
use crate::spool::keys;
use crate::spool::record::InstanceRecord;
use crate::spool::txn::Txn;

/// How it left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::spool) enum How {
    /// Every delivery was confirmed.
    Delivered = 1,
    /// A person had discarded a delivery of it.
    Discarded = 2,
    /// Not known where it had gone.
    Unknown = 3,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::spool) struct Gone {
    pub class: Uid,
    pub at: Wall,
    pub how: How,
}

impl Gone {
    pub(in crate::spool) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.short(self.class.as_str());
        w.u64(self.at.0);
        w.u8(self.how as u8);
        w.finish()
    }

    pub(in crate::spool) fn decode(raw: &[u8]) -> Result<Self, Damaged> {
        let mut r = Reader::open(raw)?;
        let gone = Self {
            class: Uid::parse(r.short()?).map_err(|_| Damaged)?,
            at: Wall(r.u64()?),
            how: match r.u8()? {
                1 => How::Delivered,
                2 => How::Discarded,
                3 => How::Unknown,
                _ => return Err(Damaged),
            },
        };
        r.end()?;
        Ok(gone)
    }
}

/// Remembers an instance in the batch that takes it out of the cache.
pub(in crate::spool) fn remember(txn: &mut Txn<'_>, record: &InstanceRecord) {
    let done = &record.done;
    let how = match () {
        () if done.is_empty() => How::Unknown,
        () if done.iter().any(|end| end.status.is_none()) => How::Discarded,
        () => How::Delivered,
    };
    let gone = Gone {
        class: record.instance.sop_class.clone(),
        at: txn.now,
        how,
    };
    let key = keys::gone(&record.instance.sop_instance, record.instance.id);
    txn.put(Cf::Meta, key, gone.encode());
}
