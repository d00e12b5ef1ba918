//! A plan made on a head to its end. Some faults show only then; they show here, to the sender as to the bench of the rules.
use super::{EditError, Plan};
use crate::base::names::{NameError, Uid};
use crate::dicom::head::{Head, HeadError};
use dicom_core::Tag;

/// An edited head.
pub struct Made {
    /// In the head's own layout, not deflated.
    pub bytes: Vec<u8>,
    pub head: Head,
    /// The name under which the instance leaves.
    pub sop_instance: Uid,
}

/// Why a plan makes no instance. Never carries a value.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unmade {
    #[error(transparent)]
    Edit(#[from] EditError),
    /// The edited bytes are no data set that this crate reads.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// It would contradict the presentation context.
    #[error("the edits change the SOP Class UID")]
    Class,
    #[error("the edited SOP Instance UID {0}")]
    Instance(NameError),
}

impl Plan {
    /// Makes the edits on a head whose instance came as `sent_as`.
    ///
    /// # Errors
    /// See `Unmade`; the instance must not leave.
    pub fn make(&self, old: &Head, sent_as: &Uid) -> Result<Made, Unmade> {
        let bytes = self.apply(old)?;
        let head = Head::scan(old.syntax.inflated(), &bytes)?;
        let renamed = renamed(old, &head.first(SOP_CLASS_UID), &head.first(SOP_INSTANCE_UID))?;
        let sop_instance = renamed.unwrap_or_else(|| sent_as.clone());
        Ok(Made {
            bytes,
            head,
            sop_instance,
        })
    }
}

/// The other name that an instance gets by these UIDs of class and instance; `None` when it keeps its own.
///
/// # Errors
/// `Class`, `Instance`.
pub fn renamed(old: &Head, class: &str, instance: &str) -> Result<Option<Uid>, Unmade> {
    if old.first(SOP_CLASS_UID) != class {
        return Err(Unmade::Class);
    }
    if old.first(SOP_INSTANCE_UID) == instance {
        return Ok(None);
    }
    Uid::parse(instance).map(Some).map_err(Unmade::Instance)
}

/// The elements that `renamed` judges.
pub const SOP_CLASS_UID: Tag = Tag(0x0008, 0x0016);
pub const SOP_INSTANCE_UID: Tag = Tag(0x0008, 0x0018);
