//! Scan, edit, scan again.
#![no_main]
#![forbid(unsafe_code)]
libfuzzer_sys::fuzz_target!(init: waystation_fuzz::plant("edit"), |bytes: &[u8]| {
    waystation_fuzz::heads::edit(bytes);
});
