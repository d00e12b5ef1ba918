//! Files that the service manager hands over: a value `${CREDENTIALS_DIRECTORY}/NAME` is the file NAME in the folder that systemd
//! names in that variable (systemd.exec, `LoadCredential=`). Keys and passwords then need not be readable for the box's user on
//! the disk. It is no template language: this one variable, at the beginning, followed by one plain file name; whatever else
//! begins with `${` is refused, so that nobody believes that other variables are replaced.

/// The service manager's variable.
pub(super) const VARIABLE: &str = "CREDENTIALS_DIRECTORY";

const MARK: &str = "${";

/// The file that a value names, given where credentials are. `None` for a value that has nothing to do with credentials.
///
/// # Errors
/// What is wrong with it, in words for the person who wrote it.
pub(super) fn named(text: &str, folder: Option<&str>) -> Result<Option<String>, String> {
    let Some(rest) = text.strip_prefix(MARK) else {
        return Ok(None);
    };
    let Some(name) = rest.strip_prefix(VARIABLE).and_then(|rest| rest.strip_prefix("}/")) else {
        return Err(format!(
            "only ${{{VARIABLE}}}/NAME may begin so: no other variable is replaced in a value"
        ));
    };
    if !is_plain(name) {
        return Err(format!(
            "`{name}` is no credential's name: letters, digits, `.`, `_` and `-`, as LoadCredential= names it (a file X of a \
             folder that is loaded as `secrets` is `secrets_X`)"
        ));
    }
    match folder.filter(|folder| !folder.is_empty()) {
        Some(folder) => Ok(Some(format!("{}/{name}", folder.trim_end_matches('/')))),
        None => Err(format!(
            "{VARIABLE} is not set: the service manager sets it for the service (LoadCredential= in its unit). By hand, as root, \
             while the service runs: {VARIABLE}=/run/credentials/waystation.service; while it does not: systemd-run --wait --pipe \
             -p User=waystation -p LoadCredential=secrets:/etc/waystation/secrets waystation ..."
        )),
    }
}

/// A file name of its own, that leads nowhere else.
fn is_plain(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    !name.is_empty() && name.len() <= 255 && name != "." && name != ".." && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLDER: Option<&str> = Some("/run/credentials/waystation.service");

    #[test]
    fn a_credential_is_a_file_of_the_managers_folder() {
        let named = |text: &str| named(text, FOLDER).unwrap();
        assert_eq!(
            named("${CREDENTIALS_DIRECTORY}/secrets_box.key").as_deref(),
            Some("/run/credentials/waystation.service/secrets_box.key")
        );
        for other in [
            "/etc/waystation/tls/box.key",
            "",
            "$HOME/x",
            "a${CREDENTIALS_DIRECTORY}/x",
        ] {
            assert_eq!(named(other), None, "{other}");
        }
        assert_eq!(
            super::named("${CREDENTIALS_DIRECTORY}/x", Some("/run/c/")),
            Ok(Some("/run/c/x".to_owned()))
        );
    }

    #[test]
    fn nothing_else_is_replaced_and_no_name_leads_out() {
        for wrong in [
            "${HOME}/x",
            "${CREDENTIALS_DIRECTORY}",
            "${CREDENTIALS_DIRECTORY}x",
            "${CREDENTIALS_DIRECTORY}/",
            "${CREDENTIALS_DIRECTORY}/..",
            "${CREDENTIALS_DIRECTORY}/../x",
            "${CREDENTIALS_DIRECTORY}/a/b",
            "${CREDENTIALS_DIRECTORY}/${X}",
            "${credentials_directory}/x",
        ] {
            assert!(named(wrong, FOLDER).is_err(), "{wrong}");
        }
    }

    #[test]
    fn without_the_manager_it_says_what_to_do() {
        for folder in [None, Some("")] {
            let said = named("${CREDENTIALS_DIRECTORY}/x", folder).unwrap_err();
            assert!(
                said.contains("LoadCredential=") && said.contains("/run/credentials/"),
                "{said}"
            );
        }
    }
}
