//! One component from its raw value, so that the second mistake in it is seen as well as the first.
//!
//! What is wrong is said and taken out, and the rest is read again. Where a required value has gone, something stands in for it that can
//! be read, so that the rest of the entry is still looked at. What comes of it is good for looking for more problems, and for nothing
//! else unless there is none.
use super::Problem;
use super::words::words;
use figment::error::Kind;
use figment::value::{Dict, Value};
use serde::de::DeserializeOwned;

/// Wrong values said of one component; more than this is a wrong file.
const WRONG_MAX: usize = 512;

/// What came of one component.
pub(super) struct Reading<T> {
    /// `None` when it cannot be read at all.
    pub value: Option<T>,
    /// Each with its key as the file has it, and no place yet.
    pub problems: Vec<Problem>,
    /// Elements that were taken out of lists: the list's key, and the index, both as the file has them.
    pub left_out: Vec<(String, usize)>,
}

/// Reads one component, named as in `destinations[2]`. Keys that nobody knows are left out without a word: they have been said already,
/// over the raw tree.
pub(super) fn read<T: DeserializeOwned>(name: &str, mut value: Value) -> Reading<T> {
    let mut of = Reading {
        value: None,
        problems: Vec::new(),
        left_out: Vec::new(),
    };
    let mut taken_out: Vec<String> = Vec::new();
    while taken_out.len() + of.left_out.len() < WRONG_MAX {
        let error = match value.deserialize::<T>() {
            Ok(read) => {
                of.value = Some(read);
                break;
            }
            Err(error) => error,
        };
        let mut path = error.path.clone();
        match &error.kind {
            Kind::MissingField(field) => {
                path.push(field.clone().into_owned());
                let key = as_written(&path_of(name, &path), &of.left_out);
                if !taken_out.contains(&key) {
                    of.problems.push(Problem::error(key.clone(), "is missing"));
                    taken_out.push(key);
                }
                if !stand_in::<T>(&mut value, &path, taken_out.len()) {
                    break;
                }
            }
            Kind::UnknownField(field, _) => {
                if path.last() != Some(field) {
                    path.push(field.clone());
                }
                taken_out.push(path_of(name, &path));
                if take_out(&mut value, &path) == TakenOut::Nothing {
                    break;
                }
            }
            _ => {
                let key = as_written(&path_of(name, &path), &of.left_out);
                of.problems.push(Problem::error(key.clone(), words(&error)));
                match take_out(&mut value, &path) {
                    TakenOut::Nothing => break,
                    TakenOut::Key => taken_out.push(key),
                    TakenOut::Element(index) => {
                        let list = key.rsplit_once('[').map_or(key.as_str(), |(list, _)| list);
                        of.left_out
                            .push((list.to_owned(), written_index(list, index, &of.left_out)));
                    }
                }
            }
        }
    }
    if taken_out.len() + of.left_out.len() >= WRONG_MAX {
        let text = "has more that is wrong than is said here: mend this first";
        of.problems.push(Problem::error(name.to_owned(), text));
    }
    of
}

/// Puts the indices of a key back to those of the file, where elements before them are left out.
pub(super) fn as_written(key: &str, left_out: &[(String, usize)]) -> String {
    let (mut written, mut rest) = (String::new(), key);
    while let Some((list, (index, behind))) = rest
        .split_once('[')
        .and_then(|(list, behind)| Some((list, behind.split_once(']')?)))
    {
        written.push_str(list);
        let index = index.parse().map_or_else(
            |_| index.to_owned(),
            |index| written_index(&written, index, left_out).to_string(),
        );
        written.push_str(&format!("[{index}]"));
        rest = behind;
    }
    written.push_str(rest);
    written
}

fn written_index(list: &str, mut index: usize, left_out: &[(String, usize)]) -> usize {
    let mut gone: Vec<usize> = left_out
        .iter()
        .filter(|(of, _)| of == list)
        .map(|(_, at)| *at)
        .collect();
    gone.sort_unstable();
    for at in gone {
        if at <= index {
            index += 1;
        }
    }
    index
}

/// The key of a path inside a component: `["addresses", "0"]` of `sources[1]` is `sources[1].addresses[0]`.
pub(super) fn path_of(name: &str, path: &[String]) -> String {
    let mut key = name.to_owned();
    for part in path {
        if part.parse::<usize>().is_ok() {
            key.push_str(&format!("[{part}]"));
        } else {
            key.push('.');
            key.push_str(part);
        }
    }
    key
}

/// The value at a path of names and indices.
fn at<'v>(value: &'v mut Value, path: &[String]) -> Option<&'v mut Value> {
    path.iter().try_fold(value, |value, name| match value {
        Value::Dict(_, dict) => dict.get_mut(name),
        Value::Array(_, elements) => elements.get_mut(name.parse::<usize>().ok()?),
        _ => None,
    })
}

#[derive(PartialEq, Eq)]
enum TakenOut {
    Nothing,
    Key,
    Element(usize),
}

fn take_out(value: &mut Value, path: &[String]) -> TakenOut {
    let Some((last, parents)) = path.split_last() else {
        return TakenOut::Nothing;
    };
    match at(value, parents) {
        Some(Value::Dict(_, dict)) => match dict.remove(last) {
            Some(_) => TakenOut::Key,
            None => TakenOut::Nothing,
        },
        Some(Value::Array(_, elements)) => match last.parse() {
            Ok(index) if index < elements.len() => {
                elements.remove(index);
                TakenOut::Element(index)
            }
            _ => TakenOut::Nothing,
        },
        _ => TakenOut::Nothing,
    }
}

/// Puts something that can be read where a required value is missing. Names are different for each `number`, and nobody's own; a port is
/// the system's to choose. `false` when nothing fits.
fn stand_in<T: DeserializeOwned>(value: &mut Value, path: &[String], number: usize) -> bool {
    let Some((last, parents)) = path.split_last() else {
        return false;
    };
    let mut candidates = vec![
        Value::from(format!("unread-{number}")),
        Value::from(Vec::<Value>::new()),
        Value::from(1),
        Value::from("127.0.0.1:0"),
        Value::from("1h"),
        Value::from("1MiB"),
        Value::from("1Gbit"),
        Value::from(true),
        Value::from(Dict::new()),
    ];
    while let Some(candidate) = (!candidates.is_empty()).then(|| candidates.remove(0)) {
        let Some(Value::Dict(_, dict)) = at(value, parents) else {
            return false;
        };
        dict.insert(last.clone(), candidate);
        match value.deserialize::<T>() {
            Ok(_) => return true,
            Err(error) if !error.path.starts_with(path) => return true,
            Err(error) => {
                if let Kind::UnknownVariant(_, known) = error.kind {
                    candidates = known.iter().take(1).map(|word| Value::from(*word)).collect();
                }
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_counts_what_is_left_out_before_it() {
        let out = [("a".to_owned(), 0), ("a".to_owned(), 2), ("a[1].b".to_owned(), 0)];
        for (key, written) in [
            ("a[0].x", "a[1].x"),
            ("a[1]", "a[3]"),
            ("a[0].b[0]", "a[1].b[1]"),
            ("a[1].b[0]", "a[3].b[0]"),
            ("c[0].x", "c[0].x"),
            ("c", "c"),
            ("c[x", "c[x"),
        ] {
            assert_eq!(as_written(key, &out), written, "{key}");
        }
    }

    #[test]
    fn an_unreadable_list_of_numbers_is_said_element_by_element() {
        let list = Value::from(vec![
            Value::from("x"),
            Value::from(1),
            Value::from("y"),
            Value::from("z"),
        ]);
        let raw = Value::from(Dict::from([("n".to_owned(), list)]));
        let read = read::<std::collections::BTreeMap<String, Vec<u8>>>("t", raw);
        let keys: Vec<&str> = read.problems.iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(keys, ["t.n[0]", "t.n[2]", "t.n[3]"]);
        assert_eq!(read.value.unwrap()["n"], [1]);
    }
}
