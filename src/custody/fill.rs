//! Brings instances into the index of patients and UIDs that were taken in without it: by an older version, or found again by a
//! start or a salvage. Reads one head after the other, in the background, and gives way to everything else.
use super::patient::head_of;
use crate::base::drain::Drain;
use crate::base::names::{InstanceId, Uid};
use crate::base::phi::Phi;
use crate::dicom::edit::Plan;
use crate::dicom::syntax::Syntax;
use crate::ingest;
use crate::spool::{By, Instance, ReadError, Spool, Trait};
use std::time::Duration;

/// Instances in one batch.
const BATCH: usize = 200;
/// Between two batches.
const PAUSE: Duration = Duration::from_millis(100);
/// After an error of the spool.
const REST: Duration = Duration::from_secs(10);

/// Fills until nothing is left, or the drain stops.
pub async fn run(spool: Spool, drain: Drain) {
    let mut filled = 0_u64;
    loop {
        let pause = match step(&spool).await {
            Ok(None) => break,
            Ok(Some(count)) => {
                filled += count;
                PAUSE
            }
            Err(error) => {
                tracing::warn!(%error, "the index of patients cannot be filled now");
                REST
            }
        };
        tokio::select! {
            () = drain.stopping() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
    if filled > 0 {
        tracing::info!(instances = filled, "the index of patients and UIDs is filled");
    }
}

/// One batch; `None` when there is nothing (more) to fill.
async fn step(spool: &Spool) -> Result<Option<u64>, ReadError> {
    let Some(batch) = spool.untraced(BATCH).await? else {
        return Ok(None);
    };
    let mut found: Vec<(InstanceId, Vec<Trait>)> = Vec::with_capacity(batch.instances.len());
    for instance in &batch.instances {
        found.push((instance.id, traits(spool, instance).await?));
    }
    let count = found.len() as u64;
    let filled = spool.fill_traced(&batch, found).await;
    filled.map_err(|_| ReadError::GateLatched)?;
    // The last batch has told the spool that all is filled.
    Ok((!batch.is_last()).then_some(count))
}

/// What the payload says, and what the map says was written in its place. A payload that cannot be read leaves the UIDs of its record.
async fn traits(spool: &Spool, instance: &Instance) -> Result<Vec<Trait>, ReadError> {
    let own = |by, uid: &Uid| Trait {
        by,
        value: Phi::new(uid.to_string()),
    };
    let none: [Plan; 0] = [];
    let mut found = match head_of(spool, instance.id, Syntax::of(&instance.transfer_syntax)).await {
        Ok(head) => ingest::traits(&head, none.iter()),
        Err(error @ (ReadError::Io | ReadError::Deadline | ReadError::GateLatched)) => return Err(error),
        Err(ReadError::Gone | ReadError::Missing | ReadError::Corrupt | ReadError::Unreadable(_)) => Vec::new(),
    };
    if found.is_empty() {
        found.push(own(By::Sop, &instance.sop_instance));
        found.extend(instance.study.as_ref().map(|study| own(By::Study, study)));
    }
    let mut written = Vec::new();
    for one in &found {
        let kind = match one.by {
            By::Accession => "accession",
            By::Study | By::Series | By::Sop => "uid",
            By::Patient => continue,
        };
        for mapped in spool.aliases(kind, one.value.expose(), true).await? {
            if mapped.source == instance.source {
                written.push(Trait {
                    by: one.by,
                    value: mapped.written,
                });
            }
        }
    }
    found.extend(written);
    Ok(found)
}
