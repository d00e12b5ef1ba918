//! What is allowed in a rule but most likely not meant: warnings of `rules check`, with file, line, column and what to do.
//! A set with warnings is loaded; a literal that can never be written is an error, because its line would hold every image.
use crate::dicom::edit::{Edit, EditError};
use crate::dicom::head::Head;
use crate::dicom::path::{Path, Selector};
use crate::dicom::syntax::Syntax;
use crate::rules::Problem;
use crate::rules::lex::{Placed, Token};
use crate::rules::tables::{Table, Tables};
use dicom_core::VR;
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_dictionary_std::StandardDataDictionary;
use std::path::Path as FilePath;

/// The functions that Waystation calls by itself.
const ENTRIES: [&str; 2] = ["morph", "route"];
const MORPH_FOR: &str = "morph_for_";
const DIGITS: &str = "a prefix of digits only cannot be told from a number that begins with it: two patients or orders could become one; \
    end it with a letter or a dash, or name the issuer of a Patient ID";
const SET_VALUES: &str = "set_values";

/// Literals that can never be written where a line puts them: errors.
pub(in crate::rules) fn impossible(file: &FilePath, all: &[Placed]) -> Vec<Problem> {
    let assigned = assignments(all).filter_map(|(at, path, value)| {
        let values: Vec<String> = value?.split('\\').map(str::to_owned).collect();
        Some((at, path, values))
    });
    let problem = |(at, path, values): (usize, Path, Vec<String>)| {
        Some(place(file, &all[at], unwritable(path, &values)?.to_owned()))
    };
    assigned.chain(listed(all)).filter_map(problem).collect()
}

/// Why no image can have these values in this element, as far as its VR tells.
pub(in crate::rules) fn unwritable(path: Path, values: &[String]) -> Option<&'static str> {
    let empty = Head::scan(Syntax::of(&crate::base::names::Uid::known("1.2.840.10008.1.2.1")), &[]).ok()?;
    match Edit::text(&empty, path, values) {
        Err(EditError::TooLong) => Some("the value is too long for this attribute's VR: every image would be held"),
        Err(EditError::NotANumber) => Some("the value is no number that this attribute can hold"),
        Err(EditError::NotAUid) => Some("the value is no UID: every image would be held"),
        Err(_) | Ok(_) => None,
    }
}

/// Calls `set_values("path", ["…", "…"])` with literals alone: the token of the path, the path and the values.
fn listed(all: &[Placed]) -> impl Iterator<Item = (usize, Path, Vec<String>)> {
    let calls = (1..all.len()).filter(|at| all[*at].word() == Some(SET_VALUES) && is(all, at - 1, '.'));
    calls.filter_map(|at| {
        let starts = is(all, at + 1, '(') && is(all, at + 3, ',') && is(all, at + 4, '[');
        let path = all.get(at + 2)?.text().filter(|_| starts)?;
        let (mut values, mut next) = (Vec::new(), at + 5);
        while let Some(text) = all.get(next).and_then(Placed::text) {
            values.push(text.to_owned());
            next += if is(all, next + 1, ',') { 2 } else { 1 };
        }
        let ends = is(all, next, ']') && is(all, next + 1, ')') && !values.is_empty();
        Some((at + 2, Path::parse(path).ok().filter(|_| ends)?, values))
    })
}

/// What one file holds that its writer should look at again. `calls` are the words of every file of the folder, so that a
/// function that another file calls is not called unused; `entry` says whether Waystation calls `morph` and `route` here.
pub(in crate::rules) fn warnings(file: &FilePath, all: &[Placed], calls: &[&[Placed]], entry: bool) -> Vec<Problem> {
    let mut found = Vec::new();
    for (at, path, _) in assignments(all) {
        if is_uid(&path) {
            let message =
                "a UID is changed by hand: references to it in other images would no longer fit; use uid::remap";
            found.push(place(file, &all[at], message.to_owned()));
        }
    }
    found.extend(looked_up(all).map(|at| {
        let message = "holds the image when the table has no row for the value: ask `if answer != ()` before the assignment, or name \
            another value after `??`";
        place(file, &all[at], message.to_owned())
    }));
    found.extend(digits_before(all).map(|at| place(file, &all[at], DIGITS.to_owned())));
    found.extend(unreachable(all).map(|at| {
        place(
            file,
            &all[at],
            "is never reached: the line before it leaves the function".to_owned(),
        )
    }));
    found.extend(repeated(all).into_iter().map(|(at, line)| {
        let message = format!("is never true here: line {line} asks the same before it");
        place(file, &all[at], message)
    }));
    for at in 0..all.len().saturating_sub(1) {
        if all[at].word() != Some("fn") {
            continue;
        }
        let Some(name) = all[at + 1].word() else { continue };
        let ours = entry && (ENTRIES.contains(&name) || name.starts_with(MORPH_FOR));
        if !ours && !calls.iter().any(|tokens| is_named(tokens, name)) {
            found.push(place(file, &all[at + 1], format!("`{name}` is never called")));
        }
    }
    found
}

/// Destinations whose `morph_for_…` can never run, because no `to("…")` names them. Nothing is said when a rule computes the
/// name of a destination.
pub(in crate::rules) fn never_routed<'a>(file: &FilePath, all: &'a [Placed], calls: &[&'a [Placed]]) -> Vec<Problem> {
    let mut named: Vec<&str> = Vec::new();
    for tokens in calls {
        if (0..tokens.len()).any(|at| computes(tokens, at)) {
            return Vec::new();
        }
        named.extend(tokens.iter().filter_map(Placed::text));
    }
    let mut found = Vec::new();
    for pair in all.windows(2).filter(|pair| pair[0].word() == Some("fn")) {
        let destination = pair[1].word().and_then(|name| name.strip_prefix(MORPH_FOR));
        if let Some(destination) = destination
            && !named.iter().any(|text| text.replace('-', "_") == destination)
        {
            let message = format!("never runs: no rule sends to `{destination}`");
            found.push(place(file, &pair[1], message));
        }
    }
    found
}

/// Functions that send.
const SENDS: [&str; 3] = ["to", "to_first", "to_one_of"];

/// Whether a call of a function that sends begins at `at` whose destinations do not all stand there as literals.
fn computes(all: &[Placed], at: usize) -> bool {
    let is_name = |name: Option<&str>| name.is_some_and(|name| SENDS.contains(&name));
    let is_call = is_name(all[at].word()) && is(all, at + 1, '(');
    if !is_call {
        // Called through a pointer: `Fn("to")`.
        return is_name(all[at].text()) && at > 1 && all[at - 2].word() == Some("Fn");
    }
    let ends = |at: usize, mark: char| is(all, at, ',') || is(all, at, mark);
    let is_literal = |at: usize| all.get(at).and_then(Placed::text).is_some();
    if !is(all, at + 2, '[') {
        return !(is_literal(at + 2) && ends(at + 3, ')'));
    }
    let mut next = at + 3;
    while is_literal(next) && ends(next + 1, ']') {
        next += if is(all, next + 1, ',') { 2 } else { 1 };
    }
    !is(all, next, ']') || !ends(next + 1, ')')
}

/// Every write of an element that the text shows: the token of its path, the path, and the literal when it is one.
fn assignments(all: &[Placed]) -> impl Iterator<Item = (usize, Path, Option<&str>)> {
    let images = (0..all.len()).filter(|at| all[*at].word() == Some("image") && !(*at > 0 && is(all, at - 1, '.')));
    images.filter_map(|at| {
        let (name, after) = if is(all, at + 1, '.') {
            match all.get(at + 2).and_then(Placed::word)? {
                SET_VALUES | "remove" => return method(all, at + 4),
                word => (word, at + 3),
            }
        } else if is(all, at + 1, '[') && is(all, at + 3, ']') {
            (all.get(at + 2)?.text()?, at + 4)
        } else {
            return None;
        };
        // `=`, but neither `==` nor `=>`.
        let assigned = is(all, after, '=') && !is(all, after + 1, '=') && !is(all, after + 1, '>');
        let path = Path::parse(name).ok().filter(|_| assigned)?;
        let value = all
            .get(after + 1)
            .and_then(Placed::text)
            .filter(|_| is(all, after + 2, ';'));
        Some((at + 2, path, value))
    })
}

/// Prefixes of digits only, where nothing else tells whether a number has its prefix: the places of their literals.
fn digits_before(all: &[Placed]) -> impl Iterator<Item = usize> {
    let words =
        (3..all.len()).filter(|at| all[*at].word() == Some("prefix") && is(all, at - 1, ':') && is(all, at + 1, '('));
    words.filter_map(|at| {
        let namespace = all[at - 3].word()?;
        let prefix = all.get(at + 4)?.text()?.trim();
        let has_issuer = namespace == "identity" && is(all, at + 5, ',');
        let is_digits = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
        (matches!(namespace, "identity" | "accession") && is_digits && !has_issuer).then_some(at + 4)
    })
}

/// Calls of `identity::prefix_by` whose table has a prefix of digits only, and no issuer in that row.
pub(in crate::rules) fn sites(file: &FilePath, all: &[Placed], tables: &Tables) -> Vec<Problem> {
    let is_doubtful = |table: &Table| {
        let (prefix, issuer) = (table.column("prefix"), table.column("issuer"));
        (0..table.count()).any(|row| {
            let prefix = prefix.map_or("", |column| table.cell(row, column));
            let has_issuer = issuer.is_some_and(|column| !table.cell(row, column).is_empty());
            !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit()) && !has_issuer
        })
    };
    let named = (0..all.len()).filter(|at| all[*at].word() == Some("prefix_by"));
    let doubtful = named.filter(|at| {
        let name = all.get(at + 4).and_then(Placed::text);
        name.and_then(|name| tables.get(name)).is_some_and(is_doubtful)
    });
    doubtful
        .map(|at| place(file, &all[at + 4], DIGITS.to_owned()))
        .collect()
}

/// Assignments of what `table::lookup(…)` answers, with nothing for a value that the table lacks: the place of `table`.
fn looked_up(all: &[Placed]) -> impl Iterator<Item = usize> {
    assignments(all).filter_map(|(at, _, _)| {
        // Behind the path, or behind the path and its bracket.
        let equals = (at + 1..at + 3).find(|next| is(all, *next, '='))?;
        let words = ["table", ":", ":", "lookup", "("];
        let is_lookup = words
            .iter()
            .zip(all.get(equals + 1..)?)
            .all(|(wanted, token)| match &token.token {
                Token::Word(word) => word == wanted,
                Token::Mark(mark) => wanted.len() == 1 && wanted.starts_with(*mark),
                Token::Text(_) => false,
            });
        let mut depth = 0_usize;
        let end = (equals + words.len()..all.len()).find(|next| {
            depth += usize::from(is(all, *next, '('));
            depth -= usize::from(is(all, *next, ')') && depth > 0);
            depth == 0
        })?;
        (is_lookup && !is(all, end + 1, '?')).then_some(equals + 1)
    })
}

fn method(all: &[Placed], at: usize) -> Option<(usize, Path, Option<&str>)> {
    let path = Path::parse(all.get(at)?.text()?).ok()?;
    Some((at, path, None))
}

fn is_uid(path: &Path) -> bool {
    let Selector::Tag(tag) = path.leaf else {
        return false;
    };
    let entry = StandardDataDictionary.by_tag(tag);
    entry.is_some_and(|entry| entry.vr().relaxed() == VR::UI)
}

/// Tokens that stand behind a `return …;` or `throw …;` in the same block.
fn unreachable(all: &[Placed]) -> impl Iterator<Item = usize> {
    let leaves = (0..all.len()).filter(|at| matches!(all[*at].word(), Some("return" | "throw")));
    leaves.filter_map(|at| {
        let mut depth = 0_usize;
        for next in at..all.len() {
            match all[next].token {
                Token::Mark('(' | '[' | '{') => depth += 1,
                Token::Mark(')' | ']' | '}') if depth == 0 => return None,
                Token::Mark(')' | ']' | '}') => depth -= 1,
                Token::Mark(';') if depth == 0 => {
                    return (next + 1 < all.len() && !is(all, next + 1, '}')).then_some(next + 1);
                }
                Token::Mark(_) | Token::Word(_) | Token::Text(_) => {}
            }
        }
        None
    })
}

/// Conditions of an `else if` that an earlier one of the same chain has already asked, with that one's line.
fn repeated(all: &[Placed]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    // Conditions of the chain under way, for each depth of braces.
    let mut chains: Vec<Vec<(Vec<&Token>, usize)>> = vec![Vec::new()];
    for at in 0..all.len() {
        if is(all, at, '{') {
            chains.push(Vec::new());
        } else if is(all, at, '}') {
            chains.truncate(chains.len().saturating_sub(1).max(1));
        }
        if all[at].word() != Some("if") {
            continue;
        }
        let condition = condition(all, at + 1);
        let chained = at > 0 && all[at - 1].word() == Some("else");
        // There is always a chain: the first level is never taken away.
        let Some(chain) = chains.last_mut() else { continue };
        if !chained {
            chain.clear();
        }
        // What stands between interpolations is no token: two such conditions may differ in it.
        if condition.iter().any(|token| **token == Token::Mark('`')) {
            continue;
        }
        if let Some((_, line)) = chain.iter().find(|(before, _)| *before == condition) {
            found.push((at + 1, *line));
        }
        chain.push((condition, all[at].line));
    }
    found
}

/// The tokens from `start` to the `{` of the block that they are the condition of; maps and interpolations have braces too.
fn condition(all: &[Placed], start: usize) -> Vec<&Token> {
    let mut depth = 0_usize;
    let ends = all.iter().enumerate().skip(start).position(|(at, placed)| {
        let opens_block = placed.is('{') && !(at > 0 && (is(all, at - 1, '#') || is(all, at - 1, '$')));
        if depth == 0 && opens_block {
            return true;
        }
        match placed.token {
            Token::Mark('(' | '[' | '{') => depth += 1,
            Token::Mark(')' | ']' | '}') => depth = depth.saturating_sub(1),
            Token::Mark(_) | Token::Word(_) | Token::Text(_) => {}
        }
        false
    });
    let length = ends.unwrap_or(all.len() - start);
    all[start..].iter().take(length).map(|placed| &placed.token).collect()
}

/// Whether a name occurs other than in its definition.
fn is_named(all: &[Placed], name: &str) -> bool {
    (0..all.len()).any(|at| {
        let defined = at > 0 && all[at - 1].word() == Some("fn");
        !defined && (all[at].word() == Some(name) || all[at].text() == Some(name))
    })
}

fn is(all: &[Placed], at: usize, mark: char) -> bool {
    all.get(at).is_some_and(|token| token.is(mark))
}

fn place(file: &FilePath, token: &Placed, message: String) -> Problem {
    Problem {
        file: file.to_owned(),
        line: Some(token.line),
        column: Some(token.column),
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::lex::tokens;

    fn warned(source: &str) -> Vec<String> {
        let all = tokens(source);
        let mut found = warnings(FilePath::new("m"), &all, &[&all], true);
        found.extend(never_routed(FilePath::new("m"), &all, &[&all]));
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_never_runs_is_named() {
        let source = "fn morph(image, from) {\n  if from.source == \"a\" { return; }\n  else if image.Modality == \"CT\" { throw 1; image.X = 1; }\n  \
            else if from.source == \"a\" { }\n}\nfn route(image, from) { to(\"vna\"); }\nfn morph_for_cad(image, from) { }\nfn spare() { }";
        assert_eq!(
            warned(source),
            [
                "m:3:45: is never reached: the line before it leaves the function",
                "m:4:11: is never true here: line 2 asks the same before it",
                "m:8:4: `spare` is never called",
                "m:7:4: never runs: no rule sends to `cad`",
            ]
        );
    }

    #[test]
    fn good_rules_get_no_warning() {
        let source = "fn morph(image, from) { help(image); if image.Modality == \"CT\" { return; } image.PatientID = \"1\"; }\n\
            fn help(image) { image.StudyInstanceUID == \"1.2\" }\nfn route(image, from) { let a = [\"cad\"]; to(a[0]); }\n\
            fn morph_for_cad(image, from) { if image.PatientID == \"A\" { } if image.PatientID == \"A\" { } }";
        assert_eq!(warned(source), [""; 0]);
    }

    #[test]
    fn conditions_that_differ_in_a_map_or_an_interpolation_are_not_the_same() {
        let source = "fn morph(image, from) { for i in 0..2 {\n\
            if image[`A[${i}].B`] == \"\" { return 1; } else if image[`A[${i}].C`] == \"\" { return 2; }\n\
            if f(#{a: \"x\"}) { return 3; } else if f(#{a: \"y\"}) { return 4; } else if f(#{a: \"x\"}) { return 5; }\n} }\n\
            fn f(x) { x }";
        assert_eq!(
            warned(source),
            ["m:3:74: is never true here: line 3 asks the same before it"]
        );
    }

    #[test]
    fn computed_destinations_may_be_any() {
        let morph_for = "fn morph_for_cad(image, from) { }\nfn route(image, from) { ";
        for body in [
            "to_one_of(\"cad,vna\".split(\",\"));",
            "to_first([x, \"vna\"]);",
            "to_first([\"c\" + x]);",
            "to(\"c\" + x);",
            "to(`c${x}`);",
            "Fn(\"to\").call(x);",
        ] {
            assert_eq!(warned(&format!("{morph_for}{body} }}")), [""; 0], "{body}");
        }
        for body in [
            "to(\"vna\", #{ priority: x });",
            "to_first([\"vna\", \"b\",]);",
            "to_one_of([\"vna\"], #{});",
        ] {
            assert_eq!(warned(&format!("{morph_for}{body} }}")).len(), 1, "{body}");
        }
    }

    #[test]
    fn a_prefix_that_numbers_begin_with_is_named() {
        let source = "fn morph(image, from) {\n  identity::prefix(image, \"1\");\n  accession::prefix(image, \"12\", #{ too_long: \"keep\" });\n  \
            identity::prefix(image, \"1\", \"SITE1\"); identity::prefix(image, \"N1\"); accession::prefix(image, \"1-\");\n}";
        let all = warned(source);
        assert_eq!(all.len(), 2, "{all:?}");
        assert!(
            all[0].starts_with("m:2:27: a prefix of digits only") && all[1].starts_with("m:3:28: "),
            "{all:?}"
        );
    }

    #[test]
    fn an_assigned_lookup_says_what_else_to_write() {
        let source = "fn morph(image, from) {\n  image.PatientID = table::lookup(\"t\", f(image.PatientID));\n  \
            image.PatientID = table::lookup(\"t\", image.PatientID) ?? \"x\";\n  image.remove(\"PatientName\"); let x = table::lookup(\"t\", \"y\");\n}";
        let all = warned(source);
        assert_eq!(all.len(), 1, "{all:?}");
        assert!(
            all[0].starts_with("m:2:21: holds the image when the table has no row"),
            "{all:?}"
        );
    }

    #[test]
    fn a_uid_that_is_set_by_hand_is_named() {
        let source = "fn morph(image, from) { image.StudyInstanceUID = \"1.2\"; image[\"SeriesInstanceUID\"] = x; image.remove(\"(0008,0018)\"); }";
        assert_eq!(warned(source).iter().filter(|w| w.contains("uid::remap")).count(), 3);
    }

    #[test]
    fn a_literal_that_cannot_be_written_is_an_error() {
        let source = "fn morph(image, from) { image.AccessionNumber = \"12345678901234567\"; image.PatientID = \"1\"; image.Rows = \"x\"; image.StudyInstanceUID = \"abc\"; }";
        let found = impossible(FilePath::new("m"), &tokens(source));
        let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 3, "{texts:?}");
        assert!(texts[0].starts_with("m:1:31: the value is too long"), "{texts:?}");
        assert!(texts[2].contains("no UID"), "{texts:?}");
        let source = "fn morph(image, from) {\nimage.set_values(\"ImageType\", [\"A\", \"12345678901234567\"]);\n\
            image.set_values(\"ImageType\", [x, \"12345678901234567\"]); image.set_values(\"ImageType\", [\"1234567890123456\", \"B\",]); }";
        let found = impossible(FilePath::new("m"), &tokens(source));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].to_string().starts_with("m:2:18: the value is too long"),
            "{found:?}"
        );
    }
}
