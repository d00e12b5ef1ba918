//! Planted faults for the durability tests. Compiled to nothing without the `planted` feature;
//! with it, `WAYSTATION_PLANT=name[,name]` switches single faults on, so that a test can prove that it would see them.
//! A shipped binary is never built with it (`make demo`, the image and the package do not).

/// The faults that can be planted, by name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plant {
    /// The commit answers success without writing anything.
    SkipCommit,
    /// The payload file is not flushed before the commit.
    SkipPayloadSync,
    /// The success answer leaves before the commit.
    AckBeforeCommit,
    /// A delivery's failure status counts as success.
    IgnoreStatus,
}

impl Plant {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SkipCommit => "skip-commit",
            Self::SkipPayloadSync => "skip-payload-sync",
            Self::AckBeforeCommit => "ack-before-commit",
            Self::IgnoreStatus => "ignore-status",
        }
    }
}

/// Whether a fault is planted in this run.
#[cfg(feature = "planted")]
#[must_use]
pub fn planted(plant: Plant) -> bool {
    use std::sync::OnceLock;
    static PLANTED: OnceLock<String> = OnceLock::new();
    let names = PLANTED.get_or_init(|| std::env::var("WAYSTATION_PLANT").unwrap_or_default());
    names.split(',').any(|name| name == plant.name())
}

/// Whether a fault is planted in this run: never, in this build.
#[cfg(not(feature = "planted"))]
#[must_use]
pub const fn planted(_: Plant) -> bool {
    false
}
