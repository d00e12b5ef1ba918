//! The service manager's view of the box: ready, reloading, stopping, a status line, and a watchdog that is fed only while a
//! real health check answers. Layer 5; called by `app`. Without a service manager the calls for it do nothing.
pub mod home;

use crate::base::drain::Drain;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;
use std::future::Future;
use std::time::Duration;

/// The longest status line that is sent.
const STATUS_MAX: usize = 256;

/// Everything is bound and recovered: peers may come. `status` is shown by `systemctl status`.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(cut(status))]);
}

/// Raises the soft limit of open files to the hard one, and answers what is in force then. The usual soft limit of 1,024
/// is for programs that use `select`; ten thousand silent connections would exhaust it.
#[must_use]
pub fn raise_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let in_force = if setrlimit(Resource::Nofile, raised).is_ok() {
        limit.maximum
    } else {
        limit.current
    };
    // No limit at all is no reason to count on more than this.
    in_force.unwrap_or(FILES_MAX).min(FILES_MAX)
}

const FILES_MAX: u64 = 1 << 20;

/// Waits for the start, and asks the manager for more time as long as it goes on: making an index anew from the payload files of a full
/// disk takes hours, and a start that is cut short begins again. Cancel-safe as `start` is.
pub async fn starting<T>(start: impl Future<Output = T>) -> T {
    wait_for(start, START_STEP, || {
        send(&[
            NotifyState::Status("opening the spool"),
            NotifyState::ExtendTimeoutUsec(usec(START_STEP * 4)),
        ]);
    })
    .await
}

/// How often a start that goes on says so.
const START_STEP: Duration = Duration::from_secs(15);

async fn wait_for<T>(start: impl Future<Output = T>, step: Duration, mut say: impl FnMut()) -> T {
    tokio::pin!(start);
    loop {
        say();
        tokio::select! {
            done = &mut start => return done,
            () = tokio::time::sleep(step) => {}
        }
    }
}

/// As the manager's messages write a time.
fn usec(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

/// A reload has begun; `ready` ends it. The time stamp lets `Type=notify-reload` tell this reload from an older one.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(_) => send(&[NotifyState::Reloading]),
    }
}

/// A stop has begun, and is given `bound` to end; `why` is shown by `systemctl status`.
pub fn stopping(why: &str, bound: Duration) {
    // The manager's own time-out counts from here.
    send(&[
        NotifyState::Stopping,
        NotifyState::Status(cut(why)),
        NotifyState::ExtendTimeoutUsec(usec(bound)),
    ]);
}

/// One line for `systemctl status`: counts and names from configuration only.
pub fn status(line: &str) {
    send(&[NotifyState::Status(cut(line))]);
}

/// Feeds the manager's watchdog (twice in its period) as long as `healthy` answers true within a quarter of the period. A box whose
/// runtime, commit thread or gate does not answer is not fed, and the manager restarts it. Owned by `drain`.
pub fn watchdog<C, F>(drain: &Drain, healthy: C)
where
    C: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = bool> + Send,
{
    let Some(period) = sd_notify::watchdog_enabled() else {
        return;
    };
    let stop = drain.token();
    drain.spawn("watchdog", async move {
        feed(period, stop.cancelled_owned(), healthy, || {
            send(&[NotifyState::Watchdog])
        })
        .await;
    });
}

/// The loop, apart from the socket.
async fn feed<C, F>(period: Duration, stop: impl Future<Output = ()>, healthy: C, mut beat: impl FnMut())
where
    C: Fn() -> F,
    F: Future<Output = bool>,
{
    let mut ticks = tokio::time::interval(period / 2);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return,
            _ = ticks.tick() => {}
        }
        match tokio::time::timeout(period / 4, healthy()).await {
            Ok(true) => beat(),
            Ok(false) => tracing::error!("health check failed: the watchdog is not fed"),
            Err(_) => tracing::error!("health check did not answer: the watchdog is not fed"),
        }
    }
}

fn cut(line: &str) -> &str {
    &line[..line.floor_char_boundary(STATUS_MAX)]
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// How many beats a health check earns in a minute of a watchdog of 10 s.
    async fn beats<F: Future<Output = bool>>(healthy: impl Fn() -> F) -> usize {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        let minute = tokio::time::sleep(Duration::from_secs(60));
        feed(Duration::from_secs(10), minute, healthy, move || {
            counted.fetch_add(1, Ordering::Relaxed);
        })
        .await;
        count.load(Ordering::Relaxed)
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_fed_twice_in_its_period() {
        let fed = beats(|| async { true }).await;
        assert!((11..=13).contains(&fed), "{fed}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_sick_box_is_not_fed() {
        assert_eq!(beats(|| async { false }).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_box_that_does_not_answer_is_not_fed() {
        assert_eq!(beats(std::future::pending::<bool>).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_start_says_that_it_goes_on() {
        let mut said = 0;
        let start = tokio::time::sleep(Duration::from_secs(100));
        wait_for(start, START_STEP, || said += 1).await;
        assert_eq!(said, 7);
    }

    #[test]
    fn a_status_line_is_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"é".repeat(200)).len(), 256);
    }
}
