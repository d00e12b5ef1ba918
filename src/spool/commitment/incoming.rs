//! What sources have asked of this box: durable before it is accepted, kept until the source has taken the answer.
//!
//! A request is `waiting` until every instance of it has an answer, `decided` until that was delivered, then `answered`: its
//! list goes, its transaction UID stays for `spool.commitment_memory`, so that it is known as used.
use super::Named;
use crate::base::clock::Wall;
use crate::base::names::{AeTitle, SourceId, Uid};
use crate::spool::codec::{Damaged, Reader, Writer};
use crate::spool::db::{Cf, Db, DbError};
use crate::spool::keys;
use crate::spool::ledger::{Fact, FactKind};
use crate::spool::model::{CommitError, ReadError};
use crate::spool::txn::{Txn, decode_number, encode_number};

/// What an answer promises.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Safe in this box's spool.
    Edge = 1,
    /// Every destination that the instance was routed to has it on its word, and those that commit have committed.
    #[default]
    EndToEnd = 2,
}

impl Level {
    /// The word of listings and the ledger.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::EndToEnd => "end-to-end",
        }
    }
}

/// A request as a source makes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Demand {
    pub transaction: Uid,
    pub source: SourceId,
    pub calling: AeTitle,
    pub called: AeTitle,
    pub level: Level,
    pub references: Vec<Named>,
}

/// What became of it. Durable either way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accepted {
    /// It is being looked into.
    Waiting(u64),
    /// Its transaction UID is in use: every instance of it is answered 0131.
    Duplicate(u64),
}

/// A request that is not over, without its list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Open {
    pub id: u64,
    pub transaction: Uid,
    pub source: SourceId,
    pub calling: AeTitle,
    pub called: AeTitle,
    pub level: Level,
    pub at: Wall,
    pub references: usize,
    pub progress: Progress,
}

/// How far a request has come, and since when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    Waiting,
    Decided(Wall),
}

/// How long the unanswered instances of a request may be waited for: not any more, when true.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Patience {
    pub no_more_arrivals: bool,
    pub no_more_deliveries: bool,
}

/// What looking into a request found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Judgement {
    /// The first instance that has no answer yet; `absent`: it has not even come.
    Open { at: usize, absent: bool },
    /// Decided and durable: so many committed, so many failed.
    Decided { committed: usize, failed: usize },
    /// There is no such request any more.
    Gone,
}

/// What the source is to be told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    pub transaction: Uid,
    pub committed: Vec<Named>,
    pub failed: Vec<(Named, u16)>,
}

/// What was asked, as it lies in the index.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::spool) struct Request {
    pub(super) demand: Demand,
    at: Wall,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    Waiting = 1,
    Decided = 2,
    Over = 3,
}

/// How it stands, as it lies in the index.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::spool) struct State {
    pub(super) stage: Stage,
    /// Since when.
    pub(super) at: Wall,
    /// The key of its transaction UID.
    pub(super) uid: Vec<u8>,
    /// Of the decided: places in the list, and reasons.
    pub(super) failed: Vec<(u32, u16)>,
}

impl Request {
    fn encode(&self) -> Vec<u8> {
        let (mut w, demand) = (Writer::new(), &self.demand);
        w.short(demand.transaction.as_str());
        w.short(demand.source.as_str());
        w.short(demand.calling.as_str());
        w.short(demand.called.as_str());
        w.u8(demand.level as u8);
        w.u64(self.at.0);
        w.u32(u32::try_from(demand.references.len()).unwrap_or(u32::MAX));
        for named in &demand.references {
            named.encode(&mut w);
        }
        w.finish()
    }

    pub(in crate::spool) fn decode(raw: &[u8]) -> Result<Self, Damaged> {
        let mut r = Reader::open(raw)?;
        let mut demand = Demand {
            transaction: Uid::parse(r.short()?).map_err(|_| Damaged)?,
            source: SourceId::parse(r.short()?).map_err(|_| Damaged)?,
            calling: AeTitle::parse(r.short()?).map_err(|_| Damaged)?,
            called: AeTitle::parse(r.short()?).map_err(|_| Damaged)?,
            level: match r.u8()? {
                1 => Level::Edge,
                2 => Level::EndToEnd,
                _ => return Err(Damaged),
            },
            references: Vec::new(),
        };
        let at = Wall(r.u64()?);
        for _ in 0..r.u32()? {
            demand.references.push(Named::decode(&mut r)?);
        }
        r.end()?;
        Ok(Self { demand, at })
    }
}

impl State {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u8(self.stage as u8);
        w.u64(self.at.0);
        w.long(&self.uid);
        w.u32(u32::try_from(self.failed.len()).unwrap_or(u32::MAX));
        for (place, reason) in &self.failed {
            w.u32(*place);
            w.u32(u32::from(*reason));
        }
        w.finish()
    }

    pub(in crate::spool) fn decode(raw: &[u8]) -> Result<Self, Damaged> {
        let mut r = Reader::open(raw)?;
        let mut state = Self {
            stage: match r.u8()? {
                1 => Stage::Waiting,
                2 => Stage::Decided,
                3 => Stage::Over,
                _ => return Err(Damaged),
            },
            at: Wall(r.u64()?),
            uid: r.long()?.to_vec(),
            failed: Vec::new(),
        };
        for _ in 0..r.u32()? {
            let place = r.u32()?;
            state
                .failed
                .push((place, u16::try_from(r.u32()?).map_err(|_| Damaged)?));
        }
        r.end()?;
        Ok(state)
    }

    pub(in crate::spool) fn is_over(&self, before: Wall) -> bool {
        self.stage == Stage::Over && self.at < before
    }
}

/// Forgets an old request's transaction UID. False: its record could not be read.
pub(in crate::spool) fn forget(txn: &mut Txn<'_>, key: &[u8]) -> Result<bool, CommitError> {
    let Some(Ok(state)) = txn.get(Cf::Meta, key)?.map(|raw| State::decode(&raw)) else {
        return Ok(false);
    };
    if let Some(id) = keys::number_of(key, keys::INCOMING_STATE) {
        txn.delete(Cf::Meta, keys::numbered(keys::INCOMING, id));
        let owner = txn.get(Cf::Meta, &state.uid)?.and_then(|raw| decode_number(&raw).ok());
        if owner == Some(id) {
            txn.delete(Cf::Meta, state.uid);
        }
    }
    Ok(true)
}

impl crate::spool::Spool {
    /// Records a source's request: durable when this answers `Ok`, and only then may it be accepted.
    ///
    /// # Errors
    /// Nothing was recorded, or (`Deadline`) it may have been.
    pub async fn demand(&self, demand: Demand) -> Result<Accepted, CommitError> {
        if self.core.disk.critical() {
            return Err(CommitError::DiskFull);
        }
        self.submit(move |txn| accept(txn, demand)).await
    }

    /// All requests of sources that are not over, oldest first.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn demands(&self) -> Result<Vec<Open>, ReadError> {
        self.read(open).await
    }

    /// What the source of a decided request is to be told; `None` when it is not decided, or over.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn demand_answer(&self, id: u64) -> Result<Option<Answer>, ReadError> {
        self.read(move |db| {
            let (Some(request), Some(state)) = (request(db, id)?, state(db, id)?) else {
                return Ok(None);
            };
            Ok((state.stage == Stage::Decided).then(|| answer(request, &state)))
        })
        .await
    }

    /// The source has taken the answer.
    ///
    /// # Errors
    /// Nothing was recorded: it is told again.
    pub async fn demand_taken(&self, id: u64) -> Result<(), CommitError> {
        self.submit(move |txn| end(txn, id, None)).await
    }

    /// The answer is not delivered any more: a person says so (`who`), or it has been tried for long enough.
    ///
    /// # Errors
    /// `Gone`: there is no such open request.
    pub async fn demand_given_up(&self, id: u64, who: &str, reason: &str) -> Result<(), CommitError> {
        let (who, reason) = (who.to_owned(), reason.to_owned());
        self.submit(move |txn| end(txn, id, Some((&who, &reason)))).await
    }
}

fn accept(txn: &mut Txn<'_>, demand: Demand) -> Result<Accepted, CommitError> {
    let id = txn.new_job().0;
    let uid = keys::incoming_uid(demand.source.as_str(), &demand.transaction);
    let duplicate = txn.get(Cf::Meta, &uid)?.is_some();
    let mut state = State {
        stage: Stage::Waiting,
        at: txn.now,
        uid: uid.clone(),
        failed: Vec::new(),
    };
    if duplicate {
        state.stage = Stage::Decided;
        let all = u32::try_from(demand.references.len()).unwrap_or(u32::MAX);
        state.failed = (0..all).map(|place| (place, DUPLICATE_TRANSACTION)).collect();
    } else {
        txn.put(Cf::Meta, uid, encode_number(id));
    }
    let (source, transaction, count) = (&demand.source, &demand.transaction, demand.references.len());
    let level = demand.level.word();
    let text = format!("{source} asks for {count} instances, {level}, transaction {transaction}");
    txn.fact(Fact::new(FactKind::CommitmentRequested).text(text));
    let request = Request { demand, at: txn.now };
    txn.put(Cf::Meta, keys::numbered(keys::INCOMING, id), request.encode());
    txn.put(Cf::Meta, keys::numbered(keys::INCOMING_STATE, id), state.encode());
    Ok(if duplicate {
        Accepted::Duplicate(id)
    } else {
        Accepted::Waiting(id)
    })
}

/// Failure Reason: the Transaction UID is already in use.
const DUPLICATE_TRANSACTION: u16 = 0x0131;

pub(super) fn request(db: &Db, id: u64) -> Result<Option<Request>, DbError> {
    let raw = db.get(Cf::Meta, &keys::numbered(keys::INCOMING, id))?;
    Ok(raw.and_then(|raw| Request::decode(&raw).ok()))
}

pub(super) fn state(db: &Db, id: u64) -> Result<Option<State>, DbError> {
    let raw = db.get(Cf::Meta, &keys::numbered(keys::INCOMING_STATE, id))?;
    Ok(raw.and_then(|raw| State::decode(&raw).ok()))
}

fn open(db: &Db) -> Result<Vec<Open>, DbError> {
    let (mut found, mut failed) = (Vec::new(), None);
    db.scan(Cf::Meta, keys::INCOMING, &keys::behind(keys::INCOMING), |key, value| {
        let (Some(id), Ok(request)) = (keys::number_of(key, keys::INCOMING), Request::decode(value)) else {
            return true;
        };
        let progress = match state(db, id) {
            Err(error) => {
                failed = Some(error);
                return false;
            }
            // A state that is lost is looked into anew: nothing was promised that cannot be said again.
            Ok(None) => Progress::Waiting,
            Ok(Some(state)) => match state.stage {
                Stage::Waiting => Progress::Waiting,
                Stage::Decided => Progress::Decided(state.at),
                Stage::Over => return true,
            },
        };
        let demand = request.demand;
        found.push(Open {
            id,
            transaction: demand.transaction,
            source: demand.source,
            calling: demand.calling,
            called: demand.called,
            level: demand.level,
            at: request.at,
            references: demand.references.len(),
            progress,
        });
        true
    })?;
    failed.map_or(Ok(found), Err)
}

fn answer(request: Request, state: &State) -> Answer {
    let mut reasons = state.failed.iter().peekable();
    let mut answer = Answer {
        transaction: request.demand.transaction,
        committed: Vec::new(),
        failed: Vec::new(),
    };
    for (place, named) in (0_u32..).zip(request.demand.references) {
        match reasons.next_if(|(failed, _)| *failed == place) {
            Some((_, reason)) => answer.failed.push((named, *reason)),
            None => answer.committed.push(named),
        }
    }
    answer
}

/// A request is over: its list goes, its transaction UID stays known.
fn end(txn: &mut Txn<'_>, id: u64, given_up: Option<(&str, &str)>) -> Result<(), CommitError> {
    let (body, key) = (
        keys::numbered(keys::INCOMING, id),
        keys::numbered(keys::INCOMING_STATE, id),
    );
    let request = txn.record(Cf::Meta, &body, Request::decode)?.ok_or(CommitError::Gone)?;
    let demand = request.demand;
    let text = format!("{}: transaction {}", demand.source, demand.transaction);
    match given_up {
        None => txn.fact(Fact::new(FactKind::CommitmentAnswered).text(format!("{text} taken"))),
        Some((who, reason)) => {
            let fact = Fact::new(FactKind::CommitmentGivenUp).who(who);
            txn.fact(fact.text(format!("{text}: {reason}")));
        }
    }
    let state = State {
        stage: Stage::Over,
        at: txn.now,
        uid: keys::incoming_uid(demand.source.as_str(), &demand.transaction),
        failed: Vec::new(),
    };
    txn.delete(Cf::Meta, body);
    txn.put(Cf::Meta, key, state.encode());
    Ok(())
}
