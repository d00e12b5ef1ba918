//! Who a caller is: a bearer token in the Authorization header, held against the hashes of the tokens in the callers' files, in a time
//! that does not depend on them. How often one may ask, and how often somebody may be wrong, is bounded. A token is never in a URL,
//! never logged, and after the start only its hash is in memory.
use crate::custody::Caller;
use axum::http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// `[[web.callers]]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CallerConfig {
    /// Its name on the ledger: a-z, 0-9, `_`, `-`.
    pub name: String,
    pub role: Role,
    /// The file with its token, mode 0600.
    pub token_file: PathBuf,
}

/// What a caller may see.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// UIDs, states and reports; no patient data, and no question by patient id or accession number.
    Viewer,
    /// Patient data as well.
    Custodian,
}

/// Everything that is wrong, as sentences that begin with the key.
pub(super) fn check(callers: &[CallerConfig]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    let mut tokens: Vec<(usize, blake3::Hash)> = Vec::new();
    for (index, caller) in callers.iter().enumerate() {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b);
        if caller.name.is_empty() || caller.name.len() > 32 || !caller.name.bytes().all(allowed) {
            problems.push(format!(
                "`callers[{index}].name` must be 1 to 32 of a-z, 0-9, `_` and `-`"
            ));
        }
        if names.contains(&caller.name.as_str()) {
            problems.push(format!("`callers[{index}].name` is the name of another caller already"));
        }
        names.push(&caller.name);
        match token_hash(&caller.token_file) {
            Err(problem) => problems.push(format!("`callers[{index}].token_file` {problem}")),
            Ok(token) => match tokens.iter().find(|(_, other)| *other == token) {
                Some((other, _)) => problems.push(format!(
                    "`callers[{index}].token_file` holds the token of callers[{other}]: give each caller its own, `openssl rand -hex 32`"
                )),
                None => tokens.push((index, token)),
            },
        }
    }
    problems
}

/// The callers of a running box.
pub(super) struct Callers {
    known: Vec<(Caller, blake3::Hash)>,
    pace: Mutex<Pace>,
}

/// Requests of the running minute, by caller; wrong tokens under the empty name.
struct Pace {
    minute: Instant,
    asked: BTreeMap<String, u32>,
}

/// Requests that one caller may make in a minute.
const ASKED_MAX: u32 = 120;
/// Wrong tokens, of everybody together, in a minute: then nobody is heard who has none of the right ones.
const WRONG_MAX: u32 = 30;
const MINUTE: Duration = Duration::from_secs(60);
/// Characters of a token: 32 hexadecimal digits are 128 bits.
const TOKEN_MIN: usize = 32;
const TOKEN_MAX: usize = 512;

/// Why somebody is not heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Denied {
    /// No token, or none that is known.
    Unknown,
    /// Too often.
    Pace,
}

impl Denied {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Unknown => StatusCode::UNAUTHORIZED,
            Self::Pace => StatusCode::TOO_MANY_REQUESTS,
        }
    }
}

impl Callers {
    /// Reads the tokens.
    ///
    /// # Errors
    /// A file cannot be read, is open to others, or holds no token.
    pub(super) fn load(configured: &[CallerConfig]) -> Result<Self, String> {
        let mut known: Vec<(Caller, blake3::Hash)> = Vec::new();
        for caller in configured {
            let hash = token_hash(&caller.token_file).map_err(|problem| format!("token_file {problem}"))?;
            if known.iter().any(|(_, other)| *other == hash) {
                return Err(format!("caller {} has the token of another caller", caller.name));
            }
            let who = Caller {
                who: format!("http:{}", caller.name),
                sees_patients: caller.role == Role::Custodian,
            };
            known.push((who, hash));
        }
        let pace = Pace {
            minute: Instant::now(),
            asked: BTreeMap::new(),
        };
        Ok(Self {
            known,
            pace: Mutex::new(pace),
        })
    }

    /// The caller of a request.
    ///
    /// # Errors
    /// See `Denied`.
    pub(super) fn admit(&self, headers: &HeaderMap) -> Result<Caller, Denied> {
        let given = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(bearer)
            .filter(|token| token.len() <= TOKEN_MAX);
        let hash = blake3::hash(given.unwrap_or_default().as_bytes());
        let mut found = None;
        // All are compared, each in constant time (blake3 promises that for its own type).
        for (caller, known) in &self.known {
            if *known == hash {
                found = Some(caller);
            }
        }
        let (name, most) = match found.filter(|_| given.is_some()) {
            Some(caller) => (caller.who.as_str(), ASKED_MAX),
            None => ("", WRONG_MAX),
        };
        let allowed = self.count(name) <= most;
        match found.filter(|_| given.is_some()) {
            _ if !allowed => Err(Denied::Pace),
            Some(caller) => Ok(caller.clone()),
            None => Err(Denied::Unknown),
        }
    }

    fn count(&self, name: &str) -> u32 {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        if pace.minute.elapsed() >= MINUTE {
            (pace.minute, pace.asked) = (Instant::now(), BTreeMap::new());
        }
        let asked = pace.asked.entry(name.to_owned()).or_default();
        *asked = asked.saturating_add(1);
        *asked
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The hash of the token in a file that only its owner can read. The problem goes on from the name of the key.
fn token_hash(path: &Path) -> Result<blake3::Hash, String> {
    let shown = path.display();
    let facts = std::fs::metadata(path).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    if !facts.is_file() {
        return Err(format!("{shown} is no file"));
    }
    if facts.permissions().mode() & 0o077 != 0 {
        return Err(format!("{shown} can be read by others than its owner: chmod 600 it"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    let token = text.trim();
    let plain = token.bytes().all(|byte| byte.is_ascii_graphic());
    if !(TOKEN_MIN..=TOKEN_MAX).contains(&token.len()) || !plain {
        return Err(format!(
            "{shown} does not hold a token of {TOKEN_MIN} to {TOKEN_MAX} characters without spaces: `openssl rand -hex 32`"
        ));
    }
    Ok(blake3::hash(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &Path, name: &str, token: &str, mode: u32) -> CallerConfig {
        let path = folder.join(name);
        std::fs::write(&path, token).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        CallerConfig {
            name: name.to_owned(),
            role: Role::Viewer,
            token_file: path,
        }
    }

    fn with(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        headers
    }

    #[test]
    fn only_the_whole_right_token_is_heard() {
        let folder = tempfile::tempdir().unwrap();
        let token = "0123456789abcdef0123456789abcdef";
        let callers = Callers::load(&[file(folder.path(), "it", &format!("{token}\n"), 0o600)]).unwrap();
        assert_eq!(callers.admit(&with(&format!("Bearer {token}"))).unwrap().who, "http:it");
        assert!(callers.admit(&with(&format!("bearer  {token} "))).is_ok());
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            &format!("Basic {token}"),
            token,
            &format!("Bearer {}", &token[1..]),
        ] {
            assert_eq!(callers.admit(&with(wrong)), Err(Denied::Unknown), "{wrong}");
        }
        assert_eq!(callers.admit(&HeaderMap::new()), Err(Denied::Unknown));
        // Without callers nobody is heard, an empty token neither.
        assert_eq!(
            Callers::load(&[]).unwrap().admit(&with("Bearer ")),
            Err(Denied::Unknown)
        );
    }

    #[test]
    fn files_that_others_can_read_and_short_tokens_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let long = "0123456789abcdef0123456789abcdef";
        let open = file(folder.path(), "a", long, 0o640);
        let short = file(folder.path(), "b", "secret", 0o600);
        let spaced = file(folder.path(), "c", &format!("{long} x"), 0o600);
        for bad in [&open, &short, &spaced] {
            assert_eq!(check(std::slice::from_ref(bad)).len(), 1);
            assert!(Callers::load(std::slice::from_ref(bad)).is_err());
        }
        let (one, two) = (
            file(folder.path(), "d", long, 0o600),
            file(folder.path(), "e", long, 0o600),
        );
        let both = [one, two];
        assert!(Callers::load(&both).is_err(), "two callers with one token");
        let said = check(&both).join("\n");
        assert!(
            said.starts_with("`callers[1].token_file`") && said.contains("callers[0]"),
            "{said}"
        );
    }

    #[test]
    fn who_asks_too_often_is_told_so_and_guessing_does_not_stop_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let token = "0123456789abcdef0123456789abcdef";
        let callers = Callers::load(&[file(folder.path(), "it", token, 0o600)]).unwrap();
        let wrong = with("Bearer wrong-wrong-wrong-wrong-wrong-wrong");
        let answers: Vec<_> = (0..WRONG_MAX + 1).map(|_| callers.admit(&wrong)).collect();
        assert_eq!(answers.last(), Some(&Err(Denied::Pace)));
        let right = with(&format!("Bearer {token}"));
        assert!((0..ASKED_MAX).all(|_| callers.admit(&right).is_ok()));
        assert_eq!(callers.admit(&right), Err(Denied::Pace));
    }
}
