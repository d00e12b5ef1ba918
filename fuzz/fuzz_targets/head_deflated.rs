//! Deflated heads.
#![no_main]
#![forbid(unsafe_code)]
libfuzzer_sys::fuzz_target!(init: waystation_fuzz::plant("head_deflated"), |bytes: &[u8]| {
    waystation_fuzz::heads::scan(bytes, waystation_fuzz::heads::DEFLATED);
});
