//! Rule promotions that were made while no box ran: the rule history has them, the ledger not yet. How far the history is told is
//! remembered here, with a hash of the last line that was, so that a folder in another's place is told from its beginning.
use super::Spool;
use super::codec::{unwrap_body, wrap};
use super::db::Cf;
use super::ledger::{Fact, FactKind};
use super::model::CommitError;
use super::txn::Txn;

const TOLD: &[u8] = b"promotions/told";
/// Lines that are told at once: the last ones.
const TELL_MAX: usize = 1_000;

/// Who did it, and what: a line of the rule history.
type Line = (String, String);

impl Spool {
    /// Puts those lines of the rule history on the ledger that are not there yet. Answers how many.
    ///
    /// # Errors
    /// Nothing was recorded.
    pub async fn tell_promotions(&self, history: Vec<Line>) -> Result<usize, CommitError> {
        self.submit(move |txn| {
            let told = told(txn, &history)?;
            let new = &history[told.max(history.len().saturating_sub(TELL_MAX))..];
            for (who, text) in new {
                txn.fact(Fact::new(FactKind::Rules).who(who).text(text.clone()));
            }
            remember(txn, &history);
            Ok(new.len())
        })
        .await
    }

    /// Writes on the ledger that rules were put in force by the running box, and that the history is told up to here.
    ///
    /// # Errors
    /// Nothing was recorded.
    pub async fn promoted(&self, who: &str, text: &str, history: Vec<Line>) -> Result<(), CommitError> {
        let fact = Fact::new(FactKind::Rules).who(who).text(text);
        self.submit(move |txn| {
            txn.fact(fact);
            remember(txn, &history);
            Ok(())
        })
        .await
    }
}

fn told(txn: &Txn<'_>, history: &[Line]) -> Result<usize, CommitError> {
    let raw = txn.get(Cf::Meta, TOLD)?.unwrap_or_default();
    let Some((count, hash)) = unwrap_body(&raw).ok().and_then(|body| body.split_first_chunk::<8>()) else {
        return Ok(0);
    };
    let count = usize::try_from(u64::from_be_bytes(*count)).unwrap_or(usize::MAX);
    let same = count == 0 || history.get(count - 1).is_some_and(|line| hash == hash_of(line));
    Ok(if same { count } else { 0 })
}

fn remember(txn: &mut Txn<'_>, history: &[Line]) {
    let hash = history.last().map_or([0; 32], hash_of);
    let body = [&(history.len() as u64).to_be_bytes()[..], &hash].concat();
    if txn.get(Cf::Meta, TOLD).ok().flatten() != Some(wrap(&body)) {
        txn.put(Cf::Meta, TOLD, wrap(&body));
    }
}

fn hash_of((who, text): &Line) -> [u8; 32] {
    *blake3::Hasher::new()
        .update(who.as_bytes())
        .update(&[0])
        .update(text.as_bytes())
        .finalize()
        .as_bytes()
}
