//! The certificates of the running box: looked at for changes, taken when they work, shown to people.
//!
//! One task reads all files every few seconds; SIGHUP and `waystation reload` do so at once. Running associations are never
//! touched: what changes is what the next handshake begins with. A destination whose files were renewed is tried at once.
use crate::base::clock::Clock;
use crate::base::drain::Drain;
use crate::base::names::DestinationId;
use crate::pki::{Kind, Refreshed, Role, Slot, SlotStatus};
use crate::scheduler::Scheduler;
use crate::telemetry::metrics::Metrics;
use std::sync::Arc;
use std::time::Duration;

/// All slots of a box. Cheap to clone.
#[derive(Clone)]
pub struct Certificates(Arc<Inner>);

struct Inner {
    slots: Vec<Arc<Slot>>,
    scheduler: Scheduler,
    metrics: Metrics,
    clock: Clock,
}

/// Files that change are read again after this, until they rest.
const QUIET: Duration = Duration::from_millis(200);

impl Certificates {
    #[must_use]
    pub fn new(slots: Vec<Arc<Slot>>, scheduler: Scheduler, metrics: Metrics, clock: Clock) -> Self {
        let certificates = Self(Arc::new(Inner {
            slots,
            scheduler,
            metrics,
            clock,
        }));
        for slot in &certificates.0.slots {
            certificates.show(slot);
        }
        certificates
    }

    /// Looks at the files every so often until the drain stops. Zero: never.
    pub fn watch(&self, every: Duration, drain: &Drain) {
        if every.is_zero() || self.0.slots.is_empty() {
            return;
        }
        let (certificates, owner) = (self.clone(), drain.clone());
        drain.spawn("certificates", async move {
            loop {
                tokio::select! {
                    () = owner.stopping() => return,
                    () = tokio::time::sleep(every) => {}
                }
                let looking = certificates.clone();
                let looked = tokio::task::spawn_blocking(move || looking.refresh());
                tokio::select! {
                    () = owner.stopping() => return,
                    // A look that panicked has been counted; the next one comes.
                    _looked = looked => {}
                }
            }
        });
    }

    /// Looks at all files now. Answers how many were renewed, and what was refused, in words. Blocking.
    #[must_use]
    pub fn refresh(&self) -> (usize, Vec<String>) {
        let (mut renewed, mut refused) = (0, Vec::new());
        for slot in &self.0.slots {
            let (role, name) = (slot.role().word(), slot.name());
            let outcome = slot.refresh(self.0.clock.now(), QUIET);
            match &outcome {
                Refreshed::Unchanged => {}
                Refreshed::Renewed => {
                    renewed += 1;
                    self.count(slot, "renewed");
                    tracing::info!(role, name, "certificates renewed: new connections use them");
                    self.try_now(slot);
                }
                Refreshed::Kept { why, fresh } => {
                    refused.push(format!("{role} {name}: {why}; the old ones stay in force"));
                    if *fresh {
                        self.count(slot, "refused");
                        tracing::warn!(
                            role,
                            name,
                            reason = why,
                            "new certificate files cannot be used; the old ones stay in force, and the files are tried again"
                        );
                    }
                }
            }
            self.show(slot);
        }
        (renewed, refused)
    }

    /// What is in force and what lies on the disk. Blocking.
    #[must_use]
    pub fn status(&self) -> Vec<SlotStatus> {
        self.0.slots.iter().map(|slot| slot.status()).collect()
    }

    fn try_now(&self, slot: &Slot) {
        if slot.role() == Role::Destination
            && let Ok(destination) = DestinationId::parse(slot.name())
        {
            // One that is up has nothing to try.
            let _known = self.0.scheduler.poke(&destination);
        }
    }

    fn count(&self, slot: &Slot, result: &str) {
        let labels = [slot.role().word(), slot.name(), result];
        self.0
            .metrics
            .certificate_reloads_total
            .with_label_values(&labels)
            .inc();
    }

    fn show(&self, slot: &Slot) {
        let (metrics, role) = (&self.0.metrics, slot.role().word());
        let failed = i64::from(slot.refused().is_some());
        metrics
            .certificate_reload_failed
            .with_label_values(&[role, slot.name()])
            .set(failed);
        let expiries = slot.expiries();
        for kind in [Kind::Certificate, Kind::Intermediate, Kind::Ca, Kind::Crl] {
            let role = match kind {
                Kind::Certificate => role.to_owned(),
                Kind::Intermediate => format!("{role}_chain"),
                Kind::Ca => format!("{role}_ca"),
                Kind::Crl => role.to_owned(),
            };
            let gauge = if kind == Kind::Crl {
                &metrics.crl_next_update_timestamp_seconds
            } else {
                &metrics.certificate_expiry_timestamp_seconds
            };
            let labels = [role.as_str(), slot.name()];
            match expiries.iter().find(|(of, _)| *of == kind) {
                Some((_, at)) => gauge.with_label_values(&labels).set(*at),
                // Nothing of this kind is in force (any more): there is no series, or none again.
                None => drop(gauge.remove_label_values(&labels)),
            }
        }
    }
}
