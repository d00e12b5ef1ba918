//! How many cases a property is tried with, in tests: fewer than the 256 of proptest where one takes long, and many times more when a
//! person asks for it (`make properties`).
use proptest::test_runner::Config;

/// Cases of a property by default: proptest's own.
const DEFAULT: u32 = 256;

/// `usual` cases, and as many times more as `PROPTEST_CASES` is more than proptest's 256. Proptest itself leaves a number that a
/// test names as it is.
pub fn cases(usual: u32) -> Config {
    let asked = Config::default();
    Config {
        cases: scaled(usual, asked.cases),
        ..asked
    }
}

fn scaled(usual: u32, asked: u32) -> u32 {
    let wanted = u64::from(usual) * u64::from(asked.max(DEFAULT)) / u64::from(DEFAULT);
    u32::try_from(wanted).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_more_cases_gets_more_of_each_property_and_nobody_fewer() {
        assert_eq!(scaled(24, 256), 24);
        assert_eq!(scaled(24, 25_600), 2_400);
        assert_eq!(scaled(24, 1), 24);
        assert_eq!(scaled(24, u32::MAX), 402_653_183);
    }
}
