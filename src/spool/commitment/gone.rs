//! What is remembered of an instance that has left the cache, or of which a person discarded a delivery, so that a source that
//! asks for its commitment long after is answered rightly, whether its payload is still there or not, and whichever copies of it have come
//! since. Kept for `spool.commitment_memory`.
use crate::base::clock::Wall;
use crate::base::names::{DestinationId, Uid};
use crate::spool::codec::{Damaged, Reader, Writer};
use crate::spool::db::{Cf, Db, DbError};
use crate::spool::keys;
use crate::spool::record::{InstanceRecord, SeenEntry, SeenRecord};
use crate::spool::txn::{DESTINATION, Txn, decode_number, meta_key};

/// How it left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::spool) enum How {
    /// Every delivery was confirmed.
    Delivered = 1,
    /// A person had discarded one of several deliveries.
    Discarded = 2,
    /// Not known where it had gone.
    Unknown = 3,
    /// A person had discarded every delivery.
    Dropped = 4,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::spool) struct Gone {
    pub class: Uid,
    pub at: Wall,
    pub how: How,
    /// BLAKE3 of its data set; zeros in what an earlier version wrote.
    digest: [u8; 32],
    /// Destinations whose delivery was discarded and that have it by no other job of it. Empty for one that was undecided.
    lost: Vec<String>,
    /// Destinations that confirmed it.
    made: Vec<String>,
}

impl Gone {
    pub(in crate::spool) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.short(self.class.as_str());
        w.u64(self.at.0);
        w.u8(self.how as u8);
        w.raw(&self.digest);
        for names in [&self.lost, &self.made] {
            w.u32(u32::try_from(names.len()).unwrap_or(0));
            names.iter().for_each(|name| w.short(name));
        }
        w.finish()
    }

    pub(in crate::spool) fn decode(raw: &[u8]) -> Result<Self, Damaged> {
        let mut r = Reader::open(raw)?;
        let mut gone = Self {
            class: Uid::parse(r.short()?).map_err(|_| Damaged)?,
            at: Wall(r.u64()?),
            how: match r.u8()? {
                1 => How::Delivered,
                2 => How::Discarded,
                3 => How::Unknown,
                4 => How::Dropped,
                _ => return Err(Damaged),
            },
            digest: [0; 32],
            lost: Vec::new(),
            made: Vec::new(),
        };
        // Those of earlier versions end here.
        if r.end().is_ok() {
            return Ok(gone);
        }
        gone.digest = r.array()?;
        for names in [&mut gone.lost, &mut gone.made] {
            for _ in 0..r.u32()? {
                names.push(r.short()?.to_owned());
            }
        }
        r.end()?;
        Ok(gone)
    }

    /// Whether what a person discarded of it was made anew, by a copy of the same content that is judged by itself. `entry` is that
    /// content, if it is known; `others` are its copies that have left too.
    fn is_made_anew(&self, db: &Db, entry: Option<&SeenEntry>, others: &[&Self]) -> Result<bool, DbError> {
        let copied = !others.is_empty() || entry.is_some_and(|entry| entry.deliveries().next().is_some());
        let dropped = self.how == How::Dropped;
        match self.how {
            How::Delivered | How::Unknown => return Ok(false),
            How::Dropped if !copied => return Ok(false),
            // What an earlier version wrote does not say what was discarded.
            How::Discarded if self.lost.is_empty() => return Ok(false),
            How::Dropped | How::Discarded => {}
        }
        // Of what had no destination, whatever came of the copy is the whole answer.
        let lost = self.lost.iter().filter(|name| !(dropped && name.is_empty()));
        for name in lost {
            let number = db.get(Cf::Meta, &meta_key(DESTINATION, name))?;
            let number = number.and_then(|raw| decode_number(&raw).ok());
            let goes = |(dest, _): &(u32, _)| Some(u64::from(*dest)) == number;
            let again = entry.is_some_and(|entry| entry.deliveries().any(goes));
            if !again && !others.iter().any(|other| other.made.contains(name)) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Those of all copies that have left under a UID that count: what was discarded and made anew since does not.
pub(super) fn counting(db: &Db, seen: &SeenRecord, all: Vec<Gone>) -> Result<Vec<Gone>, DbError> {
    let mut made_anew = Vec::with_capacity(all.len());
    for (at, gone) in all.iter().enumerate() {
        let entry = seen.entries.iter().find(|entry| entry.digest == gone.digest);
        let others = all.iter().enumerate();
        let others = others.filter(|(other, _)| *other != at).map(|(_, other)| other);
        let same = |other: &&Gone| other.digest == gone.digest && other.how != How::Dropped;
        let others: Vec<&Gone> = others.filter(same).collect();
        made_anew.push(gone.is_made_anew(db, entry, &others)?);
    }
    let mut made_anew = made_anew.into_iter();
    let mut all = all;
    all.retain(|_| !made_anew.next().unwrap_or(false));
    Ok(all)
}

/// Where copies of a content that have left were delivered, as far as it is remembered.
pub(in crate::spool) fn made_by_copies(
    db: &Db,
    sop_instance: &Uid,
    digest: &[u8; 32],
) -> Result<Vec<DestinationId>, DbError> {
    let (mut made, prefix) = (Vec::new(), keys::gone_prefix(sop_instance));
    db.scan(Cf::Meta, &prefix, &keys::behind(&prefix), |_, value| {
        let gone = Gone::decode(value).ok().filter(|gone| gone.digest == *digest);
        let names = gone.into_iter().flat_map(|gone| gone.made);
        made.extend(names.filter_map(|name| DestinationId::parse(&name).ok()));
        true
    })?;
    made.sort();
    made.dedup();
    Ok(made)
}

/// Remembers an instance whose last job has ended when a person has discarded one of its deliveries: `seen` knows its newest copy alone.
pub(in crate::spool) fn remember_discarded(txn: &mut Txn<'_>, record: &InstanceRecord) {
    if record.is_discarded() {
        remember(txn, record);
    }
}

/// Remembers an instance in the batch that takes it out of the cache, or in which a person discards the last of it.
pub(in crate::spool) fn remember(txn: &mut Txn<'_>, record: &InstanceRecord) {
    let named = |txn: &Txn<'_>, discarded: bool| {
        let done = record.done.iter().filter(|end| end.status.is_none() == discarded);
        let mut names: Vec<String> = done
            .map(|end| txn.name(end.dest).map_or_else(String::new, |name| name.to_string()))
            .collect();
        names.sort();
        names.dedup();
        names
    };
    let (mut lost, made) = (named(txn, true), named(txn, false));
    lost.retain(|name| !made.contains(name));
    let how = match () {
        () if record.done.is_empty() => How::Unknown,
        () if lost.is_empty() => How::Delivered,
        () if made.is_empty() => How::Dropped,
        () => How::Discarded,
    };
    let gone = Gone {
        class: record.instance.sop_class.clone(),
        at: txn.now,
        how,
        digest: record.instance.digest,
        lost,
        made,
    };
    let key = keys::gone(&record.instance.sop_instance, record.instance.id);
    txn.put(Cf::Meta, key, gone.encode());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_version_remembered_is_read_and_any_flipped_bit_is_seen() {
        let mut w = Writer::new();
        w.short("1.2.840.10008.5.1.4.1.1.2");
        w.u64(7);
        w.u8(2);
        let old = Gone::decode(&w.finish()).unwrap();
        assert_eq!((old.how, old.at, old.digest), (How::Discarded, Wall(7), [0; 32]));
        let new = Gone {
            digest: [3; 32],
            lost: vec![String::new(), "vna".to_owned()],
            made: vec!["pacs".to_owned()],
            ..old
        };
        let raw = new.encode();
        assert_eq!(Gone::decode(&raw), Ok(new));
        for bit in 0..raw.len() * 8 {
            let mut bad = raw.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Gone::decode(&bad), Err(Damaged), "bit {bit}");
        }
    }
}
