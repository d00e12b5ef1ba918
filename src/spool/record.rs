//! The records of the index as bytes: version, body, crc32. Reading never panics: what does not parse is `Damaged`,
//! and the caller puts it into quarantine.
pub(super) use super::codec::Damaged;
use super::codec::{Reader, Writer};
use super::commitment::Pledge;
use super::model::{HoldKind, HoldReason, Instance, Priority};
use super::wait::Quiet;
use crate::base::clock::Wall;
use crate::base::names::{AeTitle, InstanceId, JobId, SourceId, Uid};
use std::time::Duration;

/// Outcomes of one instance that are kept in its record.
const DONE_MAX: usize = 64;
/// Contents that one SOP Instance UID is remembered with. More, while they are not where they must be.
pub(super) const SEEN_MAX: usize = 32;
/// So many of the oldest are looked at for one that may be forgotten.
pub(super) const SEEN_LOOK: usize = 64;

/// An instance, where its data set lies in its file, and what became of its jobs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct InstanceRecord {
    pub instance: Instance,
    pub data_set_offset: u32,
    pub private_offset: u32,
    /// No job refers to it any more: it is cache.
    pub delivered: bool,
    pub done: Vec<Done>,
}

/// A job that ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Done {
    pub dest: u32,
    pub job: JobId,
    pub at: Wall,
    /// The status word of the confirmation; `None` when a person discarded it.
    pub status: Option<u16>,
}

/// One instance to one destination.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct JobRecord {
    pub instance: InstanceId,
    pub priority: Priority,
    pub due: Wall,
    pub attempts: u32,
    pub enqueued: Wall,
    pub outcome: String,
    pub hold: Option<(Wall, HoldReason)>,
    pub plan: Vec<u8>,
    /// Waits until its study is quiet.
    pub quiet: Option<Quiet>,
    /// Who takes over when its destination is down.
    pub failover: Option<Failover>,
    /// How far its destination has committed to keep it.
    pub pledge: Pledge,
}

/// Who takes over a job whose destination has been down or suspended for `after`: the first, with its own plan; then the next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Failover {
    pub after: Duration,
    pub rest: Vec<Alternative>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Alternative {
    pub dest: u32,
    pub plan: Vec<u8>,
}

/// What one SOP Instance UID came with.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct SeenRecord {
    pub entries: Vec<SeenEntry>,
}

/// One content of it, and where it went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SeenEntry {
    pub digest: [u8; 32],
    pub instance: InstanceId,
    pub source: SourceId,
    pub called_ae: AeTitle,
    pub at: Wall,
    /// And notes of what a person rerouted: see `moved.rs`.
    pub jobs: Vec<(u32, JobId)>,
}

impl InstanceRecord {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        self.encode_identity(&mut w);
        w.u8(u8::from(self.delivered));
        let done = &self.done[self.done.len().saturating_sub(DONE_MAX)..];
        w.u32(u32::try_from(done.len()).unwrap_or(0));
        for end in done {
            w.u32(end.dest);
            w.u64(end.job.0);
            w.u64(end.at.0);
            w.u32(end.status.map_or(u32::MAX, u32::from));
        }
        w.finish()
    }

    /// Whether a person has discarded a delivery of it that no other job has made.
    pub(super) fn is_discarded(&self) -> bool {
        let confirmed = |dest: u32| self.done.iter().any(|end| end.dest == dest && end.status.is_some());
        let mut done = self.done.iter();
        done.any(|end| end.status.is_none() && !confirmed(end.dest))
    }

    /// Only what never changes: this also stands in the payload file itself.
    pub(super) fn identity(&self) -> Vec<u8> {
        let mut w = Writer::new();
        self.encode_identity(&mut w);
        w.finish()
    }

    fn encode_identity(&self, w: &mut Writer) {
        let i = &self.instance;
        w.raw(&i.id.0);
        w.short(i.source.as_str());
        w.short(i.calling_ae.as_str());
        w.short(i.called_ae.as_str());
        w.short(i.sop_class.as_str());
        w.short(i.sop_instance.as_str());
        w.short(i.study.as_ref().map_or("", Uid::as_str));
        w.short(i.transfer_syntax.as_str());
        w.u64(i.arrival.0);
        w.u64(i.length);
        w.raw(&i.digest);
        w.u64(i.rule_epoch);
        w.u32(self.data_set_offset);
        w.u32(self.private_offset);
    }

    pub(super) fn decode(raw: &[u8]) -> Result<Self, Damaged> {
        let mut r = Reader::open(raw)?;
        let mut record = Self::decode_identity_body(&mut r)?;
        record.delivered = r.u8()? == 1;
        for _ in 0..r.u32()? {
            record.done.push(Done {
                dest: r.u32()?,
                job: JobId(r.u64()?),
                at: Wall(r.u64()?),
                status: u16::try_from(r.u32()?).ok(),
            });
        }
        r.end()?;
        Ok(record)
    }

    pub(super) fn decode_identity(raw: &[u8]) -> Result<Self, Damaged> {
        let mut r = Reader::open(raw)?;
        let record = Self::decode_identity_body(&mut r)?;
        r.end()?;
        Ok(record)
    }

    fn decode_identity_body(r: &mut Reader<'_>) -> Result<Self, Damaged> {
        let instance = Instance {
            id: InstanceId(r.array()?),
            source: SourceId::parse(r.short()?).map_err(|_| Damaged)?,
            calling_ae: AeTitle::parse(r.short()?).map_err(|_| Damaged)?,
            called_ae: AeTitle::parse(r.short()?).map_err(|_| Damaged)?,
            sop_class: Uid::parse(r.short()?).map_err(|_| Damaged)?,
            sop_instance: Uid::parse(r.short()?).map_err(|_| Damaged)?,
            study: match r.short()? {
                "" => None,
                text => Some(Uid::parse(text).map_err(|_| Damaged)?),
            },
            transfer_syntax: Uid::parse(r.short()?).map_err(|_| Damaged)?,
            arrival: Wall(r.u64()?),
            length: r.u64()?,
            digest: r.array()?,
            rule_epoch: r.u64()?,
        };
        Ok(Self {
            instance,
            data_set_offset: r.u32()?,
            private_offset: r.u32()?,
            delivered: false,
            done: Vec::new(),
        })
    }
}

impl JobRecord {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.raw(&self.instance.0);
        w.u8(self.priority as u8);
        w.u64(self.due.0);
        w.u32(self.attempts);
        w.u64(self.enqueued.0);
        w.long(self.outcome.as_bytes());
        match &self.hold {
            None => w.u8(0),
            Some((since, reason)) => {
                w.u8(reason.kind as u8);
                w.u64(since.0);
                w.long(reason.text.as_bytes());
            }
        }
        w.long(&self.plan);
        // Older records end here, and so do jobs without either.
        if self.quiet.is_some() || self.failover.is_some() || self.pledge != Pledge::default() {
            self.encode_waits(&mut w);
        }
        if self.pledge != Pledge::default() {
            self.pledge.encode(&mut w);
        }
        w.finish()
    }

    fn encode_waits(&self, w: &mut Writer) {
        let span = |w: &mut Writer, span: Duration| w.u64(u64::try_from(span.as_micros()).unwrap_or(u64::MAX));
        w.u8(u8::from(self.quiet.is_some()));
        if let Some(quiet) = self.quiet {
            span(w, quiet.span);
            span(w, quiet.at_most);
        }
        let rest = self.failover.as_ref().map_or(&[][..], |failover| &failover.rest);
        w.u8(u8::try_from(rest.len()).unwrap_or(0));
        if let Some(failover) = self.failover.as_ref().filter(|_| !rest.is_empty()) {
            span(w, failover.after);
        }
        for other in rest {
            w.u32(other.dest);
            w.long(&other.plan);
        }
    }

    fn decode_waits(&mut self, r: &mut Reader<'_>) -> Result<(), Damaged> {
        if r.u8()? == 1 {
            self.quiet = Some(Quiet {
                span: Duration::from_micros(r.u64()?),
                at_most: Duration::from_micros(r.u64()?),
            });
        }
        let count = r.u8()?;
        if count > 0 {
            let mut failover = Failover {
                after: Duration::from_micros(r.u64()?),
                rest: Vec::new(),
            };
            for _ in 0..count {
                failover.rest.push(Alternative {
                    dest: r.u32()?,
                    plan: r.long()?.to_vec(),
                });
            }
            self.failover = Some(failover);
        }
        Ok(())
    }

    pub(super) fn decode(raw: &[u8]) -> Result<Self, Damaged> {
        let mut r = Reader::open(raw)?;
        let mut record = Self {
            instance: InstanceId(r.array()?),
            priority: Priority::from_byte(r.u8()?).ok_or(Damaged)?,
            due: Wall(r.u64()?),
            attempts: r.u32()?,
            enqueued: Wall(r.u64()?),
            outcome: r.text()?,
            hold: match r.u8()? {
                0 => None,
                byte => {
                    let kind = HoldKind::from_byte(byte).ok_or(Damaged)?;
                    Some((Wall(r.u64()?), HoldReason::new(kind, r.text()?)))
                }
            },
            plan: r.long()?.to_vec(),
            quiet: None,
            failover: None,
            pledge: Pledge::default(),
        };
        if r.end().is_err() {
            record.decode_waits(&mut r)?;
        }
        if r.end().is_err() {
            record.pledge = Pledge::decode(&mut r)?;
        }
        r.end()?;
        Ok(record)
    }
}

impl SeenRecord {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u32(u32::try_from(self.entries.len()).unwrap_or(0));
        for entry in &self.entries {
            w.raw(&entry.digest);
            w.raw(&entry.instance.0);
            w.short(entry.source.as_str());
            w.short(entry.called_ae.as_str());
            w.u64(entry.at.0);
            w.u32(u32::try_from(entry.jobs.len()).unwrap_or(0));
            for (dest, job) in &entry.jobs {
                w.u32(*dest);
                w.u64(job.0);
            }
        }
        w.finish()
    }

    pub(super) fn decode(raw: &[u8]) -> Result<Self, Damaged> {
        let mut r = Reader::open(raw)?;
        let mut record = Self::default();
        for _ in 0..r.u32()? {
            let mut entry = SeenEntry {
                digest: r.array()?,
                instance: InstanceId(r.array()?),
                source: SourceId::parse(r.short()?).map_err(|_| Damaged)?,
                called_ae: AeTitle::parse(r.short()?).map_err(|_| Damaged)?,
                at: Wall(r.u64()?),
                jobs: Vec::new(),
            };
            for _ in 0..r.u32()? {
                entry.jobs.push((r.u32()?, JobId(r.u64()?)));
            }
            record.entries.push(entry);
        }
        r.end()?;
        Ok(record)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::spool) fn instance() -> Instance {
        Instance {
            id: InstanceId::new(5, 6),
            source: SourceId::parse("ct1").unwrap(),
            calling_ae: AeTitle::parse("CT1").unwrap(),
            called_ae: AeTitle::parse("WAY").unwrap(),
            sop_class: Uid::known("1.2.840.10008.5.1.4.1.1.2"),
            sop_instance: Uid::known("1.2.3"),
            study: None,
            transfer_syntax: Uid::known("1.2.840.10008.1.2.1"),
            arrival: Wall(5),
            length: 10,
            digest: [3; 32],
            rule_epoch: 4,
        }
    }

    #[test]
    fn records_read_back_and_any_flipped_bit_is_seen() {
        let record = InstanceRecord {
            instance: instance(),
            data_set_offset: 400,
            private_offset: 200,
            delivered: true,
            done: vec![Done {
                dest: 1,
                job: JobId(2),
                at: Wall(3),
                status: Some(0xb000),
            }],
        };
        let raw = record.encode();
        assert_eq!(InstanceRecord::decode(&raw), Ok(record.clone()));
        for bit in 0..raw.len() * 8 {
            let mut bad = raw.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(InstanceRecord::decode(&bad), Err(Damaged));
        }
        let identity = InstanceRecord::decode_identity(&record.identity()).unwrap();
        assert_eq!(identity.instance, record.instance);
        assert!(identity.done.is_empty());
    }

    #[test]
    fn jobs_read_back() {
        let job = JobRecord {
            instance: InstanceId::new(1, 1),
            priority: Priority::Stat,
            due: Wall(1),
            attempts: 3,
            enqueued: Wall(2),
            outcome: "A700".into(),
            hold: Some((Wall(9), HoldReason::new(HoldKind::Refused, "C123"))),
            plan: vec![0; 70_000],
            quiet: None,
            failover: None,
            pledge: Pledge::default(),
        };
        assert_eq!(JobRecord::decode(&job.encode()), Ok(job.clone()));
        let waits = JobRecord {
            quiet: Some(Quiet {
                span: Duration::from_secs(600),
                at_most: Duration::from_secs(3_600),
            }),
            failover: Some(Failover {
                after: Duration::from_secs(900),
                rest: vec![Alternative {
                    dest: 2,
                    plan: vec![7; 300],
                }],
            }),
            ..job.clone()
        };
        assert_eq!(JobRecord::decode(&waits.encode()), Ok(waits.clone()));
        let only_quiet = JobRecord {
            failover: None,
            ..waits.clone()
        };
        assert_eq!(JobRecord::decode(&only_quiet.encode()), Ok(only_quiet));
        let only_failover = JobRecord { quiet: None, ..waits };
        assert_eq!(JobRecord::decode(&only_failover.encode()), Ok(only_failover));
        assert_eq!(JobRecord::decode(&job.encode()[1..]), Err(Damaged));
        assert_eq!(JobRecord::decode(&[]), Err(Damaged));
    }
}
