//! How many cases a property is tried with, in tests: fewer than the 256 of proptest where one takes long, and many times more when a
//! person asks for it (`make properties`).
use proptest::test_runner::Config;

/// Cases of a property by default: proptest's own.
const DEFAULT: u32 = 256;

/// `usual` cases, and as many times more as `PROPTEST_CASES` is more than proptest's 256. Proptest itself leaves a number that a
/// test names as it is.
pub fn cases(usual: u32) -> Config {
    scaled(usual, Config::default())
}

fn scaled(usual: u32, asked: Config) -> Config {
    Config {
        cases: u32::try_from(u64::from(usual) * u64::from(asked.cases.max(DEFAULT)) / u64::from(DEFAULT))
            .unwrap_or(u32::MAX),
        ..asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_more_cases_gets_more_of_each_property_and_nobody_fewer() {
        let asked = |cases| {
            scaled(
                24,
                Config {
                    cases,
                    ..Config::default()
                },
            )
            .cases
        };
        assert_eq!(asked(256), 24);
        assert_eq!(asked(25_600), 2_400);
        assert_eq!(asked(1), 24);
        assert_eq!(asked(u32::MAX), 402_653_183);
    }
}
