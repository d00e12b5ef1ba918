//! What is written into a spool is written as its owner: of what root makes there, the box could read nothing.
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use waystation::spool;

/// Carries the whole command out once more as the spool's owner, when root gave it and the spool is another's; answers how that
/// ended. `None`: this process is the right one.
pub(super) fn again_as_owner(root: &Path) -> Option<Result<ExitCode, String>> {
    let (uid, gid) = spool::anothers(root)?;
    // Itself, also where its path is not open to the owner.
    let mut again = Command::new("/proc/self/exe");
    again.args(std::env::args_os().skip(1)).uid(uid).gid(gid);
    let ended = again
        .status()
        .map_err(|error| format!("the spool belongs to user {uid}, and nothing can be started as that user: {error}"));
    Some(ended.map(|ended| {
        let code = ended.code().and_then(|code| u8::try_from(code).ok());
        ExitCode::from(code.unwrap_or(super::FAILED))
    }))
}
