//! Text verbs written in Rust, all bounded: regular expressions in linear time, padding that never cuts, and bounded
//! replacements of Rhai's own that could fill the memory.
use super::api::{self, Image};
use super::fault::Fault;
use super::words::Hand;
use regex::{Regex, RegexBuilder};
use rhai::{EvalAltResult, FuncRegistration, ImmutableString, Module, NativeCallContext};

const PATTERN_MAX: usize = 512;
/// Compiled size of a pattern, and of its lazy automaton.
const PATTERN_MEMORY_MAX: usize = 256 << 10;
/// Computed patterns kept for the rest of an evaluation; literal ones are compiled at load.
const PATTERNS_MAX: usize = 8;
const REPLACEMENT_MAX: usize = 256;
const PAD_MAX: i64 = 1024;

type Raised<T> = Result<T, Box<EvalAltResult>>;
type Context<'a> = NativeCallContext<'a>;

pub(super) fn module() -> Module {
    let mut module = Module::new();
    let m = &mut module;
    global("matches").set_into_module(m, |c: Context, text: &str, pattern: &str| {
        with(&c, pattern, |regex| Ok(regex.is_match(text)))
    });
    global("replace_regex").set_into_module(m, |c: Context, text: &str, pattern: &str, by: &str| {
        replace_regex(&c, text, pattern, by)
    });
    global("pad_left").set_into_module(m, |c: Context, text: &str, n: i64, fill: &str| {
        let pad = padding(text, n, fill).map_err(|fault| fault.raise(c.call_position()))?;
        Ok::<ImmutableString, Box<EvalAltResult>>((pad + text).into())
    });
    // Rhai's own `replace` makes the whole result before its size is looked at: 16 KiB of text become 256 MiB.
    global("replace").set_into_module(m, |c: Context, text: &mut ImmutableString, old: &str, new: &str| {
        *text = replaced(&c, text, old, new)?;
        Ok::<(), Box<EvalAltResult>>(())
    });
    global("replace").set_into_module(m, |c: Context, text: &mut ImmutableString, old: char, new: &str| {
        *text = replaced(&c, text, old.encode_utf8(&mut [0; 4]), new)?;
        Ok::<(), Box<EvalAltResult>>(())
    });
    module
}

fn global(name: &str) -> FuncRegistration {
    FuncRegistration::new(name).in_global_namespace()
}

/// A pattern within its limits.
///
/// # Errors
/// What is wrong with it; it names the pattern's own text, so callers show it for literals only.
pub(super) fn compile(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > PATTERN_MAX {
        return Err(format!("a regular expression is longer than {PATTERN_MAX} bytes"));
    }
    RegexBuilder::new(pattern)
        .size_limit(PATTERN_MEMORY_MAX)
        .dfa_size_limit(PATTERN_MEMORY_MAX)
        .nest_limit(32)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => "a regular expression is too large".to_owned(),
            // The last line of the report says what is wrong, the others draw the place.
            other => other
                .to_string()
                .lines()
                .last()
                .unwrap_or("a regular expression is not valid")
                .to_owned(),
        })
}

/// Runs `work` with the compiled pattern: a literal's from the load, or a computed one of this evaluation.
fn with<T>(c: &Context, pattern: &str, work: impl FnOnce(&Regex) -> Result<T, Fault>) -> Raised<T> {
    let raise = |fault: Fault| fault.raise(c.call_position());
    let Some(image) = c.tag().and_then(|tag| tag.clone().try_cast::<Image>()) else {
        let regex = compile(pattern).map_err(|_| raise(not_valid(pattern)))?;
        return work(&regex).map_err(raise);
    };
    if let Some(regex) = image.0.known.patterns.get(pattern) {
        return work(regex).map_err(raise);
    }
    let kept = image
        .0
        .state()
        .patterns
        .iter()
        .find(|(text, _)| text == pattern)
        .map(|(_, regex)| regex.clone());
    let regex = match kept {
        Some(regex) => regex,
        None => {
            let made = compile(pattern).map_err(|_| raise(not_valid(pattern)))?;
            let mut state = image.0.state();
            if state.patterns.len() >= PATTERNS_MAX {
                state.patterns.remove(0);
            }
            state.patterns.push((pattern.to_owned(), made.clone()));
            made
        }
    };
    work(&regex).map_err(raise)
}

/// What is said of a computed pattern that does not compile: nothing of its text, which may hold values.
fn not_valid(pattern: &str) -> Fault {
    match pattern.len() > PATTERN_MAX {
        true => Fault::error(format!("a regular expression is longer than {PATTERN_MAX} bytes")),
        false => Fault::error("a regular expression is not valid, or too large"),
    }
}

fn replace_regex(c: &Context, text: &str, pattern: &str, by: &str) -> Raised<ImmutableString> {
    let limit = limit(c);
    with(c, pattern, |regex| expanded(regex, text, by, limit).map(Into::into))
}

/// `text` with every match of `pattern` replaced, when doing so again would change nothing more: what words promise.
///
/// # Errors
/// A pattern that is not valid; a result that would change again; a result that no value can hold.
pub(super) fn settled(hand: &Hand, text: &str, pattern: &str, by: &str) -> Result<String, Fault> {
    let (c, mut result) = (hand.context(), Ok(String::new()));
    let limit = limit(c);
    let done = with(c, pattern, |regex| {
        result = expanded(regex, text, by, limit).and_then(|once| {
            // Blanks at the ends are padding, which the next reader takes away: without them it must not change either.
            for read in [once.as_str(), once.trim_end_matches(' '), once.trim_matches(' ')] {
                if expanded(regex, read, by, limit)?.trim_matches(' ') != read.trim_matches(' ') {
                    return Err(Fault::error(
                        "the pattern matches what it makes: replacing again would change the value again",
                    ));
                }
            }
            let banned = |letter: char| (letter.is_control() || letter == '\\') && !text.contains(letter);
            if once.contains(banned) {
                return Err(Fault::error("the replacement makes a backslash or a control character"));
            }
            Ok(once)
        });
        Ok(())
    });
    done.map_err(|_| not_valid(pattern))?;
    result
}

fn expanded(regex: &Regex, text: &str, by: &str, limit: usize) -> Result<String, Fault> {
    if by.len() > REPLACEMENT_MAX {
        return Err(Fault::budget("the replacement of a regular expression is too long"));
    }
    let (mut out, mut last) = (String::new(), 0);
    for found in regex.captures_iter(text) {
        // Group 0 is the whole match and always there.
        let whole = found.get(0).map_or(last..last, |m| m.range());
        out.push_str(&text[last..whole.start]);
        found.expand(by, &mut out);
        last = whole.end;
        if out.len() > limit {
            return Err(Fault::budget("a value grew over its limit"));
        }
    }
    out.push_str(&text[last..]);
    Ok(out)
}

fn replaced(c: &Context, text: &str, old: &str, new: &str) -> Raised<ImmutableString> {
    let growth = text.matches(old).count().saturating_mul(new.len());
    if growth > limit(c).saturating_mul(2) {
        return Err(Fault::budget("a value grew over its limit").raise(c.call_position()));
    }
    Ok(text.replace(old, new).into())
}

/// What stands before `text` so that it has `n` characters; nothing when it already has them. It never cuts.
fn padding(text: &str, n: i64, fill: &str) -> Result<String, Fault> {
    let mut letters = fill.chars();
    let (Some(letter), None) = (letters.next(), letters.next()) else {
        return Err(Fault::error("pad_left fills with exactly one character"));
    };
    if n > PAD_MAX {
        return Err(Fault::budget("pad_left fills up to 1024 characters"));
    }
    let wanted = usize::try_from(n).unwrap_or(0);
    Ok(std::iter::repeat_n(letter, wanted.saturating_sub(text.chars().count())).collect())
}

fn limit(c: &Context) -> usize {
    api::evaluation(c).map_or(1 << 10, |evaluation| evaluation.known.text_max)
}
