//! Time as a parameter. Deadlines and back-off use tokio's monotonic clock (which tests pause);
//! only what is written down for people or across restarts uses the wall clock here.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Microseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Wall(pub u64);

impl Wall {
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)),
        )
    }

    /// The time from `earlier` to `self`; zero when the clock went backwards.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// Seconds since 1970, as metrics have them.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// ISO 8601 in UTC with seconds, as logs and listings show it.
    #[must_use]
    pub fn iso(self) -> String {
        let seconds = i64::try_from(self.0 / 1_000_000).unwrap_or(i64::MAX);
        jiff::Timestamp::from_second(seconds).map_or_else(|_| "beyond".into(), |t| t.to_string())
    }

    /// A DICOM DT value in UTC: `YYYYMMDDHHMMSS.FFFFFF+0000`.
    #[must_use]
    pub fn dicom(self) -> String {
        let seconds = i64::try_from(self.0 / 1_000_000).unwrap_or(0);
        let date = jiff::Timestamp::from_second(seconds).unwrap_or_default();
        format!("{}.{:06}+0000", date.strftime("%Y%m%d%H%M%S"), self.0 % 1_000_000)
    }
}

/// When this program was released, as the package's build says: `WAYSTATION_BUILT`, seconds since 1970, in the compiler's environment.
#[must_use]
pub fn released() -> Option<Wall> {
    let seconds: u64 = option_env!("WAYSTATION_BUILT")?.parse().ok()?;
    Some(Wall::default().plus(Duration::from_secs(seconds)))
}

/// No right clock shows a time before this: the program did not exist.
#[must_use]
pub fn built() -> Wall {
    released().unwrap_or(BUILT_AFTER)
}

/// 2026-11-01, when no release date was given to the compiler.
const BUILT_AFTER: Wall = Wall(1_793_491_200_000_000);

/// Where the wall-clock time comes from. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Clock {
    System,
    /// A clock that a test moves by hand.
    Manual(Arc<AtomicU64>),
}

impl Clock {
    #[must_use]
    pub fn manual(start: Wall) -> Self {
        Self::Manual(Arc::new(AtomicU64::new(start.0)))
    }

    #[must_use]
    pub fn now(&self) -> Wall {
        match self {
            Self::System => {
                let span = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Wall::default().plus(span)
            }
            Self::Manual(at) => Wall(at.load(Ordering::Relaxed)),
        }
    }

    /// Moves a manual clock. A no-op on the system clock.
    pub fn advance(&self, span: Duration) {
        if let Self::Manual(at) = self {
            at.store(self.now().plus(span).0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_knows_a_time_before_which_it_was_not() {
        assert!(built() >= BUILT_AFTER && built() < Clock::System.now());
        assert_eq!(BUILT_AFTER.iso(), "2026-11-01T00:00:00Z");
    }

    #[test]
    fn wall_times_are_written_as_iso_and_as_dicom() {
        let at = Wall(1_700_000_000_000_042);
        assert_eq!(at.iso(), "2023-11-14T22:13:20Z");
        assert_eq!(at.dicom(), "20231114221320.000042+0000");
        assert_eq!(Wall(0).since(at), Duration::ZERO);
    }
}
