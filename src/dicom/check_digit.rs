//! Check digits at the end of identifiers: modulus 10 and 11 as HL7 v2 describes them (chapter 2A, CX.3, table 0061), the
//! systems of ISO/IEC 7064:2003, and two national ones that stand in Patient ID. Only verified, never computed into an image:
//! a box that makes a wrong number look right would hide it from everybody behind.

/// A way to compute check digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    /// HL7 `M10`: every second digit doubled, also known as Luhn's (ISO/IEC 7812-1).
    Mod10,
    /// HL7 `M11`: weights 2 to 7 from the right, again and again.
    Mod11,
    /// HL7 `NPI`: the ten digits of a US provider, modulus 10 behind the prefix 80840.
    Npi,
    /// The ten digits of a British NHS number: weights 10 to 2, modulus 11.
    Nhs,
    /// ISO/IEC 7064, one modulus: that modulus, the radix, the letters, and how many check characters.
    Pure(u32, u32, Letters, usize),
    /// ISO/IEC 7064, two moduli: the letters' number and one more.
    Hybrid(Letters),
}

/// The characters of an identifier, each worth its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Letters {
    Digits,
    Capitals,
    Both,
}

impl Scheme {
    /// The names by which rules call them.
    pub const NAMES: [&'static str; 14] = [
        "mod10",
        "mod11",
        "M10",
        "M11",
        "npi",
        "nhs",
        "iso7064-mod11-2",
        "iso7064-mod37-2",
        "iso7064-mod97-10",
        "iso7064-mod661-26",
        "iso7064-mod1271-36",
        "iso7064-mod11-10",
        "iso7064-mod27-26",
        "iso7064-mod37-36",
    ];

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "mod10" | "M10" => Self::Mod10,
            "mod11" | "M11" => Self::Mod11,
            "npi" => Self::Npi,
            "nhs" => Self::Nhs,
            "iso7064-mod11-2" => Self::Pure(11, 2, Letters::Digits, 1),
            "iso7064-mod37-2" => Self::Pure(37, 2, Letters::Both, 1),
            "iso7064-mod97-10" => Self::Pure(97, 10, Letters::Digits, 2),
            "iso7064-mod661-26" => Self::Pure(661, 26, Letters::Capitals, 2),
            "iso7064-mod1271-36" => Self::Pure(1271, 36, Letters::Both, 2),
            "iso7064-mod11-10" => Self::Hybrid(Letters::Digits),
            "iso7064-mod27-26" => Self::Hybrid(Letters::Capitals),
            "iso7064-mod37-36" => Self::Hybrid(Letters::Both),
            _ => return None,
        })
    }

    /// Whether the last character, or the last two, are right for those before. False for what the scheme cannot read.
    #[must_use]
    pub fn is_valid(self, text: &str) -> bool {
        self.check(text).unwrap_or(false)
    }

    fn check(self, text: &str) -> Option<bool> {
        match self {
            Self::Mod10 => Some(luhn(&digits(text)?)),
            Self::Mod11 => {
                let digits = digits(text)?;
                let (check, rest) = digits.split_last()?;
                let weights = (2..=7).cycle();
                let sum: u32 = rest
                    .iter()
                    .rev()
                    .zip(weights)
                    .map(|(digit, weight)| digit * weight)
                    .sum();
                // A remainder of nothing counts as one.
                let remainder = (sum % 11).max(1);
                Some(!rest.is_empty() && (11 - remainder) % 10 == *check)
            }
            Self::Npi => Some(text.len() == 10 && luhn(&digits(&format!("80840{text}"))?)),
            Self::Nhs => {
                let digits = digits(text)?;
                let sum: u32 = digits
                    .iter()
                    .zip((1..=10).rev())
                    .map(|(digit, weight)| digit * weight)
                    .sum();
                Some(digits.len() == 10 && sum.is_multiple_of(11))
            }
            Self::Pure(modulus, radix, letters, checks) => {
                let last = text.chars().count().checked_sub(1)?;
                let mut sum = 0;
                for (at, letter) in text.chars().enumerate() {
                    // One check character has one value more than the letters: X, or the asterisk.
                    let worth = match (letters, letter) {
                        (Letters::Digits, 'X') if checks == 1 && at == last => 10,
                        (Letters::Both, '*') if checks == 1 && at == last => 36,
                        _ => letters.worth(letter)?,
                    };
                    sum = (sum * radix + worth) % modulus;
                }
                Some(last >= checks && sum == 1)
            }
            Self::Hybrid(letters) => {
                let modulus = letters.count();
                let mut check = modulus / 2;
                for letter in text.chars() {
                    let before = if check == 0 { modulus } else { check };
                    check = (before * 2 % (modulus + 1) + letters.worth(letter)?) % modulus;
                }
                Some(text.chars().count() > 1 && check == 1)
            }
        }
    }
}

impl Letters {
    fn count(self) -> u32 {
        match self {
            Self::Digits => 10,
            Self::Capitals => 26,
            Self::Both => 36,
        }
    }

    fn worth(self, letter: char) -> Option<u32> {
        match self {
            Self::Digits => letter.to_digit(10),
            Self::Both if letter.is_ascii_lowercase() => None,
            Self::Both => letter.to_digit(36),
            Self::Capitals if letter.is_ascii_uppercase() => letter.to_digit(36).map(|worth| worth - 10),
            Self::Capitals => None,
        }
    }
}

fn digits(text: &str) -> Option<Vec<u32>> {
    text.chars().map(|letter| letter.to_digit(10)).collect()
}

fn luhn(digits: &[u32]) -> bool {
    let doubled = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| match (at % 2, digit * 2) {
            (0, _) => *digit,
            (_, twice) if twice > 9 => twice - 9,
            (_, twice) => twice,
        });
    digits.len() > 1 && doubled.sum::<u32>().is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of the standards' own examples and of identifiers in public use.
    const GOOD: [(&str, &[&str]); 12] = [
        ("M10", &["4010", "79927398713", "4242424242424242"]),
        ("M11", &["12345674"]),
        ("npi", &["1234567893", "1245319599"]),
        ("nhs", &["9434765919", "4010232137"]),
        (
            "iso7064-mod11-2",
            &["07940", "079X", "0000000218250097", "000000012150090X"],
        ),
        ("iso7064-mod37-2", &["G123489654321Y", "A999914123456N"]),
        ("iso7064-mod97-10", &["079444"]),
        ("iso7064-mod661-26", &["BAISDLAFKBM"]),
        ("iso7064-mod1271-36", &["ISO793W"]),
        ("iso7064-mod11-10", &["07945", "002006673085"]),
        ("iso7064-mod27-26", &["WAYSTATIONG"]),
        ("iso7064-mod37-36", &["A12425GABC1234002M"]),
    ];

    #[test]
    fn published_examples_are_valid() {
        for (name, numbers) in GOOD {
            for number in numbers {
                assert!(Scheme::parse(name).unwrap().is_valid(number), "{name} {number}");
            }
        }
    }

    #[test]
    fn every_scheme_finds_every_single_wrong_character() {
        for name in Scheme::NAMES {
            let scheme = Scheme::parse(name).unwrap();
            let alphabet: &str = match scheme {
                Scheme::Pure(_, _, Letters::Capitals, _) | Scheme::Hybrid(Letters::Capitals) => {
                    "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                }
                Scheme::Pure(_, _, Letters::Both, _) | Scheme::Hybrid(Letters::Both) => {
                    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                }
                _ => "0123456789",
            };
            let stem = &alphabet[1..9];
            let good = alphabet
                .chars()
                .flat_map(|a| alphabet.chars().map(move |b| format!("{stem}{a}{b}")));
            let good: Vec<String> = good.filter(|text| scheme.is_valid(text)).collect();
            assert!(!good.is_empty(), "{name}");
            for number in good.iter().take(5) {
                for (at, right) in number.char_indices() {
                    for wrong in alphabet.chars().filter(|wrong| *wrong != right) {
                        let mut text = number.clone();
                        text.replace_range(at..=at, &wrong.to_string());
                        // HL7's modulus 11 folds eleven remainders onto ten digits, so it misses some.
                        let found = !scheme.is_valid(&text) || scheme == Scheme::Mod11;
                        assert!(found, "{name}: {number} and {text}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_a_scheme_cannot_read_is_not_valid() {
        for name in Scheme::NAMES {
            for text in [
                "",
                "0",
                "12 4",
                "1é",
                "abc",
                "\u{FFFD}1",
                "9999999999999999999999999999999999999999999x",
            ] {
                assert!(!Scheme::parse(name).unwrap().is_valid(text), "{name} {text}");
            }
        }
        assert_eq!(Scheme::parse("mod12"), None);
    }
}
