//! The parts of a person's name (PS3.5 6.2.1): up to three groups parted by `=`, in each up to five components parted by `^`.
//! Works on decoded text only: in the bytes of a multi-byte character either sign may be half a letter.

/// One of the three ways in which a name is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    Alphabetic,
    Ideographic,
    Phonetic,
}

/// A component of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    Family,
    Given,
    Middle,
    Prefix,
    Suffix,
}

impl Group {
    pub const NAMES: [&'static str; 3] = ["alphabetic", "ideographic", "phonetic"];

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let all = [Self::Alphabetic, Self::Ideographic, Self::Phonetic];
        all.into_iter()
            .zip(Self::NAMES)
            .find(|(_, own)| *own == name)
            .map(|(group, _)| group)
    }
}

impl Part {
    pub const NAMES: [&'static str; 5] = ["family", "given", "middle", "prefix", "suffix"];

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let all = [Self::Family, Self::Given, Self::Middle, Self::Prefix, Self::Suffix];
        all.into_iter()
            .zip(Self::NAMES)
            .find(|(_, own)| *own == name)
            .map(|(part, _)| part)
    }
}

/// The component of a name, without the blanks around it; `""` when the name has none.
#[must_use]
pub fn part(name: &str, group: Group, part: Part) -> &str {
    let group = name.split('=').nth(group as usize).unwrap_or_default();
    group.split('^').nth(part as usize).unwrap_or_default().trim()
}

/// The name with another component. Whatever else it holds stays, signs at the end included; `value` holds no sign.
#[must_use]
pub fn with_part(name: &str, group: Group, part: Part, value: &str) -> String {
    if self::part(name, group, part) == value {
        return name.to_owned();
    }
    let mut groups: Vec<String> = name.split('=').map(str::to_owned).collect();
    let wanted = group as usize;
    groups.resize(groups.len().max(wanted + 1), String::new());
    let mut parts: Vec<&str> = groups[wanted].split('^').collect();
    parts.resize(parts.len().max(part as usize + 1), "");
    parts[part as usize] = value;
    groups[wanted] = parts.join("^");
    groups.join("=")
}

/// The name with two components exchanged in every group that has one of them, without the blanks around the two: at the end or the
/// start of a value they would be lost, and the name be another than the one that was written.
#[must_use]
pub fn swapped(name: &str, one: Part, other: Part) -> String {
    let groups = name.split('=').map(|group| {
        let mut parts: Vec<&str> = group.split('^').collect();
        let count = parts.len().max(1 + (one as usize).max(other as usize));
        if group.trim().is_empty() {
            return group.to_owned();
        }
        let before = parts.len();
        parts.resize(count, "");
        (parts[one as usize], parts[other as usize]) = (parts[other as usize].trim(), parts[one as usize].trim());
        // What was only needed for the exchange goes again.
        while parts.len() > before && parts.last().is_some_and(|part| part.is_empty()) {
            parts.pop();
        }
        parts.join("^")
    });
    groups.collect::<Vec<_>>().join("=")
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAMADA: &str = "Yamada^Tarou=山田^太郎=やまだ^たろう";

    #[test]
    fn parts_are_found_in_every_group() {
        assert_eq!(part(YAMADA, Group::Alphabetic, Part::Family), "Yamada");
        assert_eq!(part(YAMADA, Group::Ideographic, Part::Given), "太郎");
        assert_eq!(part(YAMADA, Group::Phonetic, Part::Family), "やまだ");
        assert_eq!(part(YAMADA, Group::Phonetic, Part::Suffix), "");
        assert_eq!(part("Doe ^ Jane ", Group::Alphabetic, Part::Given), "Jane");
    }

    #[test]
    fn setting_a_part_leaves_the_rest() {
        let set = |name, part, value| with_part(name, Group::Alphabetic, part, value);
        assert_eq!(set("DOE^JANE^^^", Part::Given, "ANN"), "DOE^ANN^^^");
        assert_eq!(set("DOE", Part::Suffix, "MD"), "DOE^^^^MD");
        assert_eq!(set("DOE^JANE", Part::Given, ""), "DOE^");
        assert_eq!(set("DOE", Part::Middle, ""), "DOE");
        assert_eq!(with_part("DOE", Group::Phonetic, Part::Family, "ドウ"), "DOE==ドウ");
        assert_eq!(
            with_part(YAMADA, Group::Ideographic, Part::Family, "川田"),
            "Yamada^Tarou=川田^太郎=やまだ^たろう"
        );
    }

    #[test]
    fn exchanging_twice_is_nothing() {
        for name in [YAMADA, "JANE^DOE", "JANE", "^DOE", "", "A^B^C^D^E", "A^B=^=C"] {
            let once = swapped(name, Part::Family, Part::Given);
            let again = swapped(&once, Part::Family, Part::Given);
            assert_eq!(again.trim_end_matches('^'), name.trim_end_matches('^'), "{name}");
        }
        assert_eq!(swapped("JANE^DOE^X", Part::Family, Part::Given), "DOE^JANE^X");
        assert_eq!(swapped("JANE", Part::Family, Part::Given), "^JANE");
        assert_eq!(swapped("JANE ^ DOE^ Q", Part::Family, Part::Given), "DOE^JANE^ Q");
    }

    #[test]
    fn names_of_parts_and_groups_are_read() {
        assert!(Part::NAMES.iter().all(|name| Part::parse(name).is_some()));
        assert!(Group::NAMES.iter().all(|name| Group::parse(name).is_some()));
        assert_eq!((Part::parse("last"), Group::parse("")), (None, None));
    }
}
