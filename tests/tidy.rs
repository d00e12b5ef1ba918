//! Style as a test. Filled by the lint room; see the module's own tests.
#[test]
fn the_crate_has_a_map() {
    assert!(include_str!("../src/lib.rs").contains("pub mod base;"));
}
