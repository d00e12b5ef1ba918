//! Calls that hold every image that reaches them: in a function that may not make them, with too few or too many arguments, or with a
//! literal over a limit.
use super::Lint;
use crate::dicom::path::Path;
use crate::rules::bench::advice::unwritable;
use crate::rules::lex::Token;
use crate::rules::state::Knowledge;

/// Words that change the image, which `route` may not.
const EDITS: [&str; 39] = [
    "identity::prefix",
    "identity::prefix_by",
    "identity::map",
    "identity::normalise",
    "identity::add_other",
    "identity::adopt_others",
    "identity::issuer",
    "accession::issuer",
    "accession::pad",
    "accession::prefix",
    "accession::strip",
    "accession::rewrite",
    "accession::set",
    "text::trim",
    "text::upper",
    "text::lower",
    "text::collapse",
    "text::strip_controls",
    "text::replace",
    "text::if_empty",
    "text::copy",
    "text::move_to",
    "text::map",
    "text::set_name_part",
    "text::swap_name_parts",
    "code::set",
    "code::map",
    "timezone::stamp",
    "uid::remap",
    "uid::remap_all",
    "privacy::remove",
    "privacy::blank",
    "privacy::hash",
    "privacy::shift_dates",
    "privacy::basic_profile",
    "charset::repair",
    "charset::to_utf8",
    "charset::convert",
    "charset::declare",
];

/// Functions that send.
const SENDS: [&str; 3] = ["to", "to_first", "to_one_of"];

/// Characters of an accession number.
const ACCESSION_MAX: usize = 16;
/// Characters of a Patient ID.
const PATIENT_MAX: usize = 64;

fn edits(word: &str) -> bool {
    EDITS.contains(&word)
}

impl Lint<'_> {
    /// What stands in `morph` and belongs into `route`, and the other way round. What a function of its own does is judged when it runs.
    pub(super) fn places(&mut self) {
        for at in 0..self.all.len() {
            let Some(name) = self.all[at]
                .word()
                .filter(|_| self.follows(at, "fn"))
                .map(str::to_owned)
            else {
                continue;
            };
            let in_morph = name == "morph" || name.starts_with("morph_for_");
            if !in_morph && name != "route" {
                continue;
            }
            for inside in self.body(at) {
                let message = if in_morph {
                    self.sends(inside)
                } else {
                    self.changes(inside)
                };
                if let Some(message) = message {
                    self.problem(inside, message);
                }
            }
        }
    }

    fn follows(&self, at: usize, word: &str) -> bool {
        at > 0 && self.word(at - 1) == Some(word)
    }

    /// The tokens of the body of the function whose name stands at `at`.
    fn body(&self, at: usize) -> std::ops::Range<usize> {
        let open = (at..self.all.len())
            .find(|at| self.is(*at, '{'))
            .unwrap_or(self.all.len());
        let mut depth = 0_usize;
        for end in open..self.all.len() {
            match self.all[end].token {
                Token::Mark('{') => depth += 1,
                Token::Mark('}') => depth = depth.saturating_sub(1),
                Token::Mark(_) | Token::Word(_) | Token::Text(_) => {}
            }
            if depth == 0 {
                return open..end;
            }
        }
        open..self.all.len()
    }

    fn sends(&self, at: usize) -> Option<String> {
        let word = self.word(at)?;
        let is_call = self.is_call(at) && !self.after(at, '.') && !self.after(at, ':');
        (SENDS.contains(&word) && is_call)
            .then(|| format!("`{word}` belongs into `route`: here it would hold every image"))
    }

    fn changes(&self, at: usize) -> Option<String> {
        let word = self.word(at)?;
        let is_word = self.after(at, ':') && self.is_call(at) && edits(&format!("{}::{word}", self.namespace(at)));
        let is_method = matches!(word, "remove" | "set_values")
            && self.is_call(at)
            && self.after(at, '.')
            && at.checked_sub(2).and_then(|at| self.word(at)) == Some("image");
        let is_assigned = word == "image" && !self.after(at, '.') && self.is_assigned(at);
        (is_word || is_method || is_assigned).then(|| {
            "changes the image, which `route` may not: do it in `morph`, or in `morph_for_DEST` for one destination"
                .to_owned()
        })
    }

    /// Whether `image.X` or `image[…]`, which begins at `at`, stands before an `=`, `+=` or the like.
    fn is_assigned(&self, at: usize) -> bool {
        let mut end = if self.is(at + 1, '.') { at + 3 } else { at + 1 };
        if self.is(at + 1, '[') {
            end = (at..self.all.len())
                .find(|at| self.is(*at, ']'))
                .map_or(self.all.len(), |at| at + 1);
        }
        let plain = usize::from(['+', '-', '*', '/'].iter().any(|mark| self.is(end, *mark)));
        self.is(end + plain, '=') && !self.is(end + plain + 1, '=') && !self.is(end + plain + 1, '>')
    }

    /// The number of arguments of the call whose name stands at `at`, and its literals that are over a limit.
    pub(super) fn numbers(&mut self, at: usize, name: &str, known: &Knowledge) {
        let spans = self.spans(at + 1);
        let Some(shape) = known.shapes.get(name) else { return };
        if shape.arities & (1 << spans.len().min(15)) == 0 {
            let parameters = shape.parameters;
            self.problem(
                at,
                format!(
                    "`{name}` does not take {} arguments: write {name}({parameters})",
                    spans.len()
                ),
            );
            return;
        }
        for (span, message) in self.unwritable(name, &spans) {
            self.problem(span.0, message.to_owned());
        }
        let Some(second) = spans.get(1).copied() else { return };
        let text = self.literal(second).map(|text| text.trim().chars().count());
        let number = self
            .word(second.0)
            .filter(|_| second.1 == second.0 + 1)
            .and_then(|word| word.parse::<usize>().ok());
        let message = match name {
            "accession::pad" if text.is_some() => Some("the length is a number, without quotation marks".to_owned()),
            "accession::pad" => number
                .filter(|length| !(1..=ACCESSION_MAX).contains(length))
                .map(|_| format!("an accession number is filled up to 1 to {ACCESSION_MAX} characters")),
            "accession::prefix" => text.filter(|length| *length >= ACCESSION_MAX).map(|_| {
                format!("an accession number has at most {ACCESSION_MAX} characters: none would fit behind this prefix")
            }),
            "identity::prefix" => text.filter(|length| *length >= PATIENT_MAX).map(|_| {
                format!("a Patient ID has at most {PATIENT_MAX} characters: none would fit behind this prefix")
            }),
            _ => None,
        };
        if let Some(message) = message {
            self.problem(second.0, message);
        }
    }

    /// The literals of a call that no image can have where the word writes them.
    fn unwritable(&self, name: &str, spans: &[(usize, usize)]) -> Vec<((usize, usize), &'static str)> {
        // The place of each value among the arguments, and the element that it is for.
        let path = spans.get(1).and_then(|span| self.literal(*span));
        let (trims, writes): (bool, Vec<(usize, &str)>) = match (name, &path) {
            ("accession::set", _) => (true, vec![(1, "AccessionNumber")]),
            ("code::set", _) => (true, vec![(3, "CodingSchemeDesignator"), (4, "CodeMeaning")]),
            ("text::if_empty", Some(path)) => (false, vec![(2, path)]),
            (_, _) => return Vec::new(),
        };
        let wrong = |(number, path): (usize, &str)| {
            let span = *spans.get(number)?;
            let text = self.literal(span)?;
            let values = match trims {
                true => vec![text.trim().to_owned()],
                false => text.split('\\').map(str::to_owned).collect(),
            };
            Some((span, unwritable(Path::parse(path).ok()?, &values)?))
        };
        writes.into_iter().filter_map(wrong).collect()
    }

    /// The arguments of `hold`, `to`, `to_first` and `to_one_of`.
    pub(super) fn plain_numbers(&mut self, at: usize, word: &str) {
        let spans = self.spans(at + 1);
        let message = match (word, spans.len()) {
            ("hold", 1) | ("to" | "to_first" | "to_one_of", 1 | 2) => None,
            ("hold", _) => Some("`hold` takes one text, the reason: write hold(\"why\")".to_owned()),
            (_, count) => Some(format!(
                "`{word}` does not take {count} arguments: call it for each destination"
            )),
        };
        let second = spans.get(1).and_then(|span| self.literal(*span));
        let message = message.or_else(|| {
            second.filter(|_| word == "to").map(|_| {
                "`to` takes one destination and options: write to(\"a\"); to(\"b\"); for two of them".to_owned()
            })
        });
        if let Some(message) = message {
            self.problem(at, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::files;
    use crate::rules::words::Book;

    /// Words that answer, hold or flag, and change nothing.
    const READS: [&str; 23] = [
        "identity::check",
        "identity::others",
        "accession::check",
        "text::name_part",
        "code::value",
        "code::meaning",
        "code::has",
        "table::lookup",
        "table::has",
        "route::between",
        "route::is_weekend",
        "route::weekday",
        "route::class_is",
        "route::is_for_processing",
        "route::is_tomosynthesis",
        "route::is_cine",
        "study::same_patient",
        "study::same_accession",
        "study::first",
        "study::instances",
        "study::bytes",
        "timezone::check_clock",
        "charset::of",
    ];

    #[test]
    fn every_word_is_known_to_change_the_image_or_not_to() {
        for name in Book::new().names() {
            assert_ne!(edits(&name), READS.contains(&name.as_str()), "{name}");
        }
    }

    fn problems(morph: &str, route: &str) -> Vec<String> {
        let text = format!("fn morph(image, from) {{\n{morph}\n}}\nfn route(image, from) {{\n{route}\n}}");
        match files(&[("main.rhai", &text)]) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn calls_that_would_hold_every_image_are_problems() {
        let table = [
            ("to(\"vna\");", "", "main.rhai:2:1: `to` belongs into `route`"),
            ("to_first([\"vna\"]);", "", "main.rhai:2:1: `to_first` belongs"),
            (
                "",
                "image.PatientID = \"1\";",
                "main.rhai:5:1: changes the image, which `route` may not",
            ),
            ("", "image[\"PatientID\"] += \"1\";", "main.rhai:5:1: changes"),
            ("", "image.remove(\"PatientID\");", "main.rhai:5:7: changes"),
            (
                "",
                "if image.PatientID == \"\" { identity::prefix(image, \"N-\"); }",
                "main.rhai:5:38: changes",
            ),
            (
                "identity::prefix(image);",
                "",
                "main.rhai:2:11: `identity::prefix` does not take 1 arguments: write identity::prefix(image, prefix[",
            ),
            (
                "text::upper(image, \"StationName\", 1);",
                "",
                "does not take 3 arguments",
            ),
            ("", "hold();", "main.rhai:5:1: `hold` takes one text"),
            ("", "to(\"vna\", \"cad\");", "main.rhai:5:1: `to` takes one destination"),
            (
                "accession::pad(image, \"8\");",
                "",
                "main.rhai:2:23: the length is a number",
            ),
            (
                "accession::pad(image, 20);",
                "",
                "main.rhai:2:23: an accession number is filled up to 1 to 16",
            ),
            (
                "accession::prefix(image, \"12345678901234567\");",
                "",
                "main.rhai:2:26: an accession number has at most 16",
            ),
            (
                "accession::set(image, \"12345678901234567\");",
                "",
                "main.rhai:2:23: the value is too long",
            ),
            (
                "code::set(image, \"ProcedureCodeSequence\", \"12345678901234567\", \"12345678901234567\", \"x\");",
                "",
                "main.rhai:2:64: the value is too long",
            ),
            (
                "text::if_empty(image, \"AccessionNumber\", \"12345678901234567\");",
                "",
                "main.rhai:2:42: the value is too long",
            ),
        ];
        for (morph, route, wanted) in table {
            let found = problems(morph, route);
            assert!(
                found.len() == 1 && found[0].contains(wanted),
                "{morph}{route}: {found:?}"
            );
        }
    }

    #[test]
    fn good_calls_are_none() {
        let found = problems(
            "image.PatientID = \"1\"; image.set_values(\"ImageType\", [\"A\", \"B\"]); accession::pad(image, 8, \"RA\"); hold(\"x\");\
             text::if_empty(image, \"ImageType\", \"1234567890123456\\\\B\"); text::if_empty(image, \"PatientComments\", \"1234567890123456\\\\B\"); \
             accession::set(image, \" 1234567890123456 \"); identity::prefix(image, \"N-\", #{ issuer: \"N\", former: \"forget\" });",
            "to(\"vna\"); to(\"cad\", #{ priority: \"stat\" }); let id = image.PatientID; if image.PatientID == id { hold(\"y\"); } \
             let text = `${image[\"PatientID\"]}`; if image.Modality != \"CT\" { accession::check(image); } switch image.Modality { \"MR\" => to(\"cad\"), _ => () }",
        );
        assert_eq!(found, [""; 0]);
    }
}
