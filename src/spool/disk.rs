//! The disk's marks: low water (new instances are refused) and critical (nothing new enters the index, the ballast goes). Looked
//! at once a second by the spool's keeper.
use super::ballast::{self, Ballast, Half};
use super::config::Config;
use crate::base::units::Share;
use crate::telemetry::metrics::Metrics;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub(super) struct Disk {
    root: PathBuf,
    low_water: Share,
    cache: Share,
    critical: u64,
    ballast: Ballast,
    metrics: Metrics,
    low: AtomicBool,
    in_critical: AtomicBool,
    wants_room: AtomicBool,
    free_bytes: AtomicU64,
    free_inodes: AtomicU64,
    used: AtomicU64,
    low_mark: AtomicU64,
}

/// What the file system says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Space {
    pub bytes: u64,
    pub free_bytes: u64,
    pub inodes: u64,
    pub free_inodes: u64,
}

/// Free bytes of the file system that a path lies on.
pub(super) fn free_bytes(path: &std::path::Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

impl Disk {
    pub(super) fn new(config: &Config, metrics: Metrics) -> Self {
        Self {
            root: config.path.clone(),
            low_water: config.low_water,
            cache: config.cache_high_water,
            critical: config.critical.0,
            ballast: Ballast::new(&config.path, config.ballast.0),
            metrics,
            low: AtomicBool::new(false),
            in_critical: AtomicBool::new(false),
            wants_room: AtomicBool::new(false),
            free_bytes: AtomicU64::new(0),
            free_inodes: AtomicU64::new(0),
            used: AtomicU64::new(0),
            low_mark: AtomicU64::new(0),
        }
    }

    /// Looks, sets the marks, and drops or makes the ballast.
    pub(super) fn look(&self) -> io::Result<()> {
        let space = self.measure()?;
        self.judge(space);
        if self.critical() {
            return self.give(Half::Running);
        }
        for half in Half::BOTH {
            if let Some(lacks) = self.ballast.lacks(half)
                && self.has_room(space, half, lacks)
            {
                self.make(half);
            }
        }
        Ok(())
    }

    /// All of the ballast, for an index that is to be opened.
    pub(super) fn give_all(&self) -> io::Result<()> {
        Half::BOTH.into_iter().try_for_each(|half| self.give(half))
    }

    /// After the index was opened: the next opening gets a share of what is left. Whether the disk is critical is what the last look
    /// said, before the ballast was given.
    pub(super) fn keep_back(&self) -> io::Result<()> {
        let space = self.measure()?;
        if self.critical() && self.ballast.keep_back(space.free_bytes, space.free_inodes).is_err() {
            self.count_ballast_error();
        }
        Ok(())
    }

    fn measure(&self) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(&self.root)?;
        Ok(Space {
            bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
            free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            inodes: stat.f_files,
            free_inodes: stat.f_favail,
        })
    }

    pub(super) fn judge(&self, space: Space) {
        let low_bytes = self.low_water.of(space.bytes);
        let low_inodes = low_inodes_mark(self.low_water, space.inodes);
        let low = below(self.low(), space.free_bytes, low_bytes) || below(self.low(), space.free_inodes, low_inodes);
        let critical = below(self.critical(), space.free_bytes, self.critical)
            || below(self.critical(), space.free_inodes, low_inodes / 4);
        // Whatever is configured, the cache gives way until instances are taken again: from behind the hysteresis of either mark.
        let cache_bytes = self.cache.of(space.bytes);
        let cache_bytes = cache_bytes.max(raised(low_bytes)).max(raised(self.critical));
        let cache_inodes = inodes_mark(self.cache, space.inodes).max(raised(low_inodes));
        self.wants_room.store(
            space.free_bytes < cache_bytes || space.free_inodes < cache_inodes,
            Ordering::Relaxed,
        );
        if (low || critical) && !self.low() {
            tracing::error!(
                free_bytes = space.free_bytes,
                free_inodes = space.free_inodes,
                "spool disk below low water"
            );
        }
        self.low_mark.store(low_bytes, Ordering::Relaxed);
        self.low.store(low || critical, Ordering::Relaxed);
        self.in_critical.store(critical, Ordering::Relaxed);
        self.free_bytes.store(space.free_bytes, Ordering::Relaxed);
        self.free_inodes.store(space.free_inodes, Ordering::Relaxed);
        self.used
            .store(space.bytes.saturating_sub(space.free_bytes), Ordering::Relaxed);
        self.metrics.spool_low_water.set(i64::from(low || critical));
        self.metrics.spool_free_bytes.set(gauge(space.free_bytes));
        self.metrics.spool_free_inodes.set(gauge(space.free_inodes));
    }

    pub(super) fn low(&self) -> bool {
        self.low.load(Ordering::Relaxed)
    }

    pub(super) fn critical(&self) -> bool {
        self.in_critical.load(Ordering::Relaxed)
    }

    /// The cache should give way.
    pub(super) fn wants_room(&self) -> bool {
        self.wants_room.load(Ordering::Relaxed)
    }

    /// Bytes in use on the file system: an upper bound of what the payload files hold.
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn free(&self) -> (u64, u64) {
        (
            self.free_bytes.load(Ordering::Relaxed),
            self.free_inodes.load(Ordering::Relaxed),
        )
    }

    /// Free bytes below which instances are refused.
    pub(super) fn low_mark(&self) -> u64 {
        self.low_mark.load(Ordering::Relaxed)
    }

    /// A write met a full disk before the next look.
    pub(super) fn met_full(&self) {
        self.low.store(true, Ordering::Relaxed);
        self.metrics.spool_low_water.set(1);
    }

    fn give(&self, half: Half) -> io::Result<()> {
        if self.ballast.give(half)? {
            tracing::warn!(?half, "spool ballast dropped: the disk is full");
        }
        Ok(())
    }

    /// The half for a start is made again as soon as the disk is not critical; the other when the box takes instances as well.
    fn has_room(&self, space: Space, half: Half, lacks: u64) -> bool {
        let (bytes, inodes) = match half {
            Half::Running if self.low() => return false,
            Half::Running => (
                self.low_water.of(space.bytes),
                low_inodes_mark(self.low_water, space.inodes),
            ),
            Half::Start => (self.critical, low_inodes_mark(self.low_water, space.inodes) / 4),
        };
        // A file system without a count of inodes says 0 of 0.
        let spare = space.inodes == 0 || space.free_inodes > raised(inodes + ballast::INODES as u64);
        spare && space.free_bytes > raised(bytes.saturating_add(lacks))
    }

    /// A ballast that cannot be made is missed at the next full disk, and tried again every second until then.
    fn make(&self, half: Half) {
        if self.ballast.fill(half).is_err() {
            self.count_ballast_error();
        }
    }

    fn count_ballast_error(&self) {
        self.metrics.gate_errors_total.with_label_values(&["ballast"]).inc();
    }
}

/// With hysteresis: once below, a tenth above the mark is needed to count as above again, and never more than `STEP_MAX`: a
/// tenth of the mark of a great disk may be more than the cache ever gives way.
fn below(was_below: bool, free: u64, mark: u64) -> bool {
    free < if was_below { raised(mark) } else { mark }
}

fn raised(mark: u64) -> u64 {
    mark.saturating_add((mark / 10).min(STEP_MAX))
}

const STEP_MAX: u64 = 128 << 20;

/// A percentage also counts for inodes; with a size, one inode in a hundred must be free. 0 when there is no limit.
fn inodes_mark(share: Share, inodes: u64) -> u64 {
    match share {
        Share::Percent(_) => share.of(inodes),
        Share::Bytes(_) => inodes / 100,
    }
}

/// What the dropped ballast frees stays below the mark: it is for the index to open with, not for arrivals.
fn low_inodes_mark(share: Share, inodes: u64) -> u64 {
    match inodes {
        0 => 0,
        _ => inodes_mark(share, inodes).max(2 * ballast::INODES as u64),
    }
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::units::Size;

    #[test]
    fn low_water_has_hysteresis_and_counts_inodes() {
        let config = Config {
            low_water: Share::Percent(10.0),
            critical: Size(50),
            ..Config::default()
        };
        let disk = Disk::new(&config, Metrics::new());
        let space = |free_bytes, free_inodes| Space {
            bytes: 1_000,
            free_bytes,
            inodes: 1_000,
            free_inodes,
        };
        for (free, inodes, low, critical) in [
            (100, 500, false, false),
            (99, 500, true, false),
            (105, 500, true, false),
            (110, 500, false, false),
            (500, 99, true, false),
            (500, 500, false, false),
            (49, 500, true, true),
            (54, 500, true, true),
            (500, 24, true, true),
        ] {
            disk.judge(space(free, inodes));
            assert_eq!((disk.low(), disk.critical()), (low, critical), "{free} {inodes}");
        }
    }

    /// Whatever the marks are: where instances are refused, the cache gives way, down to the last byte and inode.
    #[test]
    fn the_cache_gives_way_until_instances_are_taken_again() {
        let size = |bytes| Share::Bytes(bytes);
        let marks = [
            // Out of inodes, with 2,400 of them: a hundredth for the cache, a tenth for low water.
            (Share::Percent(10.0), size(24 << 20), 1),
            // 700: a hundredth for either, but no fewer than the ballast's own for low water.
            (size(16 << 20), size(24 << 20), 1),
            // No room for the hysteresis between the two.
            (size(24 << 20), size(24 << 20), 1),
            (Share::Percent(5.0), Share::Percent(5.1), 1),
            // A critical mark above the other two, which only the disk's size tells.
            (Share::Percent(1.0), Share::Percent(2.0), 64 << 20),
        ];
        for (low_water, cache_high_water, critical) in marks {
            let config = Config {
                low_water,
                cache_high_water,
                critical: Size(critical),
                ..Config::default()
            };
            for inodes in [0, 700, 2_400, 1_000_000] {
                let disk = Disk::new(&config, Metrics::new());
                let space = |free_bytes, free_inodes| Space {
                    bytes: 200 << 20,
                    free_bytes,
                    inodes,
                    free_inodes,
                };
                let plenty = (200 << 20, inodes);
                // Full, then ever more free: it may stop giving way only when instances are taken again.
                disk.judge(space(0, plenty.1));
                for step in 0..=400 {
                    disk.judge(space(plenty.0 / 400 * step, plenty.1));
                    assert!(disk.wants_room() || !disk.low(), "{config:?}, bytes, {step}");
                }
                disk.judge(space(plenty.0, 0));
                for free in (0..=plenty.1).step_by(usize::try_from(inodes / 700 + 1).unwrap()) {
                    disk.judge(space(plenty.0, free));
                    assert!(disk.wants_room() || !disk.low(), "{config:?}, {inodes} inodes, {free}");
                }
                disk.judge(space(plenty.0, plenty.1));
                assert!(!disk.low() && !disk.wants_room());
            }
        }
    }

    #[test]
    fn the_ballast_is_made_with_room_and_dropped_when_critical() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            path: dir.path().to_owned(),
            low_water: Share::Bytes(1),
            critical: Size(0),
            ballast: Size(1 << 20),
            ..Config::default()
        };
        Disk::new(&config, Metrics::new()).look().unwrap();
        let size = |name| std::fs::metadata(dir.path().join(name)).unwrap().len();
        assert_eq!((size("ballast"), size("ballast-start")), (512 << 10, 512 << 10));
        let names = || std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(names(), 2 + 64, "inodes are kept back too");
        let full = Config {
            critical: Size(u64::MAX),
            ..config
        };
        let disk = Disk::new(&full, Metrics::new());
        disk.look().unwrap();
        assert!(disk.low());
        assert_eq!(names(), 1 + 32, "a start still has its half");
        disk.give_all().unwrap();
        assert_eq!(names(), 0);
        disk.keep_back().unwrap();
        assert_eq!(size("ballast-start"), 512 << 10, "for the next start");
        disk.look().unwrap();
        assert_eq!(names(), 1 + 32);
    }
}
