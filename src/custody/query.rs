//! What may be asked, and by whom: parsed at the door, with bounds. The value is patient data until it is known to be a UID.
use crate::base::names::{InstanceId, Uid};
use crate::base::phi::Phi;
use crate::spool::By;
use serde::{Deserialize, Serialize};

/// Who asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caller {
    /// For the ledger: `uid 0`, `http:NAME`.
    pub who: String,
    /// Whether patient data may be shown to it, and asked by.
    pub sees_patients: bool,
}

/// By what instances are meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// Whatever the value turns out to be.
    Any,
    Patient,
    Accession,
    Study,
    Series,
    Sop,
    /// The box's own instance id.
    Instance,
}

/// A question, as command line and HTTP bring it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Query {
    pub value: Phi<String>,
    pub by: Subject,
    /// The instance after which the page begins.
    pub after: Option<InstanceId>,
    pub limit: usize,
}

/// Why a question is not one. Never says the value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum QueryError {
    #[error("there is no value to ask for")]
    Empty,
    #[error("the value is longer than 64 characters")]
    TooLong,
    #[error("the value is not of that kind: a UID has digits and dots, an instance id 32 hexadecimal digits")]
    Kind,
    #[error("the limit is 1 to 1000")]
    Limit,
    #[error("the limit is 1 to 10000 lines")]
    Lines,
    #[error("that is no kind of line: docs/ledger.md has the words")]
    Word,
    #[error("only a caller that may see patient data can ask by patient id or accession number")]
    Forbidden,
}

/// Instances of one page.
pub const LIMIT_MAX: usize = 1_000;
pub const LIMIT: usize = 100;
/// LO and UI have at most 64 characters.
const VALUE_MAX: usize = 64;

impl Query {
    /// Checks what came.
    ///
    /// # Errors
    /// See `QueryError`.
    pub fn parse(value: String, by: Subject, after: Option<InstanceId>, limit: usize) -> Result<Self, QueryError> {
        let trimmed = value.trim_matches([' ', '\0', '\n', '\r']);
        if trimmed.is_empty() {
            return Err(QueryError::Empty);
        }
        if trimmed.chars().count() > VALUE_MAX {
            return Err(QueryError::TooLong);
        }
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(QueryError::Limit);
        }
        let fits = match by {
            Subject::Any | Subject::Patient | Subject::Accession => true,
            Subject::Study | Subject::Series | Subject::Sop => Uid::parse(trimmed).is_ok(),
            Subject::Instance => InstanceId::parse(trimmed).is_ok(),
        };
        if !fits {
            return Err(QueryError::Kind);
        }
        Ok(Self {
            value: Phi::new(trimmed.to_owned()),
            by,
            after,
            limit,
        })
    }

    /// Our own id, when it may be one.
    #[must_use]
    pub fn instance(&self) -> Option<InstanceId> {
        match self.by {
            Subject::Any | Subject::Instance => InstanceId::parse(self.value.expose()).ok(),
            _ => None,
        }
    }

    /// The ways in which a caller may look for the value. One that may not see patients looks for UIDs only; digits without a dot are
    /// no UID of anything (PS3.5, 9: a root and what is appended to it), but may well be an accession number.
    ///
    /// # Errors
    /// `Forbidden`.
    pub fn ways(&self, caller: &Caller) -> Result<Vec<By>, QueryError> {
        let ways = match self.by {
            Subject::Any if caller.sees_patients => By::ALL.to_vec(),
            Subject::Any if self.value.expose().contains('.') && Uid::parse(self.value.expose()).is_ok() => {
                By::UIDS.to_vec()
            }
            Subject::Any | Subject::Patient | Subject::Accession if !caller.sees_patients => {
                return Err(QueryError::Forbidden);
            }
            Subject::Any => By::ALL.to_vec(),
            Subject::Patient => vec![By::Patient],
            Subject::Accession => vec![By::Accession],
            Subject::Study => vec![By::Study],
            Subject::Series => vec![By::Series],
            Subject::Sop => vec![By::Sop],
            Subject::Instance => Vec::new(),
        };
        Ok(ways)
    }
}

impl Subject {
    pub const ALL: [Self; 7] = [
        Self::Any,
        Self::Patient,
        Self::Accession,
        Self::Study,
        Self::Series,
        Self::Sop,
        Self::Instance,
    ];

    /// The word of command line, HTTP and ledger.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Patient => "patient",
            Self::Accession => "accession",
            Self::Study => "study",
            Self::Series => "series",
            Self::Sop => "sop",
            Self::Instance => "instance",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(value: &str, by: Subject) -> Result<Query, QueryError> {
        Query::parse(value.to_owned(), by, None, 10)
    }

    fn caller(sees_patients: bool) -> Caller {
        Caller {
            who: "it".to_owned(),
            sees_patients,
        }
    }

    #[test]
    fn values_are_bounded_and_of_their_kind() {
        assert_eq!(ask(" \n", Subject::Any), Err(QueryError::Empty));
        assert_eq!(ask(&"9".repeat(65), Subject::Any), Err(QueryError::TooLong));
        assert_eq!(ask("MRN 7", Subject::Study), Err(QueryError::Kind));
        assert_eq!(ask("1.2.3", Subject::Instance), Err(QueryError::Kind));
        assert_eq!(Query::parse("1".into(), Subject::Any, None, 0), Err(QueryError::Limit));
        assert_eq!(
            Query::parse("1".into(), Subject::Any, None, 1_001),
            Err(QueryError::Limit)
        );
        assert_eq!(ask("MRN 7 \n", Subject::Patient).unwrap().value.expose(), "MRN 7");
    }

    #[test]
    fn without_the_right_to_see_patients_only_uids_can_be_asked_for() {
        for by in [Subject::Patient, Subject::Accession] {
            assert_eq!(ask("1.2", by).unwrap().ways(&caller(false)), Err(QueryError::Forbidden));
            assert!(ask("1.2", by).unwrap().ways(&caller(true)).is_ok());
        }
        assert_eq!(
            ask("MRN 7", Subject::Any).unwrap().ways(&caller(false)),
            Err(QueryError::Forbidden)
        );
        assert_eq!(
            ask("75", Subject::Any).unwrap().ways(&caller(false)),
            Err(QueryError::Forbidden),
            "an accession number of digits"
        );
        assert_eq!(
            ask("1.2", Subject::Any).unwrap().ways(&caller(false)),
            Ok(By::UIDS.to_vec())
        );
        assert_eq!(
            ask("1.2", Subject::Any).unwrap().ways(&caller(true)),
            Ok(By::ALL.to_vec())
        );
    }
}
