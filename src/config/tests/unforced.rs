//! What a reload says of files that have changed.
use super::super::Unforced;
use super::{RIGHT, Site};

#[test]
fn what_has_changed_in_the_files_is_named_and_what_is_in_force_is_not() {
    let site = Site::new();
    let files = [site.write("w.toml", RIGHT)];
    let config = super::report_with(&files, &[]).config.unwrap();
    let unforced = Unforced::new(&config, &files);
    assert_eq!(unforced.words(), None);
    site.write("w.toml", &RIGHT.replace("[web]", "[log]\nformat = \"json\"\n[web]"));
    let said = unforced.words().unwrap();
    assert!(said.contains("log.format"), "{said}");
    site.write("w.toml", &RIGHT.replace("name = \"ct1\"", "name = \"ct2\""));
    let said = unforced.words().unwrap();
    assert!(said.ends_with("after a restart: sources[0].name"), "{said}");
    site.write("w.toml", "[node");
    assert!(unforced.words().unwrap().contains("waystation check"));
    site.write("w.toml", RIGHT);
    assert_eq!(unforced.words(), None);
}
