//! What operators did to the alarms, on its way to the custody ledger. A deed is kept in the memory until the ledger has it: also
//! while a full disk or a latched gate takes nothing, which is when alarms are acknowledged, and over a restart.
//!
//! On the ledger it is a line of the kind `acknowledged`, which every version of this format knows: an older one reads it too.
use super::task::Watch;
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// One order of a person.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Deed {
    pub who: String,
    /// What was done, to which incident or alarm, when, and why: names of the configuration and the operator's own reason.
    pub text: String,
}

/// Puts deeds on the ledger, all or none.
pub type Recorder = Arc<dyn Fn(Vec<Deed>) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// Deeds that wait for the ledger; the newest are kept.
const DEEDS_MAX: usize = 1_000;
/// The alarms go on without a spool that does not answer. A deed may then stand on the ledger twice, with the same time.
const RECORD_DEADLINE: Duration = Duration::from_secs(3);

impl Watch {
    pub(super) fn did(&mut self, who: &str, what: &str, reason: &str) {
        let because = if reason.is_empty() { "" } else { ", because " };
        let at = self.parts.clock.now().iso();
        let deeds = &mut self.memory.deeds;
        deeds.push(Deed {
            who: who.to_owned(),
            text: format!("{what} at {at}{because}{reason}"),
        });
        deeds.drain(..deeds.len().saturating_sub(DEEDS_MAX));
        self.dirty = true;
    }

    /// Tells the ledger what it does not have yet. Answers whether it has everything now.
    pub(super) async fn record(&mut self) -> bool {
        if self.memory.deeds.is_empty() {
            return true;
        }
        let recording = (self.parts.recorder)(self.memory.deeds.clone());
        let error = match tokio::time::timeout(RECORD_DEADLINE, recording).await {
            Ok(Ok(())) => {
                self.memory.deeds.clear();
                self.dirty = true;
                return true;
            }
            Ok(Err(error)) => error,
            Err(_) => "the spool does not answer".to_owned(),
        };
        let waiting = self.memory.deeds.len();
        tracing::warn!(
            error,
            waiting,
            "the ledger cannot record what operators did to alarms; it is told again"
        );
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alarms::{Alarms, Answer, Config, Order, Parts, Sight};
    use crate::base::clock::Clock;
    use crate::base::drain::Drain;
    use crate::base::units::Span;
    use crate::telemetry::metrics::Metrics;
    use std::path::Path;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// A ledger that can be shut.
    #[derive(Default)]
    struct Ledger {
        shut: AtomicBool,
        told: Mutex<Vec<Deed>>,
    }

    fn start(folder: &Path, ledger: &Arc<Ledger>, drain: &Drain) -> Alarms {
        let ledger = ledger.clone();
        let recorder: Recorder = Arc::new(move |deeds| {
            let ledger = ledger.clone();
            Box::pin(async move {
                if ledger.shut.load(Ordering::Relaxed) {
                    return Err("shut".to_owned());
                }
                ledger.told.lock().unwrap().extend(deeds);
                Ok(())
            })
        });
        let config = Config {
            interval: Span(Duration::from_millis(20)),
            ..Config::default()
        };
        let parts = Parts {
            config,
            node: "box".to_owned(),
            folder: folder.to_owned(),
            sources: Vec::new(),
            metrics: Metrics::new(),
            clock: Clock::System,
            look: Arc::new(Sight::default),
            recorder,
        };
        Alarms::start(parts, drain)
    }

    async fn order(alarms: &Alarms, meant: &str) -> String {
        let (meant, span, reason) = (meant.parse().unwrap(), Span::secs(60), "a test".to_owned());
        let done = alarms.carry_out("uid 7", Order::Silence { meant, span, reason }).await;
        let Ok(Answer::Done { message }) = done else {
            panic!("{done:?}")
        };
        message
    }

    #[tokio::test]
    async fn what_the_ledger_cannot_take_is_done_and_told_later_once_also_by_the_next_run() {
        let (folder, ledger) = (tempfile::tempdir().unwrap(), Arc::new(Ledger::default()));
        let drain = Drain::new();
        let alarms = start(folder.path(), &ledger, &drain);
        let told = order(&alarms, "disk_low").await;
        assert_eq!(
            told,
            "disk_low is silenced; it covers nothing that is open now: is the name right?"
        );
        assert_eq!(
            ledger.told.lock().unwrap().len(),
            1,
            "on the ledger before it is answered"
        );
        ledger.shut.store(true, Ordering::Relaxed);
        let message = order(&alarms, "source_silent:ct1").await;
        assert!(message.contains("the ledger cannot record it now"), "{message}");
        drain.stop(Duration::from_secs(5)).await.unwrap();

        ledger.shut.store(false, Ordering::Relaxed);
        let drain = Drain::new();
        let _alarms = start(folder.path(), &ledger, &drain);
        let told = || ledger.told.lock().unwrap().clone();
        for _ in 0..200 {
            if told().len() > 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        drain.stop(Duration::from_secs(5)).await.unwrap();
        let told = told();
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!(told[1].who, "uid 7");
        let text = &told[1].text;
        assert!(
            text.starts_with("alarms: source_silent:ct1 silenced for 1m at 20"),
            "{text}"
        );
        assert!(text.ends_with("Z, because a test"), "{text}");
    }
}
