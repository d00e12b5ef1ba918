//! What a run of fixtures came to, in the forms that people and build servers read: text with differences, the lines of the
//! rules that no case reached, and JUnit XML.
use super::fixtures::Ran;
use crate::rules::lex::tokens;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// The cases as text, a failed one with its differences, and the counts last.
pub(super) fn text(all: &[Ran]) -> String {
    let mut out = String::new();
    for ran in all {
        let verdict = if ran.differences.is_empty() { "ok   " } else { "FAIL " };
        // Writing into a string cannot fail.
        let _ = writeln!(out, "{verdict} {}: {}", ran.file, ran.name);
        for difference in &ran.differences {
            let _ = writeln!(out, "      {difference}");
        }
    }
    let failed = failed(all);
    let _ = writeln!(out, "{} passed, {failed} failed", all.len() - failed);
    out
}

pub(super) fn failed(all: &[Ran]) -> usize {
    all.iter().filter(|ran| !ran.differences.is_empty()).count()
}

/// The lines of the rules that no case reached, by file, and the share of those that one did.
pub(super) struct Coverage {
    pub(super) missed: BTreeMap<String, BTreeSet<usize>>,
    pub(super) lines: usize,
    pub(super) ran: usize,
}

/// `lines` are those that can run, by file.
pub(super) fn coverage(all: &[Ran], lines: &BTreeMap<String, BTreeSet<usize>>) -> Coverage {
    let ran: BTreeSet<&(String, usize)> = all.iter().flat_map(|ran| ran.steps.ran.keys()).collect();
    let mut found = Coverage {
        missed: BTreeMap::new(),
        lines: 0,
        ran: 0,
    };
    for (file, lines) in lines {
        for line in lines {
            found.lines += 1;
            if ran.contains(&(file.clone(), *line)) {
                found.ran += 1;
            } else {
                found.missed.entry(file.clone()).or_default().insert(*line);
            }
        }
    }
    found
}

impl Coverage {
    /// A line for each file that was not reached whole, with its lines as ranges, and the share last.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        for (file, lines) in &self.missed {
            let _ = writeln!(out, "never ran: {file} {}", ranges(lines));
        }
        let share = if self.lines == 0 {
            100.0
        } else {
            share(self.ran, self.lines)
        };
        let _ = writeln!(out, "coverage: {} of {} lines, {share:.0} %", self.ran, self.lines);
        out
    }
}

fn share(part: usize, whole: usize) -> f64 {
    let number = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    100.0 * number(part) / number(whole)
}

/// `3, 5-7`.
fn ranges(lines: &BTreeSet<usize>) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for line in lines {
        match runs.last_mut() {
            Some((_, end)) if *end + 1 == *line => *end = *line,
            _ => runs.push((*line, *line)),
        }
    }
    let text = |(start, end): &(usize, usize)| match start == end {
        true => start.to_string(),
        false => format!("{start}-{end}"),
    };
    runs.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// A function and its lines that can run.
pub(super) struct Function {
    pub(super) name: String,
    pub(super) place: (usize, usize),
    pub(super) lines: BTreeSet<usize>,
}

/// The functions of a file. Each reaches to the next one, because Rhai has no functions inside functions.
pub(super) fn functions(text: &str, lines: Option<&BTreeSet<usize>>) -> Vec<Function> {
    let all = tokens(text);
    let heads: Vec<(String, (usize, usize))> = all
        .windows(2)
        .filter(|pair| pair[0].word() == Some("fn"))
        .filter_map(|pair| Some((pair[1].word()?.to_owned(), (pair[1].line, pair[1].column))))
        .collect();
    let mut found = Vec::new();
    for (at, (name, place)) in heads.iter().enumerate() {
        let end = heads.get(at + 1).map_or(usize::MAX, |(_, (line, _))| *line);
        let own = lines
            .into_iter()
            .flatten()
            .filter(|line| (place.0..end.max(place.0 + 1)).contains(line));
        found.push(Function {
            name: name.clone(),
            place: *place,
            lines: own.copied().collect(),
        });
    }
    found
}

/// JUnit XML: a suite for each fixture file, a failure with the differences for each case that does not hold.
pub(super) fn junit(all: &[Ran]) -> String {
    let mut suites: BTreeMap<&str, Vec<&Ran>> = BTreeMap::new();
    for ran in all {
        suites.entry(&ran.file).or_default().push(ran);
    }
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"waystation rules test\" tests=\"{}\" failures=\"{}\">\n",
        all.len(),
        failed(all)
    );
    for (file, cases) in suites {
        let (file, failed) = (
            escaped(file),
            cases.iter().filter(|c| !c.differences.is_empty()).count(),
        );
        let seconds: f64 = cases.iter().map(|case| case.took.as_secs_f64()).sum();
        let _ = writeln!(
            out,
            "  <testsuite name=\"{file}\" tests=\"{}\" failures=\"{failed}\" errors=\"0\" skipped=\"0\" time=\"{seconds:.6}\">",
            cases.len()
        );
        for case in cases {
            let (name, seconds) = (escaped(&case.name), case.took.as_secs_f64());
            let _ = write!(
                out,
                "    <testcase classname=\"{file}\" name=\"{name}\" time=\"{seconds:.6}\""
            );
            if case.differences.is_empty() {
                out.push_str("/>\n");
            } else {
                let (first, whole) = (escaped(&case.differences[0]), escaped(&case.differences.join("\n")));
                let _ = writeln!(
                    out,
                    ">\n      <failure message=\"{first}\">{whole}</failure>\n    </testcase>"
                );
            }
        }
        out.push_str("  </testsuite>\n");
    }
    out + "</testsuites>\n"
}

/// For attributes and text; characters that XML 1.0 forbids become spaces.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(letter),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push(' '),
            _ => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_no_case_reached_are_named_as_ranges() {
        assert_eq!(ranges(&BTreeSet::from([3, 5, 6, 7, 9])), "3, 5-7, 9");
        let lines = BTreeMap::from([("main.rhai".to_owned(), BTreeSet::from([1, 2]))]);
        let text = coverage(&[], &lines).text();
        assert_eq!(text, "never ran: main.rhai 1-2\ncoverage: 0 of 2 lines, 0 %\n");
    }

    #[test]
    fn names_cannot_break_the_xml() {
        assert_eq!(escaped("a<b>&\"\u{1}"), "a&lt;b&gt;&amp;&quot; ");
    }
}
