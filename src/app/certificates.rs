//! The certificates' place in the box: the slots of all listeners, lanes, storage commitment and alarm channels under one watch.
use super::Parts;
use crate::config::Config;
use crate::control::Certificates;
use crate::listener::accept::Bound;
use crate::pki::{Role, Slot};

impl Parts {
    /// Puts the certificates of these listeners, of every lane and of storage commitment under watch.
    pub(super) fn watch_certificates(&self, bound: &[Bound], config: &Config) -> Certificates {
        let listeners = bound.iter().filter_map(|bound| bound.certificates().cloned());
        let lanes = self.scheduler.certificates();
        let slots = listeners.chain(lanes).chain(self.commitment.certificates());
        let channels = config.alarms.authorities();
        let channels = channels.into_iter().filter_map(|(name, sources)| {
            // `check` has read them; a box whose alarms cannot be sent runs all the same, and says so when it sends one.
            let slot = Slot::open(Role::Alarm, &name, sources, self.clock.now());
            let failed = |error: &crate::pki::TlsError| tracing::error!(channel = name, %error, "the authorities of an alarm channel");
            slot.inspect_err(failed).ok()
        });
        let slots = slots.chain(channels).collect();
        let certificates = Certificates::new(slots, self.scheduler.clone(), self.metrics.clone(), self.clock.clone());
        certificates.watch(config.certificates.watch.0, &self.inward);
        self.certificates.get_or_init(|| certificates).clone()
    }

    /// SIGHUP.
    pub(super) async fn reload_certificates(&self) {
        let Some(certificates) = self.certificates.get().cloned() else {
            return;
        };
        let looked = tokio::task::spawn_blocking(move || certificates.refresh()).await;
        if let Ok((renewed, refused)) = looked {
            tracing::info!(renewed, refused = refused.len(), "certificates were looked at");
        }
    }
}
