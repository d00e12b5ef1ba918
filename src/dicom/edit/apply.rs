use super::{EditError, Plan};
use crate::dicom::head::Head;
impl Plan {
    /// # Errors
    /// See `EditError`.
    pub fn apply(&self, _head: &Head) -> Result<Vec<u8>, EditError> {
        todo!()
    }
}
