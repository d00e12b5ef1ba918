//! Patient data of an instance, read from its payload when somebody who may see it asks. Kept nowhere else; logged nowhere.
use crate::base::names::InstanceId;
use crate::dicom::head::{Head, Scanner};
use crate::dicom::syntax::Syntax;
use crate::spool::{ReadError, Spool};
use dicom_core::Tag;
use serde::{Deserialize, Serialize};

/// What identifies patient and examination. Fields that are empty in the instance are left out.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Patient {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub issuer: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub birth_date: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub accession: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub study_date: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub modality: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Series Instance UID: it stands in the payload only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub series: String,
}

/// Printed as nothing: it may stand in a structure that is.
impl std::fmt::Debug for Patient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<phi>")
    }
}

impl Patient {
    fn of(head: &Head) -> Self {
        let text = |group, element| head.first(Tag(group, element)).trim_matches([' ', '\0']).to_owned();
        Self {
            id: text(0x0010, 0x0020),
            issuer: text(0x0010, 0x0021),
            name: text(0x0010, 0x0010),
            birth_date: text(0x0010, 0x0030),
            accession: text(0x0008, 0x0050),
            study_date: text(0x0008, 0x0020),
            modality: text(0x0008, 0x0060),
            description: text(0x0008, 0x1030),
            series: text(0x0020, 0x000e),
        }
    }
}

/// Bytes that are read at a time: most heads are in the first.
const PIECE: usize = 16 << 10;
/// A head that is longer is read no further.
const LOOK_MAX: u64 = 64 << 20;

/// Reads the head of a payload, and not the pixels behind it.
///
/// # Errors
/// The payload cannot be read, or its head not be understood.
pub(super) async fn head_of(spool: &Spool, id: InstanceId, syntax: Syntax) -> Result<Head, ReadError> {
    let payload = spool.payload(&id).await?;
    let (mut scanner, mut at) = (Scanner::new(syntax), 0);
    loop {
        let piece = payload.read_at(at, PIECE).await?;
        if piece.is_empty() || at > LOOK_MAX {
            return scanner.finish().map_err(|_| ReadError::Corrupt);
        }
        at += piece.len() as u64;
        scanner.push(&piece).map_err(|_| ReadError::Corrupt)?;
        if let Some(head) = scanner.head() {
            return Ok(head.clone());
        }
    }
}

/// The patient of an instance; `None` when its payload cannot tell.
pub(super) async fn patient_of(spool: &Spool, id: InstanceId, syntax: Syntax) -> Option<Patient> {
    Some(Patient::of(&head_of(spool, id, syntax).await.ok()?))
}
